//! One frame's features, on their way through the pool.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use split_core::{
    top_classes,
    wire::{ErrorCode, InferResult, ServerMessage},
};
use tokio::sync::mpsc;

use crate::{limits::Held, metrics::Metrics, payload::PayloadError, pool::Work, queue::Client, series::Point};

/// A payload to decode and to run through its tail.
pub(crate) struct Request {
    /// Names it on its connection.
    pub(crate) id: u8,
    /// Whose it is.
    pub(crate) client: Client,
    /// Decoder and tail.
    pub(crate) point: Arc<Point>,
    /// As it came.
    pub(crate) payload: Bytes,
    /// Keeps the payload counted against the budget of all connections.
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    pub(crate) held: Held,
    /// When it came.
    pub(crate) received: Instant,
    /// Where the answer goes. It has room for every request in flight.
    pub(crate) answers: mpsc::Sender<Answer>,
    /// Where it is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// The answer to one request.
pub(crate) struct Answer {
    /// The request's id.
    pub(crate) id: u8,
    /// What to send.
    pub(crate) message: ServerMessage,
}

impl Work for Request {
    fn client(&self) -> Client {
        self.client
    }

    fn group(&self) -> usize {
        Arc::as_ptr(&self.point.tail) as usize
    }

    fn cost(&self) -> Duration {
        self.point.tail.service()
    }

    fn gains_from_batches(&self) -> bool {
        self.point.tail.gains_from_batches()
    }

    fn run(batch: &[Self]) {
        let (mut decoded, mut refused, mut features) = (Vec::new(), Vec::new(), Vec::new());
        for request in batch.iter().filter(|it| !it.answers.is_closed()) {
            let started = Instant::now();
            match request.decode(&mut features) {
                Ok(()) => decoded.push((request, started.elapsed())),
                Err(error) => {
                    // Work that comes to nothing takes its time as well, and those that wait behind it wait for that.
                    request.point.tail.observe(started.elapsed());
                    refused.push((request, error));
                }
            }
        }
        if let Some((first, _)) = decoded.first() {
            let (started, mut logits) = (Instant::now(), Vec::new());
            match first.point.tail.run(decoded.len(), &features, &mut logits) {
                Ok(()) => answer_all(&decoded, &logits, started.elapsed()),
                Err(error) => {
                    let point = &first.point;
                    tracing::error!(%error, variant = point.variant, split = point.split, "a tail failed");
                    let share = share(started.elapsed(), decoded.len());
                    for (request, decode) in decoded {
                        request.point.tail.observe(decode + share);
                        request.refuse(ErrorCode::Internal, FAILED.into());
                    }
                }
            }
        }
        for (request, error) in refused {
            request.refuse(ErrorCode::BadPayload, error.to_string());
        }
    }

    fn panicked(&self, took: Duration) {
        self.point.tail.observe(took);
        self.metrics.panics.inc();
        self.refuse(ErrorCode::Internal, FAILED.into());
    }
}

/// What a client is told of a fault of ours.
const FAILED: &str = "the edge worker failed on this frame";

impl Request {
    /// Appends the features.
    fn decode(&self, features: &mut Vec<f32>) -> Result<(), PayloadError> {
        let mut values = Vec::new();
        self.point.decoder.decode(&self.payload, &mut values)?;
        features.extend_from_slice(&values);
        Ok(())
    }

    fn refuse(&self, code: ErrorCode, text: String) {
        self.metrics.error(code);
        let id = Some(self.id);
        self.answer(ServerMessage::Error { id, code, text });
    }

    fn answer(&self, message: ServerMessage) {
        // A connection that ended meanwhile needs no answer.
        let _ = self.answers.try_send(Answer { id: self.id, message });
    }
}

/// Answers all of a batch, whose tail took so long.
fn answer_all(decoded: &[(&Request, Duration)], logits: &[f32], tail: Duration) {
    let now = Instant::now();
    let share = share(tail, decoded.len());
    let classes = logits.len() / decoded.len();
    for ((request, decode), logits) in decoded.iter().zip(logits.chunks_exact(classes)) {
        let decode = *decode;
        request.point.tail.observe(decode + share);
        let queue = (now - request.received).saturating_sub(decode + share);
        let times = Times {
            queue,
            decode,
            tail: share,
        };
        request.metrics.served(&request.point, &times, decoded.len());
        request.answer(ServerMessage::Result(InferResult {
            id: request.id,
            top: top_classes(logits),
            queue_us: micros(times.queue),
            decode_us: micros(times.decode),
            tail_us: micros(times.tail),
        }));
    }
}

/// The time of one of so many that ran together.
fn share(together: Duration, count: usize) -> Duration {
    together / u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// Where a request's time went.
pub(crate) struct Times {
    /// Waiting for its turn, and for others of its batch.
    pub(crate) queue: Duration,
    /// Decoding the payload.
    pub(crate) decode: Duration,
    /// Its share of running the tail.
    pub(crate) tail: Duration,
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use split_tests::toy::{INPUT, Recipe, Toy};

    use super::*;
    use crate::{Limits, limits::Addresses, series::Series};

    #[test]
    fn work_that_fails_counts_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        Toy::new(&Recipe::default()).unwrap().write(folder.path()).unwrap();
        let series = Series::load(folder.path(), &[]).unwrap();
        let address = [10, 0, 0, 1].into();
        let socket = Addresses::new(&Limits::default())
            .open(address, Instant::now())
            .unwrap();
        let (answers, mut received) = mpsc::channel(100);
        let request = || Request {
            id: 1,
            client: Client { address, connection: 1 },
            point: series.point(INPUT).unwrap().clone(),
            payload: Bytes::from_static(b"no image"),
            held: socket.address.hold(8).unwrap(),
            received: Instant::now(),
            answers: answers.clone(),
            metrics: Arc::new(Metrics::new().unwrap()),
        };
        let service = || request().point.tail.service();
        // What was measured while other tails were loaded counts no more once a request has been.
        let loading = service();
        request().point.tail.observe(loading / 8);
        assert!(service() < loading / 4, "{:?} of {loading:?}", service());
        // One that panics after a second makes the next ones look longer, until they turn out to be short.
        request().panicked(Duration::from_secs(1));
        let long = service();
        assert!(long >= Duration::from_millis(100), "{long:?}");
        for _ in 0..20 {
            Request::run(&[request()]);
        }
        assert!(service() < long / 4, "{:?}", service());
        let mut answered = 0;
        while let Ok(answer) = received.try_recv() {
            assert!(matches!(answer.message, ServerMessage::Error { .. }));
            answered += 1;
        }
        assert_eq!(answered, 21);
    }
}
