//! Which channels to remove, and removing them.
//!
//! Ranking is the first-order Taylor criterion (Molchanov et al. 2017): a channel's score is |mean over batch and positions of
//! activation × gradient|, added up over batches, and over all layers that make channels which have to go together.

use std::collections::HashSet;

use anyhow::{Context, bail, ensure};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use split_graph::{
    Activation, Bottleneck, Channels, Convolution, CutPoint, Graph, Group, Op, RemoveError, Source, Window,
};

use crate::augment;

/// Pixels of features that a bottleneck is made for, spread evenly.
const COMPONENT_PIXELS: usize = 100_000;

/// How channels are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Widths stay multiples of this.
    pub multiple: usize,
    /// Exponent of the multiply–accumulates that a channel costs in its price: 0 ranks by score alone.
    pub work_exponent: f64,
}

/// Part of a network in which channels may be removed: its first nodes.
#[derive(Clone, Debug)]
pub struct Region {
    /// How many nodes lie in it.
    nodes: usize,
    /// Units that lie outside, too.
    fixed: HashSet<usize>,
}

impl Region {
    /// All layers.
    pub fn all(graph: &Graph) -> Self {
        Self {
            nodes: graph.nodes().len(),
            fixed: HashSet::new(),
        }
    }

    /// The layers before a cut point, up to this node; what crosses there keeps its channels.
    pub fn head(graph: &Graph, node: usize) -> anyhow::Result<Self> {
        let channels = graph.channel_groups();
        let region = Self {
            nodes: node + 1,
            fixed: channels.of(Source::Node(node)).iter().copied().collect(),
        };
        ensure!(
            channels.groups().iter().any(|it| region.has(it)),
            "nothing can be pruned before `{}`: what crosses there keeps its channels, and there are no others",
            graph.nodes()[node].name
        );
        Ok(region)
    }

    /// Multiply–accumulates of its layers.
    pub fn macs(&self, graph: &Graph) -> u64 {
        (0..self.nodes).map(|it| graph.macs_of(it)).sum()
    }

    fn has(&self, group: &Group) -> bool {
        group.producers.iter().all(|it| *it < self.nodes) && !group.units.iter().any(|it| self.fixed.contains(it))
    }
}

/// The node of a cut point, see [`cut_point`].
pub fn cut_node(graph: &Graph, split: &str) -> anyhow::Result<usize> {
    Ok(cut_point(graph, split)?.node)
}

/// The cut point that a name stands for; names those that there are if it stands for none.
pub fn cut_point(graph: &Graph, split: &str) -> anyhow::Result<CutPoint> {
    match graph.cut_point(split) {
        Some(point) => Ok(point),
        None => {
            let known: Vec<String> = graph.cut_points().into_iter().map(|it| it.name).collect();
            bail!("the network cannot be cut at `{split}`; it can at {}", known.join(", "))
        }
    }
}

/// The last of the batch norms and activations that follow a node alone, or the node itself.
fn last_pointwise(graph: &Graph, consumers: &[Vec<usize>], mut node: usize) -> usize {
    while let [next] = consumers[node][..]
        && graph.nodes()[next].op.is_pointwise()
    {
        node = next;
    }
    node
}

/// Scores of all units of a network, added up batch by batch.
#[derive(Clone, Debug)]
pub struct Scores {
    channels: Channels,
    /// For each node whether its output counts: where a layer that makes channels has its batch norm and activation behind it.
    counts: Vec<bool>,
    sums: Vec<f64>,
}

impl Scores {
    /// None yet.
    pub fn none(graph: &Graph) -> Self {
        let channels = graph.channel_groups();
        let mut counts = vec![false; graph.nodes().len()];
        let consumers = graph.consumers();
        for node in channels.groups().iter().flat_map(|it| &it.producers) {
            counts[last_pointwise(graph, &consumers, *node)] = true;
        }
        Self {
            sums: vec![0.0; channels.units()],
            channels,
            counts,
        }
    }

    /// Adds what one batch says of a node's channels: its output, and the slope of the mean loss by it, `[N, H, W, C]`.
    pub fn add(&mut self, node: usize, output: &[f32], slope: &[f32]) {
        if !self.counts[node] {
            return;
        }
        let units = self.channels.of(Source::Node(node));
        let mut sums = vec![0.0; units.len()];
        for (output, slope) in output.chunks_exact(units.len()).zip(slope.chunks_exact(units.len())) {
            for ((sum, output), slope) in sums.iter_mut().zip(output).zip(slope) {
                *sum += f64::from(output * slope);
            }
        }
        let positions = (output.len() / units.len().max(1)) as f64;
        // A flattened map has each unit several times.
        let mut by_unit: Vec<(usize, f64)> = units.iter().copied().zip(sums).collect();
        by_unit.sort_by_key(|it| it.0);
        for same in by_unit.chunk_by(|a, b| a.0 == b.0) {
            self.sums[same[0].0] += (same.iter().map(|it| it.1).sum::<f64>() / positions).abs();
        }
    }

    /// Scores of a group's units, divided by their L2 norm, which makes groups comparable.
    fn normalized(&self, group: &Group) -> Vec<f64> {
        let scores = group.units.iter().map(|it| self.sums[*it]);
        let norm = scores.clone().map(|it| it * it).sum::<f64>().sqrt();
        scores.map(|it| if norm > 0.0 { it / norm } else { 0.0 }).collect()
    }

    /// A group's units, the most valuable first.
    fn ranked(&self, group: &Group) -> Vec<(usize, f64)> {
        let mut ranked: Vec<(usize, f64)> = group.units.iter().copied().zip(self.normalized(group)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }
}

/// The network with as few channels in a region as leave at most `target` multiply–accumulates there, the least valuable first out.
pub fn prune(
    graph: &Graph,
    scores: &Scores,
    region: &Region,
    target: u64,
    choice: Choice,
) -> Result<Graph, RemoveError> {
    let channels = &scores.channels;
    let groups = channels.groups().iter().filter(|it| region.has(it));
    let ranked = groups.map(|it| scores.ranked(it)).collect();
    let kept = kept(graph, channels, ranked, region, target, choice);
    graph.with_units(channels, |it| kept[it])
}

/// Whether each unit stays. `ranked` are the units of some groups with their values, the most valuable first.
fn kept(
    graph: &Graph,
    channels: &Channels,
    mut ranked: Vec<Vec<(usize, f64)>>,
    region: &Region,
    target: u64,
    choice: Choice,
) -> Vec<bool> {
    let mut kept = vec![true; channels.units()];
    let macs = |kept: &[bool]| graph.macs_with(channels, region.nodes, |it| kept[it]);
    loop {
        let now = macs(&kept);
        if now <= target {
            break;
        }
        let cheapest = ranked
            .iter()
            .enumerate()
            .filter_map(|(group, units)| {
                let width = units.len();
                let count = match width % choice.multiple {
                    0 => choice.multiple,
                    more => more,
                };
                let left = width.checked_sub(count).filter(|left| *left >= choice.multiple)?;
                let value = units[left..].iter().map(|it| it.1).sum::<f64>() / count as f64;
                units[left..].iter().for_each(|it| kept[it.0] = false);
                let saved = now.saturating_sub(macs(&kept)) as f64 / count as f64;
                units[left..].iter().for_each(|it| kept[it.0] = true);
                Some((value / saved.max(1.0).powf(choice.work_exponent), group, left))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, group, left)) = cheapest else { break };
        for (unit, _) in ranked[group].split_off(left) {
            kept[unit] = false;
        }
    }
    kept
}

/// The network with only the `width` most valuable channels of what one layer makes at a split point, see [`layer_at`].
pub fn narrow(graph: &Graph, scores: &Scores, node: usize, width: usize) -> anyhow::Result<Graph> {
    let group = layer_at(graph, &scores.channels, node).context("no layer that can be pruned alone")?;
    let gone: HashSet<usize> = scores.ranked(group).into_iter().skip(width).map(|it| it.0).collect();
    Ok(graph.with_units(&scores.channels, |it| !gone.contains(&it))?)
}

/// The channels that cross at a node, where one layer alone makes them, so that step 2 can prune that layer: one with an activation that leaves
/// nothing negative, or the first convolution of a bottleneck.
///
/// Everywhere else, in a residual stream or behind a linear layer, a bottleneck has to be put there first.
pub fn layer_at<'a>(graph: &Graph, channels: &'a Channels, node: usize) -> Option<&'a Group> {
    let group = channels.group_of(Source::Node(node))?;
    let is_narrowed = is_bottleneck(graph, node) || is_non_negative(graph, node);
    (group.producers.len() == 1 && is_narrowed).then_some(group)
}

/// Whether a node is the first convolution of a bottleneck that [`Graph::with_bottleneck`] made.
pub fn is_bottleneck(graph: &Graph, node: usize) -> bool {
    let it = &graph.nodes()[node];
    it.name.ends_with(".encode")
        && matches!(&it.op, Op::Convolution(Convolution { window, groups: 1, .. }) if *window == Window::point())
}

/// Whether an activation leaves nothing negative that pools could change before the node's output.
fn is_non_negative(graph: &Graph, mut node: usize) -> bool {
    loop {
        let it = &graph.nodes()[node];
        match (&it.op, &it.inputs[..]) {
            (Op::Activation(it), _) => return it.is_non_negative() && *it != Activation::Sigmoid,
            (Op::MaxPool(_) | Op::AveragePool { .. } | Op::GlobalAveragePool, [Source::Node(before)]) => node = *before,
            _ => return false,
        }
    }
}

/// Principal components: the directions in which features of C channels vary, those with the largest variance first.
struct Components {
    /// Of each channel.
    mean: DVector<f64>,
    /// Along each direction.
    variances: Vec<f64>,
    /// The directions, each of C values and length one.
    directions: Vec<DVector<f64>>,
}

impl Components {
    fn new(mean: DVector<f64>, covariance: DMatrix<f64>) -> Self {
        let found = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..mean.len()).collect();
        order.sort_by(|a, b| found.eigenvalues[*b].total_cmp(&found.eigenvalues[*a]));
        Self {
            mean,
            variances: order.iter().map(|it| found.eigenvalues[*it].max(0.0)).collect(),
            directions: order
                .iter()
                .map(|it| found.eigenvectors.column(*it).into_owned())
                .collect(),
        }
    }

    /// The bottleneck of the first `width` directions. Each channel was multiplied by its `scale` before they were found.
    fn bottleneck(&self, width: usize, scale: &[f64]) -> Bottleneck {
        let directions = &self.directions[..width.min(self.directions.len())];
        let weights = |values: &mut dyn Iterator<Item = f64>| values.map(|it| it as f32).collect::<Vec<f32>>();
        let scaled = |it: &DVector<f64>| it.iter().zip(scale).map(|(it, scale)| it * scale).collect::<Vec<f64>>();
        let decode = |channel: usize| directions.iter().map(move |it| it[channel] / scale[channel]);
        Bottleneck {
            width: directions.len(),
            encode: weights(&mut directions.iter().flat_map(scaled)),
            encode_bias: weights(&mut directions.iter().map(|it| -it.dot(&self.mean))),
            decode: weights(&mut (0..scale.len()).flat_map(decode)),
            decode_bias: weights(&mut self.mean.iter().zip(scale).map(|(mean, scale)| mean / scale)),
        }
    }
}

/// The bottleneck of `width` channels that loses least of features `[N, H, W, C]`, by their squared error: their principal components.
pub fn bottleneck(features: &[f32], channels: usize, width: usize) -> Bottleneck {
    let pixels = || {
        let stride = (features.len() / channels).div_ceil(COMPONENT_PIXELS).max(1);
        features.chunks_exact(channels).step_by(stride)
    };
    let count = pixels().count().max(1) as f64;
    let mut mean = DVector::<f64>::zeros(channels);
    pixels().for_each(|pixel| {
        mean.iter_mut()
            .zip(pixel)
            .for_each(|(sum, it)| *sum += f64::from(*it) / count)
    });
    let centred = DMatrix::from_iterator(
        channels,
        pixels().count(),
        pixels().flat_map(|pixel| pixel.iter().zip(&mean).map(|(it, mean)| f64::from(*it) - mean)),
    );
    Components::new(mean, &centred * centred.transpose()).bottleneck(width, &vec![1.0; channels])
}

/// `count` positions of a map, spread evenly over it, beginning at another place for each picture.
fn spread(count: usize, positions: usize, picture: u64) -> impl Iterator<Item = usize> {
    let first = augment::mix(picture) as usize % positions;
    (0..count).map(move |it| (first + it * positions / count) % positions)
}

pub mod low_rank;
pub mod reconstruct;
#[cfg(test)]
mod tests;
