//! What a client that behaves notices of one that does not. Each flood comes from another address than the client, over the loopback interface,
//! from a thread that the client does not wait for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::join_all;
use split_core::session::Event;
use split_tests::client::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use crate::{
    drive::{Tally, Target},
    process::be_nice,
};

/// Where the client is, and where the flood comes from.
const CLIENT: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FLOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Between an answer and the client's next frame.
const PAUSE: Duration = Duration::from_millis(10);
/// An answer that takes longer is none; a frame without one counts as one that took so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What floods the edge worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// 250 sockets that keep 4 frames each on their way.
    Frames,
    /// 4 sockets that send WebP files whose outer header says 32×32 and whose picture says 16383×16383.
    LyingWebp,
    /// One socket that sends empty pieces of a message.
    EmptyPieces,
    /// As many connections as there may be, each asking for files that it never reads.
    Unread,
}

impl Flood {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Frames, Self::LyingWebp, Self::EmptyPieces, Self::Unread];

    /// Names it in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frames => "250 sockets × 4 frames",
            Self::LyingWebp => "WebP with a lying header",
            Self::EmptyPieces => "empty pieces",
            Self::Unread => "20 of 20 connections, answers unread",
        }
    }

    /// Whether the client connects for each frame: it is about getting in.
    pub fn is_about_connections(self) -> bool {
        self == Self::Unread
    }
}

/// A flood that goes on until this is dropped.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// Starts it.
    pub fn start(flood: Flood, target: &Target) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (target, stopped) = (target.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            be_nice()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(flood, &target, &stopped));
            Ok(())
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it and waits for that.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped before")?;
        thread.join().map_err(|_| anyhow!("the flood panicked"))?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whatever the edge worker does about one connection, another takes its place.
async fn run(flood: Flood, target: &Target, stop: &AtomicBool) {
    let connections = match flood {
        Flood::Frames => 250,
        Flood::LyingWebp => 4,
        Flood::EmptyPieces => 1,
        Flood::Unread => 20,
    };
    let flooding = (0..connections).map(|_| async {
        while !stop.load(Ordering::Relaxed) {
            let connection = async {
                match flood {
                    Flood::Frames => frames(target, target.point, &target.payloads, stop).await,
                    Flood::LyingWebp => frames(target, 0, &[lying_webp()], stop).await,
                    Flood::EmptyPieces => empty_pieces(target, stop).await,
                    Flood::Unread => unread(target.address, stop).await,
                }
            };
            // An attacker does not mind.
            let _ = connection.await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    join_all(flooding).await;
}

async fn stream_from(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind((from, 0).into())?;
    Ok(timeout(PATIENCE, socket.connect(to)).await??)
}

async fn client_from(from: Ipv4Addr, target: &Target) -> Result<Client> {
    let stream = stream_from(from, target.address).await?;
    let client = Client::over(stream, "localhost", target.manifest, None);
    Ok(timeout(PATIENCE, client).await??)
}

/// Keeps as many frames on their way as there is credit for.
async fn frames(target: &Target, point: u16, payloads: &[Vec<u8>], stop: &AtomicBool) -> Result<()> {
    let mut client = client_from(FLOOD, target).await?;
    let mut payloads = payloads.iter().cycle();
    while !stop.load(Ordering::Relaxed) {
        while client.session.has_credit() {
            let payload = payloads.next().context("there are payloads")?;
            client.infer(point, payload).await?;
        }
        timeout(PATIENCE, client.next()).await??;
    }
    Ok(())
}

/// A canvas of 32×32, and in it the key frame of a picture of 16383×16383, as much of it as a payload can hold.
fn lying_webp() -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| [kind, &(data.len() as u32).to_le_bytes(), data].concat();
    let canvas = chunk(b"VP8X", &[0, 0, 0, 0, 31, 0, 0, 31, 0, 0]);
    let key_frame = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
    let picture = chunk(b"VP8 ", &[&key_frame[..], &[0x55; 7990]].concat());
    chunk(b"RIFF", &[b"WEBP".to_vec(), canvas, picture].concat())
}

async fn empty_pieces(target: &Target, stop: &AtomicBool) -> Result<()> {
    let mut client = client_from(FLOOD, target).await?;
    let stream = client.socket.get_mut();
    stream.write_all(&[0x02, 0x80, 0, 0, 0, 0]).await?;
    let pieces = [0x00, 0x80, 0, 0, 0, 0].repeat(10_000);
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&pieces).await?;
        yield_now().await;
    }
    Ok(())
}

async fn unread(address: SocketAddr, stop: &AtomicBool) -> Result<()> {
    let mut stream = stream_from(FLOOD, address).await?;
    let requests = b"GET /v1/manifest.json HTTP/1.1\r\nhost: edge\r\n\r\n".repeat(100);
    while !stop.load(Ordering::Relaxed) {
        // Once nothing more can be written, the connection is held; it is looked at now and then.
        let writing = timeout(Duration::from_millis(100), stream.write_all(&requests));
        if let Ok(written) = writing.await {
            written?;
        }
    }
    Ok(())
}

/// Asks for one frame after another for this time, over one connection or each over its own.
pub async fn behave(target: &Target, anew: bool, time: Duration) -> Result<Tally> {
    let mut tally = Tally::default();
    let end = Instant::now() + time;
    let mut client = None;
    for payload in target.payloads.iter().cycle() {
        let asked = Instant::now();
        if asked >= end {
            break;
        }
        match ask(target, &mut client, payload).await {
            Ok(Event::Result(_)) => tally.latencies.push(asked.elapsed()),
            Ok(Event::Busy { .. }) => tally.busy += 1,
            Ok(other) => bail!("a result or Busy is expected, not {other:?}"),
            Err(_) => {
                tally.lost += 1;
                tally.latencies.push(PATIENCE);
                client = None;
            }
        }
        if anew {
            client = None;
        }
        sleep(PAUSE).await;
    }
    Ok(tally)
}

async fn ask(target: &Target, client: &mut Option<Client>, payload: &[u8]) -> Result<Event> {
    let client = match client {
        Some(client) => client,
        None => client.insert(client_from(CLIENT, target).await?),
    };
    Ok(timeout(PATIENCE, client.ask(target.point, payload)).await??)
}

/// What the edge worker says of its health while it is flooded: whether operators learn anything.
pub async fn is_healthy(address: SocketAddr) -> bool {
    let asking = async {
        let mut stream = stream_from(CLIENT, address).await?;
        let request = b"GET /healthz HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(timeout(PATIENCE, asking).await, Ok(Ok(true)))
}
