//! Rate and round trip of the link, from the times of answers.
//!
//! A message of `b` bytes whose answer comes after `t` (the server's own time subtracted) says `t = round trip + b / rate + noise`.
//! The slope over `b` is the rate's inverse, the intercept the round trip. [`LinkEstimator`] takes the median of
//! the slopes of all pairs of recent samples that differ enough in size, and the median of what remains: the estimator of Theil
//! (*A rank-invariant method of linear and polynomial regression analysis*, 1950) and Sen (*Estimates of the regression coefficient based on
//! Kendall's tau*, 1968), which stays right while up to 29 % of the samples are outliers.
//!
//! Messages of one operating point hardly differ in size. When the samples at hand say too little of the slope,
//! [`probe_bytes`](LinkEstimator::probe_bytes) asks for a padded probe, within a budget of 4 kB/s or 1 % of the bytes in use, whichever is more.

use std::{collections::VecDeque, time::Duration};

use super::median;

/// Samples older than this say nothing of the link any more.
const WINDOW: Duration = Duration::from_secs(4);
/// Most samples kept; pairs grow with the square.
const MAX_SAMPLES: usize = 24;
/// Two samples tell the rate only if they differ by this many bytes.
const MIN_SPREAD_BYTES: f64 = 1024.0;
/// Pairs needed before their median is believed.
const MIN_PAIRS: usize = 3;
/// Probing budget without other traffic, in bytes per second.
const PROBE_BYTES_PER_SECOND: f64 = 4000.0;
/// Share of other traffic that probes may add.
const PROBE_SHARE: f64 = 0.01;
/// One probe: 2 kB take 80 ms at 200 kbit/s and are told from a round trip's noise up to about 10 Mbit/s, beyond which no operating point cares.
const PROBE_BYTES: usize = 2000;
/// The fastest rate told apart; also what a slope of zero or below (lost in noise) is taken for.
const MAX_RATE: f64 = 125e6;

/// One message and its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSample {
    /// Size of the message that went out, in bytes.
    pub message_bytes: usize,
    /// From sending to the answer, less the server's queue, decoding and tail.
    pub elapsed: Duration,
}

/// What is known of the link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkEstimate {
    /// Uplink rate, positive.
    pub rate_bytes_per_second: f64,
    /// Time of an answer to an empty message.
    pub round_trip: Duration,
}

/// Estimates rate and round trip of one connection.
#[derive(Clone, Debug, Default)]
pub struct LinkEstimator {
    samples: VecDeque<(Duration, LinkSample)>,
    rate: Option<f64>,
    round_trip: Duration,
    last_probe: Option<Duration>,
    probes: u32,
}

impl LinkEstimator {
    /// Takes an answer that arrived at `now`, any clock that does not run backwards.
    pub fn record(&mut self, now: Duration, sample: LinkSample) {
        self.forget(now);
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, sample));
        if let Some(slope) = self.slope() {
            self.rate = Some(if slope * MAX_RATE > 1.0 { 1.0 / slope } else { MAX_RATE });
        }
        let per_byte = self.rate.map_or(0.0, |it| 1.0 / it);
        let rest = |it: &LinkSample| it.elapsed.as_secs_f64() - it.message_bytes as f64 * per_byte;
        let mut rests: Vec<f64> = self.samples.iter().map(|it| rest(&it.1)).collect();
        self.round_trip = Duration::from_secs_f64(median(&mut rests).unwrap_or_default().max(0.0));
    }

    /// What is known; none before the first pair of probes.
    pub fn estimate(&self) -> Option<LinkEstimate> {
        self.rate.map(|rate| LinkEstimate {
            rate_bytes_per_second: rate,
            round_trip: self.round_trip,
        })
    }

    /// Padding of the probe that should go out at `now`; none while passive samples suffice or the budget is spent.
    ///
    /// The first probes of a connection alternate between none and much, so that their difference gives the rate; later ones differ enough from
    /// the frames. `bytes_per_second` is the traffic of frames. The caller sends the probe; its answer comes back through [`record`](Self::record).
    pub fn probe_bytes(&mut self, now: Duration, bytes_per_second: f64) -> Option<usize> {
        self.forget(now);
        let budget = PROBE_BYTES_PER_SECOND.max(bytes_per_second * PROBE_SHARE);
        let pause = Duration::from_secs_f64(PROBE_BYTES as f64 / budget);
        let due = self.last_probe.is_none_or(|it| now.saturating_sub(it) >= pause);
        // A new connection asks for its first probes at once: nothing can be chosen without them.
        let due = due || self.rate.is_none() && self.samples.len() < MIN_PAIRS + 1;
        if !due || self.slopes().len() >= MIN_PAIRS && self.newest_large(now) {
            return None;
        }
        self.last_probe = Some(now);
        self.probes += 1;
        let small = self.rate.is_none() && !self.probes.is_multiple_of(2);
        Some(if small { 0 } else { PROBE_BYTES })
    }

    fn forget(&mut self, now: Duration) {
        while self.samples.front().is_some_and(|it| now.saturating_sub(it.0) > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Whether a sample large enough to tell the rate arrived within the last second.
    fn newest_large(&self, now: Duration) -> bool {
        let recent = self
            .samples
            .iter()
            .rev()
            .take_while(|it| now.saturating_sub(it.0) < Duration::from_secs(1));
        recent
            .into_iter()
            .any(|it| it.1.message_bytes as f64 >= MIN_SPREAD_BYTES)
    }

    fn slope(&self) -> Option<f64> {
        let mut slopes = self.slopes();
        if slopes.len() < MIN_PAIRS {
            None
        } else {
            median(&mut slopes)
        }
    }

    /// Seconds per byte of all pairs of samples that differ enough in size.
    fn slopes(&self) -> Vec<f64> {
        let samples = || self.samples.iter().map(|it| &it.1).enumerate();
        let pairs = samples().flat_map(|(index, a)| samples().skip(index + 1).map(move |(_, b)| (a, b)));
        let slope = |(a, b): (&LinkSample, &LinkSample)| {
            let bytes = a.message_bytes as f64 - b.message_bytes as f64;
            let seconds = a.elapsed.as_secs_f64() - b.elapsed.as_secs_f64();
            (bytes.abs() >= MIN_SPREAD_BYTES).then(|| seconds / bytes)
        };
        pairs.filter_map(slope).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a link of `rate` and `round_trip` for `seconds` with frames of 40 bytes at 20 a second and whatever probes are asked for.
    fn run(estimator: &mut LinkEstimator, from: u64, seconds: u64, rate: f64, noise: impl Fn(u64) -> f64) -> f64 {
        let mut probed = 0;
        for tick in 0..seconds * 20 {
            let now = Duration::from_secs(from) + Duration::from_millis(tick * 50);
            let mut send = |bytes: usize| {
                let elapsed = Duration::from_secs_f64(0.05 + noise(tick) + bytes as f64 / rate);
                estimator.record(
                    now,
                    LinkSample {
                        message_bytes: bytes,
                        elapsed,
                    },
                );
            };
            send(40);
            if let Some(padding) = estimator.probe_bytes(now, 800.0) {
                probed += padding;
                estimator.record(
                    now,
                    LinkSample {
                        message_bytes: padding,
                        elapsed: Duration::from_secs_f64(0.05 + noise(tick) + padding as f64 / rate),
                    },
                );
            }
        }
        probed as f64 / seconds as f64
    }

    fn error(estimator: &LinkEstimator, rate: f64) -> f64 {
        (estimator.estimate().unwrap().rate_bytes_per_second / rate - 1.0).abs()
    }

    #[test]
    fn finds_rate_and_round_trip_of_a_steady_link() {
        for rate in [25e3, 137.5e3, 731e3] {
            let mut estimator = LinkEstimator::default();
            run(&mut estimator, 0, 5, rate, |_| 0.0);
            assert!(error(&estimator, rate) < 1e-3);
            assert!((estimator.estimate().unwrap().round_trip.as_secs_f64() - 0.05).abs() < 1e-6);
        }
    }

    #[test]
    fn shrugs_off_outliers_of_one_sample_in_six() {
        let mut estimator = LinkEstimator::default();
        run(
            &mut estimator,
            0,
            10,
            137.5e3,
            |tick| if tick % 6 == 0 { 0.4 } else { 0.0 },
        );
        assert!(error(&estimator, 137.5e3) < 0.1, "{:?}", estimator.estimate());
    }

    #[test]
    fn follows_a_link_that_slows_down_within_three_seconds() {
        let mut estimator = LinkEstimator::default();
        run(&mut estimator, 0, 10, 731e3, |_| 0.0);
        run(&mut estimator, 10, 3, 25e3, |_| 0.0);
        assert!(error(&estimator, 25e3) < 0.1, "{:?}", estimator.estimate());
    }

    #[test]
    fn probes_keep_to_their_budget() {
        let per_second = run(&mut LinkEstimator::default(), 0, 60, 137.5e3, |_| 0.0);
        assert!(
            per_second <= PROBE_BYTES_PER_SECOND * 1.1,
            "{per_second} bytes per second"
        );
    }

    #[test]
    fn large_messages_make_probes_needless() {
        let mut estimator = LinkEstimator::default();
        for tick in 0..40_u64 {
            let bytes = if tick % 2 == 0 { 100 } else { 3000 };
            let elapsed = Duration::from_secs_f64(0.01 + bytes as f64 / 1e5);
            estimator.record(
                Duration::from_millis(tick * 50),
                LinkSample {
                    message_bytes: bytes,
                    elapsed,
                },
            );
        }
        assert_eq!(estimator.probe_bytes(Duration::from_secs(2), 1e4), None);
        assert!(error(&estimator, 1e5) < 1e-6);
    }
}
