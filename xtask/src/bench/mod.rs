//! Benchmarks: each compares sides in one run and writes `target/bench/NAME.json`, with its goals and its rows.

mod codec;
mod edge;
mod simulate;
mod train;

use anyhow::Result;
use clap::ValueEnum;
use xshell::Shell;

pub use self::simulate::run as simulate;
use crate::{progress::Progress, target_folder};

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// The feature codec on real features, beside PNG, zstd and the entropy; needs `-- --data DIR`
    Codec,
    /// The edge worker under load, beside a bare loop and a Python server; takes about 15 minutes
    Edge,
    /// Training throughput beside PyTorch
    Train,
}

/// Runs one benchmark; `arguments` go to its program.
pub fn run(sh: &Shell, progress: &mut Progress, bench: Bench, arguments: &[String]) -> Result<()> {
    let folder = target_folder(sh)?.join("bench");
    sh.create_dir(&folder)?;
    match bench {
        Bench::Codec => codec::run(sh, progress, &folder, arguments),
        Bench::Edge => edge::run(sh, progress, &folder, arguments),
        Bench::Train => train::run(sh, progress, &folder, arguments),
    }
}
