//! Convolutions of a few images `[N, H, W, C]`, forward and backward.
//!
//! A convolution that mixes channels is a product of matrices: of positions by what their windows see (for 1×1 kernels the image itself), and of
//! that by outputs. Windows are gathered for a few rows at a time, so that they stay in the cache. A depthwise convolution goes over channels with
//! vectors.

use fearless_simd::{Level, Simd, dispatch};

use crate::matrix::{Matrix, multiply};
use crate::window::Slide;

/// Values gathered at a time: 512 KiB.
const GATHERED: usize = 1 << 17;
/// Channels of a depthwise convolution that are summed together, in registers.
const BLOCK: usize = 32;

/// A convolution's sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution {
    pub(crate) slide: Slide,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) groups: usize,
}

/// Room that is used again from image to image.
#[derive(Default)]
pub(crate) struct Scratch {
    gathered: Vec<f32>,
}

impl Convolution {
    /// Input values of one image.
    pub(crate) fn input_values(&self) -> usize {
        self.slide.input[0] * self.slide.input[1] * self.inputs
    }

    /// Output values of one image.
    pub(crate) fn output_values(&self) -> usize {
        self.slide.output[0] * self.slide.output[1] * self.outputs
    }

    /// Values of the weight: `[taps, C]` for depthwise ones, else `[groups, taps · I / groups, O / groups]`.
    pub(crate) fn weight_values(&self) -> usize {
        self.slide.taps() * self.inputs / self.groups * self.outputs
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.inputs && self.inputs == self.outputs
    }

    /// From `[O, I / groups, rows, columns]` to the order used here.
    pub(crate) fn pack(&self, weight: &[f32]) -> Vec<f32> {
        let mut packed = vec![0.0; weight.len()];
        self.pairs(|from, to| packed[to] = weight[from]);
        packed
    }

    /// The reverse of [`pack`](Self::pack).
    pub(crate) fn unpack(&self, packed: &[f32]) -> Vec<f32> {
        let mut weight = vec![0.0; packed.len()];
        self.pairs(|from, to| weight[from] = packed[to]);
        weight
    }

    /// Places of each value in either order.
    fn pairs(&self, mut each: impl FnMut(usize, usize)) {
        let (taps, own) = (self.slide.taps(), self.inputs / self.groups);
        let group_outputs = self.outputs / self.groups;
        for o in 0..self.outputs {
            for i in 0..own {
                for tap in 0..taps {
                    let (group, column) = (o / group_outputs, o % group_outputs);
                    let packed = match self.is_depthwise() {
                        true => tap * self.outputs + o,
                        false => ((group * taps + tap) * own + i) * group_outputs + column,
                    };
                    each((o * own + i) * taps + tap, packed);
                }
            }
        }
    }

    /// Writes the convolution of the images to `y`.
    pub(crate) fn forward(&self, x: &[f32], weight: &[f32], y: &mut [f32], scratch: &mut Scratch) {
        if self.is_depthwise() {
            let images = x
                .chunks_exact(self.input_values())
                .zip(y.chunks_exact_mut(self.output_values()));
            for (x, y) in images {
                dispatch!(Level::new(), simd => depthwise(simd, self, x, weight, y));
            }
            return;
        }
        self.strips(y.len() / self.output_values(), |group, rows, depth, part| {
            let positions = rows.len() * self.slide.output[1];
            let own = self.outputs / self.groups;
            let to = &mut y[rows.start * self.slide.output[1] * self.outputs + group * own..];
            let weight = Matrix::new(&weight[group * depth * own..], depth, own, own);
            let windows = match part {
                Part::Image => Matrix::new(
                    &x[rows.start * self.slide.output[1] * self.inputs..],
                    positions,
                    depth,
                    depth,
                ),
                Part::Gathered => {
                    self.gather(x, group, rows.clone(), &mut scratch.gathered);
                    Matrix::new(&scratch.gathered, positions, depth, depth)
                }
            };
            multiply(windows, weight, to, self.outputs, false);
        });
    }

    /// Whether [`backward`](Self::backward) can write the slope of the images without anything being there before.
    pub(crate) fn overwrites(&self) -> bool {
        self.slide.is_point() && self.groups == 1
    }

    /// Adds the weight's gradient to `dw`, and that of the images to `dx`, if wanted, given that of the output. Where it
    /// [`overwrites`](Self::overwrites) and is not to `add`, `dx` is written.
    pub(crate) fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        dy: &[f32],
        (dw, mut dx, add): (&mut [f32], Option<&mut [f32]>, bool),
        scratch: &mut Scratch,
    ) {
        if self.is_depthwise() {
            let images = x
                .chunks_exact(self.input_values())
                .zip(dy.chunks_exact(self.output_values()));
            for (image, (x, dy)) in images.enumerate() {
                let range = image * self.input_values()..(image + 1) * self.input_values();
                let dx = dx.as_mut().map(|it| &mut it[range]);
                dispatch!(Level::new(), simd => depthwise_backward(simd, self, x, weight, dy, dw, dx));
            }
            return;
        }
        self.strips(dy.len() / self.output_values(), |group, rows, depth, part| {
            let positions = rows.len() * self.slide.output[1];
            let own = self.outputs / self.groups;
            let first = rows.start * self.slide.output[1];
            let slopes = Matrix::new(&dy[first * self.outputs + group * own..], positions, own, self.outputs);
            let dw = &mut dw[group * depth * own..][..depth * own];
            let weight = Matrix::new(&weight[group * depth * own..], depth, own, own);
            match part {
                Part::Image => {
                    let image = Matrix::new(&x[first * self.inputs..], positions, depth, depth);
                    multiply(image.transposed(), slopes, dw, own, true);
                    if let Some(dx) = &mut dx {
                        multiply(slopes, weight.transposed(), &mut dx[first * self.inputs..], depth, add);
                    }
                }
                Part::Gathered => {
                    self.gather(x, group, rows.clone(), &mut scratch.gathered);
                    let windows = Matrix::new(&scratch.gathered, positions, depth, depth);
                    multiply(windows.transposed(), slopes, dw, own, true);
                    if let Some(dx) = &mut dx {
                        multiply(slopes, weight.transposed(), &mut scratch.gathered, depth, false);
                        self.scatter(&scratch.gathered, group, rows, dx);
                    }
                }
            }
        });
    }

    /// Calls `each` for every group and a few rows of the output at a time, with the values that one window sees. Rows count on from image to
    /// image.
    fn strips(&self, images: usize, mut each: impl FnMut(usize, std::ops::Range<usize>, usize, Part)) {
        let [height, width] = self.slide.output;
        let depth = self.slide.taps() * self.inputs / self.groups;
        let part = match self.overwrites() {
            true => Part::Image,
            false => Part::Gathered,
        };
        let step = (GATHERED / (width * depth)).max(1);
        for group in 0..self.groups {
            for first in (0..images * height).step_by(step) {
                each(group, first..(first + step).min(images * height), depth, part);
            }
        }
    }

    /// What the windows of some rows see of a group's channels: `[positions, taps, I / groups]`.
    fn gather(&self, x: &[f32], group: usize, rows: std::ops::Range<usize>, to: &mut Vec<f32>) {
        let (own, slide) = (self.inputs / self.groups, self.slide);
        let [_, width] = slide.output;
        let positions = rows.len() * width;
        to.resize(positions * slide.taps() * own, 0.0);
        let mut windows = to.chunks_exact_mut(own);
        for row in rows {
            let (image, row) = (row / slide.output[0] * self.input_values(), row % slide.output[0]);
            for column in 0..width {
                for tap_row in 0..slide.kernel[0] {
                    let row = slide.at(0, row, tap_row);
                    for tap_column in 0..slide.kernel[1] {
                        let Some(to) = windows.next() else { return };
                        match row.zip(slide.at(1, column, tap_column)) {
                            Some((y, x_at)) => {
                                let from = image + (y * slide.input[1] + x_at) * self.inputs + group * own;
                                to.copy_from_slice(&x[from..from + own]);
                            }
                            None => to.fill(0.0),
                        }
                    }
                }
            }
        }
    }

    /// Adds what windows say of the input to it.
    fn scatter(&self, from: &[f32], group: usize, rows: std::ops::Range<usize>, dx: &mut [f32]) {
        let (own, slide) = (self.inputs / self.groups, self.slide);
        let mut windows = from.chunks_exact(own);
        for row in rows {
            let (image, row) = (row / slide.output[0] * self.input_values(), row % slide.output[0]);
            for column in 0..slide.output[1] {
                for tap_row in 0..slide.kernel[0] {
                    let row = slide.at(0, row, tap_row);
                    for tap_column in 0..slide.kernel[1] {
                        let Some(from) = windows.next() else { return };
                        if let Some((y, x_at)) = row.zip(slide.at(1, column, tap_column)) {
                            let to = image + (y * slide.input[1] + x_at) * self.inputs + group * own;
                            dx[to..to + own].iter_mut().zip(from).for_each(|(to, it)| *to += it);
                        }
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    /// Windows are the image's positions.
    Image,
    /// Windows have to be gathered.
    Gathered,
}

/// Calls `each` with the first channel and the number of channels of each block.
#[inline(always)]
fn blocks(channels: usize, mut each: impl FnMut(usize, usize)) {
    let mut first = 0;
    while first < channels {
        let count = BLOCK.min(channels - first);
        each(first, count);
        first += count;
    }
}

#[inline(always)]
fn depthwise<S: Simd>(_: S, it: &Convolution, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let (slide, channels) = (it.slide, it.inputs);
    let [height, width] = slide.output;
    for row in 0..height {
        for column in 0..width {
            let to = &mut y[(row * width + column) * channels..][..channels];
            blocks(channels, |first, count| {
                let mut sums = [0.0_f32; BLOCK];
                for tap_row in 0..slide.kernel[0] {
                    let Some(from_row) = slide.at(0, row, tap_row) else {
                        continue;
                    };
                    for tap_column in 0..slide.kernel[1] {
                        let Some(from_column) = slide.at(1, column, tap_column) else {
                            continue;
                        };
                        let from = (from_row * slide.input[1] + from_column) * channels + first;
                        let tap = (tap_row * slide.kernel[1] + tap_column) * channels + first;
                        add_products(&mut sums, &x[from..from + count], &weight[tap..tap + count]);
                    }
                }
                to[first..first + count].copy_from_slice(&sums[..count]);
            });
        }
    }
}

/// Adds `a · b` value by value; whole blocks without a loop's end to look for.
#[inline(always)]
fn add_products(sums: &mut [f32; BLOCK], a: &[f32], b: &[f32]) {
    match (a.first_chunk::<BLOCK>(), b.first_chunk::<BLOCK>()) {
        (Some(a), Some(b)) => {
            for lane in 0..BLOCK {
                sums[lane] += a[lane] * b[lane];
            }
        }
        _ => sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b),
    }
}

/// Weights' gradients are summed over a row of the output in registers, tap by tap.
#[inline(always)]
fn depthwise_backward<S: Simd>(
    _: S,
    it: &Convolution,
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    mut dx: Option<&mut [f32]>,
) {
    let (slide, channels) = (it.slide, it.inputs);
    let [height, width] = slide.output;
    for row in 0..height {
        for tap_row in 0..slide.kernel[0] {
            let Some(from_row) = slide.at(0, row, tap_row) else {
                continue;
            };
            for tap_column in 0..slide.kernel[1] {
                let tap = (tap_row * slide.kernel[1] + tap_column) * channels;
                let columns = slide.range(1, tap_column);
                blocks(channels, |first, count| {
                    let mut sums = [0.0_f32; BLOCK];
                    for column in columns.clone() {
                        let Some(from_column) = slide.at(1, column, tap_column) else {
                            continue;
                        };
                        let from = (from_row * slide.input[1] + from_column) * channels + first;
                        let slope = &dy[(row * width + column) * channels + first..][..count];
                        add_products(&mut sums, &x[from..from + count], slope);
                        if let Some(dx) = &mut dx {
                            let weight = &weight[tap + first..][..count];
                            add_to(&mut dx[from..from + count], slope, weight);
                        }
                    }
                    let dw = &mut dw[tap + first..][..count];
                    dw.iter_mut().zip(sums).for_each(|(to, it)| *to += it);
                });
            }
        }
    }
}

#[inline(always)]
fn add_to(to: &mut [f32], a: &[f32], b: &[f32]) {
    match (
        to.first_chunk_mut::<BLOCK>(),
        a.first_chunk::<BLOCK>(),
        b.first_chunk::<BLOCK>(),
    ) {
        (Some(to), Some(a), Some(b)) => {
            for lane in 0..BLOCK {
                to[lane] += a[lane] * b[lane];
            }
        }
        _ => to.iter_mut().zip(a).zip(b).for_each(|((to, a), b)| *to += a * b),
    }
}
