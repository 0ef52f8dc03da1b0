//! Making two smaller convolutions of one: factors of low rank.
//!
//! What a convolution gives varies in fewer directions than it has channels. The first factor gives the principal components of it, as many as are kept, the
//! second, a convolution of 1×1, makes all channels of them (Zhang et al. 2016, *Accelerating very deep convolutional networks for classification and
//! detection*). How many each layer keeps is chosen as there: so that the product over layers of the shares of variance that are kept falls least for the
//! work that is saved.

use nalgebra::{DMatrix, DVector};
use split_graph::{Bottleneck, Convolution, Graph, Op, Source, Window};
use split_train::{Network, Observer};

use super::{Components, Region, reconstruct, spread};

/// Pixels of its output that a layer's components are found by, at least, and at least for each of its channels.
const PIXELS: [usize; 2] = [8192, 64];
/// The least that a channel's error counts, as a share of what the one counts whose batch norm has the largest factor.
const LEAST_SCALE: f64 = 1e-3;

/// A convolution that can be factored.
struct Candidate {
    node: usize,
    /// Of its output.
    positions: usize,
    /// Multiply–accumulates for each position as it is, and for each channel between its factors.
    macs: [usize; 2],
    /// What a channel's value is multiplied by before errors are compared: its batch norm's factor.
    scale: Vec<f64>,
    /// Pixels taken from each picture.
    pixels: usize,
    count: f64,
    sum: DVector<f64>,
    /// Sum of outer products.
    products: DMatrix<f64>,
}

/// The network with convolutions in a region factored, until at most `target` multiply–accumulates are left there. `batches` are pictures
/// `[N, H, W, C]`, some hundreds in all; the channels between factors are multiples of `multiple`. Convolutions that were factored before stay as they are.
pub fn prune(
    graph: &Graph,
    region: &Region,
    target: u64,
    multiple: usize,
    batches: &[Vec<f32>],
) -> anyhow::Result<Graph> {
    let pictures = batches.iter().map(|it| it.len() / graph.input().values()).sum();
    let mut candidates = candidates(graph, region, pictures);
    // Nothing sees what a convolution gives to its batch norm, but what the first of two factors gives, here as many channels as ever, is seen.
    let mut wide = graph.clone();
    for it in candidates.iter().rev() {
        wide = wide.factored(it.node, &Bottleneck::identity(it.scale.len()))?;
    }
    let network = Network::new(&wide);
    let mut seen = 0;
    for batch in batches {
        let mut watch = Watch {
            candidates: &mut candidates,
            seen,
        };
        network.evaluate(batch, &mut watch);
        seen += (batch.len() / graph.input().values()) as u64;
    }
    let layers: Vec<Layer> = candidates.into_iter().map(Candidate::layer).collect();
    let ranks = ranks(&layers, region.macs(graph), target, multiple);
    let mut smaller = graph.clone();
    // From behind, so that the places of those that are to come stay.
    for (layer, rank) in layers.iter().zip(ranks).rev() {
        if let Some(rank) = rank {
            smaller = smaller.factored(layer.node, &layer.components.bottleneck(rank, &layer.scale))?;
        }
    }
    reconstruct::with_moments_of(&smaller, batches)
}

/// The convolutions that can be factored: none that are grouped, and no factors.
fn candidates(graph: &Graph, region: &Region, pictures: usize) -> Vec<Candidate> {
    let consumers = graph.consumers();
    let convolution = |node: usize| match &graph.nodes()[node].op {
        Op::Convolution(it) if it.groups == 1 => Some(it),
        _ => None,
    };
    let is_point = |node: usize| convolution(node).is_some_and(|it| it.window == Window::point());
    let nodes = (0..region.nodes).filter_map(|node| {
        let whole: &Convolution = convolution(node)?;
        let is_first = matches!(consumers[node][..], [next] if is_point(next));
        let is_second = matches!(graph.nodes()[node].inputs[0], Source::Node(it) if convolution(it).is_some());
        if is_first || is_second && is_point(node) {
            return None;
        }
        let positions = graph.shape(Source::Node(node)).positions();
        let norm = reconstruct::norm_behind(graph, &consumers, node);
        let mut scale = vec![1.0; whole.outputs];
        if let Some(Op::BatchNorm(norm)) = norm.map(|it| &graph.nodes()[it].op) {
            let factors = (0..whole.outputs).map(|it| f64::from(norm.factor(it).0).abs());
            let least = factors.clone().fold(f64::MIN_POSITIVE, f64::max) * LEAST_SCALE;
            scale = factors.map(|it| it.max(least)).collect();
        }
        let taps = whole.weight.len() / whole.outputs.max(1);
        Some(Candidate {
            node,
            positions,
            macs: [taps * whole.outputs, taps + whole.outputs],
            scale,
            pixels: PIXELS[0]
                .max(PIXELS[1] * whole.outputs)
                .div_ceil(pictures.max(1))
                .min(positions),
            count: 0.0,
            sum: DVector::zeros(whole.outputs),
            products: DMatrix::zeros(whole.outputs, whole.outputs),
        })
    });
    nodes.collect()
}

struct Watch<'a> {
    candidates: &'a mut [Candidate],
    /// Pictures before these.
    seen: u64,
}

impl Observer for Watch<'_> {
    fn forward(&mut self, node: usize, output: &mut [f32]) {
        // Each candidate before has become two nodes.
        let mut candidates = self.candidates.iter_mut().enumerate();
        if let Some((_, it)) = candidates.find(|(before, it)| it.node + before == node) {
            it.take(output, self.seen);
        }
    }
}

impl Candidate {
    /// Adds pixels of maps `[N, H, W, C]`, the first of which is that of the picture of this number.
    fn take(&mut self, maps: &[f32], number: u64) {
        let (channels, positions, count) = (self.scale.len(), self.positions, self.pixels);
        let maps = maps.chunks_exact(positions * channels).enumerate();
        let pixels = maps.flat_map(|(picture, map)| {
            spread(count, positions, number + picture as u64)
                .map(move |position| &map[position * channels..][..channels])
        });
        let values: Vec<f64> = pixels
            .flat_map(|pixel| pixel.iter().zip(&self.scale).map(|(it, scale)| f64::from(*it) * scale))
            .collect();
        let pixels = DMatrix::from_vec(channels, values.len() / channels, values);
        self.count += pixels.ncols() as f64;
        self.sum += pixels.column_sum();
        self.products.gemm(1.0, &pixels, &pixels.transpose(), 1.0);
    }

    fn layer(self) -> Layer {
        let count = self.count.max(1.0);
        let mean = self.sum / count;
        let covariance = self.products / count - &mean * mean.transpose();
        Layer {
            node: self.node,
            macs: self.macs.map(|it| (it * self.positions) as u64),
            scale: self.scale,
            components: Components::new(mean, covariance),
        }
    }
}

/// A convolution that can be factored, and what is known of its output.
struct Layer {
    node: usize,
    /// Multiply–accumulates as it is, and for each channel between its factors.
    macs: [u64; 2],
    scale: Vec<f64>,
    components: Components,
}

/// Fewer channels between a layer's factors, or factors at all.
struct Step {
    rank: usize,
    saved: u64,
    /// How much the logarithm of the share of variance falls for each multiply–accumulate.
    price: f64,
}

impl Layer {
    /// Work with this many channels between the factors; as it is with none.
    fn work(&self, rank: Option<usize>) -> u64 {
        rank.map_or(self.macs[0], |it| self.macs[1] * it as u64)
    }

    /// Logarithm of the share of variance that is kept.
    fn kept(&self, rank: Option<usize>) -> f64 {
        let variances = &self.components.variances;
        let all = variances.iter().sum::<f64>();
        match rank {
            Some(rank) if all > 0.0 => (variances.iter().take(rank).sum::<f64>() / all).ln(),
            _ => 0.0,
        }
    }

    /// The step to fewer channels that loses least for what it saves.
    fn step(&self, now: Option<usize>, multiple: usize) -> Option<Step> {
        let most = now.unwrap_or(self.scale.len());
        let fewer = (multiple..most).step_by(multiple).filter_map(|rank| {
            let saved = self.work(now).checked_sub(self.work(Some(rank))).filter(|it| *it > 0)?;
            let lost = self.kept(now) - self.kept(Some(rank));
            Some(Step {
                rank,
                saved,
                price: lost / saved as f64,
            })
        });
        fewer.min_by(|a, b| a.price.total_cmp(&b.price))
    }
}

/// How many channels there are between the factors of each layer, none where it stays as it is, so that the work of `now` falls to `target`.
fn ranks(layers: &[Layer], now: u64, target: u64, multiple: usize) -> Vec<Option<usize>> {
    let mut ranks = vec![None; layers.len()];
    let mut work = now;
    while work > target {
        let steps = layers.iter().zip(&ranks).enumerate();
        let steps = steps.filter_map(|(at, (layer, rank))| Some((at, layer.step(*rank, multiple)?)));
        let Some((at, step)) = steps.min_by(|a, b| a.1.price.total_cmp(&b.1.price)) else {
            break;
        };
        work -= step.saved;
        ranks[at] = Some(step.rank);
    }
    ranks
}
