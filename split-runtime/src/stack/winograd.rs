//! Convolution of 3×3 with stride 1 by Winograd's minimal filtering, F(2×2, 3×3) and F(4×4, 3×3).
//!
//! Four outputs take 16 products instead of 36, or sixteen take 36 instead of 144: a tile of inputs d and the filter g are transformed,
//! multiplied value by value and summed over the channels, which is as many matrix products, and transformed back:
//! Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A. (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, arXiv 1509.09308, section 4.)

use fearless_simd::prelude::*;

use super::Filter;
use super::map::{Map, place};
use super::simd::{BLOCK, GROUP, finish, load, multiply, store, zero};

/// The longest side of a tile of inputs.
const LINE: usize = 6;

/// A row or column of a tile; what a shorter one does not have is zero.
type Line<S> = [<S as Simd>::f32s; LINE];

/// Products of a block of output channels, of every value at every tile.
type Products<S> = [[<S as Simd>::f32s; BLOCK]; PRODUCTS];

/// The most that `VALUES * TILES` of a form is.
const PRODUCTS: usize = 288;

/// The transforms of F(m×m, 3×3).
trait Form {
    /// Outputs in a row of a tile, m.
    const OUTPUTS: usize;
    /// Inputs in a row of a tile.
    const INPUTS: usize = Self::OUTPUTS + 2;
    /// Values of a transformed tile.
    const VALUES: usize = Self::INPUTS * Self::INPUTS;
    /// Tiles that are transformed before they are multiplied: their values stay in the nearest caches.
    const TILES: usize;

    /// A column of G g.
    fn filter(taps: [f32; 3]) -> [f32; LINE];
    /// A column of Bᵀ d.
    fn input<S: Simd>(simd: S, line: Line<S>) -> Line<S>;
    /// A column of Aᵀ m.
    fn output<S: Simd>(simd: S, line: Line<S>) -> Line<S>;
}

/// F(2×2, 3×3).
struct Two;

impl Form for Two {
    const OUTPUTS: usize = 2;
    const TILES: usize = 16;

    fn filter([a, b, c]: [f32; 3]) -> [f32; LINE] {
        [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c, 0.0, 0.0]
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, ..]: Line<S>) -> Line<S> {
        [a - c, b + c, c - b, b - d, zero(simd), zero(simd)]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, ..]: Line<S>) -> Line<S> {
        let [e, f] = [zero(simd); 2];
        [a + b + c, b - c - d, e, f, e, f]
    }
}

/// F(4×4, 3×3).
struct Four;

impl Form for Four {
    const OUTPUTS: usize = 4;
    const TILES: usize = 8;

    fn filter([a, b, c]: [f32; 3]) -> [f32; LINE] {
        let (near, far) = (a + c, a + 4.0 * c);
        [
            a / 4.0,
            (near + b) / -6.0,
            (near - b) / -6.0,
            (far + 2.0 * b) / 24.0,
            (far - 2.0 * b) / 24.0,
            c,
        ]
    }

    #[inline(always)]
    fn input<S: Simd>(_: S, [a, b, c, d, e, f]: Line<S>) -> Line<S> {
        let [ce, bd] = [e - c * 4.0, d - b * 4.0];
        let [near, far] = [e - c, (d - b) * 2.0];
        [
            (a - c) * 4.0 + near,
            ce + bd,
            ce - bd,
            near + far,
            near - far,
            f - d - far * 2.0,
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, e, f]: Line<S>) -> Line<S> {
        let [near, far] = [b + c, d + e];
        let [left, right] = [b - c, d - e];
        let [y, z] = [zero(simd); 2];
        [
            a + near + far,
            left + right * 2.0,
            near + far * 4.0,
            left + right * 8.0 + f,
            y,
            z,
        ]
    }
}

/// Transformed filters of a layer, in the order in which they are used.
#[derive(Debug)]
pub struct Winograd {
    /// `[output block][value][input channel][output channel]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
    relu: bool,
    size: Size,
    /// Whether the largest of every 2×2 outputs is kept.
    pool: bool,
}

/// Outputs of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// 2×2.
    Small,
    /// 4×4.
    Large,
}

impl Size {
    /// Products for each pair of input and output channel, for so many images of so many rows and columns.
    ///
    /// Large tiles save more of them, but a small map does not fill a group of tiles.
    pub fn products(self, images: usize, [height, width]: [usize; 2]) -> usize {
        let outputs = match self {
            Self::Small => Two::OUTPUTS,
            Self::Large => Four::OUTPUTS,
        };
        let tiles = images * height.div_ceil(outputs) * width.div_ceil(outputs);
        tiles.next_multiple_of(GROUP) * (outputs + 2) * (outputs + 2)
    }
}

impl Winograd {
    /// Transforms filters for maps of `inputs` channels in memory, a multiple of `lanes`.
    pub fn new(filter: &Filter, size: Size, pool: bool, inputs: usize, lanes: usize) -> Self {
        let weights = match size {
            Size::Small => transform_filters::<Two>(filter, inputs, lanes),
            Size::Large => transform_filters::<Four>(filter, inputs, lanes),
        };
        Self {
            weights,
            bias: filter.bias(lanes),
            inputs,
            relu: filter.relu,
            size,
            pool,
        }
    }

    /// Convolves so many images of `input`, whose border is 1. `scratch` grows to what it needs.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, images: usize, input: &Map, output: &mut Map, scratch: &mut Vec<f32>) {
        match self.size {
            Size::Small => self.run_as::<S, Two>(simd, images, input, output, scratch),
            Size::Large => self.run_as::<S, Four>(simd, images, input, output, scratch),
        }
    }

    #[inline(always)]
    fn run_as<S: Simd, F: Form>(&self, simd: S, images: usize, input: &Map, output: &mut Map, scratch: &mut Vec<f32>) {
        let [rows, columns] = [input.shape.height(), input.shape.width()].map(|it| it.div_ceil(F::OUTPUTS));
        let tiles = images * rows * columns;
        let vectors = self.bias.len() / S::f32s::LEN;
        let needed = F::VALUES * F::TILES * self.inputs;
        if scratch.len() < needed {
            scratch.resize(needed, 0.0);
        }
        let mut products: Products<S> = [[zero(simd); BLOCK]; PRODUCTS];
        for first in (0..tiles).step_by(F::TILES) {
            let count = F::TILES.min(tiles - first);
            let at = |tile| {
                let [image, row, column] = place(first + tile, [rows, columns]);
                [image, row * F::OUTPUTS, column * F::OUTPUTS]
            };
            for tile in 0..count {
                let [image, y, x] = at(tile);
                let start = image * input.image + y * input.row + x * input.channels;
                self.transform_tile::<S, F>(simd, input, start, tile, scratch);
            }
            for vector in (0..vectors).step_by(BLOCK) {
                let block = BLOCK.min(vectors - vector);
                if block == BLOCK {
                    self.multiply::<S, F, BLOCK>(simd, vector, count, scratch, &mut products);
                } else {
                    self.multiply::<S, F, 1>(simd, vector, count, scratch, &mut products);
                }
                for tile in 0..count {
                    #[expect(
                        clippy::needless_range_loop,
                        reason = "`index` is the second index of each of the products"
                    )]
                    for index in 0..block {
                        let values = |value: usize| products[value * F::TILES + tile][index];
                        let outputs = transform_products::<S, F>(simd, values);
                        let channel = (vector + index) * S::f32s::LEN;
                        self.write::<S, F>(simd, outputs, channel, at(tile), output);
                    }
                }
            }
        }
    }

    /// Bᵀ d B for all channels of a tile.
    #[inline(always)]
    fn transform_tile<S: Simd, F: Form>(&self, simd: S, input: &Map, start: usize, tile: usize, scratch: &mut [f32]) {
        for channel in (0..self.inputs).step_by(S::f32s::LEN) {
            let mut columns = [[zero(simd); LINE]; LINE];
            for y in 0..F::INPUTS {
                let mut row = [zero(simd); LINE];
                for (x, it) in row.iter_mut().take(F::INPUTS).enumerate() {
                    *it = load(simd, &input.values, start + y * input.row + x * self.inputs + channel);
                }
                for (column, it) in columns.iter_mut().zip(F::input(simd, row)) {
                    column[y] = it;
                }
            }
            for (x, column) in columns.into_iter().take(F::INPUTS).enumerate() {
                for (y, it) in F::input(simd, column).into_iter().take(F::INPUTS).enumerate() {
                    let value = y * F::INPUTS + x;
                    store::<S>(it, scratch, (value * F::TILES + tile) * self.inputs + channel);
                }
            }
        }
    }

    /// The matrix products of all values for `V` vectors of output channels.
    #[inline(always)]
    fn multiply<S: Simd, F: Form, const V: usize>(
        &self,
        simd: S,
        vector: usize,
        count: usize,
        scratch: &[f32],
        products: &mut Products<S>,
    ) {
        let weights = &self.weights[vector * S::f32s::LEN * F::VALUES * self.inputs..];
        let weights = weights.chunks_exact(self.inputs * V * S::f32s::LEN);
        let values = scratch.chunks_exact(F::TILES * self.inputs);
        for ((products, weights), values) in products.chunks_exact_mut(F::TILES).zip(weights).zip(values) {
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

    /// Writes a vector of output channels of the tile whose first output is at `y`, `x` of an image.
    #[inline(always)]
    fn write<S: Simd, F: Form>(
        &self,
        simd: S,
        tile: [Line<S>; LINE],
        channel: usize,
        [image, y, x]: [usize; 3],
        output: &mut Map,
    ) {
        let bias = load(simd, &self.bias, channel);
        let mut put = |y: usize, x: usize, sum: S::f32s| {
            if y < output.shape.height() && x < output.shape.width() {
                let at = output.at([image, y, x]) + channel;
                store::<S>(finish(simd, sum, bias, self.relu), &mut output.values, at);
            }
        };
        if self.pool {
            for dy in 0..F::OUTPUTS / 2 {
                for dx in 0..F::OUTPUTS / 2 {
                    let [upper, lower] = [tile[2 * dy], tile[2 * dy + 1]];
                    let largest = |line: Line<S>| line[2 * dx].max(line[2 * dx + 1]);
                    put(y / 2 + dy, x / 2 + dx, largest(upper).max(largest(lower)));
                }
            }
        } else {
            for (dy, line) in tile.into_iter().take(F::OUTPUTS).enumerate() {
                for (dx, sum) in line.into_iter().take(F::OUTPUTS).enumerate() {
                    put(y + dy, x + dx, sum);
                }
            }
        }
    }
}

/// G g Gᵀ of all filters.
fn transform_filters<F: Form>(filter: &Filter, inputs: usize, lanes: usize) -> Vec<f32> {
    filter.arrange(lanes, F::VALUES * inputs, |output, place| {
        for input in 0..filter.inputs {
            let rows: [_; 3] =
                std::array::from_fn(|y| F::filter(std::array::from_fn(|x| filter.tap(output, input, y, x))));
            for x in 0..F::INPUTS {
                let column = F::filter(rows.map(|row| row[x]));
                for (y, it) in column.into_iter().take(F::INPUTS).enumerate() {
                    place((y * F::INPUTS + x) * inputs + input, it);
                }
            }
        }
    })
}

/// Aᵀ m A: the outputs of a tile.
#[inline(always)]
fn transform_products<S: Simd, F: Form>(simd: S, values: impl Fn(usize) -> S::f32s) -> [Line<S>; LINE] {
    let mut columns = [[zero(simd); LINE]; LINE];
    for y in 0..F::INPUTS {
        let mut row = [zero(simd); LINE];
        for (x, it) in row.iter_mut().take(F::INPUTS).enumerate() {
            *it = values(y * F::INPUTS + x);
        }
        for (column, it) in columns.iter_mut().zip(F::output(simd, row)) {
            column[y] = it;
        }
    }
    let mut tile = [[zero(simd); LINE]; LINE];
    for (x, column) in columns.into_iter().take(F::OUTPUTS).enumerate() {
        for (line, it) in tile.iter_mut().zip(F::output(simd, column)) {
            line[x] = it;
        }
    }
    tile
}
