//! What is done value by value: batch norm with an activation, forward and backward, over `[positions, C]`.
//!
//! Plain loops, compiled for every kind of vector.

use fearless_simd::{Level, Simd, dispatch};
use split_graph::Activation;

/// Positions whose values are summed in 32 bits before they go into sums of 64.
const POSITIONS: usize = 256;

/// What multiplies each channel, and what is added then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affine {
    pub(crate) factor: Vec<f32>,
    pub(crate) offset: Vec<f32>,
}

/// For each channel the sum of some values and of others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sums {
    pub(crate) first: Vec<f64>,
    pub(crate) second: Vec<f64>,
}

impl Sums {
    pub(crate) fn zero(channels: usize) -> Self {
        Self {
            first: vec![0.0; channels],
            second: vec![0.0; channels],
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let all = self.first.iter_mut().chain(&mut self.second);
        all.zip(other.first.iter().chain(&other.second))
            .for_each(|(to, it)| *to += it);
    }

    /// Adds sums over some positions that `each` makes of them in 32 bits.
    fn add_blocks(&mut self, positions: usize, mut each: impl FnMut(std::ops::Range<usize>, &mut [f32], &mut [f32])) {
        let channels = self.first.len();
        let (mut first, mut second) = (vec![0.0; channels], vec![0.0; channels]);
        for start in (0..positions).step_by(POSITIONS) {
            first.fill(0.0);
            second.fill(0.0);
            let end = (start + POSITIONS).min(positions);
            each(start * channels..end * channels, &mut first, &mut second);
            self.first
                .iter_mut()
                .zip(&first)
                .for_each(|(to, it)| *to += f64::from(*it));
            self.second
                .iter_mut()
                .zip(&second)
                .for_each(|(to, it)| *to += f64::from(*it));
        }
    }

    /// Adds the slope before the activation, and its product with how far the values before batch norm lie from their mean.
    pub(crate) fn add_slopes(
        &mut self,
        slope: &[f32],
        raw: &[f32],
        affine: &Affine,
        mean: &[f32],
        activation: Option<Activation>,
    ) {
        self.add_blocks(raw.len() / self.first.len(), |range, first, second| {
            let values = (&slope[range.clone()], &raw[range]);
            dispatch!(Level::new(), simd => slopes(simd, values, affine, mean, activation, first, second));
        });
    }
}

/// Mean of some values of each channel, and the sum of their squared distances from it.
///
/// Taken block by block and put together (Chan, Golub and LeVeque 1983), so that nothing is lost where the mean is far larger than the distances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    count: f64,
    pub(crate) mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Spread {
    pub(crate) fn none(channels: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; channels],
            squares: vec![0.0; channels],
        }
    }

    /// Biased variances.
    pub(crate) fn variance(&self) -> impl Iterator<Item = f64> + '_ {
        self.squares.iter().map(|it| it / self.count.max(1.0))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.merge(other.count, &other.mean, &other.squares);
    }

    fn merge(&mut self, count: f64, means: &[f64], squares: &[f64]) {
        let total = self.count + count;
        if count == 0.0 {
            return;
        }
        let others = means.iter().zip(squares);
        for ((mean, sum), (other, squares)) in self.mean.iter_mut().zip(&mut self.squares).zip(others) {
            let distance = other - *mean;
            *mean += distance * count / total;
            *sum += squares + distance * distance * self.count * count / total;
        }
        self.count = total;
    }

    /// Adds values `[positions, C]`.
    pub(crate) fn add_values(&mut self, values: &[f32]) {
        let channels = self.mean.len();
        let (mut means, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        for block in values.chunks(POSITIONS * channels) {
            let count = block.len() / channels;
            dispatch!(Level::new(), simd => spread(simd, block, count as f32, &mut means, &mut squares));
            let wide = |it: &[f32]| it.iter().map(|it| f64::from(*it)).collect::<Vec<f64>>();
            self.merge(count as f64, &wide(&means), &wide(&squares));
        }
    }
}

#[inline(always)]
fn spread<S: Simd>(_: S, values: &[f32], count: f32, means: &mut [f32], squares: &mut [f32]) {
    means.fill(0.0);
    squares.fill(0.0);
    for values in values.chunks_exact(means.len()) {
        values.iter().zip(&mut *means).for_each(|(value, sum)| *sum += value);
    }
    means.iter_mut().for_each(|it| *it /= count);
    for values in values.chunks_exact(means.len()) {
        for ((value, mean), sum) in values.iter().zip(&*means).zip(&mut *squares) {
            *sum += (value - mean) * (value - mean);
        }
    }
}

/// Chooses the activation outside of the loop: `$run` is expanded for each with its value and its derivative.
macro_rules! by_activation {
    ($activation:expr, $run:ident ( $($argument:expr),* )) => {
        match $activation {
            None => $run($($argument,)* |x| x, |_| 1.0),
            Some(Activation::Relu) => $run($($argument,)* |x| x.max(0.0), |x| if x > 0.0 { 1.0 } else { 0.0 }),
            Some(Activation::Relu6) => $run(
                $($argument,)*
                |x| x.clamp(0.0, 6.0),
                |x| if x > 0.0 && x < 6.0 { 1.0 } else { 0.0 },
            ),
            Some(it) => $run($($argument,)* |x| it.of(x), |x| derivative(it, x)),
        }
    };
}

/// Of an activation, at its input.
fn derivative(activation: Activation, x: f32) -> f32 {
    let sigmoid = || 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => f32::from(x > 0.0),
        Activation::Relu6 => f32::from(x > 0.0 && x < 6.0),
        Activation::HardSwish if x <= -3.0 => 0.0,
        Activation::HardSwish if x >= 3.0 => 1.0,
        Activation::HardSwish => (2.0 * x + 3.0) / 6.0,
        Activation::HardSigmoid => f32::from(x > -3.0 && x < 3.0) / 6.0,
        Activation::Silu => sigmoid() * (1.0 + x * (1.0 - sigmoid())),
        Activation::Sigmoid => sigmoid() * (1.0 - sigmoid()),
    }
}

#[inline(always)]
fn slopes<S: Simd>(
    _: S,
    values: (&[f32], &[f32]),
    affine: &Affine,
    mean: &[f32],
    activation: Option<Activation>,
    first: &mut [f32],
    second: &mut [f32],
) {
    #[inline(always)]
    fn run(
        (slope, raw): (&[f32], &[f32]),
        affine: &Affine,
        mean: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        _: impl Fn(f32) -> f32,
        derivative: impl Fn(f32) -> f32,
    ) {
        let channels = first.len();
        let (factor, offset) = (&affine.factor[..channels], &affine.offset[..channels]);
        let (mean, second) = (&mean[..channels], &mut second[..channels]);
        for (slope, raw) in slope.chunks_exact(channels).zip(raw.chunks_exact(channels)) {
            for c in 0..channels {
                let it = slope[c] * derivative(raw[c] * factor[c] + offset[c]);
                first[c] += it;
                second[c] += it * (raw[c] - mean[c]);
            }
        }
    }
    by_activation!(activation, run(values, affine, mean, first, second));
}

/// `activation(raw · factor + offset)`.
pub(crate) fn apply(raw: &[f32], affine: &Affine, activation: Option<Activation>, to: &mut [f32]) {
    #[inline(always)]
    fn of<S: Simd>(_: S, raw: &[f32], affine: &Affine, activation: Option<Activation>, to: &mut [f32]) {
        #[inline(always)]
        fn run(raw: &[f32], affine: &Affine, to: &mut [f32], of: impl Fn(f32) -> f32, _: impl Fn(f32) -> f32) {
            let channels = affine.factor.len();
            let (factor, offset) = (&affine.factor[..channels], &affine.offset[..channels]);
            for (to, raw) in to.chunks_exact_mut(channels).zip(raw.chunks_exact(channels)) {
                for c in 0..channels {
                    to[c] = of(raw[c] * factor[c] + offset[c]);
                }
            }
        }
        by_activation!(activation, run(raw, affine, to));
    }
    dispatch!(Level::new(), simd => of(simd, raw, affine, activation, to));
}

/// Turns the slope behind batch norm and activation into that before: `derivative · slope · factor + raw · by_raw + constant`.
pub(crate) fn turn_back(
    slope: &[f32],
    raw: &[f32],
    affine: &Affine,
    activation: Option<Activation>,
    [by_raw, constant]: [&[f32]; 2],
    to: &mut [f32],
) {
    #[inline(always)]
    fn of<S: Simd>(
        _: S,
        slope: &[f32],
        raw: &[f32],
        affine: &Affine,
        activation: Option<Activation>,
        terms: [&[f32]; 2],
        to: &mut [f32],
    ) {
        #[inline(always)]
        fn run(
            slope: &[f32],
            raw: &[f32],
            affine: &Affine,
            [by_raw, constant]: [&[f32]; 2],
            to: &mut [f32],
            _: impl Fn(f32) -> f32,
            derivative: impl Fn(f32) -> f32,
        ) {
            let channels = affine.factor.len();
            let (factor, offset) = (&affine.factor[..channels], &affine.offset[..channels]);
            let (by_raw, constant) = (&by_raw[..channels], &constant[..channels]);
            let each = to
                .chunks_exact_mut(channels)
                .zip(slope.chunks_exact(channels))
                .zip(raw.chunks_exact(channels));
            for ((to, slope), raw) in each {
                for c in 0..channels {
                    let before = slope[c] * derivative(raw[c] * factor[c] + offset[c]);
                    to[c] = before * factor[c] + raw[c] * by_raw[c] + constant[c];
                }
            }
        }
        by_activation!(activation, run(slope, raw, affine, terms, to));
    }
    dispatch!(Level::new(), simd => of(simd, slope, raw, affine, activation, [by_raw, constant], to));
}

/// `activation(raw)`.
pub(crate) fn activate(raw: &[f32], activation: Activation, to: &mut [f32]) {
    to.iter_mut().zip(raw).for_each(|(to, it)| *to = activation.of(*it));
}

/// Multiplies the slope by the activation's derivative at `raw`.
pub(crate) fn deactivate(slope: &mut [f32], raw: &[f32], activation: Activation) {
    slope
        .iter_mut()
        .zip(raw)
        .for_each(|(to, it)| *to *= derivative(activation, *it));
}
