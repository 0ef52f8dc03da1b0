//! What browser, edge worker and trainer must agree on, and nothing that needs a clock, a socket or a tensor library.

pub mod codec;
pub mod manifest;
pub mod selection;
pub mod session;
mod shape;
pub mod wire;

pub use manifest::{Digest, Manifest};
pub use shape::{MAX_VALUES, Shape, ShapeError};
