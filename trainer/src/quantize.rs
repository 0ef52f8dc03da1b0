//! The feature quantiser in the training loop.

use crate::checkpoint::FeatureQuantizer;
use crate::inference::to_planes;
use crate::series::quantizer;

/// Weight of a batch in what is known of how often codes are seen.
const NEWS: f32 = 0.05;
/// What is added to the frequency of every code, so that none is impossible.
const LEAST_FREQUENCY: f32 = 1e-3;

/// The least width of a code: a channel that never changes could begin to.
const LEAST_STEP: f32 = 1e-4;

/// A [`FeatureQuantizer`] at a node of the network that learns.
#[derive(Clone, Debug)]
pub struct Quantizer {
    /// The node whose output is quantised.
    pub node: usize,
    /// Weight in the loss of the mean bits of a code.
    pub rate_penalty: f64,
    spec: FeatureQuantizer,
    /// How often each code of each channel was seen lately, `[channels, codes]`.
    prior: Vec<f32>,
    greatest_code: f32,
}

impl Quantizer {
    /// The quantiser at a node.
    pub fn new(spec: &FeatureQuantizer, node: usize, rate_penalty: f64) -> Self {
        Self {
            node,
            rate_penalty,
            greatest_code: ((1_u32 << spec.bits) - 1) as f32,
            prior: vec![1.0 / (1_u32 << spec.bits) as f32; spec.steps.len() << spec.bits],
            spec: spec.clone(),
        }
    }

    /// How often each code of each channel was seen lately, `[channels, codes]`.
    pub fn prior(&self) -> &[f32] {
        &self.prior
    }

    /// Takes up what was known before, if it is of as many channels and codes.
    pub fn remember(&mut self, prior: &[f32]) {
        if prior.len() == self.prior.len() {
            self.prior = prior.to_vec();
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

    /// Counts the codes of `features` `[N, H, W, C]`, so that [`add_rate`](Self::add_rate) knows how many bits each takes.
    pub fn observe(&mut self, features: &[f32]) {
        let channels = self.spec.steps.len();
        let codes = 1 << self.spec.bits;
        let mut counts = vec![0_u32; self.prior.len()];
        self.values(features.len(), |at, step, centre| {
            let code = ((features[at] - centre) / step).round().clamp(0.0, self.greatest_code);
            counts[at % channels * codes + code as usize] += 1;
        });
        let positions = (features.len() / channels.max(1)).max(1) as f32;
        for (known, count) in self.prior.iter_mut().zip(counts) {
            *known += NEWS * (count as f32 / positions - *known);
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

    /// Adds the slope of the rate penalty to that of the features, and returns the mean of the bits −log₂ p that an ideal entropy coder spends on a
    /// code, p being how often it is seen in its channel (a learned factorised prior: Ballé, Laparra and Simoncelli 2017, *End-to-end optimized image
    /// compression*). Between two codes, bits are taken in proportion.
    pub fn add_rate(&self, features: &[f32], slope: &mut [f32]) -> f64 {
        let weight = (self.rate_penalty / features.len().max(1) as f64) as f32;
        let (channels, codes) = (self.spec.steps.len(), 1_usize << self.spec.bits);
        let whole = 1.0 + LEAST_FREQUENCY * codes as f32;
        let bits: Vec<f32> = self
            .prior
            .iter()
            .map(|it| -((it + LEAST_FREQUENCY) / whole).log2())
            .collect();
        let mut sum = 0.0;
        self.values(features.len(), |at, step, centre| {
            let bits = &bits[at % channels * codes..][..codes];
            let code = (features[at] - centre) / step;
            let before = code.floor().clamp(0.0, (codes - 2) as f32);
            let (this, next) = (bits[before as usize], bits[before as usize + 1]);
            let share = (code - before).clamp(0.0, 1.0);
            sum += f64::from(this + (next - this) * share);
            if (0.0..self.greatest_code).contains(&code) {
                slope[at] += weight * (next - this) / step;
            }
        });
        sum / features.len().max(1) as f64
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
            let mut quantizer = quantizer(centres, 0.3);
            let features = [0.6, 0.4, 0.9, 3.1, 0.15, 5.0];
            for _ in 0..20 {
                quantizer.observe(&features);
            }
            let mut slope = [0.0; 6];
            quantizer.add_rate(&features, &mut slope);
            assert!(slope.iter().any(|it| *it != 0.0));
            for at in 0..features.len() {
                let rate = |by: f32| {
                    let mut moved = features;
                    moved[at] += by;
                    quantizer.add_rate(&moved, &mut [0.0; 6])
                };
                let seen = 0.3 * (rate(1e-2) - rate(-1e-2)) / 2e-2;
                assert!((seen - f64::from(slope[at])).abs() < 1e-3, "{at}: {seen}, {slope:?}");
            }
        }
    }

    #[test]
    fn what_is_seen_more_often_takes_fewer_bits() {
        let mut quantizer = quantizer(&[], 1.0);
        let mean = |it: &Quantizer| it.add_rate(&[0.0, 0.0], &mut [0.0; 2]);
        assert!((mean(&quantizer) - 2.0).abs() < 1e-3);
        for _ in 0..200 {
            quantizer.observe(&[0.0, 0.0, 0.0, 2.0]);
        }
        // Always 0 in the first channel, half of the time in the second.
        assert!((mean(&quantizer) - 0.5).abs() < 0.02);
    }
}
