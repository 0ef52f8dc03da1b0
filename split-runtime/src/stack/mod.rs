//! Convolutional networks whose layers follow one another, on kernels for whatever vectors the processor has.
//!
//! tract's kernels are general; heads and tails are nothing but convolutions with ReLU and max pools. Maps have their channels
//! last, so that every vector holds channels and nothing is rearranged on the way, and their padding in place. 3×3 convolutions
//! take the [`winograd`] way, with the pool after them; the first layer, and whatever else there may be, the [`direct`] one.
//! Batch norm is folded into the weights before segments are written.
//!
//! An image by itself is computed near the processor's peak. But a small map does not fill a group of positions or tiles, and the way
//! with the fewest products would compute most of them in vain. Several images fill it together: so the layers of
//! late tails have a second [`Plan`] for [`GROUP`] images, in which some take another way. Sums are then rounded otherwise, in the last digits.

mod direct;
mod graph;
mod map;
mod simd;
mod winograd;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use fearless_simd::{Level, dispatch, prelude::*};
use split_core::Shape;

pub use graph::steps;

use direct::{Direct, max_pool};
use map::Map;
use simd::{BLOCK, GROUP, lanes};
use winograd::{Size, Winograd};

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

    /// Whether Winograd's algorithm fits.
    fn is_minimal(&self) -> bool {
        self.kernel == [3, 3] && self.stride == 1 && self.padding == 1
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

/// What runs a layer. A clone shares the weights.
#[derive(Clone, Debug)]
enum Kernel {
    Winograd(Arc<Winograd>),
    Direct(Arc<Direct>),
    MaxPool { kernel: usize, stride: usize },
}

/// The ways of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Winograd(Size),
    Direct,
}

/// Layers ready to run. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Stack {
    /// What the weights are arranged for.
    level: Level,
    single: Plan,
    /// For [`GROUP`] images at once, if batches are expected.
    group: Option<Plan>,
    scratch: Vec<f32>,
}

/// The least images that are faster in a group that they do not fill.
const WORTH: usize = GROUP - 1;

/// The most values in a group's map for batches to pay.
const NEAR: usize = 1 << 14;

/// Whether several images together take less time in a network of maps of these shapes.
///
/// A network with larger maps has so many weights that they come from a far cache or from memory: fewer products, of more weights, were
/// measured to gain nothing there.
pub fn batches_pay(shapes: impl IntoIterator<Item = Shape>) -> bool {
    let largest = shapes.into_iter().map(Shape::values).max();
    largest.is_none_or(|it| GROUP * it <= NEAR)
}

impl Stack {
    /// Prepares layers, each with the shape that it makes, and for `batches` also several images together.
    pub fn new(level: Level, input: Shape, steps: &[(Step, Shape)], batches: bool) -> Self {
        let mut kernels = Kernels {
            lanes: lanes(level),
            made: HashMap::new(),
        };
        Self {
            level,
            single: Plan::new(1, input, steps, &mut kernels),
            group: batches.then(|| Plan::new(GROUP, input, steps, &mut kernels)),
            scratch: Vec::new(),
        }
    }

    /// Runs images, each `[C, H, W]`, and appends what comes out, each `[C, H, W]`.
    pub fn run(&mut self, images: &[f32], output: &mut Vec<f32>) {
        let values = self.single.values();
        for images in images.chunks(GROUP * values) {
            match &mut self.group {
                Some(group) if images.len() >= WORTH * values => {
                    group.run(self.level, images, output, &mut self.scratch);
                }
                _ => {
                    for image in images.chunks_exact(values) {
                        self.single.run(self.level, image, output, &mut self.scratch);
                    }
                }
            }
        }
    }
}

/// Layers for a number of images at once, and the maps between them.
#[derive(Clone, Debug)]
struct Plan {
    kernels: Arc<[Kernel]>,
    /// Every layer's input, and the last one's output.
    maps: Vec<Map>,
}

impl Plan {
    fn new(images: usize, input: Shape, steps: &[(Step, Shape)], made: &mut Kernels) -> Self {
        let (mut kernels, mut maps) = (Vec::new(), Vec::new());
        let mut shape = input;
        let mut pooled = false;
        for (index, (step, output)) in steps.iter().enumerate() {
            let channels = made.channels(index, shape);
            match step {
                Step::Convolution(filter) => {
                    maps.push(Map::new(images, shape, channels, filter.padding));
                    let way = step.way(images, shape, channels, made.lanes);
                    let pool = matches!(steps.get(index + 1), Some((Step::MaxPool { kernel: 2, stride: 2 }, _)));
                    pooled = pool && way != Way::Direct;
                    kernels.push(made.kernel(index, filter, way, pool, channels));
                }
                // Done by the convolution before it.
                Step::MaxPool { .. } if pooled => pooled = false,
                &Step::MaxPool { kernel, stride } => {
                    maps.push(Map::new(images, shape, channels, 0));
                    kernels.push(Kernel::MaxPool { kernel, stride });
                }
            }
            shape = *output;
        }
        maps.push(Map::new(images, shape, made.channels(steps.len(), shape), 0));
        Self {
            kernels: kernels.into(),
            maps,
        }
    }

    /// Values of one image.
    fn values(&self) -> usize {
        self.maps.first().map_or(0, |it| it.shape.values())
    }

    /// Runs as many images as there are, at most those that it was made for.
    fn run(&mut self, level: Level, images: &[f32], output: &mut Vec<f32>, scratch: &mut Vec<f32>) {
        let count = images.len() / self.values();
        if let Some(first) = self.maps.first_mut() {
            first.fill(images);
        }
        dispatch!(level, simd => run(simd, count, &self.kernels, &mut self.maps, scratch));
        if let Some(last) = self.maps.last() {
            last.append_to(count, output);
        }
    }
}

#[inline(always)]
fn run<S: Simd>(simd: S, images: usize, kernels: &[Kernel], maps: &mut [Map], scratch: &mut Vec<f32>) {
    for (index, kernel) in kernels.iter().enumerate() {
        if let [input, output] = &mut maps[index..=index + 1] {
            match kernel {
                Kernel::Winograd(it) => it.run(simd, images, input, output, scratch),
                Kernel::Direct(it) => it.run(simd, images, input, output),
                Kernel::MaxPool { kernel, stride } => max_pool(images, input, *kernel, *stride, output),
            }
        }
    }
}

impl Step {
    /// The way that takes the fewest products for so many images of a shape, `channels` in memory; pools have none to choose.
    fn way(&self, images: usize, shape: Shape, channels: usize, lanes: usize) -> Way {
        match self {
            Self::Convolution(filter) if filter.is_minimal() && channels.is_multiple_of(lanes) => {
                let side = [shape.height(), shape.width()];
                let products = |way: &Way| match way {
                    Way::Direct => (images * shape.positions()).next_multiple_of(GROUP) * 9,
                    Way::Winograd(size) => size.products(images, side),
                };
                let ways = [Way::Direct, Way::Winograd(Size::Small), Way::Winograd(Size::Large)];
                ways.into_iter().min_by_key(products).unwrap_or(Way::Direct)
            }
            _ => Way::Direct,
        }
    }
}

/// Kernels of a network's convolutions, each made once for a way.
struct Kernels {
    lanes: usize,
    made: HashMap<(usize, Way), Kernel>,
}

impl Kernels {
    /// Channels in memory of the map that the layer at `index` takes: a network's own few are left as they are, all others fill vectors.
    fn channels(&self, index: usize, shape: Shape) -> usize {
        let channels = shape.channels();
        if index == 0 && channels < self.lanes {
            channels
        } else {
            channels.next_multiple_of(self.lanes)
        }
    }

    /// That of the layer at `index`, for maps of so many `channels` in memory. `pool`: whether a pool of 2×2 follows.
    fn kernel(&mut self, index: usize, filter: &Filter, way: Way, pool: bool, channels: usize) -> Kernel {
        let lanes = self.lanes;
        let made = self.made.entry((index, way)).or_insert_with(|| match way {
            Way::Direct => Kernel::Direct(Arc::new(Direct::new(filter, channels, lanes))),
            Way::Winograd(size) => Kernel::Winograd(Arc::new(Winograd::new(filter, size, pool, channels, lanes))),
        });
        made.clone()
    }
}
