//! Learns convolutional networks on the processor: forward and backward passes of every operation of a [`Graph`](split_graph::Graph), in 32-bit
//! floats.
//!
//! A [`Network`] is a graph whose weights change. [`Network::pass`] runs a batch of images `[N, H, W, C]` and keeps what the gradient needs,
//! [`Network::backward`] goes the same way back, [`Momentum`] takes the step,
//! [`Average`] keeps the mean of the weights over many of them.
//!
//! A convolution, its batch norm and its activation are one step: batch norm's sums are taken while an image's values are in the cache, and the
//! slope of the convolution's output exists for one image at a time. Each thread takes one contiguous share of the images, and partial sums are
//! added in order, so that a run is repeatable bit for bit at a fixed number of threads.

mod average;
mod convolution;
mod loss;
mod matrix;
mod momentum;
mod network;
mod pool;
#[cfg(test)]
mod tests;
mod value;
mod window;

pub use average::Average;
pub use loss::{cross_entropy, decoupled_cross_entropy, smoothed};
pub use momentum::Momentum;
pub use network::{Gradients, Network, Observer, Pass, Role};
