//! How a run learns, and how channels go meanwhile.

use std::time::Instant;

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use split_graph::Source;

use super::Run;
use super::plan::{Crossing, Round, region};
use crate::augment::{self, Batch, Mixture, View};
use crate::cache::Cache;
use crate::checkpoint::FeatureQuantizer;
use crate::learn::{self, Learner, Lesson};
use crate::prune::{self, Choice, Region, Scores, cut_node, low_rank, reconstruct};
use crate::quantize::{self, Quantizer};
use crate::settings::{Criterion, Task};
use crate::teacher::Teacher;

/// Training pictures whose features set the quantiser's steps.
pub(super) const CALIBRATION_PICTURES: usize = 1000;
/// Training pictures that layers are fitted to after channels have gone.
pub const RECONSTRUCTION_PICTURES: usize = 512;
/// What a temporary file is for.
const FEATURES: &str = "keeping features in the run's folder";
/// A loss that many times what knowing nothing costs only grows.
const DIVERGED: f64 = 50.0;

/// What a part of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of removing filters.
    Round,
    /// Of training or fine-tuning.
    Epoch,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Epoch => "epoch",
        }
    }
}

/// What a part learns from.
struct Lessons {
    kind: Kind,
    title: String,
    /// Places of the pictures.
    order: Vec<usize>,
    /// Their views are those of this epoch.
    epoch: u64,
}

/// Sums over the batches of an epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) pictures: usize,
    pub(super) right: f64,
    pub(super) loss: f64,
    pub(super) bytes: f64,
    pub(super) images_per_second: f64,
}

impl Totals {
    fn add(&mut self, report: learn::Report, pictures: usize) {
        self.pictures += pictures;
        self.right += report.right * pictures as f64;
        self.loss += report.loss * pictures as f64;
        self.bytes += report.bytes * pictures as f64;
    }

    pub(super) fn mean_loss(&self) -> f64 {
        self.loss / self.pictures.max(1) as f64
    }

    /// Size of a message.
    pub(super) fn mean_bytes(&self) -> f64 {
        self.bytes / self.pictures.max(1) as f64
    }

    pub(super) fn accuracy(&self) -> f64 {
        100.0 * self.right / self.pictures.max(1) as f64
    }

    /// Ends the measurement of the rate that began at `start`.
    fn clock(&mut self, start: Instant) {
        self.images_per_second = self.pictures as f64 / start.elapsed().as_secs_f64();
    }

    pub(super) fn learned(&self, what: &str) -> String {
        let bytes = match self.mean_bytes() {
            0.0 => String::new(),
            bytes => format!(", about {bytes:.0} bytes a picture"),
        };
        format!("loss {:.3}, {what} {:.2} %{bytes}", self.mean_loss(), self.accuracy())
    }
}

impl Run {
    /// Learns what a round learns before filters go; returns the channels' scores, where they are wanted, and how it went.
    pub(super) fn learn_round(&mut self, round: Round, bar: &ProgressBar) -> anyhow::Result<(Option<Scores>, Totals)> {
        // Rounds draw their pictures from epochs of their own, far from those of the fine-tuning.
        let epoch = u64::MAX / 2 + self.progress.round;
        let learning = &self.settings.learning;
        let mut order = augment::order(learning.seed, epoch, self.train.len());
        order.truncate(learning.batch.saturating_mul(round.batches as usize));
        let mut scores = match round.scores {
            true => Some(Scores::none(&self.learner.learned()?)),
            false => None,
        };
        let lessons = Lessons {
            kind: Kind::Round,
            title: format!("round {}", self.progress.round + 1),
            order,
            epoch,
        };
        let totals = self.learn(lessons, |_| round.learning_rate, scores.as_mut(), bar)?;
        Ok((scores, totals))
    }

    /// Removes channels: the least valuable by these scores, otherwise those without which least is lost.
    pub(super) fn remove(&mut self, scores: Option<&Scores>) -> anyhow::Result<()> {
        let graph = self.learner.learned()?;
        let smaller = match (&self.settings.task, scores) {
            (Task::Step1(step), scores) => {
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
                let pictures = || self.some(RECONSTRUCTION_PICTURES);
                match (step.criterion, scores) {
                    (_, Some(scores)) => prune::prune(&graph, scores, &region, target, choice)?,
                    (Criterion::LowRank, None) => {
                        low_rank::prune(&graph, &region, target, step.multiple, &pictures()?)?
                    }
                    (_, None) => reconstruct::prune(&graph, &region, target, choice, &pictures()?)?,
                }
            }
            (Task::Step2(step), Some(scores)) => {
                let node = cut_node(&graph, &step.split)?;
                let width = graph.shape(Source::Node(node)).channels();
                prune::narrow(&graph, scores, node, (width / 2).max(step.width))?
            }
            (Task::Train | Task::Step2(_), _) => return Ok(()),
        };
        self.learner.replace(&smaller);
        self.crossing = Crossing::of(&self.settings.task, &smaller)?;
        Ok(())
    }

    /// Fits the quantiser's steps again during the first half of step 2's fine-tuning; later they stay, so that the tail can settle.
    pub(super) fn calibrate(&mut self) -> anyhow::Result<()> {
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

    pub(super) fn set_quantizer(&mut self, quantizer: Option<FeatureQuantizer>) -> anyhow::Result<()> {
        if let (Some(quantizer), Task::Step2(step)) = (&quantizer, &self.settings.task) {
            let node = cut_node(&self.learner.graph()?, &quantizer.split)? - self.learner.frozen_nodes();
            self.learner
                .set_quantizer(Quantizer::new(quantizer, node, step.rate_penalty));
        }
        self.description.quantizer = quantizer;
        Ok(())
    }

    /// Learns from all pictures; returns the learning rate at the end, and how it went.
    pub(super) fn epoch(&mut self, bar: &ProgressBar) -> anyhow::Result<(f64, Totals)> {
        let (epoch, learning) = (self.progress.epoch, self.settings.learning.clone());
        let order = augment::order(learning.seed, epoch, self.train.len());
        let rate = |share: f64| learning.rate((epoch as f64 + share) / learning.epochs as f64);
        let lessons = Lessons {
            kind: Kind::Epoch,
            title: format!("epoch {}/{}", epoch + 1, learning.epochs),
            order,
            epoch,
        };
        let totals = self.learn(lessons, rate, None, bar)?;
        Ok((rate(1.0), totals))
    }

    /// Learns from pictures in batches; `rate` is the learning rate after a share of them.
    fn learn(
        &mut self,
        Lessons {
            kind,
            title,
            order,
            epoch,
        }: Lessons,
        rate: impl Fn(f64) -> f64,
        mut scores: Option<&mut Scores>,
        bar: &ProgressBar,
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
            ensure!(
                is_sane,
                "the network does not learn but diverges: in {title} the loss became {:.3e}. The learning rate for {}s, {rate:.1e} by now, is probably too \
                 high, unless the network began with such a loss; try a tenth of it in a new folder. What was learned before {title} is kept",
                report.loss,
                kind.name()
            );
            if kind == Kind::Epoch && span > 0.0 {
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

    /// What the layers that learn take of so many pictures, spread evenly, in batches. Pictures come by class: batch norm would take the moments
    /// of a few classes for those of all.
    pub(super) fn some(&self, pictures: usize) -> anyhow::Result<Vec<Vec<f32>>> {
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
