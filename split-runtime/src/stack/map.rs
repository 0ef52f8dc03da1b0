//! Feature maps between layers: channels last, with the next layer's padding around them.

use split_core::Shape;

/// A feature map in memory, `[rows, columns, channels]`.
///
/// What lies around the map, and channels beyond its own, are zero and stay so: layers write inside only.
#[derive(Clone, Debug)]
pub struct Map {
    /// Its own shape.
    pub shape: Shape,
    /// Channels in memory.
    pub channels: usize,
    /// Rows above and columns to the left, at least as many below and to the right.
    pub border: usize,
    /// Values from one row to the next.
    pub row: usize,
    pub values: Vec<f32>,
}

impl Map {
    /// Zeros, with room for some more rows and columns, so that whole tiles cover any shape.
    pub fn new(shape: Shape, channels: usize, border: usize) -> Self {
        let side = |it: usize| it.next_multiple_of(4) + 2 * border;
        let row = side(shape.width()) * channels;
        Self {
            shape,
            channels,
            border,
            row,
            values: vec![0.0; side(shape.height()) * row],
        }
    }

    /// Where the channels at a position of the map begin.
    pub fn at(&self, [y, x]: [usize; 2]) -> usize {
        (y + self.border) * self.row + (x + self.border) * self.channels
    }

    /// Takes an image, `[C, H, W]`.
    pub fn fill(&mut self, image: &[f32]) {
        let [_, height, width] = self.shape.into();
        for (channel, plane) in image.chunks_exact(height * width).enumerate() {
            for (y, row) in plane.chunks_exact(width).enumerate() {
                let start = self.at([y, 0]) + channel;
                let places = self.values[start..].iter_mut().step_by(self.channels);
                for (place, value) in places.zip(row) {
                    *place = *value;
                }
            }
        }
    }

    /// Appends the map as `[C, H, W]`.
    pub fn append_to(&self, output: &mut Vec<f32>) {
        let [channels, height, width] = self.shape.into();
        for channel in 0..channels {
            for y in 0..height {
                let start = self.at([y, 0]) + channel;
                output.extend(self.values[start..].iter().step_by(self.channels).take(width));
            }
        }
    }
}

/// Channels in memory of a network's input: few are left as they are, more fill vectors.
pub fn input_channels(channels: usize, lanes: usize) -> usize {
    if channels < lanes {
        channels
    } else {
        channels.next_multiple_of(lanes)
    }
}
