//! Puts load on an edge worker and prints how it holds, beside a bare loop of the same tail on the same core.

mod drive;
mod floods;
mod process;
mod tails;

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use split_tests::{
    client::Client,
    report::{Report, median},
    toy::{POOL1, Toy},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    drive::{Tally, Target, closed, closed_raw, open},
    floods::{Flood, Running, behave, is_healthy},
    process::{Server, raise_file_limit, stay_on_load_core, stay_on_servers_core},
};

/// Puts load on an edge worker, over the loopback interface only.
///
/// The network is VGG-16 with the paper's widths. The edge worker, the bare loop and the peer have one core, the load
/// generator has another.
#[derive(Parser)]
struct Arguments {
    /// The edge worker's program.
    #[arg(long)]
    edge_worker: PathBuf,
    /// A Python that has websockets, onnxruntime and numpy; without it no peer is measured.
    #[arg(long)]
    python: Option<PathBuf>,
    /// The peer's script.
    #[arg(long, default_value = "tests/peers/websockets_onnxruntime.py")]
    peer: PathBuf,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Idle connections to hold.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Seconds of the test for growing memory.
    #[arg(long, default_value_t = 600.0)]
    soak_seconds: f64,
    /// Measure only what a client notices of floods.
    #[arg(long)]
    floods_only: bool,
    /// Measure only the tails of well-known networks.
    #[arg(long, requires = "python")]
    tails_only: bool,
    /// Where to write the numbers as JSON.
    #[arg(long)]
    report: PathBuf,
}

/// Connections of the runs under load.
const CONNECTIONS: usize = 64;
/// Connections at overload: enough that their credit reaches beyond the deadline.
const OVERLOAD_CONNECTIONS: usize = 512;
/// The pools that are compared, with the channels that the paper leaves there: much work for the edge, and little.
const SPLITS: [Split; 2] = [
    Split {
        point: POOL1,
        channels: 5,
    },
    Split { point: 3, channels: 14 },
];
/// Sides take turns this often, so that a drift of the machine meets all of them.
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    raise_file_limit()?;
    stay_on_load_core()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut report = Report::default();
    if let Some(python) = &arguments.python {
        tails::measure(&mut report, python)?;
    }
    if arguments.tails_only {
        return report.write(&arguments.report);
    }
    Bench::new(SPLITS[0], arguments)?.floods(&mut report).await?;
    if arguments.floods_only {
        return report.write(&arguments.report);
    }
    for split in SPLITS {
        let bench = Bench::new(split, arguments)?;
        let capacity = bench.throughput(&mut report).await?;
        bench.latency(&capacity, &mut report).await?;
        bench.overload(&capacity, &mut report).await?;
    }
    let bench = Bench::new(SPLITS[1], arguments)?;
    bench.idle(&mut report).await?;
    bench.soak(&mut report).await?;
    report.write(&arguments.report)
}

#[derive(Clone, Copy)]
struct Split {
    point: u16,
    channels: usize,
}

struct Bench<'a> {
    toy: Arc<Toy>,
    models: TempDir,
    point: u16,
    arguments: &'a Arguments,
    time: Duration,
}

/// What one core can do at one split point.
struct Capacity {
    served_per_second: f64,
    tail: Duration,
}

impl<'a> Bench<'a> {
    fn new(split: Split, arguments: &'a Arguments) -> Result<Self> {
        let toy = Toy::vgg16(split.point.into(), split.channels)?;
        let models = tempfile::tempdir()?;
        toy.write(models.path())?;
        Ok(Self {
            toy: Arc::new(toy),
            models,
            point: split.point,
            arguments,
            time: Duration::from_secs_f64(arguments.seconds),
        })
    }

    /// Names a number in the report.
    fn name(&self, what: &str) -> String {
        format!("pool{}: {what}", self.point)
    }

    fn edge_worker(&self) -> Result<Server> {
        Server::edge_worker(&self.arguments.edge_worker, self.models.path())
    }

    fn target(&self, server: &Server) -> Result<Target> {
        let payloads: Result<_> = (0..64).map(|it| self.toy.payload(self.point, it)).collect();
        Ok(Target {
            address: server.address,
            manifest: self.toy.digest(),
            point: self.point,
            payloads: Arc::new(payloads?),
        })
    }

    fn per_second(&self, tally: &Tally) -> f64 {
        tally.latencies.len() as f64 / self.time.as_secs_f64()
    }

    async fn throughput(&self, report: &mut Report) -> Result<Capacity> {
        let [mut bare, mut alone, mut together, mut peer] = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            bare.push(self.bare().await?);
            let edge = self.edge_worker()?;
            let target = self.target(&edge)?;
            // Two: while one is computed, the other is on its way, and no two ever wait together.
            alone.push(self.per_second(&closed(&target, 2, self.time).await?));
            together.push(self.per_second(&closed(&target, CONNECTIONS, self.time).await?));
            drop(edge);
            peer.extend(self.peer().await?);
        }
        let [bare, alone, together] = [bare, alone, together].map(median);
        report.row(self.name("bare loop"), bare, "tails/s");
        report.row(self.name("served, 2 connections"), alone, "requests/s");
        report.row(
            self.name(&format!("served, {CONNECTIONS} connections")),
            together,
            "requests/s",
        );
        report.at_least(
            self.name("served with batching, of the bare loop"),
            together / bare,
            1.0,
        );
        report.at_least(
            self.name("served without batching, of the bare loop"),
            alone / bare,
            0.8,
        );
        if !peer.is_empty() {
            let peer = median(peer);
            report.row(self.name("Python websockets and onnxruntime"), peer, "requests/s");
            report.at_least(self.name("served, of the peer's"), together / peer, 3.0);
        }
        Ok(Capacity {
            served_per_second: together,
            tail: Duration::from_secs_f64(1.0 / bare),
        })
    }

    /// Tails a second in a loop that does nothing else.
    async fn bare(&self) -> Result<f64> {
        let (toy, point, time) = (self.toy.clone(), self.point, self.time);
        let bare = move || {
            stay_on_servers_core()?;
            let (mut tail, features, mut logits) = (toy.tail(point)?, toy.features(point, 1)?, Vec::new());
            tail.run(1, &features, &mut logits)?;
            let started = Instant::now();
            let mut tails = 0;
            while started.elapsed() < time {
                tail.run(1, &features, &mut logits)?;
                tails += 1;
            }
            Ok(f64::from(tails) / started.elapsed().as_secs_f64())
        };
        thread::spawn(bare)
            .join()
            .map_err(|_| anyhow!("the bare loop panicked"))?
    }

    /// Requests a second of the server that a user would build instead.
    async fn peer(&self) -> Result<Option<f64>> {
        let Some(python) = &self.arguments.python else {
            return Ok(None);
        };
        let onnx = self.models.path().join("tail.onnx");
        std::fs::write(&onnx, self.toy.tail_onnx(self.point)?)?;
        let server = Server::peer(python, &self.arguments.peer, &onnx)?;
        let features = self.toy.features(self.point, 1)?;
        let message = features.iter().flat_map(|it| it.to_le_bytes()).collect();
        let tally = closed_raw(server.address, &[message], CONNECTIONS, self.time).await?;
        Ok(Some(self.per_second(&tally)))
    }

    async fn latency(&self, capacity: &Capacity, report: &mut Report) -> Result<()> {
        let edge = self.edge_worker()?;
        let target = self.target(&edge)?;
        let rate = 0.7 * capacity.served_per_second;
        let tally = open(&target, CONNECTIONS, rate, 2 * self.time).await?;
        let milliseconds = |it: Duration| 1e3 * it.as_secs_f64();
        report.row(
            self.name("median latency at 70 %"),
            milliseconds(tally.percentile(0.5)),
            "ms",
        );
        let goal = milliseconds(4 * capacity.tail + Duration::from_millis(2));
        let name = self.name("95th percentile of latency at 70 %, ms");
        report.at_most(name, milliseconds(tally.percentile(0.95)), goal);
        Ok(())
    }

    async fn overload(&self, capacity: &Capacity, report: &mut Report) -> Result<()> {
        let edge = self.edge_worker()?;
        let target = self.target(&edge)?;
        let rate = 3.0 * capacity.served_per_second;
        let tally = open(&target, OVERLOAD_CONNECTIONS, rate, self.time).await?;
        let goodput = self.per_second(&tally) / capacity.served_per_second;
        report.at_least(self.name("goodput at 3 times the capacity"), goodput, 0.9);
        report.row(
            self.name("Busy at 3 times the capacity"),
            self.share(tally.busy),
            "requests/s",
        );
        report.row(
            self.name("held back by clients at 3 times"),
            self.share(tally.held_back),
            "requests/s",
        );
        report.at_most(self.name("requests without an answer"), tally.lost as f64, 0.0);
        Ok(())
    }

    /// What a client that behaves notices of others that do not.
    async fn floods(&self, report: &mut Report) -> Result<()> {
        for flood in Flood::ALL {
            let connections = if flood.is_about_connections() { 20 } else { 10_000 };
            let edge = Server::guarded(&self.arguments.edge_worker, self.models.path(), connections)?;
            let target = self.target(&edge)?;
            let behave = || behave(&target, flood.is_about_connections(), self.time / 2);
            let before = behave().await?;
            let running = Running::start(flood, &target);
            // It takes a moment until all of its connections are there.
            sleep(Duration::from_secs(6).min(self.time * 2)).await;
            let during = behave().await?;
            let healthy = is_healthy(edge.address).await;
            running.stop()?;
            sleep(Duration::from_secs(1)).await;
            let after = behave().await?;
            let name = |what: &str| format!("{}: {what}", flood.name());
            let milliseconds = |tally: &Tally, share| 1e3 * tally.percentile(share).as_secs_f64();
            for (when, tally) in [("before", &before), ("during", &during), ("after", &after)] {
                report.row(name(&format!("median {when}")), milliseconds(tally, 0.5), "ms");
                report.row(
                    name(&format!("95th percentile {when}")),
                    milliseconds(tally, 0.95),
                    "ms",
                );
            }
            let slower = milliseconds(&during, 0.5) / milliseconds(&before, 0.5);
            report.at_most(name("median during, of that before"), slower, 3.0);
            let asked = (during.latencies.len() + during.busy).max(1) as f64;
            report.at_most(
                name("frames without a result, %"),
                100.0 * (during.busy + during.lost) as f64 / asked,
                0.0,
            );
            report.row(name("healthy by its own account"), f64::from(u8::from(healthy)), "");
        }
        Ok(())
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.time.as_secs_f64()
    }

    async fn idle(&self, report: &mut Report) -> Result<()> {
        let edge = self.edge_worker()?;
        let mut first = Client::connect(edge.address, self.toy.digest()).await?;
        let before = edge.resident_bytes()?;
        let mut clients = Vec::with_capacity(self.arguments.idle);
        while clients.len() < self.arguments.idle {
            let client = Client::connect(edge.address, self.toy.digest()).await;
            clients.push(client.with_context(|| format!("connection {}", clients.len()))?);
        }
        let grown = edge.resident_bytes()?.saturating_sub(before) as f64;
        let kibibytes = grown / 1024.0 / clients.len() as f64;
        report.row("idle connections held", clients.len() as f64, "");
        report.at_most("memory of an idle connection, KiB", kibibytes, 64.0);
        first.ask(self.point, &self.toy.payload(self.point, 1)?).await?;
        Ok(())
    }

    /// Clients that come, ask and go.
    async fn soak(&self, report: &mut Report) -> Result<()> {
        let edge = self.edge_worker()?;
        let target = self.target(&edge)?;
        let time = Duration::from_secs_f64(self.arguments.soak_seconds);
        let (started, mut samples) = (Instant::now(), Vec::new());
        while started.elapsed() < time {
            closed(&target, CONNECTIONS, Duration::from_secs(2)).await?;
            sleep(Duration::from_millis(100)).await;
            samples.push(edge.resident_bytes()? as f64);
        }
        // The first quarter fills caches and the allocator's pools.
        let early = samples.get(samples.len() / 4).copied().unwrap_or(1.0);
        let late = samples.last().copied().unwrap_or(1.0);
        report.row("memory at the end", late / (1 << 20) as f64, "MiB");
        let name = format!("growth of memory over {} s, %", self.arguments.soak_seconds);
        report.at_most(name, 100.0 * (late / early - 1.0), 2.0);
        Ok(())
    }
}
