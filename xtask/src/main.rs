//! The project's commands, for people and for CI: `cargo xtask --help`.
//!
//! Each command installs what it lacks, so a fresh machine needs rustup, Node.js and a C compiler only.

mod bench;
mod progress;
mod setup;
mod test;
mod wasm;
mod web;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use xshell::{Shell, cmd};

use crate::{bench::Bench, progress::Progress, test::Stage};

/// Split inference between browser and edge worker: build, run, test.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds everything, serves the series in models/, and opens the page
    Run {
        /// Port on this machine
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// A series to serve instead, or a folder of series
        #[arg(long, default_value = MODELS)]
        series: PathBuf,
        /// Prints the page's URL and opens no browser
        #[arg(long)]
        no_open: bool,
    },
    /// Installs what is missing and runs every check and test, or only the stages named
    Test {
        /// Stages to run, all if none is named
        #[arg(value_enum)]
        stages: Vec<Stage>,
    },
    /// Runs a benchmark and writes its numbers to target/bench
    Bench {
        /// Which one
        #[arg(value_enum)]
        bench: Bench,
        /// Settings for its program; `-- --help` lists them
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Runs the selector on links and devices that change, against an oracle that knows them
    Simulate {
        /// Trace files, all that the project ships if none is named
        traces: Vec<PathBuf>,
        /// Folder with the manifest
        #[arg(long, default_value = SIMULATED_SERIES)]
        series: PathBuf,
        /// Settings for the simulator; `-- --help` lists them
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Builds the WebAssembly client and the page
    Build,
}

/// The series that the project ships, relative to the root.
const MODELS: &str = "models";
/// The one of them that clients get who name none.
const DEFAULT_SERIES: &str = "grocery-lite0";
/// The one that is simulated.
const SIMULATED_SERIES: &str = "models/cifar10-vgg16";

/// What `run` builds, and how many minutes each part takes from a clean clone on two idle cores.
const FIRST_BUILD: [(&str, f32); web::STEPS + 1] = [
    ("the WebAssembly client, with SIMD", 2.7),
    ("the WebAssembly client, with relaxed SIMD", 2.7),
    ("the page", 0.5),
    ("the edge worker", 5.5),
];

fn main() -> Result<()> {
    // Ends quietly when nobody reads on (`cargo xtask … | head`), in place of a panic of `println!`.
    sigpipe::reset();
    let arguments = Arguments::parse();
    let sh = Shell::new()?;
    // A path that the user gave is relative to where they stand, everything else to the root.
    let started_in = sh.current_dir();
    let series_at = |series: PathBuf| match [MODELS, SIMULATED_SERIES].map(Path::new).contains(&series.as_path()) {
        true => series,
        false => started_in.join(series),
    };
    sh.change_dir(root());
    let mut progress = Progress::start();
    match arguments.command {
        Task::Run { port, series, no_open } => {
            run(&sh, &mut progress, port, &series_at(series), !no_open && has_display())
        }
        Task::Test { stages } => test::run(&sh, &mut progress, &stages),
        Task::Bench { bench, arguments } => bench::run(&sh, &mut progress, bench, &arguments),
        Task::Simulate {
            traces,
            series,
            arguments,
        } => {
            let traces = traces.iter().map(|it| started_in.join(it)).collect();
            bench::simulate(&sh, &mut progress, &series_at(series), traces, &arguments)
        }
        Task::Build => web::build(&sh, &mut progress),
    }
}

fn run(sh: &Shell, progress: &mut Progress, port: u16, series: &Path, opens: bool) -> Result<()> {
    let edge_worker = target_folder(sh)?.join("quick/edge-worker");
    if !edge_worker.exists() {
        let minutes: f32 = FIRST_BUILD.iter().map(|(_, minutes)| minutes).sum();
        println!("The first build takes about {minutes:.0} minutes on two cores; later ones take seconds:");
        for (number, (part, minutes)) in (1..).zip(FIRST_BUILD) {
            println!("  {number}. {part}: about {minutes} min");
        }
    }
    progress.plan(FIRST_BUILD.len());
    web::build(sh, progress)?;
    progress.step("building the edge worker", || {
        cmd!(sh, "cargo build --profile quick --package edge-worker")
            .run()
            .context("the edge worker does not build")
    })?;
    let mut serving = Command::new(edge_worker)
        .args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--web",
            "web/dist",
            "--models",
        ])
        .arg(series)
        .args(default_series(series))
        .current_dir(sh.current_dir())
        .stdout(Stdio::piped())
        .spawn()
        .context("the edge worker does not start")?;
    for line in BufReader::new(serving.stdout.take().context("the edge worker has no output")?).lines() {
        let line = line?;
        match line.strip_prefix("listening on ") {
            Some(url) => show(url, opens),
            None => println!("{line}"),
        }
    }
    // Its own message says what is wrong and what to do.
    let status = serving.wait()?;
    ensure!(status.success(), "the edge worker ended with {status}");
    Ok(())
}

/// Opens the page, if it should, and names it in any case: not every machine has a browser to be opened.
fn show(url: &str, opens: bool) {
    let is_open = opens && open::that_detached(url).is_ok();
    let what = if is_open {
        "The page is being opened"
    } else {
        "Open this page"
    };
    println!("\n{what}; Ctrl-C ends it:\n\n{url}");
}

/// Whether a browser could be seen: on Linux, programs may run without a display.
fn has_display() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|it| !it.is_empty());
    !cfg!(target_os = "linux") || ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(is_set)
}

/// The option that says which series of a folder is the default: needed only where there are several.
fn default_series(models: &Path) -> Vec<String> {
    let is_there = models.join(DEFAULT_SERIES).join("manifest.json").is_file();
    let option = ["--default-series", DEFAULT_SERIES].map(String::from);
    if is_there { option.into() } else { Vec::new() }
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds.
fn target_folder(sh: &Shell) -> Result<PathBuf> {
    let located = sh
        .var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(sh.current_dir().join(located))
}
