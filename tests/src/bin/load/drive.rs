//! Ways to put load on a server, and what came of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt, future::try_join_all};
use split_core::{Digest, session::Event};
use split_tests::client::Client;
use tokio::{
    net::TcpStream,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::yield_now,
    time::{Instant, sleep_until, timeout},
    try_join,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// Whom to ask for what.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub manifest: Digest,
    pub point: u16,
    /// Asked for in turn.
    pub payloads: Arc<Vec<Vec<u8>>>,
}

/// What came of the requests of one run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Time from request to result, of each that got one.
    pub latencies: Vec<Duration>,
    /// Requests that the edge worker refused.
    pub busy: usize,
    /// Requests that the client did not send, for want of credit.
    pub held_back: usize,
    /// Requests without any answer.
    pub lost: usize,
}

impl Tally {
    fn sum(tallies: impl IntoIterator<Item = Self>) -> Self {
        tallies.into_iter().fold(Self::default(), |mut sum, it| {
            sum.latencies.extend(it.latencies);
            sum.busy += it.busy;
            sum.held_back += it.held_back;
            sum.lost += it.lost;
            sum
        })
    }

    /// The latency that this share of the results does not exceed; zero without results.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = (share * sorted.len() as f64) as usize;
        sorted
            .get(index.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    fn record(&mut self, event: &Event, asked: Instant) -> Result<()> {
        match event {
            Event::Result(_) => self.latencies.push(asked.elapsed()),
            Event::Busy { .. } => self.busy += 1,
            other => bail!("a result or Busy is expected, not {other:?}"),
        }
        Ok(())
    }
}

/// Keeps one request of each connection on its way.
pub async fn closed(target: &Target, connections: usize, time: Duration) -> Result<Tally> {
    let clients = try_join_all((0..connections).map(|_| Client::connect(target.address, target.manifest))).await?;
    let end = Instant::now() + time;
    let asking = clients.into_iter().enumerate().map(|(index, mut client)| async move {
        let mut tally = Tally::default();
        for payload in target.payloads.iter().cycle().skip(index) {
            let asked = Instant::now();
            if asked >= end {
                break;
            }
            let event = client.ask(target.point, payload).await?;
            tally.record(&event, asked)?;
        }
        anyhow::Ok(tally)
    });
    Ok(Tally::sum(try_join_all(asking).await?))
}

/// Lets requests arrive at random (Poisson), so many a second in all, whatever becomes of those before them.
pub async fn open(target: &Target, connections: usize, per_second: f64, time: Duration) -> Result<Tally> {
    let clients = try_join_all((0..connections).map(|_| Client::connect(target.address, target.manifest))).await?;
    let (arrivals, asking): (Vec<_>, Vec<_>) = clients
        .into_iter()
        .map(|client| {
            let (arrivals, queue) = mpsc::unbounded_channel();
            (arrivals, ask_on_arrival(target, client, queue))
        })
        .unzip();
    let end = Instant::now() + time;
    let (tallies, ()) = try_join!(try_join_all(asking), arrive(arrivals, per_second, end))?;
    Ok(Tally::sum(tallies))
}

/// Tells the connections in turn of arrivals, until the end.
async fn arrive(connections: Vec<UnboundedSender<Instant>>, per_second: f64, end: Instant) -> Result<()> {
    let mut gaps = Gaps {
        random: 0x9e37_79b9_7f4a_7c15,
        mean: 1.0 / per_second,
    };
    let mut next = Instant::now();
    for connection in connections.iter().cycle() {
        next += gaps.next();
        if next >= end {
            break;
        }
        until(next).await;
        // A connection that failed fails the run.
        let _ = connection.send(next);
    }
    Ok(())
}

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(5);

async fn ask_on_arrival(
    target: &Target,
    mut client: Client,
    mut arrivals: UnboundedReceiver<Instant>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut asked = [None; 256];
    let mut payloads = target.payloads.iter().cycle();
    loop {
        tokio::select! {
            event = client.next() => settle(&mut tally, &mut asked, &event?)?,
            arrival = arrivals.recv() => {
                let Some(arrival) = arrival else { break };
                match payloads.next().filter(|_| client.session.has_credit()) {
                    Some(payload) => asked[usize::from(client.infer(target.point, payload).await?)] = Some(arrival),
                    None => tally.held_back += 1,
                }
            }
        }
    }
    while client.session.in_flight() > 0 {
        match timeout(PATIENCE, client.next()).await {
            Ok(event) => settle(&mut tally, &mut asked, &event?)?,
            Err(_) => {
                tally.lost = client.session.in_flight();
                break;
            }
        }
    }
    Ok(tally)
}

/// Waits to some microseconds: the executor's timers go by whole milliseconds, so that requests would come in bunches.
async fn until(time: Instant) {
    let early = time.checked_sub(Duration::from_millis(2)).unwrap_or(time);
    sleep_until(early).await;
    while Instant::now() < time {
        yield_now().await;
    }
}

fn settle(tally: &mut Tally, asked: &mut [Option<Instant>; 256], event: &Event) -> Result<()> {
    let (Event::Result(split_core::wire::InferResult { id, .. }) | Event::Busy { id, .. }) = event else {
        bail!("a result or Busy is expected, not {event:?}")
    };
    let asked = asked[usize::from(*id)].take().context("an answer to nothing")?;
    tally.record(event, asked)
}

/// Exponentially distributed gaps, by Marsaglia's xorshift.
struct Gaps {
    random: u64,
    /// In seconds.
    mean: f64,
}

impl Gaps {
    fn next(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = ((self.random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * self.mean)
    }
}

/// The same closed loop against a server that takes features as they are and answers each message with one.
pub async fn closed_raw(
    address: SocketAddr,
    features: &[Vec<u8>],
    connections: usize,
    time: Duration,
) -> Result<Tally> {
    let sockets = try_join_all((0..connections).map(|_| raw_socket(address))).await?;
    let end = Instant::now() + time;
    let asking = sockets.into_iter().enumerate().map(|(index, mut socket)| async move {
        let mut tally = Tally::default();
        for message in features.iter().cycle().skip(index) {
            let asked = Instant::now();
            if asked >= end {
                break;
            }
            socket.send(Message::binary(message.clone())).await?;
            socket.next().await.context("the peer hung up")??;
            tally.latencies.push(asked.elapsed());
        }
        anyhow::Ok(tally)
    });
    Ok(Tally::sum(try_join_all(asking).await?))
}

async fn raw_socket(address: SocketAddr) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(tokio_tungstenite::client_async(format!("ws://{address}/"), stream)
        .await?
        .0)
}
