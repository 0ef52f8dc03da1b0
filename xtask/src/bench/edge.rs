//! The edge worker under load.

use std::path::Path;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{progress::Progress, setup, target_folder};

/// What the peer needs.
const PYTHON_PACKAGES: [&str; 3] = ["websockets==17.4", "onnxruntime==1.32.0", "numpy==2.4.6"];

/// Builds both programs and lets the load generator measure; it prints a table and writes the report.
pub fn run(sh: &Shell, progress: &mut Progress, folder: &Path, arguments: &[String]) -> Result<()> {
    progress.step("building the edge worker and the load generator", || {
        let packages = ["--package", "edge-worker", "--package", "split-tests"];
        let programs = ["--bin", "edge-worker", "--bin", "load"];
        Ok(cmd!(sh, "cargo build --release {packages...} {programs...}").run()?)
    })?;
    let python = progress.step("Python packages of the peer", || {
        setup::python_packages(sh, &folder.join("peer"), &PYTHON_PACKAGES)
    })?;
    let programs = target_folder(sh)?.join("release");
    let (load, edge_worker) = (programs.join("load"), programs.join("edge-worker"));
    let report = folder.join("edge.json");
    cmd!(
        sh,
        "{load} --edge-worker {edge_worker} --python {python} --report {report} {arguments...}"
    )
    .run()
    .context("the load generator failed")?;
    println!("\nreport: {}", report.display());
    Ok(())
}
