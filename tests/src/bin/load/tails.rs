//! Tails of well-known networks beside onnxruntime, on the same core.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use split_runtime::{Network, read_segments, write_onnx, write_segment};
use split_tests::{
    family::{Family, NETWORKS},
    report::{Report, median},
};

use crate::process::{on_its_core, stay_on_servers_core};

/// The peer's script.
const SCRIPT: &str = "tests/peers/onnxruntime_times.py";
/// Images of a batch.
const BATCH: usize = 4;
/// Runs of a side before the other has its turn, and turns.
const RUNS: usize = 6;
const TURNS: usize = 5;
/// A tail's time against onnxruntime's.
const RATIO: f64 = 0.7;
/// An image's time in a batch against its time alone. Where batches gain nothing, images run one by one, so that this differs by noise.
const BATCH_RATIO: f64 = 1.05;

/// Microseconds of every run.
#[derive(Default, Serialize)]
struct Times {
    name: &'static str,
    tail: String,
    images: usize,
    ours: Vec<f64>,
    onnxruntime: Vec<f64>,
}

/// Measures all tails.
pub fn measure(report: &mut Report, python: &Path) -> Result<()> {
    for network in NETWORKS {
        let family = Family::of(network)?;
        let python = python.to_owned();
        let times = thread::spawn(move || measure_family(&family, &python));
        let times = times.join().map_err(|_| anyhow!("a tail panicked"))??;
        for tail in times {
            goals(report, tail);
        }
    }
    Ok(())
}

fn goals(report: &mut Report, [alone, together]: [Times; 2]) {
    let name = |what: &str| format!("{}: {what}", alone.tail);
    let of = |times: &Times| [&times.ours, &times.onnxruntime].map(|it| median(it.clone()) / times.images as f64);
    let ([ours, peer], [ours_together, peer_together]) = (of(&alone), of(&together));
    report.row(name("tail"), ours, "µs");
    report.at_most(name("tail, of onnxruntime's"), ours / peer, RATIO);
    report.at_most(name("batch, of onnxruntime's"), ours_together / peer_together, RATIO);
    report.at_most(
        name("an image of a batch, of one alone"),
        ours_together / ours,
        BATCH_RATIO,
    );
    report.record(alone);
    report.record(together);
}

fn measure_family(family: &Family, python: &Path) -> Result<Vec<[Times; 2]>> {
    stay_on_servers_core()?;
    let folder = tempfile::tempdir()?;
    let mut peer = Peer::start(python)?;
    let mut all = Vec::new();
    for variant in &family.variants {
        let files = variant
            .pieces
            .iter()
            .map(write_segment)
            .collect::<Result<Vec<_>, _>>()?;
        for (index, split) in Family::splits().iter().enumerate() {
            let input = variant.pieces[index + 1].input();
            let tail = || files[index + 1..].iter().map(|it| &it.bytes[..]);
            let onnx = folder.path().join(format!("{}-{split}.onnx", variant.name));
            fs::write(&onnx, write_onnx(&read_segments(input, tail())?).bytes)?;
            let began = Instant::now();
            let mut network = Network::load_for_batches(input, tail(), move || began.elapsed())?;
            let name = format!("{}, {}, {split}", family.name, variant.name);
            let times = [1, BATCH].map(|images| {
                let mut times = Times {
                    name: "tail",
                    tail: name.clone(),
                    images,
                    ..Times::default()
                };
                for _ in 0..TURNS {
                    times.ours.extend(run(&mut network, images)?);
                    times.onnxruntime.extend(peer.run(&onnx, images)?);
                }
                Ok::<_, anyhow::Error>(times)
            });
            let [alone, together] = times;
            all.push([alone?, together?]);
        }
    }
    Ok(all)
}

/// Runs after one that does not count.
fn run(network: &mut Network, images: usize) -> Result<Vec<f64>> {
    let values: Vec<f32> = (0..images * network.input().values())
        .map(|it| (it % 7) as f32 / 4.0)
        .collect();
    let mut output = Vec::new();
    network.run(images, &values, &mut output)?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        network.run(images, &values, &mut output)?;
        times.push(1e6 * began.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// onnxruntime in a process of its own; ended when dropped.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path) -> Result<Self> {
        let mut command = on_its_core(python);
        command.arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start onnxruntime")?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn run(&mut self, onnx: &Path, images: usize) -> Result<Vec<f64>> {
        writeln!(self.input, "{} {images} {RUNS}", onnx.display())?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let times = line.split_whitespace().map(str::parse);
        let times = times.collect::<Result<Vec<_>, _>>()?;
        (times.len() == RUNS)
            .then_some(times)
            .context("onnxruntime did not answer")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
