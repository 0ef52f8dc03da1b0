//! Prints how the selector does on the shipped traces, against an oracle that knows them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;
use split_core::Manifest;
use split_tests::{
    report::Report,
    simulator::{Outcome, simulate},
    trace::{Conditions, is_steady, read_trace},
};

/// Runs the selector on traces of link and device, and prints its regret against an oracle.
///
/// Example: simulate --series models/cifar10-vgg16 tests/traces/*.csv
#[derive(Parser)]
struct Arguments {
    /// Folder of the series.
    #[arg(long, default_value = "models/cifar10-vgg16")]
    series: PathBuf,
    /// Relative standard deviation of every measured time, 0 to 1.
    #[arg(long, default_value_t = 0.2)]
    noise: f64,
    /// Accuracy floor: this many points below the most accurate operating point.
    #[arg(long, default_value_t = 1.5)]
    loss: f64,
    /// Devices: so many times slower than a trace says. With slow ones the link counts, with fast ones the device.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 4.0, 16.0])]
    devices: Vec<f64>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the numbers as JSON.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Trace files; the format is described at their top.
    #[arg(required = true)]
    traces: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    trace: String,
    /// How many times slower than the trace says.
    device: f64,
    steady: bool,
    #[serde(flatten)]
    outcome: Outcome,
    regret: f64,
    wrong_per_minute: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        (0.0..=1.0).contains(&arguments.noise),
        "--noise {}, expected 0 to 1",
        arguments.noise
    );
    ensure!(
        !arguments.devices.is_empty() && arguments.devices.iter().all(|it| (0.01..=1000.0).contains(it)),
        "--devices, expected numbers from 0.01 to 1000"
    );
    let manifest = read_manifest(&arguments.series)?;
    let traces: Vec<(String, Vec<Conditions>)> = arguments.traces.iter().map(|it| read(it)).collect::<Result<_>>()?;
    println!(
        "{:<12} {:>7} {:>7} {:>9} {:>9} {:>8} {:>9} {:>13}",
        "trace", "device", "frames", "mean ms", "oracle ms", "regret", "switches", "wrong/minute"
    );
    let mut rows = Vec::new();
    for (name, trace) in &traces {
        for device in &arguments.devices {
            rows.push(run(&arguments, &manifest, name, trace, *device)?);
        }
    }
    let mut report = Report::default();
    println!();
    let mean = rows.iter().map(|it| it.regret).sum::<f64>() / rows.len() as f64;
    report.at_most("mean regret, %", 100.0 * mean, 10.0);
    for row in rows.iter().filter(|it| it.steady) {
        let name = format!("{}, device ×{}: wrong switches a minute", row.trace, row.device);
        report.at_most(name, row.wrong_per_minute, 1.0);
    }
    rows.iter().for_each(|it| report.record(it));
    arguments.report.map_or(Ok(()), |it| report.write(&it))
}

fn read_manifest(series: &Path) -> Result<Manifest> {
    let path = series.join("manifest.json");
    let json = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Manifest::parse(&json).with_context(|| path.display().to_string())
}

/// A trace with its name.
fn read(path: &Path) -> Result<(String, Vec<Conditions>)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, read_trace(&text).with_context(|| path.display().to_string())?))
}

fn run(arguments: &Arguments, manifest: &Manifest, name: &str, trace: &[Conditions], device: f64) -> Result<Row> {
    let slower = |it: &Conditions| Conditions {
        slowness: it.slowness * device,
        ..*it
    };
    let conditions: Vec<Conditions> = trace.iter().map(slower).collect();
    let accuracies = manifest.operating_points.iter().map(|it| it.accuracy);
    let at_least = accuracies.fold(0.0, f64::max) - arguments.loss;
    let outcome = simulate(manifest, &conditions, at_least, arguments.noise, arguments.seed);
    ensure!(
        outcome.frames > 0,
        "{name}: the series has no operating point that could be used"
    );
    let row = Row {
        trace: name.into(),
        device,
        steady: is_steady(trace),
        regret: outcome.regret(),
        wrong_per_minute: outcome.wrong_per_minute(),
        outcome,
    };
    let milliseconds = |seconds: f64| 1e3 * seconds / outcome.frames as f64;
    println!(
        "{:<12} {:>7} {:>7} {:>9.2} {:>9.2} {:>7.1}% {:>9} {:>13.2}",
        row.trace,
        format!("×{device}"),
        outcome.frames,
        milliseconds(outcome.latency),
        milliseconds(outcome.oracle),
        100.0 * row.regret,
        outcome.switches,
        row.wrong_per_minute,
    );
    Ok(row)
}
