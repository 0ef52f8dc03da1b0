//! Which kernel runs each layer, and in which buffer each map lies.

use std::{collections::HashMap, sync::Arc};

use fearless_simd::{Level, dispatch, prelude::*};
use split_core::Shape;
use split_graph::{Padding, Window};

use super::bottleneck::{Bottleneck, MOST_ROWS};
use super::depthwise::Depthwise;
use super::direct::{self, Direct, MOST_PLACES};
use super::finish::Curve;
use super::layers::{Layer, Layers, Value, Work};
use super::map::{Map, Source, Target};
use super::pointwise::{Change, Pool, average, change, concatenate, flatten, pool};
use super::winograd::{MOST_TILES, Size, Winograd};
use super::{FAR_BYTES, Filter, Memory};

/// Layers for a number of images at once, and where the maps between them lie. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Plan(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    steps: Vec<Step>,
    /// By value; those that no step makes or takes are not used.
    maps: Vec<Map>,
    /// The buffer of each map.
    buffers: Vec<usize>,
    /// Values of each buffer.
    sizes: Vec<usize>,
    output: Value,
}

#[derive(Debug)]
struct Step {
    kernel: Kernel,
    inputs: Vec<Value>,
    addend: Option<Value>,
    output: Value,
}

/// What runs a step. A clone shares the weights.
#[derive(Clone, Debug)]
enum Kernel {
    Direct(Arc<Direct>),
    Winograd(Arc<Winograd>, Size, Padding),
    Depthwise(Arc<Depthwise>),
    Bottleneck(Bottleneck),
    Pool(Pool, Window),
    Average,
    Change(Change, Curve),
    Concatenate,
    Flatten,
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Algorithm {
    Direct,
    Winograd(Size),
}

/// Kernels of a network, by layer: plans share them.
pub struct Kernels {
    lanes: usize,
    direct: HashMap<usize, Arc<Direct>>,
    winograd: HashMap<(usize, Size, bool), Arc<Winograd>>,
    depthwise: HashMap<usize, Arc<Depthwise>>,
}

impl Kernels {
    /// For vectors of so many floats.
    pub fn new(lanes: usize) -> Self {
        Self {
            lanes,
            direct: HashMap::new(),
            winograd: HashMap::new(),
            depthwise: HashMap::new(),
        }
    }
}

impl Plan {
    /// Plans for so many images.
    pub fn new(images: usize, layers: &Layers, kernels: &mut Kernels) -> Self {
        Self(Arc::new(Planner::new(images, layers, kernels).plan()))
    }

    /// Shape of one image.
    pub fn input(&self) -> Shape {
        self.0.maps[0].shape
    }

    /// Runs as many images as there are, at most those that it was made for.
    pub fn run(&self, level: Level, images: &[f32], output: &mut Vec<f32>, memory: &mut Memory) {
        let Inner {
            maps, buffers, sizes, ..
        } = &*self.0;
        let count = images.len() / self.input().values();
        let Memory { buffers: all, scratch } = memory;
        all.resize_with(all.len().max(sizes.len()), Vec::new);
        for (buffer, size) in all.iter_mut().zip(sizes) {
            buffer.resize(buffer.len().max(*size), 0.0);
        }
        let first = &mut all[buffers[0]];
        maps[0].clear_border(count, first);
        maps[0].fill(images, first);
        dispatch!(level, simd => self.run_steps(simd, count, all, scratch));
        let last = self.0.output;
        maps[last].append_to(count, &all[buffers[last]], output);
    }

    #[inline(always)]
    fn run_steps<S: Simd>(&self, simd: S, images: usize, all: &mut [Vec<f32>], scratch: &mut Vec<f32>) {
        let Inner { maps, buffers, .. } = &*self.0;
        for step in &self.0.steps {
            let map = &maps[step.output];
            let mut buffer = std::mem::take(&mut all[buffers[step.output]]);
            map.clear_border(images, &mut buffer);
            let source = |value: Value| Source {
                map: &maps[value],
                values: &all[buffers[value]],
            };
            let output = Target {
                map,
                values: &mut buffer,
            };
            step.run(simd, images, source, output, scratch);
            all[buffers[step.output]] = buffer;
        }
    }
}

impl Step {
    #[inline(always)]
    fn run<'a, S: Simd>(
        &self,
        simd: S,
        images: usize,
        source: impl Fn(Value) -> Source<'a>,
        output: Target,
        scratch: &mut Vec<f32>,
    ) {
        let input = source(self.inputs[0]);
        let addend = self.addend.map(&source);
        match &self.kernel {
            Kernel::Direct(it) => it.run(simd, images, input, output, addend),
            Kernel::Winograd(it, ..) => it.run(simd, images, input, output, addend, scratch),
            Kernel::Depthwise(it) => it.run(simd, images, input, output, addend),
            Kernel::Bottleneck(it) => it.run(simd, images, input, output, addend, scratch),
            Kernel::Pool(kind, window) => pool(simd, images, *kind, window, input, output),
            Kernel::Average => average(simd, images, input, output),
            Kernel::Change(kind, curve) => {
                let both = [input, self.inputs.get(1).map_or(input, |it| source(*it))];
                change(simd, images, *kind, both, output, *curve);
            }
            Kernel::Concatenate => {
                let inputs: Vec<Source> = self.inputs.iter().map(|it| source(*it)).collect();
                concatenate(images, &inputs, output);
            }
            Kernel::Flatten => flatten(images, input, output),
        }
    }

    /// The border that the step's first input needs.
    fn border(&self, input: &Map, output: Shape) -> Padding {
        let sides = [output.height(), output.width()];
        match &self.kernel {
            Kernel::Direct(it) => direct::border(&it.window(), input, sides),
            Kernel::Depthwise(it) => direct::border(it.window(), input, sides),
            Kernel::Bottleneck(it) if it.expand.is_none() => direct::border(it.depthwise.window(), input, sides),
            Kernel::Winograd(it, size, padding) => size.border(*padding, input, sides.map(|side| side * it.scale())),
            _ => Padding::default(),
        }
    }
}

/// A plan in the making.
struct Planner<'a> {
    images: usize,
    layers: &'a Layers,
    kernels: &'a mut Kernels,
    /// Steps and layers that take each value; one more for the output.
    uses: Vec<usize>,
    /// Layers that are part of another's kernel.
    joined: Vec<bool>,
    /// Channels in memory of each value.
    channels: Vec<usize>,
}

impl<'a> Planner<'a> {
    fn new(images: usize, layers: &'a Layers, kernels: &'a mut Kernels) -> Self {
        let mut uses = vec![0; layers.shapes.len()];
        for layer in &layers.layers {
            layer.inputs.iter().chain(&layer.addend).for_each(|it| uses[*it] += 1);
        }
        uses[layers.output] += 1;
        let lanes = kernels.lanes;
        let channels = layers
            .shapes
            .iter()
            .map(|it| it.channels().next_multiple_of(lanes))
            .collect();
        let mut planner = Self {
            images,
            layers,
            kernels,
            uses,
            joined: vec![false; layers.layers.len()],
            channels,
        };
        // A network's own few channels are left as they are where a kernel may read them so.
        let reads = |it: &Layer| {
            let direct = matches!(&it.work, Work::Convolution(filter, _) if filter.groups == 1);
            it.addend != Some(0) && (direct || !it.inputs.contains(&0))
        };
        if layers.shapes[0].channels() < lanes && layers.output != 0 && layers.layers.iter().all(reads) {
            planner.channels[0] = layers.shapes[0].channels();
        }
        planner
    }

    fn plan(mut self) -> Inner {
        let mut steps = Vec::new();
        // From the back, so that a kernel of several layers is found at its last one.
        for index in (0..self.layers.layers.len()).rev() {
            if !self.joined[index] {
                steps.extend(self.step(index));
            }
        }
        steps.reverse();
        let maps = self.maps(&steps);
        let (buffers, sizes) = self.buffers(&steps, &maps);
        Inner {
            steps,
            maps,
            buffers,
            sizes,
            output: self.layers.output,
        }
    }

    fn step(&mut self, index: usize) -> Option<Step> {
        let layer = &self.layers.layers[index];
        let joined = self.bottleneck(index).or_else(|| self.pooled(layer));
        let (kernel, inputs) = match joined {
            Some(it) => it,
            None => (self.kernel(index)?, layer.inputs.clone()),
        };
        Some(Step {
            kernel,
            inputs,
            addend: layer.addend,
            output: layer.output,
        })
    }

    /// The kernel of a layer by itself.
    fn kernel(&mut self, index: usize) -> Option<Kernel> {
        let layer = &self.layers.layers[index];
        Some(match &layer.work {
            Work::Convolution(filter, _) => self.convolution(index, self.algorithm(filter, layer), false)?,
            Work::Depthwise(..) => Kernel::Depthwise(self.depthwise(index)?),
            Work::Pool(kind, window) => Kernel::Pool(*kind, *window),
            Work::Average => Kernel::Average,
            Work::Change(kind, curve) => Kernel::Change(*kind, *curve),
            Work::Concatenate => Kernel::Concatenate,
            Work::Flatten => Kernel::Flatten,
        })
    }

    /// The layer that makes a value which one layer alone takes.
    fn only_maker(&self, value: Value) -> Option<usize> {
        let single = self.uses[value] == 1;
        self.layers.layers.iter().position(|it| single && it.output == value)
    }

    /// A convolution by Winograd's algorithm together with the pool behind it, and what it takes.
    fn pooled(&mut self, pool: &Layer) -> Option<(Kernel, Vec<Value>)> {
        let halves = matches!(&pool.work, Work::Pool(Pool::Largest, window) if *window == Window::square(2, 2, 0));
        let index = self.only_maker(pool.inputs[0]).filter(|_| halves)?;
        let layer = &self.layers.layers[index];
        let Work::Convolution(filter, finish) = &layer.work else {
            return None;
        };
        let algorithm = self.algorithm(filter, layer);
        if algorithm == Algorithm::Direct || layer.addend.is_some() || !finish.first.is_monotone() {
            return None;
        }
        self.joined[index] = true;
        Some((self.convolution(index, algorithm, true)?, layer.inputs.clone()))
    }

    /// An inverted bottleneck that ends at a layer, and what it takes.
    fn bottleneck(&mut self, last: usize) -> Option<(Kernel, Vec<Value>)> {
        let layers = &self.layers.layers;
        is_pointwise(&layers[last]).then_some(())?;
        let middle = self.only_maker(layers[last].inputs[0])?;
        let Work::Depthwise(_, window, _) = &layers[middle].work else {
            return None;
        };
        (layers[middle].addend.is_none() && window.kernel[0] <= MOST_ROWS).then_some(())?;
        let wide = layers[middle].inputs[0];
        let first = self
            .only_maker(wide)
            .filter(|it| is_pointwise(&layers[*it]) && layers[*it].addend.is_none());
        let kernel = Kernel::Bottleneck(Bottleneck {
            expand: first.and_then(|it| self.direct(it)),
            depthwise: self.depthwise(middle)?,
            project: self.direct(last)?,
            wide: self.layers.shapes[wide],
            channels: self.channels[wide],
        });
        self.joined[middle] = true;
        first.into_iter().for_each(|it| self.joined[it] = true);
        Some((kernel, first.map_or(vec![wide], |it| layers[it].inputs.clone())))
    }

    /// The algorithm that takes the least time: products, transforms, and weights that come from a far cache.
    fn algorithm(&self, filter: &Filter, layer: &Layer) -> Algorithm {
        let lanes = self.kernels.lanes;
        let minimal = filter.window.kernel == [3, 3] && filter.window.stride == [1, 1] && filter.groups == 1;
        if !minimal || !self.channels[layer.inputs[0]].is_multiple_of(lanes) {
            return Algorithm::Direct;
        }
        let shape = self.layers.shapes[layer.output];
        let [inputs, outputs] = [filter.inputs, filter.outputs].map(|it| it.next_multiple_of(lanes));
        let cost = |algorithm: &Algorithm| {
            let (products, transforms, passes) = match algorithm {
                Algorithm::Direct => {
                    let positions = self.images * shape.positions();
                    (positions * 9, 0, positions.div_ceil(MOST_PLACES))
                }
                Algorithm::Winograd(size) => {
                    let tiles = size.tiles(self.images, [shape.height(), shape.width()]);
                    let products = tiles * size.products();
                    (products, products * 4, tiles.div_ceil(MOST_TILES))
                }
            };
            let weights = products_of_one(algorithm) * inputs * outputs;
            let far = if weights * size_of::<f32>() > FAR_BYTES {
                passes * lanes
            } else {
                0
            };
            products * inputs * outputs + transforms * (inputs + outputs) + weights * far
        };
        let all = [
            Algorithm::Direct,
            Algorithm::Winograd(Size::Small),
            Algorithm::Winograd(Size::Large),
        ];
        all.into_iter().min_by_key(cost).unwrap_or(Algorithm::Direct)
    }

    fn convolution(&mut self, index: usize, algorithm: Algorithm, pool: bool) -> Option<Kernel> {
        let layer = &self.layers.layers[index];
        let Work::Convolution(filter, finish) = &layer.work else {
            return None;
        };
        let Algorithm::Winograd(size) = algorithm else {
            return self.direct(index).map(Kernel::Direct);
        };
        let (channels, lanes) = (self.channels[layer.inputs[0]], self.kernels.lanes);
        let make = || Arc::new(Winograd::new(filter, finish.padded(lanes), size, pool, channels, lanes));
        let made = self.kernels.winograd.entry((index, size, pool)).or_insert_with(make);
        Some(Kernel::Winograd(made.clone(), size, filter.window.padding))
    }

    fn direct(&mut self, index: usize) -> Option<Arc<Direct>> {
        let layer = &self.layers.layers[index];
        let Work::Convolution(filter, finish) = &layer.work else {
            return None;
        };
        let (channels, lanes) = (self.channels[layer.inputs[0]], self.kernels.lanes);
        let make = || Arc::new(Direct::new(filter, finish.padded(lanes), channels, lanes));
        Some(self.kernels.direct.entry(index).or_insert_with(make).clone())
    }

    fn depthwise(&mut self, index: usize) -> Option<Arc<Depthwise>> {
        let layer = &self.layers.layers[index];
        let Work::Depthwise(weight, window, finish) = &layer.work else {
            return None;
        };
        let (channels, lanes) = (self.channels[layer.inputs[0]], self.kernels.lanes);
        let make = || Arc::new(Depthwise::new(weight, *window, finish.padded(lanes), channels, lanes));
        Some(self.kernels.depthwise.entry(index).or_insert_with(make).clone())
    }

    /// Every value's map, with the border that all steps need that take it.
    fn maps(&self, steps: &[Step]) -> Vec<Map> {
        let bare = |border: &[Padding]| -> Vec<Map> {
            let shapes = self.layers.shapes.iter().zip(&self.channels).zip(border);
            shapes
                .map(|((shape, channels), border)| Map::new(self.images, *shape, *channels, *border))
                .collect()
        };
        let mut borders = vec![Padding::default(); self.layers.shapes.len()];
        let without = bare(&borders);
        for step in steps {
            let input = step.inputs[0];
            let needed = step.border(&without[input], self.layers.shapes[step.output]);
            let border = &mut borders[input];
            *border = Padding {
                top: border.top.max(needed.top),
                left: border.left.max(needed.left),
                bottom: border.bottom.max(needed.bottom),
                right: border.right.max(needed.right),
            };
        }
        bare(&borders)
    }

    /// A buffer for every map, and how large each is: a map keeps its own until the last step that takes it.
    fn buffers(&self, steps: &[Step], maps: &[Map]) -> (Vec<usize>, Vec<usize>) {
        let mut last = vec![0; maps.len()];
        for (index, step) in steps.iter().enumerate() {
            step.inputs.iter().chain(&step.addend).for_each(|it| last[*it] = index);
        }
        last[self.layers.output] = steps.len();
        let mut buffers = vec![0; maps.len()];
        let mut sizes = vec![maps[0].values()];
        // The value that lies in each buffer.
        let mut held = vec![Some(0)];
        for (index, step) in steps.iter().enumerate() {
            let needed = maps[step.output].values();
            let free = (0..sizes.len()).filter(|it| held[*it].is_none());
            let buffer = free
                .min_by_key(|it| (sizes[*it].max(needed) - sizes[*it], sizes[*it]))
                .unwrap_or(sizes.len());
            if buffer == sizes.len() {
                sizes.push(0);
                held.push(None);
            }
            sizes[buffer] = sizes[buffer].max(needed);
            held[buffer] = Some(step.output);
            buffers[step.output] = buffer;
            for it in &mut held {
                *it = it.filter(|value| last[*value] > index);
            }
        }
        (buffers, sizes)
    }
}

fn products_of_one(algorithm: &Algorithm) -> usize {
    match algorithm {
        Algorithm::Direct => 9,
        Algorithm::Winograd(size) => size.products(),
    }
}

/// Whether a layer is a convolution of 1×1 that sees all channels of one position.
fn is_pointwise(layer: &Layer) -> bool {
    matches!(&layer.work, Work::Convolution(it, _) if it.groups == 1 && it.window == Window::point())
}
