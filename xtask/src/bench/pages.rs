//! What the benchmarks in a real browser share.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xshell::{Shell, cmd};

use super::BROWSER_BENCHMARKS;
use crate::{progress::Progress, setup, target_folder, web};

/// Programs that drive Chromium, and what they drive.
pub struct Pages {
    chromium: Option<PathBuf>,
    programs: PathBuf,
}

/// Builds page, edge worker, helpers and peers, and installs Chromium.
pub fn prepare(sh: &Shell, progress: &mut Progress) -> Result<Pages> {
    web::build(sh, progress)?;
    progress.step("building the edge worker, the trainer and what surrounds them", || {
        super::build(sh, &["edge-worker", "link", "prepare", "slices", "trainer"])
    })?;
    let chromium = progress.step("Playwright, onnxruntime-web and Chromium", || {
        setup::npm_packages(sh, BROWSER_BENCHMARKS)?;
        let chromium = setup::chromium(sh, BROWSER_BENCHMARKS)?;
        let _inside = sh.push_dir(BROWSER_BENCHMARKS);
        cmd!(sh, "npm run --silent build").run()?;
        Ok(chromium)
    })?;
    Ok(Pages {
        chromium,
        programs: target_folder(sh)?.join("release"),
    })
}

impl Pages {
    /// Runs one of the programs; it prints tables, keeps its files in `folder`/NAME and writes `folder`/NAME.json.
    pub fn run(&self, sh: &Shell, name: &str, folder: &Path, arguments: &[String]) -> Result<()> {
        let Self { chromium, programs } = self;
        let _chromium = chromium.as_ref().map(|it| sh.push_env("CHROMIUM", it));
        let (program, work) = (format!("{BROWSER_BENCHMARKS}/dist/{name}.js"), folder.join(name));
        let report = folder.join(format!("{name}.json"));
        let command = cmd!(
            sh,
            "node {program} --programs {programs} --web web/dist --work {work} --report {report} {arguments...}"
        );
        super::measure(name, &command, &report)
    }
}
