//! Nodes, edges, and the checks that make a network of them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use split_core::{Shape, ShapeError};

use crate::op::{Op, Window};

/// Where a node takes a tensor from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The network's input.
    Input,
    /// The node at this place, which is an earlier one.
    Node(usize),
}

/// One operation, and what it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Module path in the network's source, such as `layer1.0.conv1`. Not empty; no two nodes share one.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it takes.
    pub inputs: Vec<Source>,
}

impl Node {
    /// A node with one input.
    pub fn new(name: impl Into<String>, op: Op, input: Source) -> Self {
        Self {
            name: name.into(),
            op,
            inputs: vec![input],
        }
    }
}

/// A convolutional network: nodes in topological order, the last of which is the output.
///
/// A value of this type is sound: inputs exist, shapes fit, weights are complete and finite, and every node leads to the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    input: Shape,
    nodes: Vec<Node>,
    /// Of each node's output.
    shapes: Vec<Shape>,
}

/// A network that contradicts itself, and the node at which it does.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{node}: {fault}")]
pub struct GraphError {
    /// The node's name, or `network`.
    pub node: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There are no nodes.
    #[error("a network needs at least one node")]
    Empty,
    /// The name is empty or another node's, too.
    #[error("every node needs a name of its own")]
    Name,
    /// It takes its own output or that of a later node, which would be a loop.
    #[error("it takes the output of node {0}, which does not come before it")]
    Order(usize),
    /// Its output leads nowhere.
    #[error("nothing uses its output")]
    Unused,
    /// A wrong number of inputs.
    #[error("it does not work with {got} inputs")]
    Arity {
        /// Inputs given.
        got: usize,
    },
    /// It is made for another number of channels or values.
    #[error("it takes {expected} channels or values, its input is {got}")]
    Input {
        /// What it takes.
        expected: usize,
        /// What it is given.
        got: Shape,
    },
    /// Two inputs do not go together.
    #[error("its inputs {first} and {other} do not go together")]
    Differ {
        /// The first input.
        first: Shape,
        /// One that does not fit it.
        other: Shape,
    },
    /// Channels that cannot be divided into groups.
    #[error("{inputs} inputs and {outputs} outputs cannot be divided into {groups} groups")]
    Groups {
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
        /// Groups.
        groups: usize,
    },
    /// A window larger than its padded input, one that could see padding alone, or a stride of zero.
    #[error("a window of {window} does not fit the input {input}")]
    Window {
        /// The window.
        window: Window,
        /// What it would move over.
        input: Shape,
    },
    /// A batch norm that could divide by zero.
    #[error("an epsilon of {0} is not positive")]
    Epsilon(f32),
    /// Weights of another length than their shape's.
    #[error("`{tensor}` of shape {shape:?} cannot have {got} values")]
    Length {
        /// The tensor.
        tensor: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Values given.
        got: usize,
    },
    /// A weight that is not finite, or a negative variance.
    #[error("value {at} of `{tensor}` is {value}")]
    Value {
        /// The tensor.
        tensor: &'static str,
        /// Place of the first such value.
        at: usize,
        /// The value.
        value: f32,
    },
    /// It cannot become two convolutions.
    #[error("only a convolution without groups can be factored")]
    Factors,
    /// An output that is empty or too large.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl Graph {
    /// Checks nodes and works out the shape of everything.
    pub fn new(input: Shape, nodes: Vec<Node>) -> Result<Self, GraphError> {
        let at = |node: &Node, fault| GraphError {
            node: node.name.clone(),
            fault,
        };
        let mut names = HashMap::new();
        let mut used = vec![false; nodes.len()];
        let mut shapes: Vec<Shape> = Vec::with_capacity(nodes.len());
        for (number, node) in nodes.iter().enumerate() {
            if node.name.is_empty() || names.insert(node.name.as_str(), number).is_some() {
                return Err(at(node, Fault::Name));
            }
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for source in &node.inputs {
                inputs.push(match *source {
                    Source::Input => input,
                    Source::Node(earlier) => {
                        let shape = shapes.get(earlier).ok_or_else(|| at(node, Fault::Order(earlier)))?;
                        used[earlier] = true;
                        *shape
                    }
                });
            }
            node.op.check_weights().map_err(|it| at(node, it))?;
            shapes.push(node.op.output(&inputs).map_err(|it| at(node, it))?);
        }
        let unused = nodes.iter().zip(&used).rev().skip(1).find(|it| !it.1);
        if let Some((node, _)) = unused {
            return Err(at(node, Fault::Unused));
        }
        if nodes.is_empty() {
            return Err(GraphError {
                node: "network".into(),
                fault: Fault::Empty,
            });
        }
        Ok(Self { input, nodes, shapes })
    }

    /// Shape of the input, `[C, H, W]`.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// The nodes, each after what it takes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes alone, to make another network of them.
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// Shape of a tensor. `source` is one of this network's.
    pub fn shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => self.input,
            Source::Node(node) => self.shapes[node],
        }
    }

    /// Shape of the last node's output.
    pub fn output(&self) -> Shape {
        self.shapes.last().copied().unwrap_or(self.input)
    }

    /// The node of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|it| it.name == name)
    }

    /// Multiply–accumulates of a node for one image.
    pub fn macs_of(&self, node: usize) -> u64 {
        self.nodes[node].op.macs(self.shapes[node])
    }

    /// Multiply–accumulates of the network for one image.
    pub fn macs(&self) -> u64 {
        (0..self.nodes.len())
            .map(|it| self.macs_of(it))
            .fold(0, u64::saturating_add)
    }

    /// Nodes that take each node's output, in order; one that takes it twice is there twice.
    pub fn consumers(&self) -> Vec<Vec<usize>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (number, node) in self.nodes.iter().enumerate() {
            for source in &node.inputs {
                if let Source::Node(earlier) = *source {
                    consumers[earlier].push(number);
                }
            }
        }
        consumers
    }
}

/// Puts weights into nodes whose description alone was read or made.
///
/// `values` gets the full name of a tensor, such as `layer1.0.conv1.weight`, and its shape.
pub fn fill<E>(nodes: &mut [Node], mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>) -> Result<(), E> {
    for node in nodes {
        for tensor in node.op.tensors_mut() {
            *tensor.values = values(&format!("{}.{}", node.name, tensor.name), &tensor.shape)?;
        }
    }
    Ok(())
}
