//! The client without browser: device, session and selection brought together.
//!
//! The caller moves bytes: messages to and from a socket, files from a download, frames from a camera. See the crate's tour.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use split_core::{
    Digest, Manifest,
    manifest::{Codec, File, ImageFormat},
    rates::Meter,
    selection::{Answer, LatencyProfile, LinkEstimate, LinkSample, Selection, Selector, Unanswered},
    session::{Event, SendError, Session},
    wire::{ClassProbability, ClientMessage, InferResult, Welcome},
};

use crate::{
    device::{Clock, Device, DeviceStages, Product, cut, is_local},
    error::{ClientError, error_code},
    goal::{Among, DEFAULT_LOSS, Goal},
    timing::Timing,
};

/// An answer that takes longer than this will not come: the connection counts as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// No edge worker is left alone for longer, whatever it says.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// An answer that is later than expected by this much makes frames run on the device until something is heard again.
const SILENCE: Duration = Duration::from_secs(1);
/// How long after the last frame the link is still measured: a slow device may take as long for one.
const MEASURED: Duration = Duration::from_secs(3);
/// How long a head that could not be had is left alone at first; every further failure doubles it…
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Everything a client knows and decides.
#[derive(Debug)]
pub struct Engine {
    manifest: Manifest,
    digest: Digest,
    clock: Clock,
    device: Device,
    timing: Timing,
    selector: Selector,
    goal: Goal,
    selection: Option<Selection>,
    /// Points that can never be used here.
    unusable: HashSet<usize>,
    /// Points whose heads could not be had: how often in a row, and until when they are left alone.
    failed: HashMap<usize, (u32, Duration)>,
    /// Whether a frame was computed or sent since the last look at the link, and when that last was so.
    was_active: bool,
    active: Option<Duration>,
    /// Whether a frame is being prepared that will need a request.
    reserved: bool,
    connection: Option<Connection>,
    /// Requests of a connection that the edge worker moved, to be sent again over the next one.
    unsent: VecDeque<Waiting>,
    message: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    session: Session,
    waiting: HashMap<u8, Waiting>,
    opened: Duration,
    /// Counts against the rates that the edge worker announced; none before its `Welcome`.
    meter: Option<Meter>,
    /// Until then the edge worker has no capacity, by its own prediction.
    busy_until: Duration,
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Waiting {
    /// None for a probe.
    frame: Option<Frame>,
    sent: Duration,
    /// As it was sent.
    message: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    number: u32,
    point: usize,
    stages: DeviceStages,
}

/// Where the time of one frame went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// On the device.
    pub device: DeviceStages,
    /// On the link, both ways: all between sending and the answer that the edge worker did not need itself.
    pub network: Duration,
    /// Waiting for a processor of the edge.
    pub queue: Duration,
    /// Decoding on the edge.
    pub decode: Duration,
    /// The tail.
    pub tail: Duration,
}

/// The answer to one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameResult {
    /// The caller's number of the frame.
    pub frame: u32,
    /// The operating point that it went through.
    pub point: usize,
    /// The most likely classes, best first.
    pub top: Vec<ClassProbability>,
    /// Where the time went.
    pub stages: Stages,
    /// Size of the message that went out, 0 if none did.
    pub message_bytes: usize,
}

/// What a message of the edge worker means for the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Frames may be sent now.
    Open(Welcome),
    /// A frame's answer.
    Result(FrameResult),
    /// The edge worker has no capacity for this frame.
    Busy {
        /// The caller's number of the frame.
        frame: u32,
        /// When asking again may help, in milliseconds from now.
        retry_ms: u32,
    },
    /// The edge worker could not serve this frame.
    Failed {
        /// The caller's number of the frame.
        frame: u32,
        /// A name for the kind of error.
        code: &'static str,
        /// For people.
        text: String,
    },
    /// An answer to a probe: the link is known better now.
    Probed,
}

impl Engine {
    /// An engine for the series of this manifest, given as the bytes of its file.
    pub fn new(manifest: &[u8], clock: Clock) -> Result<Self, ClientError> {
        let (digest, manifest) = (Digest::of(manifest), Manifest::parse(manifest)?);
        Ok(Self {
            digest,
            clock,
            device: Device::new(clock),
            timing: Timing::new(clock),
            selector: Selector::new(&manifest),
            goal: Goal::default_for(&manifest),
            selection: None,
            unusable: HashSet::new(),
            failed: HashMap::new(),
            was_active: false,
            active: None,
            reserved: false,
            connection: None,
            unsent: VecDeque::new(),
            message: Vec::new(),
            manifest,
        })
    }

    /// The series.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the manifest's file.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Files that the operating point still lacks here.
    pub fn missing(&self, point: usize) -> Result<Vec<File>, ClientError> {
        self.device.missing(&self.manifest, point)
    }

    /// Takes a downloaded file; see [`Device::add_file`].
    pub fn add_file(&mut self, expected: Digest, bytes: Vec<u8>) -> Result<(), ClientError> {
        self.device.add_file(expected, bytes)
    }

    /// Whether frames can run through the operating point at once.
    pub fn is_ready(&self, point: usize) -> bool {
        self.device.is_ready(&self.manifest, point)
    }

    /// Builds the operating point's codec, joins and warms up its head, and learns how long it takes here.
    pub fn prepare(&mut self, point: usize) -> Result<(), ClientError> {
        if let Some(elapsed) = self.device.prepare(&self.manifest, point, self.timing.enough())? {
            self.selector.record_device(point, elapsed);
        }
        self.failed.remove(&point);
        Ok(())
    }

    /// What was learnt of this device's speed; may be kept for the next visit.
    pub fn profile(&self) -> &LatencyProfile {
        self.selector.profile()
    }

    /// Starts from what an earlier visit learnt.
    pub fn set_profile(&mut self, profile: LatencyProfile) {
        self.selector.set_profile(profile);
    }

    /// Makes the device so many times as slow as it is; see [`Device::set_slowdown`].
    pub fn set_slowdown(&mut self, slowdown: f64) {
        self.device.set_slowdown(slowdown);
    }

    /// How many times as long everything takes on the device as it would.
    pub fn slowdown(&self) -> f64 {
        self.device.slowdown()
    }

    /// What the link is known to be like; none without a connection or before its first answers.
    pub fn link(&self) -> Option<LinkEstimate> {
        self.selector.link()
    }

    /// Excludes all points that need an image file of this format: the browser does not write it.
    pub fn exclude_format(&mut self, excluded: ImageFormat) {
        let points = self.manifest.operating_points.iter().enumerate();
        let affected = points.filter(|it| matches!(it.1.codec, Codec::Image { format, .. } if format == excluded));
        self.unusable.extend(affected.map(|it| it.0));
    }

    /// Excludes an operating point that can never be used here.
    pub fn exclude(&mut self, point: usize) {
        self.unusable.insert(point);
    }

    /// Leaves an operating point alone whose head could not be had: for two seconds, and twice as long after every further failure.
    pub fn fail(&mut self, point: usize) {
        let now = (self.clock)();
        let (failures, until) = self.failed.entry(point).or_default();
        *until = now + (FIRST_PAUSE * 2_u32.pow(*failures)).min(LONGEST_PAUSE);
        *failures = (*failures + 1).min(5);
    }

    /// Whether the head of an operating point may be asked for now.
    pub fn may_load(&self, point: usize) -> bool {
        !self.unusable.contains(&point) && !self.is_failing(point)
    }

    fn is_failing(&self, point: usize) -> bool {
        self.failed
            .get(&point)
            .is_some_and(|&(_, until)| (self.clock)() < until)
    }

    /// Changes how operating points are chosen. Returns the frames that wait to be sent again and, by this goal, are not to leave the device.
    pub fn set_goal(&mut self, goal: Goal) -> Result<Vec<u32>, ClientError> {
        if let Goal::Fixed { point } = goal {
            cut(&self.manifest, point)?;
        }
        if self.goal != goal {
            // A new goal is followed without hysteresis.
            self.selector.set_current(None);
        }
        self.goal = goal;
        let recalled = if self.may_send() {
            VecDeque::new()
        } else {
            std::mem::take(&mut self.unsent)
        };
        Ok(recalled.iter().map(Waiting::number).collect())
    }

    /// Whether the goal lets frames leave the device.
    fn may_send(&self) -> bool {
        match self.goal {
            Goal::Fixed { point } => !is_local(&self.manifest, point),
            Goal::LowestLatency { among, .. } | Goal::HighestAccuracy { among, .. } => among != Among::Device,
        }
    }

    /// How operating points are chosen.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// The latest choice with its reason; none while a fixed point is in use or nothing is known of the link yet.
    pub fn selection(&self) -> Option<&Selection> {
        self.selection.as_ref()
    }

    /// The operating point for the next frame; it counts as the one in use only once a frame went through it.
    ///
    /// Until the link has been measured the one in use stays, at first [`Manifest::default_point`]. Without a connection, while it is silent,
    /// and while a new one is being measured, only `output` can be chosen, whatever the goal: nothing waits for a dead link. The same
    /// holds while the head of a fixed point cannot be had. None if no point is usable, or the fixed one is not.
    pub fn choose(&mut self) -> Option<usize> {
        let now = (self.clock)();
        let linked = self.is_linked(now);
        if let Goal::Fixed { point } = self.goal
            && (linked || is_local(&self.manifest, point))
            && !self.is_failing(point)
        {
            self.selection = None;
            return Some(point).filter(|&it| self.may_use(it, Among::All));
        }
        let (requirement, among) = match self.goal.requirement() {
            Some((requirement, among)) if linked => (requirement, among),
            Some((requirement, _)) => (requirement, Among::All),
            None => (self.fallback()?, Among::All),
        };
        let usable = |point: &usize| self.may_use(*point, among) && (linked || is_local(&self.manifest, *point));
        if linked && self.link().is_none() && among != Among::Device {
            let used = self.selector.current();
            let used = used.filter(|it| usable(it) && !is_local(&self.manifest, *it));
            let start = used.or_else(|| self.first_guess(among));
            self.selection = None;
            return start;
        }
        let missing: Vec<Option<u64>> = (0..self.manifest.operating_points.len())
            .map(|point| {
                let missing = self.device.missing(&self.manifest, point).ok()?;
                usable(&point).then(|| missing.iter().map(|it| it.bytes).sum())
            })
            .collect();
        let (used, oldest) = (
            self.selector.current(),
            self.connection.as_ref().and_then(Connection::oldest),
        );
        self.selection = self
            .selector
            .select(&self.manifest, now, requirement, oldest, |point| missing[point]);
        self.selector.set_current(used);
        self.selection.as_ref().map(|it| it.point)
    }

    /// Whether frames may go over the link: it answers, and either it was measured or nothing else is ready.
    fn is_linked(&self, now: Duration) -> bool {
        let is_known = self.link().is_some() || !self.has_refuge();
        self.is_connected() && is_known && !self.is_silent(now)
    }

    /// Whether the device could do everything itself at once.
    fn has_refuge(&self) -> bool {
        let mut points = 0..self.manifest.operating_points.len();
        points.any(|it| is_local(&self.manifest, it) && self.may_use(it, Among::All) && self.is_ready(it))
    }

    /// Whether an answer is so late that it may never come.
    fn is_silent(&self, now: Duration) -> bool {
        let oldest = self.connection.as_ref().and_then(Connection::oldest);
        let expected = |bytes: usize| {
            self.link().map_or(Duration::ZERO, |it| {
                it.round_trip + Duration::from_secs_f64(bytes as f64 / it.rate_bytes_per_second)
            })
        };
        oldest.is_some_and(|it| now.saturating_sub(it.sent) > SILENCE + expected(it.message_bytes))
    }

    /// The point to start with.
    fn first_guess(&self, among: Among) -> Option<usize> {
        let points = 0..self.manifest.operating_points.len();
        self.manifest
            .default_point(DEFAULT_LOSS)
            .filter(|&it| self.may_use(it, among))
            .or_else(|| points.into_iter().find(|&it| self.may_use(it, among)))
    }

    /// What a fixed point becomes while there is no connection.
    fn fallback(&self) -> Option<split_core::selection::Requirement> {
        Goal::default_for(&self.manifest).requirement().map(|it| it.0)
    }

    fn may_use(&self, point: usize, among: Among) -> bool {
        among.has(&self.manifest.operating_points[point]) && self.may_load(point)
    }

    /// Starts a connection; returns its first message, to be sent once the socket is open.
    pub fn connect(&mut self, token: Option<String>) -> Vec<u8> {
        let session = Session::new(self.digest);
        let hello = session.hello(token);
        self.connection = Some(Connection {
            session,
            waiting: HashMap::new(),
            opened: (self.clock)(),
            meter: None,
            busy_until: Duration::ZERO,
        });
        self.selector.connected();
        hello
    }

    /// Ends the connection; returns the numbers of the frames whose answers will not come.
    pub fn disconnect(&mut self) -> Vec<u32> {
        self.selector.disconnected();
        let waiting = self.connection.take().map(|it| it.waiting).unwrap_or_default();
        let waiting = waiting.into_values().chain(self.unsent.drain(..));
        let mut frames: Vec<u32> = waiting.filter_map(|it| it.frame.map(|it| it.number)).collect();
        frames.sort_unstable();
        frames
    }

    /// Ends a connection that the edge worker closed with [`CLOSE_MOVED`](split_core::wire::CLOSE_MOVED).
    ///
    /// What it had not answered is kept, for [`resend`](Self::resend) over the next connection.
    pub fn moved(&mut self) {
        self.selector.disconnected();
        let waiting = self.connection.take().map(|it| it.waiting).unwrap_or_default();
        let mut waiting: Vec<Waiting> = waiting.into_values().filter(|it| it.frame.is_some()).collect();
        waiting.sort_by_key(|it| it.sent);
        self.unsent.extend(waiting);
    }

    /// Whether a request of a connection that was moved can be sent again now; if so, [`message`](Self::message) is to be sent.
    pub fn resend(&mut self) -> Result<bool, ClientError> {
        let now = (self.clock)();
        let ready = |it: &&mut Connection| it.session.has_credit() && it.pause(now).is_zero();
        let Some(connection) = self.connection.as_mut().filter(ready) else {
            return Ok(false);
        };
        let Some(waiting) = self.unsent.front() else {
            return Ok(false);
        };
        let Ok(ClientMessage::Infer { point, payload, .. }) = ClientMessage::decode(&waiting.message) else {
            return Ok(false);
        };
        let id = connection.session.infer(point, payload, &mut self.message)?;
        connection.sent(id, waiting.frame, now, &self.message);
        self.unsent.pop_front();
        Ok(true)
    }

    /// Whether the edge worker has welcomed the client.
    pub fn is_connected(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|it| it.session.welcome().is_some())
    }

    /// Whether another frame may go out now, or after the [`pause`](Self::pause).
    pub fn has_credit(&self) -> bool {
        self.unsent.is_empty() && self.connection.as_ref().is_some_and(|it| it.session.has_credit())
    }

    /// Keeps a request for the frame that is being prepared, which no probe takes meanwhile; or gives it back.
    pub fn reserve(&mut self, reserved: bool) {
        self.reserved = reserved;
    }

    /// How long no frame is to go out: the edge worker's rates do not allow one before, or it has said that it will be busy until then.
    pub fn pause(&self) -> Duration {
        let now = (self.clock)();
        self.connection.as_ref().map_or(Duration::ZERO, |it| {
            it.pause(now).max(it.busy_until.saturating_sub(now))
        })
    }

    /// Whether the edge worker has been silent for so long that the connection must be given up.
    pub fn is_overdue(&self) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        let since = match connection.session.welcome() {
            Some(_) => connection.oldest().map(|it| it.sent),
            None => Some(connection.opened),
        };
        since.is_some_and(|it| (self.clock)().saturating_sub(it) > ANSWER_LIMIT)
    }

    /// Runs one RGBA frame through an operating point.
    ///
    /// Returns the answer if everything runs here; otherwise [`message`](Self::message) is to be sent and the answer comes by [`receive`](Self::receive).
    pub fn infer(&mut self, frame: u32, point: usize, rgba: &[u8]) -> Result<Option<FrameResult>, ClientError> {
        self.check_goal(point)?;
        let (stages, product) = self.device.run(&self.manifest, point, rgba)?;
        if let Some(elapsed) = self.timing.mean(point, stages.total()) {
            self.selector.record_device(point, elapsed);
        }
        let stages = Stages {
            device: stages,
            ..Stages::default()
        };
        match product {
            Product::Classes(top) => {
                self.used(point);
                Ok(Some(FrameResult {
                    frame,
                    point,
                    top,
                    stages,
                    message_bytes: 0,
                }))
            }
            Product::Payload(payload) => {
                let connection = self.connection.as_mut().ok_or(ClientError::Offline)?;
                let id = connection.session.infer(point as u16, payload, &mut self.message)?;
                let frame = Frame {
                    number: frame,
                    point,
                    stages: stages.device,
                };
                connection.sent(id, Some(frame), (self.clock)(), &self.message);
                self.used(point);
                Ok(None)
            }
        }
    }

    /// Sends one frame as an image file that the browser wrote in `encode`: for operating points at the `input` split point.
    pub fn infer_image(&mut self, frame: u32, point: usize, image: &[u8], encode: Duration) -> Result<(), ClientError> {
        cut(&self.manifest, point)?;
        self.check_goal(point)?;
        let Codec::Image { .. } = self.manifest.operating_points[point].codec else {
            return Err(ClientError::WrongInput {
                point,
                got: "an image file",
            });
        };
        if let Some(elapsed) = self.timing.mean(point, encode) {
            self.selector.record_device(point, elapsed);
        }
        let connection = self.connection.as_mut().ok_or(ClientError::Offline)?;
        let id = connection.session.infer(point as u16, image, &mut self.message)?;
        let stages = DeviceStages {
            encode,
            ..DeviceStages::default()
        };
        let frame = Frame {
            number: frame,
            point,
            stages,
        };
        connection.sent(id, Some(frame), (self.clock)(), &self.message);
        self.used(point);
        Ok(())
    }

    /// The goal may have changed since the point was chosen: then no frame leaves any more.
    fn check_goal(&self, point: usize) -> Result<(), ClientError> {
        if is_local(&self.manifest, point) || self.may_send() {
            Ok(())
        } else {
            Err(ClientError::KeptHere)
        }
    }

    fn used(&mut self, point: usize) {
        self.was_active = true;
        self.selector.set_current(Some(point));
    }

    /// Whether a probe should go out now; if so, [`message`](Self::message) is to be sent. One at a time: on a slow link they would queue.
    ///
    /// A link that was measured once is measured again only while frames flow, and none that frames may not use.
    pub fn probe(&mut self) -> Result<bool, ClientError> {
        let now = (self.clock)();
        if std::mem::take(&mut self.was_active) {
            self.active = Some(now);
        }
        let is_active = self.active.is_some_and(|it| now.saturating_sub(it) < MEASURED);
        if !self.may_send() || !is_active && self.link().is_some() {
            return Ok(false);
        }
        let reserved = usize::from(self.reserved);
        let Some(connection) = self.connection.as_mut().filter(|it| it.may_probe(now, reserved)) else {
            return Ok(false);
        };
        // The estimator counts a probe as sent, so it is asked only when one can go out.
        let Some(padding) = self.selector.probe_bytes(now) else {
            return Ok(false);
        };
        for padding in [padding, 0] {
            match connection.session.probe(padding, &mut self.message) {
                Ok(id) => {
                    connection.sent(id, None, now, &self.message);
                    return Ok(true);
                }
                Err(SendError::TooLong { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// The message that the latest call made.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Makes sense of one message of the edge worker, which arrived at `at`: maybe while a head ran, and that time is not the link's.
    ///
    /// After an error the connection is of no use: close it.
    pub fn receive(&mut self, bytes: &[u8], at: Duration) -> Result<Notice, ClientError> {
        let now = (self.clock)();
        let at = at.min(now);
        let connection = self.connection.as_mut().ok_or(ClientError::Offline)?;
        let event = connection.session.receive(bytes)?;
        let taken = |connection: &mut Connection, id| connection.waiting.remove(&id).ok_or(ClientError::Offline);
        match event {
            Event::Welcome(welcome) => {
                let Welcome {
                    credit,
                    messages_per_second,
                    bytes_per_second,
                    ..
                } = welcome;
                if credit == 0 || messages_per_second == 0 || bytes_per_second == 0 {
                    return Err(ClientError::NothingGranted);
                }
                let meter = Meter::pacing(messages_per_second, bytes_per_second, now);
                connection.meter = Some(meter);
                Ok(Notice::Open(welcome))
            }
            Event::ProbeAck { id } => {
                let waiting = taken(connection, id)?;
                let sample = LinkSample {
                    message_bytes: waiting.message.len(),
                    elapsed: at.saturating_sub(waiting.sent),
                };
                self.selector.record_probe(at, sample);
                Ok(Notice::Probed)
            }
            Event::Busy { id, retry_ms } => {
                let retry = Duration::from_millis(u64::from(retry_ms)).min(BUSY_LIMIT);
                self.selector.record_busy(now, retry);
                connection.busy_until = now + retry;
                let frame = taken(connection, id)?.number();
                Ok(Notice::Busy { frame, retry_ms })
            }
            Event::Failed { id, code, text } => Ok(Notice::Failed {
                frame: taken(connection, id)?.number(),
                code: error_code(code),
                text,
            }),
            Event::Result(result) => {
                let waiting = taken(connection, result.id)?;
                self.finish(at, waiting, result)
            }
        }
    }

    fn finish(&mut self, at: Duration, waiting: Waiting, result: InferResult) -> Result<Notice, ClientError> {
        let frame = waiting.frame.ok_or(ClientError::Offline)?;
        let answer = Answer {
            point: frame.point,
            message_bytes: waiting.message.len(),
            elapsed: at.saturating_sub(waiting.sent),
        };
        let micros = |it: u32| Duration::from_micros(u64::from(it));
        let stages = Stages {
            device: frame.stages,
            network: self.selector.record_answer(at, answer, &result),
            queue: micros(result.queue_us),
            decode: micros(result.decode_us),
            tail: micros(result.tail_us),
        };
        Ok(Notice::Result(FrameResult {
            frame: frame.number,
            point: frame.point,
            top: result.top,
            stages,
            message_bytes: waiting.message.len(),
        }))
    }
}

impl Waiting {
    /// Number of the frame. A session never mistakes a probe for a frame, so there is one where this is asked.
    fn number(&self) -> u32 {
        self.frame.map_or(0, |it| it.number)
    }
}

impl Connection {
    fn oldest(&self) -> Option<Unanswered> {
        let oldest = self.waiting.values().min_by_key(|it| it.sent)?;
        Some(Unanswered {
            point: oldest.frame.map(|it| it.point),
            message_bytes: oldest.message.len(),
            sent: oldest.sent,
        })
    }

    /// Whether a probe may go out beside so many requests that are to be kept for frames.
    fn may_probe(&self, now: Duration, reserved: usize) -> bool {
        let credit = self.session.welcome().map_or(0, |it| usize::from(it.credit));
        self.session.in_flight() + reserved < credit
            && self.pause(now).is_zero()
            && self.waiting.values().all(|it| it.frame.is_some())
    }

    /// How long until the rates allow another message.
    fn pause(&self, now: Duration) -> Duration {
        self.meter.as_ref().map_or(Duration::ZERO, |it| it.wait(now))
    }

    fn sent(&mut self, id: u8, frame: Option<Frame>, now: Duration, message: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.charge(1, message.len() as u64, now);
        }
        let waiting = Waiting {
            frame,
            sent: now,
            message: message.to_vec(),
        };
        self.waiting.insert(id, waiting);
    }
}

#[cfg(test)]
mod tests {
    use split_core::{
        manifest::Segment,
        wire::{ErrorCode, PROTOCOL_VERSION, ServerMessage},
    };

    use super::*;
    use crate::fixture::{self, INPUT, OUTPUT, POOL1, Series};

    fn engine(series: &Series) -> Engine {
        Engine::new(&series.manifest.to_json().unwrap(), fixture::clock).unwrap()
    }

    fn give(engine: &mut Engine, series: &Series, point: usize) {
        let missing: Vec<Digest> = engine.missing(point).unwrap().iter().map(|it| it.sha256).collect();
        for digest in missing {
            engine.add_file(digest, series.file(digest)).unwrap();
        }
        engine.prepare(point).unwrap();
    }

    fn answer(engine: &mut Engine, message: ServerMessage) -> Result<Notice, ClientError> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        engine.receive(&bytes, fixture::clock())
    }

    fn welcome(engine: &mut Engine, credit: u8) {
        engine.connect(None);
        let welcoming = welcoming(&engine.digest(), credit);
        answer(engine, welcoming).unwrap();
    }

    fn welcoming(manifest: &Digest, credit: u8) -> ServerMessage {
        ServerMessage::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            manifest: *manifest,
            max_message_bytes: 4096,
            credit,
            messages_per_second: 240,
            bytes_per_second: 8 << 20,
        })
    }

    fn connect_measured(engine: &mut Engine) {
        welcome(engine, 4);
        answer_probes(engine);
        assert!(engine.link().is_some());
    }

    /// Lets so many milliseconds pass, one with every look at the clock.
    fn pass(milliseconds: u64) {
        (0..milliseconds).for_each(|_| {
            fixture::clock();
        });
    }

    fn id_of(message: &[u8]) -> u8 {
        match ClientMessage::decode(message).unwrap() {
            ClientMessage::Infer { id, .. } | ClientMessage::Probe { id, .. } => id,
            other => panic!("{other:?} has no id"),
        }
    }

    fn result(id: u8) -> ServerMessage {
        let top = vec![ClassProbability {
            class: 2,
            probability: 1.0,
        }];
        ServerMessage::Result(InferResult {
            id,
            top,
            queue_us: 0,
            decode_us: 100,
            tail_us: 200,
        })
    }

    /// Answers as many probes as the client sends at once; returns how many.
    fn answer_probes(engine: &mut Engine) -> usize {
        let mut count = 0;
        while engine.probe().unwrap() {
            let id = id_of(engine.message());
            answer(engine, ServerMessage::ProbeAck { id }).unwrap();
            count += 1;
        }
        count
    }

    #[test]
    fn an_answer_finds_its_frame_and_splits_its_time() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 2);
        assert_eq!(engine.infer(41, POOL1, &fixture::frame(0)).unwrap(), None);
        let (id, bytes) = (id_of(engine.message()), engine.message().len());
        let Notice::Result(got) = answer(&mut engine, result(id)).unwrap() else {
            panic!("a result is expected")
        };
        assert_eq!((got.frame, got.point, got.message_bytes), (41, POOL1, bytes));
        assert_eq!(got.top[0].class, 2);
        // The clock ticks once between sending and the answer, of which the edge needed 300 µs.
        assert_eq!(got.stages.network, Duration::from_micros(700));
        assert_eq!(got.stages.tail, Duration::from_micros(200));
    }

    #[test]
    fn the_link_is_not_charged_for_what_an_answer_waits_here() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 2);
        engine.infer(41, POOL1, &fixture::frame(0)).unwrap();
        let mut bytes = Vec::new();
        result(id_of(engine.message())).encode(&mut bytes);
        let at = fixture::clock();
        // A head runs meanwhile.
        (0..50).for_each(|_| {
            fixture::clock();
        });
        let Notice::Result(got) = engine.receive(&bytes, at).unwrap() else {
            panic!("a result is expected")
        };
        assert_eq!(got.stages.network, Duration::from_micros(700));
    }

    #[test]
    fn the_link_is_probed_by_one_message_at_a_time() {
        let series = fixture::series();
        let mut engine = engine(&series);
        welcome(&mut engine, 4);
        for _ in 0..4 {
            assert!(engine.link().is_none());
            assert!(engine.probe().unwrap());
            let id = id_of(engine.message());
            assert!(!engine.probe().unwrap());
            assert_eq!(
                answer(&mut engine, ServerMessage::ProbeAck { id }).unwrap(),
                Notice::Probed
            );
        }
        assert!(engine.link().is_some());
    }

    #[test]
    fn no_frame_queues_behind_an_answer_that_does_not_come() {
        let series = fixture::series();
        let mut engine = engine(&series);
        for point in [POOL1, OUTPUT] {
            give(&mut engine, &series, point);
        }
        welcome(&mut engine, 4);
        answer_probes(&mut engine);
        let fastest = Goal::LowestLatency {
            at_least: 0.0,
            among: Among::All,
        };
        engine.set_goal(fastest).unwrap();
        let slow = Duration::from_millis(100);
        (0..9).for_each(|_| engine.selector.record_device(OUTPUT, slow));
        engine.infer(1, POOL1, &fixture::frame(0)).unwrap();
        let id = id_of(engine.message());
        assert_ne!(engine.choose(), Some(OUTPUT));
        (0..500).for_each(|_| {
            fixture::clock();
        });
        assert_eq!(engine.choose(), Some(OUTPUT));
        answer(&mut engine, result(id)).unwrap();
        assert_ne!(engine.choose(), Some(OUTPUT));
    }

    #[test]
    fn nothing_waits_for_a_dead_link() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        give(&mut engine, &series, OUTPUT);
        connect_measured(&mut engine);
        engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
        assert_eq!(engine.choose(), Some(POOL1));
        engine.infer(7, POOL1, &fixture::frame(0)).unwrap();
        assert_eq!(engine.disconnect(), [7]);
        assert_eq!(engine.choose(), Some(OUTPUT));
        let local = engine.infer(8, OUTPUT, &fixture::frame(0)).unwrap().unwrap();
        assert_eq!((local.frame, local.message_bytes, local.top.len()), (8, 0, 3));
        assert_eq!(
            engine.infer(9, POOL1, &fixture::frame(0)).unwrap_err().code(),
            "offline"
        );
        connect_measured(&mut engine);
        assert_eq!(engine.choose(), Some(POOL1));
    }

    #[test]
    fn frames_stay_on_the_device_until_a_new_link_is_measured_and_while_it_is_silent() {
        let series = fixture::series();
        for goal in [
            Goal::Fixed { point: POOL1 },
            Goal::LowestLatency {
                at_least: 0.0,
                among: Among::Split,
            },
        ] {
            let mut engine = engine(&series);
            give(&mut engine, &series, POOL1);
            give(&mut engine, &series, OUTPUT);
            engine.set_goal(goal).unwrap();
            welcome(&mut engine, 4);
            assert_eq!(engine.choose(), Some(OUTPUT), "{goal:?}");
            answer_probes(&mut engine);
            assert_eq!(engine.choose(), Some(POOL1), "{goal:?}");
            engine.infer(1, POOL1, &fixture::frame(0)).unwrap();
            let id = id_of(engine.message());
            pass(1200);
            assert_eq!(engine.choose(), Some(OUTPUT), "{goal:?}");
            answer(&mut engine, result(id)).unwrap();
            assert_eq!(engine.choose(), Some(POOL1), "{goal:?}");
        }
    }

    #[test]
    fn a_probe_leaves_the_last_request_to_the_frame_that_is_being_prepared() {
        let series = fixture::series();
        let mut engine = engine(&series);
        welcome(&mut engine, 1);
        engine.reserve(true);
        assert!(!engine.probe().unwrap());
        engine.infer_image(1, INPUT, b"RIFF", Duration::ZERO).unwrap();
        let id = id_of(engine.message());
        answer(&mut engine, result(id)).unwrap();
        engine.reserve(false);
        assert!(engine.probe().unwrap());
    }

    #[test]
    fn a_client_without_frames_measures_nothing() {
        let series = fixture::series();
        let mut engine = engine(&series);
        connect_measured(&mut engine);
        pass(1000);
        assert!(!engine.probe().unwrap());
        engine.infer_image(1, INPUT, b"RIFF", Duration::ZERO).unwrap();
        let id = id_of(engine.message());
        answer(&mut engine, result(id)).unwrap();
        pass(1000);
        assert!(engine.probe().unwrap());
    }

    #[test]
    fn nothing_leaves_a_device_that_is_to_compute_everything() {
        let series = fixture::series();
        let only_here = Goal::LowestLatency {
            at_least: 0.0,
            among: Among::Device,
        };
        for goal in [only_here, Goal::Fixed { point: OUTPUT }] {
            let mut engine = engine(&series);
            give(&mut engine, &series, POOL1);
            welcome(&mut engine, 4);
            engine.infer(1, POOL1, &fixture::frame(0)).unwrap();
            engine.moved();
            assert_eq!(engine.set_goal(goal).unwrap(), [1]);
            welcome(&mut engine, 4);
            assert!(!engine.resend().unwrap());
            assert!(!engine.probe().unwrap());
            let refused = engine.infer(2, POOL1, &fixture::frame(0)).unwrap_err();
            assert_eq!(refused.code(), "no-usable-point");
            let refused = engine.infer_image(3, INPUT, b"RIFF", Duration::ZERO).unwrap_err();
            assert_eq!(refused.code(), "no-usable-point");
        }
    }

    #[test]
    fn a_head_that_cannot_be_had_is_left_alone_longer_and_longer() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, OUTPUT);
        connect_measured(&mut engine);
        engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(engine.choose(), Some(POOL1));
            engine.fail(POOL1);
            pass(seconds * 1000 - 100);
            assert!(!engine.may_load(POOL1), "after {seconds} s");
            let instead = engine.choose();
            assert!(instead.is_some() && instead != Some(POOL1));
            pass(100);
            assert!(engine.may_load(POOL1), "after {seconds} s");
        }
    }

    #[test]
    fn looking_for_a_point_uses_none() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, OUTPUT);
        assert_eq!(engine.choose(), Some(OUTPUT));
        assert_eq!(engine.selector.current(), None);
        engine.infer(1, OUTPUT, &fixture::frame(0)).unwrap();
        assert_eq!(engine.selector.current(), Some(OUTPUT));
    }

    #[test]
    fn an_edge_worker_that_grants_nothing_is_refused() {
        let series = fixture::series();
        let mut engine = engine(&series);
        engine.connect(None);
        let welcoming = welcoming(&engine.digest(), 0);
        let refused = answer(&mut engine, welcoming).unwrap_err();
        assert_eq!(refused.code(), "protocol");
    }

    #[test]
    fn a_moved_connection_loses_no_frame() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 3);
        let mut sent = Vec::new();
        for number in [1, 2, 3] {
            engine.infer(number, POOL1, &fixture::frame(0)).unwrap();
            sent.push(engine.message().to_vec());
        }
        answer(&mut engine, result(id_of(&sent[0]))).unwrap();
        assert!(engine.probe().unwrap());
        engine.moved();
        assert!(!engine.resend().unwrap(), "there is no connection yet");
        // The next edge worker grants less.
        welcome(&mut engine, 1);
        assert!(!engine.has_credit(), "newer frames go behind");
        for number in [2, 3] {
            assert!(engine.resend().unwrap());
            assert!(!engine.resend().unwrap());
            assert_eq!(engine.message()[2..], sent[number - 1][2..]);
            let id = id_of(engine.message());
            let Notice::Result(got) = answer(&mut engine, result(id)).unwrap() else {
                panic!("a result is expected")
            };
            assert_eq!(got.frame as usize, number);
        }
        assert!(engine.has_credit() && !engine.resend().unwrap());
    }

    #[test]
    fn frames_of_a_moved_connection_are_named_when_the_next_one_fails() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 2);
        engine.infer(7, POOL1, &fixture::frame(0)).unwrap();
        engine.moved();
        engine.connect(None);
        assert_eq!(engine.disconnect(), [7]);
    }

    #[test]
    fn frames_keep_to_the_rates_of_the_welcome() {
        let series = fixture::series();
        let mut engine = engine(&series);
        welcome(&mut engine, 4);
        let (began, mut sent) = (fixture::clock(), 0);
        // A page that tries as often as it can: the clock ticks a millisecond with every look.
        while fixture::clock() < began + Duration::from_secs(10) {
            if engine.pause().is_zero() {
                engine.infer_image(sent, INPUT, b"RIFF", Duration::ZERO).unwrap();
                let id = id_of(engine.message());
                answer(&mut engine, result(id)).unwrap();
                sent += 1;
            }
        }
        assert!(
            (2000..=2640).contains(&sent),
            "{sent} in 10 s, of 240 a second and a burst"
        );
    }

    #[test]
    fn no_frame_goes_out_before_a_busy_edge_worker_expects_it() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 2);
        engine.infer(1, POOL1, &fixture::frame(0)).unwrap();
        let id = id_of(engine.message());
        answer(&mut engine, ServerMessage::Busy { id, retry_ms: 300 }).unwrap();
        let pause = engine.pause();
        assert!((290..=300).contains(&pause.as_millis()), "{pause:?}");
        (0..300).for_each(|_| {
            fixture::clock();
        });
        assert_eq!(engine.pause(), Duration::ZERO);
        // One that has gone mad is asked again all the same.
        engine.infer(2, POOL1, &fixture::frame(0)).unwrap();
        let (id, retry_ms) = (id_of(engine.message()), u32::MAX);
        answer(&mut engine, ServerMessage::Busy { id, retry_ms }).unwrap();
        assert!(engine.pause() <= BUSY_LIMIT);
    }

    #[test]
    fn starts_with_a_split_and_then_goes_by_measurement() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 8);
        assert_eq!(engine.choose(), Some(POOL1));
        assert!(engine.selection().is_none());
        give(&mut engine, &series, OUTPUT);
        assert!(answer_probes(&mut engine) >= 2);
        for number in 0..4 {
            engine.infer(number, POOL1, &fixture::frame(0)).unwrap();
            let id = id_of(engine.message());
            answer(&mut engine, result(id)).unwrap();
        }
        assert!(engine.link().is_some());
        // The head alone takes as long as the whole toy network: sending cannot pay.
        assert_eq!(engine.choose(), Some(OUTPUT));
        assert!(engine.selection().unwrap().meets);
    }

    #[test]
    fn excluded_points_and_kinds_are_not_chosen() {
        let series = fixture::series();
        let mut engine = engine(&series);
        welcome(&mut engine, 2);
        let edge_only = Goal::LowestLatency {
            at_least: 0.0,
            among: Among::Edge,
        };
        engine.set_goal(edge_only).unwrap();
        assert_eq!(engine.choose(), Some(INPUT));
        engine.exclude_format(ImageFormat::Webp);
        assert_eq!(engine.choose(), None);
        for point in [INPUT, OUTPUT] {
            engine.set_goal(Goal::Fixed { point }).unwrap();
            engine.exclude(OUTPUT);
            assert_eq!(engine.choose(), None);
        }
        engine.set_goal(Goal::Fixed { point: POOL1 }).unwrap();
        assert_eq!(engine.choose(), Some(POOL1));
        let missing = engine.set_goal(Goal::Fixed { point: 99 }).unwrap_err();
        assert_eq!(missing.code(), "no-such-point");
    }

    #[test]
    fn refusals_reach_the_frame_they_are_about() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 2);
        engine.infer(1, POOL1, &fixture::frame(0)).unwrap();
        let busy = id_of(engine.message());
        engine.infer(2, POOL1, &fixture::frame(0)).unwrap();
        let failed = id_of(engine.message());
        assert_eq!(
            engine.infer(3, POOL1, &fixture::frame(0)).unwrap_err().code(),
            "no-credit"
        );
        assert_eq!(
            answer(&mut engine, ServerMessage::Busy { id: busy, retry_ms: 40 }).unwrap(),
            Notice::Busy { frame: 1, retry_ms: 40 }
        );
        let error = ServerMessage::Error {
            id: Some(failed),
            code: ErrorCode::BadPayload,
            text: "no".into(),
        };
        let Notice::Failed { frame, code, .. } = answer(&mut engine, error).unwrap() else {
            panic!("a failure is expected")
        };
        assert_eq!((frame, code), (2, "protocol"));
    }

    #[test]
    fn short_heads_have_their_time_on_a_coarse_clock_too() {
        let series = fixture::series();
        let mut engine = Engine::new(&series.manifest.to_json().unwrap(), fixture::coarse_clock).unwrap();
        give(&mut engine, &series, OUTPUT);
        let work = series.manifest.variants[0].segments.iter().map(Segment::work).sum();
        // A run takes 0.3 ms: three times from one of the clock's calls to the next.
        for frame in 0..200 {
            let micros = engine.profile().predict(work).as_micros();
            assert!((150..=500).contains(&micros), "{micros} µs before frame {frame}");
            engine.infer(frame, OUTPUT, &fixture::frame(0)).unwrap();
        }
        assert!(engine.profile().runs(work) >= 4);
    }

    #[test]
    fn images_go_only_to_points_that_take_them() {
        let series = fixture::series();
        let mut engine = engine(&series);
        welcome(&mut engine, 2);
        engine.infer_image(1, INPUT, b"RIFF", Duration::from_millis(2)).unwrap();
        assert_eq!(engine.message()[3..], *b"RIFF");
        let error = engine.infer_image(2, POOL1, b"RIFF", Duration::ZERO).unwrap_err();
        assert_eq!(error.code(), "wrong-input");
    }

    #[test]
    fn a_silent_edge_is_given_up() {
        let series = fixture::series();
        let mut engine = engine(&series);
        give(&mut engine, &series, POOL1);
        welcome(&mut engine, 2);
        assert!(!engine.is_overdue());
        engine.infer(1, POOL1, &fixture::frame(0)).unwrap();
        for _ in 0..6000 {
            fixture::clock();
        }
        assert!(engine.is_overdue());
    }
}
