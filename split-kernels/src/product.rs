//! Matrix products, which convolutions consist of: inputs at many positions times weights for many output channels.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::finish::Finish;
use super::simd::{load, most_positions, most_vectors, splat, store, zero};

/// Where a position's values begin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// In the input.
    pub input: usize,
    /// In the output.
    pub output: usize,
    /// In what is added.
    pub addend: usize,
}

/// Weights for a few vectors of output channels, and where their inputs lie behind the beginning of a position's.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// `[row][column][input][output channel]`.
    pub weights: &'a [f32],
    /// The output channels, counted in vectors.
    pub vectors: usize,
    /// Stretches of inputs, in rows and columns.
    pub stretches: [usize; 2],
    /// Values from one row, and one column, to the next.
    pub steps: [usize; 2],
    /// Inputs of a stretch.
    pub run: usize,
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// They are written as they are.
    Store,
    /// They are finished; the panel's first output channel, and what is added.
    Finish(&'a Finish, usize, Option<&'a [f32]>),
}

/// Divides vectors into blocks of at most as many as are computed together, all about equally large.
pub fn blocks(outputs: usize, lanes: usize) -> impl Iterator<Item = Range<usize>> {
    let vectors = outputs.div_ceil(lanes);
    let count = vectors.div_ceil(most_vectors(lanes));
    (0..count).map(move |it| it * vectors / count..(it + 1) * vectors / count)
}

/// Multiplies the inputs at some places by a panel.
pub fn multiply<S: Simd>(simd: S, panel: &Panel, places: &[Place], input: &[f32], output: &mut [f32], then: Then) {
    simd.vectorize(
        #[inline(always)]
        || match panel.vectors {
            1 => multiply_by::<S, 1>(simd, panel, places, input, output, then),
            2 => multiply_by::<S, 2>(simd, panel, places, input, output, then),
            _ if most_vectors(S::f32s::LEN) > 2 => multiply_by::<S, 3>(simd, panel, places, input, output, then),
            _ => {}
        },
    );
}

#[inline(always)]
fn multiply_by<S: Simd, const V: usize>(
    simd: S,
    panel: &Panel,
    mut places: &[Place],
    input: &[f32],
    output: &mut [f32],
    then: Then,
) {
    let most = most_positions(S::f32s::LEN);
    while !places.is_empty() {
        // The last two groups are about equally large, so that none is very small.
        let count = match places.len() {
            it if it >= 2 * most || it == most => most,
            it if it > most => it.div_ceil(2),
            it => it,
        };
        let (group, rest) = places.split_at(count);
        places = rest;
        match group.len() {
            1 => tile::<S, 1, V>(simd, panel, group, input, output, then),
            2 => tile::<S, 2, V>(simd, panel, group, input, output, then),
            3 => tile::<S, 3, V>(simd, panel, group, input, output, then),
            4 => tile::<S, 4, V>(simd, panel, group, input, output, then),
            5 if most > 4 => tile::<S, 5, V>(simd, panel, group, input, output, then),
            6 if most > 4 => tile::<S, 6, V>(simd, panel, group, input, output, then),
            7 if most > 6 => tile::<S, 7, V>(simd, panel, group, input, output, then),
            8 if most > 6 => tile::<S, 8, V>(simd, panel, group, input, output, then),
            _ => {}
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const P: usize, const V: usize>(
    simd: S,
    panel: &Panel,
    places: &[Place],
    input: &[f32],
    output: &mut [f32],
    then: Then,
) {
    let Some(places) = places.first_chunk::<P>() else {
        return;
    };
    let mut sums = match then {
        Then::Store => [[zero(simd); V]; P],
        Then::Finish(finish, channel, _) => [finish.begin(simd, channel); P],
    };
    let [rows, columns] = panel.stretches;
    let mut weights = panel.weights.chunks_exact(panel.run * V * S::f32s::LEN);
    for row in 0..rows {
        for column in 0..columns {
            let offset = row * panel.steps[0] + column * panel.steps[1];
            let mut inputs = [input; P];
            for (inputs, place) in inputs.iter_mut().zip(places) {
                *inputs = &input[place.input + offset..][..panel.run];
            }
            if let Some(weights) = weights.next() {
                accumulate(simd, weights, inputs, &mut sums);
            }
        }
    }
    match then {
        Then::Store => {
            for (sums, place) in sums.iter().zip(places) {
                let output = &mut output[place.output..][..V * S::f32s::LEN];
                for (index, sum) in sums.iter().enumerate() {
                    store::<S>(*sum, output, index * S::f32s::LEN);
                }
            }
        }
        Then::Finish(finish, channel, addend) => {
            let (mut outputs, mut addends) = ([0; P], [0; P]);
            for ((place, output), addend) in places.iter().zip(&mut outputs).zip(&mut addends) {
                (*output, *addend) = (place.output, place.addend);
            }
            let addend = addend.map(
                #[inline(always)]
                |it| (it, addends),
            );
            finish.write_all(simd, &sums, channel, addend, output, outputs);
        }
    }
}

/// Adds the products of weights and inputs: the loop that nearly all the time goes into.
///
/// `weights` are `[input][V vectors]`; an input belongs to the same value of every position's `inputs`.
#[inline(always)]
fn accumulate<S: Simd, const P: usize, const V: usize>(
    simd: S,
    weights: &[f32],
    mut inputs: [&[f32]; P],
    sums: &mut [[S::f32s; V]; P],
) {
    let count = weights.len() / (V * S::f32s::LEN);
    for it in &mut inputs {
        *it = &it[..count];
    }
    let mut local = *sums;
    if let [a, b, c, d] = inputs[..] {
        // Slices side by side need no check of their bounds. WebAssembly nearly always has these four positions.
        let weights = weights.chunks_exact(V * S::f32s::LEN);
        for ((((weights, a), b), c), d) in weights.zip(a).zip(b).zip(c).zip(d) {
            add(simd, weights, [*a, *b, *c, *d], &mut local);
        }
    } else {
        for (at, weights) in (0..count).zip(weights.chunks_exact(V * S::f32s::LEN)) {
            let mut values = [0.0; P];
            for (value, inputs) in values.iter_mut().zip(inputs) {
                *value = inputs[at];
            }
            add(simd, weights, values, &mut local);
        }
    }
    *sums = local;
}

/// Adds the products of one input at every position.
#[inline(always)]
fn add<S: Simd, const N: usize, const V: usize>(simd: S, weights: &[f32], inputs: [f32; N], sums: &mut [[S::f32s; V]]) {
    let mut vectors = [zero(simd); V];
    for (index, it) in vectors.iter_mut().enumerate() {
        *it = load(simd, weights, index * S::f32s::LEN);
    }
    for (sums, input) in sums.iter_mut().zip(inputs) {
        let input = splat(simd, input);
        for (sum, weights) in sums.iter_mut().zip(vectors) {
            *sum = weights.mul_add(input, *sum);
        }
    }
}
