//! Runs convolutional networks on kernels for whatever vectors the processor has.
//!
//! tract's kernels are general; these know that maps have their channels last, so that every vector holds channels and nothing is rearranged on
//! the way, and that maps have the next layer's padding around them. A [`Stack`] is a network's [`Graph`] made ready to run. The `layers`
//! module reads the graph: activations and additions belong to the layer before them. The `plan` module chooses a kernel for each layer: `winograd`
//! for 3×3 convolutions at stride 1, with the pool after them; `depthwise`; `bottleneck` for three layers at once, whose wide maps are never
//! whole; `direct` for all others. Maps share buffers: one that no later layer takes leaves its buffer to another.
//!
//! An image by itself is computed near the processor's peak. But layers with many weights wait for these, and a small map does not fill
//! a group of tiles. Several images share both: so tails have a second plan for four images, in which some layers take another
//! kernel, and which is kept where it was measured to take less time. Sums are then rounded otherwise, in the last digits.
//!
//! ```
//! use split_core::Shape;
//! use split_graph::{Activation, Graph, Node, Op, Source};
//! use split_kernels::{Stack, levels};
//!
//! let relu = Node::new("relu", Op::Activation(Activation::Relu), Source::Input);
//! let mut stack = Stack::new(levels()[0], Graph::new(Shape::new(2, 1, 1)?, vec![relu])?);
//! let mut output = Vec::new();
//! stack.run(&[-1.0, 2.0], &mut output);
//! assert_eq!(output, [0.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is a crate by itself because the browser's binary is compiled for size, except for loops like these.

mod bottleneck;
mod depthwise;
mod direct;
mod finish;
mod layers;
mod map;
mod plan;
mod pointwise;
mod product;
mod simd;
mod winograd;

#[cfg(test)]
mod tests;

use std::time::Duration;

use fearless_simd::Level;
use split_graph::{Graph, Window};

use layers::Layers;
use plan::{Kernels, Plan};

pub use simd::levels;

/// A convolution's weights.
#[derive(Debug)]
pub struct Filter {
    /// Output channels, O.
    outputs: usize,
    /// Input channels that an output channel sees, I.
    inputs: usize,
    /// Groups of channels, which see only each other.
    groups: usize,
    window: Window,
    /// `[O, I, rows, columns]`.
    weight: Vec<f32>,
}

impl Filter {
    fn tap(&self, output: usize, input: usize, y: usize, x: usize) -> f32 {
        let [height, width] = self.window.kernel;
        self.weight[((output * self.inputs + input) * height + y) * width + x]
    }
}

/// A network ready to run. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Stack {
    /// What the weights are arranged for.
    level: Level,
    single: Plan,
    group: Option<Group>,
    memory: Memory,
}

/// A plan for [`GROUP`] images at once.
#[derive(Clone, Debug)]
struct Group {
    plan: Plan,
    /// The least images that take less time in it than one by one.
    least: usize,
}

/// What plans work in, one after the other.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// Buffers of the maps.
    buffers: Vec<Vec<f32>>,
    /// What a kernel needs while it runs.
    scratch: Vec<f32>,
}

/// Bytes of weights beyond which they come from a far cache, or from memory, each time they are used.
const FAR_BYTES: usize = 1 << 20;

/// Images that are computed together.
const GROUP: usize = 4;

/// Rounds in which one by one and together are compared.
const ROUNDS: usize = 4;

impl Stack {
    /// Prepares a network for images one by one.
    pub fn new(level: Level, graph: Graph) -> Self {
        let mut kernels = Kernels::new(simd::lanes(level));
        Self {
            level,
            single: Plan::new(1, &Layers::new(graph), &mut kernels),
            group: None,
            memory: Memory::default(),
        }
    }

    /// Prepares a network for images one by one, and for `least` and more together.
    pub fn grouped(level: Level, graph: Graph, least: usize) -> Self {
        let layers = Layers::new(graph);
        let mut kernels = Kernels::new(simd::lanes(level));
        Self {
            level,
            single: Plan::new(1, &layers, &mut kernels),
            group: Some(Group {
                plan: Plan::new(GROUP, &layers, &mut kernels),
                least,
            }),
            memory: Memory::default(),
        }
    }

    /// Prepares a network for images one by one and together, as far as that takes less time, which is measured.
    pub fn for_batches(level: Level, graph: Graph, now: impl Fn() -> Duration) -> Self {
        let images = vec![0.0; GROUP * graph.input().values()];
        let mut stack = Self::grouped(level, graph, GROUP);
        let mut output = Vec::new();
        let mut least = [Duration::MAX; 2];
        for round in 0..ROUNDS {
            for (together, least) in [false, true].into_iter().zip(&mut least) {
                let began = now();
                output.clear();
                stack.run_images(&images, together, &mut output);
                let took = now().saturating_sub(began);
                // The first round touches fresh memory.
                if round > 0 {
                    *least = (*least).min(took);
                }
            }
        }
        let [apart, together] = least;
        let single = apart / GROUP as u32;
        let pays = (2..=GROUP).find(|it| single * *it as u32 > together);
        stack.group = stack.group.zip(pays).map(|(it, least)| Group { least, ..it });
        stack
    }

    /// Runs images, each `[C, H, W]`, and appends what comes out, each `[C, H, W]`.
    pub fn run(&mut self, images: &[f32], output: &mut Vec<f32>) {
        let values = self.single.input().values();
        for images in images.chunks(GROUP * values) {
            let together = self.group.as_ref().is_some_and(|it| images.len() >= it.least * values);
            self.run_images(images, together, output);
        }
    }

    /// The least images that take less time together, if any do.
    pub fn batch(&self) -> Option<usize> {
        self.group.as_ref().map(|it| it.least)
    }

    fn run_images(&mut self, images: &[f32], together: bool, output: &mut Vec<f32>) {
        match &self.group {
            Some(group) if together => group.plan.run(self.level, images, output, &mut self.memory),
            _ => {
                for image in images.chunks_exact(self.single.input().values()) {
                    self.single.run(self.level, image, output, &mut self.memory);
                }
            }
        }
    }
}
