//! Rates that an edge worker sets and its clients keep, as token buckets. Times are given by the caller: any clock that does not run backwards.

use std::time::Duration;

/// A number of events a second on average, and a burst.
#[derive(Clone, Debug)]
pub struct RateLimit {
    per_second: f64,
    burst: f64,
    tokens: f64,
    last: Duration,
}

impl RateLimit {
    /// A full bucket. It holds what arrives in the given number of seconds, and at least one event.
    pub fn new(per_second: f64, burst_seconds: f64, now: Duration) -> Self {
        let burst = (burst_seconds * per_second).max(1.0);
        Self {
            per_second,
            burst,
            tokens: burst,
            last: now,
        }
    }

    /// Whether `count` more events are within the limit; if so, counts them. While one is left, a larger count is allowed, too.
    pub fn allow(&mut self, count: f64, now: Duration) -> bool {
        let allowed = self.wait(now).is_zero();
        if allowed {
            self.charge(count, now);
        }
        allowed
    }

    /// Counts events that have already happened.
    pub fn charge(&mut self, count: f64, now: Duration) {
        self.tokens = self.tokens_at(now) - count;
        self.last = self.last.max(now);
    }

    /// How long until more is allowed.
    pub fn wait(&self, now: Duration) -> Duration {
        match self.tokens_at(now) {
            1.0.. => Duration::ZERO,
            tokens => Duration::try_from_secs_f64((1.0 - tokens) / self.per_second).unwrap_or(Duration::MAX),
        }
    }

    fn tokens_at(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        (self.tokens + passed * self.per_second).min(self.burst)
    }
}

/// Rates of messages and bytes together.
#[derive(Clone, Debug)]
pub struct Meter {
    messages: RateLimit,
    bytes: RateLimit,
}

/// What an edge worker allows at once, in seconds' worth.
const BURST_SECONDS: f64 = 2.0;
/// What a client sends at once: on the way, messages may catch up with each other by a second.
const PACED_SECONDS: f64 = 1.0;
/// The part of the rates that a client keeps to: it does not see Pongs, nor the pieces of a long message, and these count as well.
const PACED_PART: f64 = 0.9;

impl Meter {
    /// Those that an edge worker allows: this many times the rates that its `Welcome` announces.
    pub fn allowing(factor: f64, messages_per_second: u32, bytes_per_second: u32, now: Duration) -> Self {
        let limit = |rate: u32| RateLimit::new(factor * f64::from(rate), BURST_SECONDS, now);
        Self {
            messages: limit(messages_per_second),
            bytes: limit(bytes_per_second),
        }
    }

    /// Those that a client keeps to, so that what arrives never exceeds what the `Welcome` announced.
    pub fn pacing(messages_per_second: u32, bytes_per_second: u32, now: Duration) -> Self {
        let limit = |rate: u32| RateLimit::new(PACED_PART * f64::from(rate), PACED_SECONDS, now);
        Self {
            messages: limit(messages_per_second),
            bytes: limit(bytes_per_second),
        }
    }

    /// Counts messages and bytes if both rates allow them; otherwise says when they will.
    pub fn allow(&mut self, messages: u32, bytes: u64, now: Duration) -> Result<(), Duration> {
        match self.wait(now) {
            Duration::ZERO => {
                self.charge(messages, bytes, now);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Counts messages and bytes that have already been sent.
    pub fn charge(&mut self, messages: u32, bytes: u64, now: Duration) {
        self.messages.charge(f64::from(messages), now);
        self.bytes.charge(bytes as f64, now);
    }

    /// How long until both rates allow more.
    pub fn wait(&self, now: Duration) -> Duration {
        self.messages.wait(now).max(self.bytes.wait(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_rate_allows_a_burst_and_then_the_average() {
        let start = ms(5000);
        let mut rate = RateLimit::new(10.0, 2.0, start);
        assert_eq!((0..100).filter(|_| rate.allow(1.0, start)).count(), 20);
        let later = start + ms(500);
        assert_eq!((0..100).filter(|_| rate.allow(1.0, later)).count(), 5);
        assert_eq!(rate.wait(later), ms(100));
        // Time that seems to run backwards gives nothing and breaks nothing.
        assert!(!rate.allow(1.0, start));
    }

    #[test]
    fn both_rates_of_a_meter_bind() {
        let now = Duration::ZERO;
        let mut meter = Meter::allowing(1.0, 5, 500, now);
        assert_eq!((0..100).filter(|_| meter.allow(1, 1, now).is_ok()).count(), 10);
        let mut meter = Meter::allowing(1.0, 5, 500, now);
        assert_eq!((0..100).filter(|_| meter.allow(1, 250, now).is_ok()).count(), 4);
        // What is refused is not counted, or a client that is too fast would never be served again.
        assert_eq!(meter.allow(1, 250, now), Err(ms(2)));
        assert!(meter.allow(1, 250, ms(2)).is_ok());
        let mut abuse = Meter::allowing(10.0, 5, 500, now);
        assert_eq!((0..1000).filter(|_| abuse.allow(1, 1, now).is_ok()).count(), 100);
    }

    #[test]
    fn a_paced_client_is_never_refused_whatever_happens_on_the_way() {
        for (messages, bytes, length) in [
            (240, 8 << 20, 60),
            (1, 32_771, 65_541),
            (7, 70_000, 30_000),
            (u32::MAX, u32::MAX, 60),
        ] {
            let (mut client, mut server) = (
                Meter::pacing(messages, bytes, Duration::ZERO),
                Meter::allowing(1.0, messages, bytes, Duration::ZERO),
            );
            let mut sent = 0;
            for now in (0..100_000).map(ms) {
                // Tries a thousand times a second.
                if client.allow(1, length, now).is_ok() {
                    sent += 1;
                    // Held back on the way until the next second, with all the others of this one.
                    let arrival = Duration::from_secs(now.as_secs() + 1);
                    assert_eq!(
                        server.allow(1, length, arrival),
                        Ok(()),
                        "{messages} {bytes} at {now:?}"
                    );
                }
                // The browser answers a Ping.
                if now.as_millis().is_multiple_of(20_000) {
                    server.charge(1, 0, now + ms(1000));
                }
            }
            let most = (100.0 * f64::from(messages))
                .min(100.0 * f64::from(bytes) / length as f64)
                .min(100_000.0);
            assert!(f64::from(sent) > 0.85 * most, "{sent} of {most}");
        }
    }
}
