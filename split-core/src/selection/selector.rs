//! Everything that one client knows, and what it makes of it.

use std::time::Duration;

use super::{
    Candidate, Conditions, EdgeEstimator, LatencyProfile, LinkEstimate, LinkEstimator, LinkSample, Requirement,
    Selection, select, traffic::Traffic,
};
use crate::{Manifest, manifest::Segment, wire::InferResult};

/// An answer that is later than expected by more than this says that the link has become slower, before it is there.
const LATE: Duration = Duration::from_millis(300);

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

/// A request whose answer has not come yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unanswered {
    /// Its operating point; none for a probe.
    pub point: Option<usize>,
    /// Size of its message in bytes.
    pub message_bytes: usize,
    /// When it was sent.
    pub sent: Duration,
}

/// The estimators of one client, and the operating point in use.
///
/// Times are given by the caller: `now` is any clock that does not run backwards.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Head and tail of each operating point; see [`Segment::work`].
    work: Vec<(u64, u64)>,
    profile: LatencyProfile,
    link: Option<LinkEstimator>,
    edge: EdgeEstimator,
    requirement: Option<Requirement>,
    current: Option<usize>,
    traffic: Traffic,
}

impl Selector {
    /// A selector that knows nothing yet but the manifest.
    pub fn new(manifest: &Manifest) -> Self {
        let sum = |segments: &[Segment]| segments.iter().map(Segment::work).sum();
        let work = |point| manifest.cut(point).map_or((0, 0), |cut| (sum(cut.head), sum(cut.tail)));
        Self {
            work: manifest.operating_points.iter().map(work).collect(),
            profile: LatencyProfile::default(),
            link: None,
            edge: EdgeEstimator::default(),
            requirement: None,
            current: None,
            traffic: Traffic::default(),
        }
    }

    /// Starts from what an earlier visit learnt of this device.
    pub fn set_profile(&mut self, profile: LatencyProfile) {
        self.profile = profile;
    }

    /// The point in use: the latest selected or set.
    pub fn current(&self) -> Option<usize> {
        self.current
    }

    /// Says that a point is in use that was not selected here.
    pub fn set_current(&mut self, point: Option<usize>) {
        self.current = point;
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
        if let Some(&(head, _)) = self.work.get(point) {
            self.profile.record(head, elapsed);
        }
    }

    /// Takes an answer of the edge that arrived at `now`; returns what of the time the link took.
    pub fn record_answer(&mut self, now: Duration, answer: Answer, result: &InferResult) -> Duration {
        let micros = |it: u32| Duration::from_micros(it.into());
        let (queue, work) = (
            micros(result.queue_us),
            micros(result.decode_us) + micros(result.tail_us),
        );
        if let Some(&(_, tail)) = self.work.get(answer.point) {
            self.edge.record(now, answer.point as u16, tail, queue, work);
        }
        self.traffic.record(now, answer.message_bytes);
        let sample = LinkSample {
            message_bytes: answer.message_bytes,
            elapsed: answer.elapsed.saturating_sub(queue + work),
        };
        self.record_probe(now, sample);
        sample.elapsed
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
        let traffic = self.traffic.rate(now);
        self.link.as_mut()?.probe_bytes(now, traffic)
    }

    /// What is known of the link.
    pub fn link(&self) -> Option<LinkEstimate> {
        self.link.as_ref()?.estimate()
    }

    /// What is known of this device, to be kept for the next visit.
    pub fn profile(&self) -> &LatencyProfile {
        &self.profile
    }

    /// Chooses the operating point for the next frame.
    ///
    /// `oldest` is the oldest request without answer: a link that has gone silent counts as one whose round trip is as long as the silence.
    /// `missing_bytes` says what has still to be downloaded for a point's head; none, that the point may not be chosen. A changed requirement
    /// is followed without hysteresis. None if no point can be used at all: without a connection and without an `output` point.
    pub fn select(
        &mut self,
        manifest: &Manifest,
        now: Duration,
        requirement: Requirement,
        oldest: Option<Unanswered>,
        missing_bytes: impl Fn(usize) -> Option<u64>,
    ) -> Option<Selection> {
        let candidate = |(index, &(head, tail)): (usize, &(u64, u64))| {
            let missing = missing_bytes(index);
            Candidate {
                device: self.profile.predict(head),
                edge: self.edge.decode_and_tail(now, index as u16, tail),
                missing_bytes: missing.unwrap_or_default(),
                usable: missing.is_some(),
            }
        };
        let conditions = Conditions {
            candidates: self.work.iter().enumerate().map(candidate).collect(),
            link: self.link().map(|it| self.at_least(it, now, oldest)),
            queue: self.edge.queue(now),
        };
        if self.requirement.replace(requirement) != Some(requirement) {
            self.current = None;
        }
        let selection = select(manifest, &conditions, requirement, self.current);
        self.current = selection.as_ref().map(|it| it.point);
        selection
    }

    /// The link, with a round trip no shorter than an answer has already been on its way.
    fn at_least(&self, link: LinkEstimate, now: Duration, oldest: Option<Unanswered>) -> LinkEstimate {
        let late = oldest.map_or(Duration::ZERO, |it| {
            let point = it.point.and_then(|point| Some((point, self.work.get(point)?.1)));
            let edge = point.map_or(Duration::ZERO, |(point, tail)| {
                self.edge.queue(now) + self.edge.decode_and_tail(now, point as u16, tail)
            });
            let sending = Duration::from_secs_f64(it.message_bytes as f64 / link.rate_bytes_per_second);
            now.saturating_sub(it.sent + sending + link.round_trip + edge)
        });
        LinkEstimate {
            round_trip: link.round_trip + if late > LATE { late } else { Duration::ZERO },
            ..link
        }
    }
}
