//! Whose turn it is: fair queueing, by address and then by connection.
//!
//! Each address has a lane, and in it each of its connections. The lane that has used the least time is served next, so that all that wait get the
//! same share of the processor, however many sockets or requests some of them have. This is start-time fair queueing (Goyal, Vin and Cheng,
//! SIGCOMM 1996): a lane's *turn* is a virtual time that advances by the cost of whatever it is served, and a lane that was idle starts at the
//! present one, so that idleness earns no credit.
//!
//! Pure: costs are arguments, there is no clock.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
    time::Duration,
};

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Whose share it is.
    pub(crate) address: IpAddr,
    /// One of its connections.
    pub(crate) connection: u64,
}

/// Works that wait, each with the cost that was predicted for it.
pub(crate) struct FairQueue<W> {
    lanes: Lanes<IpAddr, Lanes<u64, VecDeque<(W, Duration)>>>,
}

/// A work whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken<W> {
    pub(crate) work: W,
    /// The cost that was predicted for it.
    pub(crate) cost: Duration,
    /// When its address would have its next turn, in virtual time.
    pub(crate) next_turn: Duration,
}

impl<W> FairQueue<W> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self { lanes: Lanes::new() }
    }

    /// How many works wait.
    pub(crate) fn len(&self) -> usize {
        self.lanes.waiting
    }

    /// How many addresses wait.
    pub(crate) fn addresses(&self) -> usize {
        self.lanes.order.len()
    }

    /// What all that wait cost together.
    pub(crate) fn cost(&self) -> Duration {
        self.lanes.cost
    }

    /// Queues a work behind the others of its connection.
    pub(crate) fn push(&mut self, client: Client, work: W, cost: Duration) {
        self.lanes.push(client.address, cost, |connections| {
            connections.push(client.connection, cost, |works| works.push_back((work, cost)));
        });
    }

    /// Takes the work whose turn it is.
    pub(crate) fn first(&mut self) -> Option<Taken<W>> {
        self.next(Duration::MAX, |_, _| true)
    }

    /// Takes the next work that `fits`, given it and its cost, of an address whose turn comes no later than `until`.
    pub(crate) fn next(&mut self, until: Duration, mut fits: impl FnMut(&W, Duration) -> bool) -> Option<Taken<W>> {
        let mut of_connection = |works: &mut VecDeque<(W, Duration)>| {
            let index = works.iter().position(|(work, cost)| fits(work, *cost))?;
            works.remove(index)
        };
        let (work, cost, next_turn) = self.lanes.take(until, |connections| {
            let (work, cost, _) = connections.take(Duration::MAX, &mut of_connection)?;
            Some((work, cost))
        })?;
        Some(Taken { work, cost, next_turn })
    }

    /// What is served before a work of this client and cost that is queued now: all of its own lane, and of each other one as much.
    pub(crate) fn ahead(&self, client: Client, cost: Duration) -> Duration {
        let own = self.lanes.of(&client.address);
        let position = own.map_or(Duration::ZERO, |it| it.queue.ahead(&client.connection, cost));
        position + self.lanes.of_others(&client.address, position + cost)
    }
}

/// Queues that take turns.
struct Lanes<K, Q> {
    lanes: HashMap<K, Lane<Q>>,
    /// Those that are not empty, by their turns.
    order: BTreeSet<(Duration, K)>,
    /// Virtual time: the turn of the lane that was served last.
    now: Duration,
    waiting: usize,
    cost: Duration,
}

struct Lane<Q> {
    queue: Q,
    turn: Duration,
    waiting: usize,
    cost: Duration,
}

/// Empty lanes are kept until virtual time has passed their turn, so that coming back gains nothing; beyond this many they are looked for.
const MANY_LANES: usize = 64;

impl<K: Copy + Ord + Hash, Q: Default> Lanes<K, Q> {
    fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            order: BTreeSet::new(),
            now: Duration::ZERO,
            waiting: 0,
            cost: Duration::ZERO,
        }
    }

    fn of(&self, key: &K) -> Option<&Lane<Q>> {
        self.lanes.get(key)
    }

    /// What the lanes but this one have served of their own until each has had this much.
    fn of_others(&self, key: &K, each: Duration) -> Duration {
        // Of all lanes, since going through them in order takes ten times as long; those that are empty cost nothing.
        let others = self.lanes.iter().filter(|it| it.0 != key);
        others.map(|it| it.1.cost.min(each)).sum()
    }

    fn push(&mut self, key: K, cost: Duration, add: impl FnOnce(&mut Q)) {
        let lane = self.lanes.entry(key).or_insert_with(|| Lane {
            queue: Q::default(),
            turn: self.now,
            waiting: 0,
            cost: Duration::ZERO,
        });
        if lane.waiting == 0 {
            lane.turn = lane.turn.max(self.now);
            self.order.insert((lane.turn, key));
        }
        add(&mut lane.queue);
        lane.waiting += 1;
        lane.cost += cost;
        self.waiting += 1;
        self.cost += cost;
    }

    /// Takes from the first lane that has something to give, with its cost; returns the lane's next turn, too.
    fn take<W>(
        &mut self,
        until: Duration,
        mut give: impl FnMut(&mut Q) -> Option<(W, Duration)>,
    ) -> Option<(W, Duration, Duration)> {
        let first = self.order.first()?.0;
        let turns = self.order.iter().take_while(|it| it.0 <= until);
        let mut given = None;
        for &(turn, key) in turns {
            let lane = self.lanes.get_mut(&key)?;
            if let Some((work, cost)) = give(&mut lane.queue) {
                given = Some((turn, key, work, cost));
                break;
            }
        }
        let (turn, key, work, cost) = given?;
        let lane = self.lanes.get_mut(&key)?;
        lane.turn += cost;
        lane.waiting -= 1;
        lane.cost -= cost;
        let next_turn = lane.turn;
        self.order.remove(&(turn, key));
        if lane.waiting > 0 {
            self.order.insert((next_turn, key));
        }
        self.now = self.now.max(first);
        self.waiting -= 1;
        self.cost -= cost;
        self.forget();
        Some((work, cost, next_turn))
    }

    fn forget(&mut self) {
        if self.order.is_empty() {
            // Nobody waits, so nobody can be served before another.
            self.lanes.clear();
            self.now = Duration::ZERO;
        } else if self.lanes.len() > 2 * self.order.len() + MANY_LANES {
            let now = self.now;
            self.lanes.retain(|_, it| it.waiting > 0 || it.turn > now);
        }
    }
}

impl<Q: Default> Lanes<u64, Q> {
    /// What is served before a work of this cost that is queued now behind the others of its lane.
    fn ahead(&self, key: &u64, cost: Duration) -> Duration {
        let position = self.of(key).map_or(Duration::ZERO, |it| it.cost);
        position + self.of_others(key, position + cost)
    }
}

impl<K: Copy + Ord + Hash, Q: Default> Default for Lanes<K, Q> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn client(address: u8, connection: u64) -> Client {
        Client {
            address: [10, 0, 0, address].into(),
            connection,
        }
    }

    fn drain(queue: &mut FairQueue<&'static str>) -> String {
        std::iter::from_fn(|| queue.first()).map(|it| it.work).collect()
    }

    #[test]
    fn addresses_take_turns_and_in_them_connections() {
        let mut queue = FairQueue::new();
        for (address, connection, work) in [
            (1, 1, "a"),
            (1, 1, "b"),
            (1, 1, "c"),
            (1, 2, "d"),
            (2, 1, "x"),
            (2, 1, "y"),
        ] {
            queue.push(client(address, connection), work, MS);
        }
        assert_eq!((queue.len(), queue.addresses(), queue.cost()), (6, 2, 6 * MS));
        assert_eq!(drain(&mut queue), "axdybc");
        assert_eq!((queue.len(), queue.cost()), (0, Duration::ZERO));
    }

    #[test]
    fn a_share_is_one_of_time_not_of_requests() {
        let mut queue = FairQueue::new();
        for _ in 0..2 {
            queue.push(client(1, 1), "L", 4 * MS);
        }
        for _ in 0..8 {
            queue.push(client(2, 1), "s", MS);
        }
        assert_eq!(drain(&mut queue), "LssssLssss");
    }

    #[test]
    fn coming_and_going_gains_nothing() {
        let mut queue = FairQueue::new();
        for _ in 0..20 {
            queue.push(client(1, 1), "a", MS);
            queue.push(client(2, 1), "b", MS);
        }
        // Always there with one, and asks again only when that is served.
        queue.push(client(3, 1), "x", MS);
        let mut served = String::new();
        for _ in 0..30 {
            let work = queue.first().unwrap().work;
            served += work;
            if work == "x" {
                queue.push(client(3, 1), "x", MS);
            }
        }
        assert_eq!(served.matches('x').count(), 10, "{served}");
    }

    #[test]
    fn idleness_earns_no_credit() {
        let mut queue = FairQueue::new();
        for _ in 0..50 {
            queue.push(client(1, 1), "a", MS);
        }
        (0..40).for_each(|_| {
            queue.first().unwrap();
        });
        for _ in 0..50 {
            queue.push(client(2, 1), "b", MS);
        }
        let served: String = (0..10).map(|_| queue.first().unwrap().work).collect();
        assert_eq!(served.matches('a').count(), 5, "{served}");
    }

    #[test]
    fn what_is_ahead_is_what_is_served_before() {
        let mut queue = FairQueue::new();
        for connection in 0..5 {
            for _ in 0..4 {
                queue.push(client(1, connection), "a", MS);
            }
        }
        queue.push(client(2, 1), "b", MS);
        for (address, connection) in [(1, 0), (1, 9), (2, 1), (2, 2), (3, 1)] {
            let client = client(address, connection);
            let predicted = queue.ahead(client, MS);
            let mut copy = FairQueue::new();
            copy.lanes.now = queue.lanes.now;
            for (&address, lane) in &queue.lanes.lanes {
                for (&connection, works) in &lane.queue.lanes {
                    for (work, cost) in &works.queue {
                        copy.push(Client { address, connection }, *work, *cost);
                    }
                }
            }
            copy.push(client, "!", MS);
            let before = std::iter::from_fn(|| copy.first()).take_while(|it| it.work != "!");
            let served: Duration = before.map(|it| it.cost).sum();
            // Between lanes of the same turn the order is arbitrary.
            let lanes = 6 * MS;
            assert!(
                served <= predicted && predicted <= served + lanes,
                "{served:?}, {predicted:?}"
            );
        }
    }

    #[test]
    fn lanes_of_those_who_left_are_forgotten() {
        let mut queue = FairQueue::new();
        for connection in 0..10_000 {
            queue.push(client(1, connection), "a", MS);
            queue.push(client(2, 0), "b", MS);
            queue.first().unwrap();
            queue.first().unwrap();
            queue.push(client(2, 0), "b", MS);
            let lanes: usize = queue.lanes.lanes.values().map(|it| it.queue.lanes.len()).sum();
            assert!(lanes < 10 * MANY_LANES, "{lanes}");
        }
    }
}
