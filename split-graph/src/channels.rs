//! Which channels go together, and removing them.

use std::collections::{BTreeSet, HashMap};

use crate::graph::{Graph, GraphError, Node, Source};
use crate::op::Op;

/// The channels of all tensors of a network, put together into *units*: channels that can only be removed at once.
///
/// An addition, a gate, a depthwise convolution and a pool tie the channels of what they take and give; a grouped convolution ties all
/// channels of one of its groups; a concatenation and a flatten hand them on under other numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    input: Vec<usize>,
    /// Unit of each channel of each node's output.
    nodes: Vec<Vec<usize>>,
    groups: Vec<Group>,
    units: usize,
}

/// Units that the same nodes make, such as the channels of a residual stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name of the first of its producers.
    pub name: String,
    /// The convolutions and linear layers that make these channels, in order.
    pub producers: Vec<usize>,
    /// The units, in the order of the first producer's channels.
    pub units: Vec<usize>,
}

/// Units that cannot be removed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The network's input and output keep their channels.
    #[error("{0}: channels of the network's input or output cannot be removed")]
    Fixed(String),
    /// Nothing would be left of a tensor.
    #[error("{0}: at least one channel has to be left")]
    Empty(String),
    /// What is left is no sound network, which would be a fault of this crate.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Channels {
    /// Unit of each channel of a tensor.
    pub fn of(&self, source: Source) -> &[usize] {
        match source {
            Source::Input => &self.input,
            Source::Node(node) => &self.nodes[node],
        }
    }

    /// The groups whose units can be removed, in the order of their first producers.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Number of units, those that cannot be removed included; units are numbered from 0.
    pub fn units(&self) -> usize {
        self.units
    }

    /// The group that a tensor's channels belong to, if it is one, and all of it.
    pub fn group_of(&self, source: Source) -> Option<&Group> {
        let units: BTreeSet<usize> = self.of(source).iter().copied().collect();
        let same = |it: &&Group| it.units.len() == units.len() && it.units.iter().all(|it| units.contains(it));
        self.groups.iter().find(same)
    }
}

/// Sets of numbers that are joined pair by pair.
struct Joined(Vec<usize>);

impl Joined {
    fn fresh(&mut self, count: usize) -> Vec<usize> {
        let first = self.0.len();
        self.0.extend(first..first + count);
        (first..first + count).collect()
    }

    fn root(&mut self, mut of: usize) -> usize {
        while self.0[of] != of {
            self.0[of] = self.0[self.0[of]];
            of = self.0[of];
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

impl Graph {
    /// The units and groups of this network's channels.
    pub fn channel_groups(&self) -> Channels {
        let mut joined = Joined(Vec::new());
        let mut input = joined.fresh(self.input().channels());
        let mut nodes: Vec<Vec<usize>> = Vec::with_capacity(self.nodes().len());
        for (number, node) in self.nodes().iter().enumerate() {
            let of = |source: &Source| match *source {
                Source::Input => input.clone(),
                Source::Node(it) => nodes[it].clone(),
            };
            let inputs: Vec<Vec<usize>> = node.inputs.iter().map(of).collect();
            let made = self.shape(Source::Node(number));
            nodes.push(units_of(
                node,
                inputs,
                self.shape(node.inputs[0]).positions(),
                made.channels(),
                &mut joined,
            ));
        }
        let mut numbers = HashMap::new();
        let mut number = |it: &mut usize| {
            let (root, next) = (joined.root(*it), numbers.len());
            *it = *numbers.entry(root).or_insert(next);
        };
        input.iter_mut().for_each(&mut number);
        nodes.iter_mut().flatten().for_each(&mut number);
        let units = numbers.len();
        let groups = self.groups(&input, &nodes, units);
        Channels {
            input,
            nodes,
            groups,
            units,
        }
    }

    fn groups(&self, input: &[usize], nodes: &[Vec<usize>], units: usize) -> Vec<Group> {
        let mut fixed = vec![false; units];
        for unit in input.iter().chain(nodes.last().into_iter().flatten()) {
            fixed[*unit] = true;
        }
        let mut producers: Vec<Vec<usize>> = vec![Vec::new(); units];
        for (number, node) in self.nodes().iter().enumerate() {
            if makes_channels(&node.op) {
                for unit in &nodes[number] {
                    if producers[*unit].last() != Some(&number) {
                        producers[*unit].push(number);
                    }
                }
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
        // Units are numbered as they appear, so groups and their units come in order.
        for (unit, producers) in producers.into_iter().enumerate().filter(|it| !fixed[it.0]) {
            let Some(&first) = producers.first() else { continue };
            let group = *known.entry(producers.clone()).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Group {
                    name: self.nodes()[first].name.clone(),
                    producers,
                    units: Vec::new(),
                });
            }
            groups[group].units.push(unit);
        }
        groups
    }

    /// Multiply–accumulates of the first `nodes` nodes that would be left with only the units for which `kept` is true. `channels` is this
    /// network's.
    pub fn macs_with(&self, channels: &Channels, nodes: usize, kept: impl Fn(usize) -> bool) -> u64 {
        let count = |source: Source| channels.of(source).iter().filter(|it| kept(**it)).count() as u64;
        let macs = self
            .nodes()
            .iter()
            .take(nodes)
            .enumerate()
            .map(|(number, node)| match &node.op {
                Op::Convolution(it) => {
                    let [rows, columns] = it.window.kernel;
                    let area = (self.shape(Source::Node(number)).positions() * rows * columns) as u64;
                    let inputs = match it.groups {
                        1 => count(node.inputs[0]),
                        groups => (it.inputs / groups) as u64,
                    };
                    count(Source::Node(number)) * inputs * area
                }
                Op::Linear(_) => count(Source::Node(number)) * count(node.inputs[0]),
                _ => 0,
            });
        macs.sum()
    }

    /// The network with only the units for which `kept` is true: what it computes is what this one computes where the channels of all other
    /// units are zero in every tensor. `channels` is this network's.
    pub fn with_units(&self, channels: &Channels, kept: impl Fn(usize) -> bool) -> Result<Self, RemoveError> {
        let places = |source: Source| -> Vec<usize> {
            let units = channels.of(source).iter().enumerate();
            units.filter(|(_, unit)| kept(**unit)).map(|it| it.0).collect()
        };
        if places(Source::Input).len() < self.input().channels() {
            return Err(RemoveError::Fixed("input".into()));
        }
        let mut nodes = self.nodes().to_vec();
        for (number, node) in nodes.iter_mut().enumerate() {
            let outputs = places(Source::Node(number));
            if number + 1 == self.nodes().len() && outputs.len() < self.output().channels() {
                return Err(RemoveError::Fixed(node.name.clone()));
            }
            if outputs.is_empty() {
                return Err(RemoveError::Empty(node.name.clone()));
            }
            let inputs = places(node.inputs[0]);
            keep(&mut node.op, &inputs, &outputs);
        }
        Ok(Self::new(self.input(), nodes)?)
    }
}

/// Whether the channels of the operation's output are its own, not those of its input.
fn makes_channels(op: &Op) -> bool {
    matches!(op, Op::Linear(_)) || matches!(op, Op::Convolution(it) if it.groups == 1)
}

/// Units of a node's output, `made` channels, those of its inputs joined as the operation asks. `positions` is those of its first input.
fn units_of(
    node: &Node,
    mut inputs: Vec<Vec<usize>>,
    positions: usize,
    made: usize,
    joined: &mut Joined,
) -> Vec<usize> {
    match &node.op {
        op if makes_channels(op) => joined.fresh(made),
        Op::Convolution(it) => {
            let group = it.inputs / it.groups;
            for units in inputs[0].chunks(group) {
                units.windows(2).for_each(|it| joined.join(it[0], it[1]));
            }
            let multiple = it.outputs / it.groups;
            (0..made).map(|output| inputs[0][output / multiple * group]).collect()
        }
        Op::Add | Op::Gate => {
            let first = inputs.swap_remove(0);
            for other in inputs {
                first.iter().zip(other).for_each(|(a, b)| joined.join(*a, b));
            }
            first
        }
        Op::Concat => inputs.concat(),
        Op::Flatten => inputs[0]
            .iter()
            .flat_map(|it| std::iter::repeat_n(*it, positions))
            .collect(),
        _ => inputs.swap_remove(0),
    }
}

/// Keeps the channels at these places of an operation's first input and of its output.
fn keep(op: &mut Op, inputs: &[usize], outputs: &[usize]) {
    match op {
        Op::Convolution(it) => {
            let [rows, columns] = it.window.kernel;
            let (row, area) = (it.kernel_values(), rows * columns);
            if it.groups == 1 {
                it.weight = select(&it.weight, row, outputs, area, inputs);
            } else {
                it.weight = select(&it.weight, row, outputs, row, &[0]);
                it.groups = inputs.len() / (it.inputs / it.groups);
            }
            if let Some(bias) = &mut it.bias {
                *bias = outputs.iter().map(|place| bias[*place]).collect();
            }
            (it.inputs, it.outputs) = (inputs.len(), outputs.len());
        }
        Op::Linear(it) => {
            it.weight = select(&it.weight, it.inputs, outputs, 1, inputs);
            if let Some(bias) = &mut it.bias {
                *bias = outputs.iter().map(|place| bias[*place]).collect();
            }
            (it.inputs, it.outputs) = (inputs.len(), outputs.len());
        }
        Op::BatchNorm(it) => {
            for values in [&mut it.scale, &mut it.shift, &mut it.mean, &mut it.variance] {
                *values = outputs.iter().map(|place| values[*place]).collect();
            }
            it.channels = outputs.len();
        }
        _ => {}
    }
}

/// Of rows of `row` values, those at `rows`, and in each the runs of `run` values at `runs`.
fn select(values: &[f32], row: usize, rows: &[usize], run: usize, runs: &[usize]) -> Vec<f32> {
    let mut kept = Vec::with_capacity(rows.len() * runs.len() * run);
    for at in rows {
        let row = &values[at * row..][..row];
        for at in runs {
            kept.extend_from_slice(&row[at * run..][..run]);
        }
    }
    kept
}
