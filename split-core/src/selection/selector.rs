//! Everything that one client knows, and what it makes of it.

use std::{collections::VecDeque, time::Duration};

use super::{
    Candidate, Conditions, EdgeEstimator, LatencyProfile, LinkEstimate, LinkEstimator, LinkSample, Requirement,
    Selection, median, profile::push, select, traffic::Traffic,
};
use crate::{
    Manifest,
    manifest::{Segment, Split},
    wire::InferResult,
};

/// An answer that is later than expected by more than this says that the link has become slower, before it is there.
const LATE: Duration = Duration::from_millis(300);
/// Latest captures, whose median counts: it follows another source within four frames.
const CAPTURES: usize = 7;

/// One answered request, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Operating point of the request.
    pub point: usize,
    /// Size of the request's message in bytes.
    pub message_bytes: usize,
    /// When it was sent.
    pub sent: Duration,
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
    tasks: Vec<Task>,
    /// In seconds.
    captures: VecDeque<f64>,
    profile: LatencyProfile,
    link: Option<LinkEstimator>,
    edge: EdgeEstimator,
    current: Option<usize>,
    traffic: Traffic,
}

/// What there is to do at an operating point; see [`Segment::work`].
#[derive(Clone, Copy, Debug)]
struct Task {
    head: u64,
    tail: u64,
    /// Of the image to be coded, where one is sent.
    image_pixels: Option<usize>,
}

impl Selector {
    /// A selector that knows nothing yet but the manifest.
    pub fn new(manifest: &Manifest) -> Self {
        let sum = |segments: &[Segment]| segments.iter().map(Segment::work).sum();
        let tasks = manifest.operating_points.iter().map(|point| {
            let cut = manifest.cut(point);
            let sends_image = point.split == Split::Input;
            Task {
                head: cut.as_ref().map_or(0, |it| sum(it.head)),
                tail: cut.as_ref().map_or(0, |it| sum(it.tail)),
                image_pixels: cut.filter(|_| sends_image).map(|it| it.input.shape.positions()),
            }
        });
        Self {
            tasks: tasks.collect(),
            captures: VecDeque::new(),
            profile: LatencyProfile::default(),
            link: None,
            edge: EdgeEstimator::default(),
            current: None,
            traffic: Traffic::default(),
        }
    }

    /// Starts from what an earlier visit learnt of this device.
    pub fn set_profile(&mut self, profile: LatencyProfile) {
        self.profile = profile;
    }

    /// The point that the latest frame went through.
    pub fn current(&self) -> Option<usize> {
        self.current
    }

    /// Says which point a frame went through: it is not left for another that is hardly better. None: there is none to keep.
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

    /// Takes the time from a picture to the network's pixels, and that of an answer's way back to who asked.
    pub fn record_capture(&mut self, elapsed: Duration) {
        push(&mut self.captures, elapsed.as_secs_f64(), CAPTURES);
    }

    /// Takes the time from the network's pixels to payload (at `output`: to the probabilities).
    pub fn record_device(&mut self, point: usize, elapsed: Duration) {
        match self.tasks.get(point) {
            Some(&Task {
                image_pixels: Some(pixels),
                ..
            }) => self.profile.record_image(pixels, elapsed),
            Some(task) => self.profile.record(task.head, elapsed),
            None => {}
        }
    }

    /// Takes an answer of the edge that arrived at `now`; returns what of the time the link took.
    pub fn record_answer(&mut self, now: Duration, answer: Answer, result: &InferResult) -> Duration {
        let micros = |it: u32| Duration::from_micros(it.into());
        let (queue, work) = (
            micros(result.queue_us),
            micros(result.decode_us) + micros(result.tail_us),
        );
        if let Some(task) = self.tasks.get(answer.point) {
            self.edge.record(now, answer.point as u16, task.tail, queue, work);
        }
        self.traffic.record(now, answer.message_bytes);
        self.record_link(now, answer.message_bytes, answer.sent, queue + work)
    }

    /// Takes the answer to a probe of `message_bytes` bytes: when it arrived and when the probe was sent.
    pub fn record_probe(&mut self, now: Duration, message_bytes: usize, sent: Duration) {
        self.record_link(now, message_bytes, sent, Duration::ZERO);
    }

    fn record_link(&mut self, now: Duration, message_bytes: usize, sent: Duration, server: Duration) -> Duration {
        let elapsed = now.saturating_sub(sent + server);
        if let Some(link) = &mut self.link {
            let sample = LinkSample {
                message_bytes,
                sent,
                elapsed,
            };
            link.record(now, sample);
        }
        elapsed
    }

    /// When the oldest message without an answer, which was sent then, had the link to itself: not before the earlier ones had left it.
    pub fn begun(&self, sent: Duration) -> Duration {
        self.link.as_ref().map_or(sent, |it| it.begun(sent))
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

    /// Chooses the operating point for the next frame; [`set_current`](Self::set_current) is to be told which one it went through.
    ///
    /// `oldest` is the oldest request without answer: a link that has gone silent counts as one whose round trip is as long as the silence.
    /// `missing_bytes` says what has still to be downloaded for a point's head; none, that the point may not be chosen. None if no point can be used
    /// at all: without a connection and without an `output` point.
    pub fn select(
        &self,
        manifest: &Manifest,
        now: Duration,
        requirement: Requirement,
        oldest: Option<Unanswered>,
        missing_bytes: impl Fn(usize) -> Option<u64>,
    ) -> Option<Selection> {
        let candidate = |(index, task): (usize, &Task)| {
            let missing = missing_bytes(index);
            Candidate {
                device: self.device(task),
                edge: self.edge.decode_and_tail(now, index as u16, task.tail),
                missing_bytes: missing.unwrap_or_default(),
                usable: missing.is_some(),
            }
        };
        let mut captures: Vec<f64> = self.captures.iter().copied().collect();
        let conditions = Conditions {
            candidates: self.tasks.iter().enumerate().map(candidate).collect(),
            capture: Duration::from_secs_f64(median(&mut captures).unwrap_or_default()),
            link: self.link().map(|it| self.at_least(it, now, oldest)),
            queue: self.edge.queue(now),
        };
        select(manifest, &conditions, requirement, self.current)
    }

    fn device(&self, task: &Task) -> Duration {
        match task.image_pixels {
            Some(pixels) => self.profile.predict_image(pixels),
            None => self.profile.predict(task.head),
        }
    }

    /// The link, with a round trip no shorter than an answer has already been on its way.
    fn at_least(&self, link: LinkEstimate, now: Duration, oldest: Option<Unanswered>) -> LinkEstimate {
        let late = oldest.map_or(Duration::ZERO, |it| {
            let point = it.point.and_then(|point| Some((point, self.tasks.get(point)?.tail)));
            let edge = point.map_or(Duration::ZERO, |(point, tail)| {
                self.edge.queue(now) + self.edge.decode_and_tail(now, point as u16, tail)
            });
            let sending = Duration::from_secs_f64(it.message_bytes as f64 / link.rate_bytes_per_second);
            now.saturating_sub(self.begun(it.sent) + sending + link.round_trip + edge)
        });
        LinkEstimate {
            round_trip: link.round_trip + if late > LATE { late } else { Duration::ZERO },
            ..link
        }
    }
}
