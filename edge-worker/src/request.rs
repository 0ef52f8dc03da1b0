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

use crate::{metrics::Metrics, payload::PayloadError, pool::Work, series::Point};

/// A payload to decode and to run through its tail.
pub(crate) struct Request {
    /// Names it on its connection.
    pub(crate) id: u8,
    /// Decoder and tail.
    pub(crate) point: Arc<Point>,
    /// As it came.
    pub(crate) payload: Bytes,
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
    fn group(&self) -> usize {
        Arc::as_ptr(&self.point.tail) as usize
    }

    fn cost(&self) -> Duration {
        self.point.tail.service()
    }

    fn run(batch: &[Self]) {
        let (mut decoded, mut refused, mut features) = (Vec::new(), Vec::new(), Vec::new());
        for request in batch.iter().filter(|it| !it.answers.is_closed()) {
            match request.decode(&mut features) {
                Ok(decode) => decoded.push((request, decode)),
                Err(error) => refused.push((request, error)),
            }
        }
        if let Some((first, _)) = decoded.first() {
            let (started, mut logits) = (Instant::now(), Vec::new());
            match first.point.tail.run(decoded.len(), &features, &mut logits) {
                Ok(()) => answer_all(&decoded, &logits, started.elapsed()),
                Err(error) => {
                    let point = &first.point;
                    tracing::error!(%error, variant = point.variant, split = point.split, "a tail failed");
                    for (request, _) in decoded {
                        request.refuse(ErrorCode::Internal, FAILED.into());
                    }
                }
            }
        }
        for (request, error) in refused {
            request.refuse(ErrorCode::BadPayload, error.to_string());
        }
    }

    fn panicked(&self) {
        self.metrics.panics.inc();
        self.refuse(ErrorCode::Internal, FAILED.into());
    }
}

/// What a client is told of a fault of ours.
const FAILED: &str = "the edge worker failed on this frame";

impl Request {
    /// Appends the features; says how long it took.
    fn decode(&self, features: &mut Vec<f32>) -> Result<Duration, PayloadError> {
        let started = Instant::now();
        let mut values = Vec::new();
        self.point.decoder.decode(&self.payload, &mut values)?;
        features.extend_from_slice(&values);
        Ok(started.elapsed())
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
    let share = tail / u32::try_from(decoded.len()).unwrap_or(u32::MAX);
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
