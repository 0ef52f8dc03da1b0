//! Checkpoints of any network: its description, its graph and its weights in one safetensors file.
//!
//! The header's metadata holds the description and, under `graph`, the nodes without weights; the tensors have the names of the network's
//! source. A checkpoint of earlier releases has no graph: it is a chain, and its graph follows from the description.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use split_core::{Preparation, Shape};
use split_graph::{Activation, Architecture, BatchNorm, Convolution, Graph, Linear, Node, Op, Source, Window, fill};

use crate::checkpoint::{self, Checkpoint, NamedTensor};
use crate::network::{BATCH_NORM_EPSILON, Description, KERNEL, LayerSpec};

/// Keys in the header's metadata.
const DESCRIPTION: &str = "description";
const GRAPH: &str = "graph";

/// A network with its weights, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphCheckpoint {
    /// What it is. The widths are those of all convolutions in order.
    pub description: Description,
    /// The network. Its input is that of the description, and it has one output per class.
    pub graph: Graph,
}

impl GraphCheckpoint {
    /// Checks that description and graph go together; the description's widths are set.
    pub fn new(mut description: Description, graph: Graph) -> anyhow::Result<Self> {
        let input = Shape::try_from(description.input)?;
        if graph.input() != input {
            bail!("the network takes {}, its description says {input}", graph.input());
        }
        let classes = description.classes.len();
        if <[usize; 3]>::from(graph.output()) != [classes, 1, 1] {
            bail!("the network gives {}, and there are {classes} classes", graph.output());
        }
        description.widths = widths(&graph);
        Ok(Self { description, graph })
    }

    /// Reads a checkpoint, also one of an earlier release.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let (mut tensors, metadata) = checkpoint::load_tensors(path)?;
        let named = || path.display().to_string();
        let Some(graph) = metadata.get(GRAPH) else {
            return Self::of_chain(&Checkpoint::load(path)?).with_context(named);
        };
        let description = metadata
            .get(DESCRIPTION)
            .context("the description is missing")
            .with_context(named)?;
        let description: Description = serde_json::from_str(description).with_context(named)?;
        let mut nodes: Vec<Node> = serde_json::from_str(graph).with_context(named)?;
        fill(&mut nodes, |name, _| {
            tensors
                .remove(name)
                .map(|it| it.values)
                .with_context(|| format!("tensor `{name}` is missing"))
        })
        .with_context(named)?;
        if let Some(name) = tensors.keys().next() {
            bail!("{}: tensor `{name}` belongs to no node", named());
        }
        let graph = Graph::new(Shape::try_from(description.input)?, nodes).with_context(named)?;
        Self::new(description, graph).with_context(named)
    }

    /// Writes the checkpoint beside `path` and renames it, so that a file of that name is always whole.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut tensors = BTreeMap::new();
        for node in self.graph.nodes() {
            for tensor in node.op.tensors() {
                let (shape, values) = (tensor.shape.clone(), tensor.values.clone());
                tensors.insert(format!("{}.{}", node.name, tensor.name), NamedTensor { shape, values });
            }
        }
        let metadata = [
            (DESCRIPTION.to_owned(), serde_json::to_string(&self.description)?),
            (GRAPH.to_owned(), serde_json::to_string(self.graph.nodes())?),
        ];
        Ok(checkpoint::save_tensors(path, &tensors, metadata.into())?)
    }

    /// The graph of a chain.
    pub fn of_chain(chain: &Checkpoint) -> anyhow::Result<Self> {
        let description = chain.description().clone();
        let mut nodes: Vec<Node> = Vec::new();
        for layer in description.layers()? {
            let source = |nodes: &[Node]| nodes.len().checked_sub(1).map_or(Source::Input, Source::Node);
            let mut push = |name: String, op: Op| {
                let node = Node::new(name, op, source(&nodes));
                nodes.push(node);
            };
            match layer {
                LayerSpec::Convolution {
                    position,
                    inputs,
                    outputs,
                    ..
                } => {
                    let name = |offset: usize| format!("features.{}", position + offset);
                    push(name(0), Op::Convolution(convolution(inputs, outputs)));
                    push(name(1), Op::BatchNorm(batch_norm(outputs)));
                    push(name(2), Op::Activation(Activation::Relu));
                }
                LayerSpec::Pool { split, .. } => push(split, Op::MaxPool(Window::square(2, 2, 0))),
                LayerSpec::Linear { inputs, outputs } => {
                    push("flatten".into(), Op::Flatten);
                    let linear = Linear {
                        inputs,
                        outputs,
                        weight: Vec::new(),
                        bias: Some(Vec::new()),
                    };
                    push("classifier".into(), Op::Linear(linear));
                }
            }
        }
        fill(&mut nodes, |name, _| chain.tensor(name).map(|it| it.values.clone()))?;
        let graph = Graph::new(Shape::try_from(description.input)?, nodes)?;
        Self::new(description, graph)
    }
}

/// What a checkpoint says of an architecture's network for pictures of a size, with the architecture's usual normalisation.
pub fn usual_description(architecture: Architecture, size: [usize; 2], classes: Vec<String>) -> Description {
    let (mean, std) = architecture.usual_normalization();
    Description {
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

/// Outputs of each convolution, in order.
pub fn widths(graph: &Graph) -> Vec<usize> {
    let widths = graph.nodes().iter().filter_map(|it| match &it.op {
        Op::Convolution(it) => Some(it.outputs),
        _ => None,
    });
    widths.collect()
}

fn convolution(inputs: usize, outputs: usize) -> Convolution {
    Convolution {
        inputs,
        outputs,
        groups: 1,
        window: Window::square(KERNEL, 1, KERNEL / 2),
        weight: Vec::new(),
        bias: None,
    }
}

fn batch_norm(channels: usize) -> BatchNorm {
    BatchNorm {
        channels,
        epsilon: BATCH_NORM_EPSILON,
        scale: Vec::new(),
        shift: Vec::new(),
        mean: Vec::new(),
        variance: Vec::new(),
    }
}
