//! Choosing channels by what the layers that take them lose, and fitting those layers to what is left.
//!
//! A layer that takes fewer channels can make up for those that are gone as far as the others tell what they said: its weights are fitted anew, so that it
//! gives what it gave before, with the least squared error over some pictures (He, Zhang and Sun 2017, *Channel pruning for accelerating very deep neural
//! networks*). What is lost nevertheless is a channel's price. Channels go one at a time, the cheapest first, the prices of all others being worked out
//! again (Hassibi and Stork 1993, *Second order derivatives for network pruning: Optimal Brain Surgeon*, with a layer's squared error as the loss). No
//! gradient is needed, and far more is left than after removal alone.
//!
//! The matrices have a row and a column for each weight of an output: thousands in a wide layer. So nearly all work is done as products of large
//! matrices. What the channels that have gone change in the others is kept as a product of narrow ones, and is worked out for a whole matrix only after
//! many channels; before that, only for the columns that are looked at.

use std::collections::HashMap;
use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, ensure};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};
use rayon::prelude::*;
use split_graph::{Channels, Graph, Group, Op, Source, Window};
use split_train::{Network, Observer};

use super::{Choice, Region, kept, last_pointwise, spread};

/// Rows that a layer is fitted to, at least, and at least for each of its weights to one output.
const ROWS: [usize; 2] = [8192, 8];
/// What is added to the variances of what a layer takes, as a share of their mean: with few rows the fit follows chance otherwise.
const RIDGE: f64 = 1e-3;
/// Rows and columns of the matrix whose inversion tells how fast the machine is.
const TRIAL: usize = 1024;
/// Work per cube of a layer's columns, and per row and square of them, in that inversion's.
const WORK: [f64; 2] = [2.0, 0.5];
/// Columns of the products that run in parallel.
const BLOCK: usize = 256;
/// Rows and columns of a matrix that is inverted without halving it.
const SMALL: usize = 64;

/// A layer that takes channels, while pictures are looked at.
struct Taker {
    node: usize,
    source: usize,
    window: Window,
    /// Unit of each of the values that one of its outputs is made of.
    units: Vec<usize>,
    /// Rows taken from each picture.
    rows: usize,
    /// Sum over rows of the outer product of those values, and of 1 behind them; only the lower triangle.
    moments: DMatrix<f32>,
}

/// A layer that takes channels, and what is known of what it takes.
struct Layer {
    node: usize,
    /// Unit of each of the values that one of its outputs is made of.
    units: Vec<usize>,
    /// One row for each of those values, one column for each output.
    weight: DMatrix<f64>,
    /// Price of an output's squared error: a share of the variance of the tensor that it ends in.
    prices: Vec<f64>,
    /// Mean of those values.
    mean: DVector<f64>,
    /// The inverse of their covariances.
    inverse: DMatrix<f64>,
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
    let pictures = batches.iter().map(|it| it.len() / graph.input().values()).sum();
    let layers = observe(graph, takers(graph, &channels, region, pictures), batches)?;
    let groups: Vec<&Group> = channels.groups().iter().filter(|it| region.has(it)).collect();
    let ranked: Vec<Vec<(usize, f64)>> = groups.par_iter().map(|group| rank(group, &layers)).collect();
    let kept = kept(graph, &channels, ranked, region, target, choice);
    let smaller = fitted(graph, &layers, &kept)?.with_units(&channels, |it| kept[it])?;
    with_moments_of(&smaller, batches)
}

/// About how many seconds [`prune`] takes with this many pictures, judged by a small part of the work. Running the pictures through the network is not counted.
pub fn seconds(graph: &Graph, region: &Region, pictures: usize) -> f64 {
    let work = takers(graph, &graph.channel_groups(), region, pictures)
        .into_iter()
        .map(|it| {
            let [columns, rows] = [it.units.len(), it.rows * pictures].map(|it| it as f64 / TRIAL as f64);
            columns.powi(2) * (WORK[0] * columns + WORK[1] * rows)
        });
    let matrix = DMatrix::identity(TRIAL, TRIAL);
    let times = (0..3).map(|_| {
        let started = Instant::now();
        let inverse = inverse(&matrix);
        drop(black_box(inverse));
        started.elapsed().as_secs_f64()
    });
    work.sum::<f64>() * times.fold(f64::INFINITY, f64::min)
}

/// The network whose layers make up for the units that are to go, whose weights are zero.
fn fitted(graph: &Graph, layers: &[Layer], kept: &[bool]) -> anyhow::Result<Graph> {
    let consumers = graph.consumers();
    let mut nodes = graph.nodes().to_vec();
    for layer in layers {
        if layer.units.iter().all(|it| kept[*it]) {
            continue;
        }
        let (weight, shift) = layer.fitted(kept)?;
        let norm = norm_behind(graph, &consumers, layer.node);
        let shift = match norm.map(|it| &mut nodes[it].op) {
            Some(Op::BatchNorm(norm)) => {
                norm.mean.iter_mut().zip(&shift).for_each(|(mean, it)| *mean -= it);
                None
            }
            _ => Some(shift),
        };
        let (to, bias) = match &mut nodes[layer.node].op {
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
fn takers(graph: &Graph, channels: &Channels, region: &Region, pictures: usize) -> Vec<Taker> {
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
pub(super) fn norm_behind(graph: &Graph, consumers: &[Vec<usize>], node: usize) -> Option<usize> {
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
fn observe(graph: &Graph, mut takers: Vec<Taker>, batches: &[Vec<f32>]) -> anyhow::Result<Vec<Layer>> {
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
            takers: &mut takers,
            ends: &mut ends,
            pictures,
        };
        network.evaluate(batch, &mut watch);
        pictures += (batch.len() / graph.input().values()) as u64;
    }
    let layers = takers.into_iter().map(|taker| {
        let node = end(graph, &consumers, taker.node);
        let variance = ends.iter().find(|it| it.node == node).map_or(1.0, End::variance);
        let norm = norm_behind(graph, &consumers, taker.node).map(|it| &graph.nodes()[it].op);
        let factor = |channel| match norm {
            Some(Op::BatchNorm(norm)) => f64::from(norm.factor(channel).0),
            _ => 1.0,
        };
        let prices = (0..of(taker.node)).map(|it| factor(it).powi(2) / variance.max(f64::MIN_POSITIVE));
        let prices = prices.collect();
        taker.layer(graph, prices)
    });
    layers.collect()
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
            for (row, position) in spread(self.rows, positions, number + image as u64).enumerate() {
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
        let (across, size) = (rows.transpose(), columns + 1);
        let blocks = self.moments.as_mut_slice().par_chunks_mut(size * BLOCK).enumerate();
        blocks.for_each(|(block, to)| {
            let (first, width) = (block * BLOCK, to.len() / size);
            let mut to = DMatrixViewMut::from_slice(to, size, width);
            to.rows_mut(first, size - first).gemm(
                1.0,
                &rows.rows(first, size - first),
                &across.columns(first, width),
                1.0,
            );
        });
    }

    /// What has been seen, made ready for choosing and fitting.
    fn layer(self, graph: &Graph, prices: Vec<f64>) -> anyhow::Result<Layer> {
        let weight: &[f32] = match &graph.nodes()[self.node].op {
            Op::Convolution(it) => &it.weight,
            Op::Linear(it) => &it.weight,
            _ => &[],
        };
        let columns = self.units.len();
        ensure!(weight.len() == columns * prices.len(), "a layer without weights");
        let count = f64::from(self.moments[(columns, columns)]).max(1.0);
        let mean = DVector::from_fn(columns, |it, _| f64::from(self.moments[(columns, it)]) / count);
        let mut covariance = self
            .moments
            .view((0, 0), (columns, columns))
            .map(|it| f64::from(it) / count);
        drop(self.moments);
        covariance.ger(-1.0, &mean, &mean, 1.0);
        let ridge = (RIDGE * covariance.trace() / columns as f64).max(f64::MIN_POSITIVE.sqrt());
        (0..columns).for_each(|it| covariance[(it, it)] += ridge);
        Ok(Layer {
            node: self.node,
            units: self.units,
            weight: DMatrix::from_iterator(columns, prices.len(), weight.iter().map(|it| f64::from(*it))),
            prices,
            mean,
            inverse: inverse(&covariance).context("the features are not finite")?,
        })
    }
}

impl Layer {
    /// Weights `[outputs, columns]`, zero for what is gone, that make up for it; and what is to be added to each output.
    fn fitted(&self, kept: &[bool]) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
        let gone: Vec<usize> = (0..self.units.len()).filter(|it| !kept[self.units[*it]]).collect();
        let beside = self.inverse.select_columns(&gone);
        let block = inverse(&beside.select_rows(&gone)).context("the features are not finite")?;
        let mut weight = self.weight.clone();
        let missing = product(&block, &weight.select_rows(&gone));
        add_product(&mut weight, -1.0, &beside, &missing);
        gone.iter().for_each(|it| weight.row_mut(*it).fill(0.0));
        let shift = (&self.weight - &weight).tr_mul(&self.mean);
        let values = |it: &[f64]| it.iter().map(|it| *it as f32).collect();
        Ok((values(weight.as_slice()), values(shift.as_slice())))
    }
}

/// Adds `factor · a · b` to a matrix, on all cores.
fn add_product(to: &mut DMatrix<f64>, factor: f64, a: &DMatrix<f64>, b: &DMatrix<f64>) {
    let rows = to.nrows().max(1);
    let blocks = to.as_mut_slice().par_chunks_mut(rows * BLOCK).enumerate();
    blocks.for_each(|(block, to)| {
        let width = to.len() / rows;
        let mut to = DMatrixViewMut::from_slice(to, rows, width);
        to.gemm(factor, a, &b.columns(block * BLOCK, width), 1.0);
    });
}

fn product(a: &DMatrix<f64>, b: &DMatrix<f64>) -> DMatrix<f64> {
    let mut to = DMatrix::zeros(a.nrows(), b.ncols());
    add_product(&mut to, 1.0, a, b);
    to
}

/// The inverse of a symmetric matrix, of which only the lower triangle is read; none if it is not positive definite.
///
/// It is put together from those of its first half and of that half's Schur complement, which takes as much work as other ways, all of it as
/// products. (nalgebra's own goes through the whole matrix for each column: minutes for some thousand of them.)
fn inverse(matrix: &DMatrix<f64>) -> Option<DMatrix<f64>> {
    let size = matrix.nrows();
    if size <= SMALL {
        return Some(matrix.clone().cholesky()?.inverse());
    }
    let (half, rest) = (size / 2, size - size / 2);
    let mut first = inverse(&matrix.view((0, 0), (half, half)).into_owned())?;
    let side = matrix.view((half, 0), (rest, half)).into_owned();
    let by = product(&side, &first);
    let mut last = matrix.view((half, half), (rest, rest)).into_owned();
    add_product(&mut last, -1.0, &by, &side.transpose());
    let last = inverse(&last)?;
    let mut side = DMatrix::zeros(rest, half);
    add_product(&mut side, -1.0, &last, &by);
    add_product(&mut first, -1.0, &by.transpose(), &side);
    let mut whole = DMatrix::zeros(size, size);
    whole.view_mut((0, 0), (half, half)).copy_from(&first);
    whole.view_mut((half, 0), (rest, half)).copy_from(&side);
    whole.view_mut((0, half), (half, rest)).copy_from(&side.transpose());
    whole.view_mut((half, half), (rest, rest)).copy_from(&last);
    Some(whole)
}

/// What one of the layers that take a group's channels loses.
struct Loss {
    /// The group's units, those that are left.
    units: Vec<Option<Unit>>,
    /// The inverse of the covariances of the columns that were left when it was last worked out.
    inverse: DMatrix<f64>,
    /// Weights as fitted to those columns, each output times the root of its price; one row for each column, one column for each output.
    weight: DMatrix<f64>,
    /// What has changed since: they are `inverse − by · byᵀ` and `weight − by · lostᵀ` now.
    by: DMatrix<f64>,
    lost: DMatrix<f64>,
    /// How many columns of those two are in use.
    pending: usize,
    /// Columns that are gone since.
    gone: Vec<usize>,
}

/// A unit that is left.
struct Unit {
    columns: Range<usize>,
    /// Its block of the inverse, now.
    inverse: DMatrix<f64>,
    /// Products of its columns' weights, summed over the outputs, now.
    squares: DMatrix<f64>,
}

impl Unit {
    /// What is lost by removing it, when all others have made up for it.
    fn price(&self) -> f64 {
        match self.inverse.clone().cholesky() {
            Some(inverse) => inverse.solve(&self.squares).trace(),
            None => 0.0,
        }
    }
}

impl Loss {
    fn of(group: &Group, layer: &Layer) -> Self {
        let mut columns: HashMap<usize, Vec<usize>> = HashMap::new();
        for (column, unit) in layer.units.iter().enumerate() {
            columns.entry(*unit).or_default().push(column);
        }
        // A unit's columns side by side, and those of other groups behind all.
        let mut order = Vec::with_capacity(layer.units.len());
        let mut ranges = Vec::with_capacity(group.units.len());
        for unit in &group.units {
            let first = order.len();
            order.extend(columns.remove(unit).unwrap_or_default());
            ranges.push(first..order.len());
        }
        let mut others: Vec<usize> = columns.into_values().flatten().collect();
        others.sort_unstable();
        order.extend(others);
        let inverse = layer.inverse.select_columns(&order).select_rows(&order);
        let mut weight = layer.weight.select_rows(&order);
        for (mut output, price) in weight.column_iter_mut().zip(&layer.prices) {
            output *= price.sqrt();
        }
        let pending = ranges.iter().map(Range::len).max().unwrap_or(0).max(BLOCK);
        let units = ranges.into_iter().map(|columns| {
            let weight = weight.rows_range(columns.clone());
            Some(Unit {
                inverse: inverse.view_range(columns.clone(), columns.clone()).into_owned(),
                squares: weight * weight.transpose(),
                columns,
            })
        });
        Self {
            units: units.collect(),
            by: DMatrix::zeros(order.len(), pending),
            lost: DMatrix::zeros(weight.ncols(), pending),
            inverse,
            weight,
            pending: 0,
            gone: Vec::new(),
        }
    }

    /// What is lost by removing a unit that is left.
    fn price(&self, unit: usize) -> f64 {
        self.units[unit].as_ref().map_or(0.0, Unit::price)
    }

    /// Removes a unit, and lets all others make up for it.
    fn remove(&mut self, unit: usize) {
        let width = self.units[unit].as_ref().map_or(0, |it| it.columns.len());
        if width == 0 {
            return;
        }
        if self.pending + width > self.by.ncols() {
            self.work_out();
        }
        let Some(Unit { columns, inverse, .. }) = self.units[unit].take() else {
            return;
        };
        self.gone.extend(columns.clone());
        let Some(root) = inverse.cholesky().map(|it| it.unpack()) else {
            return;
        };
        // Its columns of both matrices as they are now, times the inverse of the root of its block.
        let (before, lost) = (self.by.columns(0, self.pending), self.lost.columns(0, self.pending));
        let changed = before.rows_range(columns.clone()).transpose();
        let now = |mut known: DMatrix<f64>, by: DMatrixView<'_, f64>| {
            known.gemm(-1.0, &by, &changed, 1.0);
            let divided = root.solve_lower_triangular(&known.transpose());
            divided.map_or(known, |it| it.transpose())
        };
        let by = now(self.inverse.columns_range(columns.clone()).into_owned(), before);
        let taken = now(self.weight.rows_range(columns).transpose(), lost);
        // What that changes in the blocks of the others: their products with what it took, less half of what it took itself.
        let mut products = &self.weight * &taken;
        products.gemm(-1.0, &before, &lost.tr_mul(&taken), 1.0);
        products.gemm(-0.5, &by, &taken.tr_mul(&taken), 1.0);
        self.units.par_iter_mut().flatten().for_each(|it| {
            let by = by.rows_range(it.columns.clone());
            it.inverse.gemm(-1.0, &by, &by.transpose(), 1.0);
            let change = by * products.rows_range(it.columns.clone()).transpose();
            it.squares -= &change + change.transpose();
        });
        self.by.columns_mut(self.pending, width).copy_from(&by);
        self.lost.columns_mut(self.pending, width).copy_from(&taken);
        self.pending += width;
    }

    /// Works out both matrices without what is gone.
    fn work_out(&mut self) {
        let by = self.by.columns(0, self.pending).into_owned();
        let lost = self.lost.columns(0, self.pending).transpose();
        add_product(&mut self.inverse, -1.0, &by, &by.transpose());
        add_product(&mut self.weight, -1.0, &by, &lost);
        self.gone.sort_unstable();
        let mut is_left = vec![true; by.nrows()];
        self.gone.iter().for_each(|it| is_left[*it] = false);
        let left: Vec<usize> = (0..by.nrows()).filter(|it| is_left[*it]).collect();
        self.inverse = self.inverse.select_columns(&left).select_rows(&left);
        self.weight = self.weight.select_rows(&left);
        for unit in self.units.iter_mut().flatten() {
            let before = self.gone.partition_point(|it| *it < unit.columns.start);
            unit.columns = unit.columns.start - before..unit.columns.end - before;
        }
        self.by = DMatrix::zeros(left.len(), self.by.ncols());
        self.gone.clear();
        self.pending = 0;
    }
}

/// A group's units, the most valuable first, with what each costs when all behind it are gone.
fn rank(group: &Group, layers: &[Layer]) -> Vec<(usize, f64)> {
    let takes = |it: &&Layer| it.units.iter().any(|it| group.units.contains(it));
    let mut losses: Vec<Loss> = layers.iter().filter(takes).map(|it| Loss::of(group, it)).collect();
    let mut left: Vec<usize> = (0..group.units.len()).collect();
    let mut order = Vec::with_capacity(left.len());
    loop {
        let price = |unit: &usize| losses.iter().map(|it| it.price(*unit)).sum::<f64>();
        let prices = left.iter().map(price).enumerate();
        let Some((at, price)) = prices.min_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };
        let unit = left.remove(at);
        losses.iter_mut().for_each(|it| it.remove(unit));
        order.push((group.units[unit], price));
    }
    order.reverse();
    order
}

#[cfg(test)]
mod tests {
    use split_graph::sample::Noise;

    use super::*;

    fn noise(seed: u64, rows: usize, columns: usize) -> DMatrix<f64> {
        let values = Noise::new(seed).values(rows * columns);
        DMatrix::from_iterator(rows, columns, values.into_iter().map(f64::from))
    }

    fn covariance(size: usize) -> DMatrix<f64> {
        let rows = noise(1, size, size + 50);
        &rows * rows.transpose() / size as f64 + DMatrix::identity(size, size) * 0.01
    }

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        for size in [1, SMALL, SMALL + 1, 301] {
            let matrix = covariance(size);
            let found = inverse(&matrix.lower_triangle()).unwrap() * &matrix;
            let error = (found - DMatrix::identity(size, size)).amax();
            assert!(error < 1e-9, "{size}: {error}");
        }
        assert!(inverse(&-covariance(200)).is_none());
    }

    #[test]
    fn prices_add_up_to_what_is_lost_without_all_that_are_gone() {
        // The columns of a unit lie apart, and those that go are worked out in several parts.
        let (units, outputs) = (150, 30);
        let columns = 4 * units;
        let group = Group {
            name: String::new(),
            producers: Vec::new(),
            units: (0..units).collect(),
        };
        let layer = Layer {
            node: 0,
            units: (0..columns).map(|it| it % (units + 10)).collect(),
            weight: noise(2, columns, outputs),
            prices: (1..=outputs).map(|it| it as f64).collect(),
            mean: DVector::zeros(columns),
            inverse: inverse(&covariance(columns)).unwrap(),
        };
        let lost = |gone: &[usize]| {
            let gone: Vec<usize> = (0..columns).filter(|it| gone.contains(&layer.units[*it])).collect();
            let block = layer.inverse.select_columns(&gone).select_rows(&gone);
            let weight = layer.weight.select_rows(&gone);
            let fitted = block.cholesky().unwrap().solve(&weight);
            let outputs = weight.column_iter().zip(fitted.column_iter()).zip(&layer.prices);
            outputs.map(|((a, b), price)| price * a.dot(&b)).sum::<f64>()
        };
        let ranked = rank(&group, std::slice::from_ref(&layer));
        let (mut gone, mut sum) = (Vec::new(), 0.0);
        for (unit, price) in ranked.into_iter().rev() {
            gone.push(unit);
            sum += price;
            let expected = lost(&gone);
            assert!(
                (sum - expected).abs() < 1e-6 * expected,
                "{}: {sum} is not {expected}",
                gone.len()
            );
        }
        let first = lost(&gone[..1]);
        assert!((0..units).all(|it| lost(&[it]) >= first));
        assert_eq!(gone.len(), units);
    }
}
