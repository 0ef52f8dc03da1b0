//! Builds the browser's binaries: cargo for WebAssembly, then the JavaScript around them.

use std::path::Path;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;
use xshell::{Shell, cmd};

use crate::setup::WASM_TARGET;

/// A binary and the instructions it may use. Pages pick one by what the browser can do.
pub struct Flavour {
    /// Name of its folder.
    name: &'static str,
    /// What it needs, for people.
    pub description: &'static str,
    target_features: &'static str,
}

/// Every browser since 2021 (Safari since 16.4) has SIMD; relaxed SIMD, which iOS lacks, adds the fused multiply-add that matrix products live on.
pub const FLAVOURS: [Flavour; 2] = [
    Flavour {
        name: "simd",
        description: "with SIMD",
        target_features: "+simd128",
    },
    Flavour {
        name: "relaxed",
        description: "with relaxed SIMD",
        target_features: "+simd128,+relaxed-simd",
    },
];

/// Writes a flavour of `wasm-client` to `web/packages/client/wasm/<flavour>/`.
pub fn build(sh: &Shell, flavour: &Flavour) -> Result<()> {
    let Flavour {
        name, target_features, ..
    } = flavour;
    // cargo names a library's final file without regard to the flags, so that flavours in one folder would pass for each other.
    let target = crate::target_folder(sh)?.join(format!("wasm-{name}"));
    let flags = format!("target.{WASM_TARGET}.rustflags=[\"-Ctarget-feature={target_features}\"]");
    cmd!(
        sh,
        "cargo build --package wasm-client --profile wasm --target {WASM_TARGET} --config {flags} --target-dir {target}"
    )
    .run()
    .context("the WebAssembly client does not build")?;
    let folder = sh.current_dir().join("web/packages/client/wasm").join(name);
    bind(&target.join(WASM_TARGET).join("wasm/wasm_client.wasm"), &folder)
}

fn bind(binary: &Path, folder: &Path) -> Result<()> {
    Bindgen::new()
        .input_path(binary)
        .web(true)?
        .typescript(true)
        .out_name("split_client")
        .generate(folder)
        .with_context(|| format!("the JavaScript around {} cannot be written", binary.display()))
}
