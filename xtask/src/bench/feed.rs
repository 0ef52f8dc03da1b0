//! Training from pictures that do not fit into memory.

use std::path::Path;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{progress::Progress, target_folder};

/// Builds the trainer and the measuring program; that makes the pictures, runs the trainer in 4 GB of memory, prints a table and writes the report.
pub fn run(sh: &Shell, progress: &mut Progress, folder: &Path, arguments: &[String]) -> Result<()> {
    progress.step("building the trainer and its benchmark", || {
        let packages = ["--package", "trainer", "--package", "split-tests"];
        let programs = ["--bin", "trainer", "--bin", "feed"];
        Ok(cmd!(sh, "cargo build --release {packages...} {programs...}").run()?)
    })?;
    let programs = target_folder(sh)?.join("release");
    let (feed, trainer) = (programs.join("feed"), programs.join("trainer"));
    let (work, report) = (folder.join("feed"), folder.join("feed.json"));
    cmd!(
        sh,
        "{feed} --trainer {trainer} --work {work} --report {report} {arguments...}"
    )
    .run()
    .context("the benchmark of feeding failed")?;
    println!("\nreport: {}", report.display());
    Ok(())
}
