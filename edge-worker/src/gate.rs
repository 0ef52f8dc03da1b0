//! Watches what comes from a WebSocket's peer, frame by frame, before anything is kept of it.
//!
//! tungstenite puts the pieces of a message together by itself and shows the message; what it costs to get there it does not show: a million empty
//! pieces a second, or a header that announces more than may come. So the bytes pass through here first. The headers of frames (RFC 6455, section 5.2) are
//! read as they go by; a frame that would pass a limit does not go on, nor does anything behind it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::limits::{Address, Held, Meter};

/// How often a frame that waits for room is looked at.
const RETRY: Duration = Duration::from_millis(10);
/// The most that is read behind a refusal, for the peer to see it.
const MAX_DISCARDED_BYTES: usize = 256 * 1024;

/// The stream of a WebSocket, watched.
pub(crate) struct Gate<S> {
    stream: S,
    address: Arc<Address>,
    frames: Frames,
    /// Counts everything against ten times the rates.
    abuse: Meter,
    refusal: Option<Refusal>,
    /// Read, and not yet let through.
    back: BytesMut,
    sleep: Pin<Box<Sleep>>,
    sleeping: bool,
}

/// Why nothing more is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A message that is longer than this.
    TooLong { limit: usize },
    /// Far more frames or bytes than the announced rates.
    Flood,
    /// A control frame that RFC 6455, section 5.5, does not allow. No room is made for it, and it is not waited for.
    Control,
}

/// What has come since this was last asked.
#[derive(Default)]
pub(crate) struct Arrived {
    /// Frames whose header was read.
    pub(crate) frames: u32,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Keeps them counted against the budget of all connections.
    pub(crate) held: Held,
}

/// Where in the stream of frames it is.
struct Frames {
    header: [u8; MAX_HEADER_BYTES],
    header_length: usize,
    /// Of the frame that is passing.
    left: u64,
    /// Of the message that is passing, its earlier frames included.
    message_bytes: u64,
    /// When the message that is passing began.
    began: Option<Instant>,
    /// Whether the frame that is passing is the last of its message.
    last: bool,
    max_message_bytes: usize,
    arrived: Arrived,
}

const MAX_HEADER_BYTES: usize = 14;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
/// From this code on, a frame is of the WebSocket itself and stands between the pieces of a message.
const CONTROL: u8 = 8;
/// The most bytes of such a frame.
const MAX_CONTROL_BYTES: u64 = 125;

/// A frame's header, read.
struct Header {
    last: bool,
    code: u8,
    bytes: u64,
}

/// What becomes of a frame.
enum Verdict {
    Pass,
    Wait,
    Refuse(Refusal),
}

impl<S> Gate<S> {
    /// Watches a stream whose messages may be of this length.
    pub(crate) fn new(stream: S, address: Arc<Address>, abuse: Meter, max_message_bytes: usize) -> Self {
        Self {
            stream,
            address,
            frames: Frames {
                header: [0; MAX_HEADER_BYTES],
                header_length: 0,
                left: 0,
                message_bytes: 0,
                began: None,
                last: false,
                max_message_bytes,
                arrived: Arrived::default(),
            },
            abuse,
            refusal: None,
            back: BytesMut::new(),
            sleep: Box::pin(sleep(Duration::ZERO)),
            sleeping: false,
        }
    }

    /// Changes the length that a message may have, from the next frame on.
    pub(crate) fn set_max_message_bytes(&mut self, limit: usize) {
        self.frames.max_message_bytes = limit;
    }

    /// Why nothing more comes, if so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// What has come since the last call.
    pub(crate) fn arrived(&mut self) -> Arrived {
        std::mem::take(&mut self.frames.arrived)
    }

    /// Since when a message has been on its way that is not whole yet.
    pub(crate) fn unfinished_since(&self) -> Option<Instant> {
        self.frames.began
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads on without looking, up to the peer's own Close or some bytes: closing a socket with unread bytes would reset it, and the peer would not
    /// learn why.
    pub(crate) async fn discard(&mut self) {
        let mut bytes = std::mem::take(&mut self.back);
        let mut discarded = 0;
        while discarded < MAX_DISCARDED_BYTES && !self.frames.skip(&bytes) {
            discarded += bytes.len();
            bytes.clear();
            if !matches!(self.stream.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Looks at bytes that have come; returns how many may go on.
    fn inspect(&mut self, bytes: &[u8]) -> (usize, Verdict) {
        let mut at = 0;
        while at < bytes.len() {
            let payload = self.frames.pass(&bytes[at..]);
            if payload > 0 {
                at += payload;
                continue;
            }
            let before = self.frames.header_length;
            let (length, header) = self.frames.read_header(&bytes[at..]);
            if let Some(header) = header {
                match self.judge(&header) {
                    Verdict::Pass => {}
                    other => {
                        self.frames.header_length = before;
                        return (at, other);
                    }
                }
                self.frames.begin(&header);
            }
            at += length;
        }
        (at, Verdict::Pass)
    }

    fn judge(&mut self, header: &Header) -> Verdict {
        let limit = self.frames.max_message_bytes;
        if header.code < CONTROL {
            let before = if header.code == CONTINUATION {
                self.frames.message_bytes
            } else {
                0
            };
            if before.saturating_add(header.bytes) > limit as u64 {
                return Verdict::Refuse(Refusal::TooLong { limit });
            }
        } else if !header.last || header.bytes > MAX_CONTROL_BYTES {
            return Verdict::Refuse(Refusal::Control);
        }
        // At most the longest message, so it fits.
        let bytes = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        let Some(held) = self.address.hold(bytes) else {
            return Verdict::Wait;
        };
        let now = Instant::now();
        self.address.count_frame(now);
        if self.abuse.allow(1, header.bytes, now).is_err() {
            return Verdict::Refuse(Refusal::Flood);
        }
        let arrived = &mut self.frames.arrived;
        arrived.frames += 1;
        arrived.bytes += header.bytes;
        arrived.held.merge(held);
        Verdict::Pass
    }

    /// Waits until it is worth trying again.
    fn pause(&mut self, cx: &mut Context<'_>, time: Duration) -> Poll<()> {
        if !self.sleeping {
            self.sleep.as_mut().reset(tokio::time::Instant::now() + time);
            self.sleeping = true;
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.sleeping = false;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            if gate.refusal.is_some() {
                return Poll::Ready(Err(io::Error::other("a limit was passed")));
            }
            if let Some(time) = gate.address.must_wait(Instant::now()) {
                ready!(gate.pause(cx, time));
                continue;
            }
            let start = buf.filled().len();
            if gate.back.is_empty() {
                ready!(Pin::new(&mut gate.stream).poll_read(cx, buf))?;
                if buf.filled().len() == start {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let length = gate.back.len().min(buf.remaining());
                buf.put_slice(&gate.back.split_to(length));
            }
            let (passed, verdict) = gate.inspect(&buf.filled()[start..]);
            // What may not go on goes first, next time.
            let mut rest = BytesMut::from(&buf.filled()[start + passed..]);
            rest.unsplit(gate.back.split());
            gate.back = rest;
            buf.set_filled(start + passed);
            if let Verdict::Refuse(refusal) = verdict {
                gate.refusal = Some(refusal);
            }
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
            if matches!(verdict, Verdict::Wait) {
                ready!(gate.pause(cx, RETRY));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Frames {
    /// Lets payload pass; returns how much of these bytes is.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= length as u64;
        self.finish();
        length
    }

    /// Reads as much of a header as there is; returns how many bytes of it were in these, and the header once it is whole.
    fn read_header(&mut self, bytes: &[u8]) -> (usize, Option<Header>) {
        let mut length = 0;
        while let Some(&byte) = bytes.get(length) {
            self.header[self.header_length] = byte;
            self.header_length += 1;
            length += 1;
            if let Some(header) = self.header() {
                return (length, Some(header));
            }
        }
        (length, None)
    }

    fn header(&self) -> Option<Header> {
        let header = self.header.get(..self.header_length)?;
        let (&[first, second], rest) = header.split_first_chunk()?;
        let masked = if second & 0x80 == 0 { 0 } else { 4 };
        let short = second & 0x7f;
        let (bytes, extended) = match short {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
            _ => (u64::from(short), 0),
        };
        (rest.len() == extended + masked).then_some(Header {
            last: first & 0x80 != 0,
            code: first & 0x0f,
            bytes,
        })
    }

    fn begin(&mut self, header: &Header) {
        self.header_length = 0;
        self.left = header.bytes;
        self.last = header.last && header.code < CONTROL;
        if header.code >= CONTROL {
            return;
        }
        if header.code != CONTINUATION {
            self.message_bytes = 0;
        }
        self.message_bytes = self.message_bytes.saturating_add(header.bytes);
        self.began = self.began.or_else(|| Some(Instant::now()));
        self.finish();
    }

    /// Whether that was the end of a message.
    fn finish(&mut self) {
        if self.left == 0 && self.last {
            self.began = None;
        }
    }

    /// Passes bytes without a limit; whether a Close was among them.
    fn skip(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            bytes.advance(self.pass(bytes));
            let (length, header) = self.read_header(bytes);
            bytes.advance(length);
            if let Some(header) = header {
                if header.code == CLOSE {
                    return true;
                }
                self.begin(&header);
            }
        }
        false
    }
}
