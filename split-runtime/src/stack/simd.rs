//! The inner loop of both convolutions, on vectors as wide as the processor has: `fearless_simd` gives them, from WebAssembly's 4 floats
//! to AVX-512's 16.

use fearless_simd::{Level, dispatch, prelude::*};

/// Positions that are computed together.
pub const GROUP: usize = 4;

/// Vectors of output channels that are computed together, where there are so many.
///
/// Eight sums fill the sixteen registers that a browser has on x86, with the weights and a broadcast input, and hide the four cycles
/// that a fused multiply–add takes.
pub const BLOCK: usize = 2;

/// Floats in a vector.
pub fn lanes(level: Level) -> usize {
    #[inline(always)]
    fn of<S: Simd>(_: S) -> usize {
        S::f32s::LEN
    }
    dispatch!(level, simd => of(simd))
}

#[inline(always)]
pub fn zero<S: Simd>(simd: S) -> S::f32s {
    S::f32s::splat(simd, 0.0)
}

/// The vector that begins at `at`.
#[inline(always)]
pub fn load<S: Simd>(simd: S, values: &[f32], at: usize) -> S::f32s {
    S::f32s::from_slice(simd, &values[at..at + S::f32s::LEN])
}

/// Writes the vector that begins at `at`.
#[inline(always)]
pub fn store<S: Simd>(vector: S::f32s, values: &mut [f32], at: usize) {
    vector.store_slice(&mut values[at..at + S::f32s::LEN]);
}

/// Adds, for `V` vectors of output channels at a group of positions, the products of weights and inputs: the loop that all the time goes into.
///
/// `weights` are `[input][V vectors]`; an input belongs to the same value of every position's `inputs`.
#[inline(always)]
pub fn multiply<S: Simd, const V: usize>(
    simd: S,
    weights: &[f32],
    inputs: [&[f32]; GROUP],
    sums: &mut [[S::f32s; V]; GROUP],
) {
    let [a, b, c, d] = inputs;
    let [mut sa, mut sb, mut sc, mut sd] = *sums;
    let weights = weights.chunks_exact(V * S::f32s::LEN);
    for ((((weight, a), b), c), d) in weights.zip(a).zip(b).zip(c).zip(d) {
        let mut vectors = [zero(simd); V];
        for (index, it) in vectors.iter_mut().enumerate() {
            *it = load(simd, weight, index * S::f32s::LEN);
        }
        for (sums, input) in [(&mut sa, a), (&mut sb, b), (&mut sc, c), (&mut sd, d)] {
            let input = S::f32s::splat(simd, *input);
            for (sum, weight) in sums.iter_mut().zip(vectors) {
                *sum = weight.mul_add(input, *sum);
            }
        }
    }
    *sums = [sa, sb, sc, sd];
}

/// Adds the bias and cuts negative values off.
#[inline(always)]
pub fn finish<S: Simd>(simd: S, sum: S::f32s, bias: S::f32s, relu: bool) -> S::f32s {
    let sum = sum + bias;
    if relu { sum.max(zero(simd)) } else { sum }
}
