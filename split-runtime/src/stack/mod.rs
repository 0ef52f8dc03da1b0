//! Convolutional networks whose layers follow one another, on kernels for whatever vectors the processor has.
//!
//! tract's kernels are general; heads and tails are nothing but convolutions with ReLU and max pools. Maps have their channels
//! last, so that every vector holds channels and nothing is rearranged on the way, and their padding in place. 3×3 convolutions
//! take the [`winograd`] way, with the pool after them; the first layer, and whatever else there may be, the [`direct`] one.
//! Batch norm is folded into the weights before segments are written.
//!
//! Images go one by one: they are computed near the processor's peak, and eight at a time were measured to take as long each.

mod direct;
mod graph;
mod map;
mod simd;
mod winograd;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use fearless_simd::{Level, dispatch, prelude::*};
use split_core::Shape;

pub use graph::steps;

use direct::{Direct, max_pool};
use map::{Map, input_channels};
use simd::{BLOCK, lanes};
use winograd::Winograd;

/// A convolution's parameters.
#[derive(Debug)]
pub struct Filter {
    /// Output channels, O.
    pub outputs: usize,
    /// Input channels, I.
    pub inputs: usize,
    /// Rows and columns.
    pub kernel: [usize; 2],
    pub stride: usize,
    /// Zeros added on each of the four sides.
    pub padding: usize,
    /// `[O, I, rows, columns]`.
    pub weight: Vec<f32>,
    /// `[O]`.
    pub bias: Vec<f32>,
    pub relu: bool,
}

impl Filter {
    fn tap(&self, output: usize, input: usize, y: usize, x: usize) -> f32 {
        let [height, width] = self.kernel;
        self.weight[((output * self.inputs + input) * height + y) * width + x]
    }

    /// Orders weights by blocks of [`BLOCK`] vectors of output channels, the last one perhaps of fewer: `[block][weight][channel]`.
    ///
    /// `weights` is how many an output channel has; `each` is called for each channel with what puts one at its place.
    fn arrange(&self, lanes: usize, weights: usize, each: impl Fn(usize, &mut dyn FnMut(usize, f32))) -> Vec<f32> {
        let padded = self.outputs.next_multiple_of(lanes);
        let mut arranged = vec![0.0; padded * weights];
        for output in 0..self.outputs {
            let first = output / (BLOCK * lanes) * (BLOCK * lanes);
            let block = (BLOCK * lanes).min(padded - first);
            each(output, &mut |weight, value| {
                arranged[first * weights + weight * block + output - first] = value;
            });
        }
        arranged
    }

    /// Biases of whole vectors.
    fn bias(&self, lanes: usize) -> Vec<f32> {
        let mut bias = self.bias.clone();
        bias.resize(self.outputs.next_multiple_of(lanes), 0.0);
        bias
    }
}

/// One layer of a network that a [`Stack`] can run.
#[derive(Debug)]
pub enum Step {
    Convolution(Filter),
    MaxPool { kernel: usize, stride: usize },
}

#[derive(Debug)]
enum Kernel {
    Winograd(Winograd),
    Direct(Direct),
    MaxPool { kernel: usize, stride: usize },
}

/// Layers ready to run, and the maps between them. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Stack {
    /// What the weights are arranged for.
    level: Level,
    kernels: Arc<[Kernel]>,
    /// Every layer's input, and the last one's output.
    maps: Vec<Map>,
    scratch: Vec<f32>,
}

impl Stack {
    /// Prepares layers, each with the shape that it makes.
    pub fn new(level: Level, input: Shape, steps: Vec<(Step, Shape)>) -> Self {
        let lanes = lanes(level);
        let mut kernels: Vec<Kernel> = Vec::new();
        let mut maps = Vec::new();
        let mut shape = input;
        let mut channels = input_channels(input.channels(), lanes);
        for (step, output) in steps {
            match step {
                Step::Convolution(filter) => {
                    maps.push(Map::new(shape, channels, filter.padding));
                    let minimal = filter.kernel == [3, 3] && filter.stride == 1 && filter.padding == 1;
                    kernels.push(
                        if minimal && channels.is_multiple_of(lanes) && shape.height().min(shape.width()) > 2 {
                            Kernel::Winograd(Winograd::new(&filter, [shape.height(), shape.width()], channels, lanes))
                        } else {
                            Kernel::Direct(Direct::new(&filter, channels, lanes))
                        },
                    );
                    channels = filter.outputs.next_multiple_of(lanes);
                }
                Step::MaxPool { kernel: 2, stride: 2 } if ends_unpooled(&kernels) => {
                    if let Some(Kernel::Winograd(convolution)) = kernels.last_mut() {
                        convolution.pool = true;
                    }
                }
                Step::MaxPool { kernel, stride } => {
                    maps.push(Map::new(shape, channels, 0));
                    kernels.push(Kernel::MaxPool { kernel, stride });
                }
            }
            shape = output;
        }
        maps.push(Map::new(shape, channels, 0));
        Self {
            level,
            kernels: kernels.into(),
            maps,
            scratch: Vec::new(),
        }
    }

    /// Runs one image, `[C, H, W]`, and appends what comes out, `[C, H, W]`.
    pub fn run(&mut self, image: &[f32], output: &mut Vec<f32>) {
        if let Some(first) = self.maps.first_mut() {
            first.fill(image);
        }
        dispatch!(self.level, simd => run(simd, &self.kernels, &mut self.maps, &mut self.scratch));
        if let Some(last) = self.maps.last() {
            last.append_to(output);
        }
    }
}

#[inline(always)]
fn run<S: Simd>(simd: S, kernels: &[Kernel], maps: &mut [Map], scratch: &mut Vec<f32>) {
    for (index, kernel) in kernels.iter().enumerate() {
        if let [input, output] = &mut maps[index..=index + 1] {
            match kernel {
                Kernel::Winograd(it) => it.run(simd, input, output, scratch),
                Kernel::Direct(it) => it.run(simd, input, output),
                Kernel::MaxPool { kernel, stride } => max_pool(input, *kernel, *stride, output),
            }
        }
    }
}

fn ends_unpooled(kernels: &[Kernel]) -> bool {
    matches!(kernels.last(), Some(Kernel::Winograd(it)) if !it.pool)
}
