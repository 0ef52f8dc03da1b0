//! What becomes of a sum before it is written: bias, activations, and what is added to it.

use fearless_simd::prelude::*;
use split_graph::Activation;

use super::simd::{exp, load, splat, store, zero};

/// A value-by-value function, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve(pub Option<Activation>);

impl Curve {
    /// Whether the largest of some values has the largest result.
    pub fn is_monotone(self) -> bool {
        matches!(self.0, None | Some(Activation::Relu | Activation::Relu6))
    }

    #[inline(always)]
    pub fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self.0 {
            None => x,
            Some(Activation::Relu) => x.max(zero(simd)),
            Some(Activation::Relu6) => clamp(simd, x),
            // In a function of its own, so that it is not repeated in every kernel.
            Some(it) => {
                let mut x = x;
                activate(simd, it, &mut x);
                x
            }
        }
    }
}

/// Limits values to [0, 6].
#[inline(always)]
fn clamp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    x.max(zero(simd)).min(splat(simd, 6.0))
}

#[inline(never)]
fn activate<S: Simd>(simd: S, activation: Activation, x: &mut S::f32s) {
    simd.vectorize(
        #[inline(always)]
        || {
            *x = match activation {
                Activation::Relu => x.max(zero(simd)),
                Activation::Relu6 => clamp(simd, *x),
                Activation::HardSigmoid => clamp(simd, *x + 3.0) * (1.0 / 6.0),
                Activation::HardSwish => *x * clamp(simd, *x + 3.0) * (1.0 / 6.0),
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
