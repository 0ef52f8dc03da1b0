//! From a picture of any size to the network's pixels: one rule for trainer, tests and client.
//!
//! 1. The picture is turned upright. Browsers do it themselves, the trainer by the file's EXIF data.
//! 2. What is transparent is blended over the background, in sRGB values as browsers do.
//! 3. The picture is scaled, never squeezed: to cover the network's input, cut to its middle ([`Fit::Cover`]), or to lie in the middle of
//!    it on the background ([`Fit::Letterbox`]).
//! 4. Each pixel of the input is the mean of what it covers. Pixels that it covers in part count in part.
//! 5. `Input::normalize_rgba` makes the network's input of the pixels.
//!
//! All sums are of integers, so every side gets the same bytes for the same picture.
//!
//! ```
//! use split_core::{Fit, Preparation};
//!
//! // Red, green, blue side by side: what covers a square is the green in the middle.
//! let row = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]].concat();
//! let cover = Preparation { fit: Fit::Cover, background: [0, 0, 0] };
//! assert_eq!(cover.apply(&row, [1, 3], [1, 1])?, [0, 255, 0, 255]);
//! let letterbox = Preparation { fit: Fit::Letterbox, ..cover };
//! assert_eq!(letterbox.apply(&row, [1, 3], [1, 1])?, [28, 28, 28, 255]);
//! # Ok::<(), split_core::PrepareError>(())
//! ```

use crate::area::{Axis, RowSums, Span};
use crate::manifest::{Fit, Preparation};

/// Largest side of a picture: that of the formats that browsers show.
const MAX_SIDE: usize = 65_535;

/// A picture that cannot be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// A side is zero or beyond 65,535 pixels.
    #[error("a picture of {width}×{height} pixels cannot be prepared: each side is 1 to {MAX_SIDE}")]
    Size {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// More or fewer bytes than the picture has, or a part of a row.
    #[error("{got} bytes of pixels, expected {expected}")]
    Length {
        /// Bytes that would have been right.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
}

impl Preparation {
    /// Brings RGBA pixels of `from` = `[rows, columns]`, upright, to opaque RGBA pixels of `to` = `[rows, columns]`.
    pub fn apply(&self, rgba: &[u8], from: [usize; 2], to: [usize; 2]) -> Result<Vec<u8>, PrepareError> {
        let mut preparer = Preparer::new(*self, from, to)?;
        preparer.push(rgba)?;
        preparer.finish()
    }

    /// Whole rows and columns that the network does not see, on each side of a picture of `from`.
    pub fn margins(&self, from: [usize; 2], to: [usize; 2]) -> Result<[usize; 2], PrepareError> {
        let first = |it: Axis| it.span(0).map_or(0, |it| it.first);
        Ok(self.axes(from, to)?.map(first))
    }

    /// Where the rows and the columns of `to` lie in a picture of `from`.
    pub(crate) fn axes(&self, from: [usize; 2], to: [usize; 2]) -> Result<[Axis; 2], PrepareError> {
        for [height, width] in [from, to] {
            if [height, width].iter().any(|it| !(1..=MAX_SIDE).contains(it)) {
                return Err(PrepareError::Size { width, height });
            }
        }
        // A pixel of the input covers this many of the picture, both ways, as a fraction.
        let rows = (from[0], to[0]);
        let columns = (from[1], to[1]);
        let rows_are_fewer = rows.0 * columns.1 <= columns.0 * rows.1;
        let scale = if rows_are_fewer == (self.fit == Fit::Cover) {
            rows
        } else {
            columns
        };
        Ok([rows, columns].map(|(length, target)| Axis::new(length, target, scale)))
    }
}

/// Prepares a picture row by row, so that large ones need not be in memory as a whole.
#[derive(Debug)]
pub struct Preparer {
    background: [u8; 3],
    rows: Axis,
    columns: Vec<Span>,
    /// Bytes of a row of the picture.
    row_bytes: usize,
    /// Rows taken.
    taken: usize,
    /// The row of the input that is being summed up.
    row: usize,
    /// Of the rows that it covers.
    sums: RowSums<4>,
    blended: Vec<u8>,
    pixels: Vec<u8>,
}

impl Preparer {
    /// For a picture of `from` to one of `to`, both `[rows, columns]`.
    pub fn new(preparation: Preparation, from: [usize; 2], to: [usize; 2]) -> Result<Self, PrepareError> {
        let [rows, columns] = preparation.axes(from, to)?;
        let mut preparer = Self {
            background: preparation.background,
            rows,
            columns: columns.spans().collect(),
            row_bytes: from[1] * 4,
            taken: 0,
            row: 0,
            sums: RowSums::new(columns),
            blended: Vec::new(),
            pixels: Vec::with_capacity(to[0] * to[1] * 4),
        };
        preparer.end_rows();
        Ok(preparer)
    }

    /// Takes the next rows, whole, RGBA.
    pub fn push(&mut self, rgba: &[u8]) -> Result<(), PrepareError> {
        let left = (self.rows.length - self.taken) * self.row_bytes;
        if rgba.len() > left || !rgba.len().is_multiple_of(self.row_bytes) {
            return Err(PrepareError::Length {
                expected: left,
                got: rgba.len(),
            });
        }
        for row in rgba.chunks_exact(self.row_bytes) {
            self.push_row(row);
        }
        Ok(())
    }

    /// Opaque RGBA pixels, row by row.
    pub fn finish(self) -> Result<Vec<u8>, PrepareError> {
        if self.taken == self.rows.length {
            Ok(self.pixels)
        } else {
            Err(PrepareError::Length {
                expected: self.rows.length * self.row_bytes,
                got: self.taken * self.row_bytes,
            })
        }
    }

    fn push_row(&mut self, row: &[u8]) {
        let at = self.taken;
        self.taken += 1;
        if self.rows.span(self.row).is_none_or(|it| at < it.first) {
            return;
        }
        let mut blended = std::mem::take(&mut self.blended);
        let row = blend(row, self.background, &mut blended);
        while let Some(span) = self.rows.span(self.row).filter(|it| it.first <= at && at < it.end) {
            self.sums.add(row, span.weight(at));
            if at + 1 < span.end {
                break;
            }
            self.end_row(&span);
        }
        self.blended = blended;
        self.end_rows();
    }

    /// Writes the rows that cover nothing of the picture, now that it is their turn.
    fn end_rows(&mut self) {
        while let Some(span) = self.rows.span(self.row).filter(Span::is_empty) {
            self.end_row(&span);
        }
    }

    fn end_row(&mut self, rows: &Span) {
        let background = self.background.map(u64::from);
        for (columns, sums) in self.columns.iter().zip(self.sums.take()) {
            let covered = rows.covered() * columns.covered();
            let total = rows.total * columns.total;
            let mut pixel = [255; 4];
            for ((value, sum), behind) in pixel.iter_mut().zip(sums).zip(background) {
                *value = ((sum + behind * (total - covered) + total / 2) / total) as u8;
            }
            self.pixels.extend(pixel);
        }
        self.row += 1;
    }
}

/// The row over the background; itself where it is opaque.
fn blend<'a>(row: &'a [u8], background: [u8; 3], blended: &'a mut Vec<u8>) -> &'a [u8] {
    if row.chunks_exact(4).all(|it| it[3] == 255) {
        return row;
    }
    blended.clear();
    blended.extend(row.chunks_exact(4).flat_map(|pixel| {
        let alpha = u32::from(pixel[3]);
        let over = |channel: usize| {
            let sum = u32::from(pixel[channel]) * alpha + u32::from(background[channel]) * (255 - alpha);
            ((sum + 127) / 255) as u8
        };
        [over(0), over(1), over(2), 255]
    }));
    blended
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn preparation(fit: Fit) -> Preparation {
        Preparation {
            fit,
            background: [200, 100, 0],
        }
    }

    /// The rule in words: the mean of many points of what a pixel of the input covers.
    fn by_points(
        rgba: &[u8],
        [height, width]: [usize; 2],
        [rows, columns]: [usize; 2],
        rule: Preparation,
    ) -> Vec<[f64; 3]> {
        const POINTS: usize = 24;
        let scales = [height as f64 / rows as f64, width as f64 / columns as f64];
        let scale = match rule.fit {
            Fit::Cover => scales[0].min(scales[1]),
            Fit::Letterbox => scales[0].max(scales[1]),
        };
        let at = |point: usize, target: usize, length: usize| {
            let from_middle = (point as f64 + 0.5) / POINTS as f64 - target as f64 / 2.0;
            let place = length as f64 / 2.0 + from_middle * scale;
            (0.0..length as f64).contains(&place).then_some(place as usize)
        };
        let colour = |y: usize, x: usize| -> [f64; 3] {
            let background = rule.background.map(f64::from);
            let (Some(y), Some(x)) = (at(y, rows, height), at(x, columns, width)) else {
                return background;
            };
            let pixel = &rgba[(y * width + x) * 4..][..4];
            let alpha = f64::from(pixel[3]) / 255.0;
            std::array::from_fn(|it| f64::from(pixel[it]) * alpha + background[it] * (1.0 - alpha))
        };
        let mean = |row: usize, column: usize| {
            let mut sums = [0.0; 3];
            for y in row * POINTS..(row + 1) * POINTS {
                for x in column * POINTS..(column + 1) * POINTS {
                    sums.iter_mut().zip(colour(y, x)).for_each(|(sum, it)| *sum += it);
                }
            }
            sums.map(|it| it / (POINTS * POINTS) as f64)
        };
        (0..rows * columns).map(|it| mean(it / columns, it % columns)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pixels_are_means_of_what_they_cover(
            (height, width) in (1_usize..14, 1_usize..14),
            (rows, columns) in (1_usize..6, 1_usize..6),
            rgba in prop::collection::vec(any::<u8>(), 4 * 14 * 14),
            fit in prop::sample::select(vec![Fit::Cover, Fit::Letterbox]),
        ) {
            let rgba = &rgba[..4 * height * width];
            let got = preparation(fit).apply(rgba, [height, width], [rows, columns]).unwrap();
            let expected = by_points(rgba, [height, width], [rows, columns], preparation(fit));
            prop_assert_eq!(got.len(), 4 * expected.len());
            for (got, expected) in got.chunks(4).zip(expected) {
                prop_assert_eq!(got[3], 255);
                // Points on a grid miss the edges of what is covered by half their distance.
                let near = got.iter().zip(expected).all(|(got, it)| (f64::from(*got) - it).abs() < 24.0);
                prop_assert!(near, "{:?} is not {:?}", got, expected);
            }
        }

        #[test]
        fn a_picture_turned_is_its_result_turned(
            (height, width) in (1_usize..20, 1_usize..20),
            (rows, columns) in (1_usize..8, 1_usize..8),
            rgba in prop::collection::vec(any::<u8>(), 4 * 20 * 20),
            fit in prop::sample::select(vec![Fit::Cover, Fit::Letterbox]),
        ) {
            // So it may be turned before or after, whichever is less work.
            let transposed = |rgba: &[u8], [height, width]: [usize; 2]| -> Vec<u8> {
                let places = (0..width).flat_map(|x| (0..height).map(move |y| y * width + x));
                places.flat_map(|it| rgba[it * 4..][..4].to_vec()).collect()
            };
            let rgba = &rgba[..4 * height * width];
            let prepare = |rgba: &[u8], from, to| preparation(fit).apply(rgba, from, to).unwrap();
            let plain = prepare(rgba, [height, width], [rows, columns]);
            let turned = prepare(&transposed(rgba, [height, width]), [width, height], [columns, rows]);
            prop_assert_eq!(transposed(&plain, [rows, columns]), turned);
            let reversed = |rgba: &[u8]| rgba.rchunks(4).flatten().copied().collect::<Vec<u8>>();
            prop_assert_eq!(reversed(&plain), prepare(&reversed(rgba), [height, width], [rows, columns]));
        }

        #[test]
        fn a_picture_of_the_right_size_stays_as_it_is(rgba in prop::collection::vec(any::<u8>(), 4 * 6 * 5)) {
            let mut rgba = rgba;
            rgba.chunks_mut(4).for_each(|it| it[3] = 255);
            for fit in [Fit::Cover, Fit::Letterbox] {
                prop_assert_eq!(&preparation(fit).apply(&rgba, [6, 5], [6, 5]).unwrap(), &rgba);
            }
        }
    }

    #[test]
    fn transparency_shows_the_background_and_not_what_lies_under_it() {
        let rgba = [[0, 255, 0, 0], [10, 20, 30, 255], [0, 0, 0, 128], [9, 9, 9, 0]].concat();
        let got = preparation(Fit::Cover).apply(&rgba, [2, 2], [2, 2]).unwrap();
        let expected = [
            [200, 100, 0, 255],
            [10, 20, 30, 255],
            [100, 50, 0, 255],
            [200, 100, 0, 255],
        ];
        assert_eq!(got, expected.concat());
    }

    #[test]
    fn rows_may_come_in_any_number_at_a_time() {
        let rgba: Vec<u8> = (0..9 * 4 * 4).map(|it| (it * 7 % 256) as u8).collect();
        for fit in [Fit::Cover, Fit::Letterbox] {
            let whole = preparation(fit).apply(&rgba, [9, 4], [3, 5]).unwrap();
            let mut preparer = Preparer::new(preparation(fit), [9, 4], [3, 5]).unwrap();
            for rows in [0..2, 2..3, 3..9] {
                preparer.push(&rgba[rows.start * 16..rows.end * 16]).unwrap();
            }
            assert_eq!(preparer.finish().unwrap(), whole);
        }
    }

    #[test]
    fn what_lies_beyond_the_margins_is_not_seen() {
        let rgba: Vec<u8> = (0..5 * 9 * 4).map(|it| (it * 7 % 256) as u8).collect();
        for (fit, columns) in [(Fit::Cover, 2), (Fit::Letterbox, 0)] {
            let rule = preparation(fit);
            assert_eq!(rule.margins([5, 9], [3, 3]).unwrap(), [0, columns]);
            let row = |row: &[u8]| row[columns * 4..(9 - columns) * 4].to_vec();
            let cut: Vec<u8> = rgba.chunks(9 * 4).flat_map(row).collect();
            let whole = rule.apply(&rgba, [5, 9], [3, 3]).unwrap();
            assert_eq!(rule.apply(&cut, [5, 9 - 2 * columns], [3, 3]).unwrap(), whole);
        }
    }

    #[test]
    fn sizes_and_lengths_are_checked() {
        let size = |from, to| Preparer::new(preparation(Fit::Cover), from, to).unwrap_err();
        assert_eq!(size([0, 4], [1, 1]), PrepareError::Size { width: 4, height: 0 });
        assert_eq!(
            size([1, 1], [1, 65_536]),
            PrepareError::Size {
                width: 65_536,
                height: 1
            }
        );
        let mut preparer = Preparer::new(preparation(Fit::Cover), [2, 2], [1, 1]).unwrap();
        assert!(preparer.push(&[0; 7]).is_err());
        assert!(preparer.push(&[0; 24]).is_err());
        preparer.push(&[0; 8]).unwrap();
        let short = preparer.finish();
        assert_eq!(short, Err(PrepareError::Length { expected: 16, got: 8 }));
    }
}
