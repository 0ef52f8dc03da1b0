//! What a code is expected to be, given those before it, and the context that follows from it.

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
/// Columns that are predicted together.
const COLUMNS: usize = 32;

/// The predictors of all channels, or none: then every code has the first context.
#[derive(Clone, Debug)]
pub(super) struct Predictors {
    shape: Shape,
    channels: Vec<Predictor>,
}

/// How to expect the codes of one channel: linear in their neighbours.
#[derive(Clone, Debug)]
pub(super) struct Predictor {
    /// Channels before this one.
    pub references: Vec<usize>,
    pub weights: [i8; WEIGHTS],
    pub constant: i16,
}

impl Predictor {
    /// As the manifest has it.
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
    /// One for each channel.
    pub fn new(shape: Shape, channels: Vec<Predictor>) -> Self {
        Self { shape, channels }
    }

    /// As the manifest has them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let each = self.channels.iter().enumerate();
        each.flat_map(|(channel, it)| it.to_bytes(channel)).collect()
    }

    /// Reads them from a manifest; no bytes are no predictors.
    pub fn parse(shape: Shape, bytes: &[u8]) -> Result<Self, TableError> {
        if !bytes.is_empty() && bytes.len() != shape.channels() * PREDICTOR_BYTES {
            return Err(TableError::Predictors {
                expected: shape.channels() * PREDICTOR_BYTES,
                got: bytes.len(),
            });
        }
        let each = bytes.chunks_exact(PREDICTOR_BYTES).enumerate();
        let channels = each.map(|(channel, bytes)| Predictor::from_bytes(channel, bytes));
        Ok(Self {
            shape,
            channels: channels.collect::<Result<_, _>>()?,
        })
    }

    /// Goes through one row of a channel: `each` gets a column and its context, and gives the code there.
    ///
    /// `done` are all codes before the row. None as soon as `each` gives none.
    #[inline]
    pub fn row(
        &self,
        done: &[u8],
        [channel, row]: [usize; 2],
        mut each: impl FnMut(usize, usize) -> Option<u8>,
    ) -> Option<()> {
        let width = self.shape.width();
        let predictor = self.channels.get(channel);
        let left_weight = predictor.map_or(0, |it| i32::from(it.weights[0]));
        let mut left = 0;
        for start in (0..width).step_by(COLUMNS) {
            let mut expected = [0; COLUMNS];
            let count = COLUMNS.min(width - start);
            if let Some(predictor) = predictor {
                self.expect(predictor, done, row, start, &mut expected[..count]);
            }
            for (column, expected) in (start..).zip(&expected[..count]) {
                left = i32::from(each(column, context(expected + left_weight * left))?);
            }
        }
        Some(())
    }

    /// Everything but the left neighbour's part, for some columns of a row. The neighbours are those of [`OWN`] and [`CROSS`], row by row: a loop
    /// over them that looked at each one's row took half as long again on small maps.
    fn expect(&self, predictor: &Predictor, done: &[u8], row: usize, start: usize, expected: &mut [i32]) {
        let [_, height, width]: [usize; 3] = self.shape.into();
        expected.fill(i32::from(predictor.constant));
        let (own, cross) = predictor.weights.split_at(OWN.len());
        if row > 0 {
            let above = &done[done.len() - width..];
            for (weight, offset) in own[1..].iter().zip([-1, 0, 1]) {
                add(expected, above, start, offset, *weight);
            }
        }
        for (reference, weights) in predictor.references.iter().zip(cross.chunks_exact(CROSS.len())) {
            let plane = &done[reference * self.shape.positions()..][..self.shape.positions()];
            let line = |row: usize| &plane[row * width..][..width];
            for (weight, offset) in weights.iter().zip([-1, 0, 1]) {
                add(expected, line(row), start, offset, *weight);
            }
            if row > 0 {
                add(expected, line(row - 1), start, 0, weights[3]);
            }
            if row + 1 < height {
                add(expected, line(row + 1), start, 0, weights[4]);
            }
        }
    }
}

/// Adds `weight` times a row's codes, `offset` columns aside of those from `start` on; zeros lie outside of the row.
#[inline]
fn add(expected: &mut [i32], row: &[u8], start: usize, offset: isize, weight: i8) {
    let (skip, from) = match start.checked_add_signed(offset) {
        Some(from) => (0, from),
        None => (1, 0),
    };
    let codes = row.get(from..).unwrap_or_default();
    for (expected, &code) in expected[skip..].iter_mut().zip(codes) {
        *expected += i32::from(weight) * i32::from(code);
    }
}

/// The context of an expected code in 1/64, below [`CONTEXTS`].
#[inline]
pub(super) fn context(expected: i32) -> usize {
    let expected = expected.clamp(0, 256 * UNIT - 1) as u32;
    match expected.checked_ilog2() {
        None => 0,
        Some(..4) => expected as usize,
        Some(octave) => 16 + (octave as usize - 4) * 8 + (expected >> (octave - 3) & 7) as usize,
    }
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

    /// Every neighbour alone, against its definition.
    #[test]
    fn a_weight_belongs_to_one_neighbour() {
        let shape = Shape::new(2, 3, 40).unwrap();
        let codes: Vec<u8> = (0..shape.values()).map(|it| (it * it % 251) as u8 % 4).collect();
        let at = |channel: usize, y: usize, x: usize, [dy, dx]: [isize; 2]| -> i32 {
            let (y, x) = (y.checked_add_signed(dy), x.checked_add_signed(dx));
            match (y, x) {
                (Some(y @ 0..3), Some(x @ 0..40)) => codes[channel * 120 + y * 40 + x].into(),
                _ => 0,
            }
        };
        let own = [[0, -1], [-1, -1], [-1, 0], [-1, 1]];
        let cross = [[0, -1], [0, 0], [0, 1], [-1, 0], [1, 0]];
        assert_eq!(
            (own, cross),
            (OWN, CROSS),
            "the neighbours that predictors are fitted for"
        );
        let neighbours = own.map(|it| (1, it)).into_iter().chain(cross.map(|it| (0, it)));
        for (index, (channel, offset)) in neighbours.enumerate() {
            let mut predictor = Predictor {
                references: vec![0],
                weights: [0; WEIGHTS],
                constant: 3,
            };
            predictor.weights[index] = 5;
            let bytes = [[0; PREDICTOR_BYTES], predictor.to_bytes(1)].concat();
            let predictors = Predictors::parse(shape, &bytes).unwrap();
            for y in 0..3 {
                let done = &codes[..120 + y * 40];
                let visit = |x: usize, got: usize| {
                    assert_eq!(
                        got,
                        context(3 + 5 * at(channel, y, x, offset)),
                        "weight {index} at {y}, {x}"
                    );
                    Some(codes[120 + y * 40 + x])
                };
                predictors.row(done, [1, y], visit).unwrap();
            }
        }
    }
}
