//! The edge worker and the trainer, each measured by a program of split-tests.

use std::path::Path;

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::{progress::Progress, setup, target_folder};

/// What is measured, and by what.
pub struct Measurement {
    /// Of the benchmark.
    name: &'static str,
    /// Program that is measured.
    program: &'static str,
    /// Program of split-tests.
    by: &'static str,
    needs: Needs,
}

/// What the measuring program is given besides.
enum Needs {
    /// A Python with these packages, for a peer.
    Python(&'static [&'static str]),
    /// A folder for what it makes.
    Folder,
}

/// The edge worker under load.
pub const EDGE: Measurement = Measurement {
    name: "edge",
    program: "edge-worker",
    by: "load",
    needs: Needs::Python(&["websockets==17.4", "onnxruntime==1.32.0", "numpy==2.4.6"]),
};
/// Training from pictures that do not fit into memory.
pub const FEED: Measurement = Measurement {
    name: "feed",
    program: "trainer",
    by: "feed",
    needs: Needs::Folder,
};
/// Training throughput beside PyTorch.
pub const TRAIN: Measurement = Measurement {
    name: "train",
    program: "trainer",
    by: "train",
    needs: Needs::Python(&["torch==2.15.0"]),
};

impl Measurement {
    /// Builds both programs and measures; that prints a table and writes the report.
    pub fn run(&self, sh: &Shell, progress: &mut Progress, folder: &Path, arguments: &[String]) -> Result<()> {
        let Self {
            name,
            program,
            by,
            needs,
        } = self;
        progress.step(&format!("building {program} and what measures it"), || {
            super::build(sh, &[program, by])
        })?;
        let work = folder.join(name);
        let (option, given) = match needs {
            Needs::Python(packages) => {
                let install = || setup::python_packages(sh, &work, packages);
                (
                    "--python",
                    progress.step(&format!("Python with {}", packages.join(", ")), install)?,
                )
            }
            Needs::Folder => ("--work", work),
        };
        let programs = target_folder(sh)?.join("release");
        let (by, measured) = (programs.join(by), programs.join(program));
        let report = folder.join(format!("{name}.json"));
        // As in the container.
        let _large_pages = sh.push_env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        let command = cmd!(
            sh,
            "{by} --{program} {measured} {option} {given} --report {report} {arguments...}"
        );
        super::measure(name, &command, &report)
    }
}
