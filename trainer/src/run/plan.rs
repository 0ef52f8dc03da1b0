//! What a run does, in words and in numbers.

use anyhow::{bail, ensure};
use split_graph::{Graph, Source};

use super::Run;
use super::state::Progress;
use crate::augment;
use crate::prune::{self, Region, cut_node};
use crate::series::cut;
use crate::settings::{Criterion, RegionName, Step1, Step2, Task};

/// A round of removing filters that is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) learning_rate: f64,
    /// Batches that are learned from before filters go.
    pub(super) batches: u64,
    /// Whether that scores the channels. Those of a reconstruction are priced by what is lost without them.
    pub(super) scores: bool,
}

/// A number of things, of which this is one.
pub fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Multiply–accumulates of what a task prunes.
pub(super) fn macs(task: &Task, graph: &Graph) -> anyhow::Result<u64> {
    Ok(match task {
        Task::Step1(step) => region(step, graph)?.macs(graph),
        Task::Train | Task::Step2(_) => graph.macs(),
    })
}

/// The layers that step 1 prunes.
pub(super) fn region(step: &Step1, graph: &Graph) -> anyhow::Result<Region> {
    match (step.region, &step.split) {
        (RegionName::Head, Some(split)) => Region::head(graph, cut_node(graph, split)?),
        _ => Ok(Region::all(graph)),
    }
}

/// The split point at which a teacher's features are learned.
pub(super) fn matched(task: &Task) -> Option<&str> {
    match task {
        Task::Step1(step) if step.match_features => step.split.as_deref(),
        _ => None,
    }
}

/// The last node that is not learned.
pub(super) fn frozen(task: &Task, graph: &Graph) -> anyhow::Result<Option<usize>> {
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
pub(super) struct Crossing {
    pub(super) channels: usize,
    pub(super) is_bottleneck: bool,
}

impl Crossing {
    /// None where the task has no such split point.
    pub(super) fn of(task: &Task, graph: &Graph) -> anyhow::Result<Option<Self>> {
        let Task::Step2(step) = task else { return Ok(None) };
        let node = cut_node(graph, &step.split)?;
        Ok(Some(Self {
            channels: graph.shape(Source::Node(node)).channels(),
            is_bottleneck: prune::is_bottleneck(graph, node),
        }))
    }
}

/// Refuses a split point behind a bottleneck, where step 2 would put another, and a width that it cannot leave.
pub(super) fn check_split(step: &Step2, graph: &Graph) -> anyhow::Result<()> {
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

impl Run {
    /// What the run does, and where it goes on.
    pub(super) fn plan(&self) -> anyhow::Result<String> {
        let description = &self.description;
        let epochs = counted(self.settings.learning.epochs, "epoch");
        let what = match &self.settings.task {
            Task::Train => format!("training {} for {epochs}", description.architecture),
            Task::Step1(step) => format!(
                "step 1: {} in {}, until {:.1} of {:.1} million MACs are left there; then {epochs}",
                match (step.criterion, &step.split) {
                    (Criterion::LowRank, Some(split)) => format!("convolutions before {split} become two each"),
                    (Criterion::LowRank, None) => "convolutions become two each".to_owned(),
                    (_, Some(split)) => format!("filters of the layers before {split} go"),
                    (_, None) => "filters of every layer go".to_owned(),
                },
                counted(step.rounds, "round"),
                self.unpruned_macs as f64 / step.fewer_macs / 1e6,
                self.unpruned_macs as f64 / 1e6,
            ),
            Task::Step2(step) => format!(
                "step 2: {} channels are left to send at {}, the layers before {}; then {epochs}",
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
            (0, epoch) => format!("\ngoing on after epoch {epoch}"),
            (round, 0) => format!("\ngoing on after round {round}"),
            _ => format!("\ngoing on after round {round} and epoch {epoch}"),
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
            "{what}{goal}\n{}{cached}{teacher}{from}",
            learning.augmentation.description(augment::border(size))
        ))
    }

    /// Pictures to learn from until the end.
    pub(super) fn pictures_left(&self) -> u64 {
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

    /// Whether more channels cross at step 2's split point than are to be left.
    fn is_wide(&self, step: &Step2) -> bool {
        self.crossing.is_some_and(|it| it.channels > step.width)
    }

    /// The next round of removing filters, if there is one.
    pub(super) fn next_round(&self) -> Option<Round> {
        match &self.settings.task {
            Task::Step1(step) if self.progress.round < step.rounds => {
                let scores = step.criterion == Criterion::Taylor;
                // What the parent has learned suffices for the first.
                let needs_none = !scores && self.progress.round == 0;
                Some(Round {
                    learning_rate: step.round_learning_rate,
                    batches: if needs_none { 0 } else { step.round_batches },
                    scores,
                })
            }
            Task::Step2(step) if self.is_wide(step) => Some(Round {
                learning_rate: step.round_learning_rate,
                batches: step.round_batches,
                scores: true,
            }),
            Task::Train | Task::Step1(_) | Task::Step2(_) => None,
        }
    }

    /// Says so if step 1 could not do what it was asked.
    pub(super) fn warn_of_goal(&self) -> anyhow::Result<()> {
        if let Task::Step1(step) = &self.settings.task {
            let macs = macs(&self.settings.task, &self.learner.graph()?)?;
            let reached = self.unpruned_macs as f64 / macs as f64;
            if reached < 0.95 * step.fewer_macs {
                eprintln!(
                    "warning: what was pruned has {reached:.1} times fewer MACs, not {}: no layer gets narrower than {} channels, nor any place between factors",
                    step.fewer_macs, step.multiple
                );
            }
        }
        Ok(())
    }

    /// What a part tells of its learning besides the loss.
    pub(super) fn learns(&self) -> &'static str {
        match matched(&self.settings.task) {
            Some(_) => "features explained",
            None => "accuracy",
        }
    }

    /// Steps in an epoch.
    pub(super) fn steps(&self) -> u64 {
        self.train.len().div_ceil(self.settings.learning.batch) as u64
    }
}
