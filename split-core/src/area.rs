//! Where the pixels of a network's input lie in a picture, and sums of what each covers.

use fearless_simd::{Level, dispatch, prelude::*, u8x16, u16x8, u32x4};

/// Where the pixels of the input lie along one side of a picture, exactly: in units of 1/`unit` of a pixel of the picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// Pixels of the picture.
    pub length: usize,
    /// Pixels of the input.
    target: usize,
    /// Where the input begins; negative where it reaches beyond the picture.
    offset: i64,
    /// Units that a pixel of the input covers.
    covers: i64,
    /// Units in a pixel of the picture.
    unit: i64,
}

impl Axis {
    /// Of the input's `target` pixels each covers `covers / by` of the picture's.
    pub(crate) fn new(length: usize, target: usize, (covers, by): (usize, usize)) -> Self {
        let [covers, by] = [covers, by].map(|it| it as i64);
        Self {
            length,
            target,
            // Half of what is left over on both sides.
            offset: by * length as i64 - covers * target as i64,
            covers: 2 * covers,
            unit: 2 * by,
        }
    }

    /// What each pixel of the input covers.
    pub(crate) fn spans(self) -> impl Iterator<Item = Span> {
        (0..self.target).filter_map(move |at| self.span(at))
    }

    pub(crate) fn span(&self, at: usize) -> Option<Span> {
        if at >= self.target {
            return None;
        }
        let start = self.offset + at as i64 * self.covers;
        let limit = self.length as i64 * self.unit;
        let [start, end] = [start, start + self.covers].map(|it| it.clamp(0, limit));
        Some(Span {
            first: (start / self.unit) as usize,
            end: ((end + self.unit - 1) / self.unit) as usize,
            start: start as u64,
            stop: end as u64,
            unit: self.unit as u64,
            total: self.covers as u64,
        })
    }
}

/// The pixels of a picture that one of the input covers, along one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The first of them.
    pub first: usize,
    /// The one after the last.
    pub end: usize,
    start: u64,
    stop: u64,
    unit: u64,
    /// Units that the pixel of the input covers, of the picture or beyond it.
    pub total: u64,
}

impl Span {
    /// Whether it lies beyond the picture.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.stop
    }

    /// Units of the picture that are covered.
    pub(crate) fn covered(&self) -> u64 {
        self.stop - self.start
    }

    /// The part of the input's pixel that the picture covers.
    pub(crate) fn share(&self) -> f32 {
        self.covered() as f32 / self.total as f32
    }

    /// Units of one pixel of the picture that are covered.
    pub(crate) fn weight(&self, at: usize) -> u32 {
        let begins = at as u64 * self.unit;
        let ends = begins + self.unit;
        // At most 2 · 65,535.
        (ends.min(self.stop) - begins.max(self.start)) as u32
    }
}

/// Adds up rows of samples, then what each pixel of the input covers of their sum.
///
/// The latter is a difference of two integrals, from the beginning of the row to the pixel's borders, so it takes no loop over what is covered.
#[derive(Debug)]
pub(crate) struct RowSums<const CHANNELS: usize> {
    level: Level,
    /// Units in a pixel of the picture.
    unit: u64,
    /// Where one pixel of the input ends and the next begins: a pixel of the picture, and the units of it that lie before.
    borders: Vec<(usize, u64)>,
    /// Sums over the rows that were added, for each pixel of the picture, and zeros behind the last.
    sums: Vec<[u32; CHANNELS]>,
    /// Sums of all pixels before each.
    integral: Vec<[u64; CHANNELS]>,
}

impl<const CHANNELS: usize> RowSums<CHANNELS> {
    pub(crate) fn new(columns: Axis) -> Self {
        let unit = columns.unit as u64;
        let starts = columns.span(0).map(|it| it.start);
        let borders = starts.into_iter().chain(columns.spans().map(|it| it.stop));
        Self {
            level: Level::new(),
            unit,
            borders: borders.map(|it| ((it / unit) as usize, it % unit)).collect(),
            sums: vec![[0; CHANNELS]; columns.length + 1],
            integral: vec![[0; CHANNELS]; columns.length + 2],
        }
    }

    /// Adds a row of samples.
    pub(crate) fn add(&mut self, row: &[u8], weight: u32) {
        let sums = self.sums.as_flattened_mut();
        dispatch!(self.level, simd => add(simd, sums, row, weight));
    }

    /// Sums over the rows that were added, for each pixel of the input. Begins again with no rows.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = [u64; CHANNELS]> {
        let mut before = [0; CHANNELS];
        for (sums, integral) in self.sums.iter_mut().zip(&mut self.integral[1..]) {
            for (before, sum) in before.iter_mut().zip(sums) {
                *before += u64::from(std::mem::take(sum));
            }
            *integral = before;
        }
        let mut at_start = [0; CHANNELS];
        let borders = self.borders.iter().map(|&(at, part)| {
            let [before, after] = [self.integral[at], self.integral[at + 1]];
            std::array::from_fn(|it| self.unit * before[it] + part * (after[it] - before[it]))
        });
        borders
            .map(move |at_end: [u64; CHANNELS]| {
                let start = std::mem::replace(&mut at_start, at_end);
                std::array::from_fn(|it| at_end[it] - start[it])
            })
            .skip(1)
    }
}

/// Vectors are spelled out because the client is linked for size, where the compiler makes none of loops.
#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [u32], row: &[u8], weight: u32) {
    let (blocks, rest) = row.as_chunks::<16>();
    let (sums, sums_of_rest) = sums.split_at_mut(16 * blocks.len());
    for (sums, samples) in sums.chunks_exact_mut(16).zip(blocks) {
        let (low, high) = u8x16::from_slice(simd, samples).widen();
        let [low, high] = [low, high].map(|it: u16x8<S>| it.widen());
        let samples: [u32x4<S>; 4] = [low.0, low.1, high.0, high.1];
        for (sums, samples) in sums.chunks_exact_mut(4).zip(samples) {
            (u32x4::from_slice(simd, sums) + samples * weight).store_slice(sums);
        }
    }
    for (sum, &sample) in sums_of_rest.iter_mut().zip(rest) {
        *sum += weight * u32::from(sample);
    }
}
