//! A training run: its folder, its parts, and going on where it was stopped.
//!
//! The folder holds `settings.json`, `log.jsonl` (a line per round and epoch), `state.safetensors` (weights and momentum after the
//! last finished part), `last.safetensors` (that network as a checkpoint), `best.safetensors` (the one of the best epoch) and, when the run is over,
//! `final.safetensors` and `result.json`.
//!
//! The state names the pictures that were learned from by their digest: a run never goes on with others.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde::Serialize;
use split_graph::Source;

pub use self::learning::RECONSTRUCTION_PICTURES;
use self::learning::{Kind, Totals};
pub use self::plan::counted;
use self::plan::{Crossing, check_split, frozen, macs, matched};
use self::state::{BEST, Best, LAST, LOG, Progress, SETTINGS, STATE, Start, lock, parent, read_settings};
pub use self::state::{FINAL, OtherPictures};
use crate::cache::Cache;
use crate::checkpoint::{Checkpoint, Description};
use crate::data::{Dataset, Library, Reader, Subset};
use crate::files;
use crate::learn::{self, Learner, Part, Score};
use crate::log::{OUTCOME, Outcome};
use crate::progress;
use crate::prune::{cut_node, cut_point};
use crate::settings::{Settings, Step1, Step2, Task};
use crate::teacher::Teacher;

mod learning;
mod plan;
mod state;

/// Training pictures that the moments of batch norm are of where weights are a mean.
const MOMENTS_PICTURES: usize = 512;
/// Classes that a measurement lists, the worst first.
const CLASSES_SHOWN: usize = 12;

/// One line of the log.
#[derive(Serialize)]
struct Line<'a> {
    part: &'a str,
    number: u64,
    learning_rate: f64,
    loss: f64,
    train_accuracy: f64,
    validation_accuracy: f64,
    bytes: f64,
    images_per_second: f64,
    seconds: f64,
    macs: u64,
    widths: &'a [usize],
}

/// A round or an epoch that was learned, but not yet measured.
struct Ended {
    kind: Kind,
    number: u64,
    learning_rate: f64,
    started: Instant,
    totals: Totals,
}

/// A run with everything loaded.
pub struct Run {
    folder: PathBuf,
    settings: Settings,
    train: Dataset,
    /// What settings are chosen with.
    validation: Dataset,
    test: Dataset,
    teacher: Option<Teacher>,
    /// Its quantiser is that in the loop.
    description: Description,
    learner: Learner,
    /// In step 2, what crosses at its split point now.
    crossing: Option<Crossing>,
    /// Of what the layers that stay as they are give, and the teacher's answers.
    cache: Option<Cache>,
    progress: Progress,
    /// Multiply–accumulates of what step 1 prunes, in the unpruned network and in the parent.
    unpruned_macs: u64,
    parent_macs: u64,
}

/// Starts a run in `folder`, or goes on with the one there; a finished one, if it is to have more epochs. Fails when the folder holds what a
/// run with other settings or from other pictures has learned.
pub fn run(folder: &Path, settings: &Settings) -> anyhow::Result<()> {
    run_with(&Library::default(), folder, settings)
}

/// [`run`], with pictures that may have been read before.
pub fn run_with(library: &Library, folder: &Path, settings: &Settings) -> anyhow::Result<()> {
    settings.check()?;
    files::make_folder(folder)?;
    let _lock = lock(folder)?;
    let path = folder.join(SETTINGS);
    if folder.join(STATE).exists() {
        let old = read_settings(folder)?;
        let differences = settings.differences(&old)?;
        ensure!(
            differences.is_empty(),
            "{} holds a run with other settings: {}; name another folder, or give the settings that it was begun with",
            folder.display(),
            differences.join("; ")
        );
        let (was, is) = (old.learning.epochs, settings.learning.epochs);
        if was != is {
            eprintln!("{} had {}, it now gets {is}", folder.display(), counted(was, "epoch"));
        }
    }
    let text = serde_json::to_string_pretty(settings)?;
    files::write_whole(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
    Run::open(library, folder)?.finish()
}

/// Whether the folder holds a finished run with these settings.
pub fn is_finished(folder: &Path, settings: &Settings) -> bool {
    let same = |old: Settings| {
        old.learning.epochs == settings.learning.epochs && settings.differences(&old).is_ok_and(|it| it.is_empty())
    };
    folder.join(FINAL).exists() && read_settings(folder).is_ok_and(same)
}

/// Goes on with the run in `folder` from its last finished part.
pub fn resume(folder: &Path) -> anyhow::Result<()> {
    ensure!(folder.join(SETTINGS).exists(), "{} holds no run", folder.display());
    let _lock = lock(folder)?;
    Run::open(&Library::default(), folder)?.finish()
}

impl Run {
    fn open(library: &Library, folder: &Path) -> anyhow::Result<Self> {
        let mut settings = read_settings(folder)?;
        settings.check()?;
        let parent = parent(&settings)?;
        // A cut point has several names: the one by which it is listed is the series' name for it.
        match &mut settings.task {
            Task::Step2(Step2 { split, .. }) | Task::Step1(Step1 { split: Some(split), .. }) => {
                *split = cut_point(&parent.graph, split)?.name;
            }
            Task::Train | Task::Step1(_) => {}
        }
        if let Task::Step2(step) = &settings.task {
            check_split(step, &parent.graph)?;
        }
        let learning = &settings.learning;
        let size = [settings.input[1], settings.input[2]];
        let reader = Reader::new(library, &learning.source, size, settings.preparation, folder);
        let mut reader = reader.expecting(&settings.classes, "the run");
        let (train, validation) = reader.learning(learning.pictures)?;
        let test = reader.load(Subset::Test)?;
        let shared = test.shared_with(&train);
        if shared > 0 {
            eprintln!(
                "warning: {shared} test pictures are training pictures too: accuracies will be better than the truth"
            );
        }
        let teacher = learning.teacher.as_ref().map(|path| {
            let file = learning.teacher_logits.as_deref();
            Teacher::load(path, file, matched(&settings.task), &parent.description, &train)
        });
        let teacher = teacher.transpose()?;
        let (unpruned_macs, parent_macs) = (
            macs(&settings.task, &parent.unpruned())?,
            macs(&settings.task, &parent.graph)?,
        );
        let description = Description {
            quantizer: None,
            ..parent.description.clone()
        };
        let state = folder.join(STATE);
        let start = match state.exists() {
            true => Start::saved(&state)?,
            false => Start::fresh(parent, &settings, &train)?,
        };
        start.check_settings(&settings, folder)?;
        let graph = &start.checkpoint.graph;
        let frozen = frozen(&settings.task, graph)?;
        let mut cache = None;
        if let (Some(views), Some(frozen)) = (settings.learning.cached_views, frozen) {
            let answers = if teacher.is_some() {
                description.classes.len()
            } else {
                0
            };
            let row = graph.shape(Source::Node(frozen)).values() + answers;
            let made = Cache::new(folder, train.len(), views, row);
            cache = Some(made.with_context(|| folder.display().to_string())?);
        }
        let until = matched(&settings.task).map(|it| cut_node(graph, it));
        let part = Part {
            behind: frozen,
            until: until.transpose()?,
        };
        let mut run = Self {
            folder: folder.to_owned(),
            teacher,
            unpruned_macs,
            parent_macs,
            learner: Learner::new(graph, part, &settings.learning)?,
            crossing: Crossing::of(&settings.task, graph)?,
            cache,
            description,
            train,
            validation,
            test,
            settings,
            progress: start.progress,
        };
        if let Some(learned) = &start.learned {
            run.check_pictures(learned)?;
        }
        run.set_quantizer(start.quantizer)?;
        run.learner.remember(start.memory, run.progress.epoch * run.steps());
        Ok(run)
    }

    /// The network that the run has come to: with the mean of the last weights, once one is taken.
    fn checkpoint(&mut self) -> anyhow::Result<Checkpoint> {
        let batches = match self.learner.has_average() {
            true => self.some(MOMENTS_PICTURES)?,
            false => Vec::new(),
        };
        Checkpoint::new(self.description.clone(), self.learner.averaged(&batches)?)
    }

    fn finish(mut self) -> anyhow::Result<()> {
        eprintln!("{}", self.plan()?);
        let bar = progress::bar("learning", self.pictures_left());
        while self.advance(&bar)? {
            // What was guessed of the rounds to come may have changed.
            bar.set_length(bar.position() + self.pictures_left());
        }
        bar.finish_and_clear();
        self.warn_of_goal()?;
        let path = self.folder.join(FINAL);
        let checkpoint = self.result()?;
        checkpoint.save(&path)?;
        let outcome = Outcome {
            validation_accuracy: learn::measure(&checkpoint, &self.validation)?.accuracy(),
            test_accuracy: self.measure(&checkpoint)?.accuracy(),
        };
        let text = serde_json::to_vec_pretty(&outcome)?;
        files::write_whole(&self.folder.join(OUTCOME), &text).with_context(|| self.folder.display().to_string())?;
        println!("{}", path.display());
        Ok(())
    }

    /// What the run has come to: the network after the last epoch or after the best one, as the settings say.
    fn result(&mut self) -> anyhow::Result<Checkpoint> {
        let mut path = self.folder.join(LAST);
        if let Some(Best { epoch, accuracy }) = self.progress.best.filter(|it| it.epoch < self.progress.epoch) {
            let best = self.folder.join(BEST);
            let what = match self.settings.learning.best {
                true => "that network is the result".to_owned(),
                false => format!(
                    "that network is {}, the result is the one after the last epoch (--best of `trainer train` and `trainer prune` takes the best)",
                    best.display()
                ),
            };
            eprintln!("after epoch {epoch} most of the pictures held back were recognised, {accuracy:.2} %: {what}");
            if self.settings.learning.best {
                path = best;
            }
        }
        match path.exists() {
            true => Checkpoint::load(&path),
            // Without a round and an epoch nothing has been saved.
            false => self.checkpoint(),
        }
    }

    /// What the finished network is worth, on pictures that nothing was chosen with.
    fn measure(&self, checkpoint: &Checkpoint) -> anyhow::Result<Score> {
        let score = learn::measure(checkpoint, &self.test)?;
        eprintln!(
            "test: {:.2} % of {} pictures are recognised; always giving the same answer would be right for {:.2} %",
            score.accuracy(),
            self.test.len(),
            score.chance()
        );
        let by_class = score.by_class();
        let named = |it: &(usize, f64)| format!("{} {:.0} %", self.test.classes()[it.0], it.1);
        let (shown, rest) = by_class.split_at(by_class.len().min(CLASSES_SHOWN));
        let more = match rest.last() {
            Some(best) => format!(", …, {}", named(best)),
            None => String::new(),
        };
        eprintln!(
            "by class: {}{more}",
            shown.iter().map(named).collect::<Vec<_>>().join(", ")
        );
        if score.knows_next_to_nothing() {
            eprintln!(
                "warning: that is hardly more than chance, so every figure that is measured of this network says next to nothing. More pictures, \
                 a pretrained network to begin with, more epochs, or another learning rate may help"
            );
        }
        Ok(score)
    }

    /// Does the next part and saves what came of it; false when there is none.
    fn advance(&mut self, bar: &ProgressBar) -> anyhow::Result<bool> {
        let started = Instant::now();
        let (kind, number, learning_rate, totals) = if let Some(round) = self.next_round() {
            let (scores, totals) = self.learn_round(round, bar)?;
            self.remove(scores.as_ref())?;
            self.progress.round += 1;
            (Kind::Round, self.progress.round, round.learning_rate, totals)
        } else if self.progress.epoch < self.settings.learning.epochs {
            self.calibrate()?;
            let (learning_rate, totals) = self.epoch(bar)?;
            self.progress.epoch += 1;
            (Kind::Epoch, self.progress.epoch, learning_rate, totals)
        } else {
            return Ok(false);
        };
        let part = Ended {
            kind,
            number,
            learning_rate,
            started,
            totals,
        };
        self.end_part(&part, bar)?;
        Ok(true)
    }

    /// Measures and saves what a part has learned.
    fn end_part(&mut self, part: &Ended, bar: &ProgressBar) -> anyhow::Result<()> {
        let checkpoint = self.checkpoint()?;
        let Ended {
            kind, number, totals, ..
        } = *part;
        let name = kind.name();
        let accuracy = learn::measure(&checkpoint, &self.validation)?.accuracy();
        let line = Line {
            part: name,
            number,
            learning_rate: part.learning_rate,
            loss: totals.mean_loss(),
            train_accuracy: totals.accuracy(),
            validation_accuracy: accuracy,
            bytes: totals.mean_bytes(),
            images_per_second: totals.images_per_second,
            seconds: part.started.elapsed().as_secs_f64(),
            macs: checkpoint.graph.macs(),
            widths: &checkpoint.description.widths,
        };
        let text = serde_json::to_string(&line)?;
        let learned = match totals.pictures {
            0 => String::new(),
            _ => format!(
                "{}, {:.1} pictures/s, ",
                totals.learned(self.learns()),
                totals.images_per_second
            ),
        };
        bar.suspend(|| {
            eprintln!(
                "{name} {number}: {learned}{:.1} million MACs, on pictures held back {accuracy:.2} %",
                line.macs as f64 / 1e6,
            );
        });
        let path = self.folder.join(LOG);
        files::append_line(&path, &text).with_context(|| path.display().to_string())?;
        if kind == Kind::Epoch && self.progress.best.is_none_or(|it| accuracy >= it.accuracy) {
            checkpoint.save(&self.folder.join(BEST))?;
            self.progress.best = Some(Best {
                epoch: number,
                accuracy,
            });
        }
        self.save(&checkpoint)
    }
}

#[cfg(test)]
mod tests;
