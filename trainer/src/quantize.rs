//! The feature quantiser in the training loop: code `q` in `0..2^bits` stands for `q · step`.

use burn::tensor::{Tensor, TensorData};

use crate::network::FeatureQuantizer;

/// A [`FeatureQuantizer`] put after a block.
#[derive(Clone, Debug)]
pub struct Quantizer {
    /// The block whose output is quantised.
    pub block: usize,
    /// `[1, 1, 1, C]`.
    step: Tensor<4>,
    greatest_code: f32,
}

impl Quantizer {
    /// The quantiser on a device, after block `block`.
    pub fn new(quantizer: &FeatureQuantizer, block: usize, device: &burn::tensor::Device) -> Self {
        let shape = [1, 1, 1, quantizer.steps.len()];
        Self {
            block,
            step: Tensor::from_data(TensorData::new(quantizer.steps.clone(), shape), device),
            greatest_code: ((1_u32 << quantizer.bits) - 1) as f32,
        }
    }

    /// What the decoder rebuilds of `features` `[N, H, W, C]`.
    pub fn apply(&self, features: Tensor<4>) -> Tensor<4> {
        let codes = (features / self.step.clone()).round().clamp(0.0, self.greatest_code);
        codes * self.step.clone()
    }

    /// The same on autodiff; the gradient passes as if there were no rounding, and stops where values are clipped.
    pub fn apply_straight_through(&self, features: Tensor<4>) -> Tensor<4> {
        let step = Tensor::from_inner(self.step.clone());
        let clipped = (features.clone() / step.clone()).clamp(0.0, self.greatest_code) * step;
        let rounded = Tensor::from_inner(self.apply(features.inner()));
        let error = rounded - clipped.clone().detach();
        clipped + error
    }

    /// Codes of autodiff `features` before rounding and clipping.
    pub fn codes(&self, features: Tensor<4>) -> Tensor<4> {
        features / Tensor::from_inner(self.step.clone())
    }
}

/// Share of a channel's non-zero values that is not clipped, by bits of a code.
///
/// With few codes the best clip is lower: a coarse step hurts every value, a clip only the few above it.
const UNCLIPPED: [f32; 9] = [0.0, 0.60, 0.90, 0.97, 0.99, 0.995, 0.998, 0.999, 0.999];

/// A step per channel for codes of `bits` bits: the fewer bits, the more of the largest values are clipped, from one in a
/// thousand of the non-zero ones at 7 and 8 bits to 40 % at 1.
///
/// `values` are features `[positions, channels]`.
pub fn calibrate(values: &[f32], channels: usize, bits: u32) -> Vec<f32> {
    let greatest_code = ((1_u32 << bits) - 1) as f32;
    (0..channels)
        .map(|channel| {
            let mut live: Vec<f32> = values
                .iter()
                .skip(channel)
                .step_by(channels)
                .copied()
                .filter(|value| *value > 0.0)
                .collect();
            live.sort_by(f32::total_cmp);
            let at = (live.len() as f32 * UNCLIPPED[bits.min(8) as usize]) as usize;
            let clip = live.get(at.min(live.len().saturating_sub(1))).copied().unwrap_or(1.0);
            clip.max(1e-3) / greatest_code
        })
        .collect()
}
