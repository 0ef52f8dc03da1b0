//! Who may open how much, and how fast.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Token bucket: so many events a second on average, and a burst of two seconds' worth.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    per_second: f64,
    tokens: f64,
    last: Instant,
}

impl RateLimit {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            tokens: 2.0 * per_second,
            last: now,
        }
    }

    /// Whether one more event is within the limit; if so, it is counted.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        // Monotonic time: a clock that jumps does not matter.
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(2.0 * self.per_second);
        self.last = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// WebSockets by address: how many are open and how fast new ones come.
pub(crate) struct Addresses {
    max_open: u32,
    per_second: u32,
    entries: Mutex<HashMap<IpAddr, Entry>>,
}

struct Entry {
    open: u32,
    rate: RateLimit,
}

/// An address without open WebSockets is forgotten after this time, when its bucket is full again in any case.
const FORGET_AFTER: Duration = Duration::from_secs(2);
/// From this many addresses on, the idle ones are looked for.
const MANY_ADDRESSES: usize = 4096;

impl Addresses {
    /// At most `max_open` WebSockets from one address, and `per_second` new ones a second.
    pub(crate) fn new(max_open: u32, per_second: u32) -> Self {
        Self {
            max_open,
            per_second,
            entries: Mutex::default(),
        }
    }

    /// Counts one more WebSocket until the result is dropped. None beyond the limits.
    pub(crate) fn open(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<OpenSocket> {
        let address = subscriber(address);
        let mut entries = self.lock();
        if entries.len() >= MANY_ADDRESSES {
            entries.retain(|_, it| it.open > 0 || now.saturating_duration_since(it.rate.last) < FORGET_AFTER);
        }
        let entry = entries.entry(address).or_insert_with(|| Entry {
            open: 0,
            rate: RateLimit::new(self.per_second, now),
        });
        if entry.open >= self.max_open || !entry.rate.allow(now) {
            return None;
        }
        entry.open += 1;
        Some(OpenSocket {
            addresses: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscriber has a whole /64 of IPv6 addresses.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// Counts as one open WebSocket of its address.
pub(crate) struct OpenSocket {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        if let Some(entry) = self.addresses.lock().get_mut(&self.address) {
            entry.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_allows_a_burst_and_then_the_average() {
        let start = Instant::now();
        let mut rate = RateLimit::new(10, start);
        assert_eq!((0..100).filter(|_| rate.allow(start)).count(), 20);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| rate.allow(later)).count(), 5);
        // Time that seems to run backwards gives nothing and breaks nothing.
        assert!(!rate.allow(start));
    }

    #[test]
    fn an_address_is_limited_and_others_are_not() {
        let now = Instant::now();
        let addresses = Arc::new(Addresses::new(2, 100));
        let [one, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let first = addresses.open(one, now).unwrap();
        let _second = addresses.open(one, now).unwrap();
        assert!(addresses.open(one, now).is_none());
        assert!(addresses.open(other, now).is_some());
        drop(first);
        assert!(addresses.open(one, now).is_some());
    }

    #[test]
    fn a_subscribers_network_counts_as_one() {
        let [one, two] = ["2001:db8::1", "2001:db8::ffff:2"].map(|it| subscriber(it.parse().unwrap()));
        assert_eq!(one, two);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(subscriber(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
