//! Camera frames, brought to the network's size.

use std::ops::Range;

/// A camera's frame: a plane of brightness (Y), and at half the width and height two of colour (U and V), 8 bits a sample.
///
/// Browsers turn such a frame into pixels before they scale it, all of it. The network sees a hundredth of them, so averages are taken
/// first and only those become pixels.
#[derive(Clone, Copy, Debug)]
pub struct PlanarFrame<'a> {
    /// The planes, row by row, without gaps: Y, then U and V.
    pub bytes: &'a [u8],
    /// Samples of Y in a row; even.
    pub width: usize,
    /// Rows of Y; even.
    pub height: usize,
    /// Whether U and V take turns, sample by sample (`NV12`), or lie one after the other (`I420`).
    pub interleaved: bool,
    /// What Y, U and V are made of.
    pub matrix: ColorMatrix,
    /// Whether samples use all of 0 to 255, or Y 16 to 235 and U and V 16 to 240.
    pub full_range: bool,
}

/// Shares of red and blue in brightness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMatrix {
    /// ITU-R BT.601: most cameras.
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

/// A frame that cannot be scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanarError {
    /// The size is odd, or less than twice that of the network, so that a pixel might have no sample of colour.
    #[error(
        "a planar frame of {width}×{height} cannot be scaled to {to_width}×{to_height}: at least twice as many, and even, are needed"
    )]
    Size {
        /// Width of the frame.
        width: usize,
        /// Height of the frame.
        height: usize,
        /// Width of the network's input.
        to_width: usize,
        /// Height of the network's input.
        to_height: usize,
    },
    /// There are more or fewer bytes than samples.
    #[error("a planar frame of {got} bytes, expected {expected}")]
    Length {
        /// Samples of a frame of this size.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
}

impl PlanarFrame<'_> {
    /// Scales the frame to so many RGBA pixels: each is the mean of the samples that it covers.
    pub fn downscale(&self, width: usize, height: usize) -> Result<Vec<u8>, PlanarError> {
        self.check(width, height)?;
        let [y, u, v] = self.planes().map(|it| it.means(width, height));
        let pixels = y.into_iter().zip(u).zip(v);
        Ok(pixels.flat_map(|((y, u), v)| self.rgba(y, u, v)).collect())
    }

    fn check(&self, to_width: usize, to_height: usize) -> Result<(), PlanarError> {
        let (width, height) = (self.width, self.height);
        let is_even = width.is_multiple_of(2) && height.is_multiple_of(2);
        if !is_even || to_width == 0 || to_height == 0 || width / 2 < to_width || height / 2 < to_height {
            return Err(PlanarError::Size {
                width,
                height,
                to_width,
                to_height,
            });
        }
        let (expected, got) = (width.saturating_mul(height).saturating_mul(3) / 2, self.bytes.len());
        if expected == got {
            Ok(())
        } else {
            Err(PlanarError::Length { expected, got })
        }
    }

    fn planes(&self) -> [Plane<'_>; 3] {
        let (brightness, colour) = self.bytes.split_at(self.width * self.height);
        let (width, height) = (self.width / 2, self.height / 2);
        let y = Plane {
            samples: brightness,
            row: self.width,
            first: 0,
            step: 1,
            width: self.width,
            height: self.height,
        };
        let half = Plane {
            samples: colour,
            width,
            height,
            ..y
        };
        if self.interleaved {
            let u = Plane {
                row: 2 * width,
                step: 2,
                ..half
            };
            [y, u, Plane { first: 1, ..u }]
        } else {
            let (u, v) = colour.split_at(width * height);
            let [u, v] = [u, v].map(|samples| Plane {
                samples,
                row: width,
                ..half
            });
            [y, u, v]
        }
    }

    /// ITU-R BT.601 and BT.709, sections on the derivation of the signals, solved for red, green and blue.
    fn rgba(&self, y: f32, u: f32, v: f32) -> [u8; 4] {
        let [red, blue] = match self.matrix {
            ColorMatrix::Bt601 => [0.299, 0.114],
            ColorMatrix::Bt709 => [0.2126, 0.0722],
        };
        let (black, brightness, colour) = if self.full_range {
            (0.0, 1.0, 1.0)
        } else {
            (16.0, 255.0 / 219.0, 255.0 / 224.0)
        };
        let y = brightness * (y - black);
        let b = y + 2.0 * (1.0 - blue) * colour * (u - 128.0);
        let r = y + 2.0 * (1.0 - red) * colour * (v - 128.0);
        let g = (y - red * r - blue * b) / (1.0 - red - blue);
        // Conversions to integers saturate.
        let [r, g, b] = [r, g, b].map(|it| it.round() as u8);
        [r, g, b, 255]
    }
}

/// One plane among the samples of a frame.
#[derive(Clone, Copy)]
struct Plane<'a> {
    samples: &'a [u8],
    /// Samples from one row to the next.
    row: usize,
    first: usize,
    /// Samples from one column to the next.
    step: usize,
    width: usize,
    height: usize,
}

impl Plane<'_> {
    /// Means of `height` × `width` blocks, row by row.
    fn means(&self, width: usize, height: usize) -> Vec<f32> {
        let mut means = Vec::with_capacity(width * height);
        let mut sums = vec![0_u32; self.row];
        for rows in (0..height).map(|at| block(at, height, self.height)) {
            sums.fill(0);
            for row in self.samples[rows.start * self.row..rows.end * self.row].chunks_exact(self.row) {
                for (sum, &sample) in sums.iter_mut().zip(row) {
                    *sum += u32::from(sample);
                }
            }
            for columns in (0..width).map(|at| block(at, width, self.width)) {
                let samples = columns.clone().map(|it| sums[self.first + it * self.step]);
                let sum: u64 = samples.map(u64::from).sum();
                means.push(sum as f32 / (rows.len() * columns.len()) as f32);
            }
        }
        means
    }
}

/// The samples of one of `of` blocks of a row or column of `size`.
fn block(at: usize, of: usize, size: usize) -> Range<usize> {
    at * size / of..(at + 1) * size / of
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(bytes: &[u8], width: usize, height: usize) -> PlanarFrame<'_> {
        PlanarFrame {
            bytes,
            width,
            height,
            interleaved: false,
            matrix: ColorMatrix::Bt601,
            full_range: false,
        }
    }

    /// A frame of 4×4 that is the same everywhere.
    fn plain(y: u8, u: u8, v: u8) -> Vec<u8> {
        [vec![y; 16], vec![u; 4], vec![v; 4]].concat()
    }

    #[test]
    fn the_colours_of_a_test_card() {
        // Bars of 75 % in either matrix, white and black in either range.
        let of = |yuv: [u8; 3], matrix, full_range| {
            let bytes = plain(yuv[0], yuv[1], yuv[2]);
            let frame = PlanarFrame {
                matrix,
                full_range,
                ..frame(&bytes, 4, 4)
            };
            let pixels = frame.downscale(2, 2).unwrap();
            assert!(pixels.chunks(4).all(|it| it == &pixels[..4]));
            [pixels[0], pixels[1], pixels[2]]
        };
        for (yuv, matrix, full_range, rgb) in [
            ([235, 128, 128], ColorMatrix::Bt601, false, [255, 255, 255]),
            ([16, 128, 128], ColorMatrix::Bt709, false, [0, 0, 0]),
            ([255, 128, 128], ColorMatrix::Bt709, true, [255, 255, 255]),
            ([65, 100, 212], ColorMatrix::Bt601, false, [191, 0, 0]),
            ([35, 212, 114], ColorMatrix::Bt601, false, [0, 0, 191]),
            ([51, 109, 212], ColorMatrix::Bt709, false, [191, 0, 0]),
            ([28, 212, 120], ColorMatrix::Bt709, false, [0, 0, 191]),
        ] {
            // The bars are rounded to whole steps themselves.
            let got = of(yuv, matrix, full_range);
            let near = got.iter().zip(rgb).all(|(got, it)| got.abs_diff(it) <= 1);
            assert!(near, "{yuv:?} in {matrix:?} became {got:?}");
        }
    }

    proptest! {
        #[test]
        fn a_grey_pixel_is_the_mean_of_what_it_covers(
            (width, height) in (4_usize..40, 4_usize..40),
            samples in prop::collection::vec(any::<u8>(), 80 * 80),
            to in 2_usize..5,
        ) {
            let (width, height) = (2 * width, 2 * height);
            let mut bytes = samples[..width * height].to_vec();
            bytes.resize(width * height * 3 / 2, 128);
            let frame = PlanarFrame { full_range: true, ..frame(&bytes, width, height) };
            let pixels = frame.downscale(to, to).unwrap();
            for (at, pixel) in pixels.chunks(4).enumerate() {
                let (rows, columns) = (block(at / to, to, height), block(at % to, to, width));
                let count = rows.len() * columns.len();
                let sum: u32 = rows.flat_map(|y| columns.clone().map(move |x| (y, x))).map(|(y, x)| u32::from(samples[y * width + x])).sum();
                let mean = (sum as f32 / count as f32).round() as u8;
                prop_assert_eq!(pixel, [mean, mean, mean, 255]);
            }
        }

        #[test]
        fn interleaved_planes_are_the_same_picture(samples in prop::collection::vec(any::<u8>(), 12 * 8 * 3 / 2)) {
            let (y, colour) = samples.split_at(12 * 8);
            let (u, v) = colour.split_at(colour.len() / 2);
            let pairs = u.iter().zip(v).flat_map(|(u, v)| [*u, *v]);
            let nv12: Vec<u8> = y.iter().copied().chain(pairs).collect();
            let interleaved = PlanarFrame { interleaved: true, ..frame(&nv12, 12, 8) };
            prop_assert_eq!(frame(&samples, 12, 8).downscale(3, 4), interleaved.downscale(3, 4));
        }

        #[test]
        fn any_size_is_scaled_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            size in any::<[u8; 4]>(),
            huge in any::<bool>(),
        ) {
            let [width, height, to_width, to_height] = size.map(|it| usize::from(it % 16));
            let width = if huge { usize::MAX - 1 } else { width };
            if let Ok(pixels) = frame(&bytes, width, height).downscale(to_width, to_height) {
                prop_assert_eq!(pixels.len(), 4 * to_width * to_height);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = plain(0, 0, 0);
        let size = |error| matches!(error, Err(PlanarError::Size { .. }));
        assert!(size(frame(&bytes, 4, 4).downscale(3, 2)));
        assert!(size(frame(&bytes, 4, 4).downscale(0, 2)));
        assert!(size(frame(&bytes, 3, 4).downscale(1, 1)));
        let short = frame(&bytes[..23], 4, 4).downscale(2, 2);
        assert_eq!(short, Err(PlanarError::Length { expected: 24, got: 23 }));
    }
}
