//! Convolution of 3×3 with stride 1 by Winograd's minimal filtering F(2×2, 3×3).
//!
//! Four outputs take sixteen products instead of thirty-six: a tile of 4×4 inputs d and the filter g are transformed, multiplied value by
//! value and summed over the channels, which is sixteen matrix products, and transformed back: Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A.
//! (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, arXiv 1509.09308, section 4.1.)

use super::Filter;
use super::map::Map;
use super::simd::{BLOCK, Block, F32x4, GROUP, Sums, finish, load, multiply, store};

/// Values of a transformed tile.
const VALUES: usize = 16;

/// Tiles that are transformed before they are multiplied: their values stay in the nearest caches.
const TILES: usize = 16;

/// Transformed filters of a layer, in the order in which they are used.
#[derive(Debug)]
pub struct Winograd {
    /// `[output block][value][input channel]`.
    weights: Vec<Block>,
    bias: Vec<Block>,
    inputs: usize,
    relu: bool,
    /// Whether the largest of every 2×2 outputs is kept, which is one tile's.
    pub pool: bool,
}

impl Winograd {
    /// Transforms filters for a map of `inputs` channels in memory, a multiple of [`BLOCK`].
    pub fn new(filter: &Filter, inputs: usize) -> Self {
        let blocks = filter.outputs.div_ceil(BLOCK);
        let mut weights = vec![[0.0; BLOCK]; blocks * VALUES * inputs];
        for output in 0..filter.outputs {
            for input in 0..filter.inputs {
                let taps = std::array::from_fn(|y| std::array::from_fn(|x| filter.tap(output, input, y, x)));
                for (value, it) in transform_filter(taps).into_iter().enumerate() {
                    let block = (output / BLOCK * VALUES + value) * inputs + input;
                    weights[block][output % BLOCK] = it;
                }
            }
        }
        Self {
            weights,
            bias: filter.bias_blocks(),
            inputs,
            relu: filter.relu,
            pool: false,
        }
    }

    /// Convolves `input`, whose border is 1. `scratch` grows to what it needs.
    pub fn run(&self, input: &Map, output: &mut Map, scratch: &mut Vec<f32>) {
        let [rows, columns] = [input.shape.height().div_ceil(2), input.shape.width().div_ceil(2)];
        let tiles = rows * columns;
        scratch.resize(VALUES * TILES * self.inputs, 0.0);
        let mut sums = [[[F32x4::splat(0.0); 2]; TILES]; VALUES];
        for first in (0..tiles).step_by(TILES) {
            let count = TILES.min(tiles - first);
            let at = |tile| [(first + tile) / columns, (first + tile) % columns];
            for tile in 0..count {
                let [y, x] = at(tile);
                let start = 2 * y * input.row + 2 * x * input.channels;
                self.transform_tile(input, start, tile, scratch);
            }
            for (block, bias) in self.bias.iter().enumerate() {
                self.multiply(block, count, scratch, &mut sums);
                for tile in 0..count {
                    let values = sums.each_ref().map(|it| it[tile]);
                    self.write(transform_sums(values), bias, block, at(tile), output);
                }
            }
        }
    }

    /// Bᵀ d B for all channels of a tile.
    fn transform_tile(&self, input: &Map, start: usize, tile: usize, scratch: &mut [f32]) {
        let rows: [&[f32]; 4] = std::array::from_fn(|it| &input.values[start + it * input.row..][..4 * self.inputs]);
        let (scratch, _) = scratch.as_chunks_mut::<4>();
        let groups = self.inputs / 4;
        for group in 0..groups {
            let d = rows.map(|row| {
                let (row, _) = row.as_chunks::<4>();
                let d: [F32x4; 4] = std::array::from_fn(|x| F32x4::load(&row[x * groups + group]));
                input_line(d)
            });
            for x in 0..4 {
                let column = input_line([d[0][x], d[1][x], d[2][x], d[3][x]]);
                for (y, it) in column.into_iter().enumerate() {
                    it.store(&mut scratch[((y * 4 + x) * TILES + tile) * groups + group]);
                }
            }
        }
    }

    /// The sixteen matrix products for a block of output channels.
    fn multiply(&self, block: usize, count: usize, scratch: &[f32], sums: &mut [[Sums; TILES]; VALUES]) {
        let weights = self.weights[block * VALUES * self.inputs..].chunks_exact(self.inputs);
        let values = scratch.chunks_exact(TILES * self.inputs);
        for ((sums, weights), values) in sums.iter_mut().zip(weights).zip(values) {
            let (groups, _) = sums.as_chunks_mut::<GROUP>();
            let inputs = values.chunks_exact(GROUP * self.inputs);
            for (sums, inputs) in groups.iter_mut().zip(inputs).take(count.div_ceil(GROUP)) {
                *sums = [[F32x4::splat(0.0); 2]; GROUP];
                let inputs = std::array::from_fn(|it| &inputs[it * self.inputs..][..self.inputs]);
                multiply(weights, inputs, sums);
            }
        }
    }

    fn write(&self, tile: [[Sums; 2]; 2], bias: &Block, block: usize, [y, x]: [usize; 2], output: &mut Map) {
        let [height, width] = [output.shape.height(), output.shape.width()];
        let bias = load(bias);
        let mut put = |sums: Sums, y: usize, x: usize| {
            if y < height && x < width {
                let at = output.at(y, x) + block * BLOCK;
                if let Some(place) = output.values[at..].first_chunk_mut() {
                    store(finish(sums, bias, self.relu), place);
                }
            }
        };
        if self.pool {
            let [[a, b], [c, d]] = tile;
            put(larger(larger(a, b), larger(c, d)), y, x);
        } else {
            for (dy, line) in tile.into_iter().enumerate() {
                for (dx, sums) in line.into_iter().enumerate() {
                    put(sums, 2 * y + dy, 2 * x + dx);
                }
            }
        }
    }
}

#[inline(always)]
fn larger(a: Sums, b: Sums) -> Sums {
    [a[0].max(b[0]), a[1].max(b[1])]
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
fn input_line([a, b, c, d]: [F32x4; 4]) -> [F32x4; 4] {
    [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
}

/// Aᵀ m A: the 2×2 outputs of a tile.
#[inline(always)]
fn transform_sums(m: [Sums; VALUES]) -> [[Sums; 2]; 2] {
    let halves: [[[F32x4; 2]; 2]; 2] = std::array::from_fn(|half| {
        let rows: [[F32x4; 2]; 4] = std::array::from_fn(|y| output_line(std::array::from_fn(|x| m[y * 4 + x][half])));
        let columns: [[F32x4; 2]; 2] = std::array::from_fn(|x| output_line(rows.map(|it| it[x])));
        columns
    });
    std::array::from_fn(|y| std::array::from_fn(|x| [halves[0][x][y], halves[1][x][y]]))
}

/// A row of Aᵀ m.
#[inline(always)]
fn output_line([a, b, c, d]: [F32x4; 4]) -> [F32x4; 2] {
    [a.add(b).add(c), b.sub(c).sub(d)]
}
