//! One step of stochastic gradient descent, and measuring accuracy.

use split_graph::{Graph, Source};
use split_train::{Average, Momentum, Network, Observer, cross_entropy, decoupled_cross_entropy, smoothed};

use crate::augment::{self, Batch, View};
use crate::checkpoint::Checkpoint;
use crate::data::Dataset;
use crate::inference::Inference;
use crate::prune::Scores;
use crate::quantize::Quantizer;
use crate::settings::Learning;
use crate::tensors::{NamedTensor, Tensors};

/// Batch size when nothing is learned.
const EVALUATION_BATCH: usize = 64;

/// Share of what chance leaves that a network must get right to be of any use.
pub const LEAST_KNOWLEDGE: f64 = 0.15;

/// Share of a batch's moments in the running ones of batch norm; PyTorch's default.
const BLEND: f32 = 0.1;

/// Variance of a channel that is taken to be constant.
const LEAST_VARIANCE: f64 = 1e-6;

/// Name of an optimizer's memory of one parameter, before its number.
const VELOCITY: &str = "velocity.";
/// Name of a mean of weights over many steps, before its number.
const AVERAGE: &str = "average.";
/// How often each code of each channel was seen, `[channels, codes]`.
const PRIOR: &str = "prior";

/// A network being trained.
pub struct Learner {
    /// The layers that stay as they are; none where all learn.
    trunk: Option<Trunk>,
    /// The layers that learn.
    network: Network,
    /// The layers behind them, which stay as they are and do not run; none where those that learn are the last.
    behind: Option<Graph>,
    /// Quantiser in the loop.
    quantizer: Option<Quantizer>,
    optimizer: Momentum,
    average: Average,
}

/// Which layers learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Those behind this node, a cut point; all from the first if there is none.
    pub behind: Option<usize>,
    /// Those up to this node, a cut point, to give what a teacher gives there; all to the last if there is none.
    pub until: Option<usize>,
}

struct Trunk {
    graph: Graph,
    inference: Inference,
}

/// What one batch is learned from.
#[derive(Default)]
pub struct Lesson {
    /// What the layers that learn take, `[N, H, W, C]`: pictures, or [`Learner::features`] of them.
    pub input: Vec<f32>,
    /// Classes.
    pub labels: Vec<usize>,
    /// Where pictures were mixed, the classes of the other ones, and the share of each picture that is its own.
    pub others: Option<(Vec<usize>, f32)>,
    /// The teacher's logits `[N, classes]`, row by row; where its features are learned, those, `[N, H, W, C]`.
    pub teacher: Option<Vec<f32>>,
}

/// What a step reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Loss of the batch.
    pub loss: f64,
    /// Share of the pictures that the network got right; where features are learned, share of their variance that it explains.
    pub right: f64,
    /// Mean size of a picture's codes, as an ideal entropy coder would send them; 0 without a quantiser.
    pub bytes: f64,
}

/// Quantises features on their way, as they are served.
struct Served<'a>(Option<&'a Quantizer>);

impl Observer for Served<'_> {
    fn forward(&mut self, node: usize, output: &mut [f32]) {
        if let Some(quantizer) = self.0.filter(|it| it.node == node) {
            quantizer.apply(output);
        }
    }
}

/// Watches features on their way while they are learned from: quantises them, counts their codes, and scores channels.
struct Watch<'a> {
    quantizer: Option<&'a mut Quantizer>,
    /// Before they were quantised.
    features: Vec<f32>,
    /// Mean of a code.
    bits: f64,
    scores: Option<&'a mut Scores>,
}

impl<'a> Watch<'a> {
    fn of(quantizer: Option<&'a mut Quantizer>, scores: Option<&'a mut Scores>) -> Self {
        Self {
            quantizer,
            features: Vec::new(),
            bits: 0.0,
            scores,
        }
    }
}

impl Observer for Watch<'_> {
    fn forward(&mut self, node: usize, output: &mut [f32]) {
        if let Some(quantizer) = self.quantizer.as_mut().filter(|it| it.node == node) {
            self.features.clear();
            self.features.extend_from_slice(output);
            quantizer.observe(output);
            quantizer.apply(output);
        }
    }

    fn backward(&mut self, node: usize, output: &[f32], slope: &mut [f32]) {
        if let Some(scores) = &mut self.scores {
            scores.add(node, output, slope);
        }
        if let Some(quantizer) = self.quantizer.as_ref().filter(|it| it.node == node) {
            quantizer.stop_where_clipped(&self.features, slope);
            self.bits = quantizer.add_rate(&self.features, slope);
        }
    }
}

impl Learner {
    /// A learner of a part of a network, without memory of earlier steps.
    pub fn new(graph: &Graph, part: Part, learning: &Learning) -> anyhow::Result<Self> {
        let (before, behind) = part.until.and_then(|it| graph.split_at(it)).unzip();
        let graph = before.as_ref().unwrap_or(graph);
        let halves = part.behind.and_then(|it| graph.split_at(it));
        let (trunk, learns) = match &halves {
            Some((trunk, learns)) => (Some(trunk), learns),
            None => (None, graph),
        };
        let trunk = trunk.map(|graph| {
            let inference = Inference::new(graph)?;
            anyhow::Ok(Trunk {
                graph: graph.clone(),
                inference,
            })
        });
        Ok(Self {
            trunk: trunk.transpose()?,
            network: Network::new(learns),
            behind,
            quantizer: None,
            optimizer: Momentum::new(learning.momentum as f32, learning.weight_decay as f32)
                .with_sparsity(learning.sparsity as f32),
            average: Average::default(),
        })
    }

    /// The network as it is now. Fails where weights are not finite any more.
    pub fn graph(&self) -> anyhow::Result<Graph> {
        self.whole(self.network.graph()?)
    }

    /// Whether a mean of the weights is taken.
    pub fn has_average(&self) -> bool {
        !self.average.values().is_empty()
    }

    /// The network with the mean of its weights over the last steps, as far as one is taken, with batch norm's moments of these batches of
    /// [`features`](Self::features): those that went by belong to other weights. Fails where weights are not finite any more.
    pub fn averaged(&mut self, batches: &[Vec<f32>]) -> anyhow::Result<Graph> {
        if !self.has_average() {
            return self.graph();
        }
        let average = self.average.clone();
        self.average.swap(&mut self.network);
        let mut served = Served(self.quantizer.as_ref());
        self.network.estimate_moments(batches, &mut served);
        let mean = self.network.graph();
        self.average.swap(&mut self.network);
        // Without the moments: measuring changes nothing that is remembered.
        self.average = average;
        self.whole(mean?)
    }

    /// The layers that stay as they are, and between them those that learn.
    fn whole(&self, learned: Graph) -> anyhow::Result<Graph> {
        let mut whole = match &self.trunk {
            Some(trunk) => trunk.graph.clone().then(learned)?,
            None => learned,
        };
        if let Some(behind) = &self.behind {
            whole = whole.then(behind.clone())?;
        }
        Ok(whole)
    }

    /// Values of one image that the layers that learn take.
    pub fn input_values(&self) -> usize {
        self.network.input().values()
    }

    /// Number of nodes that stay as they are, before those that learn.
    pub fn frozen_nodes(&self) -> usize {
        self.trunk.as_ref().map_or(0, |it| it.graph.nodes().len())
    }

    /// The layers that learn, as they are now.
    pub fn learned(&self) -> anyhow::Result<Graph> {
        Ok(self.network.graph()?)
    }

    /// Goes on with other layers in place of those that learn, after channels were removed; the momentum is forgotten.
    pub fn replace(&mut self, learned: &Graph) {
        self.network = Network::new(learned);
        self.optimizer.remember(Vec::new());
        self.average = Average::default();
    }

    /// Puts a quantiser into the loop; what is known of how often codes are seen stays. Its node counts from the first that learns.
    pub fn set_quantizer(&mut self, mut quantizer: Quantizer) {
        if let Some(old) = &self.quantizer {
            quantizer.remember(old.prior());
        }
        self.quantizer = Some(quantizer);
    }

    /// What the layers that learn take of pictures `[N, H, W, 3]`.
    pub fn features(&self, pictures: Vec<f32>) -> anyhow::Result<Vec<f32>> {
        match &self.trunk {
            Some(trunk) => trunk.inference.run(&pictures),
            None => Ok(pictures),
        }
    }

    /// Learns from one batch; adds the scores of the learning layers' channels where they are wanted.
    pub fn step(&mut self, lesson: &Lesson, learning: &Learning, rate: f64, scores: Option<&mut Scores>) -> Report {
        let mut watch = Watch::of(self.quantizer.as_mut(), scores);
        let pass = self.network.pass(&lesson.input, &mut watch);
        let (loss, slope, right) = match (&self.behind, &lesson.teacher) {
            (Some(_), Some(features)) => {
                let channels = self.network.output().channels();
                let (loss, slope) = mismatch(pass.output(), features, channels);
                (loss, slope, (1.0 - loss).max(0.0))
            }
            _ => {
                let right = right(pass.output(), &lesson.labels) as f64 / lesson.labels.len().max(1) as f64;
                let (loss, slope) = loss(pass.output(), lesson, learning);
                (loss, slope, right)
            }
        };
        self.network.update_moments(&pass, BLEND);
        let gradients = self.network.backward(pass, slope, &mut watch);
        let penalty = watch.quantizer.as_ref().map_or(0.0, |it| it.rate_penalty);
        let bits = watch.bits * watch.features.len() as f64 / lesson.labels.len().max(1) as f64;
        let loss = loss + penalty * watch.bits;
        self.optimizer.step(&mut self.network, &gradients, rate as f32);
        Report {
            loss,
            right,
            bytes: bits / 8.0,
        }
    }

    /// Takes what the last step has led to into the mean of the weights, which is over about `span` steps.
    pub fn take_average(&mut self, span: f64) {
        self.average.add(&mut self.network, span);
    }

    /// What is remembered besides the weights, as tensors to save.
    pub fn memory(&self) -> Tensors {
        let numbered = |name: &str, all: &[Vec<f32>]| -> Tensors {
            let tensors = all.iter().enumerate();
            tensors.map(|(at, it)| (format!("{name}{at:04}"), flat(it))).collect()
        };
        let mut memory = numbered(VELOCITY, self.optimizer.velocity());
        memory.extend(numbered(AVERAGE, self.average.values()));
        memory.extend(self.quantizer.iter().map(|it| (PRIOR.to_owned(), flat(it.prior()))));
        memory
    }

    /// Takes up what was saved after so many steps of averaging.
    pub fn remember(&mut self, memory: Memory, steps: u64) {
        self.optimizer.remember(memory.velocity);
        self.average = Average::new(memory.average, steps);
        if let (Some(quantizer), Some(prior)) = (&mut self.quantizer, &memory.prior) {
            quantizer.remember(prior);
        }
    }
}

/// What a learner remembers besides weights, as it was saved.
#[derive(Default)]
pub struct Memory {
    velocity: Vec<Vec<f32>>,
    average: Vec<Vec<f32>>,
    prior: Option<Vec<f32>>,
}

impl Memory {
    /// Takes it out of a state's tensors.
    pub fn take(tensors: &mut Tensors) -> Self {
        let mut take = |name: &str| {
            let taken = tensors.extract_if(name.to_owned().., |it, _| it.starts_with(name));
            taken.map(|it| it.1.values).collect()
        };
        Self {
            velocity: take(VELOCITY),
            average: take(AVERAGE),
            prior: tensors.remove(PRIOR).map(|it| it.values),
        }
    }
}

fn flat(values: &[f32]) -> NamedTensor {
    NamedTensor {
        shape: vec![values.len()],
        values: values.to_vec(),
    }
}

/// Cross entropy with smoothed labels, and with the teacher's softened probabilities; and its slope by the logits.
fn loss(logits: &[f32], lesson: &Lesson, learning: &Learning) -> (f64, Vec<f32>) {
    let classes = logits.len() / lesson.labels.len().max(1);
    let smoothing = learning.label_smoothing as f32;
    let mut targets = smoothed(&lesson.labels, classes, smoothing);
    if let Some((others, own)) = &lesson.others {
        for (target, other) in targets.iter_mut().zip(smoothed(others, classes, smoothing)) {
            *target = *target * own + other * (1.0 - own);
        }
    }
    let (by_label, mut slope) = cross_entropy(logits, &targets, classes);
    let Some(teacher) = &lesson.teacher else {
        return (by_label, slope);
    };
    let temperature = learning.temperature;
    let softened: Vec<f32> = teacher
        .chunks_exact(classes)
        .flat_map(|row| softmax(row, temperature))
        .collect();
    let cooled: Vec<f32> = logits.iter().map(|it| it / temperature as f32).collect();
    let (by_teacher, by_teacher_slope) = match (learning.decoupled, &lesson.others) {
        (Some(others), None) => decoupled_cross_entropy(&cooled, &softened, &lesson.labels, classes, others as f32),
        _ => cross_entropy(&cooled, &softened, classes),
    };
    // The softened loss's gradient shrinks with the square of the temperature (Hinton et al. 2015).
    let share = learning.teacher_share;
    let weight = share * temperature * temperature;
    for (slope, by_teacher) in slope.iter_mut().zip(by_teacher_slope) {
        *slope = *slope * (1.0 - share) as f32 + by_teacher * (weight / temperature) as f32;
    }
    (by_label * (1.0 - share) + by_teacher * weight, slope)
}

/// The mean squared difference of features `[N, H, W, C]`, in each channel as a share of the variance of those that are `wanted`; and its slope.
fn mismatch(features: &[f32], wanted: &[f32], channels: usize) -> (f64, Vec<f32>) {
    let positions = (wanted.len() / channels.max(1)).max(1) as f64;
    let (mut sums, mut squares) = (vec![0.0_f64; channels], vec![0.0_f64; channels]);
    for wanted in wanted.chunks_exact(channels) {
        for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(wanted) {
            *sum += f64::from(*value);
            *square += f64::from(value * value);
        }
    }
    let variances = sums.iter().zip(&squares).map(|(sum, square)| {
        let mean = sum / positions;
        (square / positions - mean * mean).max(LEAST_VARIANCE)
    });
    let weights: Vec<f32> = variances
        .map(|it| (1.0 / (it * positions * channels as f64)) as f32)
        .collect();
    let (mut loss, mut slope) = (0.0, Vec::with_capacity(features.len()));
    for (features, wanted) in features.chunks_exact(channels).zip(wanted.chunks_exact(channels)) {
        for ((value, wanted), weight) in features.iter().zip(wanted).zip(&weights) {
            let difference = value - wanted;
            loss += f64::from(difference * difference * weight);
            slope.push(2.0 * difference * weight);
        }
    }
    (loss, slope)
}

fn softmax(row: &[f32], temperature: f64) -> Vec<f32> {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = row
        .iter()
        .map(|value| (f64::from(value - greatest) / temperature).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| (power / sum) as f32).collect()
}

/// Rows of `logits` whose largest entry is the label's.
fn right(logits: &[f32], labels: &[usize]) -> usize {
    let classes = logits.len() / labels.len().max(1);
    let rows = logits.chunks_exact(classes.max(1)).zip(labels);
    rows.filter(|(row, label)| largest(row) == **label).count()
}

/// Place of the largest logit, the first of equal ones: the class that the edge worker puts first too.
pub fn largest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, at| if logits[at] > logits[best] { at } else { best })
}

/// A network's answers, through its quantiser if it was trained with one.
struct Answers {
    head: Inference,
    quantizer: Option<(Quantizer, Inference)>,
}

impl Answers {
    fn of(checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        let graph = &checkpoint.graph;
        let cut = checkpoint.description.quantizer.as_ref().and_then(|it| {
            let node = graph.cut_point(&it.split)?.node;
            Some((Quantizer::new(it, node, 0.0), graph.split_at(node)?))
        });
        Ok(match cut {
            Some((quantizer, (head, tail))) => Self {
                head: Inference::new(&head)?,
                quantizer: Some((quantizer, Inference::new(&tail)?)),
            },
            None => Self {
                head: Inference::new(graph)?,
                quantizer: None,
            },
        })
    }

    fn to(&self, pictures: &[f32]) -> anyhow::Result<Vec<f32>> {
        let mut features = self.head.run(pictures)?;
        match &self.quantizer {
            Some((quantizer, tail)) => {
                quantizer.apply(&mut features);
                tail.run(&features)
            }
            None => Ok(features),
        }
    }
}

/// Logits `[pictures, classes]` of all pictures, as they are served; `done` hears how many are ready.
pub fn logits(
    checkpoint: &Checkpoint,
    data: &Dataset,
    mirrored: bool,
    mut done: impl FnMut(usize),
) -> anyhow::Result<Vec<f32>> {
    let answers = Answers::of(checkpoint)?;
    let description = &checkpoint.description;
    let mut all = Vec::with_capacity(data.len() * description.classes.len());
    let mut count = 0;
    each_batch(
        data,
        EVALUATION_BATCH,
        mirrored,
        (description.mean, description.std),
        |pictures, values| {
            all.extend(answers.to(&values)?);
            count += pictures;
            done(count);
            Ok(())
        },
    )?;
    Ok(all)
}

/// Features `[pictures, H, W, C]` that a network has at a node.
pub fn features(checkpoint: &Checkpoint, node: usize, data: &Dataset) -> anyhow::Result<Vec<f32>> {
    let graph = &checkpoint.graph;
    let head = match graph.split_at(node) {
        Some((head, _)) => Inference::new(&head)?,
        None => Inference::new(graph)?,
    };
    let normalization = (checkpoint.description.mean, checkpoint.description.std);
    let mut all = Vec::with_capacity(data.len() * graph.shape(Source::Node(node)).values());
    each_batch(data, EVALUATION_BATCH, false, normalization, |_, values| {
        all.extend(head.run(&values)?);
        Ok(())
    })?;
    Ok(all)
}

/// Calls `each` with the number and the values of a batch of pictures at a time, until it had all.
pub fn each_batch(
    data: &Dataset,
    batch: usize,
    mirrored: bool,
    normalization: augment::Normalization,
    mut each: impl FnMut(usize, Vec<f32>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let view = View {
        mirrored,
        ..View::PLAIN
    };
    let batches = (0..data.len()).step_by(batch).map(|start| {
        let end = data.len().min(start + batch);
        Batch::plain((start..end).map(|index| (index, view)).collect())
    });
    augment::batches(data, batches, normalization, |batch, values| {
        each(batch.pictures.len(), values)
    })
}

/// How many of each class's pictures a network gets right, as it is served.
pub fn measure(checkpoint: &Checkpoint, data: &Dataset) -> anyhow::Result<Score> {
    let classes = checkpoint.description.classes.len();
    let all = logits(checkpoint, data, false, |_| ())?;
    let mut score = Score::none_of(data.counts());
    for (index, row) in all.chunks_exact(classes).enumerate() {
        let label = data.label(index);
        score.right[label] += usize::from(largest(row) == label);
    }
    Ok(score)
}

/// Pictures of each class that were recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Recognised.
    pub right: Vec<usize>,
    /// In all.
    pub of: Vec<usize>,
}

impl Score {
    /// None recognised of so many pictures of each class.
    pub fn none_of(of: Vec<usize>) -> Self {
        Self {
            right: vec![0; of.len()],
            of,
        }
    }

    /// Top-1 accuracy in percent.
    pub fn accuracy(&self) -> f64 {
        percent(self.right.iter().sum(), self.of.iter().sum())
    }

    /// Accuracy in percent of always giving the answer that is right most often.
    pub fn chance(&self) -> f64 {
        percent(self.of.iter().copied().max().unwrap_or(0), self.of.iter().sum())
    }

    /// Whether hardly more is recognised than always the same answer would: by [`LEAST_KNOWLEDGE`], and by more than luck gives with so many
    /// pictures, two standard deviations.
    pub fn knows_next_to_nothing(&self) -> bool {
        let chance = self.chance() / 100.0;
        let pictures = self.of.iter().sum::<usize>().max(1) as f64;
        let luck = 2.0 * (chance * (1.0 - chance) / pictures).sqrt();
        self.accuracy() / 100.0 < chance + luck.max(LEAST_KNOWLEDGE * (1.0 - chance))
    }

    /// Accuracy of each class that has pictures, the worst first.
    pub fn by_class(&self) -> Vec<(usize, f64)> {
        let classes = self.right.iter().zip(&self.of).enumerate();
        let known = classes.filter(|it| *it.1.1 > 0);
        let mut all: Vec<(usize, f64)> = known.map(|(at, (right, of))| (at, percent(*right, *of))).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        all
    }
}

fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::FeatureQuantizer;

    #[test]
    fn measuring_changes_nothing_that_is_learned_from() {
        let Checkpoint { description, graph } = Checkpoint::toy([8; 5]);
        let learning = Learning::default();
        let mut learner = Learner::new(&graph, Part::default(), &learning).unwrap();
        let node = graph.cut_point("pool2").unwrap().node;
        let quantizer = FeatureQuantizer {
            split: "pool2".into(),
            bits: 3,
            steps: vec![0.1; 8],
            centres: Vec::new(),
        };
        learner.set_quantizer(Quantizer::new(&quantizer, node, 0.1));
        let data = Dataset::toy(12);
        let batch = Batch::plain((0..data.len()).map(|it| (it, View::PLAIN)).collect());
        let input = batch.values(&data, (description.mean, description.std)).unwrap();
        let lesson = Lesson {
            input: input.clone(),
            labels: (0..data.len()).map(|it| data.label(it)).collect(),
            ..Lesson::default()
        };
        learner.step(&lesson, &learning, 0.01, None);
        learner.take_average(10.0);
        let before = (learner.memory(), learner.graph().unwrap());
        assert!(
            learner.averaged(&[input]).unwrap() != before.1,
            "batch norm is estimated anew"
        );
        assert!((learner.memory(), learner.graph().unwrap()) == before);
    }

    #[test]
    fn a_mismatch_is_a_share_of_the_variance_and_its_slope_that_of_differences() {
        let wanted = [1.0, 10.0, 3.0, 30.0, 5.0, 50.0];
        let means = [3.0, 30.0, 3.0, 30.0, 3.0, 30.0];
        assert!(mismatch(&wanted, &wanted, 2).0.abs() < 1e-9);
        // As much as if only the mean were known.
        assert!((mismatch(&means, &wanted, 2).0 - 1.0).abs() < 1e-6);
        let features = [2.0, 11.0, 2.5, 33.0, 5.0, 40.0];
        let (_, slope) = mismatch(&features, &wanted, 2);
        for at in 0..features.len() {
            let loss = |by: f32| {
                let mut moved = features;
                moved[at] += by;
                mismatch(&moved, &wanted, 2).0
            };
            let seen = (loss(0.01) - loss(-0.01)) / 0.02;
            assert!((seen - f64::from(slope[at])).abs() < 1e-3, "{at}: {seen} {slope:?}");
        }
    }

    #[test]
    fn argmax_breaks_ties_like_the_edge_worker() {
        for logits in [&[1.0, 3.0, 3.0][..], &[2.0, 2.0], &[-1.0, -3.0, -1.0]] {
            let said = split_core::top_classes(logits)[0].class;
            assert_eq!(largest(logits), usize::from(said), "{logits:?}");
        }
    }

    #[test]
    fn scores_are_compared_with_chance() {
        let score = |right: [usize; 3]| Score {
            right: right.to_vec(),
            of: vec![10, 20, 10],
        };
        assert_eq!((score([4, 18, 8]).accuracy(), score([4, 18, 8]).chance()), (75.0, 50.0));
        assert_eq!(score([4, 18, 8]).by_class(), [(0, 40.0), (2, 80.0), (1, 90.0)]);
        assert!(score([1, 18, 1]).knows_next_to_nothing());
        assert!(!score([4, 18, 8]).knows_next_to_nothing());
        // The same shares of more pictures say more.
        let of_many = |factor: usize| Score {
            right: [3 * factor, 3 * factor].into(),
            of: [4 * factor, 4 * factor].into(),
        };
        assert!(of_many(1).knows_next_to_nothing() && !of_many(4).knows_next_to_nothing());
    }
}
