//! How long the segments of a series take on this machine: the reference by which a device predicts heads that it never ran.
//!
//! On vectors as narrow as a browser's, because wider ones shorten products more than they shorten waiting for memory.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use split_core::Shape;
use split_core::manifest::{Digest, Segment};

use super::store::Series;
use crate::progress::bar;

/// Runs before those that count.
const WARM_UP: usize = 2;
/// Runs that count, at least.
const RUNS: usize = 7;
/// They go on for this long: segments of some microseconds are timed a thousand times.
const ENOUGH: Duration = Duration::from_millis(30);

/// What `trainer time` needs.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Folder of the series.
    #[arg(long)]
    pub series: PathBuf,
}

/// Times the segments of a series on disk again; nothing else of it changes.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut series = Series::open(&arguments.series)?;
    time(&mut series)?;
    series.save()
}

/// Times every segment, each once, on one thread of this machine, and writes the times into the manifest.
pub fn time(series: &mut Series) -> anyhow::Result<()> {
    let mut known: HashMap<Digest, f64> = HashMap::new();
    let segments = series
        .manifest
        .variants
        .iter()
        .map(|it| it.segments.len())
        .sum::<usize>();
    let progress = bar("export", segments as u64).with_message("timing the segments");
    let mut variants = series.manifest.variants.clone();
    for variant in &mut variants {
        let mut shape = series.manifest.input_of(variant).shape;
        for segment in &mut variant.segments {
            let micros = match known.get(&segment.sha256) {
                Some(&it) => it,
                None => one(series, shape, segment)?,
            };
            known.insert(segment.sha256, micros);
            segment.micros = Some(micros);
            shape = segment.output;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    series.manifest.variants = variants;
    series.manifest.timed_on = Some(format!("{}, one thread, 128-bit vectors", processor()));
    Ok(())
}

/// The median time of a run in microseconds, to a tenth.
fn one(series: &Series, input: Shape, segment: &Segment) -> anyhow::Result<f64> {
    let mut network = series.network_as_in_browsers(input, segment)?;
    // Neither zeros nor denormals, which some processors treat otherwise.
    let values: Vec<f32> = (0..input.values()).map(|it| (it % 7) as f32 * 0.25).collect();
    let mut output = Vec::new();
    let mut times = Vec::new();
    let began = Instant::now();
    while times.len() < WARM_UP + RUNS || began.elapsed() < ENOUGH {
        let started = Instant::now();
        network.run(1, &values, &mut output)?;
        times.push(started.elapsed());
    }
    let mut counted = times.split_off(WARM_UP);
    counted.sort_unstable();
    let median = counted[counted.len() / 2].as_secs_f64() * 1e6;
    Ok((median * 10.0).round() / 10.0)
}

/// What this machine's processor is called.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|it| it.strip_prefix("model name")?.split_once(": "));
    let name = model.map_or(std::env::consts::ARCH, |it| it.1);
    // Whatever the system calls it has to fit on one line of a manifest.
    name.chars().filter(|it| !it.is_control()).take(100).collect()
}
