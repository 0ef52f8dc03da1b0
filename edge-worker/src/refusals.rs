//! Handshakes that are refused: counted by reason, and logged often enough to be found, seldom enough to be read.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::IntCounterVec;

/// Why a client did not get its WebSocket, or its welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It asked for no WebSocket, or for another version.
    Version,
    /// Its key is not 16 bytes in base64.
    Key,
    /// A page of an origin that may not connect.
    Origin,
    /// A name that is not one of this server.
    Host,
    /// A series that is not here.
    Series,
    /// More from one address than its share.
    Address,
    /// The server drains.
    Draining,
    /// A missing or wrong token.
    Token,
    /// No refusal: trusted proxies do not say who asks.
    Forwarded,
}

/// The least time between two lines of one reason.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts and logs.
pub(crate) struct Refusals {
    counter: IntCounterVec,
    /// When each reason was last logged, and how many were not since.
    logged: Mutex<[(Option<Instant>, u64); 9]>,
}

impl Refusals {
    /// Counts with this counter, whose label is the reason.
    pub(crate) fn new(counter: IntCounterVec) -> Self {
        Self {
            counter,
            logged: Mutex::default(),
        }
    }

    /// Notes one. The details never hold a token.
    pub(crate) fn note(&self, refusal: Reason, now: Instant, details: impl fmt::Display) {
        let reason = format!("{refusal:?}").to_lowercase();
        self.counter.with_label_values(&[&reason]).inc();
        if let Some(unlogged) = self.is_due(refusal, now) {
            tracing::info!(reason, unlogged, "refused: {details}");
        }
    }

    /// How many were not logged since the last line, if another line is due.
    fn is_due(&self, refusal: Reason, now: Instant) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unlogged) = &mut logged[refusal as usize];
        if last.is_some_and(|it| now.saturating_duration_since(it) < PAUSE) {
            *unlogged += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unlogged))
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    #[test]
    fn a_flood_leaves_a_line_now_and_then_and_hides_no_other_reason() {
        let counter = IntCounterVec::new(Opts::new("refused", "of a test"), &["reason"]).unwrap();
        let refusals = Refusals::new(counter);
        let start = Instant::now();
        assert_eq!(refusals.is_due(Reason::Origin, start), Some(0));
        for _ in 0..100 {
            assert_eq!(refusals.is_due(Reason::Origin, start), None);
        }
        assert_eq!(refusals.is_due(Reason::Token, start), Some(0));
        assert_eq!(refusals.is_due(Reason::Origin, start + PAUSE), Some(100));
    }
}
