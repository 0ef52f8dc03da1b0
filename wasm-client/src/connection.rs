//! The engine's connection to the edge worker: what goes out beside frames, and what comes in.

use std::time::Duration;

use split_core::{
    selection::Answer,
    session::{Event, Request, SendError, Session},
    wire::InferResult,
};

use crate::{
    device::is_local,
    engine::{Engine, Frame, Hand, Lost, Stages, Step, dropped},
    error::{ClientError, error_code},
};

/// No edge worker is left alone for longer, whatever it says.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// How long after the last frame the link is still measured: a slow device may take as long for one.
const MEASURED: Duration = Duration::from_secs(3);

/// What a message of the edge worker means for the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Frames may be sent now.
    Open,
    /// It has answered a request: the connection works. What became of the frame, if that is decided.
    Answered(Option<Step>),
}

impl Engine {
    /// Starts a connection; returns its first message, to be sent once the socket is open.
    pub fn connect(&mut self, token: Option<String>) -> Vec<u8> {
        let session = Session::new(self.digest(), self.clock.now());
        let hello = session.hello(token);
        self.connection = Some(session);
        self.busy_until = Duration::ZERO;
        self.chosen = None;
        self.selector.connected();
        hello
    }

    /// Whether the edge worker has welcomed the client.
    pub fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|it| it.welcome().is_some())
    }

    /// Ends the connection: what was in flight goes elsewhere, or is dropped for this reason.
    pub fn disconnect(&mut self, why: &str) {
        let in_flight = self.end().into_iter().chain(std::mem::take(&mut self.unsent));
        self.lose(in_flight, "connection-lost", why);
    }

    /// Ends a connection that the edge worker closed with [`CLOSE_MOVED`](split_core::wire::CLOSE_MOVED).
    ///
    /// What it had not answered is kept, for [`resend`](Self::resend) over the next connection.
    pub fn moved(&mut self) {
        let in_flight = self.end();
        self.unsent
            .extend(in_flight.into_iter().filter(|it| it.frame.is_some()));
    }

    fn end(&mut self) -> Vec<Request<Frame>> {
        self.chosen = None;
        self.selector.disconnected();
        self.connection.take().map(Session::end).unwrap_or_default()
    }

    /// Whether a request of a connection that was moved can be sent again now; if so, [`message`](Self::message) is to be sent.
    pub fn resend(&mut self) -> bool {
        let now = self.clock.now();
        let ready = |it: &&mut Session<Frame>| it.has_credit() && it.pause(now).is_zero();
        let Some(connection) = self.connection.as_mut().filter(ready) else {
            return false;
        };
        let Some(request) = self.unsent.pop_front() else {
            return false;
        };
        match connection.resend(now, request) {
            Ok(id) => {
                self.latest = id;
                true
            }
            Err((request, error)) => {
                self.lose([request].into_iter(), "connection-lost", &error.to_string());
                false
            }
        }
    }

    /// To be called several times a second, when messages that have arrived were read. An answer can be missed only then: while a head runs on a
    /// slow device, it may lie there unread for seconds.
    pub fn listened(&mut self) {
        self.listened = self.clock.now();
    }

    /// Whether the edge worker has been silent for so long that the connection must be given up.
    pub fn is_overdue(&self) -> bool {
        self.connection.as_ref().is_some_and(|it| it.is_overdue(self.listened))
    }

    /// Whether a probe should go out now; if so, [`message`](Self::message) is to be sent. One at a time: on a slow link they would queue.
    ///
    /// A link that was measured once is measured again only while frames flow, and none that frames may not use.
    pub fn probe(&mut self) -> Result<bool, ClientError> {
        let now = self.clock.now();
        if std::mem::take(&mut self.was_active) {
            self.active = Some(now);
        }
        let is_active = self.active.is_some_and(|it| now.saturating_sub(it) < MEASURED);
        if !self.goal.may_send(&self.manifest) || !is_active && self.link().is_some() {
            return Ok(false);
        }
        let reserved = usize::from(self.needs_request());
        let may_probe =
            |it: &&mut Session<Frame>| it.credit() > reserved && it.pause(now).is_zero() && !it.is_probing();
        let Some(connection) = self.connection.as_mut().filter(may_probe) else {
            return Ok(false);
        };
        // The estimator counts a probe as sent, so it is asked only when one can go out.
        let Some(padding) = self.selector.probe_bytes(now) else {
            return Ok(false);
        };
        for padding in [padding, 0] {
            match connection.probe(now, padding) {
                Ok(id) => {
                    self.latest = id;
                    return Ok(true);
                }
                Err(SendError::TooLong { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Whether the frame that is being prepared will be sent.
    fn needs_request(&self) -> bool {
        self.hand.as_ref().is_some_and(|it| match it {
            Hand::Capturing { choice, .. } | Hand::Encoding { choice, .. } => !is_local(&self.manifest, choice.point),
        })
    }

    /// The message that the latest call made.
    pub fn message(&self) -> &[u8] {
        self.connection.as_ref().map_or(&[], |it| it.message(self.latest))
    }

    /// Makes sense of one message of the edge worker, which arrived at `at`: maybe while a head ran, and that time is not the link's.
    ///
    /// After an error the connection is of no use: close it.
    pub fn receive(&mut self, bytes: &[u8], at: Duration) -> Result<Notice, ClientError> {
        let now = self.clock.now();
        let at = at.min(now);
        let connection = self.connection.as_mut().ok_or(ClientError::Offline)?;
        let (event, request) = connection.receive(now, bytes)?;
        let Some(Request {
            frame, message, sent, ..
        }) = request
        else {
            self.chosen = None;
            return Ok(Notice::Open);
        };
        let Some(frame) = frame else {
            self.selector.record_probe(at, message.len(), sent);
            return Ok(Notice::Answered(None));
        };
        self.was_answered = true;
        let (point, frame) = (usize::from(frame.point), frame.note);
        Ok(Notice::Answered(match event {
            Event::Result(result) => {
                let answer = Answer {
                    point,
                    message_bytes: message.len(),
                    sent,
                };
                Some(self.answered(at, frame, answer, result))
            }
            Event::Busy { retry_ms, .. } => self.refused(now, frame, retry_ms),
            Event::Failed { code, text, .. } => Some(dropped(frame.number, error_code(code), &text)),
            Event::Welcome(_) | Event::ProbeAck { .. } => None,
        }))
    }

    fn answered(&mut self, at: Duration, frame: Frame, answer: Answer, result: InferResult) -> Step {
        let micros = |it: u32| Duration::from_micros(u64::from(it));
        let stages = Stages {
            device: frame.stages,
            network: self.selector.record_answer(at, answer, &result),
            queue: micros(result.queue_us),
            decode: micros(result.decode_us),
            tail: micros(result.tail_us),
        };
        self.answer(frame, answer.point, result.top, stages, answer.message_bytes)
    }

    /// The edge worker has no capacity for a frame: it goes elsewhere if the device could take it, too.
    fn refused(&mut self, now: Duration, frame: Frame, retry_ms: u32) -> Option<Step> {
        let retry = Duration::from_millis(u64::from(retry_ms)).min(BUSY_LIMIT);
        self.selector.record_busy(now, retry);
        self.busy_until = now + retry;
        let (code, why) = ("busy", "the edge worker has no capacity for this frame");
        if !self.has_refuge(now) {
            return Some(dropped(frame.number, code, why));
        }
        let why = why.into();
        self.lost.push_back(Lost { frame, code, why });
        None
    }
}
