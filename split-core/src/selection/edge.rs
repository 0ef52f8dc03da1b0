//! How long the edge worker takes, from its own timings.

use std::{collections::HashMap, time::Duration};

/// Weight of a new queue time: follows a filling queue within a handful of answers.
const QUEUE_WEIGHT: f64 = 0.25;
/// Weight of a new decode-and-tail time.
const TAIL_WEIGHT: f64 = 0.1;
/// Half-life of what a refusal says, once no answers come any more.
const BUSY_HALF_LIFE: f64 = 2.0;

/// Queue, decode and tail times of the edge worker behind one connection.
#[derive(Clone, Debug, Default)]
pub struct EdgeEstimator {
    queue: f64,
    /// Last refusal: when it came, and the wait it told, in seconds.
    busy: Option<(Duration, f64)>,
    /// Decode and tail of the operating points that ran, in seconds.
    seen: HashMap<u16, f64>,
    /// Seconds per multiply–accumulate operation over all of them.
    seconds_per_mac: Option<f64>,
}

impl EdgeEstimator {
    /// Takes the timings of one answer: the operating point, its tail's work in MACs, its wait, and decode and tail together.
    pub fn record(&mut self, point: u16, tail_macs: u64, queue: Duration, decode_and_tail: Duration) {
        let (queue, work) = (queue.as_secs_f64(), decode_and_tail.as_secs_f64());
        self.queue += QUEUE_WEIGHT * (queue - self.queue);
        let seen = self.seen.entry(point).or_insert(work);
        *seen += TAIL_WEIGHT * (work - *seen);
        if tail_macs > 0 {
            let rate = work / tail_macs as f64;
            self.seconds_per_mac = Some(self.seconds_per_mac.map_or(rate, |it| it + TAIL_WEIGHT * (rate - it)));
        }
    }

    /// Takes a refusal: the edge counts as one whose queue is as long as its hint says, fading once it has passed.
    pub fn record_busy(&mut self, now: Duration, retry: Duration) {
        self.busy = Some((now, retry.as_secs_f64()));
    }

    /// The wait that a request sent at `now` would meet.
    pub fn queue(&self, now: Duration) -> Duration {
        let busy = self.busy.map_or(0.0, |(at, wait)| {
            let past = now.saturating_sub(at).as_secs_f64() - wait;
            wait.max(0.05) * 0.5_f64.powf(past.max(0.0) / BUSY_HALF_LIFE)
        });
        Duration::from_secs_f64(self.queue.max(busy))
    }

    /// Decode and tail of an operating point whose tail takes so many MACs: as measured, or in proportion to what was.
    pub fn decode_and_tail(&self, point: u16, tail_macs: u64) -> Duration {
        // 10 GMAC/s: one core of a small server, until something was measured.
        let unseen = || tail_macs as f64 * self.seconds_per_mac.unwrap_or(1e-10);
        Duration::from_secs_f64(self.seen.get(&point).copied().unwrap_or_else(unseen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_that_never_ran_is_estimated_from_those_that_did() {
        let mut edge = EdgeEstimator::default();
        edge.record(1, 1_000_000, Duration::ZERO, Duration::from_micros(500));
        assert_eq!(edge.decode_and_tail(1, 1_000_000), Duration::from_micros(500));
        assert_eq!(edge.decode_and_tail(2, 2_000_000), Duration::from_millis(1));
    }

    #[test]
    fn a_refusal_counts_as_a_queue_and_fades() {
        let mut edge = EdgeEstimator::default();
        edge.record_busy(Duration::from_secs(1), Duration::from_millis(400));
        assert_eq!(edge.queue(Duration::from_secs(1)), Duration::from_millis(400));
        assert!(edge.queue(Duration::from_secs(12)) < Duration::from_millis(20));
    }

    #[test]
    fn rising_queue_times_are_followed() {
        let mut edge = EdgeEstimator::default();
        (0..10).for_each(|_| edge.record(0, 1, Duration::from_millis(100), Duration::ZERO));
        assert!(edge.queue(Duration::ZERO) > Duration::from_millis(90));
    }
}
