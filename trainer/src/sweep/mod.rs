//! `trainer sweep`: the commands of a file, one after another or one by its number, and one table of what came of them.
//!
//! Every command is a process of its own, so that one that fails, or is killed because memory runs out, ends no other. A command that succeeded
//! leaves a record and is not given again, unless what it starts from was made again since.

mod file;
mod record;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::files;
use file::{Job, Sweep};
use record::{Record, Records};

/// Variable that names the file for the error of a command, so that the table can give the reason.
const ERROR_FILE: &str = "TRAINER_ERROR_FILE";

/// How the command is used.
pub const EXAMPLES: &str = "\
Examples: night.sweep holds
    # Lines that begin like this one get these flags, unless they give them themselves.
    defaults prune step2 --data pictures --parent runs/step1/final.safetensors --teacher runs/unpruned/final.safetensors --bits 3

    prune step2 --run runs/pool3-8  --split pool3 --width 8
    prune step2 --run runs/pool3-12 --split pool3 --width 12 --epochs 40
    export --series models/mine --data pictures --checkpoint runs/pool3-8/final.safetensors --checkpoint runs/pool3-12/final.safetensors
    calibrate --series models/mine --data pictures
One after another; given again, it goes on where it stopped:
    trainer sweep night.sweep
What has come of it so far:
    trainer sweep night.sweep --table
The second command alone, on a machine of its own:
    trainer sweep night.sweep --index 1
Words are separated and quoted as in a shell, a # begins a comment, and a backslash at the end of a line joins the next one to it. Paths are relative to the folder that the sweep is started in.";

/// What to run.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Text file with one command of the trainer a line.
    file: PathBuf,
    /// Run only this command, counted from 0. An Indexed Job of Kubernetes sets the variable.
    #[arg(long, env = "JOB_COMPLETION_INDEX")]
    index: Option<usize>,
    /// Run nothing, and show what has come of it so far.
    #[arg(long)]
    table: bool,
    /// Folder for the records of what is finished; the file's name with `.records` behind it if not given.
    #[arg(long)]
    records: Option<PathBuf>,
}

/// Runs `trainer sweep`. `check` says what is wrong with the arguments of a command.
pub fn run(arguments: &Arguments, check: impl Fn(&[String]) -> Result<(), String>) -> anyhow::Result<()> {
    let path = &arguments.file;
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let sweep = Sweep::parse(&text, check).with_context(|| path.display().to_string())?;
    let folder = arguments.records.clone().unwrap_or_else(|| {
        let mut name = path.clone().into_os_string();
        name.push(".records");
        name.into()
    });
    let records = Records::new(&folder);
    if arguments.table {
        print!("{}", table::table(&sweep, &records));
        return Ok(());
    }
    sweep.check_inputs().with_context(|| path.display().to_string())?;
    files::make_folder(&folder)?;
    let failed = match arguments.index {
        None => all(&sweep, &records)?,
        Some(index) => one(&sweep, &records, index)?,
    };
    print!("\n{}", table::table(&sweep, &records));
    ensure!(
        failed.is_empty(),
        "{} of {} commands in {} failed:\n{}\nthe same command tries them again",
        failed.len(),
        sweep.jobs.len(),
        path.display(),
        failed.join("\n")
    );
    Ok(())
}

/// Notes the text of an error where a sweep looks for it.
pub fn note_error(text: &str) {
    if let Some(path) = env::var_os(ERROR_FILE) {
        // The sweep then says less; nobody else is there to hear of it.
        drop(fs::write(path, text));
    }
}

/// Runs what is not finished, in order; returns what failed, and why.
fn all(sweep: &Sweep, records: &Records) -> anyhow::Result<Vec<String>> {
    let (mut failed, mut told) = (Vec::new(), Vec::new());
    for (at, job) in sweep.jobs.iter().enumerate() {
        let say = |what: &str| eprintln!("\n[{}/{}] line {}: {what}", at + 1, sweep.jobs.len(), job.line);
        if records.is_finished(sweep, at) {
            say(&format!("{} is finished", job.name()));
            continue;
        }
        let cause = sweep.needs(at).find(|it| failed.contains(it));
        let outcome = match cause {
            Some(cause) => Err(format!("not run, because line {} failed", sweep.jobs[cause].line)),
            None => {
                say(&job.command());
                give(job, records)?
            }
        };
        if let Err(reason) = outcome {
            say(&format!("{}: {reason}", job.name()));
            failed.push(at);
            told.push(format!("  line {}, {}: {reason}", job.line, job.name()));
        }
    }
    Ok(told)
}

/// Runs one command, unless it is finished.
fn one(sweep: &Sweep, records: &Records, index: usize) -> anyhow::Result<Vec<String>> {
    let Some(job) = sweep.jobs.get(index) else {
        bail!(
            "there are {} commands, numbered from 0; --index says {index}",
            sweep.jobs.len()
        );
    };
    if records.is_finished(sweep, index) {
        eprintln!("line {}: {} is finished", job.line, job.name());
        return Ok(Vec::new());
    }
    if let Some(needed) = sweep.needs(index).find(|it| !records.is_finished(sweep, *it)) {
        bail!(
            "line {} needs what line {} makes, which is not finished; run --index {needed} first",
            job.line,
            sweep.jobs[needed].line
        );
    }
    let failed = give(job, records)?.err();
    Ok(failed
        .map(|reason| format!("  line {}, {}: {reason}", job.line, job.name()))
        .into_iter()
        .collect())
}

/// Gives a command and keeps a record of it; the inner error is why it failed.
fn give(job: &Job, records: &Records) -> anyhow::Result<Result<(), String>> {
    let told = records.temporary()?;
    let started = Instant::now();
    let program = env::current_exe().context("finding this program")?;
    let status = process::Command::new(&program)
        .args(&job.words)
        .env(ERROR_FILE, told.path())
        .status()
        .with_context(|| program.display().to_string())?;
    let error = (!status.success()).then(|| reason(status, told.path()));
    let record = Record::now(job, started.elapsed(), error.clone());
    records.keep(job, &record)?;
    Ok(error.map_or(Ok(()), Err))
}

/// Why a command failed: by its own words, if it had any.
fn reason(status: ExitStatus, told: &Path) -> String {
    let text = fs::read_to_string(told).unwrap_or_default();
    match (text.is_empty(), status.code()) {
        (false, _) => text,
        (true, Some(code)) => format!("ended with exit status {code}"),
        (true, None) => format!("was ended by the system ({status}); it may have run out of memory"),
    }
}
