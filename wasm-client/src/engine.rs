//! The client without browser: device, session and selection brought together, one step after the other.
//!
//! The caller moves bytes: messages to and from a socket, files from a download, pictures from a camera. It asks for the [`next`](Engine::next)
//! [`Step`], does what that says, hands over what came of it, and gets the step after. See the crate's tour.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use split_core::{
    Digest, Manifest,
    manifest::{Codec, File, ImageFormat},
    selection::{LatencyProfile, LinkEstimate, Selector},
    session::{Request, Session},
    wire::ClassProbability,
};

use crate::{
    choice::Choice,
    device::{Device, DeviceStages, Product, cut, is_local},
    error::ClientError,
    goal::Goal,
    heads::Heads,
    news::News,
    picture::Picture,
    timing::{Clock, Timed, Timing},
};

/// What was chosen stands for so long while no frame waits.
const FRESH: Duration = Duration::from_millis(250);
/// How long after it was taken a frame waits to be sent again over another connection: one that is moved may be moved again, and after a pause.
const RESENT: Duration = Duration::from_secs(1);
/// A frame that waits for the link may by then be better off on the device.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// How long a client that can send a picture leaves heads unprepared: its first frame usually comes soon, and would have to wait.
const FIRST_FRAME: Duration = Duration::from_secs(1);

/// Everything a client knows and decides.
#[derive(Debug)]
pub struct Engine {
    pub(crate) manifest: Manifest,
    digest: Digest,
    pub(crate) clock: Clock,
    /// When the engine was made.
    began: Duration,
    pub(crate) device: Device,
    pub(crate) timing: Timing,
    pub(crate) selector: Selector,
    pub(crate) heads: Heads,
    pub(crate) goal: Goal,
    /// The latest choice, and when it was made; none if something has happened since that changes it.
    pub(crate) chosen: Option<(Option<Choice>, Duration)>,
    pub(crate) news: News,
    pub(crate) connection: Option<Session<Frame>>,
    /// When the caller had last read all messages; see [`listened`](Self::listened).
    pub(crate) listened: Duration,
    /// The request that went out last.
    pub(crate) latest: u8,
    /// Until then the edge worker has no capacity, by its own prediction.
    pub(crate) busy_until: Duration,
    /// Whether a frame was computed or sent since the last look at the link, and when that last was so.
    pub(crate) was_active: bool,
    pub(crate) active: Option<Duration>,
    /// Whether a frame was answered, or refused, since a head was prepared.
    pub(crate) was_answered: bool,
    /// The frame that is being prepared. If it will need a request, no probe takes that meanwhile.
    pub(crate) hand: Option<Hand>,
    /// Requests of a connection that the edge worker moved, to be sent again over the next one.
    pub(crate) unsent: VecDeque<Request<Frame>>,
    /// Frames whose answer will not come from where they were sent.
    pub(crate) lost: VecDeque<Lost>,
}

/// A frame, as the network sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The caller's number of the frame.
    pub number: u32,
    /// Its pixels, RGBA.
    pub rgba: Vec<u8>,
    /// Their rows and columns.
    pub size: [usize; 2],
    /// When its picture came here.
    pub arrived: Duration,
    /// When its pixels were there.
    pub captured: Duration,
    /// What the device took for it.
    pub stages: DeviceStages,
}

/// A frame that is being prepared for an operating point.
#[derive(Debug)]
pub(crate) enum Hand {
    /// The caller reads its picture.
    Capturing {
        choice: Choice,
        picture: Picture,
        since: Duration,
    },
    /// The caller codes it as an image.
    Encoding {
        choice: Choice,
        frame: Frame,
        since: Duration,
    },
}

/// A frame that goes elsewhere, or gets no answer for this reason.
#[derive(Debug)]
pub(crate) struct Lost {
    pub frame: Frame,
    pub code: &'static str,
    pub why: String,
}

/// What the caller is to do, or what became of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// This head is wanted: [`add_file`](Engine::add_file) each of the files, or say that it [failed](Engine::fail). Frames need not wait for
    /// that: ask for the next step at once.
    Load {
        /// The operating point.
        point: usize,
        /// What is still to be downloaded.
        files: Vec<File>,
    },
    /// This head, whose files are all there, is to be made ready by [`prepare`](Engine::prepare), which takes as long as many frames.
    Prepare {
        /// The operating point.
        point: usize,
    },
    /// The frame that waits is to be read into the [picture](Engine::picture), which [`infer`](Engine::infer) takes.
    Capture,
    /// These pixels are to be coded as an image file, which [`infer_image`](Engine::infer_image) takes.
    Encode {
        /// The caller's number of the frame.
        frame: u32,
        /// The operating point, which says how.
        point: usize,
        /// RGBA pixels of the network's size.
        rgba: Vec<u8>,
    },
    /// A frame's [`message`](Engine::message) is to be sent; its answer comes by [`receive`](Engine::receive).
    Sent,
    /// A frame's answer.
    Answer(Box<FrameResult>),
    /// A frame gets no answer.
    Drop {
        /// The caller's number of the frame.
        frame: u32,
        /// A name for the kind of error.
        code: Cow<'static, str>,
        /// For people.
        why: String,
    },
    /// No frame waits, and one would go at once.
    Free,
    /// Nothing, until something happens or this time is over.
    Wait(Duration),
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
    /// The most likely classes, best first; one at least.
    pub top: Vec<ClassProbability>,
    /// Where the time went.
    pub stages: Stages,
    /// Size of the message that went out, 0 if none did.
    pub message_bytes: usize,
    /// Time since the picture came here.
    pub since_arrival: Duration,
    /// Time since its pixels were there.
    pub since_capture: Duration,
    /// What the network saw, RGBA.
    pub rgba: Vec<u8>,
}

impl Engine {
    /// An engine for the series of this manifest, given as the bytes of its file.
    pub fn new(manifest: &[u8], clock: Clock) -> Result<Self, ClientError> {
        let (digest, manifest) = (Digest::of(manifest), Manifest::parse(manifest)?);
        Ok(Self {
            digest,
            device: Device::new(clock.clone()),
            timing: Timing::new(&clock),
            began: clock.now(),
            clock,
            selector: Selector::new(&manifest),
            heads: Heads::default(),
            goal: Goal::default_for(&manifest),
            chosen: None,
            news: News::default(),
            connection: None,
            listened: Duration::ZERO,
            latest: 0,
            busy_until: Duration::ZERO,
            was_active: false,
            active: None,
            was_answered: false,
            hand: None,
            unsent: VecDeque::new(),
            lost: VecDeque::new(),
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

    /// Takes a downloaded file; see [`Device::add_file`].
    pub fn add_file(&mut self, expected: Digest, bytes: Vec<u8>) -> Result<(), ClientError> {
        self.device.add_file(expected, bytes)
    }

    /// Whether frames can run through the operating point at once.
    pub fn is_ready(&self, point: usize) -> bool {
        self.device.is_ready(&self.manifest, point)
    }

    /// Builds the operating point's codec, joins and warms up its head, and learns how long it takes here. An error is to be told to
    /// [`fail`](Self::fail).
    pub fn prepare(&mut self, point: usize) -> Result<(), ClientError> {
        if let Some(elapsed) = self.device.prepare(&self.manifest, point, self.timing.enough())? {
            self.selector.record_device(point, elapsed);
        }
        self.chosen = None;
        self.heads.loaded(point);
        Ok(())
    }

    /// Leaves an operating point alone whose head could not be had: for two seconds, and twice as long after every further failure.
    pub fn fail(&mut self, point: usize, code: &str, why: &str) {
        self.chosen = None;
        self.heads.fail(self.clock.now(), point, code, why);
    }

    /// Excludes all points that need an image file of this format: the browser does not write it.
    pub fn exclude_format(&mut self, excluded: ImageFormat) {
        for (point, it) in self.manifest.operating_points.iter().enumerate() {
            if matches!(it.codec, Codec::Image { format, .. } if format == excluded) {
                self.heads.exclude(point);
            }
        }
    }

    /// What was learnt of this device's speed; may be kept for the next visit.
    pub fn profile(&self) -> &LatencyProfile {
        self.selector.profile()
    }

    /// Starts from what an earlier visit learnt.
    pub fn set_profile(&mut self, profile: LatencyProfile) {
        self.selector.set_profile(profile);
    }

    /// What the link is known to be like; none without a connection or before its first answers.
    pub fn link(&self) -> Option<LinkEstimate> {
        self.selector.link()
    }

    /// Changes how operating points are chosen. By some goals, frames that wait to be sent again are not to leave the device.
    pub fn set_goal(&mut self, goal: Goal) -> Result<(), ClientError> {
        if let Goal::Fixed { point } = goal {
            cut(&self.manifest, point)?;
        }
        if self.goal != goal {
            // A new goal is followed without hysteresis, and at once.
            self.selector.set_current(None);
            self.chosen = None;
        }
        self.goal = goal;
        if !goal.may_send(&self.manifest) {
            let kept = ClientError::KeptHere;
            let recalled = std::mem::take(&mut self.unsent);
            self.lose(recalled.into_iter(), kept.code(), &kept.to_string());
        }
        Ok(())
    }

    /// What is to be done now. `waiting` is the frame whose picture waits, if one does.
    pub fn next(&mut self, waiting: Option<u32>) -> Step {
        let now = self.clock.now();
        self.recall_late(now);
        let is_idle = waiting.is_none() && self.lost.is_empty();
        let fresh = self.chosen.filter(|it| is_idle && now.saturating_sub(it.1) < FRESH);
        let (choice, _) = *self.chosen.insert(fresh.unwrap_or_else(|| (self.choose(now), now)));
        if let Some(point) = self.wanted(now, choice.as_ref()) {
            self.heads.load(point);
            let files = self.device.missing(&self.manifest, point).unwrap_or_default();
            return Step::Load { point, files };
        }
        let wait = choice.map_or(Duration::ZERO, |it| self.wait(&it, now));
        let goes = !is_idle && choice.is_some() && wait.is_zero();
        let preparation = self.preparation(choice.as_ref(), goes, is_idle, now);
        if let Some((point, Duration::ZERO)) = preparation {
            self.was_answered = false;
            return Step::Prepare { point };
        }
        if is_idle {
            if let Some(choice) = choice.filter(Choice::is_ready) {
                self.news.choice(now, choice);
            }
            let wait = preparation.map_or(wait, |(_, pause)| wait.max(pause));
            return if wait.is_zero() { Step::Free } else { Step::Wait(wait) };
        }
        let Some(choice) = choice else {
            return self.give_up(waiting);
        };
        if !wait.is_zero() {
            return Step::Wait(wait);
        }
        match self.lost.pop_front() {
            Some(Lost { frame, .. }) => self.run(frame, choice),
            None => self.capture(choice, now),
        }
    }

    /// Lets frames go elsewhere that have waited too long for another connection.
    fn recall_late(&mut self, now: Duration) {
        let is_late = |it: &Request<Frame>| {
            let frame = it.frame.as_ref();
            frame.is_some_and(|it| now.saturating_sub(it.note.captured) > RESENT)
        };
        let (late, others) = std::mem::take(&mut self.unsent)
            .into_iter()
            .partition::<Vec<_>, _>(is_late);
        self.unsent.extend(others);
        self.lose(
            late.into_iter(),
            "connection-lost",
            "the edge worker moves its clients on",
        );
    }

    /// The head that can be prepared, and after which pause. `goes` says whether a frame is about to be run.
    ///
    /// A slow device takes seconds to prepare one: a first frame is given its chance, and the answer of one under way is awaited before.
    fn preparation(
        &self,
        choice: Option<&Choice>,
        goes: bool,
        is_idle: bool,
        now: Duration,
    ) -> Option<(usize, Duration)> {
        let has_files = |it: &usize| self.device.missing(&self.manifest, *it).is_ok_and(|it| it.is_empty());
        let point = self.heads.loading().iter().copied().find(has_files)?;
        let is_under_way = goes || self.frames_in_flight() > 0 && !self.is_silent(now);
        if is_under_way && !self.was_answered {
            return None;
        }
        let is_unused = is_idle && !self.was_active && self.active.is_none();
        let first_frame = self.began + FIRST_FRAME;
        let pause = match is_unused && choice.is_some_and(Choice::is_ready) {
            true => first_frame.saturating_sub(now),
            false => Duration::ZERO,
        };
        Some((point, pause))
    }

    /// How long a frame has to wait before it can go where it was chosen to go.
    fn wait(&self, choice: &Choice, now: Duration) -> Duration {
        if !choice.is_ready() {
            return LONGEST_WAIT;
        }
        let Some(connection) = self
            .connection
            .as_ref()
            .filter(|_| !is_local(&self.manifest, choice.point))
        else {
            return Duration::ZERO;
        };
        let frames = self.frames_in_flight() + self.unsent.len();
        let depth = choice.depth(self.manifest.operating_points[choice.point].mean_message_bytes);
        if !connection.has_credit() || !self.unsent.is_empty() || frames >= depth {
            return LONGEST_WAIT;
        }
        let pause = connection.pause(now).max(self.busy_until.saturating_sub(now));
        pause.min(LONGEST_WAIT)
    }

    fn frames_in_flight(&self) -> usize {
        let probes = |it: &Session<Frame>| usize::from(it.is_probing());
        self.connection.as_ref().map_or(0, |it| it.in_flight() - probes(it))
    }

    /// Drops what cannot go on anywhere.
    fn give_up(&mut self, waiting: Option<u32>) -> Step {
        if let Some(Lost { frame, code, why }) = self.lost.pop_front() {
            return Step::Drop {
                frame: frame.number,
                code: code.into(),
                why,
            };
        }
        let failure = match self.goal {
            Goal::Fixed { point } => self.heads.failure(point),
            _ => None,
        };
        let (code, why) = failure.map_or_else(
            || {
                (
                    "no-usable-point".into(),
                    "no operating point meets the goal here".into(),
                )
            },
            |it| it.reason.clone(),
        );
        Step::Drop {
            frame: waiting.unwrap_or_default(),
            code: code.into(),
            why,
        }
    }

    fn capture(&mut self, choice: Choice, since: Duration) -> Step {
        let Ok(cut) = cut(&self.manifest, choice.point) else {
            return Step::Wait(LONGEST_WAIT);
        };
        let shape = cut.input.shape;
        let picture = Picture::new(cut.input.preparation, [shape.height(), shape.width()]);
        self.hand = Some(Hand::Capturing { choice, picture, since });
        Step::Capture
    }

    /// Which operating point is in use, if that is to be told.
    pub fn take_news(&mut self) -> Option<Choice> {
        self.news.take()
    }

    /// The picture that is being taken.
    pub fn picture(&mut self) -> Option<&mut Picture> {
        match &mut self.hand {
            Some(Hand::Capturing { picture, .. }) => Some(picture),
            _ => None,
        }
    }

    /// Gives up the frame that is being prepared: its picture cannot be read, or not be coded.
    pub fn put_down(&mut self) {
        self.hand = None;
    }

    /// Runs the frame whose picture was taken. It came here at `arrived`.
    ///
    /// `delivery` is what the latest frame took that only the caller knows: its picture's way here and its answer's way back.
    pub fn infer(&mut self, number: u32, arrived: Duration, delivery: Option<Duration>) -> Step {
        let Some(Hand::Capturing { choice, picture, since }) = self.hand.take() else {
            return dropped(number, "internal", "no picture was being taken");
        };
        let size = picture.size();
        let rgba = match picture.finish() {
            Ok(rgba) => rgba,
            Err(error) => return dropped(number, "frame-size", &error.to_string()),
        };
        let captured = self.clock.now();
        let capture = delivery.map(|it| it + captured.saturating_sub(since));
        if let Some(elapsed) = capture.and_then(|it| self.timing.mean(Timed::Capture, it)) {
            self.selector.record_capture(elapsed);
        }
        let frame = Frame {
            number,
            rgba,
            size,
            arrived,
            captured,
            stages: DeviceStages::default(),
        };
        self.run(frame, choice)
    }

    fn run(&mut self, frame: Frame, choice: Choice) -> Step {
        let number = frame.number;
        self.try_run(frame, choice).unwrap_or_else(|error| {
            if error.code() == "head-failed" {
                self.heads.exclude(choice.point);
            }
            dropped(number, error.code(), &error.to_string())
        })
    }

    fn try_run(&mut self, mut frame: Frame, choice: Choice) -> Result<Step, ClientError> {
        let point = choice.point;
        let input = cut(&self.manifest, point)?.input;
        let size = [input.shape.height(), input.shape.width()];
        if frame.size != size {
            frame.rgba = input.preparation.apply(&frame.rgba, frame.size, size)?;
            frame.size = size;
        }
        if !self.may_go(point) {
            return Ok(self.withdraw(frame, ClientError::KeptHere));
        }
        if let Codec::Image { .. } = self.manifest.operating_points[point].codec {
            let (number, rgba, since) = (frame.number, frame.rgba.clone(), self.clock.now());
            self.hand = Some(Hand::Encoding { choice, frame, since });
            return Ok(Step::Encode {
                frame: number,
                point,
                rgba,
            });
        }
        let (stages, product) = self.device.run(&self.manifest, point, &frame.rgba)?;
        if let Some(elapsed) = self.timing.mean(Timed::Device(point), stages.total()) {
            self.selector.record_device(point, elapsed);
        }
        frame.stages = stages;
        match product {
            Product::Classes(top) => {
                self.used(&choice);
                self.was_answered = true;
                let stages = Stages {
                    device: stages,
                    ..Stages::default()
                };
                Ok(self.answer(frame, point, top, stages, 0))
            }
            Product::Payload(payload) => {
                let payload = payload.to_vec();
                self.send(frame, choice, &payload)
            }
        }
    }

    /// Sends the frame that was being coded, as this image file.
    pub fn infer_image(&mut self, image: &[u8]) -> Step {
        let Some(Hand::Encoding {
            choice,
            mut frame,
            since,
        }) = self.hand.take()
        else {
            return Step::Wait(LONGEST_WAIT);
        };
        let (number, point) = (frame.number, choice.point);
        frame.stages.encode = self.clock.now().saturating_sub(since);
        if let Some(elapsed) = self.timing.mean(Timed::Device(point), frame.stages.encode) {
            self.selector.record_device(point, elapsed);
        }
        if !self.may_go(point) {
            return self.withdraw(frame, ClientError::KeptHere);
        }
        let sent = self.send(frame, choice, image);
        sent.unwrap_or_else(|error| dropped(number, error.code(), &error.to_string()))
    }

    fn send(&mut self, frame: Frame, choice: Choice, payload: &[u8]) -> Result<Step, ClientError> {
        let now = self.clock.now();
        let Some(connection) = self.connection.as_mut().filter(|it| it.has_credit()) else {
            return Ok(self.withdraw(frame, ClientError::Offline));
        };
        self.latest = connection.infer(now, choice.point as u16, payload, frame)?;
        self.used(&choice);
        Ok(Step::Sent)
    }

    /// The goal may have changed since the point was chosen: then no frame leaves any more.
    fn may_go(&self, point: usize) -> bool {
        is_local(&self.manifest, point) || self.goal.may_send(&self.manifest)
    }

    /// Connection, credit or leave went away while the frame was being prepared: it goes elsewhere.
    fn withdraw(&mut self, frame: Frame, why: ClientError) -> Step {
        let (code, why) = (why.code(), why.to_string());
        self.lost.push_back(Lost { frame, code, why });
        Step::Wait(Duration::ZERO)
    }

    /// Lets the frames of these requests go elsewhere.
    pub(crate) fn lose(&mut self, requests: impl Iterator<Item = Request<Frame>>, code: &'static str, why: &str) {
        let frames = requests.filter_map(|it| it.frame).map(|it| Lost {
            frame: it.note,
            code,
            why: why.into(),
        });
        self.lost.extend(frames);
    }

    fn used(&mut self, choice: &Choice) {
        self.was_active = true;
        self.selector.set_current(Some(choice.point));
        self.news.choice(self.clock.now(), *choice);
    }

    pub(crate) fn answer(
        &self,
        frame: Frame,
        point: usize,
        top: Vec<ClassProbability>,
        stages: Stages,
        message_bytes: usize,
    ) -> Step {
        if top.is_empty() {
            return dropped(frame.number, "internal", "the answer is empty");
        }
        let now = self.clock.now();
        Step::Answer(Box::new(FrameResult {
            frame: frame.number,
            point,
            top,
            stages,
            message_bytes,
            since_arrival: now.saturating_sub(frame.arrived),
            since_capture: now.saturating_sub(frame.captured),
            rgba: frame.rgba,
        }))
    }
}

pub(crate) fn dropped(frame: u32, code: &'static str, why: &str) -> Step {
    Step::Drop {
        frame,
        code: code.into(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests;
