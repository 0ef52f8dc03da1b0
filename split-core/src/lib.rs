//! What browser, edge worker and trainer must agree on, and nothing that needs a clock, a socket or a tensor library.

mod shape;

pub use shape::{MAX_VALUES, Shape, ShapeError};
