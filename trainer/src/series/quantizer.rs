//! Step widths of the per-channel quantiser, from features seen on training images.

/// Bins of a histogram between zero and the largest value of its channel.
const BINS: usize = 1024;
/// Candidate clipping points per channel, from the largest value down to a twentieth of it.
const CANDIDATES: usize = 48;

/// Values of one channel, counted in bins of equal width.
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

    /// Summed squared error of the non-zero values when the code `q` of `0..=top` stands for `q · step`.
    fn squared_error(&self, step: f32, top: f32) -> f64 {
        let width = self.largest / BINS as f32;
        let error = |(bin, count): (usize, &u32)| {
            let value = (bin as f32 + 0.5) * width;
            let code = (value / step).round().min(top);
            f64::from(*count) * f64::from((value - code * step).powi(2))
        };
        self.counts.iter().enumerate().map(error).sum()
    }
}

/// For each channel the step with the least squared error; zero for a channel that never fires.
///
/// `features` are those of several images, each `[C, H·W]` with `positions` = H·W. Clipping below the largest value gains more in resolution
/// than it loses at the few values beyond (Banner et al., *Post training 4-bit quantization*, 2019).
pub fn steps(features: &[f32], channels: usize, positions: usize, bits: u8) -> Vec<f32> {
    let top = (1_u32 << bits) as f32 - 1.0;
    let channel = |channel: usize| {
        let planes = features.chunks_exact(positions).skip(channel).step_by(channels);
        let histogram = Histogram::new(planes.flatten().copied());
        if histogram.largest <= 0.0 {
            return 0.0;
        }
        let candidate = |it: usize| histogram.largest / top * 0.05_f32.powf(it as f32 / CANDIDATES as f32);
        let errors = (0..CANDIDATES).map(|it| (candidate(it), histogram.squared_error(candidate(it), top)));
        errors.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |it| it.0)
    };
    (0..channels).map(channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_never_fires_gets_no_step() {
        assert_eq!(steps(&[0.0, 0.0, -1.0, 0.0], 1, 2, 3), [0.0]);
    }

    #[test]
    fn channels_are_told_apart() {
        // Two images of two channels; the second channel is ten times the first.
        let features: Vec<f32> = (0..2)
            .flat_map(|_| (0..8).map(|it| it as f32).chain((0..8).map(|it| 10.0 * it as f32)))
            .collect();
        let steps = steps(&features, 2, 8, 3);
        assert!((steps[1] / steps[0] - 10.0).abs() < 1e-3, "{steps:?}");
        assert!((0.9..1.1).contains(&steps[0]), "{steps:?}");
    }

    #[test]
    fn outliers_are_clipped() {
        let mut features: Vec<f32> = (0..10_000).map(|it| it as f32 / 10_000.0).collect();
        features.push(8.0);
        assert!(steps(&features, 1, features.len(), 4)[0] < 0.2);
    }
}
