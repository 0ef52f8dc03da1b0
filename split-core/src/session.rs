//! The client's half of a connection, without the socket.
//!
//! [`Session`] says what to send and makes sense of what arrives; the caller moves the bytes. The browser drives it with a
//! WebSocket of web-sys, the native tests with one of tokio, so both speak the protocol through the same code.
//!
//! ```
//! use split_core::{Digest, session::{Event, Session}, wire::{PROTOCOL_VERSION, ServerMessage, Welcome}};
//!
//! let digest = Digest::of(b"the bytes of the manifest");
//! let mut session = Session::new(digest);
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
//! assert!(matches!(session.receive(&answer)?, Event::Welcome(_)));
//!
//! let mut message = Vec::new();
//! let id = session.infer(7, b"payload", &mut message)?;
//! assert_eq!(message, [1, id, 7, b'p', b'a', b'y', b'l', b'o', b'a', b'd']);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::{
    Digest,
    wire::{ClientMessage, ErrorCode, Hello, InferResult, PROTOCOL_VERSION, ServerMessage, Welcome, WireError},
};

/// One connection, from `Hello` to its end. A new connection needs a new session.
#[derive(Clone, Debug)]
pub struct Session {
    manifest: Digest,
    welcome: Option<Welcome>,
    /// Whether an id waits for its answer.
    waiting: [Option<Asked>; 256],
    next: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Infer,
    Probe,
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

impl Session {
    /// A session that works with the manifest of this digest.
    pub fn new(manifest: Digest) -> Self {
        Self {
            manifest,
            welcome: None,
            waiting: [None; 256],
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
        self.waiting.iter().filter(|it| it.is_some()).count()
    }

    /// Whether another request may go out now.
    pub fn has_credit(&self) -> bool {
        self.welcome
            .as_ref()
            .is_some_and(|it| self.in_flight() < usize::from(it.credit))
    }

    /// Writes the message that asks for the tail of one frame; returns the id under which the answer will come.
    ///
    /// An id is used again only after its answer arrived, even if nobody waits for that answer any more.
    pub fn infer(&mut self, point: u16, payload: &[u8], message: &mut Vec<u8>) -> Result<u8, SendError> {
        self.send(Asked::Infer, message, |id| ClientMessage::Infer { id, point, payload })
    }

    /// Writes a probe with so many bytes of padding; returns its id.
    pub fn probe(&mut self, padding: usize, message: &mut Vec<u8>) -> Result<u8, SendError> {
        self.send(Asked::Probe, message, |id| ClientMessage::Probe { id, padding })
    }

    /// Makes sense of one message of the server. After an error the connection is of no use any more.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Event, SessionError> {
        match (ServerMessage::decode(bytes)?, &self.welcome) {
            (ServerMessage::Error { id: None, code, text }, _) => Err(SessionError::Refused { code, text }),
            (ServerMessage::Welcome(welcome), None) => self.accept(welcome),
            (ServerMessage::Welcome(_), Some(_)) | (_, None) => Err(SessionError::OutOfTurn),
            (ServerMessage::Result(result), _) => self.answer(result.id, Asked::Infer, Event::Result(result)),
            (ServerMessage::ProbeAck { id }, _) => self.answer(id, Asked::Probe, Event::ProbeAck { id }),
            (ServerMessage::Busy { id, retry_ms }, _) => self.answer(id, Asked::Infer, Event::Busy { id, retry_ms }),
            (
                ServerMessage::Error {
                    id: Some(id),
                    code,
                    text,
                },
                _,
            ) => self.answer(id, Asked::Infer, Event::Failed { id, code, text }),
        }
    }

    fn accept(&mut self, welcome: Welcome) -> Result<Event, SessionError> {
        if welcome.version != PROTOCOL_VERSION {
            return Err(SessionError::Version { got: welcome.version });
        }
        if welcome.manifest != self.manifest {
            return Err(SessionError::Manifest {
                expected: self.manifest,
                got: welcome.manifest,
            });
        }
        self.welcome = Some(welcome.clone());
        Ok(Event::Welcome(welcome))
    }

    fn answer(&mut self, id: u8, asked: Asked, event: Event) -> Result<Event, SessionError> {
        match self.waiting[usize::from(id)].take_if(|it| *it == asked) {
            Some(_) => Ok(event),
            None => Err(SessionError::NotAsked { id }),
        }
    }

    fn send<'a>(
        &mut self,
        asked: Asked,
        message: &mut Vec<u8>,
        make: impl FnOnce(u8) -> ClientMessage<'a>,
    ) -> Result<u8, SendError> {
        let limit = self.welcome.as_ref().ok_or(SendError::NotReady)?.max_message_bytes as usize;
        if !self.has_credit() {
            return Err(SendError::NoCredit {
                in_flight: self.in_flight(),
            });
        }
        let free = (0..=255)
            .map(|it: u8| self.next.wrapping_add(it))
            .find(|&it| self.waiting[usize::from(it)].is_none());
        let id = free.ok_or(SendError::NoCredit { in_flight: 256 })?;
        message.clear();
        make(id).encode(message);
        if message.len() > limit {
            return Err(SendError::TooLong {
                got: message.len(),
                limit,
            });
        }
        self.waiting[usize::from(id)] = Some(asked);
        self.next = id.wrapping_add(1);
        Ok(id)
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

    fn receive(session: &mut Session, message: ServerMessage) -> Result<Event, SessionError> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        session.receive(&bytes)
    }

    fn ready() -> Session {
        let mut session = Session::new(digest());
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
        let (mut session, mut message) = (ready(), Vec::new());
        let first = session.infer(0, b"x", &mut message).unwrap();
        session.infer(0, b"x", &mut message).unwrap();
        assert_eq!(
            session.infer(0, b"x", &mut message),
            Err(SendError::NoCredit { in_flight: 2 })
        );
        receive(&mut session, result(first)).unwrap();
        assert!(session.has_credit());
    }

    #[test]
    fn an_id_is_not_used_again_before_its_answer() {
        let (mut session, mut message) = (ready(), Vec::new());
        let old = session.infer(0, b"x", &mut message).unwrap();
        for _ in 0..600 {
            let id = session.infer(0, b"x", &mut message).unwrap();
            assert_ne!(id, old);
            receive(&mut session, result(id)).unwrap();
        }
    }

    #[test]
    fn answers_to_nothing_end_the_connection() {
        assert_eq!(receive(&mut ready(), result(3)), Err(SessionError::NotAsked { id: 3 }));
        let (mut session, mut message) = (ready(), Vec::new());
        let id = session.infer(0, b"x", &mut message).unwrap();
        assert_eq!(
            receive(&mut session, ServerMessage::ProbeAck { id }),
            Err(SessionError::NotAsked { id })
        );
    }

    #[test]
    fn nothing_goes_out_before_the_welcome_or_beyond_the_limit() {
        let mut message = Vec::new();
        assert_eq!(
            Session::new(digest()).infer(0, b"x", &mut message),
            Err(SendError::NotReady)
        );
        let long = ready().infer(0, &[0; 98], &mut message);
        assert_eq!(long, Err(SendError::TooLong { got: 101, limit: 100 }));
    }

    #[test]
    fn another_version_or_manifest_is_refused() {
        let check = |welcome| receive(&mut Session::new(digest()), ServerMessage::Welcome(welcome));
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
}
