//! Runs heads and tails: the only crate that knows the inference engine.
//!
//! A network is a list of [`Layer`]s. [`write_segment`] stores a stretch of it as one *segment*, a small archive in tract's NNEF
//! form with 16-bit weights. [`Network::load`] joins any run of neighbouring segments back into one graph, optimised as a whole,
//! and [`Network::run`] runs it. A head is a network made of the segments before the split point, a tail one made of the rest;
//! an empty run of segments is the identity, so that the `input` and `output` split points need no special case.
//!
//! Networks run on the kernels of the `stack` module; tract runs what is no [`Graph`](split_graph::Graph).
//!
//! ```
//! use split_core::Shape;
//! use split_runtime::{Layer, Network, write_segment};
//!
//! let input = Shape::new(3, 8, 8)?;
//! let convolution = Layer::Convolution {
//!     inputs: 3, outputs: 4, kernel: 3, stride: 1, padding: 1,
//!     weight: vec![0.5; 4 * 3 * 3 * 3], bias: vec![0.0; 4], relu: true,
//! };
//! let head = write_segment(input, &[convolution, Layer::MaxPool { kernel: 2, stride: 2 }])?;
//! let linear = Layer::Linear { inputs: 64, outputs: 10, weight: vec![0.1; 640], bias: vec![0.0; 10], relu: false };
//! let tail = write_segment(head.output, &[linear])?;
//!
//! let mut network = Network::load(input, [&head.bytes[..], &tail.bytes[..]])?;
//! let mut logits = Vec::new();
//! network.run(1, &[1.0; 3 * 8 * 8], &mut logits)?;
//! assert_eq!(logits.len(), 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod chain;
mod layer;
mod network;
mod onnx;
mod segment;
mod stack;

pub use archive::{ArchiveError, MAX_UNPACKED_BYTES};
pub use layer::{Layer, LayerError};
pub use network::{LoadError, Network, RunError};
pub use onnx::{OnnxFile, write_onnx};
pub use segment::{SegmentFile, WriteError, write_segment};
