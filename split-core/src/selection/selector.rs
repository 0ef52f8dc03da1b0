//! Everything that one client knows, and what it makes of it.

use std::time::Duration;

use super::{
    Candidate, Conditions, EdgeEstimator, LatencyProfile, LinkEstimate, LinkEstimator, LinkSample, Requirement,
    Selection, select,
};
use crate::{Manifest, manifest::Codec, wire::InferResult};

/// Frames whose bytes tell the present traffic.
const TRAFFIC_WEIGHT: f64 = 0.1;

/// One answered request, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Operating point of the request.
    pub point: usize,
    /// Size of the request's message in bytes.
    pub message_bytes: usize,
    /// From sending to the answer.
    pub elapsed: Duration,
}

/// The estimators of one client, and the operating point in use.
///
/// Times are given by the caller: `now` is any clock that does not run backwards.
#[derive(Clone, Debug)]
pub struct Selector {
    requirement: Requirement,
    /// Of each operating point: head and tail in MACs, and whether it may be chosen.
    points: Vec<(u64, u64, bool)>,
    profile: LatencyProfile,
    link: Option<LinkEstimator>,
    edge: EdgeEstimator,
    current: Option<usize>,
    traffic: f64,
    last_message: Option<Duration>,
}

impl Selector {
    /// A selector that knows nothing yet but the manifest and, from an earlier visit, the profile.
    ///
    /// Image points are not chosen before [`allow_images`](Self::allow_images).
    pub fn new(manifest: &Manifest, requirement: Requirement, profile: LatencyProfile) -> Self {
        let macs = |segments: &[crate::manifest::Segment]| segments.iter().map(|it| it.macs).sum();
        let points = manifest.operating_points.iter().map(|it| {
            let image = matches!(it.codec, Codec::Image { .. });
            manifest
                .cut(it)
                .map_or((0, 0, false), |cut| (macs(cut.head), macs(cut.tail), !image))
        });
        Self {
            requirement,
            points: points.collect(),
            profile,
            link: None,
            edge: EdgeEstimator::default(),
            current: None,
            traffic: 0.0,
            last_message: None,
        }
    }

    /// What is wanted.
    pub fn requirement(&self) -> Requirement {
        self.requirement
    }

    /// Changes what is wanted; the next selection follows it without hysteresis.
    pub fn set_requirement(&mut self, requirement: Requirement) {
        self.requirement = requirement;
        self.current = None;
    }

    /// Says which operating points with an image codec this browser can encode.
    pub fn allow_images(&mut self, manifest: &Manifest, supported: impl Fn(crate::manifest::ImageFormat) -> bool) {
        for (point, entry) in manifest.operating_points.iter().zip(&mut self.points) {
            if let Codec::Image { format, .. } = point.codec {
                entry.2 = supported(format);
            }
        }
    }

    /// Takes a point out of the choice, because its head cannot be loaded.
    pub fn forbid(&mut self, point: usize) {
        if let Some(entry) = self.points.get_mut(point) {
            entry.2 = false;
        }
    }

    /// A connection is ready: nothing is known of its link yet.
    pub fn connected(&mut self) {
        self.link = Some(LinkEstimator::default());
        self.edge = EdgeEstimator::default();
    }

    /// The connection is gone: only `output` can be chosen.
    pub fn disconnected(&mut self) {
        self.link = None;
    }

    /// Takes the time from frame to payload (at `output`: to the probabilities).
    pub fn record_device(&mut self, point: usize, elapsed: Duration) {
        if let Some(&(head, ..)) = self.points.get(point) {
            self.profile.record(head, elapsed);
        }
    }

    /// Takes an answer of the edge that arrived at `now`.
    pub fn record_answer(&mut self, now: Duration, answer: Answer, result: &InferResult) {
        let micros = |it: u32| Duration::from_micros(it.into());
        let work = micros(result.decode_us) + micros(result.tail_us);
        let Some(&(_, tail, _)) = self.points.get(answer.point) else {
            return;
        };
        self.edge
            .record(answer.point as u16, tail, micros(result.queue_us), work);
        self.record_traffic(now, answer.message_bytes);
        let elapsed = answer.elapsed.saturating_sub(micros(result.queue_us) + work);
        self.record_probe(
            now,
            LinkSample {
                message_bytes: answer.message_bytes,
                elapsed,
            },
        );
    }

    /// Takes the answer to a probe.
    pub fn record_probe(&mut self, now: Duration, sample: LinkSample) {
        if let Some(link) = &mut self.link {
            link.record(now, sample);
        }
    }

    /// Takes a refusal for want of capacity.
    pub fn record_busy(&mut self, now: Duration, retry: Duration) {
        self.edge.record_busy(now, retry);
    }

    /// Padding of the probe that should go out now, if any. None without a connection.
    pub fn probe_bytes(&mut self, now: Duration) -> Option<usize> {
        self.link.as_mut()?.probe_bytes(now, self.traffic)
    }

    /// What is known of the link.
    pub fn link(&self) -> Option<LinkEstimate> {
        self.link.as_ref()?.estimate()
    }

    /// What is known of this device, to be kept for the next visit.
    pub fn profile(&self) -> &LatencyProfile {
        &self.profile
    }

    /// Expected time of a point's head on this device.
    pub fn predict_device(&self, point: usize) -> Duration {
        self.points
            .get(point)
            .map_or(Duration::ZERO, |it| self.profile.predict(it.0))
    }

    /// Chooses the operating point for the next frame.
    ///
    /// `missing_bytes` says what has still to be downloaded for a point's head. None if no point can be used at all: without a connection and without an `output` point.
    pub fn select(
        &mut self,
        manifest: &Manifest,
        now: Duration,
        missing_bytes: impl Fn(usize) -> u64,
    ) -> Option<Selection> {
        let candidate = |(index, &(head, tail, usable)): (usize, &(u64, u64, bool))| Candidate {
            device: self.profile.predict(head),
            edge: self.edge.decode_and_tail(index as u16, tail),
            missing_bytes: missing_bytes(index),
            usable,
        };
        let conditions = Conditions {
            candidates: self.points.iter().enumerate().map(candidate).collect(),
            link: self.link(),
            queue: self.edge.queue(now),
        };
        let selection = select(manifest, &conditions, self.requirement, self.current)?;
        self.current = Some(selection.point);
        Some(selection)
    }

    fn record_traffic(&mut self, now: Duration, bytes: usize) {
        if let Some(last) = self.last_message.replace(now) {
            let pause = now.saturating_sub(last).as_secs_f64().max(1e-3);
            self.traffic += TRAFFIC_WEIGHT * (bytes as f64 / pause - self.traffic);
        }
    }
}
