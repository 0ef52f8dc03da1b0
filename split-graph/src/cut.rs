//! Where a network can be cut in two.

use std::collections::{HashMap, HashSet};

use split_core::Shape;

use crate::graph::{Graph, GraphError, Node, Source};
use crate::op::Op;

/// An edge at which one tensor alone is live: everything behind depends on it and on nothing else before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutPoint {
    /// The module whose output crosses the edge, see [`Graph::cut_points`].
    pub name: String,
    /// The node that makes the tensor.
    pub node: usize,
    /// Shape of the tensor.
    pub shape: Shape,
    /// Multiply–accumulates before the edge.
    pub macs_before: u64,
    /// Multiply–accumulates behind it.
    pub macs_after: u64,
}

impl Graph {
    /// The edges at which one tensor alone is live, front to back, without the network's input and output.
    ///
    /// Left out are edges that give the same network as the one beside: in front of a batch norm or an activation, where more would be sent, and
    /// behind a flatten. Each is named after the numbered module whose output it is, the outermost one if there are several: `layer1.0` for the last
    /// ReLU of a ResNet's first block, `features.3` for MobileNetV2's; after the node itself where no such module ends there.
    pub fn cut_points(&self) -> Vec<CutPoint> {
        let modules = Modules::of(self.nodes());
        let consumers = self.consumers();
        let total = self.macs();
        let mut before = 0_u64;
        let mut points = Vec::new();
        for (node, alone) in self.alone().into_iter().enumerate() {
            before = before.saturating_add(self.macs_of(node));
            let same = matches!(consumers[node][..], [next] if self.nodes()[next].op.is_pointwise());
            let offered =
                alone && !same && !consumers[node].is_empty() && !matches!(self.nodes()[node].op, Op::Flatten);
            if let Some(name) = modules.name(self.nodes(), node).filter(|_| offered) {
                points.push(CutPoint {
                    name,
                    node,
                    shape: self.shape(Source::Node(node)),
                    macs_before: before,
                    macs_after: total.saturating_sub(before),
                });
            }
        }
        points
    }

    /// The cut point at the end of a module: one of [`cut_points`](Self::cut_points) by its name, by its node's, or by that of any module
    /// that ends there, such as `layer1` for the last of its blocks.
    pub fn cut_point(&self, name: &str) -> Option<CutPoint> {
        let points = self.cut_points();
        if let Some(point) = points.iter().find(|it| it.name == name) {
            return Some(point.clone());
        }
        let last = self.nodes().iter().rposition(|it| is_inside(&it.name, name))?;
        points.into_iter().find(|it| it.node == last)
    }

    /// The two networks before and behind a node's output. `None` if more than that tensor is live there, or nothing is behind it.
    pub fn split_at(&self, node: usize) -> Option<(Self, Self)> {
        let alone = self.alone().get(node).copied().unwrap_or_default();
        if !alone || node + 1 == self.nodes().len() {
            return None;
        }
        let head = self.nodes()[..=node].to_vec();
        let tail = self.nodes()[node + 1..].iter().map(|it| {
            let mut moved = it.clone();
            for source in &mut moved.inputs {
                *source = match *source {
                    Source::Node(earlier) if earlier > node => Source::Node(earlier - node - 1),
                    _ => Source::Input,
                };
            }
            moved
        });
        let tail = Self::new(self.shape(Source::Node(node)), tail.collect());
        Some((Self::new(self.input(), head).ok()?, tail.ok()?))
    }

    /// The network in pieces, cut behind each of these nodes, which are in order. `None` where it cannot be cut.
    pub fn pieces(&self, cuts: impl IntoIterator<Item = usize>) -> Option<Vec<Self>> {
        let mut pieces = Vec::new();
        let (mut rest, mut gone) = (self.clone(), 0);
        for node in cuts {
            let (head, tail) = rest.split_at(node.checked_sub(gone)?)?;
            pieces.push(head);
            (rest, gone) = (tail, node + 1);
        }
        pieces.push(rest);
        Some(pieces)
    }

    /// The network of this one's nodes and then another's, which takes what this one gives.
    pub fn then(self, next: Self) -> Result<Self, GraphError> {
        let input = self.input();
        let mut nodes = self.into_nodes();
        let before = nodes.len();
        nodes.extend(next.into_nodes().into_iter().map(|mut node| {
            for source in &mut node.inputs {
                *source = match *source {
                    Source::Input => Source::Node(before - 1),
                    Source::Node(it) => Source::Node(before + it),
                };
            }
            node
        }));
        Self::new(input, nodes)
    }

    /// For each node, whether behind it nothing is needed but its output.
    fn alone(&self) -> Vec<bool> {
        let mut last_use: HashMap<Source, usize> = HashMap::new();
        for (number, node) in self.nodes().iter().enumerate() {
            for source in &node.inputs {
                last_use.insert(*source, number);
            }
        }
        let last_use = |source: Source| last_use.get(&source).copied().unwrap_or(0);
        let mut needed_until = last_use(Source::Input);
        let mut alone = Vec::with_capacity(self.nodes().len());
        for node in 0..self.nodes().len() {
            alone.push(needed_until <= node);
            needed_until = needed_until.max(last_use(Source::Node(node)));
        }
        alone
    }
}

/// Whether a node of this name belongs to the module, or is it.
fn is_inside(name: &str, module: &str) -> bool {
    name.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The modules of a network: everything that stands before a dot in a node's name.
struct Modules<'a> {
    /// The last node of each module.
    last: HashMap<&'a str, usize>,
    names: HashSet<&'a str>,
}

impl<'a> Modules<'a> {
    fn of(nodes: &'a [Node]) -> Self {
        let mut last = HashMap::new();
        for (number, node) in nodes.iter().enumerate() {
            for (dot, _) in node.name.match_indices('.') {
                last.insert(&node.name[..dot], number);
            }
        }
        let names = nodes.iter().map(|it| it.name.as_str()).collect();
        Self { last, names }
    }

    /// The outermost numbered module that ends with a node, or the node itself. `None` for a node that has given its name to a module that
    /// ends elsewhere, as where a bottleneck was put behind it.
    fn name(&self, nodes: &[Node], node: usize) -> Option<String> {
        let name = nodes[node].name.as_str();
        let modules = name.match_indices('.').map(|(dot, _)| &name[..dot]);
        let is_named =
            |module: &&str| self.names.contains(module) || is_number(module.rsplit('.').next().unwrap_or_default());
        let module = modules.filter(is_named).find(|it| self.last.get(it) == Some(&node));
        let own = || (!self.last.contains_key(name)).then_some(name);
        module.or_else(own).map(str::to_owned)
    }
}

/// Whether this part of a path is a place in a list of modules.
fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit())
}
