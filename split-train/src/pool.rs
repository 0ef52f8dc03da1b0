//! Pools of one image `[H, W, C]`, forward and backward.

use crate::window::Slide;

/// Places of the input that a window sees.
fn seen(slide: Slide, row: usize, column: usize) -> impl Iterator<Item = usize> {
    let [rows, columns] = slide.kernel;
    (0..rows * columns).filter_map(move |tap| {
        let row = slide.at(0, row, tap / columns)?;
        Some(row * slide.input[1] + slide.at(1, column, tap % columns)?)
    })
}

fn places(slide: Slide) -> impl Iterator<Item = (usize, usize)> {
    (0..slide.output[0]).flat_map(move |row| (0..slide.output[1]).map(move |column| (row, column)))
}

/// The largest values, and the place of each in the image.
pub(crate) fn largest(slide: Slide, channels: usize, x: &[f32], y: &mut [f32], choices: &mut [u32]) {
    let outputs = y.chunks_exact_mut(channels).zip(choices.chunks_exact_mut(channels));
    for ((row, column), (y, choices)) in places(slide).zip(outputs) {
        y.fill(f32::NEG_INFINITY);
        for place in seen(slide, row, column) {
            let from = &x[place * channels..][..channels];
            for ((to, choice), it) in y.iter_mut().zip(&mut *choices).zip(from) {
                if *it > *to {
                    *to = *it;
                    *choice = place as u32;
                }
            }
        }
    }
}

/// Adds each slope where the largest value was.
pub(crate) fn largest_backward(channels: usize, dy: &[f32], choices: &[u32], dx: &mut [f32]) {
    for (dy, choices) in dy.chunks_exact(channels).zip(choices.chunks_exact(channels)) {
        for (c, (slope, place)) in dy.iter().zip(choices).enumerate() {
            dx[*place as usize * channels + c] += slope;
        }
    }
}

/// The mean of every window; `padded` counts zeros in the padding.
pub(crate) fn mean(slide: Slide, channels: usize, padded: bool, x: &[f32], y: &mut [f32]) {
    for ((row, column), y) in places(slide).zip(y.chunks_exact_mut(channels)) {
        y.fill(0.0);
        let share = share(slide, row, column, padded);
        for place in seen(slide, row, column) {
            let from = &x[place * channels..][..channels];
            y.iter_mut().zip(from).for_each(|(to, it)| *to += it * share);
        }
    }
}

/// Adds every slope's share to what its window saw.
pub(crate) fn mean_backward(slide: Slide, channels: usize, padded: bool, dy: &[f32], dx: &mut [f32]) {
    for ((row, column), dy) in places(slide).zip(dy.chunks_exact(channels)) {
        let share = share(slide, row, column, padded);
        for place in seen(slide, row, column) {
            let to = &mut dx[place * channels..][..channels];
            to.iter_mut().zip(dy).for_each(|(to, it)| *to += it * share);
        }
    }
}

fn share(slide: Slide, row: usize, column: usize, padded: bool) -> f32 {
    let count = match padded {
        true => slide.taps(),
        false => seen(slide, row, column).count(),
    };
    1.0 / count.max(1) as f32
}
