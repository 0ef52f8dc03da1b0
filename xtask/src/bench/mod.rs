//! Benchmarks: each compares sides in one run and writes `target/bench/NAME.json`, with its goals and its rows.

mod browser;
mod codec;
mod latency;
mod pages;
mod programs;
mod simulate;

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use xshell::{Cmd, Shell, cmd};

pub use self::simulate::run as simulate;
use crate::{progress::Progress, target_folder};

/// Folder of the benchmarks in a browser, with its own npm packages.
pub const BROWSER_BENCHMARKS: &str = "tests/bench";

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// The page and its WebAssembly, beside onnxruntime-web; takes about 12 minutes
    Browser,
    /// The feature codec on real features, beside PNG, zstd and the entropy; needs `-- --data DIR`
    Codec,
    /// The edge worker under load, beside a bare loop and a Python server; takes about 15 minutes
    Edge,
    /// Training from 100,000 pictures in 4 GB of memory, beside pictures in memory; needs 18 GB on the disk, takes about 15 minutes
    Feed,
    /// Latency from frame to label over four links on three classes of device, and the first label; needs `-- --data DIR`, takes about 15 minutes
    Latency,
    /// Training throughput beside PyTorch
    Train,
}

/// Runs one benchmark; `arguments` go to its program.
pub fn run(sh: &Shell, progress: &mut Progress, bench: Bench, arguments: &[String]) -> Result<()> {
    let folder = target_folder(sh)?.join("bench");
    sh.create_dir(&folder)?;
    match bench {
        Bench::Browser => browser::run(sh, progress, &folder, arguments),
        Bench::Codec => codec::run(sh, progress, &folder, arguments),
        Bench::Edge => programs::EDGE.run(sh, progress, &folder, arguments),
        Bench::Feed => programs::FEED.run(sh, progress, &folder, arguments),
        Bench::Latency => latency::run(sh, progress, &folder, arguments),
        Bench::Train => programs::TRAIN.run(sh, progress, &folder, arguments),
    }
}

/// Builds programs for release, always of the whole workspace: as little as possible is then compiled again for the next benchmark.
fn build(sh: &Shell, programs: &[&str]) -> Result<()> {
    let programs = programs.iter().flat_map(|it| ["--bin", it]);
    Ok(cmd!(sh, "cargo build --release --workspace --exclude xtask {programs...}").run()?)
}

/// Runs the program of a benchmark, which writes the report, and says where that is.
fn measure(name: &str, program: &Cmd<'_>, report: &Path) -> Result<()> {
    program
        .run()
        .with_context(|| format!("the benchmark `{name}` failed"))?;
    println!("\nreport: {}", report.display());
    Ok(())
}
