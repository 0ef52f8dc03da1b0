//! The shape of one image or one feature tensor.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Shape `[C, H, W]` of a tensor without its batch axis: channels, rows, columns. Every side is at least 1.
///
/// Values are stored channel by channel, each channel row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "[usize; 3]", into = "[usize; 3]")]
pub struct Shape {
    channels: usize,
    height: usize,
    width: usize,
}

/// The most values a shape may hold: 64 MiB of `f32`, far above any image or feature tensor in use.
pub const MAX_VALUES: usize = 1 << 24;

impl Shape {
    /// Checks that every side is at least 1 and that the product is at most [`MAX_VALUES`].
    pub fn new(channels: usize, height: usize, width: usize) -> Result<Self, ShapeError> {
        let values = channels.checked_mul(height).and_then(|it| it.checked_mul(width));
        match values {
            Some(1..=MAX_VALUES) => Ok(Self {
                channels,
                height,
                width,
            }),
            _ => Err(ShapeError {
                got: [channels, height, width],
            }),
        }
    }

    /// Channels, C.
    pub fn channels(self) -> usize {
        self.channels
    }

    /// Rows, H.
    pub fn height(self) -> usize {
        self.height
    }

    /// Columns, W.
    pub fn width(self) -> usize {
        self.width
    }

    /// Positions in one channel, H·W.
    pub fn positions(self) -> usize {
        self.height * self.width
    }

    /// Values in the whole tensor, C·H·W.
    pub fn values(self) -> usize {
        self.channels * self.positions()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

impl TryFrom<[usize; 3]> for Shape {
    type Error = ShapeError;

    fn try_from([channels, height, width]: [usize; 3]) -> Result<Self, ShapeError> {
        Self::new(channels, height, width)
    }
}

impl From<Shape> for [usize; 3] {
    fn from(shape: Shape) -> Self {
        [shape.channels, shape.height, shape.width]
    }
}

/// A shape with a side of zero, or with more than [`MAX_VALUES`] values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shape {got:?} must have sides of at least 1 and at most {MAX_VALUES} values in all")]
pub struct ShapeError {
    /// The sides as given, `[C, H, W]`.
    pub got: [usize; 3],
}
