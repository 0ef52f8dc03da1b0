//! What a code is expected to be, given those before it, and the context that follows from it.

use std::ops::Add;

use super::tables::TableError;
use crate::Shape;

/// Channels that a code is predicted from, besides its own.
pub const REFERENCES: usize = 6;
/// A neighbour: how many rows below and columns to the right of a code.
pub(super) type Offset = [isize; 2];
/// Neighbours in the code's own channel: left, and above-left, above, above-right.
pub(super) const OWN: [Offset; 4] = [[0, -1], [-1, -1], [-1, 0], [-1, 1]];
/// Neighbours in a reference, all of which are known: left, same place, right, above, below.
pub(super) const CROSS: [Offset; 5] = [[0, -1], [0, 0], [0, 1], [-1, 0], [1, 0]];
/// Weights of one channel: those of its own neighbours, then of each reference's.
pub(super) const WEIGHTS: usize = OWN.len() + REFERENCES * CROSS.len();
/// Bytes of one predictor: how many channels back each reference is (0: none), the weights, and the constant, little-endian.
pub const PREDICTOR_BYTES: usize = REFERENCES + WEIGHTS + 2;
/// Weights and expected codes are multiples of 1/64.
pub(super) const UNIT: i32 = 64;
/// Contexts, and so the most tables: an expected code of less than a quarter has its own for every 1/64, then every octave has eight, up to 256.
pub const CONTEXTS: usize = 16 + 8 * 10;
/// Places for which the references' part is summed at once: their codes fill a register of 128 bits.
const BLOCK: usize = 16;

/// The predictors of all channels, or none: then every code has the first context.
#[derive(Clone, Debug)]
pub(super) struct Predictors {
    shape: Shape,
    channels: Vec<Predictor>,
    /// For each block: all bits where a neighbour lies inside of the map, none where it does not.
    inside: Vec<Neighbourhood>,
    /// Whether 16 bits hold every sum: prediction takes a quarter less time than with 32.
    narrow: bool,
}

/// A byte for each neighbour of [`CROSS`] and each place of a block.
type Neighbourhood = [[u8; BLOCK]; CROSS.len()];

/// The constant's and the references' part of what is expected at the places of a block, kept from one row to the next.
pub(super) type Block = [i32; BLOCK];

/// How to expect the codes of one channel: linear in their neighbours.
#[derive(Clone, Debug)]
pub(super) struct Predictor {
    /// Channels before this one.
    pub references: Vec<usize>,
    pub weights: [i8; WEIGHTS],
    pub constant: i16,
}

impl Predictor {
    /// As a codec's file has it.
    fn to_bytes(&self, channel: usize) -> [u8; PREDICTOR_BYTES] {
        let mut bytes = [0; PREDICTOR_BYTES];
        for (byte, reference) in bytes.iter_mut().zip(&self.references) {
            *byte = (channel - reference) as u8;
        }
        for (byte, weight) in bytes[REFERENCES..].iter_mut().zip(self.weights) {
            *byte = weight.to_le_bytes()[0];
        }
        bytes[REFERENCES + WEIGHTS..].copy_from_slice(&self.constant.to_le_bytes());
        bytes
    }

    /// Whether 16 bits hold every sum of its parts, for codes up to `last`.
    fn is_narrow(&self, last: i32) -> bool {
        let weights: i32 = self.weights.iter().map(|&it| i32::from(it).abs()).sum();
        i32::from(self.constant).abs() + weights * last <= i16::MAX.into()
    }

    fn from_bytes(channel: usize, bytes: &[u8]) -> Result<Self, TableError> {
        let (references, bytes) = bytes.split_at(REFERENCES);
        let references = references.iter().take_while(|&&back| back > 0);
        let references = references.map(|&back| {
            let missing = TableError::Reference { channel, back };
            channel.checked_sub(usize::from(back)).ok_or(missing)
        });
        Ok(Self {
            references: references.collect::<Result<_, _>>()?,
            weights: std::array::from_fn(|it| bytes[it] as i8),
            constant: i16::from_le_bytes([bytes[WEIGHTS], bytes[WEIGHTS + 1]]),
        })
    }
}

impl Predictors {
    /// One for each channel, for codes of `bits` bits.
    pub fn new(shape: Shape, bits: u8, channels: Vec<Predictor>) -> Self {
        let blocks = (0..shape.positions()).step_by(BLOCK);
        Self {
            shape,
            inside: blocks.map(|start| CROSS.map(|it| inside(shape, it, start))).collect(),
            narrow: channels.iter().all(|it| it.is_narrow((1 << bits) - 1)),
            channels,
        }
    }

    /// As a codec's file has them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let each = self.channels.iter().enumerate();
        each.flat_map(|(channel, it)| it.to_bytes(channel)).collect()
    }

    /// Reads them from a codec's file; no bytes are no predictors.
    pub fn parse(shape: Shape, bits: u8, bytes: &[u8]) -> Result<Self, TableError> {
        if !bytes.is_empty() && bytes.len() != shape.channels() * PREDICTOR_BYTES {
            return Err(TableError::Predictors {
                expected: shape.channels() * PREDICTOR_BYTES,
                got: bytes.len(),
            });
        }
        let each = bytes.chunks_exact(PREDICTOR_BYTES).enumerate();
        let channels = each.map(|(channel, bytes)| Predictor::from_bytes(channel, bytes));
        Ok(Self::new(shape, bits, channels.collect::<Result<_, _>>()?))
    }

    /// Goes through one row of a channel: `each` gets a column and its context, and gives the code there.
    ///
    /// `done` are all codes before the row, `block` what the row before left there. None as soon as `each` gives none.
    #[inline]
    pub fn row(
        &self,
        block: &mut Block,
        done: &[u8],
        [channel, row]: [usize; 2],
        mut each: impl FnMut(usize, usize) -> Option<u8>,
    ) -> Option<()> {
        let width = self.shape.width();
        let Some(predictor) = self.channels.get(channel) else {
            return (0..width).try_for_each(|it| each(it, context(0)).map(drop));
        };
        let own: [i32; OWN.len()] = std::array::from_fn(|it| predictor.weights[it].into());
        let above = if row > 0 { &done[done.len() - width..] } else { &[] };
        let above = |column: usize| above.get(column).map_or(0, |&it| i32::from(it));
        // The four of `OWN`.
        let (mut left, mut above_left, mut above_same) = (0, 0, above(0));
        for column in 0..width {
            let place = row * width + column;
            if place.is_multiple_of(BLOCK) {
                *block = self.cross(predictor, done, place);
            }
            let above_right = above(column + 1);
            let expected =
                block[place % BLOCK] + own[0] * left + own[1] * above_left + own[2] * above_same + own[3] * above_right;
            left = i32::from(each(column, context(expected))?);
            (above_left, above_same) = (above_same, above_right);
        }
        Some(())
    }

    fn cross(&self, predictor: &Predictor, done: &[u8], start: usize) -> Block {
        match self.narrow {
            true => self.cross_in::<i16>(predictor, done, start).map(i32::from),
            false => self.cross_in::<i32>(predictor, done, start),
        }
    }

    /// The sums of a block in numbers of some width, all neighbours in one reference at a time.
    #[inline]
    fn cross_in<T: Copy + From<i16> + Add<Output = T>>(
        &self,
        predictor: &Predictor,
        done: &[u8],
        start: usize,
    ) -> [T; BLOCK] {
        let inside = &self.inside[start / BLOCK];
        let mut sums = [T::from(predictor.constant); BLOCK];
        let weights = predictor.weights[OWN.len()..].chunks_exact(CROSS.len());
        for (reference, weights) in predictor.references.iter().zip(weights) {
            let first = reference * self.shape.positions() + start;
            let copies;
            let codes = match self.windows(done, first) {
                Some(it) => it,
                None => {
                    copies = self.copies(done, first, inside);
                    copies.each_ref()
                }
            };
            for (place, sum) in sums.iter_mut().enumerate() {
                // No product outgrows 16 bits.
                let part =
                    |it: usize| T::from(i16::from(weights[it]) * i16::from(codes[it][place] & inside[it][place]));
                *sum = *sum + part(0) + part(1) + part(2) + part(3) + part(4);
            }
        }
        sums
    }

    /// The neighbours of a reference's block that starts at `first`, for each of [`CROSS`]; none at the ends of `done`.
    #[inline]
    fn windows<'a>(&self, done: &'a [u8], first: usize) -> Option<[&'a [u8; BLOCK]; CROSS.len()]> {
        let window = |first: usize| done.get(first..)?.first_chunk();
        let width = self.shape.width();
        Some([
            window(first.checked_sub(1)?)?,
            window(first)?,
            window(first + 1)?,
            window(first.checked_sub(width)?)?,
            window(first + width)?,
        ])
    }

    /// What [`windows`](Self::windows) gives, zeros where `done` has no code.
    #[cold]
    fn copies(&self, done: &[u8], first: usize, inside: &Neighbourhood) -> Neighbourhood {
        let mut copies = Neighbourhood::default();
        for ((copy, inside), [down, right]) in copies.iter_mut().zip(inside).zip(CROSS) {
            let first = first as isize + down * self.shape.width() as isize + right;
            let skip = first.min(0).unsigned_abs().min(BLOCK);
            let codes = done.get(first.max(0) as usize..).unwrap_or_default();
            if *inside != [0; BLOCK] {
                copy[skip..]
                    .iter_mut()
                    .zip(codes)
                    .for_each(|(copy, code)| *copy = *code);
            }
        }
        copies
    }
}

/// For each place of a block whether a neighbour lies inside of the map: all bits or none.
fn inside(shape: Shape, [down, right]: Offset, start: usize) -> [u8; BLOCK] {
    let [_, height, width]: [usize; 3] = shape.into();
    let is_inside = |at: usize, by: isize, size: usize| at.checked_add_signed(by).is_some_and(|it| it < size);
    std::array::from_fn(|it| {
        let (row, column) = ((start + it) / width, (start + it) % width);
        let inside = row < height && is_inside(row, down, height) && is_inside(column, right, width);
        if inside { u8::MAX } else { 0 }
    })
}

/// The context of an expected code in 1/64, below [`CONTEXTS`].
#[inline]
pub(super) fn context(expected: i32) -> usize {
    let expected = expected.clamp(0, 256 * UNIT - 1) as u32;
    // Eight steps an octave; numbers below the first whole one are steps themselves.
    let shift = (expected | 8).ilog2() - 3;
    (8 * shift + (expected >> shift)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_rise_by_one_and_reach_the_last() {
        let all: Vec<usize> = (-5..256 * UNIT + 5).map(context).collect();
        assert!(all.windows(2).all(|it| it[1] - it[0] <= 1));
        assert_eq!((all[0], all[all.len() - 1]), (0, CONTEXTS - 1));
    }

    #[test]
    fn predictors_come_back_from_their_bytes() {
        let predictor = Predictor {
            references: vec![299, 45],
            weights: std::array::from_fn(|it| it as i8 - 17),
            constant: -300,
        };
        let back = Predictor::from_bytes(300, &predictor.to_bytes(300)).unwrap();
        assert_eq!(format!("{back:?}"), format!("{predictor:?}"));
        let error = Predictor::from_bytes(254, &predictor.to_bytes(300)).unwrap_err();
        assert_eq!(
            error,
            TableError::Reference {
                channel: 254,
                back: 255
            }
        );
    }

    /// Every neighbour alone, against its definition, on maps that fill blocks and rows in every way.
    #[test]
    fn a_weight_belongs_to_one_neighbour() {
        let own = [[0, -1], [-1, -1], [-1, 0], [-1, 1]];
        let cross = [[0, -1], [0, 0], [0, 1], [-1, 0], [1, 0]];
        assert_eq!(
            (own, cross),
            (OWN, CROSS),
            "the neighbours that predictors are fitted for"
        );
        for [height, width] in [[3, 40], [16, 16], [8, 8], [4, 4], [2, 2], [1, 1], [1, 17], [20, 1]] {
            let neighbours = own.map(|it| (2, it)).into_iter().chain(cross.map(|it| (0, it)));
            let last = cross.map(|it| (1, it));
            for (index, neighbour) in neighbours.chain(last).enumerate() {
                for narrow in [true, false] {
                    check_weight(Shape::new(3, height, width).unwrap(), index, neighbour, narrow);
                }
            }
        }
    }

    fn check_weight(shape: Shape, index: usize, (of, [down, right]): (usize, Offset), narrow: bool) {
        let [_, height, width]: [usize; 3] = shape.into();
        let codes: Vec<u8> = (0..shape.values()).map(|it| (it * it % 251) as u8 % 4).collect();
        let at = |row: usize, column: usize| -> i32 {
            let row = row.checked_add_signed(down).filter(|&it| it < height);
            let column = column.checked_add_signed(right).filter(|&it| it < width);
            let place = row.zip(column).map(|(row, column)| row * width + column);
            place.map_or(0, |it| codes[of * height * width + it].into())
        };
        let mut predictor = Predictor {
            references: vec![0, 1],
            weights: [0; WEIGHTS],
            constant: 3,
        };
        predictor.weights[index] = 5;
        let bytes = [[0; PREDICTOR_BYTES], [0; PREDICTOR_BYTES], predictor.to_bytes(2)].concat();
        let mut predictors = Predictors::parse(shape, 2, &bytes).unwrap();
        assert!(predictors.narrow);
        predictors.narrow = narrow;
        let mut block = Block::default();
        for row in 0..height {
            let (done, rest) = codes.split_at(2 * height * width + row * width);
            let visit = |column: usize, got: usize| {
                let expected = context(3 + 5 * at(row, column));
                assert_eq!(got, expected, "weight {index} at {row}, {column} of {shape}");
                Some(rest[column])
            };
            predictors.row(&mut block, done, [2, row], visit).unwrap();
        }
    }

    #[test]
    fn sums_that_outgrow_16_bits_get_32() {
        let shape = Shape::new(2, 4, 4).unwrap();
        let predictor = Predictor {
            references: vec![0],
            weights: [127; WEIGHTS],
            constant: 0,
        };
        let bytes = [[0; PREDICTOR_BYTES], predictor.to_bytes(1)].concat();
        let predictors = Predictors::parse(shape, 8, &bytes).unwrap();
        let visit = |_: usize, got: usize| {
            assert_eq!(got, CONTEXTS - 1);
            Some(255)
        };
        predictors
            .row(&mut Block::default(), &[255; 16], [1, 0], visit)
            .unwrap();
    }
}
