//! The page and its WebAssembly in a real browser, beside onnxruntime-web.

use std::path::Path;

use anyhow::Result;
use xshell::Shell;

use super::pages;
use crate::progress::Progress;

/// Builds everything and measures; that prints tables and writes the report.
pub fn run(sh: &Shell, progress: &mut Progress, folder: &Path, arguments: &[String]) -> Result<()> {
    pages::prepare(sh, progress)?.run(sh, "browser", folder, arguments)
}
