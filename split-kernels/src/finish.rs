//! What becomes of a sum before it is written: bias, activations, and what is added to it.

use fearless_simd::prelude::*;
use split_graph::Activation;

use super::simd::{exp, load, splat, store, zero};

/// The least and the largest value, as 32-bit floats read as integers: see [`limit`].
pub type Limits = [i32; 2];

/// Limits that no value exceeds.
pub const UNLIMITED: Limits = [i32::MIN, i32::MAX];
/// Those of a ReLU.
const RELU: Limits = [0, i32::MAX];
/// Those of a ReLU6.
const RELU6: Limits = [0, 6.0_f32.to_bits().cast_signed()];

/// A value-by-value function, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve(pub Option<Activation>);

impl Curve {
    /// Whether the largest of some values has the largest result.
    pub fn is_monotone(self) -> bool {
        matches!(self.0, None | Some(Activation::Relu | Activation::Relu6))
    }

    /// What the function limits values to, where that is all it does.
    fn limits(self) -> Option<Limits> {
        match self.0 {
            None => Some(UNLIMITED),
            Some(Activation::Relu) => Some(RELU),
            Some(Activation::Relu6) => Some(RELU6),
            Some(_) => None,
        }
    }

    #[inline(always)]
    pub fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self.0 {
            None => x,
            Some(Activation::Relu) => limit(simd, RELU, x),
            Some(Activation::Relu6) => limit(simd, RELU6, x),
            // In a function of its own, so that it is not repeated in every kernel.
            Some(it) => {
                let mut x = x;
                activate(simd, it, &mut x);
                x
            }
        }
    }
}

/// Limits values, of which the least limit is zero or none.
///
/// From zero on, floats are ordered as the integers with the same bits; the integers of negative floats are negative. In WebAssembly this takes
/// one instruction a limit, while most processors need several for its rules about NaN and the sign of zero.
#[inline(always)]
pub fn limit<S: Simd>(simd: S, [low, high]: Limits, x: S::f32s) -> S::f32s {
    let bits: S::i32s = x.bitcast();
    bits.max(S::i32s::splat(simd, low))
        .min(S::i32s::splat(simd, high))
        .bitcast()
}

#[inline(never)]
fn activate<S: Simd>(simd: S, activation: Activation, x: &mut S::f32s) {
    simd.vectorize(
        #[inline(always)]
        || {
            *x = match activation {
                Activation::Relu => limit(simd, RELU, *x),
                Activation::Relu6 => limit(simd, RELU6, *x),
                Activation::HardSigmoid => limit(simd, RELU6, *x + 3.0) * (1.0 / 6.0),
                Activation::HardSwish => *x * limit(simd, RELU6, *x + 3.0) * (1.0 / 6.0),
                Activation::Sigmoid => splat(simd, 1.0) / (exp(simd, zero(simd) - *x) + 1.0),
                Activation::Silu => *x / (exp(simd, zero(simd) - *x) + 1.0),
            };
        },
    );
}

/// What becomes of the sums of all output channels: `last(first(sum + bias) + addend)`.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Of whole vectors.
    pub bias: Vec<f32>,
    /// Before the addition.
    pub first: Curve,
    /// After it.
    pub last: Curve,
}

impl Finish {
    /// The same, with biases for whole vectors.
    pub fn padded(&self, lanes: usize) -> Self {
        let mut padded = self.clone();
        padded.bias.resize(self.bias.len().next_multiple_of(lanes), 0.0);
        padded
    }

    /// What sums are limited to, where that is all that becomes of them and nothing is added.
    pub fn limits(&self) -> Option<Limits> {
        self.first.limits()
    }

    /// Finishes sums that have the bias in them, of positions one after another; `addend` holds theirs from a place on.
    pub fn complete<S: Simd>(&self, simd: S, sums: &mut [f32], addend: Option<(&[f32], usize)>) {
        simd.vectorize(
            #[inline(always)]
            || {
                for at in (0..sums.len()).step_by(S::f32s::LEN) {
                    let mut result = self.first.of(simd, load(simd, sums, at));
                    if let Some((addend, from)) = addend {
                        result = self.last.of(simd, result + load(simd, addend, from + at));
                    }
                    store::<S>(result, sums, at);
                }
            },
        );
    }

    /// What the sums of some vectors of output channels from `channel` on begin with.
    #[inline(always)]
    pub fn begin<S: Simd, const V: usize>(&self, simd: S, channel: usize) -> [S::f32s; V] {
        let bias = &self.bias[channel..][..V * S::f32s::LEN];
        let mut begin = [zero(simd); V];
        for (index, it) in begin.iter_mut().enumerate() {
            *it = load(simd, bias, index * S::f32s::LEN);
        }
        begin
    }

    /// Writes the sums of some positions, which began with [`begin`](Self::begin)'s. `outputs` is where the positions begin in the output, and
    /// with the addend where they begin in that.
    #[inline(always)]
    pub fn write_all<S: Simd, const P: usize, const V: usize>(
        &self,
        simd: S,
        sums: &[[S::f32s; V]; P],
        channel: usize,
        addend: Option<(&[f32], [usize; P])>,
        output: &mut [f32],
        outputs: [usize; P],
    ) {
        // What is done is decided once, not for every vector.
        match (self.first.limits(), self.last.limits(), addend) {
            (Some(first), _, None) => write_each::<S, P, V>(
                sums,
                output,
                channel,
                outputs,
                #[inline(always)]
                |sum, _, _| limit(simd, first, sum),
            ),
            (Some(first), Some(last), Some((addend, addends))) => {
                let mut added = [addend; P];
                for (it, at) in added.iter_mut().zip(addends) {
                    *it = &addend[at + channel..][..V * S::f32s::LEN];
                }
                write_each::<S, P, V>(
                    sums,
                    output,
                    channel,
                    outputs,
                    #[inline(always)]
                    |sum, position, at| {
                        let sum = limit(simd, first, sum) + load(simd, added[position], at);
                        limit(simd, last, sum)
                    },
                );
            }
            _ => write_each::<S, P, V>(
                sums,
                output,
                channel,
                outputs,
                #[inline(always)]
                |sum, position, at| {
                    let result = self.first.of(simd, sum);
                    match addend {
                        None => result,
                        Some((addend, addends)) => {
                            let addend = load(simd, addend, addends[position] + channel + at);
                            self.last.of(simd, result + addend)
                        }
                    }
                },
            ),
        }
    }

    /// Writes a vector of output channels that begins at `channel`; `at` is where the position begins in the output, and in the addend.
    #[inline(always)]
    pub fn write<S: Simd>(
        &self,
        simd: S,
        sum: S::f32s,
        channel: usize,
        addend: Option<(&[f32], usize)>,
        output: &mut [f32],
        at: usize,
    ) {
        let mut result = self.first.of(simd, sum + load(simd, &self.bias, channel));
        if let Some((addend, at)) = addend {
            result = self.last.of(simd, result + load(simd, addend, at + channel));
        }
        store::<S>(result, output, at + channel);
    }
}

/// Writes what becomes of each sum, given its position and where it lies among the position's.
#[inline(always)]
fn write_each<S: Simd, const P: usize, const V: usize>(
    sums: &[[S::f32s; V]; P],
    output: &mut [f32],
    channel: usize,
    outputs: [usize; P],
    result: impl Fn(S::f32s, usize, usize) -> S::f32s,
) {
    for (position, (sums, at)) in sums.iter().zip(outputs).enumerate() {
        let output = &mut output[at + channel..][..V * S::f32s::LEN];
        for (index, sum) in sums.iter().enumerate() {
            let at = index * S::f32s::LEN;
            store::<S>(result(*sum, position, at), output, at);
        }
    }
}
