//! How long the edge worker takes, from its own timings.
//!
//! Every figure is the running median of the latest answers (Tukey, *Exploratory Data Analysis*, 1977): single answers may be anything, and a change
//! is followed within four. Until there are three, what was expected beforehand counts as one more, so the first answer, which may have found
//! the edge worker cold, never decides alone. Between two values in the middle the lower one is taken: times are only ever disturbed upwards.
//!
//! A frame that is refused for want of capacity has lost time for nothing. What that costs counts in proportion to how many are refused for one that is
//! answered, whatever the edge worker says of its queue: there, hints of 2 ms were measured while 200 requests waited.
//!
//! An edge worker that looks slow is used no more, and then nothing new is heard of it. What is known therefore fades towards what was expected,
//! so that it is tried again.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// Answers whose median counts.
const LATEST: usize = 7;
/// With fewer answers than this, the expected value counts as one.
const ENOUGH: usize = 3;
/// Answers that came so long before the latest say nothing any more.
const MEMORY: Duration = Duration::from_secs(5);
/// Half-life of what queues and refusals say, once no answers come any more: they pass with whoever else uses the edge worker.
const QUEUE_HALF_LIFE: f64 = 2.0;
/// What a refusal costs at least, in seconds: the frame's way there and back, and some of another try.
const LEAST_REFUSAL: f64 = 0.05;
/// Half-life of what answers say of the edge worker's speed: that changes rarely, and every new try costs a few slow frames.
const SPEED_HALF_LIFE: f64 = 20.0;
/// What an answer is expected to take for its tail's work, until some came: one core of a small server…
const EXPECTED_SECONDS_PER_WORK: f64 = 1e-10;
/// …and decoding.
const EXPECTED_OVERHEAD: f64 = 100e-6;

/// Queue, decode and tail times of the edge worker behind one connection.
#[derive(Clone, Debug, Default)]
pub struct EdgeEstimator {
    /// Waits, in seconds.
    queue: Latest,
    /// Requests that were refused lately, and that were answered.
    refused: Fading,
    answered: Fading,
    /// The wait that the last refusal told, in seconds.
    retry: f64,
    /// Decode and tail of the operating points that ran, in seconds.
    seen: HashMap<u16, Latest>,
    /// Decode and tail of any point over what was expected beforehand.
    slowness: Latest,
}

impl EdgeEstimator {
    /// Takes the timings of one answer that arrived at `now`: the operating point, its tail's work, its wait, and decode and tail together.
    pub fn record(&mut self, now: Duration, point: u16, tail_work: u64, queue: Duration, decode_and_tail: Duration) {
        let work = decode_and_tail.as_secs_f64();
        self.answered.add(now);
        self.queue.record(now, queue.as_secs_f64());
        self.seen.entry(point).or_default().record(now, work);
        self.slowness.record(now, work / expected(tail_work));
    }

    /// Takes a refusal, with the wait that it told.
    pub fn record_busy(&mut self, now: Duration, retry: Duration) {
        self.refused.add(now);
        self.retry = retry.as_secs_f64();
    }

    /// The wait that a request sent at `now` would meet, refusals included.
    pub fn queue(&self, now: Duration) -> Duration {
        let refusals = self.refused.count(now) / (self.answered.count(now) + 1.0);
        let queue = self.queue.typical(now, 0.0, QUEUE_HALF_LIFE);
        Duration::from_secs_f64(queue + refusals * self.retry.max(LEAST_REFUSAL))
    }

    /// Decode and tail, at `now`, of an operating point with this tail's work: as measured, or in proportion to what was.
    pub fn decode_and_tail(&self, now: Duration, point: u16, tail_work: u64) -> Duration {
        let unseen = expected(tail_work) * self.slowness.typical(now, 1.0, SPEED_HALF_LIFE);
        let seen = self.seen.get(&point);
        Duration::from_secs_f64(seen.map_or(unseen, |it| it.typical(now, unseen, SPEED_HALF_LIFE)))
    }
}

/// A count that fades like what queues say.
#[derive(Clone, Copy, Debug, Default)]
struct Fading {
    count: f64,
    at: Duration,
}

impl Fading {
    fn add(&mut self, now: Duration) {
        self.count = self.count(now) + 1.0;
        self.at = self.at.max(now);
    }

    fn count(&self, now: Duration) -> f64 {
        self.count * fading(now.saturating_sub(self.at).as_secs_f64(), QUEUE_HALF_LIFE)
    }
}

/// The latest values of one figure, and when they came.
#[derive(Clone, Debug, Default)]
struct Latest(VecDeque<(Duration, f64)>);

impl Latest {
    fn record(&mut self, now: Duration, value: f64) {
        let Self(values) = self;
        values.retain(|it| now.saturating_sub(it.0) <= MEMORY);
        if values.len() == LATEST {
            values.pop_front();
        }
        values.push_back((now, value));
    }

    /// Their median, with what was expected in place of answers that are still missing or long ago.
    fn typical(&self, now: Duration, expected: f64, half_life: f64) -> f64 {
        let Some(&(last, _)) = self.0.back() else {
            return expected;
        };
        let mut values: Vec<f64> = self.0.iter().map(|it| it.1).collect();
        if values.len() < ENOUGH {
            values.push(expected);
        }
        let middle = (values.len() - 1) / 2;
        let (_, &mut median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
        let age = now.saturating_sub(last).as_secs_f64();
        expected + (median - expected) * fading(age, half_life)
    }
}

/// Decode and tail of this work, in seconds, on an edge worker of which nothing is known.
fn expected(tail_work: u64) -> f64 {
    EXPECTED_OVERHEAD + tail_work as f64 * EXPECTED_SECONDS_PER_WORK
}

/// What is left after so many seconds.
fn fading(seconds: f64, half_life: f64) -> f64 {
    0.5_f64.powf(seconds.max(0.0) / half_life)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a tail is expected to take 200 µs.
    const WORK: u64 = 1_000_000;

    /// Gives answers of point 1, ten a second, that take so many milliseconds; returns what is thought of it then.
    fn give(edge: &mut EdgeEstimator, from: Duration, milliseconds: &[u64]) -> Duration {
        let mut now = from;
        for &it in milliseconds {
            now += Duration::from_millis(100);
            edge.record(now, 1, WORK, Duration::ZERO, Duration::from_millis(it));
        }
        edge.decode_and_tail(now, 1, WORK)
    }

    fn close(got: Duration, milliseconds: f64) -> bool {
        (got.as_secs_f64() * 1e3 / milliseconds - 1.0).abs() < 0.01
    }

    #[test]
    fn a_tail_that_never_ran_is_estimated_from_those_that_did() {
        let mut edge = EdgeEstimator::default();
        let now = Duration::ZERO;
        assert!(close(edge.decode_and_tail(now, 2, 9 * WORK), 1.0));
        (0..3).for_each(|_| edge.record(now, 1, WORK, now, Duration::from_micros(600)));
        assert!(close(edge.decode_and_tail(now, 1, WORK), 0.6));
        assert!(close(edge.decode_and_tail(now, 2, 9 * WORK), 3.0));
    }

    #[test]
    fn a_short_tail_that_is_all_decoding_says_little_of_a_long_one() {
        let mut edge = EdgeEstimator::default();
        let now = Duration::ZERO;
        (0..3).for_each(|_| edge.record(now, 1, 1000, now, Duration::from_micros(150)));
        assert!(edge.decode_and_tail(now, 2, 50 * WORK) < Duration::from_millis(8));
    }

    #[test]
    fn a_cold_first_answer_is_no_measure() {
        for answers in [&[80][..], &[80, 4], &[80, 4, 4]] {
            let got = give(&mut EdgeEstimator::default(), Duration::ZERO, answers);
            assert!(got <= Duration::from_millis(4), "{got:?} after {answers:?}");
        }
    }

    #[test]
    fn single_outliers_change_nothing() {
        let got = give(
            &mut EdgeEstimator::default(),
            Duration::ZERO,
            &[4, 4, 90, 4, 4, 0, 4, 90, 4],
        );
        assert_eq!(got, Duration::from_millis(4));
    }

    #[test]
    fn a_change_is_followed_within_half_a_second() {
        let mut edge = EdgeEstimator::default();
        assert_eq!(give(&mut edge, Duration::ZERO, &[4; 50]), Duration::from_millis(4));
        assert_eq!(
            give(&mut edge, Duration::from_secs(5), &[30; 4]),
            Duration::from_millis(30)
        );
        assert_eq!(
            give(&mut edge, Duration::from_secs(6), &[4; 4]),
            Duration::from_millis(4)
        );
    }

    #[test]
    fn a_slow_edge_that_is_not_used_is_tried_again_and_then_judged_afresh() {
        let mut edge = EdgeEstimator::default();
        give(&mut edge, Duration::ZERO, &[30; 10]);
        let later = Duration::from_secs(120);
        assert!(edge.decode_and_tail(later, 1, WORK) < Duration::from_millis(2));
        assert!(give(&mut edge, later, &[2]) < Duration::from_millis(3));
    }

    #[test]
    fn a_refusal_counts_as_a_queue_and_fades() {
        let mut edge = EdgeEstimator::default();
        edge.record_busy(Duration::from_secs(1), Duration::from_millis(400));
        assert_eq!(edge.queue(Duration::from_secs(1)), Duration::from_millis(400));
        assert!(edge.queue(Duration::from_secs(12)) < Duration::from_millis(20));
    }

    #[test]
    fn refusals_count_by_how_many_there_are_for_one_answer() {
        let ms = Duration::from_millis;
        let mut few = EdgeEstimator::default();
        (0..20).for_each(|it| few.record(ms(50 * it), 0, 1, Duration::ZERO, Duration::ZERO));
        few.record_busy(ms(1000), ms(2));
        assert!(few.queue(ms(1000)) < ms(4));
        let mut many = EdgeEstimator::default();
        (0..20).for_each(|it| many.record_busy(ms(50 * it), ms(2)));
        assert!(many.queue(ms(1000)) > ms(500));
        assert!(many.queue(ms(21_000)) < ms(1));
    }

    #[test]
    fn rising_queue_times_are_followed_and_fade() {
        let mut edge = EdgeEstimator::default();
        let at = Duration::from_secs;
        (0..4).for_each(|_| edge.record(at(0), 0, 1, Duration::ZERO, Duration::ZERO));
        (0..4).for_each(|_| edge.record(at(0), 0, 1, Duration::from_millis(100), Duration::ZERO));
        assert!(edge.queue(at(0)) > Duration::from_millis(90));
        assert!(edge.queue(at(12)) < Duration::from_millis(5));
    }
}
