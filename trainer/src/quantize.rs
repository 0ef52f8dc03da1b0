//! The feature quantiser in the training loop.

use crate::checkpoint::FeatureQuantizer;
use crate::inference::to_planes;
use crate::series::quantizer;

/// The least width of a code: a channel that never changes could begin to.
const LEAST_STEP: f32 = 1e-4;

/// A [`FeatureQuantizer`] at a node of the network that learns.
#[derive(Clone, Debug)]
pub struct Quantizer {
    /// The node whose output is quantised.
    pub node: usize,
    /// Weight in the loss of the mean length of a code, see [`Quantizer::add_rate`].
    pub rate_penalty: f64,
    spec: FeatureQuantizer,
    greatest_code: f32,
}

impl Quantizer {
    /// The quantiser at a node.
    pub fn new(spec: &FeatureQuantizer, node: usize, rate_penalty: f64) -> Self {
        Self {
            node,
            rate_penalty,
            greatest_code: ((1_u32 << spec.bits) - 1) as f32,
            spec: spec.clone(),
        }
    }

    /// Width of a channel's codes, and what code 0 stands for.
    fn channel(&self, channel: usize) -> (f32, f32) {
        let centre = self.spec.centres.get(channel).copied().unwrap_or(0.0);
        (self.spec.steps[channel], centre)
    }

    /// Calls `each` with every value's place, step and centre.
    fn values(&self, count: usize, mut each: impl FnMut(usize, f32, f32)) {
        let channels = self.spec.steps.len();
        for start in (0..count).step_by(channels.max(1)) {
            for channel in 0..channels {
                let (step, centre) = self.channel(channel);
                each(start + channel, step, centre);
            }
        }
    }

    /// Puts what the decoder rebuilds in place of `features` `[N, H, W, C]`.
    pub fn apply(&self, features: &mut [f32]) {
        self.values(features.len(), |at, step, centre| {
            let code = ((features[at] - centre) / step).round().clamp(0.0, self.greatest_code);
            features[at] = code * step + centre;
        });
    }

    /// The way back, given the features before [`apply`](Self::apply): the slope passes as if there were no rounding, and stops where values are
    /// clipped.
    pub fn stop_where_clipped(&self, features: &[f32], slope: &mut [f32]) {
        self.values(features.len(), |at, step, centre| {
            let code = (features[at] - centre) / step;
            if !(0.0..=self.greatest_code).contains(&code) {
                slope[at] = 0.0;
            }
        });
    }

    /// Adds the slope of the rate penalty to that of the features, and returns its share of the loss: the mean of log₂(1 + |code|), which follows
    /// the bits that an entropy coder spends more closely than the code itself. Codes around a centre are counted from the middle.
    pub fn add_rate(&self, features: &[f32], slope: &mut [f32]) -> f64 {
        if self.rate_penalty == 0.0 {
            return 0.0;
        }
        let weight = (self.rate_penalty / features.len().max(1) as f64) as f32;
        let is_centred = !self.spec.centres.is_empty();
        let mut sum = 0.0;
        self.values(features.len(), |at, step, centre| {
            let middle = if is_centred && centre != 0.0 {
                centre + step * self.greatest_code / 2.0
            } else {
                0.0
            };
            let distance = (features[at] - middle) / step;
            let length = 1.0 + distance.abs();
            sum += f64::from(length.log2());
            if distance != 0.0 {
                slope[at] += weight * distance.signum() / (length * step * std::f32::consts::LN_2);
            }
        });
        sum * f64::from(weight)
    }
}

/// The quantiser with the least squared error on features `[N, H, W, C]` of `positions` = H·W.
pub fn calibrate(split: &str, features: &[f32], channels: usize, positions: usize, bits: u32) -> FeatureQuantizer {
    let mut planes = vec![0.0; features.len()];
    let each = positions * channels;
    for (planes, image) in planes.chunks_exact_mut(each).zip(features.chunks_exact(each)) {
        to_planes(image, channels, planes);
    }
    let found = quantizer::Quantizer::of(&planes, channels, positions, bits as u8);
    FeatureQuantizer {
        split: split.to_owned(),
        bits,
        steps: found.steps.iter().map(|it| it.max(LEAST_STEP)).collect(),
        centres: found.centres,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantizer(centres: &[f32], rate_penalty: f64) -> Quantizer {
        let spec = FeatureQuantizer {
            split: "pool1".into(),
            bits: 2,
            steps: vec![0.5, 2.0],
            centres: centres.into(),
        };
        Quantizer::new(&spec, 0, rate_penalty)
    }

    #[test]
    fn values_become_multiples_of_their_channels_step() {
        let mut features = [0.7, 0.7, 9.0, 3.1, -1.0, 6.9];
        quantizer(&[], 0.0).apply(&mut features);
        assert_eq!(features, [0.5, 0.0, 1.5, 4.0, 0.0, 6.0]);
        let mut features = [-1.0, 0.0, -0.3, 5.0];
        quantizer(&[-0.75, -3.0], 0.0).apply(&mut features);
        assert_eq!(features, [-0.75, 1.0, -0.25, 3.0]);
    }

    #[test]
    fn slopes_pass_but_where_values_are_clipped() {
        let mut slope = [1.0; 6];
        quantizer(&[], 0.0).stop_where_clipped(&[0.7, 0.7, 9.0, 3.1, -1.0, 6.9], &mut slope);
        assert_eq!(slope, [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_rates_slope_is_that_of_differences() {
        for centres in [&[][..], &[-0.8, -2.5]] {
            let quantizer = quantizer(centres, 0.3);
            let features = [0.7, 0.4, 0.9, 3.1, 0.2, 5.0];
            let mut slope = [0.0; 6];
            quantizer.add_rate(&features, &mut slope);
            for at in 0..features.len() {
                let rate = |by: f32| {
                    let mut moved = features;
                    moved[at] += by;
                    quantizer.add_rate(&moved, &mut [0.0; 6])
                };
                let seen = (rate(1e-2) - rate(-1e-2)) / 2e-2;
                assert!((seen - f64::from(slope[at])).abs() < 1e-3, "{at}: {seen}, {slope:?}");
            }
        }
    }
}
