//! The selector on traces of links and devices that change.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{progress::Progress, target_folder};

/// The traces that the project ships.
const TRACES: &str = "tests/traces";

/// Builds the simulator and lets it run on these traces, all that the project ships if none is named. It prints a table and writes the report.
pub fn run(
    sh: &Shell,
    progress: &mut Progress,
    series: &Path,
    traces: Vec<PathBuf>,
    arguments: &[String],
) -> Result<()> {
    progress.step("building the simulator", || super::build(sh, &["simulate"]))?;
    let traces = if traces.is_empty() { shipped(sh)? } else { traces };
    let target = target_folder(sh)?;
    let (simulate, report) = (target.join("release/simulate"), target.join("bench/simulate.json"));
    cmd!(
        sh,
        "{simulate} --series {series} --report {report} {arguments...} {traces...}"
    )
    .run()
    .context("the simulator failed")?;
    println!("\nreport: {}", report.display());
    Ok(())
}

fn shipped(sh: &Shell) -> Result<Vec<PathBuf>> {
    let folder = sh.current_dir().join(TRACES);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    let is_trace = |it: &PathBuf| it.extension() == Some(OsStr::new("csv"));
    let mut traces: Vec<PathBuf> = paths.into_iter().filter(is_trace).collect();
    traces.sort();
    Ok(traces)
}
