//! Feature maps between layers: channels last, with the next layer's padding around them.

use split_core::Shape;
use split_graph::Padding;

/// Where the feature maps of some images lie in a buffer: `[image, row, column, channel]`.
///
/// Channels beyond the map's own are finite, and every weight for them is zero.
#[derive(Clone, Debug)]
pub struct Map {
    /// Shape of one image's.
    pub shape: Shape,
    /// Channels in memory.
    pub channels: usize,
    /// Rows and columns of zeros around it.
    pub border: Padding,
    /// Values from one row to the next.
    pub row: usize,
    /// Values from one image to the next.
    pub image: usize,
    /// Images.
    pub images: usize,
}

/// A map and the buffer that it lies in.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The map.
    pub map: &'a Map,
    /// The buffer.
    pub values: &'a [f32],
}

/// A map and the buffer that it is written to.
#[derive(Debug)]
pub struct Target<'a> {
    /// The map.
    pub map: &'a Map,
    /// The buffer.
    pub values: &'a mut [f32],
}

impl Map {
    /// A map for so many images.
    pub fn new(images: usize, shape: Shape, channels: usize, border: Padding) -> Self {
        let row = (border.left + shape.width() + border.right) * channels;
        let image = (border.top + shape.height() + border.bottom) * row;
        Self {
            shape,
            channels,
            border,
            row,
            image,
            images,
        }
    }

    /// Values of its buffer.
    pub fn values(&self) -> usize {
        self.images * self.image
    }

    /// Where the channels at a position of an image's map begin.
    #[inline(always)]
    pub fn at(&self, [image, y, x]: [usize; 3]) -> usize {
        image * self.image + (y + self.border.top) * self.row + (x + self.border.left) * self.channels
    }

    /// Where a window begins that lies at a position of an image's map and reaches some rows above and columns before it.
    #[inline(always)]
    pub fn window(&self, [image, y, x]: [usize; 3], padding: Padding) -> usize {
        let above = self.border.top - padding.top;
        let before = self.border.left - padding.left;
        image * self.image + (y + above) * self.row + (x + before) * self.channels
    }

    /// Writes the zeros around the maps of the first images: the buffer may have held another map.
    pub fn clear_border(&self, images: usize, values: &mut [f32]) {
        let Padding {
            top,
            left,
            bottom,
            right,
        } = self.border;
        if [top, left, bottom, right] == [0; 4] {
            return;
        }
        for image in values.chunks_exact_mut(self.image).take(images) {
            let mut rows = image.chunks_exact_mut(self.row);
            rows.by_ref().take(top).for_each(|it| it.fill(0.0));
            for row in rows.by_ref().take(self.shape.height()) {
                row[..left * self.channels].fill(0.0);
                row[(left + self.shape.width()) * self.channels..].fill(0.0);
            }
            rows.for_each(|it| it.fill(0.0));
        }
    }

    /// Takes images, each `[C, H, W]`.
    pub fn fill(&self, images: &[f32], values: &mut [f32]) {
        let [channels, height, width] = self.shape.into();
        let positions = height * width;
        for (image, planes) in images.chunks_exact(channels * positions).enumerate() {
            for y in 0..height {
                let start = self.at([image, y, 0]);
                let row = &mut values[start..][..width * self.channels];
                if self.channels > channels {
                    row.fill(0.0);
                }
                for (channel, plane) in planes.chunks_exact(positions).enumerate() {
                    let places = row[channel..].iter_mut().step_by(self.channels);
                    for (place, value) in places.zip(&plane[y * width..][..width]) {
                        *place = *value;
                    }
                }
            }
        }
    }

    /// Appends so many images' maps, each as `[C, H, W]`.
    pub fn append_to(&self, images: usize, values: &[f32], output: &mut Vec<f32>) {
        let [channels, height, width] = self.shape.into();
        for image in 0..images {
            for channel in 0..channels {
                for y in 0..height {
                    let start = self.at([image, y, 0]) + channel;
                    output.extend(values[start..].iter().step_by(self.channels).take(width));
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
