//! The feature codec beside PNG and zstd.

use std::path::Path;

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::{progress::Progress, target_folder};

/// Builds the measuring program and runs it; it prints a table and writes the report.
pub fn run(sh: &Shell, progress: &mut Progress, folder: &Path, arguments: &[String]) -> Result<()> {
    progress.step("building the codec's benchmark", || super::build(sh, &["codec"]))?;
    let codec = target_folder(sh)?.join("release/codec");
    let report = folder.join("codec.json");
    let command = cmd!(sh, "{codec} --report {report} {arguments...}");
    super::measure("codec", &command, &report)
}
