//! Wire protocol, version 3: what goes in one binary WebSocket message.
//!
//! A message is a `postcard` header; in [`ClientMessage::Infer`] the payload follows it without a length of its own, because
//! the WebSocket delimits the message and the payload ends itself (see [`codec`](crate::codec)). So an `Infer` costs three bytes beside its payload (four
//! from operating point 128 on).
//!
//! ```text
//! client  Hello ─────────► server        client  Infer(id, point, payload) ─► server
//!         ◄───── Welcome | Error                 ◄── Result(id, …) | Busy(id, …) | Error(id, …)
//! ```
//!
//! The client speaks first. Until `Welcome` it sends nothing else. An `id` must not be used again before its answer came; every
//! `Infer` gets exactly one answer. Unknown and malformed messages are refused, never skipped.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The protocol version that this code speaks.
pub const PROTOCOL_VERSION: u16 = 3;

/// The longest text in a message, in bytes.
const MAX_TEXT_BYTES: usize = 1024;
/// WebSocket close code of a connection that has reached its age: connect again at once, and send again what was not answered.
pub const CLOSE_MOVED: u16 = 1012;
/// The longest padding of a probe, in bytes.
pub const MAX_PROBE_BYTES: usize = 64 * 1024;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// The first message of a connection.
    Hello(Hello),
    /// Asks for the tail of one frame.
    Infer {
        /// Names the request among those in flight.
        id: u8,
        /// Operating point: its place in the manifest.
        point: u16,
        /// What the operating point's codec gave.
        payload: &'a [u8],
    },
    /// Asks for a [`ServerMessage::ProbeAck`]; the padding gives it its size.
    Probe {
        /// Comes back in the answer.
        id: u8,
        /// Bytes of padding behind the header, at most [`MAX_PROBE_BYTES`].
        padding: usize,
    },
    /// The client will close the connection.
    Bye,
}

/// Who the client is and what it expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the client.
    pub version: u16,
    /// Digest of the manifest that the client works with.
    pub manifest: Digest,
    /// Access token, if the operator wants one.
    pub token: Option<String>,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The answer to a `Hello` that fits.
    Welcome(Welcome),
    /// The answer to an `Infer`.
    Result(InferResult),
    /// The answer to a `Probe`.
    ProbeAck {
        /// The probe's id.
        id: u8,
    },
    /// The edge has no capacity for this request; the frame is not processed.
    Busy {
        /// The request's id.
        id: u8,
        /// When asking again may help, in milliseconds from now: the predicted wait of the queue.
        retry_ms: u32,
    },
    /// A request, or the whole connection, cannot be served.
    Error {
        /// The request's id; none if the connection as a whole is concerned, which the server then closes.
        id: Option<u8>,
        /// What kind of error.
        code: ErrorCode,
        /// For people: what is wrong and what to do.
        text: String,
    },
}

/// What the server grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL_VERSION`] of the server.
    pub version: u16,
    /// Digest of the manifest that the server serves.
    pub manifest: Digest,
    /// Longest message that the server takes, in bytes.
    pub max_message_bytes: u32,
    /// Requests that may be in flight on this connection, at least 1.
    pub credit: u8,
    /// Messages a second that are served on this connection on average, with a burst of two seconds' worth; each WebSocket frame counts as one.
    /// A request beyond that is answered `Busy`.
    pub messages_per_second: u32,
    /// Bytes a second of the same kind.
    pub bytes_per_second: u32,
}

/// Class probabilities of one frame and the server's part of its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferResult {
    /// The request's id.
    pub id: u8,
    /// The most likely classes, best first.
    pub top: Vec<ClassProbability>,
    /// Waiting for its turn, and for others of its batch, in microseconds.
    pub queue_us: u32,
    /// Decoding the payload, in microseconds.
    pub decode_us: u32,
    /// Its share of running its batch through the tail, in microseconds.
    pub tail_us: u32,
}

/// One class of a result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassProbability {
    /// Place of the class in the manifest.
    pub class: u16,
    /// Its probability, 0 to 1.
    pub probability: f32,
}

/// Kinds of errors, by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The bytes are not a message of this protocol, or come at the wrong time: the client is at fault.
    BadMessage,
    /// The payload does not decode at its operating point: the client is at fault.
    BadPayload,
    /// The manifest has no such operating point, or it has no tail on the edge.
    NoSuchPoint,
    /// The server speaks another version: update the page.
    VersionMismatch,
    /// The server serves another manifest: load it anew.
    ManifestMismatch,
    /// The token is missing or wrong.
    Unauthorized,
    /// A stated limit was passed.
    LimitExceeded,
    /// The server failed; the request may be tried again.
    Internal,
    /// The server is going away: connect again. A server that drains may say so before its Close, which says the same (1001); the edge worker of this
    /// repository does not, so a client has to understand either.
    ShuttingDown,
}

#[derive(Serialize, Deserialize)]
enum Header {
    Hello(Hello),
    Infer { id: u8, point: u16 },
    Probe { id: u8, padding: u32 },
    Bye,
}

impl<'a> ClientMessage<'a> {
    /// Appends the message's bytes to `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let (header, rest) = match self.clone() {
            Self::Hello(hello) => (Header::Hello(hello), Rest::Nothing),
            Self::Infer { id, point, payload } => (Header::Infer { id, point }, Rest::Payload(payload)),
            Self::Probe { id, padding } => {
                let padding = padding.min(MAX_PROBE_BYTES);
                (
                    Header::Probe {
                        id,
                        padding: padding as u32,
                    },
                    Rest::Padding(padding),
                )
            }
            Self::Bye => (Header::Bye, Rest::Nothing),
        };
        write(&header, bytes);
        match rest {
            Rest::Nothing => {}
            Rest::Payload(payload) => bytes.extend_from_slice(payload),
            Rest::Padding(padding) => bytes.resize(bytes.len() + padding, 0),
        }
    }

    /// Reads one message. An empty payload is refused here; a payload cut short is refused by its codec.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (header, rest) =
            postcard::take_from_bytes(bytes).map_err(|_| WireError::Malformed { bytes: bytes.len() })?;
        match header {
            Header::Infer { .. } if rest.is_empty() => Err(WireError::Malformed { bytes: bytes.len() }),
            Header::Infer { id, point } => Ok(Self::Infer {
                id,
                point,
                payload: rest,
            }),
            Header::Probe { padding, .. } if padding as usize > MAX_PROBE_BYTES => Err(WireError::Limit {
                what: "padding",
                got: padding as usize,
                limit: MAX_PROBE_BYTES,
            }),
            Header::Probe { id, padding } => expect(rest, padding as usize).map(|()| Self::Probe {
                id,
                padding: rest.len(),
            }),
            Header::Hello(hello) => {
                expect(rest, 0)?;
                check_text(hello.token.as_deref().unwrap_or_default())?;
                Ok(Self::Hello(hello))
            }
            Header::Bye => expect(rest, 0).map(|()| Self::Bye),
        }
    }
}

enum Rest<'a> {
    Nothing,
    Payload(&'a [u8]),
    Padding(usize),
}

impl ServerMessage {
    /// Appends the message's bytes to `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        write(self, bytes);
    }

    /// Reads one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (message, rest) =
            postcard::take_from_bytes(bytes).map_err(|_| WireError::Malformed { bytes: bytes.len() })?;
        expect(rest, 0)?;
        if let Self::Error { text, .. } = &message {
            check_text(text)?;
        }
        Ok(message)
    }
}

fn write(message: &impl Serialize, bytes: &mut Vec<u8>) {
    // Fails only where a sink is full or a type has no known length; a `Vec` and these types are neither.
    if let Ok(longer) = postcard::to_extend(message, std::mem::take(bytes)) {
        *bytes = longer;
    }
}

fn expect(rest: &[u8], expected: usize) -> Result<(), WireError> {
    match rest.len() == expected {
        true => Ok(()),
        false => Err(WireError::Length {
            expected,
            got: rest.len(),
        }),
    }
}

fn check_text(text: &str) -> Result<(), WireError> {
    match text.len() <= MAX_TEXT_BYTES {
        true => Ok(()),
        false => Err(WireError::Limit {
            what: "text",
            got: text.len(),
            limit: MAX_TEXT_BYTES,
        }),
    }
}

/// Why bytes are not a message: the peer is at fault, or speaks another protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No message starts like this, or it stops early.
    #[error("{bytes} bytes that are not a message of protocol version {PROTOCOL_VERSION}")]
    Malformed {
        /// Length of the message.
        bytes: usize,
    },
    /// The message is whole, but fewer or more bytes follow than it says.
    #[error("{got} bytes follow the message's header, expected {expected}")]
    Length {
        /// Bytes announced.
        expected: usize,
        /// Bytes there.
        got: usize,
    },
    /// Larger than allowed.
    #[error("{what} of {got} bytes, the limit is {limit}")]
    Limit {
        /// Which part.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The most allowed.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            manifest: Digest::from_bytes([7; 32]),
            token: Some("abc".into()),
        }
    }

    fn client_messages() -> Vec<ClientMessage<'static>> {
        vec![
            ClientMessage::Hello(hello()),
            ClientMessage::Infer {
                id: 200,
                point: 300,
                payload: &[1],
            },
            ClientMessage::Probe { id: 3, padding: 10 },
            ClientMessage::Bye,
        ]
    }

    fn server_messages() -> Vec<ServerMessage> {
        let top = vec![
            ClassProbability {
                class: 3,
                probability: 0.75,
            },
            ClassProbability {
                class: 5,
                probability: 0.25,
            },
        ];
        vec![
            ServerMessage::Welcome(Welcome {
                version: PROTOCOL_VERSION,
                manifest: Digest::from_bytes([7; 32]),
                max_message_bytes: 4096,
                credit: 4,
                messages_per_second: 240,
                bytes_per_second: 8 << 20,
            }),
            ServerMessage::Result(InferResult {
                id: 9,
                top,
                queue_us: 1,
                decode_us: 300,
                tail_us: 70_000,
            }),
            ServerMessage::ProbeAck { id: 3 },
            ServerMessage::Busy { id: 4, retry_ms: 250 },
            ServerMessage::Error {
                id: None,
                code: ErrorCode::ManifestMismatch,
                text: "load it anew".into(),
            },
        ]
    }

    fn bytes_of(message: &ClientMessage<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        bytes
    }

    #[test]
    fn messages_come_back_and_no_prefix_of_one_does() {
        for message in client_messages() {
            let bytes = bytes_of(&message);
            assert_eq!(ClientMessage::decode(&bytes), Ok(message));
            assert!((0..bytes.len()).all(|it| ClientMessage::decode(&bytes[..it]).is_err()));
        }
        for message in server_messages() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(ServerMessage::decode(&bytes), Ok(message));
            assert!((0..bytes.len()).all(|it| ServerMessage::decode(&bytes[..it]).is_err()));
            bytes.push(0);
            assert!(ServerMessage::decode(&bytes).is_err());
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            bytes_of(&ClientMessage::Infer {
                id: 200,
                point: 5,
                payload: &[9, 8]
            }),
            [1, 200, 5, 9, 8]
        );
        assert_eq!(bytes_of(&ClientMessage::Probe { id: 3, padding: 2 }), [2, 3, 2, 0, 0]);
        assert_eq!(bytes_of(&ClientMessage::Bye), [3]);
        let hello = bytes_of(&ClientMessage::Hello(hello()));
        assert_eq!(hello, [&[0, 3][..], &[7; 32], &[1, 3], b"abc"].concat());
        let golden: [&[u8]; 5] = [
            &[&[0, 3][..], &[7; 32], &[128, 32, 4, 240, 1, 128, 128, 128, 4]].concat(),
            &[1, 9, 2, 3, 0, 0, 64, 63, 5, 0, 0, 128, 62, 1, 172, 2, 240, 162, 4],
            &[2, 3],
            &[3, 4, 250, 1],
            &[&[4, 0, 4, 12][..], b"load it anew"].concat(),
        ];
        for (message, golden) in server_messages().iter().zip(golden) {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(bytes, golden, "{message:?}");
        }
    }

    #[test]
    fn limits_are_checked_before_anything_is_used() {
        let probe = postcard::to_allocvec(&Header::Probe {
            id: 1,
            padding: u32::MAX,
        })
        .unwrap();
        assert!(matches!(
            ClientMessage::decode(&probe),
            Err(WireError::Limit { what: "padding", .. })
        ));
        let token = Some("x".repeat(MAX_TEXT_BYTES + 1));
        let hello = postcard::to_allocvec(&Header::Hello(Hello { token, ..hello() })).unwrap();
        assert!(matches!(
            ClientMessage::decode(&hello),
            Err(WireError::Limit { what: "text", .. })
        ));
    }
}
