//! One step of stochastic gradient descent, and measuring accuracy.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData, activation::log_softmax};

use crate::augment::{self, View};
use crate::checkpoint::NamedTensor;
use crate::data::{DataError, Dataset};
use crate::model::{Lifted, Network, values};
use crate::prune::add_scores;
use crate::quantize::Quantizer;
use crate::settings::Learning;

/// Batch size when nothing is learned.
const EVALUATION_BATCH: usize = 250;

/// Share of what chance leaves that a network must get right to be of any use.
pub const LEAST_KNOWLEDGE: f64 = 0.15;

/// Nesterov momentum's memory, one tensor a parameter, in the order [`Learner::step`] visits them.
type Velocity = Vec<Option<Vec<f32>>>;

/// A network being trained.
pub struct Learner {
    /// The network.
    pub network: Network,
    /// Number of the first block that learns; those before it stay as they are.
    pub first: usize,
    /// Quantiser in the loop.
    pub quantizer: Option<Quantizer>,
    /// Weight of the mean code in the loss.
    pub rate_penalty: f64,
    velocity: Velocity,
}

/// What one batch is learned from.
pub struct Lesson {
    /// Pictures `[N, H, W, 3]`.
    pub pictures: Tensor<4>,
    /// Classes.
    pub labels: Vec<usize>,
    /// The teacher's logits `[N, classes]`, row by row.
    pub teacher: Option<Vec<f32>>,
}

/// What a step reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Loss of the batch.
    pub loss: f64,
    /// Pictures of it that the network got right.
    pub right: usize,
}

impl Learner {
    /// A learner without memory of earlier steps.
    pub fn new(network: Network, first: usize) -> Self {
        Self {
            network,
            first,
            quantizer: None,
            rate_penalty: 0.0,
            velocity: Vec::new(),
        }
    }

    /// Forgets the momentum, as must be after filters were removed.
    pub fn forget(&mut self) {
        self.velocity.clear();
    }

    /// Learns from one batch; adds the filters' scores (one list per block) where they are wanted.
    pub fn step(
        &mut self,
        lesson: &Lesson,
        learning: &Learning,
        rate: f64,
        scores: Option<&mut Vec<Vec<f64>>>,
    ) -> Report {
        let input = self.network.run_blocks(lesson.pictures.clone(), 0..self.first);
        let lifted = self.network.lift(self.first);
        let pass = self.network.train(input, &lifted, self.quantizer.as_ref());
        let mut loss = loss(&pass.logits, lesson, learning);
        if let (Some(features), true) = (pass.features, self.rate_penalty > 0.0) {
            loss = loss + self.rate(features) * self.rate_penalty;
        }
        let report = Report {
            loss: f64::from(values(&loss)[0]),
            right: right(&pass.logits.clone().inner(), &lesson.labels),
        };
        let gradients = loss.backward();
        if let Some(scores) = scores {
            self.score(&lifted, &gradients, lesson.labels.len(), scores);
        }
        self.descend(&lifted, &gradients, learning, rate);
        self.network.update_moments(&lifted, lesson.labels.len());
        report
    }

    /// Mean of log₂(1 + code), which follows the bits an entropy coder spends more closely than the code itself.
    fn rate(&self, features: Tensor<4>) -> Tensor<1> {
        match &self.quantizer {
            Some(quantizer) => ((quantizer.codes(features) + 1.0).log() * std::f64::consts::LOG2_E).mean(),
            None => features.mean() * 0.0,
        }
    }

    fn score(&self, lifted: &Lifted, gradients: &burn::tensor::Gradients, batch: usize, scores: &mut Vec<Vec<f64>>) {
        scores.resize(self.network.blocks.len(), Vec::new());
        let [_, mut height, mut width] = self.network.description().input;
        for (index, block) in self.network.blocks.iter().enumerate() {
            if let Some((_, scale, shift)) = index.checked_sub(self.first).and_then(|at| lifted.blocks.get(at)) {
                let slopes = [scale, shift].map(|leaf| leaf.grad(gradients).map(|it| values(&it)).unwrap_or_default());
                scores[index].resize(block.moments.mean.len(), 0.0);
                let (scale, shift) = (values(&block.scale), values(&block.shift));
                add_scores(
                    &mut scores[index],
                    &scale,
                    &shift,
                    (&slopes[0], &slopes[1]),
                    batch * height * width,
                );
            }
            if block.pool {
                (height, width) = (height / 2, width / 2);
            }
        }
    }

    fn descend(&mut self, lifted: &Lifted, gradients: &burn::tensor::Gradients, learning: &Learning, rate: f64) {
        let mut descent = Descent {
            velocity: &mut self.velocity,
            at: 0,
            learning,
            rate,
        };
        for (block, (weight, scale, shift)) in self.network.blocks[self.first..].iter_mut().zip(&lifted.blocks) {
            descent.update(&mut block.weight, weight, gradients);
            descent.update(&mut block.scale, scale, gradients);
            descent.update(&mut block.shift, shift, gradients);
        }
        descent.update(&mut self.network.classifier, &lifted.classifier.0, gradients);
        descent.update(&mut self.network.bias, &lifted.classifier.1, gradients);
    }

    /// The momentum as tensors to save.
    pub fn memory(&self) -> BTreeMap<String, NamedTensor> {
        let tensors = self.velocity.iter().enumerate().filter_map(|(at, values)| {
            let values = values.clone()?;
            Some((
                format!("velocity.{at:03}"),
                NamedTensor {
                    shape: vec![values.len()],
                    values,
                },
            ))
        });
        tensors.collect()
    }

    /// Takes up saved momentum.
    pub fn remember(&mut self, memory: BTreeMap<String, NamedTensor>) {
        self.velocity = memory.into_values().map(|tensor| Some(tensor.values)).collect();
    }
}

/// Goes through the parameters of one step.
struct Descent<'a> {
    velocity: &'a mut Velocity,
    at: usize,
    learning: &'a Learning,
    rate: f64,
}

impl Descent<'_> {
    fn update<const D: usize>(
        &mut self,
        parameter: &mut Tensor<D>,
        leaf: &Tensor<D>,
        gradients: &burn::tensor::Gradients,
    ) {
        if self.velocity.len() <= self.at {
            self.velocity.push(None);
        }
        if let Some(gradient) = leaf.grad(gradients) {
            let (mut weights, slopes) = (values(parameter), values(&gradient));
            let velocity = self.velocity[self.at].get_or_insert_with(|| vec![0.0; weights.len()]);
            let (momentum, rate) = (self.learning.momentum as f32, self.rate as f32);
            // Batch norm's parameters and biases are not decayed.
            let decay = if D > 1 { self.learning.weight_decay as f32 } else { 0.0 };
            for ((weight, slope), velocity) in weights.iter_mut().zip(&slopes).zip(velocity) {
                let slope = slope + decay * *weight;
                *velocity = momentum * *velocity + slope;
                *weight -= rate * (slope + momentum * *velocity);
            }
            *parameter = Tensor::from_data(TensorData::new(weights, parameter.dims()), &parameter.device());
        }
        self.at += 1;
    }
}

/// Cross entropy with smoothed labels, and with the teacher's softened probabilities.
fn loss(logits: &Tensor<2>, lesson: &Lesson, learning: &Learning) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let device = logits.device().inner();
    let constant = |values: Vec<f32>| {
        Tensor::<2>::from_inner(Tensor::from_data(TensorData::new(values, [batch, classes]), &device))
    };
    let smoothing = learning.label_smoothing as f32;
    let mut target = vec![smoothing / classes as f32; batch * classes];
    for (row, label) in lesson.labels.iter().enumerate() {
        target[row * classes + label] += 1.0 - smoothing;
    }
    let cross_entropy =
        |logits: Tensor<2>, target: Vec<f32>| (log_softmax(logits, 1) * constant(target)).sum() * (-1.0 / batch as f64);
    let by_label = cross_entropy(logits.clone(), target);
    let Some(teacher) = &lesson.teacher else {
        return by_label;
    };
    let softened = teacher
        .chunks_exact(classes)
        .flat_map(|row| softmax(row, learning.temperature))
        .collect();
    let by_teacher = cross_entropy(logits.clone() * (1.0 / learning.temperature), softened);
    // The softened loss's gradient shrinks with the square of the temperature (Hinton et al. 2015).
    let weight = learning.teacher_share * learning.temperature * learning.temperature;
    by_label * (1.0 - learning.teacher_share) + by_teacher * weight
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
fn right(logits: &Tensor<2>, labels: &[usize]) -> usize {
    let classes = logits.dims()[1];
    let all = values(logits);
    all.chunks_exact(classes)
        .zip(labels)
        .filter(|(row, label)| largest(row) == **label)
        .count()
}

/// Place of the largest logit, the first of equal ones: the class that the edge worker puts first too.
pub fn largest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, at| if logits[at] > logits[best] { at } else { best })
}

/// Logits `[pictures, classes]` of all pictures, batch norm in evaluation mode; `done` hears how many are ready.
pub fn logits(
    network: &Network,
    quantizer: Option<&Quantizer>,
    data: &Dataset,
    mirrored: bool,
    mut done: impl FnMut(usize),
) -> Result<Vec<f32>, DataError> {
    let device: Device = network.bias.device();
    let normalization = (network.description().mean, network.description().std);
    let view = View {
        mirrored,
        ..View::PLAIN
    };
    let batches = (0..data.len()).step_by(EVALUATION_BATCH).map(|start| {
        let end = data.len().min(start + EVALUATION_BATCH);
        (start..end).map(|index| (index, view)).collect()
    });
    let mut all = Vec::with_capacity(data.len() * network.description().classes.len());
    let mut count = 0;
    augment::batches(data, batches, normalization, &device, |pictures, batch| {
        all.extend(values(&network.evaluate(batch, 0, quantizer)));
        count += pictures.len();
        done(count);
        Ok::<(), DataError>(())
    })?;
    Ok(all)
}

/// How many of each class's pictures a network gets right, batch norm in evaluation mode.
pub fn measure(network: &Network, quantizer: Option<&Quantizer>, data: &Dataset) -> Result<Score, DataError> {
    let classes = network.description().classes.len();
    let all = logits(network, quantizer, data, false, |_| ())?;
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

    /// Whether hardly more is recognised than by chance.
    pub fn knows_next_to_nothing(&self) -> bool {
        let chance = self.chance();
        self.accuracy() < chance + LEAST_KNOWLEDGE * (100.0 - chance)
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

    #[test]
    fn of_equal_logits_the_first_is_the_answer_as_in_what_the_edge_worker_says() {
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
    }
}
