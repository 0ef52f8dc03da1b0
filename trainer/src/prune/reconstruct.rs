//! Choosing channels by what the layers that take them lose, and fitting those layers to what is left.
//!
//! A layer that takes fewer channels can make up for those that are gone as far as the others tell what they said: its weights are fitted anew, so that it
//! gives what it gave before, with the least squared error over some pictures (He, Zhang and Sun 2017, *Channel pruning for accelerating very deep neural
//! networks*). What is lost nevertheless is a channel's price. Channels go one at a time, the cheapest first, the prices of all others being worked out
//! again (Hassibi and Stork 1993, *Second order derivatives for network pruning: Optimal Brain Surgeon*, with a layer's squared error as the loss). No
//! gradient is needed, and far more is left than after removal alone.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use nalgebra::{Cholesky, DMatrix, DVector, Dyn};
use rayon::prelude::*;
use split_graph::{Channels, Graph, Group, Op, Source, Window};
use split_train::{Network, Observer};

use super::{Choice, Region, kept, last_pointwise};
use crate::augment;

/// Rows that a layer is fitted to, at least, and at least for each of its weights to one output.
const ROWS: [usize; 2] = [8192, 8];
/// What is added to the variances of what a layer takes, as a share of their mean: with few rows the fit follows chance otherwise.
const RIDGE: f64 = 1e-3;
/// Stands for a price that is never paid.
const GONE: f64 = f64::INFINITY;

/// A layer that takes channels.
struct Taker {
    node: usize,
    source: usize,
    window: Window,
    /// Unit of each of the values that one of its outputs is made of.
    units: Vec<usize>,
    /// Rows taken from each picture.
    rows: usize,
    /// Sum over rows of the outer product of those values, and of 1 behind them.
    moments: DMatrix<f64>,
    /// Price of an output's squared error: a share of the variance of the tensor that it ends in.
    prices: Vec<f64>,
}

/// Sums over a tensor: where what a layer gives ends.
struct End {
    node: usize,
    count: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

/// The network with as few channels in a region as leave at most `target` multiply–accumulates there, the layers that took what is gone fitted to what is
/// left. `batches` are pictures `[N, H, W, C]`, some hundreds in all.
pub fn prune(
    graph: &Graph,
    region: &Region,
    target: u64,
    choice: Choice,
    batches: &[Vec<f32>],
) -> anyhow::Result<Graph> {
    let channels = graph.channel_groups();
    let mut takers = takers(graph, &channels, region, batches);
    observe(graph, &mut takers, batches);
    let groups: Vec<&Group> = channels.groups().iter().filter(|it| region.has(it)).collect();
    let ranked: Vec<Vec<(usize, f64)>> = groups
        .par_iter()
        .map(|group| rank(group, &takers, graph))
        .collect::<anyhow::Result<_>>()?;
    let kept = kept(graph, &channels, ranked, region, target, choice);
    let smaller = fitted(graph, &takers, &kept)?.with_units(&channels, |it| kept[it])?;
    with_moments_of(&smaller, batches)
}

/// The network whose layers make up for the units that are to go, whose weights are zero.
fn fitted(graph: &Graph, takers: &[Taker], kept: &[bool]) -> anyhow::Result<Graph> {
    let consumers = graph.consumers();
    let mut nodes = graph.nodes().to_vec();
    for taker in takers {
        if taker.units.iter().all(|it| kept[*it]) {
            continue;
        }
        let (weight, shift) = taker.fitted(graph, kept)?;
        let norm = norm_behind(graph, &consumers, taker.node);
        let shift = match norm.map(|it| &mut nodes[it].op) {
            Some(Op::BatchNorm(norm)) => {
                norm.mean.iter_mut().zip(&shift).for_each(|(mean, it)| *mean -= it);
                None
            }
            _ => Some(shift),
        };
        let (to, bias) = match &mut nodes[taker.node].op {
            Op::Convolution(it) => (&mut it.weight, &mut it.bias),
            Op::Linear(it) => (&mut it.weight, &mut it.bias),
            _ => continue,
        };
        *to = weight;
        if let Some(shift) = shift {
            let bias = bias.get_or_insert_with(|| vec![0.0; shift.len()]);
            bias.iter_mut().zip(&shift).for_each(|(bias, it)| *bias += it);
        }
    }
    Ok(Graph::new(graph.input(), nodes)?)
}

/// The network with batch norm's moments of these pictures.
pub(super) fn with_moments_of(graph: &Graph, batches: &[Vec<f32>]) -> anyhow::Result<Graph> {
    let mut network = Network::new(graph);
    network.estimate_moments(batches, &mut ());
    Ok(network.graph()?)
}

/// The layers that take channels of which some may go.
fn takers(graph: &Graph, channels: &Channels, region: &Region, batches: &[Vec<f32>]) -> Vec<Taker> {
    let each = graph.input().values();
    let pictures: usize = batches.iter().map(|it| it.len() / each).sum();
    let mut removable = vec![false; channels.units()];
    for group in channels.groups().iter().filter(|it| region.has(it)) {
        group.units.iter().for_each(|it| removable[*it] = true);
    }
    let nodes = graph.nodes().iter().enumerate();
    let takers = nodes.filter_map(|(node, it)| {
        let window = match &it.op {
            Op::Convolution(it) if it.groups == 1 => it.window,
            Op::Linear(_) => Window::point(),
            _ => return None,
        };
        let Source::Node(source) = it.inputs[0] else {
            return None;
        };
        let taps = window.kernel[0] * window.kernel[1];
        let taken = channels.of(Source::Node(source)).iter();
        let units: Vec<usize> = taken.flat_map(|it| std::iter::repeat_n(*it, taps)).collect();
        if !units.iter().any(|it| removable[*it]) {
            return None;
        }
        let rows = ROWS[0].max(ROWS[1] * units.len()).div_ceil(pictures.max(1));
        Some(Taker {
            node,
            source,
            window,
            rows: rows.min(graph.shape(Source::Node(node)).positions()),
            moments: DMatrix::zeros(units.len() + 1, units.len() + 1),
            prices: Vec::new(),
            units,
        })
    });
    takers.collect()
}

/// Where what a layer gives ends: behind its batch norm and activation, and, in a residual stream, behind the addition.
fn end(graph: &Graph, consumers: &[Vec<usize>], node: usize) -> usize {
    let node = last_pointwise(graph, consumers, node);
    match consumers[node][..] {
        [next] if matches!(graph.nodes()[next].op, Op::Add) => next,
        _ => node,
    }
}

/// The batch norm that alone follows a layer.
fn norm_behind(graph: &Graph, consumers: &[Vec<usize>], node: usize) -> Option<usize> {
    let [next] = consumers[node][..] else { return None };
    matches!(graph.nodes()[next].op, Op::BatchNorm(_)).then_some(next)
}

struct Watch<'a> {
    graph: &'a Graph,
    takers: &'a mut [Taker],
    ends: &'a mut [End],
    pictures: u64,
}

impl Observer for Watch<'_> {
    fn forward(&mut self, node: usize, output: &mut [f32]) {
        let shape = self.graph.shape(Source::Node(node));
        for end in self.ends.iter_mut().filter(|it| it.node == node) {
            for pixel in output.chunks_exact(shape.channels()) {
                end.count += 1.0;
                for ((sum, square), value) in end.sums.iter_mut().zip(&mut end.squares).zip(pixel) {
                    *sum += f64::from(*value);
                    *square += f64::from(value * value);
                }
            }
        }
        let (graph, pictures) = (self.graph, self.pictures);
        let takers: Vec<&mut Taker> = self.takers.iter_mut().filter(|it| it.source == node).collect();
        takers.into_par_iter().for_each(|it| it.take(graph, output, pictures));
    }
}

/// Runs the pictures through the network, to see what the takers take and what it is worth.
fn observe(graph: &Graph, takers: &mut [Taker], batches: &[Vec<f32>]) {
    let consumers = graph.consumers();
    let of = |node| graph.shape(Source::Node(node)).channels();
    let mut ends: Vec<End> = Vec::new();
    for node in takers.iter().map(|it| end(graph, &consumers, it.node)) {
        if ends.iter().all(|it| it.node != node) {
            ends.push(End {
                node,
                count: 0.0,
                sums: vec![0.0; of(node)],
                squares: vec![0.0; of(node)],
            });
        }
    }
    let network = Network::new(graph);
    let mut pictures = 0;
    for batch in batches {
        let mut watch = Watch {
            graph,
            takers,
            ends: &mut ends,
            pictures,
        };
        network.evaluate(batch, &mut watch);
        pictures += (batch.len() / graph.input().values()) as u64;
    }
    for taker in takers {
        let node = end(graph, &consumers, taker.node);
        let variance = ends.iter().find(|it| it.node == node).map_or(1.0, End::variance);
        let norm = norm_behind(graph, &consumers, taker.node).map(|it| &graph.nodes()[it].op);
        let factor = |channel| match norm {
            Some(Op::BatchNorm(norm)) => f64::from(norm.factor(channel).0),
            _ => 1.0,
        };
        taker.prices = (0..of(taker.node))
            .map(|it| factor(it).powi(2) / variance.max(f64::MIN_POSITIVE))
            .collect();
    }
}

impl End {
    /// Of all channels together.
    fn variance(&self) -> f64 {
        let channels = self.sums.iter().zip(&self.squares);
        channels
            .map(|(sum, square)| square / self.count - (sum / self.count).powi(2))
            .sum()
    }
}

impl Taker {
    /// Adds rows of what the layer takes from these images `[N, H, W, C]`, the first of which has this number.
    fn take(&mut self, graph: &Graph, images: &[f32], number: u64) {
        let input = graph.shape(Source::Node(self.source));
        let output = graph.shape(Source::Node(self.node));
        let (columns, channels) = (self.units.len(), input.channels());
        let positions = output.positions();
        let count = images.len() / input.values() * self.rows;
        let mut rows = DMatrix::<f32>::zeros(columns + 1, count);
        let [down, across] = self.window.kernel;
        for (image, values) in images.chunks_exact(input.values()).enumerate() {
            // Evenly spread over the map, from another place in each picture.
            let first = augment::mix(number + image as u64) as usize % positions;
            for row in 0..self.rows {
                let position = (first + row * positions / self.rows) % positions;
                let (y, x) = (position / output.width(), position % output.width());
                let mut to = rows.column_mut(image * self.rows + row);
                to[columns] = 1.0;
                for tap in 0..down * across {
                    let row = (y * self.window.stride[0] + tap / across).checked_sub(self.window.padding.top);
                    let column = (x * self.window.stride[1] + tap % across).checked_sub(self.window.padding.left);
                    if let (Some(row), Some(column)) = (row, column)
                        && row < input.height()
                        && column < input.width()
                    {
                        let pixel = &values[(row * input.width() + column) * channels..][..channels];
                        for (channel, value) in pixel.iter().enumerate() {
                            to[channel * down * across + tap] = *value;
                        }
                    }
                }
            }
        }
        self.moments += (&rows * rows.transpose()).cast::<f64>();
    }

    /// The weights `[outputs, columns]`.
    fn weight(&self, graph: &Graph) -> DMatrix<f64> {
        let weight = match &graph.nodes()[self.node].op {
            Op::Convolution(it) => &it.weight,
            Op::Linear(it) => &it.weight,
            _ => return DMatrix::zeros(0, self.units.len()),
        };
        DMatrix::from_row_iterator(
            weight.len() / self.units.len(),
            self.units.len(),
            weight.iter().map(|it| f64::from(*it)),
        )
    }

    /// Means and covariances of the columns.
    fn spread(&self) -> (DVector<f64>, DMatrix<f64>) {
        let columns = self.units.len();
        let count = self.moments[(columns, columns)].max(1.0);
        let mean = self.moments.column(columns).rows(0, columns) / count;
        let all = self.moments.view((0, 0), (columns, columns)) / count;
        (mean.clone_owned(), all - &mean * mean.transpose())
    }

    /// Weights `[outputs, columns]`, zero for what is gone, that make up for it; and what is to be added to each output.
    fn fitted(&self, graph: &Graph, kept: &[bool]) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
        let (mean, covariance) = self.spread();
        let places: Vec<usize> = (0..self.units.len()).filter(|it| kept[self.units[*it]]).collect();
        let weight = self.weight(graph);
        let left = covariance.select_columns(&places);
        let solver = ridged(left.select_rows(&places))?;
        let before = weight.select_columns(&places);
        let missing = &weight * &left - &before * left.select_rows(&places);
        let after = before + solver.solve(&missing.transpose()).transpose();
        let shift = &weight * &mean - &after * mean.select_rows(&places);
        let mut values = vec![0.0; weight.len()];
        for (output, row) in after.row_iter().enumerate() {
            for (place, value) in places.iter().zip(row.iter()) {
                values[output * self.units.len() + place] = *value as f32;
            }
        }
        Ok((values, shift.iter().map(|it| *it as f32).collect()))
    }
}

/// A covariance matrix, with a little on its diagonal, made ready for solving.
fn ridged(mut covariance: DMatrix<f64>) -> anyhow::Result<Cholesky<f64, Dyn>> {
    let size = covariance.nrows();
    let ridge = (RIDGE * covariance.trace() / size as f64).max(f64::MIN_POSITIVE.sqrt());
    (0..size).for_each(|it| covariance[(it, it)] += ridge);
    Cholesky::new(covariance).context("the features are not finite")
}

/// What one of a group's takers loses.
struct Loss {
    /// Columns of each of the group's units.
    columns: Vec<Vec<usize>>,
    /// Weights `[outputs, columns]` as fitted to what is left, each output times the root of its price.
    weight: DMatrix<f64>,
    /// The inverse of the covariance of what is left.
    inverse: DMatrix<f64>,
}

impl Loss {
    fn of(group: &Group, taker: &Taker, graph: &Graph) -> anyhow::Result<Self> {
        let mut weight = taker.weight(graph);
        ensure!(weight.nrows() == taker.prices.len(), "a layer without weights");
        for (mut row, price) in weight.row_iter_mut().zip(&taker.prices) {
            row *= price.sqrt();
        }
        let places: HashMap<usize, usize> = group.units.iter().enumerate().map(|(at, unit)| (*unit, at)).collect();
        let mut columns = vec![Vec::new(); group.units.len()];
        for (column, unit) in taker.units.iter().enumerate() {
            if let Some(place) = places.get(unit) {
                columns[*place].push(column);
            }
        }
        Ok(Self {
            columns,
            weight,
            inverse: ridged(taker.spread().1)?.inverse(),
        })
    }

    /// What is lost by removing a unit, when all others have made up for it.
    fn price(&self, unit: usize) -> f64 {
        let columns = &self.columns[unit];
        let weight = self.weight.select_columns(columns);
        if let [column] = columns[..] {
            return weight.norm_squared() / self.inverse[(column, column)];
        }
        let block = self.inverse.select_columns(columns).select_rows(columns);
        match block.cholesky() {
            Some(block) => weight.transpose().dot(&block.solve(&weight.transpose())),
            None => 0.0,
        }
    }

    /// Removes a unit, and lets all others make up for it.
    fn remove(&mut self, unit: usize) {
        let columns = &self.columns[unit];
        let beside = self.inverse.select_columns(columns);
        let Some(block) = beside.select_rows(columns).cholesky() else {
            return;
        };
        let by = block.solve(&beside.transpose());
        let weight = self.weight.select_columns(columns);
        self.weight.gemm(-1.0, &weight, &by, 1.0);
        self.inverse.gemm(-1.0, &beside, &by, 1.0);
        for &column in columns {
            self.weight.column_mut(column).fill(0.0);
            self.inverse.column_mut(column).fill(0.0);
            self.inverse.row_mut(column).fill(0.0);
            self.inverse[(column, column)] = 1.0;
        }
    }
}

/// A group's units, the most valuable first, with what each costs when all behind it are gone.
fn rank(group: &Group, takers: &[Taker], graph: &Graph) -> anyhow::Result<Vec<(usize, f64)>> {
    let takes = |it: &&Taker| it.units.iter().any(|it| group.units.contains(it));
    let mut losses: Vec<Loss> = takers
        .iter()
        .filter(takes)
        .map(|it| Loss::of(group, it, graph))
        .collect::<anyhow::Result<_>>()?;
    let mut gone = vec![false; group.units.len()];
    let mut order = Vec::with_capacity(group.units.len());
    for _ in 0..group.units.len() {
        let price = |unit: usize| match gone[unit] {
            true => GONE,
            false => losses.iter().map(|it| it.price(unit)).sum(),
        };
        let prices = (0..group.units.len()).map(|unit| (unit, price(unit)));
        let Some((unit, price)) = prices.min_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };
        losses.iter_mut().for_each(|it| it.remove(unit));
        gone[unit] = true;
        order.push((group.units[unit], price));
    }
    order.reverse();
    Ok(order)
}
