//! The rules that browser, edge worker and trainer share, so that none of them has its own.
//!
//! A trainer writes a series of pruned networks and describes it in a [`Manifest`]: its variants, the split points at which they can be
//! cut, and the operating points, each with its measured accuracy and message size. A client's
//! [`Selector`](selection::Selector) chooses one of those. The client runs the head, a [`FeatureCodec`](codec::FeatureCodec) turns the
//! features into a payload, and a [`Session`](session::Session) wraps it in a message of the [`wire`] protocol. The edge worker
//! undoes this step by step, runs the tail and answers with [`top_classes`].
//!
//! The crate is pure: it has no clock (the time arrives as an argument), no thread, no socket, and no tensor library.
//!
//! ```
//! use split_core::{Shape, codec::{FeatureCodec, FeatureCodecSpec, Tables}};
//!
//! // Two channels of 2×2 features in 2 bits, with one table for all of them: codes 0 to 3 cost about 0.5, 2, 4 and 4 bits.
//! let tables = Tables { predictors: vec![], costs: vec![8, 32, 64, 64] };
//! let spec = FeatureCodecSpec { bits: 2, steps: vec![1.0, 0.5], centres: vec![], tables };
//! let codec = FeatureCodec::new(Shape::new(2, 2, 2)?, &spec)?;
//!
//! let (mut codes, mut payload, mut back) = (Vec::new(), Vec::new(), Vec::new());
//! codec.encode(&[0.0, 0.0, 1.2, 0.0, 0.0, 0.4, 0.0, 9.0], &mut codes, &mut payload)?;
//! assert_eq!(payload.len(), 2);
//! codec.decode(&payload, &mut codes, &mut back)?;
//! assert_eq!(back, [0.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.0, 1.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod area;
mod classify;
pub mod codec;
pub mod manifest;
mod planar;
pub mod prepare;
pub mod rates;
pub mod selection;
pub mod session;
mod shape;
pub mod wire;

pub use classify::{MAX_TOP, softmax, top_classes};
pub use manifest::{Digest, Fit, Manifest, Preparation};
pub use planar::{ColorMatrix, PlanarError, PlanarFrame};
pub use prepare::{PrepareError, Preparer};
pub use shape::{MAX_VALUES, Shape, ShapeError};
