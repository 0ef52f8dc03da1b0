//! Feature maps between layers: channels last, with the next layer's padding around them.

use split_core::Shape;

/// The feature maps of some images in memory, `[image, row, column, channel]`.
///
/// What lies around the map, and channels beyond its own, are zero and stay so: layers write inside only.
#[derive(Clone, Debug)]
pub struct Map {
    /// Shape of one image's.
    pub shape: Shape,
    /// Channels in memory.
    pub channels: usize,
    /// Rows above and columns to the left, at least as many below and to the right.
    pub border: usize,
    /// Values from one row to the next.
    pub row: usize,
    /// Values from one image to the next.
    pub image: usize,
    pub values: Vec<f32>,
}

impl Map {
    /// Zeros, with room for some more rows and columns, so that whole tiles cover any shape.
    pub fn new(images: usize, shape: Shape, channels: usize, border: usize) -> Self {
        let side = |it: usize| it.next_multiple_of(4) + 2 * border;
        let row = side(shape.width()) * channels;
        let image = side(shape.height()) * row;
        Self {
            shape,
            channels,
            border,
            row,
            image,
            values: vec![0.0; images * image],
        }
    }

    /// Where the channels at a position of an image's map begin.
    pub fn at(&self, [image, y, x]: [usize; 3]) -> usize {
        image * self.image + (y + self.border) * self.row + (x + self.border) * self.channels
    }

    /// Takes images, each `[C, H, W]`.
    pub fn fill(&mut self, images: &[f32]) {
        let [_, height, width] = self.shape.into();
        for (image, planes) in images.chunks_exact(self.shape.values()).enumerate() {
            for (channel, plane) in planes.chunks_exact(height * width).enumerate() {
                for (y, row) in plane.chunks_exact(width).enumerate() {
                    let start = self.at([image, y, 0]) + channel;
                    let places = self.values[start..].iter_mut().step_by(self.channels);
                    for (place, value) in places.zip(row) {
                        *place = *value;
                    }
                }
            }
        }
    }

    /// Appends so many images' maps, each as `[C, H, W]`.
    pub fn append_to(&self, images: usize, output: &mut Vec<f32>) {
        let [channels, height, width] = self.shape.into();
        for image in 0..images {
            for channel in 0..channels {
                for y in 0..height {
                    let start = self.at([image, y, 0]) + channel;
                    output.extend(self.values[start..].iter().step_by(self.channels).take(width));
                }
            }
        }
    }
}

/// The image, row and column of a place, counted through images of so many rows and columns.
#[inline(always)]
pub fn place(index: usize, [rows, columns]: [usize; 2]) -> [usize; 3] {
    let row = index / columns;
    [row / rows, row % rows, index % columns]
}
