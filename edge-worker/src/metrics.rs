//! What is counted, for Prometheus.
//!
//! Labels are bounded: variants and split points are those of the series, kinds of errors those of the protocol.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    core::Collector,
};
use split_core::wire::ErrorCode;

use crate::{refusals::Refusals, request::Times, series::Point};

/// Upper bounds of the buckets of times, in seconds.
const SECONDS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];
/// Upper bounds of the buckets of batch sizes.
const BATCHES: [f64; 5] = [1.0, 2.0, 4.0, 6.0, 8.0];

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    results: IntCounterVec,
    errors: IntCounterVec,
    queue: HistogramVec,
    decode: HistogramVec,
    tail: HistogramVec,
    batch: HistogramVec,
    busy: IntCounterVec,
    /// Panics caught in the pool.
    pub(crate) panics: IntCounter,
    /// Bytes of messages received.
    pub(crate) bytes_in: IntCounter,
    /// Bytes of messages sent.
    pub(crate) bytes_out: IntCounter,
    /// Connections open, WebSocket or not.
    pub(crate) connections: IntGauge,
    /// Connections and upgrades refused by a limit.
    pub(crate) refused: IntCounter,
    /// Handshakes refused, by reason.
    pub(crate) refusals: Refusals,
    /// Reloads that succeeded.
    pub(crate) reloads: IntCounter,
    /// Reloads that failed.
    pub(crate) reload_failures: IntCounter,
    /// Requests in the queue. Set when the metrics are read.
    pub(crate) waiting: IntGauge,
    /// How long everything in the queue takes to work off, in microseconds. Set when the metrics are read.
    pub(crate) predicted_wait: IntGauge,
}

impl Metrics {
    /// Counters at zero.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let by_point = &["variant", "split"];
        let counter = |name, help| register(&registry, IntCounter::new(name, help));
        let gauge = |name, help| register(&registry, IntGauge::new(name, help));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(&registry, HistogramVec::new(options, by_point))
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        Ok(Self {
            results: counters("edge_results_total", "Frames answered with a result.", by_point)?,
            errors: counters("edge_errors_total", "Errors sent to clients, by kind.", &["code"])?,
            queue: histogram(
                "edge_queue_seconds",
                "Time a frame waited for its turn, and for others of its batch.",
                &SECONDS,
            )?,
            decode: histogram("edge_decode_seconds", "Time to decode a payload.", &SECONDS)?,
            tail: histogram(
                "edge_tail_seconds",
                "A frame's share of the time to run its batch through the tail.",
                &SECONDS,
            )?,
            batch: histogram("edge_batch_size", "Frames that ran together.", &BATCHES)?,
            busy: counters("edge_busy_total", "Frames refused for want of capacity.", by_point)?,
            panics: counter("edge_panics_total", "Panics caught while serving a frame.")?,
            bytes_in: counter("edge_received_bytes_total", "Bytes of WebSocket messages received.")?,
            bytes_out: counter("edge_sent_bytes_total", "Bytes of WebSocket messages sent.")?,
            connections: gauge("edge_connections", "Open connections, those of operators included.")?,
            refused: counter("edge_refused_total", "Connections and upgrades refused by a limit.")?,
            refusals: Refusals::new(counters(
                "edge_handshakes_refused_total",
                "Handshakes refused, and clients whose proxies do not say who they are, by reason.",
                &["reason"],
            )?),
            reloads: counter("edge_reloads_total", "Reloads that succeeded.")?,
            reload_failures: counter(
                "edge_reload_failures_total",
                "Reloads that left the old series in place.",
            )?,
            waiting: gauge("edge_waiting", "Frames that wait for their turn.")?,
            predicted_wait: gauge(
                "edge_predicted_wait_microseconds",
                "How long everything in the queue takes to work off.",
            )?,
            registry,
        })
    }

    /// Counts a result.
    pub(crate) fn served(&self, point: &Point, times: &Times, batch: usize) {
        let labels = [point.variant.as_str(), point.split.as_str()];
        self.results.with_label_values(&labels).inc();
        let observe = |of: &HistogramVec, value| of.with_label_values(&labels).observe(value);
        observe(&self.queue, times.queue.as_secs_f64());
        observe(&self.decode, times.decode.as_secs_f64());
        observe(&self.tail, times.tail.as_secs_f64());
        observe(&self.batch, batch as f64);
    }

    /// Counts a frame that was refused for want of capacity.
    pub(crate) fn refused_frame(&self, point: &Point) {
        self.busy.with_label_values(&[&point.variant, &point.split]).inc();
    }

    /// Counts an error.
    pub(crate) fn error(&self, code: ErrorCode) {
        self.errors.with_label_values(&[&format!("{code:?}")]).inc();
    }

    /// The text form that Prometheus reads.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: Result<C, prometheus::Error>,
) -> Result<C, prometheus::Error> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
