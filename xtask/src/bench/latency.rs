//! Latency from frame to label, and to the first label, in a real browser, over slower links and on slower devices.

use std::path::Path;

use anyhow::Result;
use xshell::Shell;

use super::pages;
use crate::progress::Progress;

/// Builds everything and measures; that prints tables and writes the report with a picture beside it.
pub fn run(sh: &Shell, progress: &mut Progress, folder: &Path, arguments: &[String]) -> Result<()> {
    pages::prepare(sh, progress)?.run(sh, "latency", folder, arguments)
}
