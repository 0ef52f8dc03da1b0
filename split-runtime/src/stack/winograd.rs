//! Convolution of 3×3 with stride 1 by Winograd's minimal filtering F(2×2, 3×3).
//!
//! Four outputs take sixteen products instead of thirty-six: a tile of 4×4 inputs d and the filter g are transformed, multiplied value by
//! value and summed over the channels, which is sixteen matrix products, and transformed back: Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A.
//! (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, arXiv 1509.09308, section 4.1.)

use fearless_simd::prelude::*;

use super::Filter;
use super::map::Map;
use super::simd::{BLOCK, GROUP, finish, load, multiply, store, zero};

/// Values of a transformed tile.
const VALUES: usize = 16;

/// Tiles that are transformed before they are multiplied: their values stay in the nearest caches.
const TILES: usize = 16;

/// Products of a block of output channels, of every value at every tile.
type Products<S> = [[[<S as Simd>::f32s; BLOCK]; TILES]; VALUES];

/// Transformed filters of a layer, in the order in which they are used.
#[derive(Debug)]
pub struct Winograd {
    /// `[output block][value][input channel][output channel]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
    relu: bool,
    /// Whether the largest of every 2×2 outputs is kept, which is one tile's.
    pub pool: bool,
}

impl Winograd {
    /// Transforms filters for a map of `inputs` channels in memory, a multiple of `lanes`.
    pub fn new(filter: &Filter, inputs: usize, lanes: usize) -> Self {
        let weights = filter.arrange(lanes, VALUES * inputs, |output, place| {
            for input in 0..filter.inputs {
                let taps = std::array::from_fn(|y| std::array::from_fn(|x| filter.tap(output, input, y, x)));
                for (value, it) in transform_filter(taps).into_iter().enumerate() {
                    place(value * inputs + input, it);
                }
            }
        });
        Self {
            weights,
            bias: filter.bias(lanes),
            inputs,
            relu: filter.relu,
            pool: false,
        }
    }

    /// Convolves `input`, whose border is 1. `scratch` grows to what it needs.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, input: &Map, output: &mut Map, scratch: &mut Vec<f32>) {
        let [rows, columns] = [input.shape.height().div_ceil(2), input.shape.width().div_ceil(2)];
        let tiles = rows * columns;
        let vectors = self.bias.len() / S::f32s::LEN;
        scratch.resize(VALUES * TILES * self.inputs, 0.0);
        let mut products: Products<S> = [[[zero(simd); BLOCK]; TILES]; VALUES];
        for first in (0..tiles).step_by(TILES) {
            let count = TILES.min(tiles - first);
            let at = |tile| [(first + tile) / columns, (first + tile) % columns];
            for tile in 0..count {
                let [y, x] = at(tile);
                let start = 2 * y * input.row + 2 * x * input.channels;
                self.transform_tile(simd, input, start, tile, scratch);
            }
            for vector in (0..vectors).step_by(BLOCK) {
                let block = BLOCK.min(vectors - vector);
                if block == BLOCK {
                    self.multiply::<S, BLOCK>(simd, vector, count, scratch, &mut products);
                } else {
                    self.multiply::<S, 1>(simd, vector, count, scratch, &mut products);
                }
                for tile in 0..count {
                    for index in 0..block {
                        let mut values = [zero(simd); VALUES];
                        for (value, products) in values.iter_mut().zip(&products) {
                            *value = products[tile][index];
                        }
                        let channel = (vector + index) * S::f32s::LEN;
                        self.write(simd, transform_products::<S>(values), channel, at(tile), output);
                    }
                }
            }
        }
    }

    /// Bᵀ d B for all channels of a tile.
    #[inline(always)]
    fn transform_tile<S: Simd>(&self, simd: S, input: &Map, start: usize, tile: usize, scratch: &mut [f32]) {
        for channel in (0..self.inputs).step_by(S::f32s::LEN) {
            let mut d = [[zero(simd); 4]; 4];
            for (y, row) in d.iter_mut().enumerate() {
                for (x, it) in row.iter_mut().enumerate() {
                    *it = load(simd, &input.values, start + y * input.row + x * self.inputs + channel);
                }
                *row = input_line::<S>(*row);
            }
            let [a, b, c, d] = d;
            for (x, (((a, b), c), d)) in a.into_iter().zip(b).zip(c).zip(d).enumerate() {
                let column = input_line::<S>([a, b, c, d]);
                for (y, it) in column.into_iter().enumerate() {
                    let value = y * 4 + x;
                    store::<S>(it, scratch, (value * TILES + tile) * self.inputs + channel);
                }
            }
        }
    }

    /// The sixteen matrix products for `V` vectors of output channels.
    #[inline(always)]
    fn multiply<S: Simd, const V: usize>(
        &self,
        simd: S,
        vector: usize,
        count: usize,
        scratch: &[f32],
        products: &mut Products<S>,
    ) {
        let weights = &self.weights[vector * S::f32s::LEN * VALUES * self.inputs..];
        let weights = weights.chunks_exact(self.inputs * V * S::f32s::LEN);
        let values = scratch.chunks_exact(TILES * self.inputs);
        for ((products, weights), values) in products.iter_mut().zip(weights).zip(values) {
            let (groups, _) = products.as_chunks_mut::<GROUP>();
            let inputs = values.chunks_exact(GROUP * self.inputs);
            for (products, inputs) in groups.iter_mut().zip(inputs).take(count.div_ceil(GROUP)) {
                let mut sums = [[zero(simd); V]; GROUP];
                let inputs = std::array::from_fn(|it| &inputs[it * self.inputs..][..self.inputs]);
                multiply(simd, weights, inputs, &mut sums);
                for (products, sums) in products.iter_mut().zip(sums) {
                    products[..V].copy_from_slice(&sums);
                }
            }
        }
    }

    /// Writes a tile of a vector of output channels.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, tile: [[S::f32s; 2]; 2], channel: usize, [y, x]: [usize; 2], output: &mut Map) {
        let [height, width] = [output.shape.height(), output.shape.width()];
        let bias = load(simd, &self.bias, channel);
        if self.pool {
            let [[a, b], [c, d]] = tile;
            if y < height && x < width {
                let at = output.at([y, x]) + channel;
                let largest = a.max(b).max(c.max(d));
                store::<S>(finish(simd, largest, bias, self.relu), &mut output.values, at);
            }
            return;
        }
        for (y, line) in (2 * y..height).zip(tile) {
            for (x, sum) in (2 * x..width).zip(line) {
                let at = output.at([y, x]) + channel;
                store::<S>(finish(simd, sum, bias, self.relu), &mut output.values, at);
            }
        }
    }
}

/// G g Gᵀ.
fn transform_filter(taps: [[f32; 3]; 3]) -> [f32; VALUES] {
    let line = |[a, b, c]: [f32; 3]| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let rows = taps.map(line);
    let columns: [[f32; 4]; 4] = std::array::from_fn(|x| line([rows[0][x], rows[1][x], rows[2][x]]));
    std::array::from_fn(|it| columns[it % 4][it / 4])
}

/// A row of Bᵀ d.
#[inline(always)]
fn input_line<S: Simd>([a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
    [a - c, b + c, c - b, b - d]
}

/// Aᵀ m A: the 2×2 outputs of a tile.
#[inline(always)]
fn transform_products<S: Simd>(m: [S::f32s; VALUES]) -> [[S::f32s; 2]; 2] {
    let [a, b] = [0, 1].map(|x| {
        let line = |y: usize| output_line::<S>([m[y * 4], m[y * 4 + 1], m[y * 4 + 2], m[y * 4 + 3]])[x];
        output_line::<S>([line(0), line(1), line(2), line(3)])
    });
    [[a[0], b[0]], [a[1], b[1]]]
}

/// A row of Aᵀ m.
#[inline(always)]
fn output_line<S: Simd>([a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
    [a + b + c, b - c - d]
}
