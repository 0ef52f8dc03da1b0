//! Rate and round trip of the link, from the times of answers.
//!
//! A message of `b` bytes whose answer comes after `t` (the server's own time subtracted) says `t = round trip + b / rate + noise`.
//! The slope over `b` is the rate's inverse, the intercept the round trip. [`LinkEstimator`] takes the median of
//! the slopes of all pairs of recent samples that differ enough in size, and the median of what remains: the estimator of Theil
//! (*A rank-invariant method of linear and polynomial regression analysis*, 1950) and Sen (*Estimates of the regression coefficient based on
//! Kendall's tau*, 1968), which stays right while up to 29 % of the samples are outliers.
//!
//! Both are medians over the last two seconds, so a link that has changed is followed one second later, when new samples are the majority; at
//! once where the change is so large that two samples in a row leave no doubt.
//!
//! On a fast link the difference between a small message and a large one is lost in the noise. The estimate then says that the rate is not
//! [known](LinkEstimate::is_rate_known): what the slope gives is anything from a modem's rate to a fast network's, and in the end does not matter.
//!
//! A message that is sent while an earlier one still keeps the link busy has to wait for its turn. By the rate that is known, that wait is worked out and not
//! taken for the link's own time: a longer round trip would make the client send frames still earlier, which would wait still longer.
//!
//! Frames' answers tell the round trip, but messages of one operating point hardly differ in size, and where all runs on the device there are
//! none. When the samples at hand say too little, [`probe_bytes`](LinkEstimator::probe_bytes) asks for a probe: an empty one for the round trip,
//! and for the rate whichever end the sizes lack, an empty one, a padded one or both, within a budget of 4 kB/s or 1 % of the bytes in use,
//! whichever is more.

use std::{collections::VecDeque, time::Duration};

use super::median;

/// Samples older than this say nothing of the link any more…
const WINDOW: Duration = Duration::from_secs(2);
/// …unless there are no more than so many: on a link with a long round trip.
const MIN_SAMPLES: usize = 4;
/// Most samples kept; pairs grow with the square.
const MAX_SAMPLES: usize = 24;
/// Two samples tell the rate only if they differ by this many bytes.
const MIN_SPREAD_BYTES: f64 = 1024.0;
/// Pairs needed before their median is believed.
const MIN_PAIRS: usize = 3;
/// Pairs needed before the rate counts as known: those of three samples at either end…
const KNOWN_PAIRS: usize = 9;
/// …and what the largest sample must take longer than the smallest by their median: less is noise, and changes no choice.
const TELLING_SECONDS: f64 = 1e-3;
/// Samples at either end of the sizes that frames between them do not push out: enough for [`MIN_PAIRS`].
const MIN_END: usize = 2;
/// Probing budget without other traffic, in bytes per second.
const PROBE_BYTES_PER_SECOND: f64 = 4000.0;
/// Share of other traffic that probes may add.
const PROBE_SHARE: f64 = 0.01;
/// Padding of a probe for the rate: one TCP segment, so it is told from a round trip's noise up to about 10 Mbit/s, beyond which no operating point
/// cares, and keeps frames waiting for less than 60 ms at 200 kbit/s.
const PADDING: usize = 1400;
/// What a probe costs beside its padding: its own header, and WebSocket, TCP and IP around it.
const PROBE_OVERHEAD: f64 = 62.0;
/// A sample this recent makes another probe of its kind needless: five samples a second leave one outlier without effect.
const RECENT: Duration = Duration::from_millis(190);
/// The same for those that tell the rate: as often as the budget allows.
const RECENT_LARGE: Duration = Duration::from_millis(350);
/// Two samples in a row that are off by this much in the same direction are a change, and what was before says nothing any more.
const JUMP_SECONDS: f64 = 0.3;
/// The fastest rate told apart; also what a slope of zero or below (lost in noise) is taken for.
const MAX_RATE: f64 = 125e6;

/// One message and its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSample {
    /// Size of the message that went out, in bytes.
    pub message_bytes: usize,
    /// When it was sent.
    pub sent: Duration,
    /// From sending to the answer, less the server's queue, decoding and tail.
    pub elapsed: Duration,
}

/// What is known of the link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkEstimate {
    /// Uplink rate, positive: the best guess.
    pub rate_bytes_per_second: f64,
    /// Whether that is more than a guess: the messages' sizes made a clear difference.
    pub is_rate_known: bool,
    /// Time of an answer to an empty message.
    pub round_trip: Duration,
}

/// Estimates rate and round trip of one connection.
#[derive(Clone, Debug, Default)]
pub struct LinkEstimator {
    samples: VecDeque<(Duration, LinkSample)>,
    rate: Option<f64>,
    is_rate_known: bool,
    /// The last rate that was known; none once the link turned out too fast to measure it.
    last_known: Option<f64>,
    round_trip: Duration,
    /// When the last message whose answer came had left the link.
    busy: Duration,
    allowance: Allowance,
}

/// Bytes that probes may still cost: earned with time, never saved up for more than one.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    bytes: f64,
    earned: Option<Duration>,
}

impl LinkEstimator {
    /// Takes an answer that arrived at `now`, any clock that does not run backwards. Answers usually come in the order of their messages;
    /// one that does not counts as if its message had waited for the others.
    pub fn record(&mut self, now: Duration, mut sample: LinkSample) {
        self.forget(now);
        let begun = self.begun(sample.sent);
        sample.elapsed = sample.elapsed.saturating_sub(begun - sample.sent);
        if let Some(rate) = self.last_known {
            let sending = Duration::from_secs_f64(sample.message_bytes as f64 / rate);
            self.busy = (begun + sending).min(now);
        }
        if let Some((_, last)) = self.samples.back() {
            let (before, this) = (self.surprise(last), self.surprise(&sample));
            if before.abs().min(this.abs()) > JUMP_SECONDS && before * this > 0.0 {
                self.samples.drain(..self.samples.len() - 1);
            }
        }
        if self.samples.len() == MAX_SAMPLES {
            self.samples.remove(self.expendable());
        }
        self.samples.push_back((now, sample));
        let mut slopes = self.slopes();
        if let Some(slope) = median(&mut slopes).filter(|_| slopes.len() >= MIN_PAIRS) {
            self.rate = Some(if slope * MAX_RATE > 1.0 { 1.0 / slope } else { MAX_RATE });
            self.is_rate_known = self.is_telling(slope, &mut slopes);
            if self.is_rate_known {
                self.last_known = self.rate;
            } else if slopes.len() >= KNOWN_PAIRS {
                self.last_known = None;
            }
        }
        let per_byte = self.rate.map_or(0.0, |it| 1.0 / it);
        let rest = |it: &LinkSample| it.elapsed.as_secs_f64() - it.message_bytes as f64 * per_byte;
        let mut rests: Vec<f64> = self.samples.iter().map(|it| rest(&it.1)).collect();
        self.round_trip = Duration::from_secs_f64(median(&mut rests).unwrap_or_default().max(0.0));
    }

    /// When the transmission of the oldest message without an answer, which was sent then, has begun or will begin.
    pub fn begun(&self, sent: Duration) -> Duration {
        sent.max(self.busy)
    }

    /// What is known; none before the first pair of probes.
    pub fn estimate(&self) -> Option<LinkEstimate> {
        self.rate.map(|rate| LinkEstimate {
            rate_bytes_per_second: rate,
            is_rate_known: self.is_rate_known,
            round_trip: self.round_trip,
        })
    }

    /// Padding of the probe that should go out at `now`; none while other samples suffice or the budget is spent.
    ///
    /// The first probes of a connection come at once, on credit: nothing can be chosen without them. They alternate between none and much, so that
    /// their difference gives the rate. `bytes_per_second` is the traffic of frames. The caller sends the probe, asks for no other before its answer
    /// came, and hands that back through [`record`](Self::record).
    pub fn probe_bytes(&mut self, now: Duration, bytes_per_second: f64) -> Option<usize> {
        self.forget(now);
        let budget = PROBE_BYTES_PER_SECOND.max(bytes_per_second * PROBE_SHARE);
        self.allowance.earn(now, budget);
        let padding = if self.rate.is_none() && self.samples.len() <= MIN_PAIRS {
            // Small ones first: they hold up nothing.
            if self.samples.len().is_multiple_of(2) {
                0
            } else {
                PADDING
            }
        } else {
            let missing = if self.recent(now, RECENT).next().is_none() {
                Some(0)
            } else {
                self.missing_end(now)
            };
            missing.filter(|&it| self.allowance.covers(it))?
        };
        self.allowance.spend(padding);
        Some(padding)
    }

    fn forget(&mut self, now: Duration) {
        let is_old = |it: &(Duration, LinkSample)| now.saturating_sub(it.0) > WINDOW;
        while self.samples.len() > MIN_SAMPLES && self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
    }

    /// By how many seconds a sample took longer than expected.
    fn surprise(&self, sample: &LinkSample) -> f64 {
        self.rate.map_or(0.0, |rate| {
            let expected = self.round_trip.as_secs_f64() + sample.message_bytes as f64 / rate;
            sample.elapsed.as_secs_f64() - expected
        })
    }

    /// Sizes of the samples that came lately.
    fn recent(&self, now: Duration, lately: Duration) -> impl Iterator<Item = f64> {
        let recent = self.samples.iter().filter(move |it| now.saturating_sub(it.0) < lately);
        recent.map(|it| it.1.message_bytes as f64)
    }

    /// Padding of the probe without which the latest samples tell no rate. The cheaper end first: frames may be the other.
    fn missing_end(&self, now: Duration) -> Option<usize> {
        let sizes = || self.recent(now, RECENT_LARGE);
        let least = sizes().reduce(f64::min)?;
        let most = sizes().fold(PADDING as f64, f64::max);
        if most - least < MIN_SPREAD_BYTES {
            Some(0)
        } else {
            let large = sizes().any(|it| it - least >= MIN_SPREAD_BYTES);
            (!large).then_some(PADDING)
        }
    }

    /// Place of the oldest sample that is not one of the last at its end of the sizes.
    fn expendable(&self) -> usize {
        let sizes = || self.samples.iter().map(|it| it.1.message_bytes as f64);
        let least = sizes().fold(f64::INFINITY, f64::min);
        let most = sizes().fold(0.0, f64::max);
        let is_small = |it: f64| most - it >= MIN_SPREAD_BYTES;
        let is_large = |it: f64| it - least >= MIN_SPREAD_BYTES;
        let spared = [
            sizes().filter(|&it| is_small(it)).count() <= MIN_END,
            sizes().filter(|&it| is_large(it)).count() <= MIN_END,
        ];
        let needed = |it: f64| is_small(it) && spared[0] || is_large(it) && spared[1];
        sizes().position(|it| !needed(it)).unwrap_or_default()
    }

    /// Whether these slopes, whose median this is, are many, steep and alike.
    fn is_telling(&self, slope: f64, slopes: &mut [f64]) -> bool {
        let sizes = || self.samples.iter().map(|it| it.1.message_bytes as f64);
        let spread = sizes().fold(0.0, f64::max) - sizes().fold(f64::INFINITY, f64::min);
        let quarter = slopes.len() / 4;
        let (_, &mut lower, _) = slopes.select_nth_unstable_by(quarter, f64::total_cmp);
        slopes.len() >= KNOWN_PAIRS && slope * spread >= TELLING_SECONDS && lower >= slope / 2.0
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

impl Allowance {
    fn earn(&mut self, now: Duration, bytes_per_second: f64) {
        let since = self
            .earned
            .replace(now)
            .map_or(Duration::ZERO, |it| now.saturating_sub(it));
        self.bytes = (self.bytes + bytes_per_second * since.as_secs_f64()).min(cost(PADDING));
    }

    fn covers(&self, padding: usize) -> bool {
        self.bytes >= cost(padding)
    }

    fn spend(&mut self, padding: usize) {
        self.bytes -= cost(padding);
    }
}

fn cost(padding: usize) -> f64 {
    padding as f64 + PROBE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link, and the frames that go over it: their messages' size, and how many there are a second.
    #[derive(Clone, Copy)]
    struct Link {
        rate: f64,
        round_trip: f64,
        frames: Option<usize>,
        per_second: u64,
    }

    /// A splitting point's.
    const SMALL: Option<usize> = Some(40);

    impl Default for Link {
        fn default() -> Self {
            Self {
                rate: 137.5e3,
                round_trip: 0.05,
                frames: SMALL,
                per_second: 20,
            }
        }
    }

    /// Uses the link from one second to another with whatever probes are asked for; returns what they cost a second.
    fn run(
        estimator: &mut LinkEstimator,
        link: Link,
        seconds: std::ops::Range<u64>,
        noise: impl Fn(u64) -> f64,
    ) -> f64 {
        let mut probed = 0.0;
        for tick in seconds.start * link.per_second..seconds.end * link.per_second {
            let now = Duration::from_secs(tick) / link.per_second as u32;
            let send = |estimator: &mut LinkEstimator, message_bytes: usize| {
                let elapsed = link.round_trip + noise(tick) + message_bytes as f64 / link.rate;
                let elapsed = Duration::from_secs_f64(elapsed);
                let sample = LinkSample {
                    message_bytes,
                    sent: now,
                    elapsed,
                };
                estimator.record(now, sample);
            };
            if let Some(bytes) = link.frames {
                send(estimator, bytes);
            }
            if let Some(padding) = estimator.probe_bytes(now, 800.0) {
                probed += cost(padding);
                send(estimator, padding);
            }
        }
        probed / (seconds.end - seconds.start) as f64
    }

    fn error(estimator: &LinkEstimator, rate: f64) -> f64 {
        (estimator.estimate().unwrap().rate_bytes_per_second / rate - 1.0).abs()
    }

    #[test]
    fn finds_rate_and_round_trip_of_a_steady_link() {
        for (rate, frames) in [(25e3, SMALL), (137.5e3, None), (731e3, SMALL)] {
            let mut estimator = LinkEstimator::default();
            let link = Link {
                rate,
                frames,
                ..Link::default()
            };
            run(&mut estimator, link, 0..5, |_| 0.0);
            assert!(error(&estimator, rate) < 1e-3);
            assert!((estimator.estimate().unwrap().round_trip.as_secs_f64() - 0.05).abs() < 1e-6);
        }
    }

    #[test]
    fn a_rate_is_known_only_where_messages_tell_it() {
        let noise = |tick: u64| (tick * 7919 % 100) as f64 * 5e-6;
        for (rate, is_known) in [(25e3, true), (137.5e3, true), (731e3, true), (1e8, false)] {
            let (mut estimator, round_trip) = (LinkEstimator::default(), 3e-4);
            let link = Link {
                rate,
                round_trip,
                ..Link::default()
            };
            // The first answers wait while the page is being loaded, which is no modem.
            run(
                &mut estimator,
                link,
                0..1,
                |tick| if tick < 4 { 0.025 } else { noise(tick) },
            );
            for second in 1..9 {
                run(&mut estimator, link, second..second + 1, noise);
                let got = estimator.estimate().unwrap().is_rate_known;
                assert!(got == is_known || second < 4 && !got, "{rate} after {second} s");
            }
        }
    }

    #[test]
    fn shrugs_off_outliers_of_one_sample_in_six() {
        let mut estimator = LinkEstimator::default();
        run(&mut estimator, Link::default(), 0..10, |tick| {
            if tick % 6 == 0 { 0.4 } else { 0.0 }
        });
        assert!(error(&estimator, 137.5e3) < 0.1, "{:?}", estimator.estimate());
    }

    /// Splitting and on the device alone, where only probes tell.
    #[test]
    fn follows_a_link_that_changes_within_two_seconds_either_way() {
        for frames in [SMALL, None] {
            let fast = Link {
                rate: 731e3,
                round_trip: 0.01,
                frames,
                ..Link::default()
            };
            let slow = Link {
                rate: 25e3,
                round_trip: 0.2,
                frames,
                ..Link::default()
            };
            for (before, after) in [(fast, slow), (slow, fast)] {
                let mut estimator = LinkEstimator::default();
                run(&mut estimator, before, 0..10, |_| 0.0);
                run(&mut estimator, after, 10..12, |_| 0.0);
                let round_trip = estimator.estimate().unwrap().round_trip.as_secs_f64();
                assert!((round_trip - after.round_trip).abs() < 5e-3, "{round_trip} s");
                assert!(error(&estimator, after.rate) < 0.1, "{:?}", estimator.estimate());
            }
        }
    }

    /// Frames that differ from neither end of the probes by enough, or from one only.
    #[test]
    fn a_rate_that_changes_is_followed_whatever_the_size_of_the_frames() {
        for (bytes, per_second) in [424, 900, 1025, 1900, 20_000]
            .into_iter()
            .flat_map(|it| [(it, 20), (it, 60)])
        {
            let link = |rate| Link {
                rate,
                frames: Some(bytes),
                per_second,
                ..Link::default()
            };
            for (before, after) in [(731e3, 50e3), (50e3, 731e3)] {
                let mut estimator = LinkEstimator::default();
                run(&mut estimator, link(before), 0..10, |_| 0.0);
                run(&mut estimator, link(after), 10..13, |_| 0.0);
                assert!(
                    error(&estimator, after) < 0.1,
                    "{bytes} bytes: {:?}",
                    estimator.estimate()
                );
            }
        }
    }

    #[test]
    fn a_jump_is_followed_at_the_second_sample_but_not_at_one_alone() {
        for (before, after) in [(0.01, 1.0), (1.0, 0.01)] {
            let mut estimator = LinkEstimator::default();
            let link = Link {
                round_trip: before,
                ..Link::default()
            };
            run(&mut estimator, link, 0..5, |_| 0.0);
            for expected in [before, after] {
                let sample = LinkSample {
                    message_bytes: 0,
                    sent: Duration::from_secs(5),
                    elapsed: Duration::from_secs_f64(after),
                };
                estimator.record(sample.sent, sample);
                let round_trip = estimator.estimate().unwrap().round_trip.as_secs_f64();
                assert!((round_trip - expected).abs() < 1e-3, "{round_trip} s");
            }
        }
    }

    #[test]
    fn a_round_trip_longer_than_the_window_is_found_too() {
        let mut estimator = LinkEstimator::default();
        for second in [0, 4, 8, 12].map(Duration::from_secs) {
            let message_bytes = estimator.probe_bytes(second, 0.0).unwrap();
            let elapsed = Duration::from_secs_f64(3.0 + message_bytes as f64 / 25e3);
            let sample = LinkSample {
                message_bytes,
                sent: second,
                elapsed,
            };
            estimator.record(second + elapsed, sample);
        }
        assert!(error(&estimator, 25e3) < 0.1, "{:?}", estimator.estimate());
    }

    #[test]
    fn what_a_message_waits_for_those_before_it_is_not_the_links_time() {
        const FRAME: usize = 12_000;
        let link = Link {
            rate: 25e3,
            round_trip: 0.2,
            ..Link::default()
        };
        let mut estimator = LinkEstimator::default();
        run(&mut estimator, link, 0..3, |_| 0.0);
        let (mut now, mut free) = (3.0, 0.0_f64);
        // Messages on their way, with when they were sent and when their answers come: always three frames, and probes behind them.
        let mut waiting: VecDeque<(usize, f64, f64)> = VecDeque::new();
        for _ in 0..100 {
            let is_probing = waiting.iter().any(|it| it.0 < FRAME);
            let probe = estimator
                .probe_bytes(Duration::from_secs_f64(now), 25e3)
                .filter(|_| !is_probing);
            let frames = waiting.iter().filter(|it| it.0 == FRAME).count();
            for bytes in probe.into_iter().chain(std::iter::repeat_n(FRAME, 3 - frames)) {
                free = free.max(now) + bytes as f64 / link.rate;
                waiting.push_back((bytes, now, free + link.round_trip));
            }
            let (message_bytes, sent, arrives) = waiting.pop_front().unwrap();
            now = arrives;
            let sample = LinkSample {
                message_bytes,
                sent: Duration::from_secs_f64(sent),
                elapsed: Duration::from_secs_f64(arrives - sent),
            };
            estimator.record(Duration::from_secs_f64(now), sample);
        }
        let round_trip = estimator.estimate().unwrap().round_trip.as_secs_f64();
        assert!((round_trip - link.round_trip).abs() < 0.02, "{round_trip} s");
        assert!(error(&estimator, link.rate) < 0.05, "{:?}", estimator.estimate());
    }

    #[test]
    fn probes_keep_to_their_budget() {
        for frames in [SMALL, None, Some(900), Some(1900)] {
            let link = Link {
                frames,
                ..Link::default()
            };
            for seconds in [1, 60] {
                let cost = run(&mut LinkEstimator::default(), link, 0..seconds, |_| 0.0);
                assert!(cost <= PROBE_BYTES_PER_SECOND, "{cost} bytes per second");
            }
        }
    }

    #[test]
    fn a_burst_of_probes_is_not_saved_up() {
        let mut estimator = LinkEstimator::default();
        run(&mut estimator, Link::default(), 0..3, |_| 0.0);
        let later = Duration::from_secs(600);
        let burst = std::iter::from_fn(|| estimator.probe_bytes(later, 0.0))
            .take(9)
            .map(cost);
        assert!(burst.sum::<f64>() <= cost(PADDING));
    }

    #[test]
    fn large_messages_make_probes_needless() {
        let mut estimator = LinkEstimator::default();
        for tick in 0..40_u64 {
            let bytes = if tick % 2 == 0 { 100 } else { 3000 };
            let elapsed = Duration::from_secs_f64(0.01 + bytes as f64 / 1e5);
            let sample = LinkSample {
                message_bytes: bytes,
                sent: Duration::from_millis(tick * 50),
                elapsed,
            };
            estimator.record(sample.sent, sample);
        }
        assert_eq!(estimator.probe_bytes(Duration::from_secs(2), 1e4), None);
        assert!(error(&estimator, 1e5) < 1e-6);
    }
}
