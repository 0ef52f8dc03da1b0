//! Depthwise convolutions, which see one input channel for every output channel, and batch norms, which are those of 1×1.

use fearless_simd::prelude::*;
use split_graph::Window;

use super::finish::Finish;
use super::map::{Source, Target};
use super::simd::{load, zero};

/// Positions of a row that are computed together, so that their windows share inputs.
const TILE: usize = 4;

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
        simd.vectorize(
            #[inline(always)]
            || match (self.window.kernel, self.window.stride) {
                ([3, 3], [1, 1]) => self.square::<S, 3, 1>(simd, row, addend, output, at),
                ([3, 3], [2, 2]) => self.square::<S, 3, 2>(simd, row, addend, output, at),
                ([5, 5], [1, 1]) => self.square::<S, 5, 1>(simd, row, addend, output, at),
                ([5, 5], [2, 2]) => self.square::<S, 5, 2>(simd, row, addend, output, at),
                _ => self.any(simd, row, addend, output, at),
            },
        );
    }

    /// A row of a filter of K×K at a stride of M.
    #[inline(always)]
    fn square<S: Simd, const K: usize, const M: usize>(
        &self,
        simd: S,
        row: Row,
        addend: Option<(&[f32], usize)>,
        output: &mut [f32],
        at: usize,
    ) {
        let mut x = 0;
        while x < row.width {
            // The last positions are computed with some of those before them again.
            if row.width >= TILE {
                let first = x.min(row.width - TILE);
                self.tile::<S, K, M, TILE>(simd, row, first, addend, output, at);
                x = first + TILE;
            } else {
                self.tile::<S, K, M, 1>(simd, row, x, addend, output, at);
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
        addend: Option<(&[f32], usize)>,
        output: &mut [f32],
        at: usize,
    ) {
        let Some(rows) = rows.first_chunk::<K>() else { return };
        let seen = ((T - 1) * M + K) * channels;
        let mut seen_rows = [input; K];
        for (row, start) in seen_rows.iter_mut().zip(rows) {
            *row = &input[start + x * M * channels..][..seen];
        }
        let filters = self.weights.chunks_exact(K * K * S::f32s::LEN);
        for (channel, filter) in (0..channels).step_by(S::f32s::LEN).zip(filters) {
            let mut sums = [zero(simd); T];
            for (y, row) in seen_rows.iter().enumerate() {
                let mut taps = [zero(simd); K];
                for (tap, it) in taps.iter_mut().enumerate() {
                    *it = load(simd, filter, (y * K + tap) * S::f32s::LEN);
                }
                for column in 0..(T - 1) * M + K {
                    let value = load(simd, row, column * channels + channel);
                    for (position, sum) in sums.iter_mut().enumerate() {
                        if (position * M..position * M + K).contains(&column) {
                            *sum = taps[column - position * M].mul_add(value, *sum);
                        }
                    }
                }
            }
            for (position, sum) in sums.into_iter().enumerate() {
                let behind = (x + position) * channels;
                let addend = addend.map(
                    #[inline(always)]
                    |(values, at)| (values, at + behind),
                );
                self.finish.write(simd, sum, channel, addend, output, at + behind);
            }
        }
    }

    /// A row of any filter.
    #[inline(always)]
    fn any<S: Simd>(&self, simd: S, row: Row, addend: Option<(&[f32], usize)>, output: &mut [f32], at: usize) {
        let [height, width] = self.window.kernel;
        let filters = self.weights.chunks_exact(height * width * S::f32s::LEN);
        for (channel, filter) in (0..row.channels).step_by(S::f32s::LEN).zip(filters) {
            for x in 0..row.width {
                let mut sum = zero(simd);
                for (y, start) in row.rows.iter().enumerate() {
                    for column in 0..width {
                        let from = start + (x * self.window.stride[1] + column) * row.channels + channel;
                        let tap = load(simd, filter, (y * width + column) * S::f32s::LEN);
                        sum = tap.mul_add(load(simd, row.input, from), sum);
                    }
                }
                let behind = x * row.channels;
                let addend = addend.map(
                    #[inline(always)]
                    |(values, at)| (values, at + behind),
                );
                self.finish.write(simd, sum, channel, addend, output, at + behind);
            }
        }
    }
}
