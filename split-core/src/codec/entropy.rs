//! Contexts, the range coder, and the end of a payload.

use std::convert::Infallible;

use constriction::{
    Queue,
    backends::{ReadWords, WriteWords},
    stream::{
        Code, Decode, Encode,
        model::{DecoderModel, EncoderModel, EntropyModel},
        queue::{EncoderSituation, RangeCoderState, RangeDecoder, RangeEncoder},
    },
};

use super::{
    DecodeError, EncodeError,
    predict::{Block, Predictors},
    tables::{PRECISION, TableError, Tables},
};
use crate::Shape;

/// Bytes in one word of the range coder.
const WORD_BYTES: usize = 4;
/// Equal parts of the range, for each of which a table knows where a decoder's search begins; a power of two. Measured: with
/// 16 codes, decoding takes three fifths of the time of comparing them all.
const PARTS: usize = 256;
/// Cumulative frequencies of the escape: 0 = calibrated tables, 1 = uniform tables (probability 2⁻⁶).
const ESCAPE: [u32; 3] = [0, (1 << PRECISION) - (1 << (PRECISION - 6)), 1 << PRECISION];

/// Codes ⇄ payload for one shape and one set of tables.
#[derive(Clone, Debug)]
pub(super) struct Coder {
    shape: Shape,
    bits: u8,
    live: Vec<bool>,
    predictors: Predictors,
    /// Those of the contexts, then the uniform one.
    tables: Vec<Table>,
    escape: Table,
}

impl Coder {
    pub(super) fn new(shape: Shape, bits: u8, live: Vec<bool>, tables: &Tables) -> Result<Self, TableError> {
        let mut cumulative = tables.cumulative(bits)?;
        cumulative.extend((0..=1_u32 << bits).map(|it| it << (PRECISION - usize::from(bits))));
        Ok(Self {
            shape,
            bits,
            live,
            predictors: Predictors::parse(shape, bits, &tables.predictors)?,
            tables: cumulative.chunks_exact((1 << bits) + 1).map(Table::new).collect(),
            escape: Table::new(&ESCAPE),
        })
    }

    pub(super) fn max_payload_bytes(&self) -> usize {
        let live = self.live.iter().filter(|&&it| it).count();
        (live * self.shape.positions() * usize::from(self.bits)).div_ceil(8) + 1
    }

    pub(super) fn encode(&self, codes: &[u8], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        let last = ((1_u16 << self.bits) - 1) as u8;
        if codes.iter().fold(0, |largest, &it| largest.max(it)) > last {
            let index = codes.iter().position(|&it| it > last).unwrap_or_default();
            return Err(EncodeError::Code {
                index,
                got: codes[index],
                last,
            });
        }
        let limit = self.max_payload_bytes();
        // Never more than this is written, so that a buffer in use never grows.
        payload.clear();
        payload.reserve(limit);
        if !self.encode_within(limit, false, codes, payload) {
            let fits = self.encode_within(limit, true, codes, payload);
            debug_assert!(fits, "uniform tables need no more than the packed codes and a byte");
        }
        Ok(())
    }

    /// False as soon as the payload would be longer than `limit`.
    fn encode_within(&self, limit: usize, escape: bool, codes: &[u8], payload: &mut Vec<u8>) -> bool {
        payload.clear();
        let (start, bulk) = (RangeCoderState::default(), Bytes { bytes: payload, limit });
        let mut encoder = RangeEncoder::<u32, u64, Bytes<'_>>::from_raw_parts(bulk, start, EncoderSituation::Normal);
        // Fails only where there is no space left: every code of a table has a probability.
        let mut put = |table: &Table, code: u8| encoder.encode_symbol(code, table).is_ok();
        if !put(&self.escape, u8::from(escape)) {
            return false;
        }
        let mut block = Block::default();
        for (channel, row) in self.live_rows() {
            let (done, rest) = codes.split_at(self.start_of(channel, row));
            let each = |column: usize, context| {
                let code = rest[column];
                put(self.table(escape, context), code).then_some(code)
            };
            if self.predictors.row(&mut block, done, [channel, row], each).is_none() {
                return false;
            }
        }
        finish(encoder).is_ok()
    }

    pub(super) fn decode(&self, payload: &[u8], codes: &mut Vec<u8>) -> Result<(), DecodeError> {
        let limit = self.max_payload_bytes();
        if payload.len() > limit {
            return Err(DecodeError::TooLong {
                got: payload.len(),
                limit,
            });
        }
        codes.clear();
        codes.resize(self.shape.values(), 0);
        let words = Words {
            bytes: payload,
            taken: 0,
        };
        let Ok(mut decoder) = RangeDecoder::<u32, u64, Words<'_>>::with_backend(words);
        match self.decode_all(&mut decoder, codes) {
            Some(()) => check_end(decoder),
            None => Err(off_the_map(decoder)),
        }
    }

    /// None where the bytes fall between the intervals that an encoder can reach.
    fn decode_all(&self, decoder: &mut RangeDecoder<u32, u64, Words<'_>>, codes: &mut [u8]) -> Option<()> {
        let mut get = |table: &Table| decoder.decode_symbol(table).ok();
        let escape = get(&self.escape)? == 1;
        let mut block = Block::default();
        for (channel, row) in self.live_rows() {
            let (done, rest) = codes.split_at_mut(self.start_of(channel, row));
            self.predictors
                .row(&mut block, done, [channel, row], |column, context| {
                    let code = get(self.table(escape, context))?;
                    rest[column] = code;
                    Some(code)
                })?;
        }
        Some(())
    }

    /// Channel and row of everything that has codes, in the order of coding.
    fn live_rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let live = (0..self.live.len()).filter(|&it| self.live[it]);
        live.flat_map(|channel| (0..self.shape.height()).map(move |row| (channel, row)))
    }

    fn start_of(&self, channel: usize, row: usize) -> usize {
        channel * self.shape.positions() + row * self.shape.width()
    }

    #[inline]
    fn table(&self, escape: bool, context: usize) -> &Table {
        let uniform = self.tables.len() - 1;
        &self.tables[if escape { uniform } else { context.min(uniform - 1) }]
    }
}

/// Bytes between the coder's intervals: zeros read behind the end of a payload cut short may lead there.
fn off_the_map(decoder: RangeDecoder<u32, u64, Words<'_>>) -> DecodeError {
    let (words, ..) = decoder.into_raw_parts();
    let (expected, got) = (words.taken * WORD_BYTES, words.bytes.len());
    if got < expected {
        DecodeError::Truncated { expected, got }
    } else {
        DecodeError::Corrupt
    }
}

/// Ends a payload with the fewest bytes after which anything may follow.
fn finish(encoder: RangeEncoder<u32, u64, Bytes<'_>>) -> Result<(), Full> {
    let (mut bytes, state, situation) = encoder.into_raw_parts();
    let end = End::of(&state);
    if let EncoderSituation::Inverted(count, first) = situation {
        // Words held back because a carry may still run through them.
        let (first, others) = if end.carry {
            (first.wrapping_add(1), 0)
        } else {
            (first, u32::MAX)
        };
        bytes.write(first)?;
        (1..count.get()).try_for_each(|_| bytes.write(others))?;
    }
    bytes.extend(&end.point.to_be_bytes()[..end.bytes])
}

/// Checks that the payload is as long as [`finish`] would have made it, and that nothing behind it could change the codes.
fn check_end(decoder: RangeDecoder<u32, u64, Words<'_>>) -> Result<(), DecodeError> {
    let state = decoder.state();
    let (words, _, point) = decoder.into_raw_parts();
    let end = End::of(&state);
    // The decoder holds two words that are not used up yet.
    let expected = (words.taken - 2) * WORD_BYTES + end.bytes;
    let got = words.bytes.len();
    let unit = 1_u128 << (64 - 8 * end.bytes as u32);
    let offset = u128::from(point.wrapping_sub(state.lower()));
    match got.cmp(&expected) {
        std::cmp::Ordering::Less => Err(DecodeError::Truncated { expected, got }),
        std::cmp::Ordering::Greater => Err(DecodeError::Trailing { expected, got }),
        std::cmp::Ordering::Equal if offset + unit > u128::from(state.range().get()) => {
            // Some continuations of these bytes mean other codes, so this is the beginning of a longer payload.
            Err(DecodeError::Truncated { expected: got + 1, got })
        }
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// The shortest end of a payload: the first `bytes` bytes of `point`, any continuation of which stays in the coder's interval.
struct End {
    point: u64,
    bytes: usize,
    /// Whether the point lies beyond 2⁶⁴, which adds one to what was written before.
    carry: bool,
}

impl End {
    fn of(state: &RangeCoderState<u32, u64>) -> Self {
        let (lower, end) = (
            u128::from(state.lower()),
            u128::from(state.lower()) + u128::from(state.range().get()),
        );
        let mut bytes = 1;
        loop {
            let unit = 1_u128 << (64 - 8 * bytes);
            let point = lower.next_multiple_of(unit);
            // Ends at 5 bytes at the latest, because the range never falls below 2³².
            if point + unit <= end || bytes == 8 {
                return Self {
                    point: point as u64,
                    bytes: bytes as usize,
                    carry: point >> 64 != 0,
                };
            }
            bytes += 1;
        }
    }
}

/// Takes the coder's words as big-endian bytes, up to a limit.
struct Bytes<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
}

/// The limit is reached.
#[derive(Debug)]
struct Full;

impl Bytes<'_> {
    fn extend(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(Full);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl WriteWords<u32> for Bytes<'_> {
    type WriteError = Full;

    fn write(&mut self, word: u32) -> Result<(), Full> {
        self.extend(&word.to_be_bytes())
    }
}

/// Reads big-endian words, zeros behind the end.
struct Words<'a> {
    bytes: &'a [u8],
    /// Words read so far, those behind the end included.
    taken: usize,
}

impl ReadWords<u32, Queue> for Words<'_> {
    type ReadError = Infallible;

    fn read(&mut self) -> Result<Option<u32>, Infallible> {
        let start = (self.taken * WORD_BYTES).min(self.bytes.len());
        let rest = &self.bytes[start..];
        self.taken += 1;
        let mut word = [0; WORD_BYTES];
        let length = rest.len().min(WORD_BYTES);
        word[..length].copy_from_slice(&rest[..length]);
        Ok(Some(u32::from_be_bytes(word)))
    }

    fn maybe_exhausted(&self) -> bool {
        self.taken * WORD_BYTES >= self.bytes.len()
    }
}

/// An entropy model of `constriction`.
#[derive(Clone, Debug)]
struct Table {
    /// Cumulative frequencies, from 0 to 2¹⁶.
    cumulative: Vec<u32>,
    /// For each part of the range the code at its beginning.
    first: [u8; PARTS],
}

impl Table {
    fn new(cumulative: &[u32]) -> Self {
        let code_at = |quantile: u32| cumulative[1..].partition_point(|&end| end <= quantile);
        Self {
            cumulative: cumulative.to_vec(),
            first: std::array::from_fn(|it| code_at((it << PRECISION) as u32 / PARTS as u32) as u8),
        }
    }
}

impl EntropyModel<PRECISION> for Table {
    type Symbol = u8;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Table {
    #[inline]
    fn left_cumulative_and_probability(
        &self,
        symbol: impl std::borrow::Borrow<u8>,
    ) -> Option<(u32, std::num::NonZeroU32)> {
        let symbol = usize::from(*symbol.borrow());
        let (left, right) = (*self.cumulative.get(symbol)?, *self.cumulative.get(symbol + 1)?);
        Some((left, std::num::NonZeroU32::new(right - left)?))
    }
}

impl DecoderModel<PRECISION> for Table {
    #[inline]
    fn quantile_function(&self, quantile: u32) -> (u8, u32, std::num::NonZeroU32) {
        let mut symbol = usize::from(self.first[(quantile as usize * PARTS) >> PRECISION]);
        while self.cumulative[symbol + 1] <= quantile {
            symbol += 1;
        }
        let (left, right) = (self.cumulative[symbol], self.cumulative[symbol + 1]);
        (
            symbol as u8,
            left,
            std::num::NonZeroU32::new(right - left).unwrap_or(std::num::NonZeroU32::MIN),
        )
    }
}
