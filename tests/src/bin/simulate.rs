//! Prints how the selector does on the shipped traces, against an oracle that knows them.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use split_core::{Manifest, selection::Requirement};
use split_tests::simulator::{Outcome, read_trace, simulate};

/// Runs the selector on traces of link and device, and prints its regret against an oracle.
///
/// Example: simulate --series models/cifar10-vgg16 tests/traces/*.csv
#[derive(Parser)]
struct Arguments {
    /// Folder of the series.
    #[arg(long, default_value = "models/cifar10-vgg16")]
    series: PathBuf,
    /// Relative standard deviation of every measured time.
    #[arg(long, default_value_t = 0.2)]
    noise: f64,
    /// Accuracy floor: this many points below the most accurate operating point.
    #[arg(long, default_value_t = 1.5)]
    loss: f64,
    /// Seed of the noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Trace files; the format is described at their top.
    #[arg(required = true)]
    traces: Vec<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let path = arguments.series.join("manifest.json");
    let json = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest = Manifest::parse(&json)?;
    let best = manifest
        .operating_points
        .iter()
        .map(|it| it.accuracy)
        .fold(0.0, f64::max);
    let requirement = Requirement::LowestLatency {
        at_least: best - arguments.loss,
    };
    println!(
        "{:<12} {:>7} {:>9} {:>9} {:>8} {:>9} {:>13}",
        "trace", "frames", "mean ms", "oracle ms", "regret", "switches", "wrong/minute"
    );
    let mut regrets = Vec::new();
    for path in &arguments.traces {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let trace = read_trace(&text).with_context(|| path.display().to_string())?;
        let outcome = simulate(&manifest, &trace, requirement, arguments.noise, arguments.seed);
        print_row(&path.file_stem().unwrap_or_default().to_string_lossy(), &outcome);
        regrets.push(outcome.regret());
    }
    println!(
        "mean regret {:.1} %",
        100.0 * regrets.iter().sum::<f64>() / regrets.len() as f64
    );
    Ok(())
}

fn print_row(name: &str, outcome: &Outcome) {
    let frames = outcome.frames as f64;
    println!(
        "{name:<12} {:>7} {:>9.2} {:>9.2} {:>7.1}% {:>9} {:>13.2}",
        outcome.frames,
        1e3 * outcome.latency / frames,
        1e3 * outcome.oracle / frames,
        100.0 * outcome.regret(),
        outcome.switches,
        outcome.wrong_switches as f64 / outcome.minutes,
    );
}
