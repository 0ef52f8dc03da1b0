//! Every check and test there is, in the order in which they fail fastest.
//!
//! Native builds always name the whole workspace without this crate: cargo chooses the features of a dependency by all the packages
//! it builds at once, so another selection would compile the large ones a second time.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use crate::{
    bench::BROWSER_BENCHMARKS,
    progress::Progress,
    setup::{self, WASM_TARGET},
    target_folder, web,
};

/// A part of the tests that can run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Formatting, lints and documentation, Rust and TypeScript
    Lint,
    /// Rust tests
    Native,
    /// What deploy/ holds: schemas, the image's command in its container, nginx and Caddy in front of real edge workers
    Deploy,
    /// Tests of the page in a real browser
    Browser,
}

/// Folder of the browser tests, with its own npm packages.
const BROWSER_TESTS: &str = "tests/browser";

/// Runs the stages named, or all.
pub fn run(sh: &Shell, progress: &mut Progress, stages: &[Stage]) -> Result<()> {
    let stages = if stages.is_empty() {
        Stage::value_variants()
    } else {
        stages
    };
    for stage in stages {
        match stage {
            Stage::Lint => lint(sh, progress)?,
            Stage::Native => native(sh, progress)?,
            Stage::Deploy => deploy(sh, progress)?,
            Stage::Browser => browser(sh, progress)?,
        }
    }
    println!("\n[{}] all tests passed: {stages:?}", progress.elapsed());
    Ok(())
}

fn lint(sh: &Shell, progress: &mut Progress) -> Result<()> {
    progress.step("rustfmt", || {
        cmd!(sh, "cargo fmt --all --check").run().context("run `cargo fmt`")
    })?;
    for folder in ["web", BROWSER_TESTS, BROWSER_BENCHMARKS] {
        progress.step(&format!("Biome in {folder}"), || {
            setup::npm_packages(sh, folder)?;
            let _inside = sh.push_dir(folder);
            Ok(cmd!(sh, "npm run --silent lint").run()?)
        })?;
    }
    progress.step("clippy", || {
        cmd!(sh, "cargo clippy --package xtask --all-targets -- -D warnings").run()?;
        Ok(cmd!(
            sh,
            "cargo clippy --workspace --exclude xtask --all-targets -- -D warnings"
        )
        .run()?)
    })?;
    progress.step("clippy for the browser", || {
        setup::wasm_target(sh)?;
        Ok(cmd!(
            sh,
            "cargo clippy --package wasm-client --target {WASM_TARGET} -- -D warnings"
        )
        .run()?)
    })?;
    progress.step("rustdoc", || {
        let _strict = sh.push_env("RUSTDOCFLAGS", "-D warnings");
        Ok(cmd!(sh, "cargo doc --workspace --exclude xtask --no-deps").run()?)
    })
}

fn native(sh: &Shell, progress: &mut Progress) -> Result<()> {
    progress.step("building the native tests", || {
        Ok(cmd!(sh, "cargo test --workspace --exclude xtask --no-run").run()?)
    })?;
    progress.step("native tests", || {
        cmd!(sh, "cargo test --package xtask").run()?;
        Ok(cmd!(sh, "cargo test --workspace --exclude xtask").run()?)
    })?;
    progress.step("exported ONNX files in onnxruntime", || {
        let folder = target_folder(sh)?.join("onnxruntime");
        let python = setup::python_packages(sh, &folder, &["onnxruntime==1.32.0", "numpy==2.4.6"])?;
        let _python = sh.push_env("PYTHON", python);
        Ok(cmd!(
            sh,
            "cargo test --workspace --exclude xtask --lib -- --include-ignored onnxruntime"
        )
        .run()?)
    })
}

fn deploy(sh: &Shell, progress: &mut Progress) -> Result<()> {
    progress.step("Kubernetes files against their schemas", || {
        let folder = target_folder(sh)?.join("kubernetes-validate");
        let python = setup::python_packages(sh, &folder, &["kubernetes-validate==1.37.0"])?;
        let validate = python.with_file_name("kubernetes-validate");
        let training = [PathBuf::from("deploy/training/job.yaml")];
        for file in sh.read_dir("deploy/kubernetes")?.into_iter().chain(training) {
            // These two are for other programs than Kubernetes.
            if !file.ends_with("kustomization.yaml") && !file.ends_with("prometheus-adapter.yaml") {
                cmd!(sh, "{validate} --strict {file}").run()?;
            }
        }
        Ok(())
    })?;
    web::build(sh, progress)?;
    progress.step("the image's command, and proxies in front of edge workers", || {
        setup::proxies(sh)?;
        // Those in a container need root.
        let skipped: &[&str] = if setup::is_root() { &[] } else { &["--skip", "image::"] };
        Ok(cmd!(
            sh,
            "cargo test --workspace --exclude xtask --test it -- --include-ignored image:: proxies:: {skipped...}"
        )
        .run()?)
    })?;
    playwright(sh, progress, "deploy-*")
}

fn browser(sh: &Shell, progress: &mut Progress) -> Result<()> {
    web::build(sh, progress)?;
    // Only now: they import the types of what was just built.
    for folder in [BROWSER_TESTS, BROWSER_BENCHMARKS] {
        progress.step(&format!("tsc in {folder}"), || {
            setup::npm_packages(sh, folder)?;
            let _inside = sh.push_dir(folder);
            Ok(cmd!(sh, "npm run --silent typecheck").run()?)
        })?;
    }
    playwright(sh, progress, "page")
}

/// Runs the browser tests of one project of Playwright's configuration.
fn playwright(sh: &Shell, progress: &mut Progress, project: &str) -> Result<()> {
    progress.step("building the programs that the browser tests start", || {
        Ok(cmd!(sh, "cargo build --workspace --exclude xtask --bins").run()?)
    })?;
    let chromium = progress.step("Playwright and Chromium", || {
        setup::npm_packages(sh, BROWSER_TESTS)?;
        setup::chromium(sh, BROWSER_TESTS)
    })?;
    let firefox = setup::firefox(sh);
    if firefox.is_none() {
        println!("there is no Firefox on the PATH or in FIREFOX: its smoke test is skipped");
    }
    progress.step(&format!("browser tests: {project}"), || {
        let _programs = sh.push_env("PROGRAMS", target_folder(sh)?.join("debug"));
        let _chromium = chromium.as_ref().map(|it| sh.push_env("CHROMIUM", it));
        let _firefox = firefox.as_ref().map(|it| sh.push_env("FIREFOX", it));
        let _inside = sh.push_dir(BROWSER_TESTS);
        Ok(cmd!(sh, "npx playwright test --project {project}").run()?)
    })
}
