//! Convolution, batch norm, ReLU and, where one follows, max pool as one step on the CPU, forward and backward, on `[N, H, W, C]`.
//!
//! One step instead of four passes over memory less: batch norm's sums are taken while the convolution's output is in the cache,
//! normalised values, ReLU masks and pool choices are worked out again from it when the gradient comes back, and the gradient of
//! the convolution's output never leaves the cache. Each thread takes one contiguous share of the pictures and partial sums are
//! added in order, so a run is repeatable bit for bit at a fixed number of threads.

use rayon::prelude::*;

use crate::kernels::{self, LANES, Padded, SLACK, TAPS};
use crate::network::BATCH_NORM_EPSILON;

/// Positions worked on at a time: enough to fill the register blocks where pictures are 2×2, little enough for the cache.
const POSITIONS: usize = 256;

/// Sizes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Pictures.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Input channels.
    pub inputs: usize,
    /// Filters.
    pub outputs: usize,
    /// Whether a 2×2 max pool ends the block.
    pub pool: bool,
}

impl Sizes {
    fn area(&self) -> usize {
        self.height * self.width
    }

    /// Rows and columns of the block's output.
    pub fn output(&self) -> [usize; 2] {
        if self.pool {
            [self.height / 2, self.width / 2]
        } else {
            [self.height, self.width]
        }
    }

    fn output_values(&self) -> usize {
        let [height, width] = self.output();
        height * width * self.outputs
    }
}

/// What batch norm subtracts and divides by, per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Mean of the convolution's output.
    pub mean: Vec<f32>,
    /// Its (biased) variance.
    pub variance: Vec<f32>,
}

/// Batch norm's parameters.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// Scale, `[O]`.
    pub scale: &'a [f32],
    /// Shift, `[O]`.
    pub shift: &'a [f32],
    /// Moments to use; those of the batch when there are none.
    pub fixed: Option<&'a Moments>,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Output of the convolution, `[N, H, W, O]`.
    convolved: Vec<f32>,
    /// Moments used.
    pub moments: Moments,
    /// Whether they came from the batch, and the gradient flows through them.
    from_batch: bool,
}

/// Gradients of a block's inputs.
pub struct Gradients {
    /// Of the input, `[N, H, W, I]`; empty when not wanted.
    pub input: Vec<f32>,
    /// Of the weight, `[O, I, 3, 3]`.
    pub weight: Vec<f32>,
    /// Of batch norm's scale.
    pub scale: Vec<f32>,
    /// Of batch norm's shift.
    pub shift: Vec<f32>,
}

/// Runs the block on `input` `[N, H, W, I]` with `weight` `[O, I, 3, 3]`; the output is `[N, H, W, O]`, pooled if the block pools.
pub fn forward(sizes: Sizes, input: &[f32], weight: &[f32], norm: Norm<'_>) -> (Vec<f32>, Saved) {
    let packed = pack(weight, sizes.inputs, sizes.outputs, false);
    let mut convolved = vec![0.0; sizes.batch * sizes.area() * sizes.outputs];
    let share = share(sizes.batch);
    let sums: Vec<(Vec<f64>, Vec<f64>)> = convolved
        .par_chunks_mut(share * sizes.area() * sizes.outputs)
        .zip(input.par_chunks(share * sizes.area() * sizes.inputs))
        .map(|(y, x)| convolve_share(sizes, x, &packed, norm.fixed.is_none(), y))
        .collect();
    let moments = match norm.fixed {
        Some(moments) => moments.clone(),
        None => batch_moments(&sums, sizes),
    };
    let (factor, offset) = affine(norm, &moments);
    let mut output = vec![0.0; sizes.batch * sizes.output_values()];
    output
        .par_chunks_mut(sizes.output_values())
        .zip(convolved.par_chunks(sizes.area() * sizes.outputs))
        .for_each(|(z, y)| activate(sizes, y, &factor, &offset, z));
    (
        output,
        Saved {
            convolved,
            moments,
            from_batch: norm.fixed.is_none(),
        },
    )
}

/// Gradients of everything the block read, given that of its output. `want_input` is false for the first block.
pub fn backward(
    sizes: Sizes,
    input: &[f32],
    weight: &[f32],
    norm: Norm<'_>,
    saved: &Saved,
    slope: &[f32],
    want_input: bool,
) -> Gradients {
    let outputs = sizes.outputs;
    let (factor, offset) = affine(norm, &saved.moments);
    // Gradient of batch norm's output: the output's, through pool and ReLU.
    let mut unpooled = vec![0.0; saved.convolved.len()];
    let share = share(sizes.batch);
    let sums: Vec<(Vec<f64>, Vec<f64>)> = unpooled
        .par_chunks_mut(share * sizes.area() * outputs)
        .zip(saved.convolved.par_chunks(share * sizes.area() * outputs))
        .zip(slope.par_chunks(share * sizes.output_values()))
        .map(|((t, y), slope)| deactivate_share(sizes, y, &factor, &offset, slope, t))
        .collect();
    let (shift, products) = add_sums(&sums, outputs);
    let inverse: Vec<f32> = saved
        .moments
        .variance
        .iter()
        .map(|variance| (variance + BATCH_NORM_EPSILON).sqrt().recip())
        .collect();
    // Σ slope · normalised value, from Σ slope · convolved value.
    let scale: Vec<f64> = (0..outputs)
        .map(|o| (products[o] - shift[o] * f64::from(saved.moments.mean[o])) * f64::from(inverse[o]))
        .collect();
    // d convolved = factor · slope + a · convolved + b per channel; a and b are zero with fixed moments.
    let count = (sizes.batch * sizes.area()) as f64;
    let (mut a, mut b) = (vec![0.0; outputs], vec![0.0; outputs]);
    if saved.from_batch {
        for o in 0..outputs {
            a[o] = (-f64::from(factor[o] * inverse[o]) * scale[o] / count) as f32;
            b[o] = (-f64::from(factor[o]) * shift[o] / count) as f32 - a[o] * saved.moments.mean[o];
        }
    }
    let packed = if want_input {
        pack(weight, sizes.inputs, outputs, true)
    } else {
        Vec::new()
    };
    let mut input_slope = vec![0.0; if want_input { input.len() } else { 0 }];
    let picture = sizes.area() * sizes.inputs;
    // Without an input gradient each share gets an empty slice, which `chunks` of nothing cannot give.
    let mut slots: Vec<&mut [f32]> = match want_input {
        true => input_slope.chunks_mut(share * picture).collect(),
        false => (0..sizes.batch.div_ceil(share)).map(|_| &mut [][..]).collect(),
    };
    let partial: Vec<Vec<f32>> = unpooled
        .par_chunks_mut(share * sizes.area() * outputs)
        .zip(saved.convolved.par_chunks(share * sizes.area() * outputs))
        .zip(input.par_chunks(share * picture))
        .zip(slots.par_iter_mut())
        .map(|(((t, y), x), dx)| {
            differentiate(t, y, &factor, &a, &b);
            backward_share(sizes, x, t, &packed, dx)
        })
        .collect();
    let mut total = vec![0.0; TAPS * kernels::padded_channels(sizes.inputs) * kernels::padded(outputs)];
    for part in &partial {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    Gradients {
        input: input_slope,
        weight: unpack(&total, sizes.inputs, outputs),
        scale: narrow(scale),
        shift: narrow(shift),
    }
}

/// Pictures a thread takes.
fn share(batch: usize) -> usize {
    batch.div_ceil(rayon::current_num_threads()).max(1)
}

/// Batch norm as `factor · y + offset`.
fn affine(norm: Norm<'_>, moments: &Moments) -> (Vec<f32>, Vec<f32>) {
    let factor: Vec<f32> = norm
        .scale
        .iter()
        .zip(&moments.variance)
        .map(|(scale, variance)| scale / (variance + BATCH_NORM_EPSILON).sqrt())
        .collect();
    let offset = (0..factor.len())
        .map(|o| norm.shift[o] - moments.mean[o] * factor[o])
        .collect();
    (factor, offset)
}

fn add_sums(sums: &[(Vec<f64>, Vec<f64>)], outputs: usize) -> (Vec<f64>, Vec<f64>) {
    let mut total = (vec![0.0; outputs], vec![0.0; outputs]);
    for (first, second) in sums {
        total.0.iter_mut().zip(first).for_each(|(total, part)| *total += part);
        total.1.iter_mut().zip(second).for_each(|(total, part)| *total += part);
    }
    total
}

fn batch_moments(sums: &[(Vec<f64>, Vec<f64>)], sizes: Sizes) -> Moments {
    let (sum, squares) = add_sums(sums, sizes.outputs);
    let count = (sizes.batch * sizes.area()) as f64;
    let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
    let variance = squares
        .iter()
        .zip(&mean)
        .map(|(squares, mean)| (squares / count - mean * mean).max(0.0) as f32)
        .collect();
    Moments {
        mean: mean.into_iter().map(|mean| mean as f32).collect(),
        variance,
    }
}

/// `[O, I, 3, 3]` to the kernels' `[9, I, padded(O)]`; transposed, to `[9, O, padded(I)]` with the taps reversed, which makes the
/// same loop compute the input's gradient.
fn pack(weight: &[f32], inputs: usize, outputs: usize, transposed: bool) -> Vec<f32> {
    let (rows, columns) = if transposed {
        (outputs, inputs)
    } else {
        (inputs, outputs)
    };
    let stride = kernels::padded(columns);
    let mut packed = vec![0.0; TAPS * rows * stride];
    for (output, filter) in weight.chunks_exact(inputs * TAPS).enumerate() {
        for (input, taps) in filter.as_chunks::<TAPS>().0.iter().enumerate() {
            for (tap, value) in taps.iter().enumerate() {
                let at = match transposed {
                    true => ((TAPS - 1 - tap) * rows + output) * stride + input,
                    false => (tap * rows + input) * stride + output,
                };
                packed[at] = *value;
            }
        }
    }
    packed
}

fn unpack(gradient: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let (rows, stride) = (kernels::padded_channels(inputs), kernels::padded(outputs));
    let mut weight = Vec::with_capacity(outputs * inputs * TAPS);
    for output in 0..outputs {
        for input in 0..inputs {
            weight.extend((0..TAPS).map(|tap| gradient[(tap * rows + input) * stride + output]));
        }
    }
    weight
}

/// A few pictures with their border of zeros, reused from one group to the next.
struct Border {
    values: Vec<f32>,
    bases: Vec<usize>,
    taps: [usize; TAPS],
    channels: usize,
    width: usize,
    height: usize,
}

impl Border {
    fn new(sizes: Sizes, channels: usize, group: usize) -> Self {
        let row = (sizes.width + 2) * channels;
        let picture = (sizes.height + 2) * row;
        let bases = (0..group * sizes.area()).map(|position| {
            let (picture_at, rest) = (position / sizes.area(), position % sizes.area());
            picture_at * picture + rest / sizes.width * row + rest % sizes.width * channels
        });
        Self {
            values: vec![0.0; group * picture + SLACK],
            bases: bases.collect(),
            taps: std::array::from_fn(|tap| tap / 3 * row + tap % 3 * channels),
            channels,
            width: sizes.width,
            height: sizes.height,
        }
    }

    fn fill(&mut self, pictures: &[f32]) -> Padded<'_> {
        let (row, padded_row) = (self.width * self.channels, (self.width + 2) * self.channels);
        let padded = self.values.chunks_exact_mut((self.height + 2) * padded_row);
        for (padded, picture) in padded.zip(pictures.chunks_exact(self.height * row)) {
            let rows = padded[padded_row + self.channels..].chunks_mut(padded_row);
            rows.zip(picture.chunks_exact(row))
                .for_each(|(to, from)| to[..row].copy_from_slice(from));
        }
        let positions = pictures.len() / self.channels;
        Padded {
            values: &self.values,
            channels: self.channels,
            bases: &self.bases[..positions],
            taps: self.taps,
        }
    }
}

fn group(sizes: Sizes) -> usize {
    POSITIONS.div_ceil(sizes.area())
}

fn convolve_share(sizes: Sizes, x: &[f32], packed: &[f32], want_sums: bool, y: &mut [f32]) -> (Vec<f64>, Vec<f64>) {
    let group = group(sizes);
    let mut border = Border::new(sizes, sizes.inputs, group);
    let mut sums = (vec![0.0; sizes.outputs], vec![0.0; sizes.outputs]);
    let groups = y.chunks_mut(group * sizes.area() * sizes.outputs);
    for (y, x) in groups.zip(x.chunks(group * sizes.area() * sizes.inputs)) {
        kernels::convolve(border.fill(x), packed, sizes.outputs, y);
        if want_sums {
            add_moments(y, &mut sums.0, &mut sums.1);
        }
    }
    sums
}

fn backward_share(sizes: Sizes, x: &[f32], dy: &[f32], packed: &[f32], dx: &mut [f32]) -> Vec<f32> {
    let group = group(sizes);
    let mut border = Border::new(sizes, sizes.inputs, group);
    let mut slope_border = Border::new(sizes, sizes.outputs, group);
    let positions = group * sizes.area();
    let mut tail = vec![0.0; positions * sizes.outputs + SLACK];
    let mut gradient = vec![0.0; TAPS * kernels::padded_channels(sizes.inputs) * kernels::padded(sizes.outputs)];
    let mut dx_groups = dx.chunks_mut(positions * sizes.inputs);
    for (dy, x) in dy
        .chunks(positions * sizes.outputs)
        .zip(x.chunks(positions * sizes.inputs))
    {
        tail[..dy.len()].copy_from_slice(dy);
        kernels::weight_gradient(border.fill(x), &tail, sizes.outputs, &mut gradient);
        if let Some(dx) = dx_groups.next() {
            kernels::convolve(slope_border.fill(dy), packed, sizes.inputs, dx);
        }
    }
    gradient
}

fn deactivate_share(
    sizes: Sizes,
    y: &[f32],
    factor: &[f32],
    offset: &[f32],
    slope: &[f32],
    t: &mut [f32],
) -> (Vec<f64>, Vec<f64>) {
    let mut sums = (vec![0.0; sizes.outputs], vec![0.0; sizes.outputs]);
    let picture = sizes.area() * sizes.outputs;
    for ((t, y), slope) in t
        .chunks_mut(picture)
        .zip(y.chunks(picture))
        .zip(slope.chunks(sizes.output_values()))
    {
        deactivate(sizes, y, factor, offset, slope, t);
        add_products(t, y, &mut sums.0, &mut sums.1);
    }
    sums
}

/// Defines a function twice, once for this processor's wide vectors; the compiler vectorises the loops itself.
macro_rules! vectorised {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(unsafe_code)] // Calling a function compiled for detected features is the only way to use them.
        fn $name($($argument: $type),*) {
            #[inline(always)]
            fn body($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
                fn wide($($argument: $type),*) {
                    body($($argument),*);
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    return unsafe { wide($($argument),*) };
                }
            }
            body($($argument),*);
        }
    };
}

vectorised! {
    /// Adds Σ y and Σ y² of each channel.
    fn add_moments(y: &[f32], sum: &mut [f64], squares: &mut [f64]) {
        let channels = sum.len();
        let (mut first, mut second) = (vec![0.0_f32; channels], vec![0.0_f32; channels]);
        for row in y.chunks_exact(channels) {
            for ((first, second), value) in first.iter_mut().zip(&mut second).zip(row) {
                *first += value;
                *second += value * value;
            }
        }
        sum.iter_mut().zip(first).for_each(|(sum, part)| *sum += f64::from(part));
        squares.iter_mut().zip(second).for_each(|(sum, part)| *sum += f64::from(part));
    }
}

vectorised! {
    /// Adds Σ t and Σ t·y of each channel.
    fn add_products(t: &[f32], y: &[f32], sum: &mut [f64], products: &mut [f64]) {
        let channels = sum.len();
        let (mut first, mut second) = (vec![0.0_f32; channels], vec![0.0_f32; channels]);
        for (t, y) in t.chunks_exact(channels).zip(y.chunks_exact(channels)) {
            for (((first, second), t), y) in first.iter_mut().zip(&mut second).zip(t).zip(y) {
                *first += t;
                *second += t * y;
            }
        }
        sum.iter_mut().zip(first).for_each(|(sum, part)| *sum += f64::from(part));
        products.iter_mut().zip(second).for_each(|(sum, part)| *sum += f64::from(part));
    }
}

vectorised! {
    /// Batch norm, ReLU and pool of one picture.
    fn activate(sizes: Sizes, y: &[f32], factor: &[f32], offset: &[f32], z: &mut [f32]) {
        let channels = sizes.outputs;
        if !sizes.pool {
            for (z, y) in z.chunks_exact_mut(channels).zip(y.chunks_exact(channels)) {
                for (((z, y), factor), offset) in z.iter_mut().zip(y).zip(factor).zip(offset) {
                    *z = (factor * y + offset).max(0.0);
                }
            }
            return;
        }
        let [_, width] = sizes.output();
        for (at, z) in z.chunks_exact_mut(channels).enumerate() {
            for corner in window(at, width, sizes.width) {
                let y = &y[corner * channels..][..channels];
                for (((z, y), factor), offset) in z.iter_mut().zip(y).zip(factor).zip(offset) {
                    *z = (factor * y + offset).max(*z);
                }
            }
        }
    }
}

vectorised! {
    /// Gradient of batch norm's output for one picture: through pool (to the first of equal values) and ReLU. `t` starts as zeros.
    fn deactivate(sizes: Sizes, y: &[f32], factor: &[f32], offset: &[f32], slope: &[f32], t: &mut [f32]) {
        let channels = sizes.outputs;
        if !sizes.pool {
            let rows = t.chunks_exact_mut(channels).zip(y.chunks_exact(channels)).zip(slope.chunks_exact(channels));
            for ((t, y), slope) in rows {
                for ((((t, y), slope), factor), offset) in t.iter_mut().zip(y).zip(slope).zip(factor).zip(offset) {
                    *t = if factor * y + offset > 0.0 { *slope } else { 0.0 };
                }
            }
            return;
        }
        let [_, width] = sizes.output();
        let mut greatest = vec![0.0_f32; channels];
        for (at, slope) in slope.chunks_exact(channels).enumerate() {
            let corners = window(at, width, sizes.width);
            greatest.fill(0.0);
            for corner in corners {
                let y = &y[corner * channels..][..channels];
                for (((greatest, y), factor), offset) in greatest.iter_mut().zip(y).zip(factor).zip(offset) {
                    *greatest = (factor * y + offset).max(*greatest);
                }
            }
            for corner in corners {
                let y = &y[corner * channels..][..channels];
                let t = &mut t[corner * channels..][..channels];
                for (o, (t, y)) in t.iter_mut().zip(y).enumerate() {
                    let value = factor[o] * y + offset[o];
                    let hit = value > 0.0 && value >= greatest[o];
                    *t = if hit { slope[o] } else { 0.0 };
                    greatest[o] = if hit { f32::INFINITY } else { greatest[o] };
                }
            }
        }
    }
}

vectorised! {
    /// `t` becomes `factor · t + a · y + b`.
    fn differentiate(t: &mut [f32], y: &[f32], factor: &[f32], a: &[f32], b: &[f32]) {
        let channels = factor.len();
        for (t, y) in t.chunks_exact_mut(channels).zip(y.chunks_exact(channels)) {
            for (o, (t, y)) in t.iter_mut().zip(y).enumerate() {
                *t = factor[o] * *t + a[o] * y + b[o];
            }
        }
    }
}

/// Positions under the window of pooled position `at`.
#[inline(always)]
fn window(at: usize, pooled_width: usize, width: usize) -> [usize; 4] {
    let corner = at / pooled_width * 2 * width + at % pooled_width * 2;
    [corner, corner + 1, corner + width, corner + width + 1]
}

const _: () = assert!(LANES == SLACK);
