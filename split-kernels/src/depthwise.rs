//! Depthwise convolutions, which see one input channel for every output channel, and batch norms, which are those of 1×1.

use fearless_simd::prelude::*;
use split_graph::Window;

use super::finish::{Finish, Limits, UNLIMITED, limit};
use super::map::{Source, Target};
use super::simd::{load, store, zero};

/// Positions of a row that are computed together, so that their windows share inputs.
const TILE: usize = 4;

/// The most columns that a tile sees: of a 5×5 filter at a stride of 2.
const MOST_COLUMNS: usize = (TILE - 1) * 2 + 5;

/// Filters of a layer, in the order in which they are used.
#[derive(Debug)]
pub struct Depthwise {
    /// `[vector of channels][row][column][channel]`.
    weights: Vec<f32>,
    finish: Finish,
    window: Window,
}

/// Where the rows of a window begin, and where its results go.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The input.
    pub input: &'a [f32],
    /// Where each of the filter's rows begins in it, at the leftmost column that the filter sees.
    pub rows: &'a [usize],
    /// Channels in memory.
    pub channels: usize,
    /// Positions to compute.
    pub width: usize,
}

impl Depthwise {
    /// Orders filters, `[C, rows, columns]`, for a map of `channels` in memory.
    pub fn new(weight: &[f32], window: Window, finish: Finish, channels: usize, lanes: usize) -> Self {
        let taps = window.kernel[0] * window.kernel[1];
        let mut weights = vec![0.0; taps * channels];
        for (channel, filter) in weight.chunks_exact(taps).enumerate() {
            let start = channel / lanes * lanes * taps + channel % lanes;
            for (tap, value) in filter.iter().enumerate() {
                weights[start + tap * lanes] = *value;
            }
        }
        Self {
            weights,
            finish,
            window,
        }
    }

    /// How the filter moves.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Convolves so many images.
    pub fn run<S: Simd>(&self, simd: S, images: usize, input: Source, output: Target, addend: Option<Source>) {
        let [_, height, width] = output.map.shape.into();
        let mut rows = vec![0; self.window.kernel[0]];
        for image in 0..images {
            for y in 0..height {
                let first = input
                    .map
                    .window([image, y * self.window.stride[0], 0], self.window.padding);
                for (index, row) in rows.iter_mut().enumerate() {
                    *row = first + index * input.map.row;
                }
                let row = Row {
                    input: input.values,
                    rows: &rows,
                    channels: input.map.channels,
                    width,
                };
                let addend = addend.map(|it| (it.values, it.map.at([image, y, 0])));
                self.row(simd, row, addend, output.values, output.map.at([image, y, 0]));
            }
        }
    }

    /// Convolves a row of outputs, the first of which begins at `at`.
    pub fn row<S: Simd>(&self, simd: S, row: Row, addend: Option<(&[f32], usize)>, output: &mut [f32], at: usize) {
        let output = &mut output[at..][..row.width * row.channels];
        let limits = self.finish.limits().filter(|_| addend.is_none());
        simd.vectorize(
            #[inline(always)]
            || {
                let limits = limits.unwrap_or(UNLIMITED);
                match (self.window.kernel, self.window.stride) {
                    ([3, 3], [1, 1]) => self.square::<S, 3, 1>(simd, row, limits, output),
                    ([3, 3], [2, 2]) => self.square::<S, 3, 2>(simd, row, limits, output),
                    ([5, 5], [1, 1]) => self.square::<S, 5, 1>(simd, row, limits, output),
                    ([5, 5], [2, 2]) => self.square::<S, 5, 2>(simd, row, limits, output),
                    _ => self.any(simd, row, limits, output),
                }
            },
        );
        if limits.is_none() {
            self.finish.complete(simd, output, addend);
        }
    }

    /// A row of a filter of K×K at a stride of M.
    #[inline(always)]
    fn square<S: Simd, const K: usize, const M: usize>(&self, simd: S, row: Row, limits: Limits, output: &mut [f32]) {
        let mut x = 0;
        while x < row.width {
            // The last positions are computed with some of those before them again.
            if row.width >= TILE {
                let first = x.min(row.width - TILE);
                self.tile::<S, K, M, TILE>(simd, row, first, limits, output);
                x = first + TILE;
            } else {
                self.tile::<S, K, M, 1>(simd, row, x, limits, output);
                x += 1;
            }
        }
    }

    /// `T` positions from `x` on.
    #[inline(always)]
    fn tile<S: Simd, const K: usize, const M: usize, const T: usize>(
        &self,
        simd: S,
        Row {
            input, rows, channels, ..
        }: Row,
        x: usize,
        limits: Limits,
        output: &mut [f32],
    ) {
        let Some(rows) = rows.first_chunk::<K>() else { return };
        // Slices of the same length, so that one check of a channel holds for all, and nothing comes between the sums.
        let mut seen = [[input; MOST_COLUMNS]; K];
        for (seen, start) in seen.iter_mut().zip(rows) {
            let row = &input[start + x * M * channels..];
            for (column, it) in seen.iter_mut().take((T - 1) * M + K).enumerate() {
                *it = &row[column * channels..][..channels];
            }
        }
        let mut rest = &mut output[x * channels..];
        let mut outputs = [(); T].map(
            #[inline(always)]
            |()| {
                let (first, others) = std::mem::take(&mut rest).split_at_mut(channels);
                rest = others;
                first
            },
        );
        let filters = self.weights.chunks_exact(K * K * S::f32s::LEN);
        let biases = self.finish.bias.chunks_exact(S::f32s::LEN);
        for ((channel, filter), bias) in (0..channels).step_by(S::f32s::LEN).zip(filters).zip(biases) {
            let mut sums = [load(simd, bias, 0); T];
            for (y, row) in seen.iter().enumerate() {
                let mut taps = [zero(simd); K];
                for (tap, it) in taps.iter_mut().enumerate() {
                    *it = load(simd, filter, (y * K + tap) * S::f32s::LEN);
                }
                for (column, values) in row.iter().take((T - 1) * M + K).enumerate() {
                    let value = load(simd, values, channel);
                    for (position, sum) in sums.iter_mut().enumerate() {
                        if (position * M..position * M + K).contains(&column) {
                            *sum = taps[column - position * M].mul_add(value, *sum);
                        }
                    }
                }
            }
            for (sum, output) in sums.iter().zip(&mut outputs) {
                store::<S>(limit(simd, limits, *sum), output, channel);
            }
        }
    }

    /// A row of any filter.
    #[inline(always)]
    fn any<S: Simd>(&self, simd: S, row: Row, limits: Limits, output: &mut [f32]) {
        let [height, width] = self.window.kernel;
        let filters = self.weights.chunks_exact(height * width * S::f32s::LEN);
        for (channel, filter) in (0..row.channels).step_by(S::f32s::LEN).zip(filters) {
            for x in 0..row.width {
                let mut sum = load(simd, &self.finish.bias, channel);
                for (y, start) in row.rows.iter().enumerate() {
                    for column in 0..width {
                        let from = start + (x * self.window.stride[1] + column) * row.channels + channel;
                        let tap = load(simd, filter, (y * width + column) * S::f32s::LEN);
                        sum = tap.mul_add(load(simd, row.input, from), sum);
                    }
                }
                store::<S>(limit(simd, limits, sum), output, x * row.channels + channel);
            }
        }
    }
}
