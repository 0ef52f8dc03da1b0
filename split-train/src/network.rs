//! A network that learns.

use std::sync::Mutex;

use rayon::prelude::*;
use split_core::Shape;
use split_graph::{Activation, Graph, GraphError, Op, Source};

use crate::convolution::{Convolution, Scratch};
use crate::pool;
use crate::value::{self, Affine, Spread, Sums};
use crate::window::Slide;

/// Values of images that are worked on together: 1 MiB.
const TOGETHER: usize = 1 << 18;

/// A graph whose weights change.
#[derive(Debug)]
pub struct Network {
    /// Structure and names; its weights are those at the start.
    graph: Graph,
    steps: Vec<Step>,
    parameters: Vec<Parameter>,
    moments: Vec<Moments>,
    /// Buffers that are used again: fresh ones cost a page fault every 4 KiB.
    spare: Mutex<Vec<Vec<f32>>>,
}

#[derive(Clone, Debug)]
struct Parameter {
    values: Vec<f32>,
    role: Role,
}

/// What a parameter is for, which decides what pulls it towards zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weights of a convolution or a linear layer.
    Weight,
    /// Scales of a batch norm, one for each channel.
    Scale,
    /// What is added to each channel.
    Shift,
}

/// Running moments of a batch norm.
#[derive(Clone, Debug)]
struct Moments {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// One or more nodes that are computed together. The last one's output is what the step gives.
#[derive(Clone, Debug)]
struct Step {
    /// The operation's node, its batch norm's, and the last.
    nodes: [usize; 3],
    inputs: Vec<Source>,
    kind: Kind,
    norm: Option<Norm>,
    activation: Option<Activation>,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A batch norm or an activation that follows nothing that it could be part of.
    Identity,
    /// A linear layer is one, too: of 1×1 on a map of 1×1.
    Convolution {
        sizes: Convolution,
        weight: usize,
        bias: Option<usize>,
    },
    Add,
    Gate,
    Concat,
    MaxPool(Slide),
    AveragePool(Slide, bool),
    GlobalAveragePool,
    Flatten,
}

/// Places of a batch norm's parameters.
#[derive(Clone, Copy, Debug)]
struct Norm {
    scale: usize,
    shift: usize,
    moments: usize,
    epsilon: f32,
}

/// What a batch left behind on its way forward.
#[derive(Debug)]
pub struct Pass {
    batch: usize,
    input: Vec<f32>,
    steps: Vec<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Before batch norm and activation, where the gradient needs it.
    raw: Vec<f32>,
    output: Vec<f32>,
    /// Batch norm's, and the moments of the batch that it came from.
    affine: Option<(Affine, Moments)>,
    choices: Vec<u32>,
}

/// Slopes of the loss by every parameter, in the order of [`Network::parameters_mut`].
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// One for each parameter.
    pub parameters: Vec<Vec<f32>>,
}

/// Sees, and may change, what passes a node's output. Nodes inside of a step, such as a convolution whose batch norm follows, are not seen.
pub trait Observer {
    /// On the way forward: the output `[N, H, W, C]` of the node at this place of the graph.
    fn forward(&mut self, _node: usize, _output: &mut [f32]) {}

    /// On the way back: the same output, and the loss's slope by it.
    fn backward(&mut self, _node: usize, _output: &[f32], _slope: &mut [f32]) {}
}

impl Observer for () {}

impl Pass {
    /// The network's output `[N, H, W, C]`; of a classifier the logits.
    pub fn output(&self) -> &[f32] {
        self.steps.last().map_or(&self.input, |it| &it.output)
    }
}

impl Network {
    /// A network that starts from these weights.
    pub fn new(graph: &Graph) -> Self {
        let mut parameters = Vec::new();
        let mut put = |values: Vec<f32>, role: Role| {
            parameters.push(Parameter { values, role });
            parameters.len() - 1
        };
        let (mut moments, mut steps) = (Vec::new(), Vec::<Step>::new());
        let users = graph.consumers();
        let mut taken = vec![false; graph.nodes().len()];
        for (at, node) in graph.nodes().iter().enumerate() {
            if taken[at] {
                continue;
            }
            let (input, output) = (graph.shape(node.inputs[0]), graph.shape(Source::Node(at)));
            let mut step = Step {
                nodes: [at; 3],
                inputs: node.inputs.clone(),
                kind: Kind::Identity,
                norm: None,
                activation: None,
                shape: output,
            };
            step.kind = match &node.op {
                Op::Convolution(it) => {
                    let sizes = Convolution {
                        slide: Slide::new(&it.window, input, output),
                        inputs: it.inputs,
                        outputs: it.outputs,
                        groups: it.groups,
                    };
                    let weight = put(sizes.pack(&it.weight), Role::Weight);
                    let bias = it.bias.as_ref().map(|it| put(it.clone(), Role::Shift));
                    Kind::Convolution { sizes, weight, bias }
                }
                Op::Linear(it) => {
                    let sizes = linear(it.inputs, it.outputs, input, output);
                    let weight = put(sizes.pack(&it.weight), Role::Weight);
                    let bias = it.bias.as_ref().map(|it| put(it.clone(), Role::Shift));
                    Kind::Convolution { sizes, weight, bias }
                }
                Op::BatchNorm(_) | Op::Activation(_) => Kind::Identity,
                Op::Add => Kind::Add,
                Op::Gate => Kind::Gate,
                Op::Concat => Kind::Concat,
                Op::MaxPool(window) => Kind::MaxPool(Slide::new(window, input, output)),
                Op::AveragePool {
                    window,
                    count_include_pad,
                } => Kind::AveragePool(Slide::new(window, input, output), *count_include_pad),
                Op::GlobalAveragePool => Kind::GlobalAveragePool,
                Op::Flatten => Kind::Flatten,
            };
            // The batch norm and the activation that follow, or that this is.
            let mut next = Some(at);
            while let Some(place) = next {
                match &graph.nodes()[place].op {
                    Op::BatchNorm(it) if step.norm.is_none() && step.activation.is_none() => {
                        moments.push(Moments {
                            mean: it.mean.clone(),
                            variance: it.variance.clone(),
                        });
                        step.norm = Some(Norm {
                            scale: put(it.scale.clone(), Role::Scale),
                            shift: put(it.shift.clone(), Role::Shift),
                            moments: moments.len() - 1,
                            epsilon: it.epsilon,
                        });
                        step.nodes[1] = place;
                    }
                    Op::Activation(it) if step.activation.is_none() => step.activation = Some(*it),
                    _ if place == at => {}
                    _ => break,
                }
                taken[place] = true;
                step.nodes[2] = place;
                next = match users[place][..] {
                    [user] => Some(user),
                    _ => None,
                };
            }
            steps.push(step);
        }
        // A step can stand only behind those that it takes from.
        steps.sort_by_key(|it| it.nodes[2]);
        Self {
            graph: graph.clone(),
            steps,
            parameters,
            moments,
            spare: Mutex::default(),
        }
    }

    /// The network with its weights as they are now.
    ///
    /// # Errors
    ///
    /// If learning has gone wrong: weights that are not finite are named by their node.
    pub fn graph(&self) -> Result<Graph, GraphError> {
        let mut nodes = self.graph.nodes().to_vec();
        for step in &self.steps {
            if let Kind::Convolution { sizes, weight, bias } = &step.kind {
                let values = sizes.unpack(&self.parameters[*weight].values);
                let bias = bias.map(|it| self.parameters[it].values.clone());
                match &mut nodes[step.nodes[0]].op {
                    Op::Convolution(it) => (it.weight, it.bias) = (values, bias),
                    Op::Linear(it) => (it.weight, it.bias) = (values, bias),
                    _ => {}
                }
            }
            if let (Some(norm), Op::BatchNorm(it)) = (step.norm, &mut nodes[step.nodes[1]].op) {
                it.scale.clone_from(&self.parameters[norm.scale].values);
                it.shift.clone_from(&self.parameters[norm.shift].values);
                it.mean.clone_from(&self.moments[norm.moments].mean);
                it.variance.clone_from(&self.moments[norm.moments].variance);
            }
        }
        Graph::new(self.graph.input(), nodes)
    }

    /// Shape of an image that it takes.
    pub fn input(&self) -> Shape {
        self.graph.input()
    }

    /// Shape of what it gives for an image.
    pub fn output(&self) -> Shape {
        self.graph.output()
    }

    /// Every parameter, and whether weight decay applies to it.
    pub fn parameters_mut(&mut self) -> Vec<(&mut Vec<f32>, Role)> {
        self.parameters.iter_mut().map(|it| (&mut it.values, it.role)).collect()
    }

    /// Everything that learning changes: the parameters, in the order of [`parameters_mut`](Self::parameters_mut), then the running means and
    /// variances of batch norm.
    pub fn state_mut(&mut self) -> Vec<&mut Vec<f32>> {
        let parameters = self.parameters.iter_mut().map(|it| &mut it.values);
        let moments = self.moments.iter_mut().flat_map(|it| [&mut it.mean, &mut it.variance]);
        parameters.chain(moments).collect()
    }

    /// The output for images `[N, H, W, C]`, batch norm by its running moments.
    ///
    /// # Panics
    ///
    /// If the images are not whole ones of the network's input.
    pub fn evaluate(&self, images: &[f32], observer: &mut impl Observer) -> Vec<f32> {
        let pass = self.run(images, false, observer);
        let output = pass.output().to_vec();
        self.recycle(pass);
        output
    }

    /// Runs images `[N, H, W, C]` to learn from them, batch norm by the moments of the batch.
    ///
    /// # Panics
    ///
    /// If the images are not whole ones of the network's input.
    pub fn pass(&self, images: &[f32], observer: &mut impl Observer) -> Pass {
        self.run(images, true, observer)
    }

    /// Moves the running moments by a share, from 0 to 1, towards those of the batch that a pass has seen.
    pub fn update_moments(&mut self, pass: &Pass, share: f32) {
        for (step, kept) in self.steps.iter().zip(&pass.steps) {
            if let (Some(norm), Some((_, seen))) = (step.norm, &kept.affine) {
                let count = (pass.batch * step.shape.positions()) as f32;
                let running = &mut self.moments[norm.moments];
                blend(&mut running.mean, &seen.mean, 1.0, share);
                // The running variance is the unbiased one, as in PyTorch.
                blend(
                    &mut running.variance,
                    &seen.variance,
                    count / (count - 1.0).max(1.0),
                    share,
                );
            }
        }
    }

    /// Puts the moments over these batches of images `[N, H, W, C]`, each of which counts alike, in the place of the running ones.
    ///
    /// # Panics
    ///
    /// If the images are not whole ones of the network's input.
    pub fn estimate_moments(&mut self, batches: &[Vec<f32>], observer: &mut impl Observer) {
        for (at, batch) in batches.iter().enumerate() {
            let pass = self.pass(batch, observer);
            self.update_moments(&pass, 1.0 / (at + 1) as f32);
            self.recycle(pass);
        }
    }

    fn run(&self, images: &[f32], learns: bool, observer: &mut impl Observer) -> Pass {
        let each = self.graph.input().values();
        let batch = images.len() / each;
        assert_eq!(batch * each, images.len(), "images of another size");
        let mut pass = Pass {
            batch,
            input: images.to_vec(),
            steps: Vec::with_capacity(self.steps.len()),
        };
        for step in &self.steps {
            let mut kept = self.forward(step, &pass, learns);
            observer.forward(step.nodes[2], &mut kept.output);
            pass.steps.push(kept);
        }
        pass
    }

    /// The output that a step takes.
    fn source<'a>(&self, pass: &'a Pass, source: Source) -> &'a [f32] {
        match source {
            Source::Input => &pass.input,
            Source::Node(node) => &pass.steps[self.step_of(node)].output,
        }
    }

    fn step_of(&self, node: usize) -> usize {
        self.steps.partition_point(|it| it.nodes[2] < node)
    }

    fn shape(&self, source: Source) -> Shape {
        self.graph.shape(source)
    }

    fn forward(&self, step: &Step, pass: &Pass, learns: bool) -> Kept {
        let inputs: Vec<&[f32]> = step.inputs.iter().map(|it| self.source(pass, *it)).collect();
        let each = step.shape.values();
        let mut kept = Kept {
            raw: self.take(pass.batch * each),
            ..Kept::default()
        };
        if let Kind::MaxPool(_) = step.kind {
            kept.choices.resize(pass.batch * each, 0);
        }
        let by_batch = learns && step.norm.is_some();
        let share = share(pass.batch);
        let choices: Vec<&mut [u32]> = match kept.choices.is_empty() {
            true => (0..pass.batch.div_ceil(share)).map(|_| &mut [][..]).collect(),
            false => kept.choices.chunks_mut(share * each).collect(),
        };
        let parts = kept.raw.par_chunks_mut(share * each).zip(choices).enumerate();
        let spreads: Vec<Spread> = parts
            .map(|(part, (to, choices))| {
                let mut spread = Spread::none(step.shape.channels());
                let mut scratch = Scratch::default();
                let together = together(each);
                for (part_of, to) in to.chunks_mut(together * each).enumerate() {
                    let first = part * share + part_of * together;
                    let at = part_of * together * each;
                    let choices = choices.get_mut(at..at + to.len()).unwrap_or_default();
                    self.forward_images(step, &inputs, first, to, choices, &mut scratch);
                    if by_batch {
                        spread.add_values(to);
                    }
                }
                spread
            })
            .collect();
        if let Some(norm) = step.norm {
            let moments = match by_batch {
                true => batch_moments(&spreads),
                false => self.moments[norm.moments].clone(),
            };
            let affine = self.affine(norm, &moments);
            let mut output = self.take(pass.batch * each);
            let parts = output.par_chunks_mut(each).zip(kept.raw.par_chunks(each));
            parts.for_each(|(to, raw)| value::apply(raw, &affine, step.activation, to));
            kept.output = output;
            kept.affine = Some((affine, moments));
        } else if let Some(activation) = step.activation {
            let mut output = self.take(pass.batch * each);
            let parts = output.par_chunks_mut(each).zip(kept.raw.par_chunks(each));
            parts.for_each(|(to, raw)| value::activate(raw, activation, to));
            kept.output = output;
        } else {
            kept.output = std::mem::take(&mut kept.raw);
        }
        if !learns {
            self.give(std::mem::take(&mut kept.raw));
        }
        kept
    }

    /// Runs a few images, of which `first` is the first.
    fn forward_images(
        &self,
        step: &Step,
        inputs: &[&[f32]],
        first: usize,
        to: &mut [f32],
        choices: &mut [u32],
        scratch: &mut Scratch,
    ) {
        let each = step.shape.values();
        let Kind::Convolution { sizes, weight, bias } = &step.kind else {
            for (image, to) in to.chunks_exact_mut(each).enumerate() {
                let choices = choices.get_mut(image * each..(image + 1) * each).unwrap_or_default();
                self.forward_image(step, inputs, first + image, to, choices);
            }
            return;
        };
        let values = sizes.input_values();
        let x = &inputs[0][first * values..][..to.len() / each * values];
        sizes.forward(x, &self.parameters[*weight].values, to, scratch);
        if let Some(bias) = bias {
            let bias = &self.parameters[*bias].values;
            for to in to.chunks_exact_mut(bias.len()) {
                to.iter_mut().zip(bias).for_each(|(to, it)| *to += it);
            }
        }
    }

    fn forward_image(&self, step: &Step, inputs: &[&[f32]], image: usize, to: &mut [f32], choices: &mut [u32]) {
        let shapes: Vec<Shape> = step.inputs.iter().map(|it| self.shape(*it)).collect();
        let of = |input: usize| {
            let each = shapes[input].values();
            &inputs[input][image * each..(image + 1) * each]
        };
        let channels = shapes[0].channels();
        match &step.kind {
            Kind::Identity => to.copy_from_slice(of(0)),
            Kind::Convolution { .. } => {}
            Kind::Add => to.iter_mut().zip(of(0)).zip(of(1)).for_each(|((to, a), b)| *to = a + b),
            Kind::Gate => {
                for (to, from) in to.chunks_exact_mut(channels).zip(of(0).chunks_exact(channels)) {
                    to.iter_mut()
                        .zip(from)
                        .zip(of(1))
                        .for_each(|((to, x), gate)| *to = x * gate);
                }
            }
            Kind::Concat => {
                for (place, to) in to.chunks_exact_mut(step.shape.channels()).enumerate() {
                    let mut first = 0;
                    for (input, shape) in shapes.iter().enumerate() {
                        let channels = shape.channels();
                        to[first..first + channels].copy_from_slice(&of(input)[place * channels..][..channels]);
                        first += channels;
                    }
                }
            }
            Kind::MaxPool(slide) => pool::largest(*slide, channels, of(0), to, choices),
            Kind::AveragePool(slide, padded) => pool::mean(*slide, channels, *padded, of(0), to),
            Kind::GlobalAveragePool => {
                to.fill(0.0);
                let share = 1.0 / shapes[0].positions() as f32;
                for from in of(0).chunks_exact(channels) {
                    to.iter_mut().zip(from).for_each(|(to, it)| *to += it * share);
                }
            }
            Kind::Flatten => {
                let positions = shapes[0].positions();
                for (place, from) in of(0).chunks_exact(channels).enumerate() {
                    from.iter()
                        .enumerate()
                        .for_each(|(c, it)| to[c * positions + place] = *it);
                }
            }
        }
    }

    /// The slopes of the loss by every parameter, given that by the output. The pass is used up.
    ///
    /// # Panics
    ///
    /// If the slope is not of the output's length.
    pub fn backward(&self, mut pass: Pass, slope: Vec<f32>, observer: &mut impl Observer) -> Gradients {
        assert_eq!(slope.len(), pass.output().len(), "a slope of another output");
        let mut gradients = Gradients {
            parameters: vec![Vec::new(); self.parameters.len()],
        };
        let mut slopes: Vec<Option<Vec<f32>>> = vec![None; self.steps.len()];
        if let Some(last) = slopes.last_mut() {
            *last = Some(slope);
        }
        for (number, step) in self.steps.iter().enumerate().rev() {
            let Some(mut slope) = slopes[number].take() else {
                continue;
            };
            observer.backward(step.nodes[2], &pass.steps[number].output, &mut slope);
            self.backward_step(step, number, &mut pass, slope, &mut slopes, &mut gradients);
        }
        self.recycle(pass);
        gradients
    }

    fn backward_step(
        &self,
        step: &Step,
        number: usize,
        pass: &mut Pass,
        mut slope: Vec<f32>,
        slopes: &mut [Option<Vec<f32>>],
        gradients: &mut Gradients,
    ) {
        let kept = std::mem::take(&mut pass.steps[number]);
        let each = step.shape.values();
        let terms = match (&kept.affine, step.norm) {
            (Some((affine, moments)), Some(norm)) => {
                let activation = step.activation;
                Some(self.norm_slopes(norm, affine, moments, activation, &slope, &kept.raw, gradients))
            }
            _ => None,
        };
        // What is before batch norm and activation, for one image at a time where a convolution follows.
        let before = |slope: &[f32], image: usize, to: &mut [f32]| {
            let raw = kept.raw.get(image * each..(image + 1) * each).unwrap_or_default();
            match (&kept.affine, &terms, step.activation) {
                (Some((affine, _)), Some([by_raw, constant]), activation) => {
                    value::turn_back(slope, raw, affine, activation, [by_raw, constant], to);
                }
                (_, _, Some(activation)) => {
                    to.copy_from_slice(slope);
                    value::deactivate(to, raw, activation);
                }
                _ => to.copy_from_slice(slope),
            }
        };
        // Slopes of the inputs: what earlier users of them left, or zero.
        let overwrites = matches!(&step.kind, Kind::Convolution { sizes, .. } if sizes.overwrites());
        let mut is_fresh = false;
        let mut to: Vec<Option<Vec<f32>>> = Vec::new();
        for (place, source) in step.inputs.iter().enumerate() {
            // A node may be taken twice: its slope is added up once both are known.
            let again = step.inputs[..place].contains(source);
            let found = match source {
                Source::Node(node) if !again => slopes[self.step_of(*node)].take(),
                _ => None,
            };
            is_fresh = found.is_none();
            let zeros = || {
                let mut zeros = self.take(pass.batch * self.shape(*source).values());
                if !overwrites {
                    zeros.par_chunks_mut(TOGETHER).for_each(|it| it.fill(0.0));
                }
                zeros
            };
            // Nothing learns before the input.
            let learns = *source != Source::Input;
            to.push(learns.then(|| found.unwrap_or_else(zeros)));
        }
        let inputs: Vec<&[f32]> = step.inputs.iter().map(|it| self.source(pass, *it)).collect();
        if let Kind::Convolution { sizes, weight, bias } = &step.kind {
            let share = share(pass.batch);
            let values = &self.parameters[*weight].values;
            let dx: Vec<Option<&mut [f32]>> = match &mut to[0] {
                Some(it) => it.chunks_mut(share * sizes.input_values()).map(Some).collect(),
                None => (0..pass.batch.div_ceil(share)).map(|_| None).collect(),
            };
            let parts: Vec<(Vec<f32>, Vec<f32>)> = slope
                .par_chunks(share * each)
                .zip(inputs[0].par_chunks(share * sizes.input_values()))
                .zip(dx)
                .enumerate()
                .map(|(part, ((slope, x), mut dx))| {
                    let mut dw = vec![0.0; sizes.weight_values()];
                    let mut db = vec![0.0; if bias.is_some() { sizes.outputs } else { 0 }];
                    let (mut dy, mut scratch) = (Vec::new(), Scratch::default());
                    let (together, values_in) = (together(each), sizes.input_values());
                    let images = slope.chunks(together * each).zip(x.chunks(together * values_in));
                    for (part_of, (slope, x)) in images.enumerate() {
                        dy.resize(slope.len(), 0.0);
                        let first = part * share + part_of * together;
                        for (image, (slope, dy)) in slope.chunks_exact(each).zip(dy.chunks_exact_mut(each)).enumerate()
                        {
                            before(slope, first + image, dy);
                        }
                        if bias.is_some() {
                            for dy in dy.chunks_exact(sizes.outputs) {
                                db.iter_mut().zip(dy).for_each(|(to, it)| *to += it);
                            }
                        }
                        let at = part_of * together * values_in;
                        let dx = dx.as_mut().map(|it| &mut it[at..at + x.len()]);
                        sizes.backward(x, values, &dy, (&mut dw, dx, !is_fresh), &mut scratch);
                    }
                    (dw, db)
                })
                .collect();
            let (weights, biases): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            gradients.parameters[*weight] = summed(weights);
            if let Some(bias) = bias {
                gradients.parameters[*bias] = summed(biases);
            }
        } else {
            if terms.is_some() || step.activation.is_some() {
                let mut raw_slope = self.take(slope.len());
                let images = raw_slope.par_chunks_mut(each).zip(slope.par_chunks(each)).enumerate();
                images.for_each(|(image, (to, slope))| before(slope, image, to));
                std::mem::swap(&mut slope, &mut raw_slope);
                self.give(raw_slope);
            }
            self.pass_back(step, &inputs, &kept, pass.batch, &slope, &mut to);
        }
        for (source, it) in step.inputs.iter().zip(to) {
            if let (Source::Node(node), Some(it)) = (source, it) {
                let slot = &mut slopes[self.step_of(*node)];
                match slot {
                    Some(sum) => sum.iter_mut().zip(&it).for_each(|(to, it)| *to += it),
                    None => *slot = Some(it),
                }
            }
        }
        self.give(slope);
        self.give(kept.raw);
        self.give(kept.output);
    }

    /// Gradients of batch norm's parameters, and what of the slope before it depends on the values and on nothing.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step of the backward pass, apart for its length"
    )]
    fn norm_slopes(
        &self,
        norm: Norm,
        affine: &Affine,
        moments: &Moments,
        activation: Option<Activation>,
        slope: &[f32],
        raw: &[f32],
        gradients: &mut Gradients,
    ) -> [Vec<f32>; 2] {
        let channels = affine.factor.len();
        let count = raw.len() / channels;
        let share = count.div_ceil(rayon::current_num_threads()).max(1) * channels;
        let parts: Vec<Sums> = slope
            .par_chunks(share)
            .zip(raw.par_chunks(share))
            .map(|(slope, raw)| {
                let mut sums = Sums::zero(channels);
                sums.add_slopes(slope, raw, affine, &moments.mean, activation);
                sums
            })
            .collect();
        let mut sums = Sums::zero(channels);
        parts.iter().for_each(|it| sums.add(it));
        let (mut scale, mut by_raw, mut constant) = (Vec::new(), Vec::new(), Vec::new());
        for c in 0..channels {
            let mean = f64::from(moments.mean[c]);
            let inverse = 1.0 / (f64::from(moments.variance[c]) + f64::from(norm.epsilon)).sqrt();
            // Σ slope · normalised value.
            let along = sums.second[c] * inverse;
            let factor = f64::from(affine.factor[c]);
            let pull = factor * inverse * along / count as f64;
            scale.push(along as f32);
            by_raw.push(-pull as f32);
            constant.push((pull * mean - factor * sums.first[c] / count as f64) as f32);
        }
        gradients.parameters[norm.scale] = scale;
        gradients.parameters[norm.shift] = sums.first.iter().map(|it| *it as f32).collect();
        [by_raw, constant]
    }

    /// Slopes of the inputs of everything but convolutions, added to those in `to`.
    fn pass_back(
        &self,
        step: &Step,
        inputs: &[&[f32]],
        kept: &Kept,
        batch: usize,
        slope: &[f32],
        to: &mut [Option<Vec<f32>>],
    ) {
        let shapes: Vec<Shape> = step.inputs.iter().map(|it| self.shape(*it)).collect();
        let each = step.shape.values();
        for (input, to) in to.iter_mut().enumerate() {
            let Some(to) = to else { continue };
            let (own, channels) = (shapes[input].values(), shapes[input].channels());
            debug_assert_eq!(to.len(), batch * own);
            let images = to.par_chunks_mut(own).zip(slope.par_chunks(each)).enumerate();
            images.for_each(|(image, (to, slope))| match &step.kind {
                Kind::Identity | Kind::Add => to.iter_mut().zip(slope).for_each(|(to, it)| *to += it),
                Kind::Gate => {
                    let other = shapes[1 - input].values();
                    let other = &inputs[1 - input][image * other..(image + 1) * other];
                    let channels = shapes[0].channels();
                    match input {
                        0 => {
                            for (to, slope) in to.chunks_exact_mut(channels).zip(slope.chunks_exact(channels)) {
                                to.iter_mut()
                                    .zip(slope)
                                    .zip(other)
                                    .for_each(|((to, it), gate)| *to += it * gate);
                            }
                        }
                        _ => {
                            for (slope, x) in slope.chunks_exact(channels).zip(other.chunks_exact(channels)) {
                                to.iter_mut().zip(slope).zip(x).for_each(|((to, it), x)| *to += it * x);
                            }
                        }
                    }
                }
                Kind::Concat => {
                    let first: usize = shapes[..input].iter().map(|it| it.channels()).sum();
                    let all = step.shape.channels();
                    for (to, slope) in to.chunks_exact_mut(channels).zip(slope.chunks_exact(all)) {
                        to.iter_mut().zip(&slope[first..]).for_each(|(to, it)| *to += it);
                    }
                }
                Kind::MaxPool(_) => {
                    pool::largest_backward(channels, slope, &kept.choices[image * each..(image + 1) * each], to);
                }
                Kind::AveragePool(slide, padded) => pool::mean_backward(*slide, channels, *padded, slope, to),
                Kind::GlobalAveragePool => {
                    let share = 1.0 / shapes[0].positions() as f32;
                    for to in to.chunks_exact_mut(channels) {
                        to.iter_mut().zip(slope).for_each(|(to, it)| *to += it * share);
                    }
                }
                Kind::Flatten => {
                    let positions = shapes[0].positions();
                    for (place, to) in to.chunks_exact_mut(channels).enumerate() {
                        to.iter_mut()
                            .enumerate()
                            .for_each(|(c, to)| *to += slope[c * positions + place]);
                    }
                }
                Kind::Convolution { .. } => {}
            });
        }
    }

    fn affine(&self, norm: Norm, moments: &Moments) -> Affine {
        let scales = self.parameters[norm.scale].values.iter().zip(&moments.variance);
        let factor: Vec<f32> = scales
            .map(|(scale, variance)| scale / (variance + norm.epsilon).sqrt())
            .collect();
        let shifts = self.parameters[norm.shift].values.iter().zip(&moments.mean);
        let offset = shifts.zip(&factor).map(|((shift, mean), factor)| shift - mean * factor);
        Affine {
            offset: offset.collect(),
            factor,
        }
    }

    /// A buffer of so many values, which are anything.
    fn take(&self, length: usize) -> Vec<f32> {
        let mut spare = self.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fitting = spare.iter().enumerate().filter(|it| it.1.capacity() >= length);
        let best = fitting.min_by_key(|it| it.1.capacity()).map(|it| it.0);
        let mut buffer = best.map_or_else(Vec::new, |it| spare.swap_remove(it));
        drop(spare);
        buffer.resize(length, 0.0);
        buffer
    }

    fn give(&self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            let mut spare = self.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            spare.push(buffer);
        }
    }

    fn recycle(&self, pass: Pass) {
        for kept in pass.steps {
            self.give(kept.raw);
            self.give(kept.output);
        }
    }
}

/// A linear layer as a convolution of 1×1.
fn linear(inputs: usize, outputs: usize, input: Shape, output: Shape) -> Convolution {
    Convolution {
        slide: Slide::new(&split_graph::Window::point(), input, output),
        inputs,
        outputs,
        groups: 1,
    }
}

/// Images that are worked on together: as many as have their values in the cache.
fn together(values: usize) -> usize {
    (TOGETHER / values.max(1)).max(1)
}

/// Images of one thread.
fn share(batch: usize) -> usize {
    batch.div_ceil(rayon::current_num_threads()).max(1)
}

fn summed(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(to, it)| *to += it);
    }
    sum
}

fn batch_moments(parts: &[Spread]) -> Moments {
    let mut all = Spread::none(parts.first().map_or(0, |it| it.mean.len()));
    parts.iter().for_each(|it| all.add(it));
    Moments {
        variance: all.variance().map(|it| it as f32).collect(),
        mean: all.mean.iter().map(|it| *it as f32).collect(),
    }
}

fn blend(running: &mut [f32], seen: &[f32], factor: f32, share: f32) {
    let each = running.iter_mut().zip(seen);
    each.for_each(|(running, seen)| *running += share * (seen * factor - *running));
}
