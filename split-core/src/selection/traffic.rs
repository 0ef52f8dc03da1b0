//! How many bytes frames send a second.

use std::time::Duration;

/// Bytes count less by a factor of e after so many seconds.
const MEMORY_SECONDS: f64 = 1.0;

/// Present traffic: a leaky integral over messages, which falls when none come any more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// Bytes not yet forgotten at `at`.
    bytes: f64,
    at: Duration,
}

impl Traffic {
    /// Takes a message of so many bytes at `now`.
    pub fn record(&mut self, now: Duration, bytes: usize) {
        self.bytes = self.kept(now) + bytes as f64;
        self.at = self.at.max(now);
    }

    /// Bytes per second at `now`.
    pub fn rate(&self, now: Duration) -> f64 {
        self.kept(now) / MEMORY_SECONDS
    }

    fn kept(&self, now: Duration) -> f64 {
        self.bytes * (-now.saturating_sub(self.at).as_secs_f64() / MEMORY_SECONDS).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty messages of 1000 bytes a second, for five seconds.
    fn busy() -> Traffic {
        let mut traffic = Traffic::default();
        (0..100).for_each(|it| traffic.record(Duration::from_millis(it * 50), 1000));
        traffic
    }

    #[test]
    fn a_steady_stream_has_its_rate() {
        let rate = busy().rate(Duration::from_secs(5));
        assert!((rate / 20e3 - 1.0).abs() < 0.05, "{rate} bytes per second");
    }

    #[test]
    fn what_is_over_is_forgotten() {
        assert!(busy().rate(Duration::from_secs(10)) < 200.0);
    }

    #[test]
    fn two_messages_at_once_are_two_messages() {
        let mut traffic = busy();
        let at = Duration::from_secs(5);
        let before = traffic.rate(at);
        traffic.record(at, 1000);
        traffic.record(at, 1000);
        assert!(traffic.rate(at) < before + 2001.0);
    }
}
