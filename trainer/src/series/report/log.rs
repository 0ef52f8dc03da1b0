//! What the log of a run says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::settings::{Settings, Task};

/// A run, as its folder tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunLog {
    /// The folder's name.
    pub name: String,
    /// What was done.
    pub task: String,
    /// Its parts, rounds before epochs.
    pub parts: Vec<Part>,
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
    /// Multiply–accumulates of the network then.
    pub macs: u64,
}

/// Reads the settings and the log in a run's folder. A part that was repeated after an interruption counts once, and a line that
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
        parts: parts.into_values().collect(),
    })
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
