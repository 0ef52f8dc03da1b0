//! Removing filters, and the order in which they go.

use burn::tensor::{Device, Tensor};

use super::*;
use crate::augment::{self, View};
use crate::data::Dataset;
use crate::learn::{self, Learner, Lesson};
use crate::model::{Network, values};
use crate::network::Description;
use crate::settings::Learning;

fn logits(checkpoint: &Checkpoint) -> Vec<f32> {
    let network = Network::from_checkpoint(checkpoint, &Device::flex()).unwrap();
    learn::logits(&network, None, &Dataset::toy(12), false, |_| ()).unwrap()
}

/// Largest difference, against the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let greatest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |a: f32, b| a.max(b.abs()));
    greatest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / greatest(&mut a.iter().copied())
}

/// The checkpoint with the weights of some filters at zero, and the batch norm that such filters have.
fn silence(checkpoint: &Checkpoint, block: usize, filters: &[usize]) -> Checkpoint {
    let mut convolutions = checkpoint
        .description()
        .layers()
        .unwrap()
        .into_iter()
        .filter_map(|it| match it {
            LayerSpec::Convolution { position, .. } => Some(position),
            _ => None,
        });
    let position = convolutions.nth(block).unwrap();
    let mut tensors = checkpoint.tensors().clone();
    for name in [
        format!("features.{position}.weight"),
        format!("features.{}.bias", position + 1),
        format!("features.{}.running_mean", position + 1),
    ] {
        let tensor = tensors.get_mut(&name).unwrap();
        let per_filter = tensor.values.len() / tensor.shape[0];
        for filter in filters {
            tensor.values[filter * per_filter..][..per_filter].fill(0.0);
        }
    }
    Checkpoint::new(checkpoint.description().clone(), tensors).unwrap()
}

#[test]
fn removing_filters_whose_weights_are_zero_changes_no_output() {
    let full = Checkpoint::toy([6; 5]);
    for block in 0..5 {
        let silenced = silence(&full, block, &[1, 4]);
        let pruned = keep_filters(&silenced, block, &[0, 2, 3, 5]).unwrap();
        assert_eq!(pruned.description().widths[block], 4);
        assert!(difference(&logits(&silenced), &logits(&pruned)) < 1e-5, "block {block}");
        let others = keep_filters(&silenced, block, &[1, 2, 3, 4]).unwrap();
        assert!(difference(&logits(&silenced), &logits(&others)) > 1e-3, "block {block}");
    }
}

/// A network on one batch: what scores and ablation see.
struct Scene {
    learner: Learner,
    lesson: Lesson,
    learning: Learning,
}

impl Scene {
    fn new(checkpoint: &Checkpoint) -> Self {
        let data = Dataset::toy(48);
        let views: Vec<(usize, View)> = (0..data.len()).map(|it| (it, View::PLAIN)).collect();
        let Description { mean, std, .. } = checkpoint.description();
        Self {
            learner: Learner::new(Network::from_checkpoint(checkpoint, &Device::flex()).unwrap(), 0),
            lesson: Lesson {
                pictures: augment::batch(&data, &views, (*mean, *std), &Device::flex()).unwrap(),
                labels: (0..data.len()).map(|it| data.label(it)).collect(),
                teacher: None,
            },
            learning: Learning::default(),
        }
    }

    /// One step that changes no weight.
    fn scores(&mut self) -> Vec<Vec<f64>> {
        let mut scores = Vec::new();
        self.learner.step(&self.lesson, &self.learning, 0.0, Some(&mut scores));
        scores
    }

    /// Loss with the output of one filter multiplied by `factor`: what a filter gives is the positive part of `scale · x̂ + shift`.
    fn loss(&mut self, block: usize, filter: usize, factor: f32) -> f64 {
        let blocks = &mut self.learner.network.blocks[block];
        let before = (blocks.scale.clone(), blocks.shift.clone());
        for parameter in [&mut blocks.scale, &mut blocks.shift] {
            let mut changed = values(parameter);
            changed[filter] *= factor;
            *parameter = Tensor::from_data(changed.as_slice(), &parameter.device());
        }
        let loss = self.learner.step(&self.lesson, &self.learning, 0.0, None).loss;
        let blocks = &mut self.learner.network.blocks[block];
        (blocks.scale, blocks.shift) = before;
        loss
    }
}

#[test]
fn a_score_is_the_slope_of_the_loss_as_the_filter_closes() {
    let checkpoint = Checkpoint::toy([5; 5]);
    let mut scene = Scene::new(&checkpoint);
    let scores = scene.scores();
    let areas = [256.0, 64.0, 16.0, 16.0, 16.0];
    for (block, area) in areas.into_iter().enumerate() {
        let slopes: Vec<f64> = (0..5)
            .map(|filter| {
                // Wider steps reach the bends that ReLUs and pools put into the loss.
                let step = 0.001_f32;
                let loss = |scene: &mut Scene, sign| scene.loss(block, filter, 1.0 + sign * step);
                ((loss(&mut scene, 1.0) - loss(&mut scene, -1.0)) / f64::from(2.0 * step)).abs()
            })
            .collect();
        let by_score: Vec<f64> = scores[block].iter().map(|it| it * 48.0 * area).collect();
        let greatest = slopes.iter().copied().fold(0.0, f64::max);
        for (slope, score) in slopes.iter().zip(&by_score) {
            assert!(
                (slope - score).abs() < 0.05 * greatest,
                "block {block}: {slopes:?}, {by_score:?}"
            );
        }
    }
}

/// The criterion is of first order, so the network is one whose loss hardly bends: its classifier's weights are small.
#[test]
fn the_ranking_is_the_order_of_a_brute_force_ablation() {
    let checkpoint = Checkpoint::toy([4, 4, 4, 4, 10]);
    let mut tensors = checkpoint.tensors().clone();
    let classifier = tensors.get_mut("classifier.weight").unwrap();
    classifier.values.iter_mut().for_each(|it| *it *= 0.05);
    let checkpoint = Checkpoint::new(checkpoint.description().clone(), tensors).unwrap();
    let mut scene = Scene::new(&checkpoint);
    let scores = scene.scores();
    let whole = scene.loss(4, 0, 1.0);
    let damage: Vec<f64> = (0..10)
        .map(|filter| (scene.loss(4, filter, 0.0) - whole).abs())
        .collect();
    assert_eq!(order(&scores[4]), order(&damage), "{:?}, {damage:?}", scores[4]);

    // No other layer may get narrower, so the choice takes the least damaging filters of the last.
    for left in 4..10 {
        let mut description = checkpoint.description().clone();
        description.widths[4] = left;
        let target = description.macs().unwrap().iter().sum();
        let choice = Choice {
            multiple: 1,
            work_exponent: 0.25,
            least: 4,
        };
        let mut best = order(&damage)[..left].to_vec();
        best.sort_unstable();
        let kept = choose(&checkpoint, &scores, target, choice).unwrap();
        assert_eq!(kept[4], best);
        assert_eq!(kept[0], [0, 1, 2, 3]);
    }
}

/// Places of the values, the largest first.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

#[test]
fn the_choice_meets_its_target_in_whole_tiles() {
    let checkpoint = Checkpoint::toy([20, 24, 17, 16, 32]);
    let widths = &checkpoint.description().widths;
    let score = |layer: usize, filter: usize| (augment::mix((layer * 100 + filter) as u64) >> 40) as f64;
    let scores: Vec<Vec<f64>> = widths
        .iter()
        .enumerate()
        .map(|(layer, width)| (0..*width).map(|filter| score(layer, filter)).collect())
        .collect();
    let work: u64 = checkpoint.description().macs().unwrap().iter().sum();
    let choice = Choice {
        multiple: 8,
        work_exponent: 0.25,
        least: 8,
    };
    let kept = choose(&checkpoint, &scores, work / 2, choice).unwrap();
    let mut description = checkpoint.description().clone();
    description.widths = kept.iter().map(Vec::len).collect();
    assert!(description.macs().unwrap().iter().sum::<u64>() <= work / 2);
    for (left, before) in description.widths.iter().zip(widths) {
        assert!(left % 8 == 0 || left == before, "{:?}", description.widths);
    }
    for (kept, scores) in kept.iter().zip(&scores) {
        let mut best = order(scores)[..kept.len()].to_vec();
        best.sort_unstable();
        assert_eq!(*kept, best);
    }
}
