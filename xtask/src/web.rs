//! Builds what the browser loads.

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{progress::Progress, setup, wasm};

/// Builds the WebAssembly client and the page, into `web/dist`.
pub fn build(sh: &Shell, progress: &mut Progress) -> Result<()> {
    progress.step("building the WebAssembly client", || {
        setup::wasm_target(sh)?;
        wasm::build(sh)
    })?;
    progress.step("building the page", || {
        setup::npm_packages(sh, "web")?;
        let _inside = sh.push_dir("web");
        cmd!(sh, "npm run --silent build")
            .run()
            .context("the page does not build")
    })
}
