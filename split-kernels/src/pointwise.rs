//! What has no weights: pools, additions, gates, activations, concatenation and flattening.

use std::ops::Range;

use fearless_simd::prelude::*;
use split_graph::Window;

use super::finish::Curve;
use super::map::{Source, Target, place};
use super::simd::{load, splat, store, zero};

/// What a pool keeps of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pool {
    /// The largest value.
    Largest,
    /// The mean of what lies inside the input, or with it of the zeros around.
    Mean {
        /// Whether the zeros count.
        padded: bool,
    },
}

/// Pools channel by channel.
pub fn pool<S: Simd>(simd: S, images: usize, pool: Pool, window: &Window, input: Source, output: Target) {
    simd.vectorize(
        #[inline(always)]
        || pool_rows(simd, images, pool, window, input, output),
    );
}

#[inline(always)]
fn pool_rows<S: Simd>(
    simd: S,
    images: usize,
    pool: Pool,
    window: &Window,
    input: Source,
    Target { map, values }: Target,
) {
    let [_, rows, columns] = input.map.shape.into();
    let [down, right] = window.stride;
    for image in 0..images {
        for y in 0..map.shape.height() {
            let seen_rows = inside(y * down, window.kernel[0], window.padding.top, rows);
            for x in 0..map.shape.width() {
                let seen = inside(x * right, window.kernel[1], window.padding.left, columns);
                let count = match pool {
                    Pool::Mean { padded: true } => window.kernel[0] * window.kernel[1],
                    _ => seen_rows.len() * seen.len(),
                };
                let to = map.at([image, y, x]);
                for channel in (0..map.channels).step_by(S::f32s::LEN) {
                    let first = if pool == Pool::Largest { f32::NEG_INFINITY } else { 0.0 };
                    let mut joined = splat(simd, first);
                    for row in seen_rows.clone() {
                        for column in seen.clone() {
                            let from = input.map.at([image, row, column]) + channel;
                            let value = load(simd, input.values, from);
                            joined = if pool == Pool::Largest {
                                joined.max(value)
                            } else {
                                joined + value
                            };
                        }
                    }
                    if pool != Pool::Largest {
                        joined *= 1.0 / count as f32;
                    }
                    store::<S>(joined, values, to + channel);
                }
            }
        }
    }
}

/// What a window that begins at `start`, `before` of it outside, sees of a side.
fn inside(start: usize, kernel: usize, before: usize, side: usize) -> Range<usize> {
    let end = (start + kernel).saturating_sub(before).min(side);
    start.saturating_sub(before).min(end)..end
}

/// What happens to every value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    None,
    /// The second input is added.
    Add,
    /// It is multiplied by the second input's value for its channel.
    Gate,
}

/// Changes every value of the first input, then applies the curve.
pub fn change<S: Simd>(simd: S, images: usize, change: Change, inputs: [Source; 2], output: Target, curve: Curve) {
    simd.vectorize(
        #[inline(always)]
        || change_each(simd, images, change, inputs, output, curve),
    );
}

#[inline(always)]
fn change_each<S: Simd>(
    simd: S,
    images: usize,
    change: Change,
    [input, other]: [Source; 2],
    Target { map, values }: Target,
    curve: Curve,
) {
    let [_, height, width] = map.shape.into();
    for index in 0..images * height * width {
        let place = place(index, [height, width]);
        let (from, to) = (input.map.at(place), map.at(place));
        let with = match change {
            Change::Gate => other.map.at([place[0], 0, 0]),
            _ => other.map.at(place),
        };
        for channel in (0..map.channels).step_by(S::f32s::LEN) {
            let value = load(simd, input.values, from + channel);
            let changed = match change {
                Change::None => value,
                Change::Add => value + load(simd, other.values, with + channel),
                Change::Gate => value * load(simd, other.values, with + channel),
            };
            store::<S>(curve.of(simd, changed), values, to + channel);
        }
    }
}

/// Puts the channels of all inputs one after another.
pub fn concatenate(images: usize, inputs: &[Source], Target { map, values }: Target) {
    let [_, height, width] = map.shape.into();
    for index in 0..images * height * width {
        let place = place(index, [height, width]);
        let mut to = map.at(place);
        for input in inputs {
            let (from, channels) = (input.map.at(place), input.map.shape.channels());
            values[to..][..channels].copy_from_slice(&input.values[from..][..channels]);
            to += channels;
        }
        values[to..map.at(place) + map.channels].fill(0.0);
    }
}

/// Orders the values of each image as a vector, channel by channel.
pub fn flatten(images: usize, input: Source, Target { map, values }: Target) {
    let [channels, height, width] = input.map.shape.into();
    for image in 0..images {
        let to = &mut values[map.at([image, 0, 0])..][..map.channels];
        to.fill(0.0);
        for (index, to) in to.iter_mut().enumerate().take(channels * height * width) {
            let [channel, y, x] = place(index, [height, width]);
            *to = input.values[input.map.at([image, y, x]) + channel];
        }
    }
}

/// The mean of every channel.
pub fn average<S: Simd>(simd: S, images: usize, input: Source, Target { map, values }: Target) {
    simd.vectorize(
        #[inline(always)]
        || {
            let [_, height, width] = input.map.shape.into();
            let factor = 1.0 / (height * width) as f32;
            for image in 0..images {
                let to = map.at([image, 0, 0]);
                for channel in (0..map.channels).step_by(S::f32s::LEN) {
                    let mut sum = zero(simd);
                    for y in 0..height {
                        let row = input.map.at([image, y, 0]) + channel;
                        for x in 0..width {
                            sum += load(simd, input.values, row + x * input.map.channels);
                        }
                    }
                    store::<S>(sum * factor, values, to + channel);
                }
            }
        },
    );
}
