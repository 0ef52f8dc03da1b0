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
    unusable: HashSet<usize>,
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

    /// Excludes an operating point whose head cannot be had.
    pub fn exclude(&mut self, point: usize) {
        self.unusable.insert(point);
    }

    /// Changes how operating points are chosen.
    pub fn set_goal(&mut self, goal: Goal) -> Result<(), ClientError> {
        if let Goal::Fixed { point } = goal {
            cut(&self.manifest, point)?;
        }
        self.goal = goal;
        Ok(())
    }

    /// How operating points are chosen.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// The latest choice with its reason; none while a fixed point is in use or nothing is known of the link yet.
    pub fn selection(&self) -> Option<&Selection> {
        self.selection.as_ref()
    }

    /// Chooses the operating point for the next frame.
    ///
    /// Until the link has been measured the one in use stays, at first [`Manifest::default_point`]. Without a connection only
    /// `output` can be chosen, whatever the goal: nothing waits for a dead link. None if no point is usable, or the fixed one is not.
    pub fn choose(&mut self) -> Option<usize> {
        let connected = self.is_connected();
        let fixed = match self.goal {
            Goal::Fixed { point } if connected || is_local(&self.manifest, point) => Some(point),
            _ => None,
        };
        if let Some(point) = fixed {
            let usable = Some(point).filter(|&it| self.may_use(it, Among::All));
            self.selection = None;
            self.selector.set_current(usable);
            return usable;
        }
        let (requirement, among) = match self.goal.requirement() {
            Some((requirement, among)) if connected => (requirement, among),
            Some((requirement, _)) => (requirement, Among::All),
            None => (self.fallback()?, Among::All),
        };
        if connected && self.link().is_none() && among != Among::Device {
            let usable = |&it: &usize| self.may_use(it, among) && !is_local(&self.manifest, it);
            let start = self
                .selector
                .current()
                .filter(usable)
                .or_else(|| self.first_guess(among));
            self.selector.set_current(start);
            return start;
        }
        let missing_bytes = |point| {
            let missing = self.device.missing(&self.manifest, point).ok()?;
            may_use(&self.manifest, &self.unusable, point, among).then(|| missing.iter().map(|it| it.bytes).sum())
        };
        let (now, oldest) = ((self.clock)(), self.connection.as_ref().and_then(Connection::oldest));
        self.selection = self
            .selector
            .select(&self.manifest, now, requirement, oldest, missing_bytes);
        self.selector.current()
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
        may_use(&self.manifest, &self.unusable, point, among)
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
        let (stages, product) = self.device.run(&self.manifest, point, rgba)?;
        if let Some(elapsed) = self.timing.mean(point, stages.total()) {
            self.selector.record_device(point, elapsed);
        }
        let stages = Stages {
            device: stages,
            ..Stages::default()
        };
        match product {
            Product::Classes(top) => Ok(Some(FrameResult {
                frame,
                point,
                top,
                stages,
                message_bytes: 0,
            })),
            Product::Payload(payload) => {
                let connection = self.connection.as_mut().ok_or(ClientError::Offline)?;
                let id = connection.session.infer(point as u16, payload, &mut self.message)?;
                let frame = Frame {
                    number: frame,
                    point,
                    stages: stages.device,
                };
                connection.sent(id, Some(frame), (self.clock)(), &self.message);
                Ok(None)
            }
        }
    }

    /// Sends one frame as an image file that the browser wrote in `encode`: for operating points at the `input` split point.
    pub fn infer_image(&mut self, frame: u32, point: usize, image: &[u8], encode: Duration) -> Result<(), ClientError> {
        cut(&self.manifest, point)?;
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
        Ok(())
    }

    /// Whether a probe should go out now; if so, [`message`](Self::message) is to be sent. One at a time: on a slow link they would queue.
    pub fn probe(&mut self) -> Result<bool, ClientError> {
        let now = (self.clock)();
        let Some(connection) = self.connection.as_mut().filter(|it| it.may_probe(now)) else {
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
                let meter = Meter::pacing(welcome.messages_per_second, welcome.bytes_per_second, now);
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

    fn may_probe(&self, now: Duration) -> bool {
        self.session.has_credit() && self.pause(now).is_zero() && self.waiting.values().all(|it| it.frame.is_some())
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

fn may_use(manifest: &Manifest, unusable: &HashSet<usize>, point: usize, among: Among) -> bool {
    among.has(&manifest.operating_points[point]) && !unusable.contains(&point)
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
        let manifest = engine.digest();
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            manifest,
            max_message_bytes: 4096,
            credit,
            messages_per_second: 240,
            bytes_per_second: 8 << 20,
        };
        answer(engine, ServerMessage::Welcome(welcome)).unwrap();
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
        welcome(&mut engine, 2);
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
        welcome(&mut engine, 2);
        assert_eq!(engine.choose(), Some(POOL1));
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
        for point in [POOL1, OUTPUT] {
            give(&mut engine, &series, point);
        }
        welcome(&mut engine, 8);
        assert_eq!(engine.choose(), Some(POOL1));
        assert!(engine.selection().is_none());
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
