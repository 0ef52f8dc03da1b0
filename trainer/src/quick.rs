//! `trainer quick`: from a folder of pictures to a series that can be served, with settings that suit the pictures and the machine.
//!
//! It gives the same commands that its stages have, one after the other: train, prune for less work, prune for two split points, export,
//! calibrate, evaluate. What `plan` chooses is all that is particular to it. A stage that is done is not done again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use split_core::{Digest, Preparation};
use split_graph::Source;

use crate::benchmark;
use crate::checkpoint::{Checkpoint, Description, architecture};
use crate::command::use_threads;
use crate::data::{self, DataSource, Dataset, Library, Reader, Subset};
use crate::files;
use crate::prune::{Region, cut_node, reconstruct};
use crate::run::{self, OtherPictures};
use crate::series::{calibrate, cut, evaluate, export};
use crate::settings::{Augmentation, Criterion, Learning, Settings, Step1, Step2, Task};

/// Stages that are announced.
const STAGES: usize = 7;
/// Pictures that all epochs of a training together pass over, if that makes a sensible number of epochs.
const PASSES: usize = 12_000;
/// Times fewer multiply–accumulates than unpruned that the small variant needs.
const FEWER_MACS: f64 = 4.0;
/// Times that filters are removed until then.
const ROUNDS: u64 = 6;
/// Batches learned from before each removal.
const ROUND_BATCHES: u64 = 20;
/// Bits of a feature that crosses the link.
const BITS: u32 = 3;
/// Channels that cross the link, at the first and at the second split point.
const CHANNELS: [usize; 2] = [8, 12];
/// Pictures in each of the few steps by which the time of training is estimated.
const TRIAL_PICTURES: usize = 16;

/// How the command is used.
pub const EXAMPLES: &str = "\
Examples:
  From pictures in pictures/train/<class>/* and pictures/test/<class>/*:
    trainer quick --data pictures --series models/my-classes
  From a network that knows other classes, which needs fewer pictures:
    trainer quick --data pictures --series models/my-classes --from pretrained.safetensors
It can be stopped, and goes on when it is given again. What it does can be done step by step: train, prune step1, prune step2, export,
calibrate, evaluate.";

/// What to make a series of.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    source: DataSource,
    /// Folder of the series; its last part is the series' name.
    #[arg(long)]
    series: PathBuf,
    /// Checkpoint to begin with instead of random weights. It may know other classes; a few hundred pictures are then enough.
    #[arg(long, value_name = "PRETRAINED")]
    from: Option<PathBuf>,
    /// Where training keeps its state; `runs/` and the series' name if not given.
    #[arg(long)]
    runs: Option<PathBuf>,
    /// Passes over the training pictures, by their number if not given.
    #[arg(long)]
    epochs: Option<u64>,
    /// Highest learning rate, by their number if not given.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Never mirror pictures: for classes of which one is the other's mirror image, such as letters, arrows, left and right hands.
    #[arg(long)]
    no_flip: bool,
    /// Threads to use; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
}

/// What suits the pictures and the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    architecture: String,
    /// `[C, H, W]`.
    input: [usize; 3],
    epochs: u64,
    batch: usize,
    learning_rate: f64,
}

/// Chooses for so many training pictures, of which half have no shorter side than `side`.
fn plan(pictures: usize, side: usize, from: Option<&Description>) -> Plan {
    let batch = match pictures {
        0..2000 => 32,
        2000..20_000 => 64,
        _ => 128,
    };
    let epochs = (PASSES / pictures.max(1)).clamp(8, 60) as u64;
    // What is usual for a batch of 128, in proportion.
    let learning_rate = 0.05 * batch as f64 / 128.0;
    let (architecture, input) = match from {
        Some(known) => (known.architecture.clone(), known.input),
        // Each halves the picture five times. Sixteen layers learn little more from a few thousand pictures than eleven.
        None if side < 64 => ("vgg11".to_owned(), [3, 32, 32]),
        None => ("vgg11".to_owned(), [3, 64, 64]),
    };
    match from {
        Some(_) => Plan {
            architecture,
            input,
            epochs: epochs.div_ceil(2),
            batch,
            learning_rate: learning_rate / 2.0,
        },
        None => Plan {
            architecture,
            input,
            epochs,
            batch,
            learning_rate,
        },
    }
}

/// Runs `trainer quick`.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    use_threads(arguments.threads)?;
    let name = export::name_of(&arguments.series)?;
    let runs = arguments.runs.clone().unwrap_or_else(|| Path::new("runs").join(name));
    let from = arguments.from.as_ref().map(|it| Checkpoint::load(it)).transpose()?;
    let overview = data::overview(&arguments.source.data)?;
    let path = runs.join("plan.json");
    let noted = fs::read(&path).ok().map(|it| serde_json::from_slice::<Noted>(&it));
    // Pictures that are added must not change what was chosen for those that are learned from.
    let mut plan = match noted.transpose().with_context(|| path.display().to_string())? {
        None => {
            let description = from.as_ref().map(|it| &it.description);
            let plan = plan(overview.pictures, overview.side, description);
            let noted = Noted {
                classes: overview.classes.clone(),
                plan: plan.clone(),
            };
            files::make_folder(&runs)?;
            let text = serde_json::to_vec_pretty(&noted)?;
            files::write_whole(&path, &text).with_context(|| path.display().to_string())?;
            plan
        }
        Some(noted) => {
            let data = &arguments.source.data;
            ensure!(
                noted.classes == overview.classes,
                "the classes in {} are not those that {} was begun with ({}). {}",
                data.display(),
                runs.display(),
                noted.classes.join(", "),
                advice(&runs)
            );
            noted.plan
        }
    };
    if let Some(epochs) = arguments.epochs {
        plan.epochs = epochs;
    }
    if let Some(rate) = arguments.learning_rate {
        plan.learning_rate = rate;
    }
    let work = Work {
        arguments,
        runs,
        plan,
        classes: overview.classes,
        library: Library::default(),
    };
    work.announce(overview.pictures)?;
    work.learn()?;
    work.publish()
}

/// What was chosen when the command was first given.
#[derive(Serialize, Deserialize)]
struct Noted {
    classes: Vec<String>,
    plan: Plan,
}

/// What to do when the pictures have changed.
fn advice(runs: &Path) -> String {
    let unpruned = runs.join("unpruned").join(run::FINAL);
    let from = match unpruned.exists() {
        true => format!(", and `--from {}` to begin with what is known", unpruned.display()),
        false => String::new(),
    };
    format!(
        "To learn from the pictures that are there now, give `--runs` another folder{from}; to go on with what was begun, bring the old ones back"
    )
}

/// Everything that the stages need.
struct Work<'a> {
    arguments: &'a Arguments,
    runs: PathBuf,
    plan: Plan,
    classes: Vec<String>,
    /// Every stage needs the same pictures.
    library: Library,
}

impl Work<'_> {
    /// Pictures to learn from.
    fn read(&self) -> anyhow::Result<Dataset> {
        let [_, height, width] = self.plan.input;
        let source = &self.arguments.source;
        let reader = Reader::new(
            &self.library,
            source,
            [height, width],
            Preparation::default(),
            &self.runs,
        );
        let mut reader = reader.expecting(&self.classes, "the run");
        let (train, _) = reader.learning(None)?;
        reader.load(Subset::Test)?;
        Ok(train)
    }

    /// Says what will be done and how long it takes, by a few steps of learning.
    fn announce(&self, pictures: usize) -> anyhow::Result<()> {
        let Plan {
            architecture,
            input: [_, height, width],
            epochs,
            batch,
            learning_rate,
        } = &self.plan;
        eprintln!(
            "{pictures} training pictures of {} classes: {architecture} for {width}×{height} pixels, {} in batches of {batch}, learning rate {learning_rate}",
            self.classes.len(),
            run::counted(*epochs, "epoch")
        );
        if run::is_finished(&self.run("unpruned"), &self.training()) {
            return Ok(());
        }
        let pictures = self.read()?.len();
        let graph = self.begun()?.graph;
        let seconds = benchmark::seconds_per_picture(&graph, TRIAL_PICTURES)?;
        // Pruned networks take about two thirds and a third of the time; two of them are made of the latter.
        let epochs = pictures as f64 * *epochs as f64 * (1.0 + 0.67 + 2.0 * 0.33);
        // Before, each learns from some batches for nearly every removal of filters: step 1 five times, step 2 about four times.
        let round = pictures.min(batch * ROUND_BATCHES as usize) as f64;
        let passes = epochs + round * ((ROUNDS - 1) as f64 * 0.8 + 2.0 * 4.0 * 0.33);
        // Layers get narrower from round to round, by the root of what work is left; what they are fitted by takes the cube of their width.
        let rounds = (0..ROUNDS).map(|it| FEWER_MACS.powf(-1.5 * it as f64 / ROUNDS as f64));
        let pictures = pictures.min(run::RECONSTRUCTION_PICTURES);
        let removals = rounds.sum::<f64>() * reconstruct::seconds(&graph, &Region::all(&graph), pictures);
        let minutes = ((seconds * passes + removals) / 60.0).ceil();
        eprintln!(
            "all of it takes about {minutes:.0} minutes on this machine; it can be stopped, and goes on when it is given again"
        );
        Ok(())
    }

    fn run(&self, name: &str) -> PathBuf {
        self.runs.join(name)
    }

    fn learning(&self) -> Learning {
        Learning {
            source: self.arguments.source.clone(),
            epochs: self.plan.epochs,
            batch: self.plan.batch,
            learning_rate: self.plan.learning_rate,
            augmentation: Augmentation {
                no_flip: self.arguments.no_flip,
                ..Augmentation::default()
            },
            ..Learning::usual()
        }
    }

    fn training(&self) -> Settings {
        Settings {
            architecture: self.plan.architecture.clone(),
            input: self.plan.input,
            classes: self.classes.clone(),
            preparation: Preparation::default(),
            parent: self.arguments.from.clone(),
            task: Task::Train,
            learning: self.learning(),
        }
    }

    /// The settings of a pruning of `parent`, taught by the unpruned network.
    fn pruning(&self, parent: &Path, task: Task) -> Settings {
        Settings {
            parent: Some(parent.to_owned()),
            task,
            learning: Learning {
                teacher: Some(self.checkpoint("unpruned")),
                teacher_logits: Some(self.run("teacher-logits.safetensors")),
                ..self.learning()
            },
            ..self.training()
        }
    }

    /// A finished network; its variant gets the name of the run.
    fn checkpoint(&self, name: &str) -> PathBuf {
        self.run(name).join(run::FINAL)
    }

    fn stage(&self, number: usize, what: &str) {
        eprintln!("\n[{number}/{STAGES}] {what}");
    }

    fn finish(&self, name: &str, settings: &Settings) -> anyhow::Result<PathBuf> {
        run::run_with(&self.library, &self.run(name), settings).map_err(|error| {
            match error.downcast::<OtherPictures>() {
                Ok(other) => anyhow!("{}. {}", other.fact(), advice(&self.runs)),
                Err(error) => error,
            }
        })?;
        Ok(self.checkpoint(name))
    }

    /// What training begins with.
    fn begun(&self) -> anyhow::Result<Checkpoint> {
        match &self.arguments.from {
            Some(path) => Checkpoint::load(path),
            None => {
                let [_, height, width] = self.plan.input;
                let architecture = architecture(&self.plan.architecture)?;
                Checkpoint::random(
                    Description::usual(architecture, [height, width], self.classes.clone()),
                    1,
                )
            }
        }
    }

    fn splits(&self) -> anyhow::Result<Vec<(String, usize)>> {
        let splits = cut::usual_splits(&self.begun()?.unpruned());
        // Not the first, whose features are larger than the picture.
        let names = splits.into_iter().skip(1).take(CHANNELS.len());
        Ok(names.zip(CHANNELS).collect())
    }

    fn learn(&self) -> anyhow::Result<()> {
        self.stage(1, "training the network");
        let unpruned = self.finish("unpruned", &self.training())?;
        self.stage(
            2,
            &format!("removing filters everywhere, until {FEWER_MACS} times less work is left"),
        );
        let step1 = Step1 {
            criterion: Criterion::Reconstruction,
            fewer_macs: FEWER_MACS,
            rounds: ROUNDS,
            round_batches: ROUND_BATCHES,
            ..Step1::usual()
        };
        let small = self.finish("small", &self.pruning(&unpruned, Task::Step1(step1)))?;
        let graph = Checkpoint::load(&small)?.graph;
        for (at, (split, channels)) in self.splits()?.into_iter().enumerate() {
            let crossing = graph.shape(Source::Node(cut_node(&graph, &split)?)).channels();
            let width = channels.min(crossing);
            self.stage(3 + at, &format!("leaving {width} channels to send at {split}"));
            let step2 = Step2 {
                split: split.clone(),
                width,
                bits: BITS,
                round_batches: ROUND_BATCHES,
                ..Step2::usual()
            };
            self.finish(&format!("small-{split}"), &self.pruning(&small, Task::Step2(step2)))?;
        }
        Ok(())
    }

    fn checkpoints(&self) -> anyhow::Result<Vec<PathBuf>> {
        let pruned = self
            .splits()?
            .into_iter()
            .map(|(split, _)| self.checkpoint(&format!("small-{split}")));
        Ok(std::iter::once(self.checkpoint("small")).chain(pruned).collect())
    }

    fn publish(&self) -> anyhow::Result<()> {
        let Arguments { source, series, .. } = self.arguments;
        let checkpoints = self.checkpoints()?;
        let is_exported = series.join("manifest.json").exists() && self.is_noted("exported", &checkpoints)?;
        let is_calibrated = is_exported && self.is_noted("calibrated", &checkpoints)?;
        if !is_exported {
            self.stage(5, "cutting the networks into segments");
            let unpruned = self.checkpoint("unpruned");
            let arguments = export::Arguments::new(source, series, unpruned, checkpoints.clone());
            export::run(&arguments, &self.library)?;
            self.note("exported", &checkpoints)?;
        }
        if !is_calibrated {
            self.stage(6, "calibrating what is sent");
            calibrate::run(&calibrate::Arguments::new(source, series), &self.library)?;
            self.note("calibrated", &checkpoints)?;
        }
        self.stage(7, "measuring on the test pictures");
        evaluate::run(&evaluate::Arguments::new(source, series), &self.library)?;
        println!(
            "\nServe it, and try it with a camera:\n    cargo xtask run --series {}",
            series.display()
        );
        Ok(())
    }

    /// Notes that a stage was done with these checkpoints.
    fn note(&self, stage: &str, checkpoints: &[PathBuf]) -> anyhow::Result<()> {
        let path = self.run(stage);
        files::write_whole(&path, digest(checkpoints)?.to_string().as_bytes())
            .with_context(|| path.display().to_string())
    }

    fn is_noted(&self, stage: &str, checkpoints: &[PathBuf]) -> anyhow::Result<bool> {
        let noted = fs::read_to_string(self.run(stage)).unwrap_or_default();
        Ok(noted == digest(checkpoints)?.to_string())
    }
}

fn digest(files: &[PathBuf]) -> anyhow::Result<Digest> {
    let mut digests = Vec::new();
    for path in files {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        digests.extend_from_slice(Digest::of(&bytes).as_bytes());
    }
    Ok(Digest::of(&digests))
}

#[cfg(test)]
mod tests {
    use split_graph::Architecture;

    use super::*;

    #[test]
    fn few_pictures_are_seen_often_and_many_seldom() {
        let few = plan(400, 3024, None);
        assert_eq!((few.epochs, few.batch, few.input), (30, 32, [3, 64, 64]));
        let many = plan(50_000, 32, None);
        assert_eq!((many.epochs, many.batch, many.input), (8, 128, [3, 32, 32]));
        assert!(few.learning_rate < many.learning_rate);
        let known = Description::usual(Architecture::Vgg16, [32; 2], vec!["cat".into()]);
        let fine_tuned = plan(400, 3024, Some(&known));
        assert_eq!((fine_tuned.architecture.as_str(), fine_tuned.epochs), ("vgg16", 15));
        assert!(fine_tuned.learning_rate < few.learning_rate);
    }
}
