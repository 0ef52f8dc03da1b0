//! A link and a device made slower than they are, for demonstration.

use std::{collections::VecDeque, time::Duration};

use serde::Deserialize;

/// What is made slower; what is left out is as fast as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Throttle {
    pub(crate) link: Option<LinkThrottle>,
    /// How many times as long everything takes on the device.
    pub(crate) device: Option<f64>,
}

/// What a link is made like, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkThrottle {
    pub(crate) bytes_per_second: f64,
    pub(crate) round_trip_ms: f64,
}

/// One direction of a link: what is on its way, and until when.
///
/// A message arrives when everything before it has been sent, its own bytes have been sent at the rate, and half a round trip has passed.
#[derive(Debug)]
pub(crate) struct Lane<Item> {
    items: VecDeque<Item>,
    /// When everything accepted so far has been sent.
    free: Duration,
    /// When the last of them arrives: nothing overtakes it, whatever becomes of the throttle.
    last: Duration,
}

impl<Item> Default for Lane<Item> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            free: Duration::ZERO,
            last: Duration::ZERO,
        }
    }
}

impl<Item> Lane<Item> {
    /// How long what is handed over now, of so many bytes, is on its way; none if it arrives at once.
    ///
    /// Else it is to be [`put`](Self::put), and [`take`](Self::take) to be called after that time.
    pub(crate) fn delay(&mut self, throttle: Option<LinkThrottle>, now: Duration, bytes: usize) -> Option<Duration> {
        let arrival = match throttle {
            Some(link) => {
                let sending = seconds(bytes as f64 / link.bytes_per_second);
                self.free = self.free.max(now) + sending;
                self.free + seconds(link.round_trip_ms / 2e3)
            }
            None => now,
        };
        self.last = self.last.max(arrival);
        let delay = self.last.saturating_sub(now);
        // A timer may be late: what should have arrived by now can still be waiting.
        (!delay.is_zero() || !self.items.is_empty()).then_some(delay)
    }

    /// Puts something on its way, behind everything that is.
    pub(crate) fn put(&mut self, item: Item) {
        self.items.push_back(item);
    }

    /// The next to arrive.
    pub(crate) fn take(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    /// Forgets everything on its way.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }
}

/// Seconds as a duration; what is none counts as no time at all.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Option<LinkThrottle> = Some(LinkThrottle {
        bytes_per_second: 1e6,
        round_trip_ms: 40.0,
    });

    /// Messages of so many bytes, handed over at so many milliseconds, and after how many they arrive.
    fn check(messages: &[(Option<LinkThrottle>, u64, usize, Option<u64>)]) {
        let mut lane = Lane::<()>::default();
        for &(link, now, bytes, expected) in messages {
            let delay = lane.delay(link, Duration::from_millis(now), bytes);
            assert_eq!(delay, expected.map(Duration::from_millis), "{messages:?}");
        }
    }

    #[test]
    fn messages_arrive_after_those_before_them() {
        check(&[
            (SLOW, 100, 1000, Some(21)),
            (SLOW, 100, 2000, Some(23)),
            (SLOW, 110, 1000, Some(21)),
        ]);
    }

    #[test]
    fn without_a_throttle_nothing_is_delayed_and_nothing_overtakes() {
        check(&[
            (None, 100, 1 << 30, None),
            (SLOW, 100, 1000, Some(21)),
            (None, 101, 1000, Some(20)),
            (None, 130, 1000, None),
        ]);
    }

    #[test]
    fn what_is_late_is_not_overtaken_either() {
        let mut lane = Lane::default();
        assert!(lane.delay(SLOW, Duration::ZERO, 1000).is_some());
        lane.put(1);
        assert_eq!(lane.delay(None, Duration::from_secs(1), 0), Some(Duration::ZERO));
        lane.put(2);
        assert_eq!((lane.take(), lane.take(), lane.take()), (Some(1), Some(2), None));
    }

    #[test]
    fn a_throttle_that_makes_no_sense_delays_nothing() {
        for (bytes_per_second, round_trip_ms) in [(0.0, -1.0), (f64::NAN, f64::NAN), (-1.0, f64::INFINITY)] {
            let link = LinkThrottle {
                bytes_per_second,
                round_trip_ms,
            };
            check(&[(Some(link), 1, 9, None)]);
        }
    }
}
