//! Any other convolution, and max pooling, straight from their definitions.

use fearless_simd::prelude::*;

use super::Filter;
use super::map::{Map, place};
use super::simd::{BLOCK, GROUP, finish, load, multiply, store, zero};

/// Filters of a layer, in the order in which they are used.
#[derive(Debug)]
pub struct Direct {
    /// `[output block][row][column][input channel][output channel]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Rows of the filter.
    height: usize,
    /// Values of the input under a row of the filter.
    run: usize,
    stride: usize,
    relu: bool,
}

impl Direct {
    /// Orders filters for a map of `inputs` channels in memory.
    pub fn new(filter: &Filter, inputs: usize, lanes: usize) -> Self {
        let [height, width] = filter.kernel;
        let weights = filter.arrange(lanes, height * width * inputs, |output, place| {
            for input in 0..filter.inputs {
                for y in 0..height {
                    for x in 0..width {
                        place((y * width + x) * inputs + input, filter.tap(output, input, y, x));
                    }
                }
            }
        });
        Self {
            weights,
            bias: filter.bias(lanes),
            height,
            run: width * inputs,
            stride: filter.stride,
            relu: filter.relu,
        }
    }

    /// Convolves so many images of `input`, whose border is the padding.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, images: usize, input: &Map, output: &mut Map) {
        let [_, height, width] = output.shape.into();
        let positions = images * height * width;
        let vectors = self.bias.len() / S::f32s::LEN;
        for first in (0..positions).step_by(GROUP) {
            // A last group that is not full computes its last position several times.
            let at: [[usize; 3]; GROUP] =
                std::array::from_fn(|it| place((first + it).min(positions - 1), [height, width]));
            for vector in (0..vectors).step_by(BLOCK) {
                if vector + BLOCK <= vectors {
                    self.block::<S, BLOCK>(simd, vector, at, input, output);
                } else {
                    self.block::<S, 1>(simd, vector, at, input, output);
                }
            }
        }
    }

    /// `V` vectors of output channels at a group of positions.
    #[inline(always)]
    fn block<S: Simd, const V: usize>(
        &self,
        simd: S,
        vector: usize,
        at: [[usize; 3]; GROUP],
        input: &Map,
        output: &mut Map,
    ) {
        let row = self.run * V * S::f32s::LEN;
        let weights = &self.weights[vector * S::f32s::LEN * self.height * self.run..];
        let starts = at.map(|[image, y, x]| image * input.image + self.stride * (y * input.row + x * input.channels));
        let mut sums = [[zero(simd); V]; GROUP];
        for (index, weights) in weights.chunks_exact(row).take(self.height).enumerate() {
            let inputs = starts.map(|it| &input.values[it + index * input.row..][..self.run]);
            multiply(simd, weights, inputs, &mut sums);
        }
        for (sums, at) in sums.into_iter().zip(at) {
            let start = output.at(at);
            for (index, sum) in sums.into_iter().enumerate() {
                let channel = (vector + index) * S::f32s::LEN;
                let bias = load(simd, &self.bias, channel);
                let result = finish(simd, sum, bias, self.relu);
                store::<S>(result, &mut output.values, start + channel);
            }
        }
    }
}

/// Keeps the largest value of every window, channel by channel.
#[inline(always)]
pub fn max_pool(images: usize, input: &Map, kernel: usize, stride: usize, output: &mut Map) {
    let (channels, [_, height, width]) = (input.channels, output.shape.into());
    for position in 0..images * height * width {
        let [image, y, x] = place(position, [height, width]);
        let at = output.at([image, y, x]);
        let largest = &mut output.values[at..][..channels];
        largest.fill(f32::NEG_INFINITY);
        for dy in 0..kernel {
            for dx in 0..kernel {
                let at = input.at([image, y * stride + dy, x * stride + dx]);
                for (largest, value) in largest.iter_mut().zip(&input.values[at..][..channels]) {
                    *largest = largest.max(*value);
                }
            }
        }
    }
}
