//! What a training run was asked to do: kept as `settings.json` in its folder, and all that resuming it needs.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use serde::{Deserialize, Serialize};

/// How to learn; the same for training, step 1 and step 2.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// Image folder or CIFAR's binary files.
    #[arg(long)]
    pub data: PathBuf,
    /// Passes over the training pictures after the last filter is removed.
    #[arg(long, default_value_t = 20)]
    pub epochs: u64,
    /// Pictures in a batch.
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// Highest learning rate; it rises linearly to it and falls to zero along a cosine.
    #[arg(long, default_value_t = 0.05)]
    pub learning_rate: f64,
    /// Share of the run in which the learning rate rises.
    #[arg(long, default_value_t = 0.1)]
    pub warm_up: f64,
    /// Pull of the weights towards zero.
    #[arg(long, default_value_t = 5e-4)]
    pub weight_decay: f64,
    /// Nesterov momentum.
    #[arg(long, default_value_t = 0.9)]
    pub momentum: f64,
    /// Share of the target spread over all classes.
    #[arg(long, default_value_t = 0.1)]
    pub label_smoothing: f64,
    /// Checkpoint to learn from besides the labels, usually the unpruned network's.
    #[arg(long)]
    pub teacher: Option<PathBuf>,
    /// Where the teacher's logits are kept, so that runs can share them; in the run folder if not given.
    #[arg(long)]
    pub teacher_logits: Option<PathBuf>,
    /// Share of the teacher in the loss.
    #[arg(long, default_value_t = 0.8)]
    pub teacher_share: f64,
    /// Temperature that softens the teacher's and the student's probabilities.
    #[arg(long, default_value_t = 2.0)]
    pub temperature: f64,
    /// Decides every random choice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Use only this many training pictures, spread evenly.
    #[arg(long)]
    pub pictures: Option<usize>,
}

/// Step 1: filters removed from the whole network.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step1 {
    /// How many times fewer multiply–accumulates than the unpruned network.
    #[arg(long, default_value_t = 6.3)]
    pub fewer_macs: f64,
    /// Times that filters are removed, equal factors of work each.
    #[arg(long, default_value_t = 12)]
    pub rounds: u64,
    /// Batches learned from, and ranked by, before each removal.
    #[arg(long, default_value_t = 60)]
    pub round_batches: u64,
    /// Learning rate between removals.
    #[arg(long, default_value_t = 0.01)]
    pub round_learning_rate: f64,
    /// Widths stay multiples of this.
    #[arg(long, default_value_t = 8)]
    pub multiple: usize,
    /// 0 ranks filters by score alone; larger values remove those with much work sooner.
    #[arg(long, default_value_t = 0.25)]
    pub work_exponent: f64,
}

/// Step 2: the one layer before a split point.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step2 {
    /// Split point, such as pool3.
    #[arg(long)]
    pub split: String,
    /// Filters to leave in the layer before it.
    #[arg(long)]
    pub width: usize,
    /// Bits of a feature's code, 1 to 8.
    #[arg(long, default_value_t = 3)]
    pub bits: u32,
    /// Weight of the mean code in the loss: larger makes more of them zero, and messages shorter.
    #[arg(long, default_value_t = 0.0)]
    pub rate_penalty: f64,
    /// Batches learned from, and ranked by, before each halving of the width.
    #[arg(long, default_value_t = 60)]
    pub round_batches: u64,
    /// Learning rate between removals.
    #[arg(long, default_value_t = 0.01)]
    pub round_learning_rate: f64,
    /// Also train the layers before the pruned one, for comparison; such a variant shares no trunk.
    #[arg(long)]
    pub unfreeze: bool,
}

/// What the run does before its long fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Nothing: plain training.
    Train,
    /// The whole network is pruned.
    Step1(Step1),
    /// One layer is pruned.
    Step2(Step2),
}

/// All of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Architecture's name.
    pub architecture: String,
    /// Input, `[C, H, W]`.
    pub input: [usize; 3],
    /// Class names.
    pub classes: Vec<String>,
    /// Checkpoint the run starts from; random weights if there is none.
    pub parent: Option<PathBuf>,
    /// What is pruned.
    pub task: Task,
    /// How it learns.
    pub learning: Learning,
}

impl Settings {
    /// Refuses numbers that no run can be made with, by the names of their flags.
    pub fn check(&self) -> anyhow::Result<()> {
        let learning = &self.learning;
        ensure!(learning.batch > 0, "--batch must not be zero");
        ensure!(learning.pictures != Some(0), "--pictures must not be zero");
        for (flag, value) in [
            ("--warm-up", learning.warm_up),
            ("--teacher-share", learning.teacher_share),
        ] {
            ensure!(
                (0.0..=1.0).contains(&value),
                "{flag} is a share from 0 to 1, not {value}"
            );
        }
        ensure!(
            learning.temperature > 0.0,
            "--temperature must be positive, not {}",
            learning.temperature
        );
        match &self.task {
            Task::Train => {}
            Task::Step1(step) => {
                ensure!(step.multiple > 0, "--multiple must not be zero");
                ensure!(
                    step.rounds > 0,
                    "--rounds must not be zero: each removes filters, without one nothing is pruned; to learn only, use `train --parent`"
                );
                check_round_batches(step.round_batches)?;
                ensure!(
                    step.fewer_macs.is_finite() && step.fewer_macs >= 1.0,
                    "--fewer-macs is a factor of at least 1, not {}",
                    step.fewer_macs
                );
            }
            Task::Step2(step) => {
                // Without an epoch there would be no quantiser, and nothing to split at.
                ensure!(learning.epochs > 0, "step 2 needs at least one of --epochs");
                check_round_batches(step.round_batches)?;
            }
        }
        Ok(())
    }
}

fn check_round_batches(batches: u64) -> anyhow::Result<()> {
    ensure!(
        batches > 0,
        "--round-batches must not be zero: filters are ranked by what a round learns from its batches"
    );
    Ok(())
}

impl Learning {
    /// Learning rate after `done` (0 to 1) of the run.
    pub fn rate(&self, done: f64) -> f64 {
        if done < self.warm_up {
            return self.learning_rate * (done / self.warm_up).max(0.02);
        }
        let fallen = (done - self.warm_up) / (1.0 - self.warm_up);
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * fallen).cos())
    }
}

#[cfg(test)]
impl Default for Learning {
    /// What the flags are when none is given.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            learning: Learning,
        }
        clap::Parser::try_parse_from(["trainer", "--data", "."])
            .map(|it: Flags| it.learning)
            .unwrap()
    }
}
