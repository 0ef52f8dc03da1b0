//! The per-channel quantiser, from features seen on training images.

/// Bins of a histogram between zero and the largest value of its channel.
const BINS: usize = 1024;
/// Candidate clipping points per channel, from the largest value down to a twentieth of it.
const CANDIDATES: usize = 48;

/// Code `q` of channel `c` stands for `q · steps[c] + centres[c]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantizer {
    /// Bits of a code.
    pub bits: u8,
    /// Width of a code; zero for a channel that never changes.
    pub steps: Vec<f32>,
    /// What code 0 stands for; empty where no feature is negative.
    pub centres: Vec<f32>,
}

impl Quantizer {
    /// For each channel the step with the least squared error.
    ///
    /// `features` are those of several images, each `[C, H·W]` with `positions` = H·W. Clipping below the largest value gains more in resolution
    /// than it loses at the few values beyond (Banner et al., *Post training 4-bit quantization*, 2019). The codes of a channel with negative values
    /// lie evenly around its mean, those of any other begin at zero.
    pub fn of(features: &[f32], channels: usize, positions: usize, bits: u8) -> Self {
        let top = top(bits);
        let channel = |channel: usize| {
            let planes = features.chunks_exact(positions).skip(channel).step_by(channels);
            let values = planes.flatten().copied();
            let is_negative = values.clone().any(|it| it < 0.0);
            let count = values.clone().count().max(1);
            let mean = match is_negative {
                true => (values.clone().map(f64::from).sum::<f64>() / count as f64) as f32,
                false => 0.0,
            };
            let histogram = Histogram::new(values.map(|it| (it - mean).abs()));
            if histogram.largest <= 0.0 {
                return (0.0, mean);
            }
            let clips = (0..CANDIDATES).map(|it| histogram.largest * 0.05_f32.powf(it as f32 / CANDIDATES as f32));
            let candidates = clips.map(|clip| match is_negative {
                true => (2.0 * clip / top, clip),
                false => (clip / top, 0.0),
            });
            let errors = candidates.map(|(step, below)| (step, below, histogram.squared_error(step, below, top)));
            let best = errors.min_by(|a, b| a.2.total_cmp(&b.2));
            best.map_or((0.0, mean), |(step, below, _)| (step, mean - below))
        };
        let (steps, centres): (Vec<f32>, Vec<f32>) = (0..channels).map(channel).unzip();
        let centres = if centres.iter().all(|it| *it == 0.0) {
            Vec::new()
        } else {
            centres
        };
        Self { bits, steps, centres }
    }

    /// The same with steps that are wider by a factor; the middle of the codes around a mean stays.
    pub fn widened(&self, factor: f32) -> Self {
        let half = top(self.bits) / 2.0 * (1.0 - factor);
        let moved = |(centre, step): (&f32, &f32)| if *centre == 0.0 { 0.0 } else { centre + half * step };
        Self {
            bits: self.bits,
            steps: self.steps.iter().map(|it| it * factor).collect(),
            centres: self.centres.iter().zip(&self.steps).map(moved).collect(),
        }
    }
}

/// The greatest code.
fn top(bits: u8) -> f32 {
    (1_u32 << bits) as f32 - 1.0
}

/// Values of one channel, none of them negative, counted in bins of equal width.
struct Histogram {
    largest: f32,
    counts: Vec<u32>,
}

impl Histogram {
    fn new(values: impl Iterator<Item = f32> + Clone) -> Self {
        let largest = values.clone().fold(0.0, f32::max);
        let mut counts = vec![0; BINS];
        let scale = BINS as f32 / largest;
        for value in values.filter(|it| *it > 0.0) {
            counts[((value * scale) as usize).min(BINS - 1)] += 1;
        }
        Self { largest, counts }
    }

    /// Summed squared error of the non-zero values when the code `q` of `0..=top` stands for `q · step − below`.
    fn squared_error(&self, step: f32, below: f32, top: f32) -> f64 {
        let width = self.largest / BINS as f32;
        let error = |(bin, count): (usize, &u32)| {
            let value = (bin as f32 + 0.5) * width;
            let code = ((value + below) / step).round().min(top);
            f64::from(*count) * f64::from((value - (code * step - below)).powi(2))
        };
        self.counts.iter().enumerate().map(error).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_never_fires_gets_no_step() {
        assert_eq!(Quantizer::of(&[0.0; 4], 1, 2, 3).steps, [0.0]);
    }

    #[test]
    fn channels_are_told_apart() {
        // Two images of two channels; the second channel is ten times the first.
        let features: Vec<f32> = (0..2)
            .flat_map(|_| (0..8).map(|it| it as f32).chain((0..8).map(|it| 10.0 * it as f32)))
            .collect();
        let Quantizer { steps, centres, .. } = Quantizer::of(&features, 2, 8, 3);
        assert!((steps[1] / steps[0] - 10.0).abs() < 1e-3, "{steps:?}");
        assert!((0.9..1.1).contains(&steps[0]), "{steps:?}");
        assert!(centres.is_empty());
    }

    #[test]
    fn outliers_are_clipped() {
        let mut features: Vec<f32> = (0..10_000).map(|it| it as f32 / 10_000.0).collect();
        features.push(8.0);
        assert!(Quantizer::of(&features, 1, features.len(), 4).steps[0] < 0.2);
    }

    #[test]
    fn codes_of_negative_features_lie_around_their_mean() {
        // From −3 to 1 in one channel, from 0 to 7 in the other.
        let features: Vec<f32> = (0..8)
            .map(|it| it as f32 * 4.0 / 7.0 - 3.0)
            .chain((0..8).map(|it| it as f32))
            .collect();
        let quantizer = Quantizer::of(&features, 2, 8, 3);
        for it in [quantizer.clone(), quantizer.widened(1.5)] {
            let middle = it.centres[0] + it.steps[0] * 3.5;
            assert!((middle + 1.0).abs() < 1e-3, "{it:?}");
            assert_eq!(it.centres[1], 0.0);
        }
        assert!((quantizer.centres[0] + 3.0).abs() < 0.3, "{quantizer:?}");
    }
}
