//! What a run's folder holds, and what the run starts from or goes on with.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use split_core::Digest;
use split_graph::Source;

use super::Run;
use super::learning::CALIBRATION_PICTURES;
use crate::checkpoint::{Checkpoint, Description, FeatureQuantizer, architecture};
use crate::data::Dataset;
use crate::learn::{self, Memory};
use crate::prune::{self, cut_node};
use crate::settings::{Settings, Task};
use crate::tensors::{self, Metadata};

/// What a run was asked to do, in its folder.
pub(super) const SETTINGS: &str = "settings.json";
/// A line for each part.
pub(super) const LOG: &str = "log.jsonl";
/// Weights and momentum after the last finished part.
pub(super) const STATE: &str = "state.safetensors";
/// The network after the last finished part.
pub(super) const LAST: &str = "last.safetensors";
/// The network after the epoch that recognised most of the pictures held back.
pub(super) const BEST: &str = "best.safetensors";
/// The network of a finished run.
pub const FINAL: &str = "final.safetensors";

/// What is done; the rest is made again from the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Finished rounds of removing filters.
    pub(super) round: u64,
    /// Finished epochs of the fine-tuning after them.
    pub(super) epoch: u64,
    /// The one that recognised most of the pictures held back.
    #[serde(default)]
    pub(super) best: Option<Best>,
}

/// An epoch that was better than all before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    pub(super) epoch: u64,
    /// On the pictures held back, in percent.
    pub(super) accuracy: f64,
}

/// A state's note of the pictures that it was learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Learned {
    digest: Digest,
    /// Pictures of each class.
    counts: Vec<usize>,
}

/// Pictures that are not those that a run has learned from.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}. To learn from the pictures that are there now, start a run in another folder, with `--parent {}` if it should begin with what is known; to go \
     on with this run, bring the old ones back",
    self.fact(), folder.join(LAST).display()
)]
pub struct OtherPictures {
    data: PathBuf,
    folder: PathBuf,
    /// In which classes there are more or fewer.
    what: String,
}

impl OtherPictures {
    /// What has changed, without advice.
    pub fn fact(&self) -> String {
        let Self { data, folder, what } = self;
        format!(
            "the training pictures in {} are not those that {} has learned from ({what})",
            data.display(),
            folder.display()
        )
    }
}

/// Keeps other programs from going on with the run until the file is closed. Where the file system knows no locks there is none.
pub(super) fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(LOG);
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        bail!(
            "another program is going on with the run in {} right now",
            folder.display()
        );
    }
    Ok(file)
}

pub(super) fn read_settings(folder: &Path) -> anyhow::Result<Settings> {
    let path = folder.join(SETTINGS);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// What a run starts from: its parent, with what does not fit other classes or another input made anew, or random weights.
pub(super) fn parent(settings: &Settings) -> anyhow::Result<Checkpoint> {
    let seed = settings.learning.seed;
    let size = [settings.input[1], settings.input[2]];
    let Some(path) = &settings.parent else {
        let mut description = Description::usual(architecture(&settings.architecture)?, size, settings.classes.clone());
        description.preparation = settings.preparation;
        return Checkpoint::random(description, seed);
    };
    let parent = Checkpoint::load(path)?;
    let of = &parent.description;
    if (&of.classes, of.input, of.preparation) == (&settings.classes, settings.input, settings.preparation) {
        return Ok(parent);
    }
    ensure!(
        matches!(settings.task, Task::Train),
        "{} has other classes, another input or another preparation than the run; train it for them first",
        path.display()
    );
    let description = Description {
        input: settings.input,
        classes: settings.classes.clone(),
        preparation: settings.preparation,
        quantizer: None,
        ..of.clone()
    };
    let (adapted, anew) = parent.adapted(description, seed)?;
    for name in anew {
        eprintln!(
            "{name} begins anew: {} was trained for other classes or another input",
            path.display()
        );
    }
    Ok(adapted)
}

/// What a run goes on with.
pub(super) struct Start {
    pub(super) checkpoint: Checkpoint,
    pub(super) progress: Progress,
    /// The quantiser in the loop.
    pub(super) quantizer: Option<FeatureQuantizer>,
    /// What the learner remembers besides weights.
    pub(super) memory: Memory,
    /// The pictures that were learned from, and how; states of earlier releases do not say.
    pub(super) learned: Option<Learned>,
    pub(super) settings: Option<Settings>,
}

impl Start {
    /// A state that was saved.
    pub(super) fn saved(path: &Path) -> anyhow::Result<Self> {
        let (mut tensors, metadata) = tensors::load(path)?;
        let damaged = || format!("{} is damaged", path.display());
        let progress = metadata
            .get("progress")
            .context("a field is missing")
            .with_context(damaged)?;
        let memory = Memory::take(&mut tensors);
        let checkpoint = Checkpoint::of_tensors(tensors, &metadata).with_context(damaged)?;
        Ok(Self {
            progress: serde_json::from_str(progress).with_context(damaged)?,
            quantizer: checkpoint.description.quantizer.clone(),
            checkpoint,
            memory,
            learned: optional(&metadata, "pictures").with_context(damaged)?,
            settings: optional(&metadata, "settings").with_context(damaged)?,
        })
    }

    /// The parent; where step 2 needs a bottleneck, it is put there.
    pub(super) fn fresh(mut parent: Checkpoint, settings: &Settings, train: &Dataset) -> anyhow::Result<Self> {
        let replaced = |it: &FeatureQuantizer| matches!(&settings.task, Task::Step2(step) if step.split == it.split);
        if let Some(quantizer) = parent.description.quantizer.as_ref().filter(|it| !replaced(it)) {
            eprintln!(
                "the parent was trained with a quantiser at {}, which is left out from here on",
                quantizer.split
            );
        }
        if let Task::Step2(step) = &settings.task {
            let node = cut_node(&parent.graph, &step.split)?;
            if prune::layer_at(&parent.graph, &parent.graph.channel_groups(), node).is_none() {
                let features = learn::features(&parent, node, &train.thinned(CALIBRATION_PICTURES))?;
                let channels = parent.graph.shape(Source::Node(node)).channels();
                let bottleneck = prune::bottleneck(&features, channels, step.width);
                parent.graph = parent.graph.with_bottleneck(node, &bottleneck)?;
            }
        }
        Ok(Self {
            checkpoint: parent,
            progress: Progress::default(),
            quantizer: None,
            memory: Memory::default(),
            learned: None,
            settings: None,
        })
    }

    /// Refuses a state that a run with other settings has left: one that was copied here.
    pub(super) fn check_settings(&self, settings: &Settings, folder: &Path) -> anyhow::Result<()> {
        let Some(old) = &self.settings else { return Ok(()) };
        let differences = settings.without_paths().differences(&old.without_paths())?;
        ensure!(
            differences.is_empty(),
            "{} is of another run than {SETTINGS} beside it: {}",
            folder.join(STATE).display(),
            differences.join("; ")
        );
        Ok(())
    }
}

/// A field of a state that may be missing.
fn optional<T: DeserializeOwned>(metadata: &Metadata, name: &str) -> serde_json::Result<Option<T>> {
    metadata.get(name).map(|it| serde_json::from_str(it)).transpose()
}

impl Run {
    fn learned(&self) -> Learned {
        let all = self.train.whole();
        Learned {
            digest: all.digest(),
            counts: all.counts(),
        }
    }

    /// Refuses pictures other than those that the state was learned from.
    pub(super) fn check_pictures(&self, old: &Learned) -> anyhow::Result<()> {
        let new = self.learned();
        if *old == new {
            return Ok(());
        }
        let counts = self.train.classes().iter().zip(old.counts.iter().zip(&new.counts));
        let changed: Vec<String> = counts
            .filter(|it| it.1.0 != it.1.1)
            .map(|(class, (old, new))| format!("{class} {old} → {new}"))
            .collect();
        let what = match changed.is_empty() {
            true => "as many of each class, but other files or in other classes".to_owned(),
            false => changed.join(", "),
        };
        Err(anyhow::Error::new(OtherPictures {
            data: self.settings.learning.source.data.clone(),
            folder: self.folder.clone(),
            what,
        }))
    }

    pub(super) fn save(&self, checkpoint: &Checkpoint) -> anyhow::Result<()> {
        let now = Checkpoint::new(self.description.clone(), self.learner.graph()?)?;
        let (mut tensors, mut metadata) = now.to_tensors()?;
        tensors.extend(self.learner.memory());
        metadata.insert("progress".to_owned(), serde_json::to_string(&self.progress)?);
        metadata.insert("pictures".to_owned(), serde_json::to_string(&self.learned())?);
        metadata.insert("settings".to_owned(), serde_json::to_string(&self.settings)?);
        checkpoint.save(&self.folder.join(LAST))?;
        Ok(tensors::save(&self.folder.join(STATE), &tensors, metadata)?)
    }
}
