//! Any other convolution, and max pooling, straight from their definitions.

use super::Filter;
use super::map::Map;
use super::simd::{BLOCK, Block, F32x4, GROUP, finish, load, multiply, store};

/// Filters of a layer, in the order in which they are used.
#[derive(Debug)]
pub struct Direct {
    /// `[output block][row][column][input channel]`.
    weights: Vec<Block>,
    bias: Vec<Block>,
    /// Rows of the filter.
    height: usize,
    /// Values of the input under a row of the filter.
    run: usize,
    stride: usize,
    relu: bool,
}

impl Direct {
    /// Orders filters for a map of `inputs` channels in memory.
    pub fn new(filter: &Filter, inputs: usize) -> Self {
        let [height, width] = filter.kernel;
        let blocks = filter.outputs.div_ceil(BLOCK);
        let mut weights = vec![[0.0; BLOCK]; blocks * height * width * inputs];
        for output in 0..filter.outputs {
            for input in 0..filter.inputs {
                for y in 0..height {
                    for x in 0..width {
                        let at = ((output / BLOCK * height + y) * width + x) * inputs + input;
                        weights[at][output % BLOCK] = filter.tap(output, input, y, x);
                    }
                }
            }
        }
        Self {
            weights,
            bias: filter.bias_blocks(),
            height,
            run: width * inputs,
            stride: filter.stride,
            relu: filter.relu,
        }
    }

    /// Convolves `input`, whose border is the padding.
    pub fn run(&self, input: &Map, output: &mut Map) {
        let width = output.shape.width();
        let positions = output.shape.height() * width;
        for first in (0..positions).step_by(GROUP) {
            // A last group that is not full computes its last position several times.
            let at: [[usize; 2]; GROUP] = std::array::from_fn(|it| {
                let position = (first + it).min(positions - 1);
                [position / width, position % width]
            });
            let starts = at.map(|[y, x]| self.stride * (y * input.row + x * input.channels));
            let blocks = self.weights.chunks_exact(self.height * self.run);
            for (block, (weights, bias)) in blocks.zip(&self.bias).enumerate() {
                let mut sums = [[F32x4::splat(0.0); 2]; GROUP];
                for (row, weights) in weights.chunks_exact(self.run).enumerate() {
                    let inputs = starts.map(|it| &input.values[it + row * input.row..][..self.run]);
                    multiply(weights, inputs, &mut sums);
                }
                for (sums, [y, x]) in sums.into_iter().zip(at) {
                    let at = output.at(y, x) + block * BLOCK;
                    if let Some(place) = output.values[at..].first_chunk_mut() {
                        store(finish(sums, load(bias), self.relu), place);
                    }
                }
            }
        }
    }
}

/// Keeps the largest value of every window, channel by channel.
pub fn max_pool(input: &Map, kernel: usize, stride: usize, output: &mut Map) {
    let channels = input.channels;
    for y in 0..output.shape.height() {
        for x in 0..output.shape.width() {
            let at = output.at(y, x);
            let largest = &mut output.values[at..][..channels];
            largest.fill(f32::NEG_INFINITY);
            for dy in 0..kernel {
                for dx in 0..kernel {
                    let values = &input.values[input.at(y * stride + dy, x * stride + dx)..][..channels];
                    for (largest, value) in largest.iter_mut().zip(values) {
                        *largest = largest.max(*value);
                    }
                }
            }
        }
    }
}
