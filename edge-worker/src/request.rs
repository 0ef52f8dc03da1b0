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

use crate::{metrics::Metrics, pool::Work, series::Point};

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

    fn run(&mut self, batch: usize) {
        if self.answers.is_closed() {
            return;
        }
        let message = match self.infer(batch) {
            Ok(result) => ServerMessage::Result(result),
            Err((code, text)) => self.error(code, text),
        };
        self.answer(message);
    }

    fn panicked(&mut self) {
        self.metrics.panics.inc();
        self.answer(self.error(ErrorCode::Internal, "the edge worker failed on this frame".into()));
    }
}

impl Request {
    fn infer(&self, batch: usize) -> Result<InferResult, (ErrorCode, String)> {
        let started = Instant::now();
        let mut values = Vec::new();
        let decoded = self.point.decoder.decode(&self.payload, &mut values);
        decoded.map_err(|it| (ErrorCode::BadPayload, it.to_string()))?;
        let decoded = Instant::now();
        let mut logits = Vec::new();
        self.point.tail.run(&values, &mut logits).map_err(|error| {
            tracing::error!(%error, variant = self.point.variant, split = self.point.split, "a tail failed");
            (ErrorCode::Internal, "the edge worker failed on this frame".into())
        })?;
        let done = Instant::now();
        self.point.tail.observe(done - started);
        let times = Times {
            queue: started - self.received,
            decode: decoded - started,
            tail: done - decoded,
        };
        self.metrics.served(&self.point, &times, batch);
        Ok(InferResult {
            id: self.id,
            top: top_classes(&logits),
            queue_us: micros(times.queue),
            decode_us: micros(times.decode),
            tail_us: micros(times.tail),
        })
    }

    fn error(&self, code: ErrorCode, text: String) -> ServerMessage {
        self.metrics.error(code);
        ServerMessage::Error {
            id: Some(self.id),
            code,
            text,
        }
    }

    fn answer(&self, message: ServerMessage) {
        // A connection that ended meanwhile needs no answer.
        let _ = self.answers.try_send(Answer { id: self.id, message });
    }
}

/// Where a request's time went.
pub(crate) struct Times {
    /// Waiting for a thread.
    pub(crate) queue: Duration,
    /// Decoding the payload.
    pub(crate) decode: Duration,
    /// Running the tail.
    pub(crate) tail: Duration,
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
