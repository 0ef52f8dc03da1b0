//! Vectors as wide as the processor has: `fearless_simd` gives them, from WebAssembly's 4 floats to AVX-512's 16.

use fearless_simd::{Level, dispatch, prelude::*};

/// Whether the processor has 32 vector registers rather than 16.
const fn has_many_registers(lanes: usize) -> bool {
    lanes >= 16 || cfg!(target_arch = "aarch64")
}

/// The most positions that are computed together.
///
/// With [`most_vectors`], as many sums as fit the registers beside the weights and a broadcast input; at least eight, which hide the four
/// cycles that a fused multiply–add takes. A browser has 16 registers on x86.
pub const fn most_positions(lanes: usize) -> usize {
    match lanes {
        _ if has_many_registers(lanes) => 8,
        8 => 6,
        _ => 4,
    }
}

/// The most vectors of output channels that are computed together.
pub const fn most_vectors(lanes: usize) -> usize {
    if has_many_registers(lanes) { 3 } else { 2 }
}

/// Floats in a vector.
pub fn lanes(level: Level) -> usize {
    #[inline(always)]
    fn of<S: Simd>(_: S) -> usize {
        S::f32s::LEN
    }
    dispatch!(level, simd => of(simd))
}

/// Every kind of vector that this processor has, the widest first.
pub fn levels() -> Vec<Level> {
    let best = Level::new();
    #[cfg(target_arch = "x86_64")]
    let others = [best.as_avx2().map(Level::Avx2), best.as_sse2().map(Level::Sse2)];
    #[cfg(not(target_arch = "x86_64"))]
    let others = [None; 0];
    [best].into_iter().chain(others.into_iter().flatten()).collect()
}

#[inline(always)]
pub fn splat<S: Simd>(simd: S, value: f32) -> S::f32s {
    S::f32s::splat(simd, value)
}

#[inline(always)]
pub fn zero<S: Simd>(simd: S) -> S::f32s {
    splat(simd, 0.0)
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

/// eˣ to about 2 units in the last place: Cephes' `expf` (Moshier, *Methods and Programs for Mathematical Functions*, 1989).
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 6] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let x = x.max(splat(simd, -87.0)).min(splat(simd, 88.0));
    let power = (x * std::f32::consts::LOG2_E).round_ties_even();
    let rest = power.mul_add(splat(simd, -LN_2[0]), x);
    let rest = power.mul_add(splat(simd, -LN_2[1]), rest);
    let sum = POLYNOMIAL
        .into_iter()
        .fold(zero(simd), |sum, it| sum.mul_add(rest, splat(simd, it)));
    let exp = sum.mul_add(rest * rest, rest + 1.0);
    let power: S::i32s = power.to_int();
    let scale: S::f32s = ((power + 127) << 23).bitcast();
    exp * scale
}
