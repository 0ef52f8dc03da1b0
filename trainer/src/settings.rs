//! What a training run was asked to do: kept as `settings.json` in its folder, and all that resuming it needs.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use split_core::Preparation;

use crate::data::DataSource;

/// How to learn; the same for training, step 1 and step 2.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// The pictures.
    #[command(flatten)]
    #[serde(flatten)]
    pub source: DataSource,
    /// Passes over the training pictures after the last filter is removed.
    #[arg(long, default_value_t = 20)]
    pub epochs: u64,
    /// Pictures in a batch.
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// Highest learning rate; it rises linearly to it and falls to zero along a cosine.
    #[arg(long, default_value_t = 0.05, allow_negative_numbers = true)]
    pub learning_rate: f64,
    /// Share of the run in which the learning rate rises.
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    pub warm_up: f64,
    /// Pull of the weights towards zero.
    #[arg(long, default_value_t = 5e-4, allow_negative_numbers = true)]
    pub weight_decay: f64,
    /// Nesterov momentum.
    #[arg(long, default_value_t = 0.9, allow_negative_numbers = true)]
    pub momentum: f64,
    /// Share of the target spread over all classes.
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    pub label_smoothing: f64,
    /// Checkpoint to learn from besides the labels, usually the unpruned network's.
    #[arg(long)]
    pub teacher: Option<PathBuf>,
    /// Ask the teacher once about every picture, as it is and mirrored, and keep the answers in this file, which runs can share. If not given, it
    /// is asked about every view that is learned from, which takes longer and teaches better.
    #[arg(long)]
    pub teacher_logits: Option<PathBuf>,
    /// Share of the teacher in the loss.
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    pub teacher_share: f64,
    /// Temperature that softens the teacher's and the student's probabilities.
    #[arg(long, default_value_t = 2.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Learn from the teacher in two parts, whether it is the label's class and which other one it would be, the latter with this weight: decoupled
    /// distillation (Zhao et al. 2022). Mixed pictures have two labels and are learned from as without it.
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    #[serde(default)]
    pub decoupled: Option<f64>,
    /// Pull of batch norm's scales towards zero, all alike: before filters are removed, so that those that matter little are told apart (Liu et al.
    /// 2017). From 0.00001 to 0.001 is usual.
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0, allow_negative_numbers = true)]
    #[serde(default)]
    pub sparsity: f64,
    /// Decides every random choice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Use only this many training pictures, spread evenly.
    #[arg(long)]
    pub pictures: Option<usize>,
    /// In step 2, show each picture in only so many views, and keep what the layers before the split point give for them (16 bits a value, in
    /// a temporary file beside the run), so that those layers run no more once all are known. Fewer views are learned sooner and teach less.
    #[arg(long, value_name = "VIEWS")]
    #[serde(default)]
    pub cached_views: Option<u64>,
    /// Weights that are kept are the mean of those of the last steps, of about this share of the run; 0: those of the last step alone.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, allow_negative_numbers = true)]
    #[serde(default)]
    pub average: f64,
    /// Make the network of the epoch that recognised most of the pictures held back the result, instead of that of the last one.
    #[arg(long)]
    #[serde(default)]
    pub best: bool,
    /// How pictures are changed.
    #[command(flatten)]
    #[serde(flatten)]
    pub augmentation: Augmentation,
}

/// How pictures are changed before they are learned from, by chance and each time anew.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Show random parts of the pictures, of at least this share of their area. If not given, they are shifted by up to an eighth of their side.
    #[arg(long, value_name = "SHARE")]
    #[serde(default)]
    pub zoom: Option<f64>,
    /// Change brightness, contrast and saturation by up to this share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    #[serde(default)]
    pub colour: f64,
    /// Share of the batches whose pictures are laid over each other, and their labels mixed alike.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    #[serde(default)]
    pub mixup: f64,
    /// Share of the batches whose pictures get a rectangle of another one, and their labels mixed alike.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    #[serde(default)]
    pub cutmix: f64,
    /// Never mirror pictures: for classes of which one is the other's mirror image, such as letters, arrows, left and right hands.
    #[arg(long)]
    #[serde(default)]
    pub no_flip: bool,
}

/// Where step 1 removes filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionName {
    /// Everywhere: less to compute in all.
    #[default]
    All,
    /// Before a split point: less to compute on the device, with an accurate tail.
    Head,
}

/// What goes, and what it is ranked by.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// What the loss would lose by them, to first order (Molchanov et al. 2017): as in the paper.
    #[default]
    Taylor,
    /// What the layers that take them lose, after those are fitted to the others (He et al. 2017). Keeps far more where much goes at once, as in a
    /// pretrained network with few pictures; give it one round, or two.
    Reconstruction,
    /// Filters stay: convolutions become two each, with few channels in between, by the principal components of what they give (Zhang et al. 2016). For
    /// a parent that was pruned, when more filters cannot go; one round.
    LowRank,
}

/// Step 1: filters removed from many layers.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step1 {
    /// Where filters are removed.
    #[arg(long, value_enum, default_value = "all")]
    #[serde(default)]
    pub region: RegionName,
    /// With --region head, the split point that it ends at; what crosses there keeps its channels.
    #[arg(long, required_if_eq("region", "head"))]
    #[serde(default)]
    pub split: Option<String>,
    /// With --region head, learn to give what the teacher gives at the split point, in place of its answers. Only the head learns and runs, and
    /// each picture says more: for small data sets (Matsubara et al. 2019, *Distilled split deep neural networks*).
    #[arg(long, requires = "split")]
    #[serde(default)]
    pub match_features: bool,
    /// What goes, and what it is ranked by.
    #[arg(long, value_enum, default_value = "taylor")]
    #[serde(default)]
    pub criterion: Criterion,
    /// How many times fewer multiply–accumulates than the unpruned network; with --region head, than its head.
    #[arg(long, default_value_t = 6.3, allow_negative_numbers = true)]
    pub fewer_macs: f64,
    /// Times that filters are removed, equal factors of work each.
    #[arg(long, default_value_t = 12)]
    pub rounds: u64,
    /// Batches learned from, and, with --criterion taylor, ranked by, before each removal; with --criterion reconstruction, before each but the first.
    #[arg(long, default_value_t = 60)]
    pub round_batches: u64,
    /// Learning rate between removals.
    #[arg(long, default_value_t = 0.01, allow_negative_numbers = true)]
    pub round_learning_rate: f64,
    /// Widths stay multiples of this.
    #[arg(long, default_value_t = 8)]
    pub multiple: usize,
    /// 0 ranks filters by score alone; larger values remove those with much work sooner.
    #[arg(long, default_value_t = 0.25, allow_negative_numbers = true)]
    pub work_exponent: f64,
}

/// Step 2: what crosses at one split point.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step2 {
    /// Split point, such as pool3 (`trainer describe` lists the cut points).
    #[arg(long)]
    pub split: String,
    /// Channels to leave there: filters of the layer before it, or, in a residual stream and behind a linear layer, those of a bottleneck of
    /// two 1×1 convolutions.
    #[arg(long)]
    pub width: usize,
    /// Bits of a feature's code, 1 to 8.
    #[arg(long, default_value_t = 3)]
    pub bits: u32,
    /// Weight in the loss of the mean number of bits that a code takes, by how often each code of its channel is seen: larger makes shorter messages.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub rate_penalty: f64,
    /// Batches learned from, and ranked by, before each halving of the width.
    #[arg(long, default_value_t = 60)]
    pub round_batches: u64,
    /// Learning rate between removals.
    #[arg(long, default_value_t = 0.01, allow_negative_numbers = true)]
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
    /// How pictures become the network's input.
    #[serde(default)]
    pub preparation: Preparation,
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
            ("--label-smoothing", learning.label_smoothing),
            ("--average", learning.average),
            ("--colour", learning.augmentation.colour),
            ("--mixup", learning.augmentation.mixup),
            ("--cutmix", learning.augmentation.cutmix),
        ] {
            ensure!(
                (0.0..=1.0).contains(&value),
                "{flag} is a share from 0 to 1, not {value}"
            );
        }
        learning.augmentation.check()?;
        ensure!(
            !learning.augmentation.mixes() || (learning.cached_views.is_none() && learning.teacher_logits.is_none()),
            "--mixup and --cutmix make pictures that are never seen again; --cached-views and --teacher-logits keep what is known of those that are: \
             leave out the ones or the others"
        );
        check_rate("--learning-rate", learning.learning_rate)?;
        ensure!(
            (0.0..1.0).contains(&learning.momentum),
            "--momentum is at least 0 and below 1, not {}: from 1 on, steps grow without end",
            learning.momentum
        );
        ensure!(
            (0.0..=1.0).contains(&learning.weight_decay),
            "--weight-decay is 0 to 1, usually 0.0005, not {}",
            learning.weight_decay
        );
        ensure!(
            learning.temperature.is_finite() && learning.temperature > 0.0,
            "--temperature must be positive, not {}",
            learning.temperature
        );
        ensure!(
            (0.0..=1.0).contains(&learning.sparsity),
            "--sparsity is 0 to 1, usually 0.0001, not {}",
            learning.sparsity
        );
        if let Some(weight) = learning.decoupled {
            ensure!(
                weight.is_finite() && weight >= 0.0,
                "--decoupled is a weight of at least 0, not {weight}"
            );
            ensure!(
                learning.teacher.is_some(),
                "--decoupled says how to learn from a teacher, and there is no --teacher"
            );
        }
        let freezes = matches!(&self.task, Task::Step2(step) if !step.unfreeze);
        match learning.cached_views {
            Some(0) => bail!("--cached-views must not be zero"),
            Some(_) if !freezes => {
                bail!("--cached-views goes with step 2 without --unfreeze: elsewhere every layer learns")
            }
            _ => {}
        }
        match &self.task {
            Task::Train => {}
            Task::Step1(step) => {
                ensure!(step.multiple > 0, "--multiple must not be zero");
                ensure!(
                    step.rounds > 0,
                    "--rounds must not be zero: each removes filters, without one nothing is pruned; to learn only, use `train --parent`"
                );
                ensure!(
                    step.criterion != Criterion::LowRank || step.rounds == 1,
                    "--criterion low-rank goes with --rounds 1: a convolution that has become two stays so"
                );
                check_round_batches(step.round_batches)?;
                check_rate("--round-learning-rate", step.round_learning_rate)?;
                ensure!(
                    step.split.is_none() || step.region == RegionName::Head,
                    "--split goes with --region head"
                );
                ensure!(
                    !step.match_features
                        || (step.region == RegionName::Head
                            && learning.teacher.is_some()
                            && learning.teacher_logits.is_none()),
                    "--match-features goes with --region head and a --teacher that is asked about every view, without --teacher-logits"
                );
                ensure!(
                    step.work_exponent.is_finite(),
                    "--work-exponent must be a number, not {}",
                    step.work_exponent
                );
                ensure!(
                    step.fewer_macs.is_finite() && step.fewer_macs >= 1.0,
                    "--fewer-macs is a factor of at least 1, not {}",
                    step.fewer_macs
                );
            }
            Task::Step2(step) => {
                // Without an epoch there would be no quantiser, and nothing to split at.
                ensure!(learning.epochs > 0, "step 2 needs at least one of --epochs");
                ensure!(
                    (1..=8).contains(&step.bits),
                    "a feature's code has 1 to 8 bits, not {}",
                    step.bits
                );
                check_round_batches(step.round_batches)?;
                check_rate("--round-learning-rate", step.round_learning_rate)?;
                ensure!(
                    step.rate_penalty.is_finite() && step.rate_penalty >= 0.0,
                    "--rate-penalty must not be negative, but is {}",
                    step.rate_penalty
                );
            }
        }
        Ok(())
    }
}

impl Augmentation {
    fn check(&self) -> anyhow::Result<()> {
        if let Some(zoom) = self.zoom {
            ensure!(
                (0.01..=1.0).contains(&zoom),
                "--zoom is a share of a picture's area, from 0.01 to 1, not {zoom}"
            );
        }
        ensure!(
            self.mixup + self.cutmix <= 1.0,
            "--mixup and --cutmix are shares of the batches, together at most 1, not {}",
            self.mixup + self.cutmix
        );
        Ok(())
    }

    /// Whether there are pictures that are made of two.
    pub fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// What is done, for people.
    pub fn description(&self, border: usize) -> String {
        let part = match self.zoom {
            Some(zoom) => format!(
                "cropped to parts of at least {:.0} % of their area (--zoom)",
                100.0 * zoom
            ),
            None => format!("shifted by up to {border} pixels"),
        };
        let mirrored = match self.no_flip {
            true => "not mirrored (--no-flip)",
            false => "mirrored half of the time (--no-flip, if left and right matter)",
        };
        let colour = match self.colour {
            0.0 => String::new(),
            share => format!(
                ", brightness, contrast and saturation changed by up to {:.0} % (--colour)",
                100.0 * share
            ),
        };
        let mixed = [
            (self.mixup, "laid over each other (--mixup)"),
            (self.cutmix, "given parts of each other (--cutmix)"),
        ]
        .into_iter()
        .filter(|it| it.0 > 0.0)
        .map(|(share, how)| format!(", in {:.0} % of the batches {how}", 100.0 * share));
        format!(
            "pictures are {part} and {mirrored}{colour}{}",
            mixed.collect::<String>()
        )
    }
}

/// Networks with batch norm diverge long before.
const HIGHEST_RATE: f64 = 10.0;

fn check_rate(flag: &str, rate: f64) -> anyhow::Result<()> {
    ensure!(
        rate > 0.0 && rate <= HIGHEST_RATE,
        "{flag} is above 0 and at most {HIGHEST_RATE}, usually 0.001 to 0.1, not {rate}"
    );
    Ok(())
}

fn check_round_batches(batches: u64) -> anyhow::Result<()> {
    ensure!(
        batches > 0,
        "--round-batches must not be zero: filters are ranked by what a round learns from its batches"
    );
    Ok(())
}

impl Settings {
    /// What differs from other settings, as `--flag old → new`. How the pictures' folder is spelled, where decoded pictures are kept, which
    /// bad ones are left out, how many epochs there are and which of them is the result, may differ between runs that go on with each other.
    pub fn differences(&self, old: &Self) -> anyhow::Result<Vec<String>> {
        let comparable = |it: &Self| {
            let mut it = it.clone();
            it.learning.epochs = 0;
            it.learning.best = false;
            let data = &it.learning.source.data;
            let data = data.canonicalize().unwrap_or_else(|_| data.clone());
            it.learning.source = DataSource {
                data,
                ..DataSource::default()
            };
            for path in [
                &mut it.parent,
                &mut it.learning.teacher,
                &mut it.learning.teacher_logits,
            ]
            .into_iter()
            .flatten()
            {
                *path = std::path::absolute(&path)
                    .map(|it| it.components().collect())
                    .unwrap_or_else(|_| path.clone());
            }
            serde_json::to_value(it)
        };
        let mut differences = Vec::new();
        compare("", &comparable(old)?, &comparable(self)?, &mut differences);
        Ok(differences)
    }
}

impl Settings {
    /// Without the files and folders that it names, which may be elsewhere by now.
    pub fn without_paths(&self) -> Self {
        let learning = Learning {
            source: DataSource::default(),
            teacher: None,
            teacher_logits: None,
            ..self.learning.clone()
        };
        Self {
            parent: None,
            learning,
            ..self.clone()
        }
    }
}

/// Adds what differs between two values, by the names of the flags.
fn compare(name: &str, old: &Value, new: &Value, differences: &mut Vec<String>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let value = |it: &serde_json::Map<String, Value>| it.get(name).cloned().unwrap_or(Value::Null);
            compare(name, &value(old), &value(new), differences);
        }
    } else if old != new {
        let flag = match name {
            "classes" => "the classes".to_owned(),
            "input" => "--size".to_owned(),
            "task" | "step1" | "step2" => "what is pruned".to_owned(),
            other => format!("--{}", other.replace('_', "-")),
        };
        let text = |it: &Value| match it {
            Value::Null => "none".to_owned(),
            Value::Array(all) if all.len() > 4 => format!("{} of them", all.len()),
            other => other.to_string(),
        };
        differences.push(format!("{flag} was {}, is now {}", text(old), text(new)));
    }
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

/// What flags are when none is given.
fn usual<A: Args>(required: &[&str]) -> A {
    let command = A::augment_args(clap::Command::new("trainer").no_binary_name(true));
    let found = command
        .try_get_matches_from(required)
        .and_then(|it| A::from_arg_matches(&it));
    // The flags are constants of this program, and a test takes all three ways.
    #[allow(clippy::panic)]
    found.unwrap_or_else(|error| panic!("{error}"))
}

impl Learning {
    /// What the flags are when none is given.
    pub fn usual() -> Self {
        usual(&["--data", "."])
    }
}

impl Step1 {
    /// What the flags are when none is given.
    pub fn usual() -> Self {
        usual(&[])
    }
}

impl Step2 {
    /// What the flags are when none is given but those that are needed.
    pub fn usual() -> Self {
        usual(&["--split", "pool1", "--width", "1"])
    }
}

#[cfg(test)]
impl Default for Learning {
    fn default() -> Self {
        Self::usual()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_usual_values() {
        assert_eq!(
            (Learning::usual().batch, Step1::usual().rounds, Step2::usual().bits),
            (128, 12, 3)
        );
    }

    fn settings() -> Settings {
        Settings {
            architecture: "vgg11".into(),
            input: [3, 32, 32],
            classes: vec!["cat".into()],
            parent: None,
            preparation: Preparation::default(),
            task: Task::Train,
            learning: Learning::usual(),
        }
    }

    #[test]
    fn numbers_that_no_run_can_be_made_with_are_refused_by_their_flags() {
        let check = |flag: &str, change: &dyn Fn(&mut Learning, f64), values: &[f64]| {
            for value in values {
                let mut wrong = settings();
                change(&mut wrong.learning, *value);
                let message = wrong.check().unwrap_err().to_string();
                assert!(
                    message.contains(flag) && message.contains(&value.to_string()),
                    "{message}"
                );
            }
        };
        check(
            "--learning-rate",
            &|it, value| it.learning_rate = value,
            &[1000.0, 1e30, -1.0, 0.0, f64::NAN],
        );
        check(
            "--momentum",
            &|it, value| it.momentum = value,
            &[2.0, 1.0, -0.1, f64::NAN],
        );
        check(
            "--weight-decay",
            &|it, value| it.weight_decay = value,
            &[-1.0, f64::INFINITY],
        );
        check("--label-smoothing", &|it, value| it.label_smoothing = value, &[1.5]);
        check("--average", &|it, value| it.average = value, &[-0.1, 1.5]);
        check(
            "--zoom",
            &|it, value| it.augmentation.zoom = Some(value),
            &[0.0, 1.5, f64::NAN],
        );
        check("--mixup", &|it, value| it.augmentation.mixup = value, &[-0.5, 1.5]);
        check("--temperature", &|it, value| it.temperature = value, &[0.0, f64::NAN]);
        check("--sparsity", &|it, value| it.sparsity = value, &[-0.1, f64::NAN]);
        check(
            "--decoupled",
            &|it, value| it.decoupled = Some(value),
            &[-1.0, f64::INFINITY],
        );
        settings().check().unwrap();
    }

    #[test]
    fn what_differs_is_named_by_its_flag() {
        let mut other = settings();
        other.learning.epochs += 5;
        other.learning.source.data = "./".into();
        other.learning.source.skip_bad = true;
        assert!(other.differences(&settings()).unwrap().is_empty());
        other.learning.learning_rate = 0.01;
        other.learning.augmentation.no_flip = true;
        other.parent = Some("x".into());
        let differences = other.differences(&settings()).unwrap().join("; ");
        for words in [
            "--learning-rate was 0.05, is now 0.01",
            "--no-flip was false, is now true",
            "--parent was none",
        ] {
            assert!(differences.contains(words), "{words} in {differences}");
        }
    }
}
