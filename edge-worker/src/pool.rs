//! The threads that compute: one a core, one queue, and a prediction of how long it takes.
//!
//! A thread that becomes free takes the oldest request and with it others that wait for the same tail, up to its fair share of
//! the queue: they run one after another on weights that are in its cache, and each is answered as soon as it is done. The
//! engine goes image by image in any case (see [`Network::run`](split_runtime::Network::run)), so waiting to fill a batch, or
//! answering all of it together, could only add latency; when idle, a request is picked up at once.
//!
//! A panic in one request is caught: that request is told, the thread goes on.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{process::setpriority_process, thread::gettid};

/// Something to compute that answers whoever asked by itself.
pub(crate) trait Work: Send + 'static {
    /// Works of one group share weights, and gain from running one after another.
    fn group(&self) -> usize;
    /// How long it will take.
    fn cost(&self) -> Duration;
    /// Computes and answers; `batch` is how many works were picked up together.
    fn run(&mut self, batch: usize);
    /// Answers after a panic in `run`.
    fn panicked(&mut self);
}

/// The most works that a thread picks up together, so that the others wait for no more than so many.
const MAX_BATCH: usize = 8;

/// A bounded number of threads that work off one queue.
pub(crate) struct Pool<W> {
    shared: Arc<Shared<W>>,
}

struct Shared<W> {
    queue: Mutex<Queue<W>>,
    wake: Condvar,
    threads: usize,
    /// The longest predicted wait.
    deadline: Duration,
}

struct Queue<W> {
    waiting: VecDeque<Waiting<W>>,
    /// Sum of what all that wait cost.
    cost: Duration,
    stopped: bool,
}

struct Waiting<W> {
    work: W,
    cost: Duration,
}

/// Refused: the predicted wait is longer than the deadline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overloaded {
    /// When the wait is expected to be within the deadline again.
    pub(crate) retry: Duration,
}

impl<W: Work> Pool<W> {
    /// Starts `threads` threads. They end when the pool is dropped and the queue is empty.
    pub(crate) fn new(threads: usize, deadline: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                cost: Duration::ZERO,
                stopped: false,
            }),
            wake: Condvar::new(),
            threads,
            deadline,
        });
        // Made first, so that the threads already started end if a later one cannot.
        let pool = Self { shared };
        for index in 0..threads {
            let shared = pool.shared.clone();
            let thread = thread::Builder::new().name(format!("tail-{index}"));
            thread.spawn(move || {
                step_back();
                shared.work();
            })?;
        }
        Ok(pool)
    }

    /// Queues a work, unless its turn would come after the deadline.
    pub(crate) fn submit(&self, work: W) -> Result<(), Overloaded> {
        let cost = work.cost();
        let mut queue = self.shared.lock();
        let wait = self.shared.wait(&queue);
        if wait > self.shared.deadline {
            let retry = wait - self.shared.deadline;
            return Err(Overloaded { retry });
        }
        queue.cost += cost;
        queue.waiting.push_back(Waiting { work, cost });
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// How long a work queued now is expected to wait.
    pub(crate) fn wait(&self) -> Duration {
        self.shared.wait(&self.shared.lock())
    }

    /// How many works wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }
}

/// Lets the executor's threads go first: they need a core for microseconds, and would else wait for the end of a time slice of the
/// thread that computes there, some milliseconds.
fn step_back() {
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

/// A tenth of the usual weight.
const NICENESS: i32 = 10;

impl<W> Drop for Pool<W> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.wake.notify_all();
    }
}

impl<W> Shared<W> {
    /// No thread panics while it holds the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Queue<W>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, queue: &Queue<W>) -> Duration {
        queue.cost / u32::try_from(self.threads).unwrap_or(u32::MAX)
    }
}

impl<W: Work> Shared<W> {
    fn work(&self) {
        while let Some(batch) = self.pick() {
            let size = batch.len();
            for mut work in batch {
                // After a panic nothing of the work is used but its address for the answer.
                if catch_unwind(AssertUnwindSafe(|| work.run(size))).is_err() {
                    work.panicked();
                }
            }
        }
    }

    /// Waits for work. None when the pool is stopped and all work is done.
    fn pick(&self) -> Option<Vec<W>> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() {
            if queue.stopped {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Some(queue.take(self.threads))
    }
}

impl<W: Work> Queue<W> {
    /// The oldest work, and others of its group up to one thread's share of the queue.
    fn take(&mut self, threads: usize) -> Vec<W> {
        let share = self.waiting.len().div_ceil(threads).min(MAX_BATCH);
        let mut batch: Vec<W> = Vec::with_capacity(share);
        let mut index = 0;
        while batch.len() < share && index < self.waiting.len() {
            let fits = batch
                .first()
                .is_none_or(|it| it.group() == self.waiting[index].work.group());
            match fits.then(|| self.waiting.remove(index)).flatten() {
                Some(it) => {
                    self.cost = self.cost.saturating_sub(it.cost);
                    batch.push(it.work);
                }
                None => index += 1,
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Waits for a signal before it answers with its name.
    struct Fake {
        name: &'static str,
        group: usize,
        start: Option<mpsc::Receiver<()>>,
        panics: bool,
        answers: mpsc::Sender<(&'static str, usize)>,
    }

    impl Work for Fake {
        fn group(&self) -> usize {
            self.group
        }
        fn cost(&self) -> Duration {
            Duration::from_millis(10)
        }
        fn run(&mut self, batch: usize) {
            if let Some(start) = &self.start {
                start.recv().unwrap();
            }
            assert!(!self.panics, "asked to panic");
            self.answers.send((self.name, batch)).unwrap();
        }
        fn panicked(&mut self) {
            self.answers.send(("panicked", 0)).unwrap();
        }
    }

    struct Bench {
        pool: Pool<Fake>,
        answers: mpsc::Receiver<(&'static str, usize)>,
        sender: mpsc::Sender<(&'static str, usize)>,
    }

    impl Bench {
        fn new(deadline_ms: u64) -> Self {
            let (sender, answers) = mpsc::channel();
            let pool = Pool::new(1, Duration::from_millis(deadline_ms)).unwrap();
            Self { pool, answers, sender }
        }

        fn fake(&self, name: &'static str, group: usize) -> Fake {
            Fake {
                name,
                group,
                start: None,
                panics: false,
                answers: self.sender.clone(),
            }
        }

        /// Keeps the only thread busy until the returned sender sends; the queue is empty then.
        fn block(&self) -> mpsc::Sender<()> {
            let (go, start) = mpsc::channel();
            let blocker = self.fake("blocker", 0);
            let start = Some(start);
            self.pool.submit(Fake { start, ..blocker }).unwrap();
            while self.pool.waiting() > 0 {
                thread::yield_now();
            }
            go
        }
    }

    #[test]
    fn those_of_one_group_go_together_and_nobody_is_lost() {
        let bench = Bench::new(1000);
        let go = bench.block();
        for (name, group) in [("a1", 1), ("b1", 2), ("a2", 1), ("b2", 2), ("a3", 1)] {
            bench.pool.submit(bench.fake(name, group)).unwrap();
        }
        go.send(()).unwrap();
        let answers: Vec<_> = bench.answers.iter().take(6).collect();
        assert_eq!(
            answers,
            [("blocker", 1), ("a1", 3), ("a2", 3), ("a3", 3), ("b1", 2), ("b2", 2)]
        );
    }

    #[test]
    fn a_batch_is_at_most_one_threads_share() {
        let (sender, _answers) = mpsc::channel();
        let waiting = (0..40).map(|_| Waiting {
            work: Fake {
                name: "",
                group: 0,
                start: None,
                panics: false,
                answers: sender.clone(),
            },
            cost: Duration::ZERO,
        });
        let mut queue = Queue {
            waiting: waiting.collect(),
            cost: Duration::ZERO,
            stopped: false,
        };
        assert_eq!(queue.take(10).len(), 4);
        assert_eq!(queue.take(1).len(), MAX_BATCH);
    }

    #[test]
    fn refuses_what_would_wait_beyond_the_deadline() {
        let bench = Bench::new(15);
        let go = bench.block();
        for _ in 0..2 {
            bench.pool.submit(bench.fake("queued", 0)).unwrap();
        }
        let refused = bench.pool.submit(bench.fake("refused", 0)).unwrap_err();
        assert_eq!(refused.retry, Duration::from_millis(5));
        go.send(()).unwrap();
        let answers: Vec<_> = bench.answers.iter().take(3).map(|it| it.0).collect();
        assert_eq!(answers, ["blocker", "queued", "queued"]);
        assert_eq!(bench.pool.wait(), Duration::ZERO);
    }

    #[test]
    fn a_panic_is_answered_and_the_thread_goes_on() {
        let bench = Bench::new(1000);
        let panics = true;
        let fake = bench.fake("never", 0);
        bench.pool.submit(Fake { panics, ..fake }).unwrap();
        bench.pool.submit(bench.fake("next", 0)).unwrap();
        let answers: Vec<_> = bench.answers.iter().take(2).map(|it| it.0).collect();
        assert_eq!(answers, ["panicked", "next"]);
    }

    #[test]
    fn dropping_the_pool_finishes_the_queue() {
        let bench = Bench::new(1000);
        let go = bench.block();
        bench.pool.submit(bench.fake("last", 0)).unwrap();
        drop(bench.pool);
        go.send(()).unwrap();
        let answers: Vec<_> = bench.answers.iter().take(2).map(|it| it.0).collect();
        assert_eq!(answers, ["blocker", "last"]);
    }
}
