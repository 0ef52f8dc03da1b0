//! What computes: one task a core, one queue, and a prediction of how long it takes.
//!
//! A task that becomes free lets the executor read first whatever has come meanwhile. Then it takes the request whose turn it is (see
//! [`queue`](crate::queue)) and with it others that wait for the same tail, up to its fair share of the queue, and they go through together where
//! that takes less time, which was measured when the tail was loaded, or hardly any: all answers leave in one go. Nothing ever waits for a batch
//! to fill; when idle, a request is picked up at once.
//!
//! Tails of small networks take a fraction of a millisecond, so they run on the executor's own threads: handing one to another thread and back
//! costs four changes of context, which at the deeper split points is as much as the tail. What is predicted to take longer than
//! [`MAX_INLINE_COST`] goes to a thread of its own, so that the executor always answers everything else soon.
//!
//! A panic in one request is caught: that request is told, the others of its batch are answered, the task goes on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::{spawn_blocking, yield_now},
};

use crate::queue::{Client, FairQueue, Taken};

/// Something to compute that answers whoever asked by itself.
pub(crate) trait Work: Sized + Send + 'static {
    /// Whose share of the processor it takes.
    fn client(&self) -> Client;
    /// Works of one group can run together.
    fn group(&self) -> usize;
    /// How long it will take.
    fn cost(&self) -> Duration;
    /// Whether several of its group take less time together than one after the other.
    fn gains_from_batches(&self) -> bool;
    /// Computes all of a batch, which are of one group; then answers each. If it panics, no request has been answered.
    fn run(batch: &[Self]);
    /// Answers after a panic that came after so long.
    fn panicked(&self, took: Duration);
}

/// The most works that run together: as many images as late tails compute at once, and few enough that answers leave soon.
const MAX_BATCH: usize = 4;

/// The most time that a task keeps a thread of the executor.
const MAX_INLINE_COST: Duration = Duration::from_millis(1);

/// A bounded number of tasks that work off one queue.
pub(crate) struct Pool<W> {
    queue: Mutex<Queue<W>>,
    wake: Notify,
    tasks: usize,
    /// The longest predicted wait.
    deadline: Duration,
}

struct Queue<W> {
    waiting: FairQueue<W>,
    /// What all that run cost.
    running: Duration,
}

/// Works that run together.
struct Batch<W> {
    works: Vec<W>,
    cost: Duration,
}

/// Refused: the predicted wait is longer than the deadline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overloaded {
    /// The predicted wait.
    pub(crate) wait: Duration,
}

impl<W: Work> Pool<W> {
    /// A queue for `tasks` tasks, which are to be spawned on [`work`](Self::work).
    pub(crate) fn new(tasks: usize, deadline: Duration) -> Self {
        Self {
            queue: Mutex::new(Queue {
                waiting: FairQueue::new(),
                running: Duration::ZERO,
            }),
            wake: Notify::new(),
            tasks,
            deadline,
        }
    }

    /// Queues a work, unless its turn would come after the deadline.
    pub(crate) fn submit(&self, work: W) -> Result<(), Overloaded> {
        let (client, cost) = (work.client(), work.cost());
        let mut queue = self.lock();
        // No wait is longer than that for everything; what comes before what is worth finding out only beyond the deadline.
        if self.share(queue.backlog()) > self.deadline {
            let wait = self.share(queue.ahead(client, cost));
            if wait > self.deadline {
                return Err(Overloaded { wait });
            }
        }
        queue.waiting.push(client, work, cost);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// How long a work of this client and cost that is queued now is expected to wait.
    pub(crate) fn wait(&self, client: Client, cost: Duration) -> Duration {
        self.share(self.lock().ahead(client, cost))
    }

    /// How long everything that waits or runs is expected to take.
    pub(crate) fn backlog(&self) -> Duration {
        self.share(self.lock().backlog())
    }

    /// How many works wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Works off the queue; never completes.
    pub(crate) async fn work(&self) {
        loop {
            yield_now().await;
            let batch = self.lock().take(self.tasks);
            match batch {
                None => self.wake.notified().await,
                Some(Batch { works, cost }) => {
                    if cost <= MAX_INLINE_COST {
                        run(&works);
                    } else {
                        // Panics are caught inside; there is nothing else that the thread could tell.
                        let _ = spawn_blocking(move || run(&works)).await;
                    }
                    self.lock().done(cost);
                }
            }
        }
    }

    /// How long all tasks together take for this.
    fn share(&self, cost: Duration) -> Duration {
        cost / u32::try_from(self.tasks).unwrap_or(u32::MAX)
    }

    /// Nobody panics while it holds the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Queue<W>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a batch; after a panic, each of it alone, to tell whose it was.
fn run<W: Work>(batch: &[W]) {
    let started = Instant::now();
    // After a panic nothing of a work is used but its request and its address for the answer.
    if catch_unwind(AssertUnwindSafe(|| W::run(batch))).is_ok() {
        return;
    }
    match batch {
        [work] => work.panicked(started.elapsed()),
        _ => batch.chunks(1).for_each(run),
    }
}

impl<W: Work> Queue<W> {
    /// What all cost that wait or run.
    fn backlog(&self) -> Duration {
        self.running + self.waiting.cost()
    }

    /// What is expected to be served before a work of this client that is queued now.
    fn ahead(&self, client: Client, cost: Duration) -> Duration {
        self.running + self.waiting.ahead(client, cost)
    }

    /// The work whose turn it is, and others of its group: up to one task's share of the queue, if they gain from it or may all run inline.
    ///
    /// Where several addresses wait, others only go along whose turn comes before the first one's next: a client does not wait for a batch that
    /// another fills.
    fn take(&mut self, tasks: usize) -> Option<Batch<W>> {
        let share = self.waiting.len().div_ceil(tasks).min(MAX_BATCH);
        let several = self.waiting.addresses() > 1;
        let Taken { work, cost, next_turn } = self.waiting.first()?;
        let until = if several { next_turn } else { Duration::MAX };
        let (group, gains) = (work.group(), work.gains_from_batches());
        let mut batch = Batch {
            cost,
            works: vec![work],
        };
        while batch.works.len() < share {
            let room = match gains {
                true => Duration::MAX,
                false => MAX_INLINE_COST.saturating_sub(batch.cost),
            };
            let next = self
                .waiting
                .next(until, |work, cost| cost <= room && work.group() == group);
            let Some(Taken { work, cost, .. }) = next else { break };
            batch.cost += cost;
            batch.works.push(work);
        }
        self.running += batch.cost;
        Some(batch)
    }

    /// Something of this cost has run.
    fn done(&mut self, cost: Duration) {
        self.running = self.running.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        time::Instant,
    };

    use super::*;

    fn client(address: u8, connection: u64) -> Client {
        Client {
            address: [10, 0, 0, address].into(),
            connection,
        }
    }

    /// Answers with its name and the size of its batch.
    struct Fake {
        client: Client,
        name: &'static str,
        group: usize,
        cost: Duration,
        gains: bool,
        panics: bool,
        during: Option<Box<dyn Fn() + Send + Sync>>,
        answers: mpsc::Sender<(&'static str, usize)>,
    }

    impl Work for Fake {
        fn client(&self) -> Client {
            self.client
        }
        fn group(&self) -> usize {
            self.group
        }
        fn cost(&self) -> Duration {
            self.cost
        }
        fn gains_from_batches(&self) -> bool {
            self.gains
        }
        fn run(batch: &[Self]) {
            assert!(batch.iter().all(|it| !it.panics), "asked to panic");
            for it in batch {
                it.during.iter().for_each(|during| during());
                it.answers.send((it.name, batch.len())).unwrap();
            }
        }
        fn panicked(&self, _: Duration) {
            self.answers.send(("panicked", 0)).unwrap();
        }
    }

    struct Bench {
        pool: Arc<Pool<Fake>>,
        answers: mpsc::Receiver<(&'static str, usize)>,
        sender: mpsc::Sender<(&'static str, usize)>,
    }

    impl Bench {
        fn new(deadline_ms: u64) -> Self {
            let (sender, answers) = mpsc::channel();
            let pool = Arc::new(Pool::new(1, Duration::from_millis(deadline_ms)));
            Self { pool, answers, sender }
        }

        fn fake(&self, name: &'static str, group: usize) -> Fake {
            Fake {
                client: client(1, 1),
                name,
                group,
                cost: Duration::from_micros(100),
                gains: false,
                panics: false,
                during: None,
                answers: self.sender.clone(),
            }
        }

        /// Works until so many answers are there and nothing runs any more.
        async fn answers(&self, count: usize) -> Vec<(&'static str, usize)> {
            let pool = self.pool.clone();
            let working = tokio::spawn(async move { pool.work().await });
            let (mut got, end) = (Vec::new(), Instant::now() + Duration::from_secs(10));
            while (got.len() < count || self.pool.backlog() > Duration::ZERO) && Instant::now() < end {
                got.extend(self.answers.try_iter());
                yield_now().await;
            }
            working.abort();
            got
        }
    }

    #[tokio::test]
    async fn those_of_one_group_go_together_and_nobody_is_lost() {
        let bench = Bench::new(1000);
        for (name, group) in [("a1", 1), ("b1", 2), ("a2", 1), ("b2", 2), ("a3", 1)] {
            bench.pool.submit(bench.fake(name, group)).unwrap();
        }
        let expected = [("a1", 3), ("a2", 3), ("a3", 3), ("b1", 2), ("b2", 2)];
        assert_eq!(bench.answers(5).await, expected);
    }

    #[tokio::test]
    async fn a_batch_is_at_most_one_tasks_share_and_gains_or_runs_inline() {
        let bench = Bench::new(1000);
        let taken = |cost, gains, tasks| {
            let mut queue = Queue {
                waiting: FairQueue::new(),
                running: Duration::ZERO,
            };
            for _ in 0..40 {
                let work = Fake {
                    gains,
                    ..bench.fake("", 0)
                };
                queue.waiting.push(client(1, 1), work, cost);
            }
            queue.take(tasks).unwrap().works.len()
        };
        assert_eq!(taken(MAX_INLINE_COST / 100, false, 10), 4);
        assert_eq!(taken(MAX_INLINE_COST / 100, false, 1), MAX_BATCH);
        assert_eq!(taken(MAX_INLINE_COST / 3, false, 1), 3);
        assert_eq!(taken(MAX_INLINE_COST * 3, false, 1), 1);
        assert_eq!(taken(MAX_INLINE_COST * 3, true, 1), MAX_BATCH);
        assert_eq!(taken(MAX_INLINE_COST * 3, true, 20), 2);
    }

    #[tokio::test]
    async fn refuses_what_would_wait_beyond_the_deadline() {
        let bench = Bench::new(15);
        let cost = Duration::from_millis(10);
        let long = |name| Fake {
            cost,
            ..bench.fake(name, 0)
        };
        for _ in 0..2 {
            bench.pool.submit(long("queued")).unwrap();
        }
        let refused = bench.pool.submit(long("refused")).unwrap_err();
        assert_eq!(refused.wait, Duration::from_millis(20));
        // Too long to share a batch, or a thread of the executor.
        assert_eq!(bench.answers(2).await, [("queued", 1); 2]);
    }

    #[tokio::test]
    async fn what_runs_counts_until_it_is_done() {
        let bench = Bench::new(1000);
        let cost = Duration::from_millis(10);
        let pool = bench.pool.clone();
        let (seen, waits) = mpsc::channel();
        bench
            .pool
            .submit(Fake {
                cost,
                during: Some(Box::new(move || seen.send(pool.backlog()).unwrap())),
                ..bench.fake("long", 0)
            })
            .unwrap();
        bench.answers(1).await;
        assert_eq!(waits.try_recv(), Ok(cost));
        assert_eq!(bench.pool.backlog(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_so_are_the_others() {
        let bench = Bench::new(1000);
        let panics = true;
        let fake = bench.fake("never", 0);
        bench.pool.submit(bench.fake("before", 0)).unwrap();
        bench.pool.submit(Fake { panics, ..fake }).unwrap();
        bench.pool.submit(bench.fake("behind", 0)).unwrap();
        bench.pool.submit(bench.fake("another", 1)).unwrap();
        let expected = [("before", 1), ("panicked", 0), ("behind", 1), ("another", 1)];
        assert_eq!(bench.answers(4).await, expected);
    }
    /// A frame of one of two addresses, on the queue's own time.
    struct Frame {
        client: Client,
        cost: Duration,
        asked: Duration,
    }

    impl Work for Frame {
        fn client(&self) -> Client {
            self.client
        }
        fn group(&self) -> usize {
            0
        }
        fn cost(&self) -> Duration {
            self.cost
        }
        fn gains_from_batches(&self) -> bool {
            false
        }
        fn run(_: &[Self]) {}
        fn panicked(&self, _: Duration) {}
    }

    /// One address keeps 4 frames of each of 250 sockets on their way; another asks for a frame, and again some time after its answer. What runs
    /// takes what it costs. Returns the other's median latency, and how often each was refused.
    fn play(cost: Duration) -> (Duration, [usize; 2]) {
        let pool = Pool::new(1, Duration::from_millis(200));
        let (flood, other) = (1, client(2, 0));
        let (mut now, mut due) = (Duration::ZERO, cost);
        let (mut latencies, mut refused) = (Vec::new(), [0; 2]);
        let mut next: Vec<(Duration, u64)> = (0..1000).map(|it| (now, it % 250)).collect();
        while latencies.len() < 501 {
            for (_, connection) in next.extract_if(.., |it| it.0 <= now).collect::<Vec<_>>() {
                let client = client(flood, connection);
                if let Err(overloaded) = pool.submit(Frame {
                    client,
                    cost,
                    asked: now,
                }) {
                    refused[0] += 1;
                    next.push((now + overloaded.wait, connection));
                }
            }
            let batch = pool.lock().take(1).unwrap();
            now += batch.cost;
            if due < now {
                let asked = due;
                due = Duration::MAX;
                refused[1] += usize::from(
                    pool.submit(Frame {
                        client: other,
                        cost,
                        asked,
                    })
                    .is_err(),
                );
            }
            pool.lock().done(batch.cost);
            for frame in batch.works {
                if frame.client == other {
                    latencies.push(now - frame.asked);
                    // Not in step with the batches.
                    due = now + cost.mul_f64(3.0 + 0.017 * latencies.len() as f64);
                } else {
                    next.push((now, frame.client.connection));
                }
            }
        }
        latencies.sort_unstable();
        (latencies[250], refused)
    }

    #[test]
    fn one_address_that_floods_leaves_another_its_latency() {
        // Alone, a frame takes what it costs.
        for micros in [350, 1000, 2400, 20_000] {
            let cost = Duration::from_micros(micros);
            let (median, [flood, other]) = play(cost);
            assert!(median <= 3 * cost, "{median:?} of {cost:?}");
            assert!(flood > 0, "the flood is bounded");
            assert_eq!(other, 0, "below its share nobody is refused");
        }
        // Batches are short, so that frames that take less wait for one of these at most.
        let (median, [_, other]) = play(MAX_INLINE_COST / 10);
        assert!(median <= MAX_INLINE_COST / 10 + MAX_INLINE_COST / 2, "{median:?}");
        assert_eq!(other, 0);
    }

    #[test]
    fn a_refusal_says_how_long_the_queue_is() {
        let pool = Pool::new(1, Duration::from_millis(199));
        let cost = Duration::from_millis(1);
        let frame = |connection| Frame {
            client: client(1, connection),
            cost,
            asked: Duration::ZERO,
        };
        (0..200).for_each(|it| pool.submit(frame(it % 50)).unwrap());
        // Behind one of each other connection's works, and behind all that is its own.
        assert_eq!(pool.wait(client(1, 99), cost), 50 * cost);
        assert_eq!(pool.wait(client(1, 0), cost), 200 * cost);
        assert_eq!(pool.submit(frame(0)).unwrap_err().wait, 200 * cost);
        assert!(pool.submit(frame(99)).is_ok());
    }
}
