//! Checkpoints: a network, its weights and what it is for, in one safetensors file.
//!
//! The header's metadata holds the description and, under `graph`, the nodes without weights; the tensors have the names of the network's
//! source. A checkpoint of earlier releases has no graph: it follows from the architecture and the tensors' shapes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use split_core::{Preparation, Shape};
use split_graph::{Architecture, Graph, Linear, Node, Op, Source, Window, fill};

use crate::augment;
use crate::tensors::{self, Metadata, NamedTensor, Tensors};

/// Keys in the header's metadata.
const DESCRIPTION: &str = "description";
const GRAPH: &str = "graph";

/// Everything about a network but its layers and their weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Name of its [`Architecture`], or what else it is called.
    pub architecture: String,
    /// Filters of each convolution, in order.
    pub widths: Vec<usize>,
    /// Input, `[C, H, W]`.
    pub input: [usize; 3],
    /// Class names, in the order of the outputs.
    pub classes: Vec<String>,
    /// Subtracted from each channel of a picture in `[0, 1]`.
    pub mean: [f32; 3],
    /// Divides each channel thereafter.
    pub std: [f32; 3],
    /// How a picture of any size becomes the input.
    #[serde(default)]
    pub preparation: Preparation,
    /// The feature quantiser this network was trained with, if it was pruned for one split point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantizer: Option<FeatureQuantizer>,
}

/// Per-channel uniform quantiser in front of a tail: code `q` in `0..2^bits` of channel `c` stands for `q · steps[c] + centres[c]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureQuantizer {
    /// Split point whose features are quantised, such as `pool3`.
    pub split: String,
    /// Bits of a code, 1 to 8.
    pub bits: u32,
    /// Width of a code, one per channel; positive.
    pub steps: Vec<f32>,
    /// What code 0 stands for, one per channel; empty where that is zero, as for features that are never negative.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub centres: Vec<f32>,
}

/// A network with its weights, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What it is. The widths are those of all convolutions in order.
    pub description: Description,
    /// The network. Its input is that of the description, and it has one output per class.
    pub graph: Graph,
}

impl Description {
    /// That of an architecture's network for pictures of `size`, rows and columns, with the architecture's usual normalisation.
    pub fn usual(architecture: Architecture, size: [usize; 2], classes: Vec<String>) -> Self {
        let (mean, std) = architecture.usual_normalization();
        Self {
            architecture: architecture.name().to_owned(),
            widths: Vec::new(),
            input: [3, size[0], size[1]],
            classes,
            mean,
            std,
            preparation: Preparation::default(),
            quantizer: None,
        }
    }
}

/// The architecture of this name; the error lists those that there are.
pub fn architecture(name: &str) -> anyhow::Result<Architecture> {
    Architecture::of(name).with_context(|| {
        let known: Vec<&str> = Architecture::all().map(Architecture::name).collect();
        format!("there is no architecture `{name}`; known are {}", known.join(", "))
    })
}

/// An architecture's network with weights of zero. `None` if there is none of this name, or it does not take this input.
pub fn unpruned(architecture: &str, input: Shape, classes: usize) -> Option<Graph> {
    let mut nodes = Architecture::of(architecture)?.nodes(input, classes).ok()?;
    let zeros = |_: &str, shape: &[usize]| Ok::<_, Infallible>(vec![0.0; shape.iter().product()]);
    fill(&mut nodes, zeros).ok()?;
    Graph::new(input, nodes).ok()
}

impl Checkpoint {
    /// Checks that description and graph go together; the description's widths are set.
    pub fn new(mut description: Description, graph: Graph) -> anyhow::Result<Self> {
        let input = Shape::try_from(description.input)?;
        ensure!(
            graph.input() == input,
            "the network takes {}, its description says {input}",
            graph.input()
        );
        let classes = description.classes.len();
        ensure!(
            <[usize; 3]>::from(graph.output()) == [classes, 1, 1],
            "the network gives {}, and there are {classes} classes",
            graph.output()
        );
        description.widths = widths(&graph);
        Ok(Self { description, graph })
    }

    /// An architecture's network with random weights, the same for the same seed.
    pub fn random(description: Description, seed: u64) -> anyhow::Result<Self> {
        let [_, height, width] = description.input;
        let architecture = architecture(&description.architecture)?;
        ensure!(!description.classes.is_empty(), "a network needs classes");
        let mut nodes = architecture
            .nodes(Shape::try_from(description.input)?, description.classes.len())
            .with_context(|| format!("{} does not work on pictures of {height}×{width}", architecture.name()))?;
        let mut number = 0;
        fill(&mut nodes, |name, shape| {
            number += 1;
            Ok::<_, Infallible>(random(name, shape, seed ^ (number << 40)))
        })?;
        Self::new(
            description.clone(),
            Graph::new(Shape::try_from(description.input)?, nodes)?,
        )
    }

    /// The network with only the first channels of each group, as many as `widths` says.
    pub fn narrowed(&self, widths: &[usize]) -> anyhow::Result<Self> {
        let channels = self.graph.channel_groups();
        let groups = channels.groups();
        ensure!(
            groups.len() == widths.len(),
            "the network has {} groups of channels, {} widths were given",
            groups.len(),
            widths.len()
        );
        let gone = groups
            .iter()
            .zip(widths)
            .flat_map(|(group, width)| group.units.iter().skip(*width));
        let gone: HashSet<usize> = gone.copied().collect();
        let graph = self.graph.with_units(&channels, |it| !gone.contains(&it))?;
        Self::new(self.description.clone(), graph)
    }

    /// The same network before pruning: [`unpruned`] of its architecture, or this one where it is not known by name.
    pub fn unpruned(&self) -> Graph {
        let classes = self.description.classes.len();
        let built = unpruned(&self.description.architecture, self.graph.input(), classes);
        // A file may be named like an architecture, and hold something else.
        let is_it = |it: &Graph| it.nodes().iter().all(|it| self.graph.find(&it.name).is_some());
        built.filter(is_it).unwrap_or_else(|| self.graph.clone())
    }

    /// Reads a checkpoint, also one of an earlier release.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let (tensors, metadata) = tensors::load(path)?;
        Self::of_tensors(tensors, &metadata).with_context(|| path.display().to_string())
    }

    /// The checkpoint that a file's tensors and metadata are.
    pub fn of_tensors(mut tensors: Tensors, metadata: &Metadata) -> anyhow::Result<Self> {
        let description = metadata
            .get(DESCRIPTION)
            .context("the file does not say which network it holds; `trainer import` makes a checkpoint of it")?;
        let description: Description = serde_json::from_str(description)?;
        let input = Shape::try_from(description.input)?;
        let mut nodes: Vec<Node> = match metadata.get(GRAPH) {
            Some(graph) => serde_json::from_str(graph)?,
            None => {
                let classes = description.classes.len();
                let mut nodes = architecture(&description.architecture)?.nodes(input, classes)?;
                for node in &mut nodes {
                    resize(node, |name| tensors.get(name).map(|it| it.shape.as_slice()));
                }
                nodes
            }
        };
        let of = &description.architecture;
        fill(&mut nodes, |name, shape| {
            let tensor = tensors.remove(name).with_context(|| {
                format!("tensor `{name}` of {of} is missing; is this a checkpoint of another architecture?")
            })?;
            ensure!(
                tensor.shape == shape,
                "tensor `{name}` has shape {:?}, {shape:?} was expected; is this a checkpoint of another architecture?",
                tensor.shape
            );
            Ok(tensor.values)
        })?;
        if let Some(name) = tensors.keys().next() {
            bail!("tensor `{name}` does not belong to {of}; is this a checkpoint of another architecture?");
        }
        Self::new(description, Graph::new(input, nodes)?)
    }

    /// Writes the checkpoint beside `path` and renames it, so that a file of that name is always whole.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let (tensors, metadata) = self.to_tensors()?;
        Ok(tensors::save(path, &tensors, metadata)?)
    }

    /// What a file holds of it.
    pub fn to_tensors(&self) -> anyhow::Result<(Tensors, Metadata)> {
        let mut tensors = BTreeMap::new();
        for node in self.graph.nodes() {
            for tensor in node.op.tensors() {
                let (shape, values) = (tensor.shape.clone(), tensor.values.clone());
                tensors.insert(format!("{}.{}", node.name, tensor.name), NamedTensor { shape, values });
            }
        }
        let metadata = HashMap::from([
            (DESCRIPTION.to_owned(), serde_json::to_string(&self.description)?),
            (GRAPH.to_owned(), serde_json::to_string(self.graph.nodes())?),
        ]);
        Ok((tensors, metadata))
    }

    /// The network whose weights are the means of those of several fine-tuned from one (Wortsman et al. 2022, *Model soups*).
    ///
    /// Fails where they are not of one structure.
    pub fn mean(all: &[Self]) -> anyhow::Result<Self> {
        let [first, others @ ..] = all else {
            bail!("the mean of no checkpoints");
        };
        let (mut sums, metadata) = first.to_tensors()?;
        for other in others {
            let (tensors, its) = other.to_tensors()?;
            ensure!(
                (&first.description, metadata.get(GRAPH)) == (&other.description, its.get(GRAPH)),
                "the checkpoints are of different networks; a mean is taken of those that were fine-tuned from the same one"
            );
            for (sum, tensor) in sums.values_mut().zip(tensors.values()) {
                for (sum, value) in sum.values.iter_mut().zip(&tensor.values) {
                    *sum += value;
                }
            }
        }
        for tensor in sums.values_mut() {
            tensor.values.iter_mut().for_each(|it| *it /= all.len() as f32);
        }
        Self::of_tensors(sums, &metadata)
    }

    /// The network for another task: the layers that fit are kept, the others begin anew and are named.
    ///
    /// Fails where the network cannot take the input, or does not end with a linear layer.
    pub fn adapted(self, description: Description, seed: u64) -> anyhow::Result<(Self, Vec<String>)> {
        let input = Shape::try_from(description.input)?;
        let other_classes = self.description.classes != description.classes;
        let mut nodes = self.graph.into_nodes();
        // Padding may depend on the input's size.
        let resized =
            (self.description.input != description.input).then(|| Architecture::of(&description.architecture));
        let usual = resized.flatten().map(|it| it.nodes(input, 1));
        let mut usual = usual.transpose()?.unwrap_or_default();
        let usual: HashMap<&str, Window> = usual
            .iter_mut()
            .filter_map(|it| Some((it.name.as_str(), *window(&mut it.op)?)))
            .collect();
        for node in &mut nodes {
            if let (Some(window), Some(usual)) = (window(&mut node.op), usual.get(node.name.as_str())) {
                *window = *usual;
            }
        }
        let last = nodes.len().saturating_sub(1);
        let mut anew = Vec::new();
        let mut shapes: Vec<Shape> = Vec::with_capacity(nodes.len());
        for (number, node) in nodes.iter_mut().enumerate() {
            let shape = |source: &Source| match *source {
                Source::Input => input,
                Source::Node(earlier) => shapes[earlier],
            };
            let inputs: Vec<Shape> = node.inputs.iter().map(shape).collect();
            if let Op::Linear(linear) = &mut node.op {
                let outputs = if number == last {
                    description.classes.len()
                } else {
                    linear.outputs
                };
                let fits = (linear.inputs, linear.outputs) == (inputs[0].values(), outputs);
                if !fits || number == last && other_classes {
                    *linear = classifier(inputs[0].values(), outputs, seed ^ number as u64);
                    anew.push(node.name.clone());
                }
            }
            shapes.push(node.op.output(&inputs).with_context(|| node.name.clone())?);
        }
        let graph = Graph::new(input, nodes)?;
        let classes = description.classes.len();
        ensure!(
            <[usize; 3]>::from(graph.output()) == [classes, 1, 1],
            "the network gives {} and does not end with a linear layer that could be replaced for {classes} classes",
            graph.output()
        );
        Ok((Self::new(description, graph)?, anew))
    }
}

/// Outputs of each convolution, in order.
pub fn widths(graph: &Graph) -> Vec<usize> {
    let widths = graph.nodes().iter().filter_map(|it| match &it.op {
        Op::Convolution(it) => Some(it.outputs),
        _ => None,
    });
    widths.collect()
}

/// Takes channels from the shapes of a file's tensors, where a pruned network has fewer, and whether a convolution has a bias.
pub fn resize<'a>(node: &mut Node, shape: impl Fn(&str) -> Option<&'a [usize]>) {
    let shape = |tensor: &str| shape(&format!("{}.{tensor}", node.name));
    match &mut node.op {
        Op::Convolution(it) => {
            if let Some(&[outputs, each, ..]) = shape("weight") {
                let groups = if it.groups > 1 { outputs } else { 1 };
                (it.outputs, it.inputs, it.groups) = (outputs, each.saturating_mul(groups), groups);
            }
            it.bias = shape("bias").is_some().then(Vec::new);
        }
        Op::BatchNorm(it) => {
            if let Some(&[channels]) = shape("weight") {
                it.channels = channels;
            }
        }
        Op::Linear(it) => {
            if let Some(&[outputs, inputs]) = shape("weight") {
                (it.outputs, it.inputs) = (outputs, inputs);
            }
        }
        _ => {}
    }
}

fn window(op: &mut Op) -> Option<&mut Window> {
    match op {
        Op::Convolution(it) => Some(&mut it.window),
        Op::MaxPool(window) | Op::AveragePool { window, .. } => Some(window),
        _ => None,
    }
}

/// A linear layer with random weights.
fn classifier(inputs: usize, outputs: usize, seed: u64) -> Linear {
    Linear {
        inputs,
        outputs,
        weight: random("weight", &[outputs, inputs], seed),
        bias: Some(vec![0.0; outputs]),
    }
}

/// A tensor to train from: He et al.'s normal initialisation (2015) for convolutions, small uniform values for linear layers, batch norms that
/// change nothing.
fn random(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let inputs = shape.iter().skip(1).product::<usize>() as f32;
    let chance = |at: usize| random_unit(seed, at as u64);
    match shape.len() {
        4 => (0..count)
            .map(|at| normal(chance(2 * at), chance(2 * at + 1)) * (2.0 / inputs).sqrt())
            .collect(),
        2 => (0..count).map(|at| (2.0 * chance(at) - 1.0) / inputs.sqrt()).collect(),
        _ if name.ends_with("running_var") || name.ends_with(".weight") => vec![1.0; count],
        _ => vec![0.0; count],
    }
}

/// A number in `(0, 1)` for each seed and place.
fn random_unit(seed: u64, at: u64) -> f32 {
    let bits = augment::mix(augment::mix(seed) ^ at) >> 41;
    (bits as f32 + 0.5) / (1_u64 << 23) as f32
}

/// Box and Muller's transform of two uniform numbers to a normal one.
fn normal(a: f32, b: f32) -> f32 {
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

#[cfg(test)]
impl Checkpoint {
    /// A small network for tests: AlexNet's layers with few filters, 16×16 pictures of three classes, 2×2 features at the end; random weights
    /// and batch norms.
    pub fn toy(widths: [usize; 5]) -> Self {
        let classes = ["cat", "dog", "owl"].map(String::from).into();
        let description = Description::usual(Architecture::AlexNet, [16; 2], classes);
        let whole = Self::random(description, 1).unwrap().narrowed(&widths).unwrap();
        let mut nodes = whole.graph.nodes().to_vec();
        let mut number = 0;
        for node in &mut nodes {
            for tensor in node.op.tensors_mut() {
                number += 1;
                let positive = tensor.name == "running_var" || tensor.name == "weight";
                if tensor.shape.len() == 1 {
                    let unit = |at| random_unit(number, at as u64);
                    let value = |at| if positive { 0.5 + unit(at) } else { 0.6 * unit(at) - 0.3 };
                    *tensor.values = (0..tensor.shape[0]).map(value).collect();
                }
            }
        }
        let graph = Graph::new(whole.graph.input(), nodes).unwrap();
        Self::new(whole.description, graph).unwrap()
    }
}

#[cfg(test)]
mod tests;
