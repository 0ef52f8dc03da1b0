//! Training throughput beside PyTorch.

use std::path::Path;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{progress::Progress, setup, target_folder};

/// What the peer needs.
const PYTHON_PACKAGES: [&str; 1] = ["torch==2.15.0"];

/// Builds the trainer and the measuring program; that runs the trainer and PyTorch in turns, prints a table and writes the report.
pub fn run(sh: &Shell, progress: &mut Progress, folder: &Path, arguments: &[String]) -> Result<()> {
    progress.step("building the trainer and its benchmark", || {
        let packages = ["--package", "trainer", "--package", "split-tests"];
        let programs = ["--bin", "trainer", "--bin", "train"];
        Ok(cmd!(sh, "cargo build --release {packages...} {programs...}").run()?)
    })?;
    let python = progress.step("PyTorch (some gigabytes)", || {
        setup::python_packages(sh, &folder.join("pytorch"), &PYTHON_PACKAGES)
    })?;
    let programs = target_folder(sh)?.join("release");
    let (train, trainer) = (programs.join("train"), programs.join("trainer"));
    let report = folder.join("train.json");
    cmd!(
        sh,
        "{train} --trainer {trainer} --python {python} --report {report} {arguments...}"
    )
    .run()
    .context("the training benchmark failed")?;
    println!("\nreport: {}", report.display());
    Ok(())
}
