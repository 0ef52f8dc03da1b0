//! What the folder of a run says of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::settings::{Settings, Task};

/// A run, as its folder tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunLog {
    /// The folder's name.
    pub name: String,
    /// What is done.
    pub task: String,
    /// Epochs that it is to have.
    pub epochs: u64,
    /// Its parts, rounds before epochs.
    pub parts: Vec<Part>,
    /// Once it is finished.
    pub outcome: Option<Outcome>,
}

impl RunLog {
    /// Epochs that have ended.
    pub fn epochs_done(&self) -> u64 {
        let epochs = self.parts.iter().filter(|it| it.part == "epoch");
        epochs.map(|it| it.number).max().unwrap_or(0)
    }

    /// How long its parts took; 0 in runs of earlier releases, which do not say.
    pub fn seconds(&self) -> f64 {
        self.parts.iter().map(|it| it.seconds).sum()
    }
}

/// One round of removing filters, or one epoch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Part {
    /// `round` or `epoch`.
    pub part: String,
    /// Which, from 1 on.
    pub number: u64,
    /// Top-1 accuracy in percent on the images held back; on the test images in runs of earlier releases.
    #[serde(alias = "test_accuracy")]
    pub validation_accuracy: f64,
    /// Images learned from in a second.
    pub images_per_second: f64,
    /// How long it took, with measuring and saving.
    #[serde(default)]
    pub seconds: f64,
    /// Multiply–accumulates of the network then.
    pub macs: u64,
}

/// What a finished run was worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Top-1 accuracy in percent on the images held back.
    pub validation_accuracy: f64,
    /// Top-1 accuracy in percent on the test images.
    pub test_accuracy: f64,
}

/// Name of the file that holds the [`Outcome`] in a run's folder.
pub const OUTCOME: &str = "result.json";

/// Reads the settings and the log in a run's folder; there is no log before the first part has ended. A part that was repeated after an interruption counts once, and a line that
/// an interruption cut short not at all.
pub fn read(folder: &Path) -> anyhow::Result<RunLog> {
    let text = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let settings: Settings = serde_json::from_str(&text("settings.json")?)
        .with_context(|| folder.join("settings.json").display().to_string())?;
    let mut parts = BTreeMap::new();
    for part in text("log.jsonl")?
        .lines()
        .filter_map(|line| serde_json::from_str::<Part>(line).ok())
    {
        parts.insert((part.part == "epoch", part.number), part);
    }
    Ok(RunLog {
        name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        task: describe(&settings),
        epochs: settings.learning.epochs,
        parts: parts.into_values().collect(),
        outcome: outcome(folder),
    })
}

/// That of a finished run.
fn outcome(folder: &Path) -> Option<Outcome> {
    serde_json::from_slice(&fs::read(folder.join(OUTCOME)).ok()?).ok()
}

fn describe(settings: &Settings) -> String {
    match &settings.task {
        Task::Train => format!("train {}", settings.architecture),
        Task::Step1(step) => format!("step 1, {}× fewer MACs", step.fewer_macs),
        Task::Step2(step) => format!(
            "step 2, {} filters at {}, {} bits{}",
            step.width,
            step.split,
            step.bits,
            if step.unfreeze { ", nothing frozen" } else { "" }
        ),
    }
}
