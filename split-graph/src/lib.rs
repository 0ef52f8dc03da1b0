//! The network type that trainer and runtime share, and everything that follows from a network's structure alone.
//!
//! A [`Graph`] is a list of [`Node`]s in topological order, each an [`Op`] with its weights. It is checked when it is made, so its shapes fit
//! and its weights are complete. From it follow:
//!
//! * its *cut points* ([`Graph::cut_points`]): the edges at which one tensor alone is live, where a network can be split in two
//!   ([`Graph::split_at`]);
//! * its *channel groups* ([`Graph::channel_groups`]): which channels have to go together when filters are removed
//!   ([`Graph::with_units`]);
//! * the network for inference, with batch norms folded ([`Graph::folded`]);
//! * the network with a narrow place at a cut point ([`Graph::with_bottleneck`]).
//!
//! An [`Architecture`] makes the nodes of a network known by name, and [`fill`] puts weights into them. There is no engine here but
//! [`mod@reference`], plain loops that tests compare engines with, on networks of [`sample`] for example.
//!
//! ```
//! use split_core::Shape;
//! use split_graph::{Architecture, Graph, fill};
//!
//! let input = Shape::new(3, 64, 64)?;
//! let mut nodes = Architecture::ResNet18.nodes(input, 10)?;
//! fill(&mut nodes, |_, shape| Ok::<_, std::convert::Infallible>(vec![0.01; shape.iter().product()]))?;
//! let network = Graph::new(input, nodes)?;
//! let cut = network.cut_point("layer2.1").ok_or("no such cut point")?;
//! assert_eq!(cut.shape, Shape::new(128, 8, 8)?);
//! let (head, tail) = network.split_at(cut.node).ok_or("no cut point")?;
//! assert_eq!((head.macs(), tail.macs()), (cut.macs_before, cut.macs_after));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod architecture;
mod bottleneck;
mod channels;
mod cut;
mod fold;
mod graph;
mod op;
pub mod reference;
pub mod sample;

pub use architecture::Architecture;
pub use bottleneck::Bottleneck;
pub use channels::{Channels, Group, RemoveError};
pub use cut::CutPoint;
pub use graph::{Fault, Graph, GraphError, Node, Source, fill};
pub use op::{Activation, BatchNorm, Convolution, Linear, Op, Padding, Tensor, Window};
