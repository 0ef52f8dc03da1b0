//! Who may use how much, and how fast.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use split_core::rates::{self, RateLimit};

use crate::Limits;

/// Rates of messages and bytes together, by this machine's clock.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    meter: rates::Meter,
    began: Instant,
}

/// How many times the announced rate a client has to exceed to be disconnected: no honest client gets there by accident.
const ABUSE: f64 = 10.0;

impl Meter {
    /// The rates that `Welcome` announces.
    pub(crate) fn announced(limits: &Limits, now: Instant) -> Self {
        Self::times(1.0, limits, now)
    }

    /// Those beyond which a connection is closed.
    pub(crate) fn abuse(limits: &Limits, now: Instant) -> Self {
        Self::times(ABUSE, limits, now)
    }

    fn times(factor: f64, limits: &Limits, now: Instant) -> Self {
        let (messages, bytes) = (limits.messages_per_second, limits.bytes_per_second);
        Self {
            meter: rates::Meter::allowing(factor, messages, bytes, Duration::ZERO),
            began: now,
        }
    }

    /// Counts messages and bytes if both rates allow them; otherwise says when they will.
    pub(crate) fn allow(&mut self, messages: u32, bytes: u64, now: Instant) -> Result<(), Duration> {
        self.meter
            .allow(messages, bytes, now.saturating_duration_since(self.began))
    }
}

/// What the clients of each address use.
pub(crate) struct Addresses {
    limits: Limits,
    /// Of messages that are not answered yet, in bytes.
    held: Arc<AtomicUsize>,
    entries: Mutex<HashMap<IpAddr, Arc<Address>>>,
}

/// What the clients of one address use together.
pub(crate) struct Address {
    /// Names it: one subscriber has a whole /64 of IPv6 addresses.
    pub(crate) name: IpAddr,
    usage: Mutex<Usage>,
    /// Of its messages that are not answered yet, in bytes.
    held: AtomicUsize,
    held_by_all: Arc<AtomicUsize>,
    max_held: usize,
    max_held_by_all: usize,
}

struct Usage {
    connections: u32,
    sockets: u32,
    new_sockets: RateLimit,
    messages: RateLimit,
    began: Instant,
    seen: Instant,
}

impl Usage {
    /// How long this has been counted.
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

/// What an address may do at once, in seconds' worth of its rates.
const BURST_SECONDS: f64 = 2.0;
/// An address that has nothing open is forgotten after this time, when its buckets are full again in any case.
const FORGET_AFTER: Duration = Duration::from_secs(2);
/// From this many addresses on, the idle ones are looked for.
const MANY_ADDRESSES: usize = 4096;
/// The part of the budget that one address may hold.
const BUDGET_SHARE: usize = 8;

impl Addresses {
    /// Nobody is there yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            held: Arc::default(),
            entries: Mutex::default(),
        }
    }

    /// Counts one more connection until the result is dropped. None beyond the limit.
    pub(crate) fn connect(&self, address: IpAddr, now: Instant) -> Option<OpenConnection> {
        let address = self.address(address, now);
        let mut usage = address.usage();
        if usage.connections >= self.limits.connections_of_one_address() {
            return None;
        }
        usage.connections += 1;
        drop(usage);
        Some(OpenConnection { address })
    }

    /// Counts one more WebSocket until the result is dropped. None beyond the limits.
    pub(crate) fn open(&self, address: IpAddr, now: Instant) -> Option<OpenSocket> {
        let address = self.address(address, now);
        let mut usage = address.usage();
        let age = usage.age(now);
        if usage.sockets >= self.limits.sockets_per_address || !usage.new_sockets.allow(1.0, age) {
            return None;
        }
        usage.sockets += 1;
        drop(usage);
        Some(OpenSocket { address })
    }

    fn address(&self, address: IpAddr, now: Instant) -> Arc<Address> {
        let name = subscriber(address);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MANY_ADDRESSES {
            let in_use = |it: &Arc<Address>| {
                Arc::strong_count(it) > 1 || now.saturating_duration_since(it.usage().seen) < FORGET_AFTER
            };
            entries.retain(|_, it| in_use(it));
        }
        let entry = entries.entry(name).or_insert_with(|| {
            let rate = |per_second: u32| RateLimit::new(per_second.into(), BURST_SECONDS, Duration::ZERO);
            let usage = Usage {
                connections: 0,
                sockets: 0,
                new_sockets: rate(self.limits.new_sockets_per_second),
                messages: rate(self.limits.messages_per_address),
                began: now,
                seen: now,
            };
            Arc::new(Address {
                name,
                usage: Mutex::new(usage),
                held: AtomicUsize::new(0),
                held_by_all: self.held.clone(),
                max_held: self.limits.held_bytes / BUDGET_SHARE,
                max_held_by_all: self.limits.held_bytes,
            })
        });
        entry.usage().seen = now;
        entry.clone()
    }
}

impl Address {
    /// Counts these bytes until the result is dropped. `None` while the budget of all connections, or of this address, has no room for them.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        // One message alone is let in, however long it is: its own limit is another one.
        let fits = |before: usize, limit| before == 0 || before.saturating_add(bytes) <= limit;
        let fits_address = fits(self.held.fetch_add(bytes, Ordering::Relaxed), self.max_held);
        let fits_all = fits(
            self.held_by_all.fetch_add(bytes, Ordering::Relaxed),
            self.max_held_by_all,
        );
        let held = Held {
            address: Some(self.clone()),
            bytes,
        };
        Some(held).filter(|_| fits_address && fits_all)
    }

    /// Counts one frame of one of its WebSockets.
    pub(crate) fn count_frame(&self, now: Instant) {
        let mut usage = self.usage();
        let age = usage.age(now);
        usage.messages.charge(1.0, age);
    }

    /// How long its WebSockets are not to be read, because they have sent more than their share; none if they are.
    pub(crate) fn must_wait(&self, now: Instant) -> Option<Duration> {
        let usage = self.usage();
        let age = usage.age(now);
        Some(usage.messages.wait(age)).filter(|it| !it.is_zero())
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that count against the budget of all connections.
#[derive(Default)]
pub(crate) struct Held {
    address: Option<Arc<Address>>,
    bytes: usize,
}

impl Held {
    /// Takes over what another holds, which is of the same address.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.address = self.address.take().or(other.address.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            address.held.fetch_sub(self.bytes, Ordering::Relaxed);
            address.held_by_all.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// Counts as one open connection of its address.
pub(crate) struct OpenConnection {
    address: Arc<Address>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.address.usage().connections -= 1;
    }
}

/// Counts as one open WebSocket of its address.
pub(crate) struct OpenSocket {
    /// Whose it is.
    pub(crate) address: Arc<Address>,
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.address.usage().sockets -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(adjust: impl FnOnce(&mut Limits)) -> Addresses {
        let mut limits = Limits::default();
        adjust(&mut limits);
        Addresses::new(&limits)
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn an_address_is_limited_and_others_are_not() {
        let now = Instant::now();
        let addresses = addresses(|it| (it.sockets_per_address, it.new_sockets_per_second) = (2, 100));
        let first = addresses.open(ip(1), now).unwrap();
        let _second = addresses.open(ip(1), now).unwrap();
        assert!(addresses.open(ip(1), now).is_none());
        assert!(addresses.open(ip(2), now).is_some());
        drop(first);
        assert!(addresses.open(ip(1), now).is_some());
    }

    #[test]
    fn one_address_has_half_of_the_connections_at_most() {
        let now = Instant::now();
        let count = |addresses: &Addresses, address| {
            let open: Vec<_> = (0..1000).map_while(|_| addresses.connect(address, now)).collect();
            let count = open.len();
            std::mem::forget(open);
            count
        };
        let few = addresses(|it| it.connections = 20);
        assert_eq!([1, 1, 2].map(|it| count(&few, ip(it))), [10, 0, 10]);
        let many = addresses(|it| (it.connections, it.connections_per_address) = (10_000, Some(7)));
        assert_eq!(count(&many, ip(1)), 7);
    }

    #[test]
    fn one_address_holds_a_part_of_the_budget_and_all_hold_no_more_than_it() {
        let now = Instant::now();
        let addresses = addresses(|it| it.held_bytes = 8000);
        let sockets: Vec<_> = (0..20).map(|it| addresses.open(ip(it), now).unwrap()).collect();
        let hold = |it: &OpenSocket| it.address.hold(600);
        let first = hold(&sockets[0]).unwrap();
        assert!(hold(&sockets[0]).is_none());
        let mut others: Vec<_> = sockets[1..].iter().map_while(hold).collect();
        assert_eq!(others.len(), 12, "13 times 600 bytes are within the budget");
        assert_eq!(addresses.held.load(Ordering::Relaxed), 13 * 600);
        drop(first);
        others.extend(hold(&sockets[19]));
        assert_eq!(others.len(), 13);
        drop(others);
        assert_eq!(addresses.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_sockets_of_an_address_are_read_at_its_rate() {
        let now = Instant::now();
        let addresses = addresses(|it| it.messages_per_address = 100);
        let [first, second] = [0; 2].map(|_| addresses.open(ip(1), now).unwrap());
        let other = addresses.open(ip(2), now).unwrap();
        for _ in 0..125 {
            first.address.count_frame(now);
            second.address.count_frame(now);
        }
        assert_eq!(second.address.must_wait(now), Some(Duration::from_millis(510)));
        assert_eq!(other.address.must_wait(now), None);
        assert_eq!(first.address.must_wait(now + Duration::from_millis(510)), None);
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let now = Instant::now();
        let addresses = addresses(|_| {});
        for index in 0..3 * MANY_ADDRESSES as u32 {
            let later = now + Duration::from_millis(index.into());
            addresses.connect(IpAddr::V4(index.into()), later).unwrap();
        }
        assert!(addresses.entries.lock().unwrap().len() <= MANY_ADDRESSES);
    }

    #[test]
    fn a_subscribers_network_counts_as_one() {
        let [one, two] = ["2001:db8::1", "2001:db8::ffff:2"].map(|it| subscriber(it.parse().unwrap()));
        assert_eq!(one, two);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(subscriber(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
