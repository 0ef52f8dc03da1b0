//! Camera frames, brought to the network's size.

use std::borrow::Cow;

use fearless_simd::{Level, dispatch, f32x4, i32x4, prelude::*};

use crate::area::{Axis, RowSums, Span};
use crate::manifest::Preparation;
use crate::prepare::PrepareError;

/// Values that are computed together: WebAssembly's vectors hold four.
const LANES: usize = 4;

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
    /// The width or height is odd, so that its last samples of colour belong to pixels beyond the frame.
    #[error("a planar frame of {width}×{height} cannot be scaled: its sides must be even")]
    Odd {
        /// Width of the frame.
        width: usize,
        /// Height of the frame.
        height: usize,
    },
    /// Its size or the network's is out of range.
    #[error(transparent)]
    Size(#[from] PrepareError),
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
    /// Brings the frame to opaque RGBA pixels of `to` = `[rows, columns]`, by the rule of [`crate::prepare`]: each is the mean of the samples
    /// that it covers.
    pub fn prepare(&self, preparation: Preparation, to: [usize; 2]) -> Result<Vec<u8>, PlanarError> {
        let (width, height) = (self.width, self.height);
        if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
            return Err(PlanarError::Odd { width, height });
        }
        let [rows, columns] = preparation.axes([height, width], to)?;
        let [half_rows, half_columns] = preparation.axes([height / 2, width / 2], to)?;
        let (expected, got) = (width * height * 3 / 2, self.bytes.len());
        if expected != got {
            return Err(PlanarError::Length { expected, got });
        }
        let (brightness, colour) = self.bytes.split_at(expected / 3 * 2);
        let colour = if self.interleaved {
            Cow::Borrowed(colour)
        } else {
            Cow::Owned(interleaved(colour))
        };
        let mut y = Plane::new(brightness, columns);
        let mut uv = Plane::new(&colour, half_columns);
        let conversion = Conversion::new(self.matrix, self.full_range, preparation.background);
        let shares = padded(columns.spans().map(|it| it.share()));
        let mut row = vec![0; 4 * shares.len()];
        let mut pixels = Vec::with_capacity(4 * to[0] * to[1]);
        let level = Level::new();
        for (rows, half_rows) in rows.spans().zip(half_rows.spans()) {
            let [y] = y.means(&rows);
            let [u, v] = uv.means(&half_rows);
            let share = rows.share();
            dispatch!(level, simd => conversion.write(simd, [y, u, v, &shares], share, &mut row));
            pixels.extend_from_slice(&row[..4 * to[1]]);
        }
        Ok(pixels)
    }
}

/// The values, and zeros up to a whole number of vectors.
fn padded(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.collect();
    values.resize(values.len().next_multiple_of(LANES), 0.0);
    values
}

/// U and V, sample by sample, of one after the other.
fn interleaved(colour: &[u8]) -> Vec<u8> {
    let (u, v) = colour.split_at(colour.len() / 2);
    let pairs: Vec<[u8; 2]> = u.iter().zip(v).map(|(u, v)| [*u, *v]).collect();
    pairs.into_flattened()
}

/// What makes red, green and blue of samples: ITU-R BT.601 and BT.709, sections on the derivation of the signals, solved for them.
struct Conversion {
    /// Of Y.
    black: f32,
    brightness: f32,
    /// What V adds to red.
    red: f32,
    /// What U and V add to green.
    green: [f32; 2],
    /// What U adds to blue.
    blue: f32,
    /// Red, green and blue.
    background: [f32; 3],
}

impl Conversion {
    fn new(matrix: ColorMatrix, full_range: bool, background: [u8; 3]) -> Self {
        let [red, blue] = match matrix {
            ColorMatrix::Bt601 => [0.299, 0.114],
            ColorMatrix::Bt709 => [0.2126, 0.0722],
        };
        let (black, brightness, colour) = if full_range {
            (0.0, 1.0, 1.0)
        } else {
            (16.0, 255.0 / 219.0, 255.0 / 224.0)
        };
        let [of_v, of_u] = [red, blue].map(|it| 2.0 * (1.0 - it) * colour);
        let green = 1.0 - red - blue;
        Self {
            black,
            brightness,
            red: of_v,
            green: [-blue * of_u / green, -red * of_v / green],
            blue: of_u,
            background: background.map(f32::from),
        }
    }

    /// Writes a row of opaque RGBA pixels of Y, U, V and the shares that the frame has of each pixel, times `of_row`.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, values: [&[f32]; 4], of_row: f32, pixels: &mut [u8]) {
        let [y, u, v, shares] = values.map(|it| it.chunks_exact(LANES));
        let samples = y.zip(u).zip(v).zip(shares);
        for ((((y, u), v), share), pixels) in samples.zip(pixels.chunks_exact_mut(4 * LANES)) {
            let [y, u, v, share] = [y, u, v, share].map(|it| f32x4::from_slice(simd, it));
            let (y, u, v, share) = ((y - self.black) * self.brightness, u - 128.0, v - 128.0, share * of_row);
            let rgb = [
                y + v * self.red,
                y + u * self.green[0] + v * self.green[1],
                y + u * self.blue,
            ];
            let rest = 1.0 - share;
            let [r, g, b]: [i32x4<S>; 3] = std::array::from_fn(|it| {
                let mixed = rgb[it].max(0.0).min(255.0) * share + rest * self.background[it];
                (mixed + 0.5).to_int()
            });
            let opaque = -1 << 24;
            (r | (g << 8) | (b << 16) | opaque).to_bytes().store_slice(pixels);
        }
    }
}

/// Samples of one or two channels.
struct Plane<'a, const CHANNELS: usize> {
    samples: &'a [u8],
    row_bytes: usize,
    sums: RowSums<CHANNELS>,
    /// For each column, one over the units of the picture that it covers.
    shares: Vec<f32>,
    /// Of each channel, padded.
    means: [Vec<f32>; CHANNELS],
}

impl<'a, const CHANNELS: usize> Plane<'a, CHANNELS> {
    fn new(samples: &'a [u8], columns: Axis) -> Self {
        let shares: Vec<f32> = columns.spans().map(|it| 1.0 / it.covered().max(1) as f32).collect();
        Self {
            samples,
            row_bytes: columns.length * CHANNELS,
            sums: RowSums::new(columns),
            means: std::array::from_fn(|_| padded(shares.iter().map(|_| 0.0))),
            shares,
        }
    }

    /// Means of what each pixel of a row of the input covers; 0 where that is nothing.
    fn means(&mut self, rows: &Span) -> &[Vec<f32>; CHANNELS] {
        let samples = &self.samples[rows.first * self.row_bytes..rows.end * self.row_bytes];
        for (at, row) in (rows.first..).zip(samples.chunks_exact(self.row_bytes)) {
            self.sums.add(row, rows.weight(at));
        }
        let share = 1.0 / rows.covered().max(1) as f32;
        for (at, (sums, of_row)) in self.sums.take().zip(&self.shares).enumerate() {
            for (means, sum) in self.means.iter_mut().zip(sums) {
                means[at] = sum as f32 * (share * of_row);
            }
        }
        &self.means
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::Fit;

    const COVER: Preparation = Preparation {
        fit: Fit::Cover,
        background: [0; 3],
    };

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
            let pixels = frame.prepare(COVER, [2, 2]).unwrap();
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

    /// Grey pixels of the same brightness.
    fn grey(samples: &[u8]) -> Vec<u8> {
        samples.iter().flat_map(|it| [*it, *it, *it, 255]).collect()
    }

    proptest! {
        #[test]
        fn a_grey_frame_is_prepared_like_its_pixels(
            (width, height) in (1_usize..40, 1_usize..40),
            samples in prop::collection::vec(any::<u8>(), 80 * 80),
            (rows, columns) in (1_usize..50, 1_usize..50),
            letterbox in any::<bool>(),
            background in any::<[u8; 3]>(),
        ) {
            let (width, height) = (2 * width, 2 * height);
            let mut bytes = samples[..width * height].to_vec();
            let preparation = Preparation { fit: if letterbox { Fit::Letterbox } else { Fit::Cover }, background };
            let expected = preparation.apply(&grey(&bytes), [height, width], [rows, columns]).unwrap();
            bytes.resize(width * height * 3 / 2, 128);
            let frame = PlanarFrame { full_range: true, ..frame(&bytes, width, height) };
            let pixels = frame.prepare(preparation, [rows, columns]).unwrap();
            prop_assert_eq!(pixels.len(), expected.len());
            // The one rounds sums of integers, the other of means.
            prop_assert!(pixels.iter().zip(&expected).all(|(it, other)| it.abs_diff(*other) <= 1));
        }

        #[test]
        fn interleaved_planes_are_the_same_picture(samples in prop::collection::vec(any::<u8>(), 12 * 8 * 3 / 2)) {
            let (y, colour) = samples.split_at(12 * 8);
            let (u, v) = colour.split_at(colour.len() / 2);
            let pairs = u.iter().zip(v).flat_map(|(u, v)| [*u, *v]);
            let nv12: Vec<u8> = y.iter().copied().chain(pairs).collect();
            let interleaved = PlanarFrame { interleaved: true, ..frame(&nv12, 12, 8) };
            prop_assert_eq!(frame(&samples, 12, 8).prepare(COVER, [4, 3]), interleaved.prepare(COVER, [4, 3]));
        }

        #[test]
        fn any_size_is_scaled_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            size in any::<[u8; 4]>(),
            huge in any::<bool>(),
        ) {
            let [width, height, rows, columns] = size.map(|it| usize::from(it % 16));
            let width = if huge { usize::MAX - 1 } else { width };
            if let Ok(pixels) = frame(&bytes, width, height).prepare(COVER, [rows, columns]) {
                prop_assert_eq!(pixels.len(), 4 * rows * columns);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = plain(0, 0, 0);
        let odd = frame(&bytes, 3, 4).prepare(COVER, [1, 1]);
        assert_eq!(odd, Err(PlanarError::Odd { width: 3, height: 4 }));
        for (width, to) in [(4, [0, 2]), (4, [2, usize::MAX]), (0, [2, 2])] {
            let error = frame(&bytes, width, 4).prepare(COVER, to);
            assert!(matches!(error, Err(PlanarError::Size(_))), "{error:?}");
        }
        let short = frame(&bytes[..23], 4, 4).prepare(COVER, [2, 2]);
        assert_eq!(short, Err(PlanarError::Length { expected: 24, got: 23 }));
    }
}
