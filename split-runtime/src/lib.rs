//! Runs heads and tails: the only crate that knows the inference engine.
//!
//! A network is a [`Graph`](split_graph::Graph). [`write_segment`] stores a piece of it as one *segment*, a small archive in tract's NNEF
//! form with 16-bit weights; [`read_segments`] reads several back. [`Network::load`] joins any run of neighbouring segments back into one graph,
//! optimised as a whole, and [`Network::run`] runs it. A head is a network made of the segments before the split point, a tail one made of the
//! rest; an empty run of segments is the identity, so that the `input` and `output` split points need no special case. [`write_onnx`] writes a
//! network for other engines.
//!
//! Segments are read by the `read` module and run on the kernels of [`split_kernels`]. Whatever else is in NNEF form goes through tract.
//!
//! ```
//! use split_core::Shape;
//! use split_graph::{Activation, Convolution, Graph, Linear, Node, Op, Source, Window};
//! use split_runtime::{Network, write_segment};
//!
//! let convolution = Convolution {
//!     inputs: 3, outputs: 4, groups: 1, window: Window::square(3, 1, 1),
//!     weight: vec![0.5; 4 * 3 * 3 * 3], bias: None,
//! };
//! let linear = Linear { inputs: 64, outputs: 10, weight: vec![0.1; 640], bias: Some(vec![0.0; 10]) };
//! let network = Graph::new(Shape::new(3, 8, 8)?, vec![
//!     Node::new("conv", Op::Convolution(convolution), Source::Input),
//!     Node::new("relu", Op::Activation(Activation::Relu), Source::Node(0)),
//!     Node::new("pool", Op::MaxPool(Window::square(2, 2, 0)), Source::Node(1)),
//!     Node::new("flatten", Op::Flatten, Source::Node(2)),
//!     Node::new("classifier", Op::Linear(linear), Source::Node(3)),
//! ])?;
//! let pool = network.cut_point("pool").ok_or("no such cut point")?;
//! let (head, tail) = network.split_at(pool.node).ok_or("no cut point")?;
//! let (head, tail) = (write_segment(&head)?, write_segment(&tail)?);
//!
//! let mut network = Network::load(network.input(), [&head.bytes[..], &tail.bytes[..]])?;
//! let mut logits = Vec::new();
//! network.run(1, &[1.0; 3 * 8 * 8], &mut logits)?;
//! assert_eq!(logits.len(), 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod network;
mod onnx;
mod read;
mod segment;
mod warm_up;

pub use archive::{ArchiveError, MAX_UNPACKED_BYTES};
pub use network::{LoadError, Network, RunError, read_segments};
pub use onnx::{OnnxFile, write_onnx};
pub use segment::{SegmentFile, WriteError, write_segment};
pub use warm_up::warm_up;
