//! A training run: its folder, its parts, and going on where it was stopped.
//!
//! The folder holds `settings.json`, `log.jsonl` (a line per round and epoch), `state.safetensors` (weights and momentum after the
//! last finished part), `last.safetensors` (that network as a checkpoint), `best.safetensors` (the one of the best epoch) and, when the run is over,
//! `final.safetensors` and `result.json`.
//!
//! The state names the pictures that were learned from by their digest: a run never goes on with others.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use split_core::Digest;
use split_graph::{Graph, Source};

use crate::augment::{self, Batch, Mixture, View};
use crate::cache::Cache;
use crate::checkpoint::{Checkpoint, Description, FeatureQuantizer, architecture};
use crate::data::{Dataset, Library, Reader, Subset};
use crate::files;
use crate::learn::{self, Learner, Lesson, Memory, Part, Score};
use crate::log::{OUTCOME, Outcome};
use crate::progress;
use crate::prune::{self, Choice, Region, Scores, cut_node, cut_point, reconstruct};
use crate::quantize::{self, Quantizer};
use crate::series::cut;
use crate::settings::{Criterion, RegionName, Settings, Step1, Step2, Task};
use crate::teacher::Teacher;
use crate::tensors::{self, Metadata};

/// Training pictures whose features set the quantiser's steps.
const CALIBRATION_PICTURES: usize = 1000;
/// Training pictures that the moments of batch norm are of where weights are a mean.
const MOMENTS_PICTURES: usize = 512;
/// Training pictures that layers are fitted to after channels have gone.
const RECONSTRUCTION_PICTURES: usize = 512;
/// Classes that a measurement lists, the worst first.
const CLASSES_SHOWN: usize = 12;

/// What a run was asked to do, in its folder.
const SETTINGS: &str = "settings.json";
/// A line for each part.
const LOG: &str = "log.jsonl";
/// Weights and momentum after the last finished part.
const STATE: &str = "state.safetensors";
/// The network after the last finished part.
const LAST: &str = "last.safetensors";
/// The network after the epoch that recognised most of the pictures held back.
const BEST: &str = "best.safetensors";
/// The network of a finished run.
pub const FINAL: &str = "final.safetensors";
/// What a temporary file is for.
const FEATURES: &str = "keeping features in the run's folder";
/// A loss that many times what knowing nothing costs only grows.
const DIVERGED: f64 = 50.0;

/// What is done; the rest is made again from the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Finished rounds of removing filters.
    round: u64,
    /// Finished epochs of the fine-tuning after them.
    epoch: u64,
    /// The one that recognised most of the pictures held back.
    #[serde(default)]
    best: Option<Best>,
}

/// An epoch that was better than all before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Best {
    epoch: u64,
    /// On the pictures held back, in percent.
    accuracy: f64,
}

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
    name: &'static str,
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

/// A state's note of the pictures that it was learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Learned {
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
            eprintln!("{} had {was} epochs, it now gets {is}", folder.display());
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

/// Keeps other programs from going on with the run until the file is closed. Where the file system knows no locks there is none.
fn lock(folder: &Path) -> anyhow::Result<File> {
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

fn read_settings(folder: &Path) -> anyhow::Result<Settings> {
    let path = folder.join(SETTINGS);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// What a run starts from: its parent, with what does not fit other classes or another input made anew, or random weights.
fn parent(settings: &Settings) -> anyhow::Result<Checkpoint> {
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

/// Multiply–accumulates of what a task prunes.
fn macs(task: &Task, graph: &Graph) -> anyhow::Result<u64> {
    Ok(match task {
        Task::Step1(step) => region(step, graph)?.macs(graph),
        Task::Train | Task::Step2(_) => graph.macs(),
    })
}

/// The layers that step 1 prunes.
fn region(step: &Step1, graph: &Graph) -> anyhow::Result<Region> {
    match (step.region, &step.split) {
        (RegionName::Head, Some(split)) => Region::head(graph, cut_node(graph, split)?),
        _ => Ok(Region::all(graph)),
    }
}

/// The split point at which a teacher's features are learned.
fn matched(task: &Task) -> Option<&str> {
    match task {
        Task::Step1(step) if step.match_features => step.split.as_deref(),
        _ => None,
    }
}

/// The last node that stays as it is.
fn frozen(task: &Task, graph: &Graph) -> anyhow::Result<Option<usize>> {
    let Task::Step2(step) = task else { return Ok(None) };
    let node = cut_node(graph, &step.split)?;
    Ok(match graph.nodes()[node].inputs[..] {
        _ if step.unfreeze => None,
        [Source::Node(before)] if prune::is_bottleneck(graph, node) => Some(before),
        _ => cut::before_last_layer(graph, node),
    })
}

/// What crosses at step 2's split point.
#[derive(Clone, Copy, Debug)]
struct Crossing {
    channels: usize,
    is_bottleneck: bool,
}

impl Crossing {
    /// None where the task has no such split point.
    fn of(task: &Task, graph: &Graph) -> anyhow::Result<Option<Self>> {
        let Task::Step2(step) = task else { return Ok(None) };
        let node = cut_node(graph, &step.split)?;
        Ok(Some(Self {
            channels: graph.shape(Source::Node(node)).channels(),
            is_bottleneck: prune::is_bottleneck(graph, node),
        }))
    }
}

/// What a run goes on with.
struct Start {
    checkpoint: Checkpoint,
    progress: Progress,
    /// The quantiser in the loop.
    quantizer: Option<FeatureQuantizer>,
    /// What the learner remembers besides weights.
    memory: Memory,
    /// The pictures that were learned from, and how; states of earlier releases do not say.
    learned: Option<Learned>,
    settings: Option<Settings>,
}

impl Start {
    /// A state that was saved.
    fn saved(path: &Path) -> anyhow::Result<Self> {
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
    fn fresh(mut parent: Checkpoint, settings: &Settings, train: &Dataset) -> anyhow::Result<Self> {
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
    fn check_settings(&self, settings: &Settings, folder: &Path) -> anyhow::Result<()> {
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

    fn learned(&self) -> Learned {
        let all = self.train.whole();
        Learned {
            digest: all.digest(),
            counts: all.counts(),
        }
    }

    /// Refuses pictures other than those that the state was learned from.
    fn check_pictures(&self, old: &Learned) -> anyhow::Result<()> {
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

    /// The network that the run has come to: with the mean of the last weights, once one is taken.
    fn checkpoint(&mut self) -> anyhow::Result<Checkpoint> {
        let batches = match self.learner.has_average() {
            true => self.some(MOMENTS_PICTURES)?,
            false => Vec::new(),
        };
        Checkpoint::new(self.description.clone(), self.learner.averaged(&batches)?)
    }

    /// What the layers that learn take of so many pictures, spread evenly, in batches. Pictures come by class: batch norm would take the moments
    /// of a few classes for those of all.
    fn some(&self, pictures: usize) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut batches = Vec::new();
        let pictures = self.train.thinned(pictures).shuffled(self.settings.learning.seed);
        let normalization = (self.description.mean, self.description.std);
        let batch = self.settings.learning.batch;
        learn::each_batch(&pictures, batch, false, normalization, |_, values| {
            batches.push(self.learner.features(values)?);
            Ok(())
        })?;
        Ok(batches)
    }

    /// What a part tells of its learning besides the loss.
    fn learns(&self) -> &'static str {
        match matched(&self.settings.task) {
            Some(_) => "features explained",
            None => "accuracy",
        }
    }

    /// Steps in an epoch.
    fn steps(&self) -> u64 {
        self.train.len().div_ceil(self.settings.learning.batch) as u64
    }

    fn save(&self, checkpoint: &Checkpoint) -> anyhow::Result<()> {
        let now = Checkpoint::new(self.description.clone(), self.learner.graph()?)?;
        let (mut tensors, mut metadata) = now.to_tensors()?;
        tensors.extend(self.learner.memory());
        metadata.insert("progress".to_owned(), serde_json::to_string(&self.progress)?);
        metadata.insert("pictures".to_owned(), serde_json::to_string(&self.learned())?);
        metadata.insert("settings".to_owned(), serde_json::to_string(&self.settings)?);
        checkpoint.save(&self.folder.join(LAST))?;
        Ok(tensors::save(&self.folder.join(STATE), &tensors, metadata)?)
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
                false => format!("that network is {}; --best makes it the result", best.display()),
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

    /// Pictures to learn from until the end.
    fn pictures_left(&self) -> u64 {
        let (learning, pictures) = (&self.settings.learning, self.train.len() as u64);
        let Progress { round, epoch, .. } = self.progress;
        let rounds = match &self.settings.task {
            Task::Train => 0,
            Task::Step1(step) => {
                step.rounds.saturating_sub(round) * (step.round_batches * learning.batch as u64).min(pictures)
            }
            Task::Step2(step) => {
                let channels = self.crossing.map_or(0, |it| it.channels);
                let halvings = (channels as f64 / step.width as f64).log2().ceil() as u64;
                halvings * (step.round_batches * learning.batch as u64).min(pictures)
            }
        };
        rounds + learning.epochs.saturating_sub(epoch) * pictures
    }

    /// Says so if step 1 could not do what it was asked.
    fn warn_of_goal(&self) -> anyhow::Result<()> {
        if let Task::Step1(step) = &self.settings.task {
            let macs = macs(&self.settings.task, &self.learner.graph()?)?;
            let reached = self.unpruned_macs as f64 / macs as f64;
            if reached < 0.95 * step.fewer_macs {
                eprintln!(
                    "warning: what was pruned has {reached:.1} times fewer MACs, not {}: no layer gets narrower than --multiple {}",
                    step.fewer_macs, step.multiple
                );
            }
        }
        Ok(())
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
                 more --epochs, another --learning-rate, or a pretrained network as --parent may help"
            );
        }
        Ok(score)
    }

    /// Does the next part and saves what came of it; false when there is none.
    fn advance(&mut self, bar: &ProgressBar) -> anyhow::Result<bool> {
        let started = Instant::now();
        let (name, number, learning_rate, totals) = if let Some((learning_rate, batches)) = self.next_round() {
            let (scores, totals) = match self.is_removed_at_once() {
                true => (Scores::none(&self.learner.learned()?), Totals::default()),
                false => self.learn_round(learning_rate, batches, bar)?,
            };
            self.remove(&scores)?;
            self.progress.round += 1;
            ("round", self.progress.round, learning_rate, totals)
        } else if self.progress.epoch < self.settings.learning.epochs {
            self.calibrate()?;
            let (learning_rate, totals) = self.epoch(bar)?;
            self.progress.epoch += 1;
            ("epoch", self.progress.epoch, learning_rate, totals)
        } else {
            return Ok(false);
        };
        let part = Ended {
            name,
            number,
            learning_rate,
            started,
            totals,
        };
        self.end_part(&part, bar)?;
        Ok(true)
    }

    /// What the run does, and where it goes on.
    fn plan(&self) -> anyhow::Result<String> {
        let description = &self.description;
        let what = match &self.settings.task {
            Task::Train => format!("training {}", description.architecture),
            Task::Step1(step) => format!(
                "step 1: filters of {} go in {} rounds, until {:.1} of {:.1} million MACs are left there",
                match &step.split {
                    Some(split) => format!("the layers before {split}"),
                    None => "every layer".to_owned(),
                },
                step.rounds,
                self.unpruned_macs as f64 / step.fewer_macs / 1e6,
                self.unpruned_macs as f64 / 1e6,
            ),
            Task::Step2(step) => format!(
                "step 2: {} channels are left to send at {}; the layers before {}",
                step.width,
                step.split,
                if step.unfreeze { "learn too" } else { "stay as they are" },
            ),
        };
        let goal = match &self.settings.task {
            Task::Step1(step) if self.parent_macs as f64 <= self.unpruned_macs as f64 / step.fewer_macs => {
                "\nwarning: the parent has no more MACs than that already: nothing is removed"
            }
            Task::Step2(_) if self.crossing.is_some_and(|it| it.is_bottleneck) => {
                "\nno layer there can be pruned alone, so a bottleneck is put there"
            }
            Task::Step2(step) if !self.is_wide(step) && self.description.quantizer.is_none() => {
                "\nnothing has to be removed there: the layers behind learn to work with quantised features"
            }
            _ => "",
        };
        let Progress { round, epoch, .. } = self.progress;
        let from = match (round, epoch) {
            (0, 0) => String::new(),
            (_, epoch) if epoch >= self.settings.learning.epochs => {
                "\nnothing is left to learn: all rounds and epochs are done; more --epochs train it further".to_owned()
            }
            _ => format!("\ngoing on after {round} rounds and {epoch} epochs"),
        };
        let learning = &self.settings.learning;
        let size = [self.settings.input[1], self.settings.input[2]];
        let teacher = match &learning.teacher {
            Some(path) => format!(
                "\nthe loss counts the answers of {} besides the labels, so it is not comparable with that of training without a teacher",
                path.display()
            ),
            None => String::new(),
        };
        let cached = match &self.cache {
            Some(cache) => format!(
                "\neach picture has {} views; what frozen layers give for them takes {} MB on the disk",
                learning.cached_views.unwrap_or(0),
                cache.bytes().div_ceil(1_000_000)
            ),
            None => String::new(),
        };
        Ok(format!(
            "{what}; then {} epochs{goal}\n{}{cached}{teacher}{from}",
            learning.epochs,
            learning.augmentation.description(augment::border(size))
        ))
    }

    /// Whether more channels cross at step 2's split point than are to be left.
    fn is_wide(&self, step: &Step2) -> bool {
        self.crossing.is_some_and(|it| it.channels > step.width)
    }

    /// Learning rate and batches of the next round of removing filters, if there is one.
    fn next_round(&self) -> Option<(f64, u64)> {
        match &self.settings.task {
            Task::Step1(step) if self.progress.round < step.rounds => {
                Some((step.round_learning_rate, step.round_batches))
            }
            Task::Step2(step) if self.is_wide(step) => Some((step.round_learning_rate, step.round_batches)),
            Task::Train | Task::Step1(_) | Task::Step2(_) => None,
        }
    }

    /// Whether the next removal needs nothing to be learned before.
    fn is_removed_at_once(&self) -> bool {
        let reconstructs = |it: &Step1| it.criterion == Criterion::Reconstruction;
        self.progress.round == 0 && matches!(&self.settings.task, Task::Step1(step) if reconstructs(step))
    }

    /// Learns from some batches; returns the channels' scores, and how it went.
    fn learn_round(&mut self, rate: f64, batches: u64, bar: &ProgressBar) -> anyhow::Result<(Scores, Totals)> {
        // Rounds draw their pictures from epochs of their own, far from those of the fine-tuning.
        let epoch = u64::MAX / 2 + self.progress.round;
        let learning = &self.settings.learning;
        let mut order = augment::order(learning.seed, epoch, self.train.len());
        order.truncate(learning.batch.saturating_mul(batches as usize));
        let mut scores = Scores::none(&self.learner.learned()?);
        let title = format!("round {}", self.progress.round + 1);
        let totals = self.learn(&order, epoch, |_| rate, Some(&mut scores), (bar, &title))?;
        Ok((scores, totals))
    }

    fn remove(&mut self, scores: &Scores) -> anyhow::Result<()> {
        let graph = self.learner.learned()?;
        let smaller = match &self.settings.task {
            Task::Train => return Ok(()),
            Task::Step1(step) => {
                let goal = self.unpruned_macs as f64 / step.fewer_macs;
                let left = (step.rounds - self.progress.round - 1) as f64 / step.rounds as f64;
                let target = (goal * (self.parent_macs as f64 / goal).powf(left)) as u64;
                let choice = Choice {
                    multiple: step.multiple,
                    work_exponent: step.work_exponent,
                };
                let region = match step.match_features {
                    true => Region::head(&graph, graph.nodes().len() - 1)?,
                    false => region(step, &graph)?,
                };
                match step.criterion {
                    Criterion::Taylor => prune::prune(&graph, scores, &region, target, choice)?,
                    Criterion::Reconstruction => {
                        reconstruct::prune(&graph, &region, target, choice, &self.some(RECONSTRUCTION_PICTURES)?)?
                    }
                }
            }
            Task::Step2(step) => {
                let node = cut_node(&graph, &step.split)?;
                let width = graph.shape(Source::Node(node)).channels();
                prune::narrow(&graph, scores, node, (width / 2).max(step.width))?
            }
        };
        self.learner.replace(&smaller);
        self.crossing = Crossing::of(&self.settings.task, &smaller)?;
        Ok(())
    }

    /// Sets the quantiser's steps anew, in the first half of step 2's fine-tuning; later they stay, so that the tail can settle.
    fn calibrate(&mut self) -> anyhow::Result<()> {
        let Task::Step2(step) = self.settings.task.clone() else {
            return Ok(());
        };
        if self.description.quantizer.is_some() && self.progress.epoch * 2 >= self.settings.learning.epochs {
            return Ok(());
        }
        let checkpoint = self.checkpoint()?;
        let node = cut_node(&checkpoint.graph, &step.split)?;
        let shape = checkpoint.graph.shape(Source::Node(node));
        let features = learn::features(&checkpoint, node, &self.train.thinned(CALIBRATION_PICTURES))?;
        let quantizer = quantize::calibrate(&step.split, &features, shape.channels(), shape.positions(), step.bits);
        self.set_quantizer(Some(quantizer))
    }

    fn set_quantizer(&mut self, quantizer: Option<FeatureQuantizer>) -> anyhow::Result<()> {
        if let (Some(quantizer), Task::Step2(step)) = (&quantizer, &self.settings.task) {
            let node = cut_node(&self.learner.graph()?, &quantizer.split)? - self.learner.frozen_nodes();
            self.learner
                .set_quantizer(Quantizer::new(quantizer, node, step.rate_penalty));
        }
        self.description.quantizer = quantizer;
        Ok(())
    }

    /// Learns from all pictures; returns the learning rate at the end, and how it went.
    fn epoch(&mut self, bar: &ProgressBar) -> anyhow::Result<(f64, Totals)> {
        let (epoch, learning) = (self.progress.epoch, self.settings.learning.clone());
        let order = augment::order(learning.seed, epoch, self.train.len());
        let rate = |share: f64| learning.rate((epoch as f64 + share) / learning.epochs as f64);
        let title = format!("epoch {}/{}", epoch + 1, learning.epochs);
        let totals = self.learn(&order, epoch, rate, None, (bar, &title))?;
        Ok((rate(1.0), totals))
    }

    /// Learns from pictures in batches; `rate` is the learning rate after a share of them.
    fn learn(
        &mut self,
        order: &[usize],
        epoch: u64,
        rate: impl Fn(f64) -> f64,
        mut scores: Option<&mut Scores>,
        (bar, title): (&ProgressBar, &str),
    ) -> anyhow::Result<Totals> {
        let learning = self.settings.learning.clone();
        let (size, how) = (self.train.size(), &learning.augmentation);
        let view = |index: &usize| {
            let epoch = learning.cached_views.map_or(epoch, |views| epoch % views);
            (*index, View::random(how, learning.seed, epoch, *index as u64, size))
        };
        let span = learning.average * (self.steps() * learning.epochs) as f64;
        let batches = order.chunks(learning.batch).enumerate().map(|(at, it)| Batch {
            pictures: it.iter().map(view).collect(),
            mixture: Mixture::random(how, learning.seed, epoch, at as u64, size),
        });
        let (mut totals, start) = (Totals::default(), Instant::now());
        let classes = self.description.classes.len();
        let normalization = (self.description.mean, self.description.std);
        let learns = self.learns();
        let limit = DIVERGED * (1.0 + (classes as f64).ln());
        let Self {
            train,
            teacher,
            learner,
            cache,
            ..
        } = self;
        augment::batches(train, batches, normalization, |batch, values| {
            let pictures = &batch.pictures;
            let labels: Vec<usize> = pictures.iter().map(|it| train.label(it.0)).collect();
            let others = batch
                .mixture
                .map(|it| (labels.iter().rev().copied().collect(), it.own(size)));
            let lesson = Lesson {
                labels,
                others,
                ..lesson(learner, teacher.as_ref(), cache.as_mut(), pictures, values, epoch)?
            };
            let rate = rate(totals.pictures as f64 / order.len() as f64);
            let report = learner.step(&lesson, &learning, rate, scores.as_deref_mut());
            // NaN is no less than the limit.
            let is_sane = report.loss < limit;
            let flag = if scores.is_some() {
                "--round-learning-rate"
            } else {
                "--learning-rate"
            };
            ensure!(
                is_sane,
                "the network does not learn but diverges: in {title} the loss became {:.3e}. The learning rate ({flag}, {rate:.1e} by now) is probably too \
                 high, unless the parent begins with such a loss; try a tenth of it in a new folder. What was learned until the part before is kept",
                report.loss
            );
            if scores.is_none() && span > 0.0 {
                learner.take_average(span);
            }
            totals.add(report, pictures.len());
            bar.set_message(format!("{title} · {}", totals.learned(learns)));
            bar.inc(pictures.len() as u64);
            Ok(())
        })?;
        totals.clock(start);
        Ok(totals)
    }

    /// Measures and saves what a part has learned.
    fn end_part(&mut self, part: &Ended, bar: &ProgressBar) -> anyhow::Result<()> {
        let checkpoint = self.checkpoint()?;
        let Ended {
            name, number, totals, ..
        } = *part;
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
        bar.suspend(|| {
            eprintln!(
                "{name} {number}: {}, {:.1} pictures/s, {:.1} million MACs, on pictures held back {accuracy:.2} %",
                totals.learned(self.learns()),
                totals.images_per_second,
                line.macs as f64 / 1e6,
            );
        });
        let path = self.folder.join(LOG);
        files::append_line(&path, &text).with_context(|| path.display().to_string())?;
        if name == "epoch" && self.progress.best.is_none_or(|it| accuracy >= it.accuracy) {
            checkpoint.save(&self.folder.join(BEST))?;
            self.progress.best = Some(Best {
                epoch: number,
                accuracy,
            });
        }
        self.save(&checkpoint)
    }
}

/// Sums over the batches of an epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    pictures: usize,
    right: f64,
    loss: f64,
    bytes: f64,
    images_per_second: f64,
}

impl Totals {
    fn add(&mut self, report: learn::Report, pictures: usize) {
        self.pictures += pictures;
        self.right += report.right * pictures as f64;
        self.loss += report.loss * pictures as f64;
        self.bytes += report.bytes * pictures as f64;
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.pictures.max(1) as f64
    }

    /// Size of a message.
    fn mean_bytes(&self) -> f64 {
        self.bytes / self.pictures.max(1) as f64
    }

    fn accuracy(&self) -> f64 {
        100.0 * self.right / self.pictures.max(1) as f64
    }

    /// Ends the measurement of the rate that began at `start`.
    fn clock(&mut self, start: Instant) {
        self.images_per_second = self.pictures as f64 / start.elapsed().as_secs_f64();
    }

    fn learned(&self, what: &str) -> String {
        let bytes = match self.mean_bytes() {
            0.0 => String::new(),
            bytes => format!(", about {bytes:.0} bytes a picture"),
        };
        format!("loss {:.3}, {what} {:.2} %{bytes}", self.mean_loss(), self.accuracy())
    }
}

/// What is learned from pictures in the views of an epoch, which are `values`; from the cache if it knows them. Without labels.
fn lesson(
    learner: &Learner,
    teacher: Option<&Teacher>,
    cache: Option<&mut Cache>,
    pictures: &[(usize, View)],
    values: Vec<f32>,
    epoch: u64,
) -> anyhow::Result<Lesson> {
    let answers = |values: &[f32]| teacher.map(|it| it.answers(pictures, values)).transpose();
    let Some(cache) = cache else {
        let teacher = answers(&values)?;
        let input = learner.features(values)?;
        return Ok(Lesson {
            input,
            teacher,
            ..Lesson::default()
        });
    };
    let each = learner.input_values();
    let indices: Vec<usize> = pictures.iter().map(|it| it.0).collect();
    let mut known = cache.get(&indices, epoch).context(FEATURES)?;
    if known.is_none() {
        let answers = answers(&values)?.unwrap_or_default();
        let features = learner.features(values)?;
        let classes = answers.len() / indices.len().max(1);
        for (at, index) in indices.iter().enumerate() {
            let row = [&features[at * each..][..each], &answers[at * classes..][..classes]].concat();
            cache.put(*index, epoch, &row).context(FEATURES)?;
        }
        // Read back, so that what is learned from does not depend on when it was computed.
        known = cache.get(&indices, epoch).context(FEATURES)?;
    }
    let rows = known.unwrap_or_default();
    let (mut input, mut answers) = (Vec::with_capacity(indices.len() * each), Vec::new());
    for row in rows.chunks_exact((rows.len() / indices.len().max(1)).max(1)) {
        input.extend_from_slice(&row[..each]);
        answers.extend_from_slice(&row[each..]);
    }
    Ok(Lesson {
        input,
        teacher: teacher.map(|_| answers),
        ..Lesson::default()
    })
}

/// Refuses a split point behind a bottleneck, where step 2 would put another, and a width that it cannot leave.
fn check_split(step: &Step2, graph: &Graph) -> anyhow::Result<()> {
    let node = cut_node(graph, &step.split)?;
    let channels = graph.shape(Source::Node(node)).channels();
    if let [Source::Node(before)] = graph.nodes()[node].inputs[..]
        && prune::is_bottleneck(graph, before)
    {
        let narrow = graph.cut_points().into_iter().find(|it| it.node == before);
        let [narrow, wide] = [
            narrow.map_or(graph.nodes()[before].name.clone(), |it| it.name),
            step.split.clone(),
        ];
        bail!(
            "{wide} lies behind the bottleneck at {narrow}, and has all channels again; to send fewer, give --split {narrow}"
        );
    }
    ensure!(
        (1..=channels).contains(&step.width),
        "{} channels cross at {}, {} cannot be left",
        channels,
        step.split,
        step.width
    );
    Ok(())
}

#[cfg(test)]
mod tests;
