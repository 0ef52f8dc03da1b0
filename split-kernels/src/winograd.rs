//! Convolution of 3×3 with stride 1 by Winograd's minimal filtering, F(2×2, 3×3) and F(4×4, 3×3).
//!
//! Four outputs take 16 products instead of 36, or sixteen take 36 instead of 144: a tile of inputs d and the filter g are transformed,
//! multiplied value by value and summed over the channels, which is as many matrix products, and transformed back:
//! Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A. (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, arXiv 1509.09308, section 4.)

use fearless_simd::prelude::*;
use split_graph::Padding;

use super::finish::Finish;
use super::map::{Map, Source, Target, place};
use super::product::{Panel, Place, Then, blocks, multiply};
use super::simd::{load, store, zero};
use super::{FAR_BYTES, Filter};

/// The longest side of a tile of inputs.
const LINE: usize = 6;

/// A row or column of a tile; what a shorter one does not have is zero.
type Line<S> = [<S as Simd>::f32s; LINE];

/// The transforms of F(m×m, 3×3).
trait Form {
    /// Outputs in a row of a tile, m.
    const OUTPUTS: usize;
    /// Inputs in a row of a tile.
    const INPUTS: usize = Self::OUTPUTS + 2;
    /// Values of a transformed tile.
    const VALUES: usize = Self::INPUTS * Self::INPUTS;

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
    outputs: usize,
    /// Input channels in memory.
    inputs: usize,
    finish: Finish,
    padding: Padding,
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

/// Bytes of transformed inputs that stay in a near cache until they are multiplied.
const NEAR_TILES_BYTES: usize = 128 << 10;

/// The most tiles that share one pass through weights from further away.
pub const MOST_TILES: usize = 32;

impl Size {
    fn outputs(self) -> usize {
        match self {
            Self::Small => Two::OUTPUTS,
            Self::Large => Four::OUTPUTS,
        }
    }

    /// Tiles of so many images with this many rows and columns of outputs.
    pub fn tiles(self, images: usize, [height, width]: [usize; 2]) -> usize {
        images * height.div_ceil(self.outputs()) * width.div_ceil(self.outputs())
    }

    /// Products of a tile for each pair of input and output channel.
    pub fn products(self) -> usize {
        (self.outputs() + 2) * (self.outputs() + 2)
    }

    /// The border that a map needs: whole tiles cover any output.
    pub fn border(self, padding: Padding, input: &Map, [height, width]: [usize; 2]) -> Padding {
        let behind =
            |outputs: usize, before, side| (outputs.next_multiple_of(self.outputs()) + 2).saturating_sub(before + side);
        Padding {
            bottom: behind(height, padding.top, input.shape.height()),
            right: behind(width, padding.left, input.shape.width()),
            ..padding
        }
    }
}

/// What one run of a layer works on.
struct Run<'a> {
    input: Source<'a>,
    output: Target<'a>,
    addend: Option<Source<'a>>,
    /// Transformed inputs, `[value][tile][input channel]`.
    values: &'a mut [f32],
    /// Their products with a block of weights, `[value][tile][output channel]`.
    products: &'a mut [f32],
}

impl Winograd {
    /// Transforms filters for maps of `channels` in memory, a multiple of `lanes`.
    pub fn new(filter: &Filter, finish: Finish, size: Size, pool: bool, channels: usize, lanes: usize) -> Self {
        let weights = match size {
            Size::Small => transform_filters::<Two>(filter, channels, lanes),
            Size::Large => transform_filters::<Four>(filter, channels, lanes),
        };
        Self {
            weights,
            outputs: filter.outputs,
            inputs: channels,
            finish,
            padding: filter.window.padding,
            size,
            pool,
        }
    }

    /// Convolves so many images. `scratch` grows to what it needs.
    pub fn run<S: Simd>(
        &self,
        simd: S,
        images: usize,
        input: Source,
        output: Target,
        addend: Option<Source>,
        scratch: &mut Vec<f32>,
    ) {
        simd.vectorize(
            #[inline(always)]
            || match self.size {
                Size::Small => self.run_as::<S, Two>(simd, images, input, output, addend, scratch),
                Size::Large => self.run_as::<S, Four>(simd, images, input, output, addend, scratch),
            },
        );
    }

    /// Rows of convolved values for each row that is written.
    pub fn scale(&self) -> usize {
        if self.pool { 2 } else { 1 }
    }

    /// How many tiles pass the weights together.
    fn tiles<F: Form>(&self, tiles: usize) -> usize {
        let far = size_of_val(&self.weights[..]) > FAR_BYTES;
        let near = NEAR_TILES_BYTES / (F::VALUES * self.inputs * size_of::<f32>());
        let most = if far { MOST_TILES } else { near.clamp(8, MOST_TILES) };
        tiles.div_ceil(tiles.div_ceil(most).max(1)).max(1)
    }

    #[inline(always)]
    fn run_as<S: Simd, F: Form>(
        &self,
        simd: S,
        images: usize,
        input: Source,
        output: Target,
        addend: Option<Source>,
        scratch: &mut Vec<f32>,
    ) {
        // With a pool behind it, the layer makes two rows and columns for each that is written.
        let sides = [output.map.shape.height(), output.map.shape.width()];
        let [rows, columns] = sides.map(|it| (it * self.scale()).div_ceil(F::OUTPUTS));
        let tiles = images * rows * columns;
        let chunk = self.tiles::<F>(tiles);
        let lanes = S::f32s::LEN;
        let widest = blocks(self.outputs, lanes)
            .map(|it| it.len() * lanes)
            .max()
            .unwrap_or(0);
        let (values, products) = (F::VALUES * chunk * self.inputs, F::VALUES * chunk * widest);
        if scratch.len() < values + products {
            scratch.resize(values + products, 0.0);
        }
        let (values, products) = scratch.split_at_mut(values);
        let mut run = Run {
            input,
            output,
            addend,
            values,
            products,
        };
        let mut places = [Place::default(); MOST_TILES];
        for first in (0..tiles).step_by(chunk) {
            let count = chunk.min(tiles - first);
            let at = |tile| {
                let [image, row, column] = place(first + tile, [rows, columns]);
                [image, row * F::OUTPUTS, column * F::OUTPUTS]
            };
            for tile in 0..count {
                self.transform_tile::<S, F>(simd, at(tile), [tile, count], &mut run);
            }
            for block in blocks(self.outputs, lanes) {
                let width = block.len() * lanes;
                for (tile, place) in places.iter_mut().take(count).enumerate() {
                    (place.input, place.output) = (tile * self.inputs, tile * width);
                }
                self.multiply_block::<S, F>(simd, block.start * lanes, block.len(), &places[..count], &mut run);
                for tile in 0..count {
                    for index in 0..block.len() {
                        let from = tile * width + index * lanes;
                        let outputs = transform_products::<S, F>(simd, &run.products[from..], count * width);
                        self.write::<S, F>(simd, outputs, (block.start + index) * lanes, at(tile), &mut run);
                    }
                }
            }
        }
    }

    /// Bᵀ d B for all channels of a tile, one of some.
    #[inline(always)]
    fn transform_tile<S: Simd, F: Form>(&self, simd: S, at: [usize; 3], [tile, tiles]: [usize; 2], run: &mut Run) {
        let Source { map, values } = run.input;
        let start = map.window(at, self.padding);
        for channel in (0..self.inputs).step_by(S::f32s::LEN) {
            let mut columns = [[zero(simd); LINE]; LINE];
            for y in 0..F::INPUTS {
                let mut row = [zero(simd); LINE];
                for (x, it) in row.iter_mut().take(F::INPUTS).enumerate() {
                    *it = load(simd, values, start + y * map.row + x * self.inputs + channel);
                }
                for (column, it) in columns.iter_mut().zip(F::input(simd, row)) {
                    column[y] = it;
                }
            }
            for (x, column) in columns.into_iter().take(F::INPUTS).enumerate() {
                for (y, it) in F::input(simd, column).into_iter().take(F::INPUTS).enumerate() {
                    let value = y * F::INPUTS + x;
                    store::<S>(it, run.values, (value * tiles + tile) * self.inputs + channel);
                }
            }
        }
    }

    /// The matrix products of all values for a block of output channels.
    #[inline(always)]
    fn multiply_block<S: Simd, F: Form>(
        &self,
        simd: S,
        channel: usize,
        vectors: usize,
        places: &[Place],
        run: &mut Run,
    ) {
        let width = vectors * S::f32s::LEN;
        let weights = self.weights[channel * F::VALUES * self.inputs..].chunks_exact(self.inputs * width);
        let values = run.values.chunks_exact(places.len() * self.inputs);
        let products = run.products.chunks_exact_mut(places.len() * width);
        for ((weights, values), products) in weights.zip(values).zip(products).take(F::VALUES) {
            let panel = Panel {
                weights,
                vectors,
                stretches: [1, 1],
                steps: [0, 0],
                run: self.inputs,
            };
            multiply(simd, &panel, places, values, products, Then::Store);
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
        run: &mut Run,
    ) {
        if self.pool {
            for dy in 0..F::OUTPUTS / 2 {
                for dx in 0..F::OUTPUTS / 2 {
                    let [upper, lower] = [tile[2 * dy], tile[2 * dy + 1]];
                    let upper = upper[2 * dx].max(upper[2 * dx + 1]);
                    let largest = upper.max(lower[2 * dx].max(lower[2 * dx + 1]));
                    self.put(simd, largest, channel, [image, y / 2 + dy, x / 2 + dx], run);
                }
            }
        } else {
            for (dy, line) in tile.into_iter().take(F::OUTPUTS).enumerate() {
                for (dx, sum) in line.into_iter().take(F::OUTPUTS).enumerate() {
                    self.put(simd, sum, channel, [image, y + dy, x + dx], run);
                }
            }
        }
    }

    /// Writes a vector at a place, if that is inside the map.
    #[inline(always)]
    fn put<S: Simd>(&self, simd: S, sum: S::f32s, channel: usize, place: [usize; 3], run: &mut Run) {
        let Target { map, values } = &mut run.output;
        if place[1] < map.shape.height() && place[2] < map.shape.width() {
            let addend = run.addend.map(
                #[inline(always)]
                |it| (it.values, it.map.at(place)),
            );
            self.finish.write(simd, sum, channel, addend, values, map.at(place));
        }
    }
}

/// G g Gᵀ of all filters.
fn transform_filters<F: Form>(filter: &Filter, channels: usize, lanes: usize) -> Vec<f32> {
    let mut weights = vec![0.0; filter.outputs.next_multiple_of(lanes) * F::VALUES * channels];
    for vectors in blocks(filter.outputs, lanes) {
        let (start, width) = (vectors.start * lanes, vectors.len() * lanes);
        let weights = &mut weights[start * F::VALUES * channels..];
        // What is written lies side by side, in as many places as a tile has values.
        for input in 0..filter.inputs {
            for output in start..(vectors.end * lanes).min(filter.outputs) {
                let rows: [_; 3] =
                    std::array::from_fn(|y| F::filter(std::array::from_fn(|x| filter.tap(output, input, y, x))));
                for x in 0..F::INPUTS {
                    let column = F::filter(rows.map(|row| row[x]));
                    for (y, it) in column.into_iter().take(F::INPUTS).enumerate() {
                        weights[((y * F::INPUTS + x) * channels + input) * width + output - start] = it;
                    }
                }
            }
        }
    }
    weights
}

/// Aᵀ m A: the outputs of a tile, whose products lie `step` apart.
#[inline(always)]
fn transform_products<S: Simd, F: Form>(simd: S, values: &[f32], step: usize) -> [Line<S>; LINE] {
    let mut columns = [[zero(simd); LINE]; LINE];
    for y in 0..F::INPUTS {
        let mut row = [zero(simd); LINE];
        for (x, it) in row.iter_mut().take(F::INPUTS).enumerate() {
            *it = load(simd, values, (y * F::INPUTS + x) * step);
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
