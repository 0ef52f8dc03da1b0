//! A training run: its folder, its parts, and going on where it was stopped.
//!
//! The folder holds `settings.json`, `log.jsonl` (a line per round and epoch), `state.safetensors` (weights and momentum after the
//! last finished part), `last.safetensors` (that network as a checkpoint) and, when the run is over, `final.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::augment::{self, View};
use crate::checkpoint::{self, Checkpoint, NamedTensor};
use crate::data::{Dataset, Subset};
use crate::files;
use crate::learn::{self, Learner, Lesson};
use crate::model::{Network, values};
use crate::network::{Description, FeatureQuantizer};
use crate::progress;
use crate::prune::{self, Choice};
use crate::quantize::{self, Quantizer};
use crate::settings::{Settings, Task};
use crate::teacher;

/// Training pictures whose features set the quantiser's steps.
const CALIBRATION_PICTURES: usize = 1000;

/// Weights and momentum after the last finished part, in the run's folder.
const STATE: &str = "state.safetensors";

/// What is done; the rest is made again from the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Finished rounds of removing filters.
    round: u64,
    /// Finished epochs of the fine-tuning after them.
    epoch: u64,
}

/// One line of the log.
#[derive(Serialize)]
struct Line<'a> {
    part: &'a str,
    number: u64,
    learning_rate: f64,
    loss: f64,
    train_accuracy: f64,
    test_accuracy: f64,
    images_per_second: f64,
    macs: u64,
    widths: &'a [usize],
}

/// A run with everything loaded.
pub struct Run {
    folder: PathBuf,
    settings: Settings,
    train: Dataset,
    test: Dataset,
    /// The teacher's logits for the pictures as they are, and mirrored.
    teacher: Option<[Vec<f32>; 2]>,
    learner: Learner,
    quantizer: Option<FeatureQuantizer>,
    progress: Progress,
    unpruned_macs: u64,
    parent_macs: u64,
}

/// Starts a run in `folder`, or goes on with the one there. Fails when the folder holds what a run with other settings has learned.
pub fn run(folder: &Path, settings: &Settings) -> anyhow::Result<()> {
    settings.check()?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join("settings.json");
    let text = serde_json::to_string_pretty(settings)?;
    let same = |old: &str| serde_json::from_str::<Settings>(old).is_ok_and(|it| it == *settings);
    match fs::read_to_string(&path) {
        // Settings that were refused, with nothing learned yet, are not worth keeping.
        Ok(old) if !same(&old) && folder.join(STATE).exists() => {
            bail!(
                "{} holds a run with other settings; take another folder, or resume it",
                folder.display()
            )
        }
        _ => files::write_whole(&path, text.as_bytes()).with_context(|| path.display().to_string())?,
    }
    resume(folder)
}

/// Goes on with the run in `folder` from its last finished part.
pub fn resume(folder: &Path) -> anyhow::Result<()> {
    Run::open(folder)?.finish()
}

impl Run {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("settings.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let settings: Settings = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let device = Device::flex();
        let description = Description::unpruned(&settings.architecture, settings.input, settings.classes.clone())?;
        let unpruned_macs = description.macs()?.iter().sum();
        let parent = match &settings.parent {
            Some(path) => Checkpoint::load(path)?,
            None => Checkpoint::random(description, settings.learning.seed)?,
        };
        let size = [settings.input[1], settings.input[2]];
        let data = &settings.learning.data;
        let mut train = Dataset::load_for(data, Subset::Train, size, &settings.classes)?;
        if let Some(count) = settings.learning.pictures {
            train = train.thinned(count);
        }
        let test = Dataset::load_for(data, Subset::Test, size, &settings.classes)?;
        let teacher = settings.learning.teacher.as_ref().map(|path| {
            let own = folder.join("teacher-logits.safetensors");
            teacher::logits(path, settings.learning.teacher_logits.as_ref().unwrap_or(&own), &train)
        });
        let parent_macs = parent.description().macs()?.iter().sum();
        let first = first_block(&settings, parent.description())?;
        let learner = Learner::new(Network::from_checkpoint(&parent, &device)?, first);
        let mut run = Self {
            folder: folder.to_owned(),
            settings,
            train,
            test,
            teacher: teacher.transpose()?,
            learner,
            quantizer: None,
            progress: Progress::default(),
            unpruned_macs,
            parent_macs,
        };
        run.restore()?;
        Ok(run)
    }

    fn restore(&mut self) -> anyhow::Result<()> {
        let path = self.folder.join(STATE);
        if !path.exists() {
            return Ok(());
        }
        let (mut tensors, metadata) = checkpoint::load_tensors(&path)?;
        let field = |name: &str| {
            metadata
                .get(name)
                .with_context(|| format!("{} lacks `{name}`", path.display()))
        };
        let damaged = || format!("{} is damaged", path.display());
        let description: Description = serde_json::from_str(field("description")?).with_context(damaged)?;
        self.progress = serde_json::from_str(field("progress")?).with_context(damaged)?;
        let memory = tensors.split_off("velocity.");
        let checkpoint = Checkpoint::new(description, tensors).with_context(|| path.display().to_string())?;
        self.quantizer = checkpoint.description().quantizer.clone();
        self.learner.network = Network::from_checkpoint(&checkpoint, &Device::flex())?;
        self.learner.remember(memory);
        self.install_quantizer()
    }

    fn save(&self) -> anyhow::Result<()> {
        let checkpoint = self.learner.network.to_checkpoint()?;
        let mut tensors: BTreeMap<String, NamedTensor> = checkpoint.tensors().clone();
        tensors.extend(self.learner.memory());
        let metadata = HashMap::from([
            (
                "description".to_owned(),
                serde_json::to_string(checkpoint.description())?,
            ),
            ("progress".to_owned(), serde_json::to_string(&self.progress)?),
        ]);
        checkpoint.save(&self.folder.join("last.safetensors"))?;
        Ok(checkpoint::save_tensors(&self.folder.join(STATE), &tensors, metadata)?)
    }

    fn finish(mut self) -> anyhow::Result<()> {
        eprintln!("{}", self.plan()?);
        while self.advance()? {}
        let path = self.folder.join("final.safetensors");
        self.learner.network.to_checkpoint()?.save(&path)?;
        println!("{}", path.display());
        Ok(())
    }

    /// Does the next part and saves what came of it; false when there is none.
    fn advance(&mut self) -> anyhow::Result<bool> {
        if let Some((rate, batches)) = self.next_round()? {
            let (scores, totals) = self.learn_round(rate, batches);
            self.remove(&scores)?;
            self.learner.forget();
            self.progress.round += 1;
            self.report("round", self.progress.round, rate, totals)?;
            self.save()?;
        } else if self.progress.epoch < self.settings.learning.epochs {
            self.calibrate()?;
            self.epoch()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// What the run does, and where it goes on.
    fn plan(&self) -> anyhow::Result<String> {
        let description = self.learner.network.description();
        let what = match &self.settings.task {
            Task::Train => format!("training {}", description.architecture),
            Task::Step1(step) => format!(
                "step 1: filters of every layer go in {} rounds, until {:.1} of {:.1} million MACs are left",
                step.rounds,
                self.unpruned_macs as f64 / step.fewer_macs / 1e6,
                self.unpruned_macs as f64 / 1e6,
            ),
            Task::Step2(step) => format!(
                "step 2: the layer before {} is halved until {} of its {} filters are left; the layers before it {}",
                step.split,
                step.width,
                description.widths[description.convolution_before(&step.split)?],
                if step.unfreeze { "learn too" } else { "stay as they are" },
            ),
        };
        let Progress { round, epoch } = self.progress;
        let from = match (round, epoch) {
            (0, 0) => String::new(),
            _ => format!("\ngoing on after {round} rounds and {epoch} epochs"),
        };
        Ok(format!("{what}; then {} epochs{from}", self.settings.learning.epochs))
    }

    /// Learning rate and batches of the next round of removing filters, if there is one.
    fn next_round(&self) -> anyhow::Result<Option<(f64, u64)>> {
        Ok(match &self.settings.task {
            Task::Train => None,
            Task::Step1(step) if self.progress.round < step.rounds => {
                Some((step.round_learning_rate, step.round_batches))
            }
            Task::Step1(_) => None,
            Task::Step2(step) => {
                let block = self.learner.network.description().convolution_before(&step.split)?;
                let width = self.learner.network.description().widths[block];
                (width > step.width).then_some((step.round_learning_rate, step.round_batches))
            }
        })
    }

    /// Learns from some batches; returns each block's scores, and how it went.
    fn learn_round(&mut self, rate: f64, batches: u64) -> (Vec<Vec<f64>>, Totals) {
        // Rounds draw their pictures from epochs of their own, far from those of the fine-tuning.
        let epoch = u64::MAX / 2 + self.progress.round;
        let learning = self.settings.learning.clone();
        let order = augment::order(learning.seed, epoch, self.train.len());
        let pictures = order.len().min(learning.batch.saturating_mul(batches as usize));
        let bar = progress::bar("round", pictures as u64);
        let mut scores = Vec::new();
        let (mut totals, start) = (Totals::default(), Instant::now());
        for indices in order[..pictures].chunks(learning.batch) {
            let lesson = self.lesson(indices, epoch);
            let report = self.learner.step(&lesson, &learning, rate, Some(&mut scores));
            totals.add(report, indices.len());
            bar.set_message(format!("{} {}", self.progress.round + 1, totals.learned()));
            bar.inc(indices.len() as u64);
        }
        bar.finish_and_clear();
        totals.clock(start);
        (scores, totals)
    }

    fn remove(&mut self, scores: &[Vec<f64>]) -> anyhow::Result<()> {
        let checkpoint = self.learner.network.to_checkpoint()?;
        match &self.settings.task {
            Task::Train => {}
            Task::Step1(step) => {
                let goal = self.unpruned_macs as f64 / step.fewer_macs;
                let left = (step.rounds - self.progress.round - 1) as f64 / step.rounds as f64;
                let target = (goal * (self.parent_macs as f64 / goal).powf(left)) as u64;
                let choice = Choice {
                    multiple: step.multiple,
                    work_exponent: step.work_exponent,
                    least: step.multiple,
                };
                for (block, kept) in prune::choose(&checkpoint, scores, target, choice)?
                    .into_iter()
                    .enumerate()
                {
                    self.keep(block, &kept)?;
                }
            }
            Task::Step2(step) => {
                let block = checkpoint.description().convolution_before(&step.split)?;
                let width = (checkpoint.description().widths[block] / 2).max(step.width);
                let mut order: Vec<usize> = (0..scores[block].len()).collect();
                order.sort_by(|a, b| scores[block][*b].total_cmp(&scores[block][*a]));
                order.truncate(width);
                order.sort_unstable();
                self.keep(block, &order)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, block: usize, kept: &[usize]) -> anyhow::Result<()> {
        if kept.len() < self.learner.network.description().widths[block] {
            self.learner.network.keep_filters(block, kept)?;
        }
        Ok(())
    }

    /// Sets the quantiser's steps anew, in the first half of step 2's fine-tuning; later they stay, so that the tail can settle.
    fn calibrate(&mut self) -> anyhow::Result<()> {
        let Task::Step2(step) = &self.settings.task else {
            return Ok(());
        };
        if self.quantizer.is_some() && self.progress.epoch * 2 >= self.settings.learning.epochs {
            return Ok(());
        }
        let network = &self.learner.network;
        let block = network.description().convolution_before(&step.split)?;
        let data = self.train.thinned(CALIBRATION_PICTURES);
        let pictures: Vec<(usize, View)> = (0..data.len()).map(|index| (index, View::PLAIN)).collect();
        let (mean, std) = (network.description().mean, network.description().std);
        let input = augment::batch(&data, &pictures, mean, std, &Device::flex());
        let features = values(&network.run_blocks(input, 0..block + 1));
        let steps = quantize::calibrate(&features, network.description().widths[block], step.bits);
        self.quantizer = Some(FeatureQuantizer {
            split: step.split.clone(),
            bits: step.bits,
            steps,
        });
        self.install_quantizer()
    }

    fn install_quantizer(&mut self) -> anyhow::Result<()> {
        if let (Some(quantizer), Task::Step2(step)) = (&self.quantizer, &self.settings.task) {
            let block = self
                .learner
                .network
                .description()
                .convolution_before(&quantizer.split)?;
            self.learner.quantizer = Some(Quantizer::new(quantizer, block, &Device::flex()));
            self.learner.rate_penalty = step.rate_penalty;
        }
        self.learner.network.set_quantizer(self.quantizer.clone());
        Ok(())
    }

    fn epoch(&mut self) -> anyhow::Result<()> {
        let (epoch, learning) = (self.progress.epoch, self.settings.learning.clone());
        let order = augment::order(learning.seed, epoch, self.train.len());
        let bar = progress::bar("epoch", order.len() as u64);
        let mut totals = Totals::default();
        let (mut rate, start) = (0.0, Instant::now());
        for indices in order.chunks(learning.batch) {
            let done = (epoch as f64 + totals.pictures as f64 / order.len() as f64) / learning.epochs as f64;
            rate = learning.rate(done);
            let lesson = self.lesson(indices, epoch);
            let report = self.learner.step(&lesson, &learning, rate, None);
            totals.add(report, indices.len());
            bar.set_message(format!("{}/{} {}", epoch + 1, learning.epochs, totals.learned()));
            bar.inc(indices.len() as u64);
        }
        bar.finish_and_clear();
        totals.clock(start);
        self.progress.epoch += 1;
        self.report("epoch", self.progress.epoch, rate, totals)?;
        self.save()
    }

    fn lesson(&self, indices: &[usize], epoch: u64) -> Lesson {
        let seed = self.settings.learning.seed;
        let pictures: Vec<(usize, View)> = indices
            .iter()
            .map(|index| (*index, View::random(seed, epoch, *index as u64)))
            .collect();
        let description = self.learner.network.description();
        let classes = description.classes.len();
        let teacher = self.teacher.as_ref().map(|teacher| {
            let rows = pictures
                .iter()
                .flat_map(|(index, view)| &teacher[usize::from(view.mirrored)][index * classes..][..classes]);
            rows.copied().collect()
        });
        Lesson {
            pictures: augment::batch(
                &self.train,
                &pictures,
                description.mean,
                description.std,
                &Device::flex(),
            ),
            labels: indices.iter().map(|index| self.train.label(*index)).collect(),
            teacher,
        }
    }

    fn report(&self, part: &str, number: u64, learning_rate: f64, totals: Totals) -> anyhow::Result<()> {
        let network = &self.learner.network;
        let line = Line {
            part,
            number,
            learning_rate,
            loss: totals.mean_loss(),
            train_accuracy: totals.accuracy(),
            test_accuracy: learn::accuracy(network, self.learner.quantizer.as_ref(), &self.test),
            images_per_second: totals.images_per_second,
            macs: network.description().macs()?.iter().sum(),
            widths: &network.description().widths,
        };
        let text = serde_json::to_string(&line)?;
        eprintln!(
            "{part} {number}: {}, {:.0} images/s, {:.1} million MACs, test accuracy {:.2} %",
            totals.learned(),
            totals.images_per_second,
            line.macs as f64 / 1e6,
            line.test_accuracy
        );
        let path = self.folder.join("log.jsonl");
        files::append_line(&path, &text).with_context(|| path.display().to_string())
    }
}

/// Sums over the batches of an epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    pictures: usize,
    right: usize,
    loss: f64,
    images_per_second: f64,
}

impl Totals {
    fn add(&mut self, report: learn::Report, pictures: usize) {
        self.pictures += pictures;
        self.right += report.right;
        self.loss += report.loss * pictures as f64;
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.pictures.max(1) as f64
    }

    fn accuracy(&self) -> f64 {
        100.0 * self.right as f64 / self.pictures.max(1) as f64
    }

    /// Ends the measurement of the rate that began at `start`.
    fn clock(&mut self, start: Instant) {
        self.images_per_second = self.pictures as f64 / start.elapsed().as_secs_f64();
    }

    fn learned(&self) -> String {
        format!("loss {:.3}, accuracy {:.2} %", self.mean_loss(), self.accuracy())
    }
}

/// Number of the first block that learns.
fn first_block(settings: &Settings, parent: &Description) -> anyhow::Result<usize> {
    let Task::Step2(step) = &settings.task else {
        return Ok(0);
    };
    let block = parent.convolution_before(&step.split)?;
    if step.width == 0 || step.width > parent.widths[block] {
        bail!(
            "the layer before {} has {} filters, {} cannot be left",
            step.split,
            parent.widths[block],
            step.width
        );
    }
    if !(1..=8).contains(&step.bits) {
        bail!("a feature's code has 1 to 8 bits, not {}", step.bits);
    }
    Ok(if step.unfreeze { 0 } else { block })
}

#[cfg(test)]
mod tests;
