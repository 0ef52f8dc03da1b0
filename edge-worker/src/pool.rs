//! What computes: one task a core, one queue, and a prediction of how long it takes.
//!
//! A task that becomes free lets the executor read first whatever has come meanwhile. Then it takes the oldest request and with it
//! others that wait for the same tail, up to its fair share of the queue, and they go through together: late tails take less
//! time for several images, and all answers leave in one go. Nothing ever waits for a batch to fill; when idle, a request is picked up at once.
//!
//! Tails take a fraction of a millisecond, so they run on the executor's own threads: handing one to another thread and back costs
//! four changes of context, which at the deeper split points is as much as the tail. What is predicted to take longer than
//! [`SHORT`] goes to a thread of its own, so that the executor always answers everything else soon.
//!
//! A panic in one request is caught: that request is told, the others of its batch are answered, the task goes on.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{spawn_blocking, yield_now},
};

/// Something to compute that answers whoever asked by itself.
pub(crate) trait Work: Sized + Send + 'static {
    /// Works of one group can run together.
    fn group(&self) -> usize;
    /// How long it will take.
    fn cost(&self) -> Duration;
    /// Computes all of a batch, which are of one group; then answers each. Nobody has an answer after a panic.
    fn run(batch: &[Self]);
    /// Answers after a panic.
    fn panicked(&self);
}

/// The most works that run together: as many images as late tails compute at once, and few enough that answers leave soon.
const MAX_BATCH: usize = 4;

/// The most time that a task keeps a thread of the executor.
const SHORT: Duration = Duration::from_millis(1);

/// A bounded number of tasks that work off one queue.
pub(crate) struct Pool<W> {
    queue: Mutex<Queue<W>>,
    wake: Notify,
    tasks: usize,
    /// The longest predicted wait.
    deadline: Duration,
}

struct Queue<W> {
    waiting: VecDeque<Waiting<W>>,
    /// Sum of what all cost that wait or run.
    cost: Duration,
}

struct Waiting<W> {
    work: W,
    cost: Duration,
}

/// Works that run together.
struct Batch<W> {
    works: Vec<W>,
    cost: Duration,
}

/// Refused: the predicted wait is longer than the deadline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overloaded {
    /// When the wait is expected to be within the deadline again.
    pub(crate) retry: Duration,
}

impl<W: Work> Pool<W> {
    /// A queue for `tasks` tasks, which are to be spawned on [`work`](Self::work).
    pub(crate) fn new(tasks: usize, deadline: Duration) -> Self {
        Self {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                cost: Duration::ZERO,
            }),
            wake: Notify::new(),
            tasks,
            deadline,
        }
    }

    /// Queues a work, unless its turn would come after the deadline.
    pub(crate) fn submit(&self, work: W) -> Result<(), Overloaded> {
        let cost = work.cost();
        let mut queue = self.lock();
        let wait = self.predict(&queue);
        if wait > self.deadline {
            let retry = wait - self.deadline;
            return Err(Overloaded { retry });
        }
        queue.cost += cost;
        queue.waiting.push_back(Waiting { work, cost });
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// How long a work queued now is expected to wait.
    pub(crate) fn wait(&self) -> Duration {
        self.predict(&self.lock())
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
                    if cost <= SHORT {
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

    fn predict(&self, queue: &Queue<W>) -> Duration {
        queue.cost / u32::try_from(self.tasks).unwrap_or(u32::MAX)
    }

    /// Nobody panics while it holds the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Queue<W>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a batch; after a panic, each of it alone, to tell whose it was.
fn run<W: Work>(batch: &[W]) {
    // After a panic nothing of a work is used but its request and its address for the answer.
    if catch_unwind(AssertUnwindSafe(|| W::run(batch))).is_ok() {
        return;
    }
    match batch {
        [work] => work.panicked(),
        _ => batch.chunks(1).for_each(run),
    }
}

impl<W: Work> Queue<W> {
    /// The oldest work, and others of its group: up to one task's share of the queue, and as long as they are [`SHORT`] together.
    fn take(&mut self, tasks: usize) -> Option<Batch<W>> {
        let first = self.waiting.pop_front()?;
        let share = (self.waiting.len() + 1).div_ceil(tasks).min(MAX_BATCH);
        let mut batch = Batch {
            cost: first.cost,
            works: vec![first.work],
        };
        let mut index = 0;
        while batch.works.len() < share && index < self.waiting.len() {
            let next = &self.waiting[index];
            let fits = batch.works[0].group() == next.work.group() && batch.cost + next.cost <= SHORT;
            match fits.then(|| self.waiting.remove(index)).flatten() {
                Some(it) => {
                    batch.cost += it.cost;
                    batch.works.push(it.work);
                }
                None => index += 1,
            }
        }
        Some(batch)
    }

    /// Something of this cost has run.
    fn done(&mut self, cost: Duration) {
        self.cost = self.cost.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        time::Instant,
    };

    use super::*;

    /// Answers with its name and the size of its batch.
    struct Fake {
        name: &'static str,
        group: usize,
        cost: Duration,
        panics: bool,
        during: Option<Box<dyn Fn() + Send + Sync>>,
        answers: mpsc::Sender<(&'static str, usize)>,
    }

    impl Work for Fake {
        fn group(&self) -> usize {
            self.group
        }
        fn cost(&self) -> Duration {
            self.cost
        }
        fn run(batch: &[Self]) {
            assert!(batch.iter().all(|it| !it.panics), "asked to panic");
            for it in batch {
                it.during.iter().for_each(|during| during());
                it.answers.send((it.name, batch.len())).unwrap();
            }
        }
        fn panicked(&self) {
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
                name,
                group,
                cost: Duration::from_micros(100),
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
            while (got.len() < count || self.pool.wait() > Duration::ZERO) && Instant::now() < end {
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
    async fn a_batch_is_at_most_one_tasks_share_and_short() {
        let bench = Bench::new(1000);
        let queue = |cost| Queue {
            waiting: (0..40)
                .map(|_| Waiting {
                    work: bench.fake("", 0),
                    cost,
                })
                .collect(),
            cost: cost * 40,
        };
        let taken = |cost, tasks| {
            let mut queue = queue(cost);
            queue.take(tasks).unwrap().works.len()
        };
        assert_eq!(taken(SHORT / 100, 10), 4);
        assert_eq!(taken(SHORT / 100, 1), MAX_BATCH);
        assert_eq!(taken(SHORT / 3, 1), 3);
        assert_eq!(taken(SHORT * 3, 1), 1);
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
        assert_eq!(refused.retry, Duration::from_millis(5));
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
                during: Some(Box::new(move || seen.send(pool.wait()).unwrap())),
                ..bench.fake("long", 0)
            })
            .unwrap();
        bench.answers(1).await;
        assert_eq!(waits.try_recv(), Ok(cost));
        assert_eq!(bench.pool.wait(), Duration::ZERO);
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
}
