//! Training from pictures that do not fit into memory, beside training from pictures that do.

mod bound;
mod pictures;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bound::Bound;
use clap::Parser;
use pictures::Files;
use serde::{Deserialize, Serialize};
use split_tests::report::Report;

/// Bytes of a prepared picture of the networks' usual size.
const PICTURE_BYTES: u64 = 224 * 224 * 3;
/// Room on the disk besides that of the prepared pictures: files, runs, and some to spare.
const SPARE_BYTES: u64 = 2 << 30;
/// At least this share of the speed in memory.
const GOAL: f64 = 0.9;

/// Lets the trainer learn from many pictures, most of which are in its temporary file, and from as many as a run sees, which all are in memory.
///
/// Every run has the memory of a small machine, the system's copies of files included. All runs take the same number of steps.
#[derive(Parser)]
struct Arguments {
    /// The trainer's program.
    #[arg(long)]
    trainer: PathBuf,
    /// Folder for pictures and runs. What is put there is removed in the end.
    #[arg(long)]
    work: PathBuf,
    /// Folder of the pictures that others are made of.
    #[arg(long, default_value = "web/public/samples/grocery-store")]
    samples: PathBuf,
    /// Pictures to learn from.
    #[arg(long, default_value_t = 100_000)]
    pictures: usize,
    /// Files that differ; the other pictures are hard links to them.
    #[arg(long, default_value_t = 2000)]
    files: usize,
    /// The network, at its usual size: one that takes 224×224.
    #[arg(long, default_value = "tf_efficientnet_lite0")]
    architecture: String,
    /// Pictures in a batch.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Steps of every run.
    #[arg(long, default_value_t = 150)]
    steps: usize,
    /// Megabytes of memory for every run.
    #[arg(long, default_value_t = 4096)]
    memory: u64,
    /// Where to write the numbers as JSON.
    #[arg(long)]
    report: PathBuf,
}

/// One run.
#[derive(Serialize)]
struct Row {
    pictures_from: &'static str,
    pictures: usize,
    steps: usize,
    images_per_second: f64,
    /// Until learning began: pictures are decoded and put away.
    reading_seconds: f64,
    /// The most that the program itself had, without the system's copies of files.
    peak_memory_megabytes: u64,
}

/// What the trainer's log says of an epoch.
#[derive(Deserialize)]
struct Epoch {
    images_per_second: f64,
    /// With measuring and saving.
    seconds: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seen = arguments.batch * arguments.steps;
    ensure!(
        (1..=arguments.pictures).contains(&seen),
        "{seen} pictures cannot be learned from once if there are {}",
        arguments.pictures
    );
    fs::create_dir_all(&arguments.work)?;
    check_room(&arguments.work, arguments.pictures as u64 * PICTURE_BYTES + SPARE_BYTES)?;
    let bound = Bound::new(arguments.memory << 20)?;
    let mut report = Report::default();
    report.row(
        format!("memory of every run, by {bound}"),
        arguments.memory as f64,
        "MB",
    );

    let work = tempfile::tempdir_in(&arguments.work)?;
    let files = Files::make(&arguments.samples, arguments.files, &work.path().join("files"))?;
    let few = files.link(seen, &work.path().join("few"))?;
    let many = files.link(arguments.pictures, &work.path().join("many"))?;

    let mut speeds = Vec::new();
    // What the machine does meanwhile is then in the middle of what it is compared with.
    for (name, from, data, pictures) in [
        ("before", "memory", &few, seen),
        ("many", "file", &many, arguments.pictures),
        ("after", "memory", &few, seen),
    ] {
        let row = measure(&arguments, &bound, from, data, pictures, &work.path().join(name))?;
        println!(
            "{pictures} pictures, from {from}: {:.1} images/s after {:.0} s of reading, at most {} MB",
            row.images_per_second, row.reading_seconds, row.peak_memory_megabytes
        );
        speeds.push(row.images_per_second);
        report.record(row);
    }
    let in_memory = (speeds[0] + speeds[2]) / 2.0;
    report.at_least(
        format!("{} pictures: images/s, of those in memory", arguments.pictures),
        speeds[1] / in_memory,
        GOAL,
    );
    report.write(&arguments.report)
}

/// Refuses to fill the disk.
fn check_room(folder: &Path, needed: u64) -> Result<()> {
    let system = rustix::fs::statvfs(folder).with_context(|| folder.display().to_string())?;
    let free = system.f_bavail * system.f_frsize;
    ensure!(
        free >= needed,
        "{} has {} GB of room, {} GB are needed",
        folder.display(),
        free / 1_000_000_000,
        needed.div_ceil(1_000_000_000)
    );
    Ok(())
}

/// Lets the trainer learn from some of the pictures in a folder, each once.
fn measure(
    arguments: &Arguments,
    bound: &Bound,
    pictures_from: &'static str,
    data: &Path,
    pictures: usize,
    run: &Path,
) -> Result<Row> {
    let mut trainer = bound.command(&arguments.trainer);
    trainer.args(["train", "--epochs", "1", "--average", "0", "--learning-rate", "0.001"]);
    trainer.args(["--architecture", &arguments.architecture]);
    trainer.args(["--batch", &arguments.batch.to_string()]);
    trainer.args(["--pictures", &(arguments.batch * arguments.steps).to_string()]);
    trainer.arg("--data").arg(data).arg("--run").arg(run);
    let started = Instant::now();
    let mut child = trainer
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {trainer:?}"))?;
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_memory(child.id()));
        match child.try_wait()? {
            Some(status) => break status,
            None => sleep(Duration::from_millis(200)),
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(status.success(), "{trainer:?} ended with {status}");
    let log = fs::read_to_string(run.join("log.jsonl"))?;
    let epoch: Epoch = serde_json::from_str(log.lines().next_back().context("the trainer's log is empty")?)?;
    Ok(Row {
        pictures_from,
        pictures,
        steps: arguments.steps,
        images_per_second: epoch.images_per_second,
        reading_seconds: seconds - epoch.seconds,
        peak_memory_megabytes: peak >> 20,
    })
}

/// The most bytes of memory that a program has had so far; 0 once it has ended.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
