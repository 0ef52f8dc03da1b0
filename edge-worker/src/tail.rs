//! Tails: networks from a split point to the classifier, shared by every request that needs them.
//!
//! A variant that is cut at several split points has tails that end alike. So each variant is divided at all its cuts into
//! *pieces*, and a tail is the pieces behind its cut: the weights of a piece are in memory once, however many tails and
//! variants contain it. Segments that no cut separates are joined and optimised as one. How much several images gain from going through a
//! piece together is measured when it is loaded.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use split_core::{Digest, Shape, manifest::Segment};
use split_runtime::{LoadError, Network, RunError};

/// A network from a split point to the logits.
pub(crate) struct Tail {
    input: Shape,
    pieces: Vec<Arc<Piece>>,
    /// Moving average of decoding and running one image, in nanoseconds.
    service_ns: AtomicU64,
    /// How many requests are in it, up to [`AVERAGED`].
    observed: AtomicU64,
}

/// A tail's expected time is an average over about this many requests. The first request replaces what warming up measured: that may be several times too long,
/// since other tails are loaded at the same time, and requests would be refused for it.
const AVERAGED: u64 = 8;

/// Networks of the same weights: at least one, and as many as ever ran at once.
pub(crate) struct Piece {
    idle: Mutex<Vec<Network>>,
    output: Shape,
    gains_from_batches: bool,
}

impl Tail {
    /// Runs `batch` images or their features, `[C, H, W]` one after another, to their logits.
    pub(crate) fn run(&self, batch: usize, input: &[f32], logits: &mut Vec<f32>) -> Result<(), RunError> {
        logits.clear();
        logits.extend_from_slice(input);
        let mut values = Vec::new();
        for piece in &self.pieces {
            std::mem::swap(&mut values, logits);
            piece.run(batch, &values, logits)?;
        }
        Ok(())
    }

    /// Whether several images take less time together than one after the other.
    pub(crate) fn gains_from_batches(&self) -> bool {
        self.pieces.iter().any(|it| it.gains_from_batches)
    }

    /// How long a request is expected to take once it is its turn.
    pub(crate) fn service(&self) -> Duration {
        Duration::from_nanos(self.service_ns.load(Ordering::Relaxed))
    }

    /// Takes note of how long a request took.
    pub(crate) fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // A lost update between two threads only loses one sample of the average.
        let before = self.service_ns.load(Ordering::Relaxed);
        let observed = (self.observed.load(Ordering::Relaxed) + 1).min(AVERAGED);
        let after = before - before / observed + took / observed;
        self.service_ns.store(after, Ordering::Relaxed);
        self.observed.store(observed, Ordering::Relaxed);
    }

    /// Runs once on zeros, so that the first request pays for no page fault, and the first estimate is a measured one.
    pub(crate) fn warm_up(&self) -> Result<Vec<f32>, RunError> {
        let zeros = vec![0.0; self.input.values()];
        let mut logits = Vec::new();
        self.run(1, &zeros, &mut logits)?;
        let started = Instant::now();
        self.run(1, &zeros, &mut logits)?;
        let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.service_ns.store(took, Ordering::Relaxed);
        Ok(logits)
    }
}

impl Piece {
    fn run(&self, batch: usize, input: &[f32], output: &mut Vec<f32>) -> Result<(), RunError> {
        // A network that panics or fails is not put back.
        let mut network = self.take();
        network.run(batch, input, output)?;
        self.idle().push(network);
        Ok(())
    }

    /// The network that ran last, whose maps are in the caches; a copy of the last one that is idle, so that there is always one to copy.
    fn take(&self) -> Network {
        let mut idle = self.idle();
        match idle.len() {
            1 => idle[0].clone(),
            last => idle.swap_remove(last - 1),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Network>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pieces by the shape of their input and their segments.
pub(crate) type Pieces = HashMap<(Shape, Vec<Digest>), Arc<Piece>>;

/// Builds tails, loading every piece once.
pub(crate) struct Builder {
    known: Pieces,
    used: Pieces,
}

impl Builder {
    /// Uses the pieces of others where they are the same.
    pub(crate) fn new(known: Pieces) -> Self {
        Self {
            known,
            used: Pieces::new(),
        }
    }

    /// The pieces of the tails that were built.
    pub(crate) fn used(self) -> Pieces {
        self.used
    }

    /// The tail behind the first `from` of these segments, divided at `cuts` (which are sorted).
    ///
    /// `input` is what the first segment of all takes, `bytes` gives the files.
    pub(crate) fn tail(
        &mut self,
        input: Shape,
        segments: &[Segment],
        from: usize,
        cuts: &[usize],
        bytes: &HashMap<Digest, Bytes>,
    ) -> Result<Tail, LoadError> {
        let input = from.checked_sub(1).map_or(input, |it| segments[it].output);
        let later = cuts.iter().copied().filter(|it| *it > from).chain([segments.len()]);
        let mut pieces: Vec<Arc<Piece>> = Vec::new();
        let mut start = from;
        for end in later {
            let shape = pieces.last().map_or(input, |it| it.output);
            pieces.push(self.piece(shape, &segments[start..end], bytes)?);
            start = end;
        }
        Ok(Tail {
            input,
            pieces,
            service_ns: AtomicU64::new(0),
            observed: AtomicU64::new(0),
        })
    }

    fn piece(
        &mut self,
        input: Shape,
        segments: &[Segment],
        bytes: &HashMap<Digest, Bytes>,
    ) -> Result<Arc<Piece>, LoadError> {
        let key = (input, segments.iter().map(|it| it.sha256).collect());
        if let Some(piece) = self.used.get(&key).or_else(|| self.known.get(&key)).cloned() {
            self.used.insert(key, piece.clone());
            return Ok(piece);
        }
        let files = segments.iter().filter_map(|it| bytes.get(&it.sha256)).map(|it| &it[..]);
        let started = Instant::now();
        let network = Network::load_for_batches(input, files, || started.elapsed())?;
        let piece = Arc::new(Piece {
            output: network.output(),
            gains_from_batches: network.gains_from_batches(),
            idle: Mutex::new(vec![network]),
        });
        self.used.insert(key, piece.clone());
        Ok(piece)
    }
}
