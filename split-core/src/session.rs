//! The client's half of a connection, without the socket.
//!
//! [`Session`] says what to send and makes sense of what arrives; the caller moves the bytes. The browser drives it with a
//! WebSocket of web-sys, the native tests with one of tokio, so both speak the protocol through the same code.
//!
//! ```
//! # use std::time::Duration;
//! use split_core::{Digest, session::{Event, Session}, wire::{PROTOCOL_VERSION, ServerMessage, Welcome}};
//!
//! let digest = Digest::of(b"the bytes of the manifest");
//! # let now = Duration::ZERO;
//! let mut session = Session::<&str>::new(digest, now);
//! let hello = session.hello(None); // goes out as the first message
//! # assert!(!hello.is_empty());
//!
//! let welcome = Welcome {
//!     version: PROTOCOL_VERSION,
//!     manifest: digest,
//!     max_message_bytes: 4096,
//!     credit: 2,
//!     messages_per_second: 240,
//!     bytes_per_second: 8 << 20,
//! };
//! let mut answer = Vec::new();
//! ServerMessage::Welcome(welcome).encode(&mut answer);
//! assert!(matches!(session.receive(now, &answer)?, (Event::Welcome(_), None)));
//!
//! let id = session.infer(now, 7, b"payload", "my frame")?;
//! assert_eq!(session.message(id), [1, id, 7, b'p', b'a', b'y', b'l', b'o', b'a', b'd']);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Digest,
    rates::Meter,
    wire::{ClientMessage, ErrorCode, Hello, InferResult, PROTOCOL_VERSION, ServerMessage, Welcome, WireError},
};

/// An answer that takes longer than this will not come: the connection counts as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// One connection, from `Hello` to its end. A new connection needs a new session.
///
/// It keeps what is in flight, with a `Note` of the caller's beside each frame. Times are given by the caller: `now` is any clock that does
/// not run backwards.
#[derive(Clone, Debug)]
pub struct Session<Note = ()> {
    manifest: Digest,
    welcome: Option<Welcome>,
    /// Counts against the rates of the `Welcome`.
    meter: Option<Meter>,
    /// When the `Welcome` is overdue.
    deadline: Duration,
    in_flight: BTreeMap<u8, Request<Note>>,
    next: u8,
}

/// A request whose answer has not come yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<Note> {
    /// The frame that was sent; none for a probe.
    pub frame: Option<Sent<Note>>,
    /// The message, as it was sent.
    pub message: Vec<u8>,
    /// When it was sent.
    pub sent: Duration,
    /// How often it was sent, over this connection and those before it.
    pub times_sent: u8,
    /// When its answer is overdue.
    pub deadline: Duration,
}

/// A frame that was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent<Note> {
    /// Its operating point.
    pub point: u16,
    /// What the caller wants to have with the answer.
    pub note: Note,
}

/// What a message of the server means for the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The connection is ready.
    Welcome(Welcome),
    /// A frame's answer.
    Result(InferResult),
    /// A probe's answer.
    ProbeAck {
        /// The probe's id.
        id: u8,
    },
    /// The edge refused this frame for want of capacity.
    Busy {
        /// The frame's id.
        id: u8,
        /// When asking again may help, in milliseconds from now.
        retry_ms: u32,
    },
    /// The edge could not serve this frame.
    Failed {
        /// The frame's id.
        id: u8,
        /// What kind of error.
        code: ErrorCode,
        /// For people.
        text: String,
    },
}

impl<Note> Session<Note> {
    /// A session that works with the manifest of this digest, over a connection that is being opened.
    pub fn new(manifest: Digest, now: Duration) -> Self {
        Self {
            manifest,
            welcome: None,
            meter: None,
            deadline: now + ANSWER_LIMIT,
            in_flight: BTreeMap::new(),
            next: 0,
        }
    }

    /// The first message of the connection.
    pub fn hello(&self, token: Option<String>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ClientMessage::Hello(Hello {
            version: PROTOCOL_VERSION,
            manifest: self.manifest,
            token,
        })
        .encode(&mut bytes);
        bytes
    }

    /// What the server granted; none before its `Welcome`.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// Requests that wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many more requests may go out now.
    pub fn credit(&self) -> usize {
        let credit = self.welcome.as_ref().map_or(0, |it| usize::from(it.credit));
        credit.saturating_sub(self.in_flight())
    }

    /// Whether another request may go out now.
    pub fn has_credit(&self) -> bool {
        self.credit() > 0
    }

    /// Whether a probe waits for its answer.
    pub fn is_probing(&self) -> bool {
        self.in_flight.values().any(|it| it.frame.is_none())
    }

    /// The request that has waited longest for its answer.
    pub fn oldest(&self) -> Option<&Request<Note>> {
        self.in_flight.values().min_by_key(|it| it.sent)
    }

    /// How long until the rates of the `Welcome` allow another request.
    pub fn pause(&self, now: Duration) -> Duration {
        self.meter.as_ref().map_or(Duration::ZERO, |it| it.wait(now))
    }

    /// Whether the edge worker has been silent for so long, five seconds, that the connection must be given up.
    pub fn is_overdue(&self, now: Duration) -> bool {
        let deadline = match self.welcome {
            Some(_) => self.in_flight.values().map(|it| it.deadline).min(),
            None => Some(self.deadline),
        };
        deadline.is_some_and(|it| now > it)
    }

    /// The message of a request in flight; empty if there is none of this id.
    pub fn message(&self, id: u8) -> &[u8] {
        self.in_flight.get(&id).map_or(&[], |it| &it.message)
    }

    /// Asks for the tail of one frame; returns the id under which the answer will come. Its [`message`](Self::message) is to be sent.
    ///
    /// An id is used again only after its answer arrived, even if nobody waits for that answer any more.
    pub fn infer(&mut self, now: Duration, point: u16, payload: &[u8], note: Note) -> Result<u8, SendError> {
        let (id, message) = self.encode(|id| ClientMessage::Infer { id, point, payload })?;
        self.sent(now, id, message, Some(Sent { point, note }), 1);
        Ok(id)
    }

    /// Sends a request again that another connection has not answered; returns its new id.
    ///
    /// # Errors
    ///
    /// Gives the request back with the reason.
    pub fn resend(&mut self, now: Duration, request: Request<Note>) -> Result<u8, (Request<Note>, SendError)> {
        let encoded = match ClientMessage::decode(&request.message) {
            Ok(ClientMessage::Infer { point, payload, .. }) => {
                self.encode(|id| ClientMessage::Infer { id, point, payload })
            }
            _ => self.encode(|id| ClientMessage::Probe { id, padding: 0 }),
        };
        match encoded {
            Ok((id, message)) => {
                self.sent(now, id, message, request.frame, request.times_sent.saturating_add(1));
                Ok(id)
            }
            Err(error) => Err((request, error)),
        }
    }

    /// Sends a probe with so many bytes of padding; returns its id. Its [`message`](Self::message) is to be sent.
    pub fn probe(&mut self, now: Duration, padding: usize) -> Result<u8, SendError> {
        let (id, message) = self.encode(|id| ClientMessage::Probe { id, padding })?;
        self.sent(now, id, message, None, 1);
        Ok(id)
    }

    /// Makes sense of one message of the server, which answers the request that comes with it, if it answers one.
    ///
    /// After an error the connection is of no use any more.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) -> Result<(Event, Option<Request<Note>>), SessionError> {
        let (id, event) = match (ServerMessage::decode(bytes)?, &self.welcome) {
            (ServerMessage::Error { id: None, code, text }, _) => return Err(SessionError::Refused { code, text }),
            (ServerMessage::Welcome(welcome), None) => return Ok((self.accept(now, welcome)?, None)),
            (ServerMessage::Welcome(_), Some(_)) | (_, None) => return Err(SessionError::OutOfTurn),
            (ServerMessage::Result(result), _) => (result.id, Event::Result(result)),
            (ServerMessage::ProbeAck { id }, _) => (id, Event::ProbeAck { id }),
            (ServerMessage::Busy { id, retry_ms }, _) => (id, Event::Busy { id, retry_ms }),
            (
                ServerMessage::Error {
                    id: Some(id),
                    code,
                    text,
                },
                _,
            ) => (id, Event::Failed { id, code, text }),
        };
        let is_probe = matches!(event, Event::ProbeAck { .. });
        match self.in_flight.remove(&id) {
            Some(request) if request.frame.is_none() == is_probe => Ok((event, Some(request))),
            _ => Err(SessionError::NotAsked { id }),
        }
    }

    /// Ends the session; returns what was in flight, in the order in which it was sent.
    pub fn end(self) -> Vec<Request<Note>> {
        let mut requests: Vec<_> = self.in_flight.into_values().collect();
        requests.sort_by_key(|it| it.sent);
        requests
    }

    fn accept(&mut self, now: Duration, welcome: Welcome) -> Result<Event, SessionError> {
        if welcome.version != PROTOCOL_VERSION {
            return Err(SessionError::Version { got: welcome.version });
        }
        if welcome.manifest != self.manifest {
            return Err(SessionError::Manifest {
                expected: self.manifest,
                got: welcome.manifest,
            });
        }
        let Welcome {
            credit,
            messages_per_second,
            bytes_per_second,
            ..
        } = welcome;
        if credit == 0 || messages_per_second == 0 || bytes_per_second == 0 {
            return Err(SessionError::NothingGranted);
        }
        self.meter = Some(Meter::pacing(messages_per_second, bytes_per_second, now));
        self.welcome = Some(welcome.clone());
        Ok(Event::Welcome(welcome))
    }

    /// A message under a free id.
    fn encode<'a>(&self, make: impl FnOnce(u8) -> ClientMessage<'a>) -> Result<(u8, Vec<u8>), SendError> {
        let limit = self.welcome.as_ref().ok_or(SendError::NotReady)?.max_message_bytes as usize;
        let no_credit = SendError::NoCredit {
            in_flight: self.in_flight(),
        };
        if !self.has_credit() {
            return Err(no_credit);
        }
        let mut ids = (0..=255).map(|it: u8| self.next.wrapping_add(it));
        let id = ids.find(|it| !self.in_flight.contains_key(it)).ok_or(no_credit)?;
        let mut message = Vec::new();
        make(id).encode(&mut message);
        if message.len() > limit {
            return Err(SendError::TooLong {
                got: message.len(),
                limit,
            });
        }
        Ok((id, message))
    }

    fn sent(&mut self, now: Duration, id: u8, message: Vec<u8>, frame: Option<Sent<Note>>, times_sent: u8) {
        if let Some(meter) = &mut self.meter {
            meter.charge(1, message.len() as u64, now);
        }
        let request = Request {
            frame,
            message,
            sent: now,
            times_sent,
            deadline: now + ANSWER_LIMIT,
        };
        self.in_flight.insert(id, request);
        self.next = id.wrapping_add(1);
    }
}

/// Why nothing was sent. The session goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The server has not welcomed the client yet.
    #[error("the edge worker has not answered the Hello yet")]
    NotReady,
    /// As many requests are in flight as the server allows.
    #[error("{in_flight} requests are in flight, the edge worker allows no more")]
    NoCredit {
        /// Requests in flight.
        in_flight: usize,
    },
    /// Longer than the server takes.
    #[error("message of {got} bytes, the edge worker takes {limit}")]
    TooLong {
        /// Length of the message.
        got: usize,
        /// Longest message taken.
        limit: usize,
    },
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Bytes that are not a message.
    #[error("the edge worker sent {0}")]
    Wire(#[from] WireError),
    /// The server said why.
    #[error("the edge worker refused the connection: {text}")]
    Refused {
        /// What kind of error.
        code: ErrorCode,
        /// For people.
        text: String,
    },
    /// Another protocol version.
    #[error("the edge worker speaks protocol version {got}, this page {PROTOCOL_VERSION}: reload the page")]
    Version {
        /// The server's version.
        got: u16,
    },
    /// Another manifest.
    #[error("the edge worker serves manifest {got}, this page has {expected}: reload the page")]
    Manifest {
        /// The client's manifest.
        expected: Digest,
        /// The server's manifest.
        got: Digest,
    },
    /// A server that takes nothing.
    #[error("the edge worker grants no requests")]
    NothingGranted,
    /// A message that cannot come now.
    #[error("the edge worker sent a message out of turn")]
    OutOfTurn,
    /// An answer to nothing.
    #[error("the edge worker answered request {id}, which is not in flight")]
    NotAsked {
        /// The id.
        id: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::from_bytes([1; 32])
    }

    fn welcome() -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            manifest: digest(),
            max_message_bytes: 100,
            credit: 2,
            messages_per_second: 240,
            bytes_per_second: 8 << 20,
        }
    }

    const NOW: Duration = Duration::ZERO;

    fn receive(session: &mut Session<u32>, message: ServerMessage) -> Result<Event, SessionError> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        session.receive(NOW, &bytes).map(|it| it.0)
    }

    fn ready() -> Session<u32> {
        let mut session = Session::new(digest(), NOW);
        receive(&mut session, ServerMessage::Welcome(welcome())).unwrap();
        session
    }

    fn result(id: u8) -> ServerMessage {
        ServerMessage::Result(InferResult {
            id,
            top: vec![],
            queue_us: 0,
            decode_us: 0,
            tail_us: 0,
        })
    }

    #[test]
    fn credit_bounds_what_is_in_flight() {
        let mut session = ready();
        let first = session.infer(NOW, 0, b"x", 1).unwrap();
        session.infer(NOW, 0, b"x", 1).unwrap();
        assert_eq!(
            session.infer(NOW, 0, b"x", 1),
            Err(SendError::NoCredit { in_flight: 2 })
        );
        receive(&mut session, result(first)).unwrap();
        assert!(session.has_credit());
    }

    #[test]
    fn an_id_is_not_used_again_before_its_answer() {
        let mut session = ready();
        let old = session.infer(NOW, 0, b"x", 1).unwrap();
        for _ in 0..600 {
            let id = session.infer(NOW, 0, b"x", 1).unwrap();
            assert_ne!(id, old);
            receive(&mut session, result(id)).unwrap();
        }
    }

    #[test]
    fn answers_to_nothing_end_the_connection() {
        assert_eq!(receive(&mut ready(), result(3)), Err(SessionError::NotAsked { id: 3 }));
        let mut session = ready();
        let id = session.infer(NOW, 0, b"x", 1).unwrap();
        assert_eq!(
            receive(&mut session, ServerMessage::ProbeAck { id }),
            Err(SessionError::NotAsked { id })
        );
    }

    #[test]
    fn nothing_goes_out_before_the_welcome_or_beyond_the_limit() {
        assert_eq!(
            Session::new(digest(), NOW).infer(NOW, 0, b"x", 1),
            Err(SendError::NotReady)
        );
        let long = ready().infer(NOW, 0, &[0; 98], 1);
        assert_eq!(long, Err(SendError::TooLong { got: 101, limit: 100 }));
    }

    #[test]
    fn another_version_or_manifest_is_refused() {
        let check = |welcome| receive(&mut Session::new(digest(), NOW), ServerMessage::Welcome(welcome));
        assert_eq!(
            check(Welcome {
                version: PROTOCOL_VERSION + 1,
                ..welcome()
            }),
            Err(SessionError::Version {
                got: PROTOCOL_VERSION + 1
            })
        );
        let got = Digest::from_bytes([2; 32]);
        let error = SessionError::Manifest {
            expected: digest(),
            got,
        };
        assert_eq!(
            check(Welcome {
                manifest: got,
                ..welcome()
            }),
            Err(error)
        );
    }

    #[test]
    fn an_edge_worker_that_grants_nothing_is_refused() {
        let check = |welcome| receive(&mut Session::new(digest(), NOW), ServerMessage::Welcome(welcome));
        let nothing = [
            Welcome { credit: 0, ..welcome() },
            Welcome {
                messages_per_second: 0,
                ..welcome()
            },
            Welcome {
                bytes_per_second: 0,
                ..welcome()
            },
        ];
        for welcome in nothing {
            assert_eq!(check(welcome), Err(SessionError::NothingGranted));
        }
    }

    #[test]
    fn what_is_in_flight_is_kept_until_its_answer_and_can_be_sent_again() {
        let mut session = ready();
        let at = Duration::from_secs;
        let id = session.infer(at(1), 7, b"x", 41).unwrap();
        session.probe(at(2), 3).unwrap();
        assert_eq!(session.oldest().map(|it| it.sent), Some(at(1)));
        assert!(session.is_probing() && !session.is_overdue(at(6)) && session.is_overdue(at(7)));
        let frame = session.end().swap_remove(0);
        assert_eq!(
            (frame.frame.clone(), frame.times_sent),
            (Some(Sent { point: 7, note: 41 }), 1)
        );

        let mut next = ready();
        let again = next.resend(at(8), frame).unwrap();
        assert_eq!(next.message(again), [1, id, 7, b'x']);
        let mut bytes = Vec::new();
        result(again).encode(&mut bytes);
        let (_, request) = next.receive(at(9), &bytes).unwrap();
        let request = request.unwrap();
        assert_eq!((request.sent, request.times_sent), (at(8), 2));
        assert_eq!((next.in_flight(), next.message(again).len()), (0, 0));
    }
}
