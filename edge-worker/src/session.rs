//! The server's half of one WebSocket: `Hello`, then requests and answers until one side ends it.
//!
//! One task a connection, no other state: what it holds while idle is the socket's read buffer
//! ([`READ_BUFFER_BYTES`](crate::upgrade)) and a channel of as many answers as the client has credit. What comes passes the [`gate`](crate::gate)
//! first, which keeps to the limits that a message can break before it is whole.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use split_core::wire::{CLOSE_MOVED, ClientMessage, ErrorCode, Hello, PROTOCOL_VERSION, ServerMessage, Welcome};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::yield_now,
    time::{interval, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as SocketError, Message,
        error::ProtocolError,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::{
    catalog::Served,
    gate::{Arrived, Gate, Refusal},
    lease::Lease,
    limits::{Address, Held, Meter},
    queue::Client,
    refusals::Reason,
    request::{Answer, Request},
    series::{Point, Series},
    server::State,
    upgrade::READ_BUFFER_BYTES,
};

/// Serves one WebSocket to its end. `name` is the series that its URL names.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<Gate<S>>,
    state: Arc<State>,
    name: Option<String>,
    address: &Address,
) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let now = Instant::now();
    let (sender, answers) = mpsc::channel(usize::from(state.config.limits.credit));
    let mut session = Session {
        meter: Meter::announced(&state.config.limits, now),
        client: Client {
            address: address.name,
            connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        },
        received: 0,
        socket,
        state,
        sender,
        answers,
        in_flight: Vec::new(),
        began: now,
        heard: now,
        asked: now,
    };
    let ending = match session.converse(name).await {
        Ok(never) => match never {},
        Err(ending) => ending,
    };
    tracing::debug!(?ending, "connection ends");
    session.end(ending).await;
}

/// Why a connection ends.
#[derive(Debug)]
enum Ending {
    /// The peer is gone, or said goodbye.
    Gone,
    /// The peer closes the WebSocket: its Close is to be answered.
    Closed,
    /// The peer broke a rule: it is told which, and the connection is closed with this code.
    Refused(CloseCode, ErrorCode, String),
    /// Nothing was asked for a long time.
    Idle,
    /// The server shuts down.
    Draining,
    /// The connection has reached its age, or what it began with was replaced: the client is to connect again.
    Moved,
}

enum Never {}

struct Session<S> {
    socket: WebSocketStream<Gate<S>>,
    state: Arc<State>,
    /// Counts against the rates that the `Welcome` announced.
    meter: Meter,
    client: Client,
    /// Messages so far.
    received: u32,
    sender: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
    /// Ids of the requests whose answers are due.
    in_flight: Vec<u8>,
    began: Instant,
    /// When anything last came.
    heard: Instant,
    /// When a message last came.
    asked: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn converse(&mut self, name: Option<String>) -> Result<Never, Ending> {
        let draining = self.state.draining.clone();
        let limit = self.state.config.limits.hello_timeout;
        let hello = tokio::select! {
            hello = timeout(limit, self.hello()) => hello.unwrap_or_else(|_| Err(policy("no Hello came in time")))?,
            () = draining.cancelled() => return Err(Ending::Draining),
        };
        let (served, token) = self.welcome(hello, name.as_deref()).await?;
        let series = &served.series;
        let mut heartbeat = interval(self.state.config.limits.heartbeat);
        heartbeat.reset();
        let limits = &self.state.config.limits;
        let aged = sleep(around(limits.max_age));
        let overload_age = around(limits.overload_age);
        tokio::pin!(aged);
        let grace = limits.grace;
        let (mut series_replaced, mut token_replaced) = (pin!(served.lease.ended(grace)), pin!(token.ended(grace)));
        loop {
            tokio::select! {
                message = self.socket.next() => self.receive(message, series).await?,
                Some(answer) = self.answers.recv() => self.answer(answer).await?,
                _ = heartbeat.tick() => {
                    if self.began.elapsed() > overload_age && self.state.is_overloaded() {
                        return Err(self.drain(Ending::Moved).await);
                    }
                    self.beat().await?;
                }
                () = &mut aged => return Err(self.drain(Ending::Moved).await),
                () = &mut series_replaced => return Err(self.drain(Ending::Moved).await),
                () = &mut token_replaced => return Err(self.drain(Ending::Moved).await),
                () = draining.cancelled() => return Err(self.drain(Ending::Draining).await),
            }
        }
    }

    /// Waits for the first message.
    async fn hello(&mut self) -> Result<Hello, Ending> {
        loop {
            let message = self.socket.next().await;
            let Some(bytes) = self.check(message)? else { continue };
            // Rates count from here on.
            drop(self.socket.get_mut().arrived());
            return match ClientMessage::decode(&bytes) {
                Ok(ClientMessage::Hello(hello)) => Ok(hello),
                Ok(_) => Err(policy("the first message must be Hello")),
                Err(error) => Err(malformed(error)),
            };
        }
    }

    /// Answers a `Hello` that fits.
    async fn welcome(&mut self, hello: Hello, name: Option<&str>) -> Result<(Served, Lease), Ending> {
        let refuse = |code, text: &str| Ending::Refused(CloseCode::Policy, code, text.into());
        if hello.version != PROTOCOL_VERSION {
            let text = format!(
                "the client speaks protocol version {}, this server {PROTOCOL_VERSION}: reload the page",
                hello.version
            );
            return Err(refuse(ErrorCode::VersionMismatch, &text));
        }
        let Some(token) = self.state.admit(hello.token.as_deref()) else {
            let text = match hello.token {
                Some(_) => "the token is wrong",
                None => "the token is missing",
            };
            let details = format_args!("{text} (from {})", self.client.address);
            self.state.metrics.refusals.note(Reason::Token, Instant::now(), details);
            return Err(refuse(ErrorCode::Unauthorized, "the token is missing or wrong"));
        };
        let served = self.state.catalog().by_digest(&hello.manifest);
        let Some(served) = served.filter(|it| name.is_none_or(|name| it.series.manifest.series == name)) else {
            let text = "this server has another manifest: load it anew";
            return Err(refuse(ErrorCode::ManifestMismatch, text));
        };
        let limit = served.series.max_message_bytes();
        self.socket.get_mut().set_max_message_bytes(limit);
        let max_message_bytes = u32::try_from(limit).unwrap_or(u32::MAX);
        self.send(&ServerMessage::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            manifest: served.series.digest,
            max_message_bytes,
            credit: self.state.config.limits.credit,
            messages_per_second: self.state.config.limits.messages_per_second,
            bytes_per_second: self.state.config.limits.bytes_per_second,
        }))
        .await?;
        Ok((served, token))
    }

    /// The bytes of a message; none if it is one of the WebSocket's own.
    fn check(&mut self, message: Option<Result<Message, SocketError>>) -> Result<Option<Bytes>, Ending> {
        self.heard = Instant::now();
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(self.failed(&error)),
            None => return Err(Ending::Gone),
        };
        match message {
            Message::Binary(bytes) => {
                self.state.metrics.bytes_in.inc_by(bytes.len() as u64);
                self.asked = self.heard;
                Ok(Some(bytes))
            }
            Message::Text(_) => {
                let text = "messages are binary".to_owned();
                Err(Ending::Refused(CloseCode::Unsupported, ErrorCode::BadMessage, text))
            }
            Message::Close(_) => Err(Ending::Closed),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    /// Why nothing more can be read.
    fn failed(&self, error: &SocketError) -> Ending {
        let exceeded = |close, text| Ending::Refused(close, ErrorCode::LimitExceeded, text);
        let broken = |close, text| Ending::Refused(close, ErrorCode::BadMessage, text);
        match (self.socket.get_ref().refusal(), error) {
            (Some(Refusal::TooLong { limit }), _) => {
                exceeded(CloseCode::Size, format!("a message of more than {limit} bytes"))
            }
            (Some(Refusal::Flood), _) => {
                let text = "many times more messages or bytes a second than the Welcome announces";
                exceeded(CloseCode::Policy, text.into())
            }
            (Some(Refusal::Control), _) => {
                let text = "a control frame is whole and has at most 125 bytes";
                broken(CloseCode::Protocol, text.into())
            }
            (None, SocketError::Capacity(error)) => exceeded(CloseCode::Size, error.to_string()),
            (None, SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ending::Gone,
            // RFC 6455, section 7.4.1.
            (None, SocketError::Protocol(error)) => broken(CloseCode::Protocol, error.to_string()),
            // The error holds the text itself.
            (None, SocketError::Utf8(_)) => broken(CloseCode::Invalid, "text that is not UTF-8".into()),
            (None, error) => {
                tracing::debug!(%error, "a WebSocket failed");
                Ending::Gone
            }
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, SocketError>>, series: &Series) -> Result<(), Ending> {
        let Some(bytes) = self.check(message)? else {
            return Ok(());
        };
        self.received = self.received.wrapping_add(1);
        if self.received.is_multiple_of(MESSAGES_IN_A_ROW) {
            yield_now().await;
        }
        let Arrived {
            frames,
            bytes: count,
            held,
        } = self.socket.get_mut().arrived();
        let rate = self.meter.allow(frames, count, self.heard);
        match ClientMessage::decode(&bytes).map_err(malformed)? {
            ClientMessage::Infer { id, point, payload } => {
                let request = Asked {
                    id,
                    point,
                    payload: owned(&bytes, payload),
                    held,
                };
                match self.infer(series, request, rate)? {
                    Some(refusal) => self.send(&refusal).await,
                    None => Ok(()),
                }
            }
            // An answer costs no more than a refusal would.
            ClientMessage::Probe { id, .. } => self.send(&ServerMessage::ProbeAck { id }).await,
            ClientMessage::Bye => Err(Ending::Gone),
            ClientMessage::Hello(_) => Err(policy("a second Hello")),
        }
    }

    /// Queues a request, or says at once why not.
    fn infer(
        &mut self,
        series: &Series,
        asked: Asked,
        rate: Result<(), Duration>,
    ) -> Result<Option<ServerMessage>, Ending> {
        let Asked {
            id,
            point,
            payload,
            held,
        } = asked;
        if self.in_flight.contains(&id) {
            return Err(policy("an id was used again before its answer came"));
        }
        let Some(point) = series.point(point) else {
            self.state.metrics.error(ErrorCode::NoSuchPoint);
            return Ok(Some(ServerMessage::Error {
                id: Some(id),
                code: ErrorCode::NoSuchPoint,
                text: format!("operating point {point} has no tail on the edge"),
            }));
        };
        if let Err(error) = point.decoder.check_length(payload.len()) {
            self.state.metrics.error(ErrorCode::BadPayload);
            return Ok(Some(ServerMessage::Error {
                id: Some(id),
                code: ErrorCode::BadPayload,
                text: error.to_string(),
            }));
        }
        let has_credit = self.in_flight.len() < usize::from(self.state.config.limits.credit);
        if let (Err(_), _) | (_, false) = (rate, has_credit) {
            let service = point.tail.service();
            let wait = self.state.pool.wait(self.client, service).max(service);
            return Ok(Some(self.busy(id, point, wait.max(rate.err().unwrap_or_default()))));
        }
        let request = Request {
            id,
            client: self.client,
            point: point.clone(),
            payload,
            held,
            received: self.heard,
            answers: self.sender.clone(),
            metrics: self.state.metrics.clone(),
        };
        match self.state.pool.submit(request) {
            Ok(()) => {
                self.in_flight.push(id);
                Ok(None)
            }
            Err(overloaded) => Ok(Some(self.busy(id, point, overloaded.wait))),
        }
    }

    fn busy(&self, id: u8, point: &Point, retry: Duration) -> ServerMessage {
        self.state.metrics.refused_frame(point);
        // At least 1: asking again at once cannot help.
        let retry_ms = u32::try_from(retry.as_millis()).unwrap_or(u32::MAX).max(1);
        ServerMessage::Busy { id, retry_ms }
    }

    /// Sends an answer, and those that are ready behind it, in one go.
    async fn answer(&mut self, first: Answer) -> Result<(), Ending> {
        let mut next = Some(first);
        let mut messages = Vec::new();
        while let Some(Answer { id, message }) = next {
            self.in_flight.retain(|it| *it != id);
            messages.push(message);
            next = self.answers.try_recv().ok();
        }
        self.send_all(&messages).await
    }

    /// Pings, and gives up a peer that is silent.
    async fn beat(&mut self) -> Result<(), Ending> {
        let limits = &self.state.config.limits;
        let unfinished = self.socket.get_ref().unfinished_since();
        if unfinished.is_some_and(|it| it.elapsed() > limits.message_timeout) {
            let text = "a message did not arrive whole in time".to_owned();
            return Err(Ending::Refused(CloseCode::Policy, ErrorCode::LimitExceeded, text));
        }
        if self.heard.elapsed() > 2 * limits.heartbeat {
            return Err(Ending::Gone);
        }
        if self.asked.elapsed() > limits.idle_timeout {
            return Err(Ending::Idle);
        }
        self.write(Message::Ping(Bytes::new())).await?;
        self.flush().await
    }

    /// Answers what is in flight; nothing more is read.
    async fn drain(&mut self, ending: Ending) -> Ending {
        while !self.in_flight.is_empty() {
            let Some(answer) = self.answers.recv().await else {
                break;
            };
            if let Err(ending) = self.answer(answer).await {
                return ending;
            }
        }
        ending
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), Ending> {
        self.send_all(std::slice::from_ref(message)).await
    }

    async fn send_all(&mut self, messages: &[ServerMessage]) -> Result<(), Ending> {
        for message in messages {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            self.state.metrics.bytes_out.inc_by(bytes.len() as u64);
            self.write(Message::Binary(bytes.into())).await?;
        }
        self.flush().await
    }

    async fn write(&mut self, message: Message) -> Result<(), Ending> {
        let limit = self.state.config.limits.write_timeout;
        match timeout(limit, self.socket.feed(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ending::Gone),
        }
    }

    /// A client that does not read stops here, and with it everything of its connection.
    async fn flush(&mut self) -> Result<(), Ending> {
        let limit = self.state.config.limits.write_timeout;
        match timeout(limit, self.socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ending::Gone),
        }
    }

    /// Says why, and closes.
    async fn end(mut self, ending: Ending) {
        let (code, reason) = match ending {
            Ending::Closed => return self.agree().await,
            Ending::Gone => (CloseCode::Normal, ""),
            Ending::Idle => (CloseCode::Away, "idle"),
            Ending::Draining => (CloseCode::Away, "the server is going away: connect again"),
            Ending::Moved => (CLOSE_MOVED.into(), "connect again"),
            Ending::Refused(close, code, text) => {
                self.state.metrics.error(code);
                if self.send(&ServerMessage::Error { id: None, code, text }).await.is_err() {
                    return;
                }
                (close, "")
            }
        };
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        // The peer's own Close ends the stream; until then, what it had already sent is read and dropped, because closing a socket
        // with unread bytes would reset it and take the last answers along.
        let close = async {
            self.socket.close(Some(frame)).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            self.socket.get_mut().discard().await;
            Ok::<_, SocketError>(())
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
    }

    /// Answers the peer's Close (RFC 6455, section 5.5.1) and ends the connection.
    async fn agree(&mut self) {
        let close = async {
            // tungstenite has the answer ready; reading on sends it.
            while let Some(Ok(_)) = self.socket.next().await {}
            let stream = self.socket.get_mut();
            stream.shutdown().await?;
            // What came behind the Close would reset the socket and take the answer along.
            stream.discard().await;
            Ok::<_, io::Error>(())
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
    }
}

/// A request as it came.
struct Asked {
    id: u8,
    point: u16,
    payload: Bytes,
    held: Held,
}

/// How many messages of one client are read before the others get their turn: more arrive together only if a client sends without waiting.
const MESSAGES_IN_A_ROW: u32 = 16;

/// The part of a message that is kept. A short one is copied, or it would keep the whole read buffer.
fn owned(message: &Bytes, part: &[u8]) -> Bytes {
    match part.len() < READ_BUFFER_BYTES {
        true => Bytes::copy_from_slice(part),
        false => message.slice_ref(part),
    }
}

/// How long the peer has to answer a Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// This time, give or take a quarter: what began together does not end together.
pub(crate) fn around(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    time.min(FOREVER).mul_f64(0.75 + 0.5 * random)
}

/// Longer than any connection lives, and short enough to reckon with.
const FOREVER: Duration = Duration::from_secs(1 << 32);

fn policy(text: &str) -> Ending {
    Ending::Refused(CloseCode::Policy, ErrorCode::BadMessage, text.into())
}

fn malformed(error: impl std::fmt::Display) -> Ending {
    Ending::Refused(CloseCode::Protocol, ErrorCode::BadMessage, error.to_string())
}
