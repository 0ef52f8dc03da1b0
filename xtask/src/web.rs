//! Builds what the browser loads.

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{progress::Progress, setup, wasm};

/// Steps of `build`.
pub const STEPS: usize = wasm::FLAVOURS.len() + 1;

/// Builds the WebAssembly client and the page, into `web/dist`.
pub fn build(sh: &Shell, progress: &mut Progress) -> Result<()> {
    setup::wasm_target(sh)?;
    for flavour in &wasm::FLAVOURS {
        let name = format!("building the WebAssembly client, {}", flavour.description);
        progress.step(&name, || wasm::build(sh, flavour))?;
    }
    progress.step("building the page", || {
        setup::npm_packages(sh, "web")?;
        let _inside = sh.push_dir("web");
        cmd!(sh, "npm run --silent build")
            .run()
            .context("the page does not build")
    })
}
