//! A link with a rate and a round trip: a TCP proxy on the loopback interface, for links slower than the machine's own.
//!
//! ```text
//!  client ──► reads a segment ──► queue of the direction ──► waits until it has arrived ──► server, and the same way back
//! ```
//!
//! Both directions have the same rate, each shared by all connections, segment by segment. A segment arrives when everything before it has been
//! sent, its own bytes have been sent at the rate, and half a round trip has passed. What is counted are the bytes that TCP carries, without the
//! headers below it.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// What one packet of an Ethernet carries.
const SEGMENT_BYTES: usize = 1460;
/// As much as this may wait to be sent; then the sender is held back, as by the full buffer of a modem.
const LONGEST_QUEUE: Duration = Duration::from_millis(100);

/// What a link is like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// In each direction; none for as fast as the machine.
    pub bits_per_second: Option<f64>,
    /// Time to the other end and back.
    pub round_trip: Duration,
}

/// A link whose conditions can change while it is in use.
#[derive(Clone, Default)]
pub struct Link {
    up: Arc<Mutex<Direction>>,
    down: Arc<Mutex<Direction>>,
}

#[derive(Default)]
struct Direction {
    conditions: Conditions,
    /// When everything accepted so far has been sent.
    free: Option<Instant>,
}

impl Direction {
    /// When bytes accepted now will have arrived.
    fn accept(&mut self, now: Instant, bytes: usize) -> Instant {
        let Conditions {
            bits_per_second,
            round_trip,
        } = self.conditions;
        let start = self.free.map_or(now, |it| it.max(now));
        let sending = bits_per_second.map_or(Duration::ZERO, |it| Duration::from_secs_f64(bytes as f64 * 8.0 / it));
        self.free = Some(start + sending);
        start + sending + round_trip / 2
    }

    /// How long the sender has to be held back.
    fn hold(&self, now: Instant) -> Duration {
        let queue = self.free.map_or(Duration::ZERO, |it| it.saturating_duration_since(now));
        queue.saturating_sub(LONGEST_QUEUE)
    }
}

impl Link {
    /// Changes what the link is like for everything that is sent from now on.
    pub fn set(&self, conditions: Conditions) {
        for direction in [&self.up, &self.down] {
            lock(direction).conditions = conditions;
        }
    }

    /// Takes connections until the listener fails, and leads each to the server.
    ///
    /// # Errors
    ///
    /// The listener's.
    pub fn run(&self, listener: &TcpListener, server: SocketAddr) -> io::Result<()> {
        loop {
            let (client, _) = listener.accept()?;
            let link = self.clone();
            // A connection that breaks concerns its two ends only; both see it end.
            thread::spawn(move || link.connect(&client, server));
        }
    }

    fn connect(&self, client: &TcpStream, server: SocketAddr) -> io::Result<()> {
        // The handshake with this end took no time: the real one takes a round trip.
        let round_trip = lock(&self.up).conditions.round_trip;
        thread::sleep(round_trip);
        let server = TcpStream::connect(server)?;
        for end in [client, &server] {
            end.set_nodelay(true)?;
        }
        carry(client.try_clone()?, server.try_clone()?, self.up.clone());
        carry(server, client.try_clone()?, self.down.clone());
        Ok(())
    }
}

/// Moves bytes one way, on two threads: one takes them when they are sent, one gives them when they have arrived.
fn carry(from: TcpStream, to: TcpStream, direction: Arc<Mutex<Direction>>) {
    let (sender, receiver) = channel();
    thread::spawn(move || take(from, &direction, &sender));
    thread::spawn(move || give(&receiver, to));
}

fn take(mut from: TcpStream, direction: &Mutex<Direction>, sender: &Sender<(Instant, Vec<u8>)>) {
    let mut segment = [0; SEGMENT_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut segment) {
        let arrival = lock(direction).accept(Instant::now(), bytes);
        if sender.send((arrival, segment[..bytes].to_vec())).is_err() {
            break;
        }
        let hold = lock(direction).hold(Instant::now());
        thread::sleep(hold);
    }
}

fn give(receiver: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (arrival, segment) in receiver {
        thread::sleep(arrival.saturating_duration_since(Instant::now()));
        if to.write_all(&segment).is_err() {
            // Lets the other thread see that nobody takes what it reads.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn direction(bits_per_second: Option<f64>) -> Direction {
        let round_trip = 40 * MILLISECOND;
        let conditions = Conditions {
            bits_per_second,
            round_trip,
        };
        Direction { conditions, free: None }
    }

    #[test]
    fn bytes_arrive_after_what_was_before_them() {
        let mut direction = direction(Some(8e6));
        let now = Instant::now();
        assert_eq!(direction.accept(now, 1000), now + 21 * MILLISECOND);
        assert_eq!(direction.accept(now, 2000), now + 23 * MILLISECOND);
        let later = now + 10 * MILLISECOND;
        assert_eq!(direction.accept(later, 1000), later + 21 * MILLISECOND);
    }

    #[test]
    fn a_link_without_a_rate_only_delays() {
        let now = Instant::now();
        assert_eq!(direction(None).accept(now, 1 << 30), now + 20 * MILLISECOND);
    }

    #[test]
    fn senders_are_held_back_by_a_long_queue_only() {
        let mut direction = direction(Some(8e6));
        let now = Instant::now();
        direction.accept(now, 100_000);
        assert_eq!(direction.hold(now), Duration::ZERO);
        direction.accept(now, 50_000);
        assert_eq!(direction.hold(now), 50 * MILLISECOND);
    }

    #[test]
    fn every_byte_arrives_both_ways() {
        let any = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (server, proxy) = (any(), any());
        let (server_address, proxy_address) = (server.local_addr().unwrap(), proxy.local_addr().unwrap());
        let link = Link::default();
        link.set(Conditions {
            bits_per_second: Some(1e8),
            round_trip: MILLISECOND,
        });
        thread::spawn(move || link.run(&proxy, server_address));
        thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            client.write_all(&got).unwrap();
        });
        let sent: Vec<u8> = (0..100_000_u32).map(|it| (it % 251) as u8).collect();
        let mut client = TcpStream::connect(proxy_address).unwrap();
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, sent);
    }
}
