//! Removing channels, and the order in which they go.

use split_core::Shape;
use split_graph::{Architecture, sample};
use split_train::{Network, cross_entropy, smoothed};

use super::*;
use crate::augment::{Batch, View};
use crate::checkpoint::Checkpoint;
use crate::data::Dataset;
use crate::learn::{self, Learner, Lesson, Part};
use crate::settings::Learning;

/// A network on one batch: what scores and ablation see.
struct Scene {
    lesson: Lesson,
}

impl Scene {
    fn new(checkpoint: &Checkpoint) -> Self {
        let data = Dataset::toy(48);
        let batch = Batch::plain((0..data.len()).map(|it| (it, View::PLAIN)).collect());
        let normalization = (checkpoint.description.mean, checkpoint.description.std);
        Self {
            lesson: Lesson {
                input: batch.values(&data, normalization).unwrap(),
                labels: (0..data.len()).map(|it| data.label(it)).collect(),
                ..Lesson::default()
            },
        }
    }

    /// One step that changes no weight.
    fn scores(&self, graph: &Graph) -> Scores {
        let (mut scores, learning) = (Scores::none(graph), Learning::default());
        let mut learner = Learner::new(graph, Part::default(), &learning).unwrap();
        learner.step(&self.lesson, &learning, 0.0, Some(&mut scores));
        scores
    }

    /// Loss with the output of one channel of a node multiplied by `factor`.
    fn loss(&self, graph: &Graph, node: usize, channel: usize, factor: f32) -> f64 {
        struct Scale(usize, usize, usize, f32);
        impl split_train::Observer for Scale {
            fn forward(&mut self, node: usize, output: &mut [f32]) {
                let Self(at, channel, channels, factor) = *self;
                if node == at {
                    output
                        .iter_mut()
                        .skip(channel)
                        .step_by(channels)
                        .for_each(|it| *it *= factor);
                }
            }
        }
        let channels = graph.shape(Source::Node(node)).channels();
        let mut scale = Scale(node, channel, channels, factor);
        let pass = Network::new(graph).pass(&self.lesson.input, &mut scale);
        let classes = graph.output().channels();
        let smoothing = Learning::default().label_smoothing as f32;
        cross_entropy(
            pass.output(),
            &smoothed(&self.lesson.labels, classes, smoothing),
            classes,
        )
        .0
    }
}

/// The activations of a chain, in order.
fn activations(graph: &Graph) -> Vec<usize> {
    let nodes = graph.nodes().iter().enumerate();
    nodes
        .filter(|it| matches!(it.1.op, Op::Activation(_)))
        .map(|it| it.0)
        .collect()
}

#[test]
fn a_score_is_the_slope_of_the_loss_as_the_channel_closes() {
    let checkpoint = Checkpoint::toy([5; 5]);
    let graph = &checkpoint.graph;
    let scene = Scene::new(&checkpoint);
    let scores = scene.scores(graph);
    for (node, group) in activations(graph).into_iter().zip(scores.channels.groups()) {
        let slopes: Vec<f64> = (0..5)
            .map(|channel| {
                // Wider steps reach the bends that ReLUs and pools put into the loss.
                let step = 0.001_f32;
                let loss = |sign: f32| scene.loss(graph, node, channel, 1.0 + sign * step);
                ((loss(1.0) - loss(-1.0)) / f64::from(2.0 * step)).abs()
            })
            .collect();
        let positions = (48 * graph.shape(Source::Node(node)).positions()) as f64;
        let by_score: Vec<f64> = group.units.iter().map(|it| scores.sums[*it] * positions).collect();
        let greatest = slopes.iter().copied().fold(0.0, f64::max);
        for (slope, score) in slopes.iter().zip(&by_score) {
            assert!(
                (slope - score).abs() < 0.05 * greatest,
                "{}: {slopes:?}, {by_score:?}",
                group.name
            );
        }
    }
}

/// The criterion is of first order, so the network is one whose loss hardly bends: its classifier's weights are small.
#[test]
fn the_ranking_is_the_order_of_a_brute_force_ablation() {
    let mut nodes = Checkpoint::toy([4, 4, 4, 4, 10]).graph.into_nodes();
    if let Some(Op::Linear(classifier)) = nodes.last_mut().map(|it| &mut it.op) {
        classifier.weight.iter_mut().for_each(|it| *it *= 0.05);
    }
    let graph = Graph::new(Shape::new(3, 16, 16).unwrap(), nodes).unwrap();
    let scene = Scene::new(&Checkpoint::toy([4; 5]));
    let scores = scene.scores(&graph);
    let last = activations(&graph)[4];
    let whole = scene.loss(&graph, last, 0, 1.0);
    let damage: Vec<f64> = (0..10)
        .map(|it| (scene.loss(&graph, last, it, 0.0) - whole).abs())
        .collect();
    let group = &scores.channels.groups()[4];
    let by_score: Vec<f64> = group.units.iter().map(|it| scores.sums[*it]).collect();
    assert_eq!(order(&by_score), order(&damage), "{by_score:?}, {damage:?}");

    // Step 2 keeps the most valuable channels, in their order.
    for width in 1..10 {
        let mut best = order(&damage)[..width].to_vec();
        best.sort_unstable();
        let narrowed = narrow(&graph, &scores, last, width).unwrap();
        let kept: Vec<usize> = best.iter().map(|it| group.units[*it]).collect();
        let expected = graph.with_units(&scores.channels, |it| !group.units.contains(&it) || kept.contains(&it));
        assert_eq!(narrowed, expected.unwrap());
    }
}

/// Places of the values, the largest first.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

fn network(architecture: Architecture, side: usize) -> Graph {
    sample::known(architecture, side, 3, 1).unwrap()
}

fn random_scores(graph: &Graph) -> Scores {
    let mut scores = Scores::none(graph);
    let noise = sample::Noise::new(3).values(scores.sums.len());
    scores.sums = noise.into_iter().map(|it| f64::from(it).abs()).collect();
    scores
}

#[test]
fn the_choice_meets_its_target_in_whole_tiles() {
    for architecture in [Architecture::AlexNet, Architecture::ResNet18, Architecture::MobileNetV2] {
        let graph = network(architecture, 32);
        let scores = random_scores(&graph);
        let (region, target) = (Region::all(&graph), graph.macs() / 3);
        let choice = Choice {
            multiple: 8,
            work_exponent: 0.25,
        };
        let pruned = prune(&graph, &scores, &region, target, choice).unwrap();
        assert!(
            pruned.macs() <= target && pruned.macs() > target / 2,
            "{} of {target}",
            pruned.macs()
        );
        let widths = |graph: &Graph| -> Vec<usize> {
            graph
                .channel_groups()
                .groups()
                .iter()
                .map(|it| it.units.len())
                .collect()
        };
        for (left, before) in widths(&pruned).into_iter().zip(widths(&graph)) {
            assert!(left % 8 == 0 || left == before, "{left} of {before}");
        }
    }
}

#[test]
fn a_heads_pruning_leaves_the_tail_and_what_crosses() {
    for (architecture, split) in [
        (Architecture::ResNet18, "layer2.0"),
        (Architecture::EfficientNetLite0, "blocks.2.1"),
    ] {
        let graph = network(architecture, 32);
        let region = Region::head(&graph, cut_node(&graph, split).unwrap()).unwrap();
        let (before, target) = (region.macs(&graph), region.macs(&graph) / 2);
        let choice = Choice {
            multiple: 4,
            work_exponent: 0.25,
        };
        let pruned = prune(&graph, &random_scores(&graph), &region, target, choice).unwrap();
        let [old, new] = [&graph, &pruned].map(|it| it.split_at(it.cut_point(split).unwrap().node).unwrap());
        assert!(new.0.macs() <= target && old.0.macs() == before);
        assert_eq!(new.1, old.1);
    }
}

#[test]
fn bottlenecks_go_where_no_layer_can_be_pruned_alone() {
    let check = |architecture, split: &str, expected: Option<&str>| {
        let graph = network(architecture, 32);
        let node = cut_node(&graph, split).unwrap();
        let channels = graph.channel_groups();
        let layer = layer_at(&graph, &channels, node).map(|it| it.name.as_str());
        assert_eq!(layer, expected, "{split}");
    };
    check(Architecture::Vgg16, "pool3", Some("features.20"));
    // A residual stream, a linear bottleneck, and the last features, before and behind the pool.
    check(Architecture::ResNet18, "layer2.0", None);
    check(Architecture::MobileNetV2, "features.2", None);
    check(Architecture::EfficientNetLite0, "act2", Some("conv_head"));
    check(Architecture::EfficientNetLite0, "global_pool", Some("conv_head"));
}

#[test]
fn a_bottleneck_keeps_the_directions_that_carry_most() {
    // Three channels, of which the third is the sum of the others, around means of 1, 2 and 3.
    let noise = sample::Noise::new(1).values(2000);
    let features: Vec<f32> = noise
        .chunks_exact(2)
        .flat_map(|it| [1.0 + it[0], 2.0 + it[1], 3.0 + it[0] + it[1]])
        .collect();
    let made = bottleneck(&features, 3, 2);
    assert_eq!((made.width, made.encode.len(), made.decode.len()), (2, 6, 6));
    for pixel in features.chunks_exact(3) {
        let row = |weights: &[f32], values: &[f32], bias: f32| -> f32 {
            weights.iter().zip(values).map(|(a, b)| a * b).sum::<f32>() + bias
        };
        let narrow: Vec<f32> = (0..2)
            .map(|it| row(&made.encode[it * 3..][..3], pixel, made.encode_bias[it]))
            .collect();
        for (at, expected) in pixel.iter().enumerate() {
            let back = row(&made.decode[at * 2..][..2], &narrow, made.decode_bias[at]);
            assert!((back - expected).abs() < 1e-4, "{back} is not {expected}");
        }
    }
}

#[test]
fn what_is_served_is_what_was_measured_in_training() {
    let checkpoint = Checkpoint::toy([6; 5]);
    let data = Dataset::toy(12);
    let got = learn::logits(&checkpoint, &data, false, |_| ()).unwrap();
    let batch = Batch::plain((0..12).map(|it| (it, View::PLAIN)).collect());
    let normalization = (checkpoint.description.mean, checkpoint.description.std);
    let pictures = batch.values(&data, normalization).unwrap();
    let expected = Network::new(&checkpoint.graph).evaluate(&pictures, &mut ());
    for (got, expected) in got.iter().zip(&expected) {
        assert!((got - expected).abs() < 1e-4, "{got} is not {expected}");
    }
}

/// A network in which every second channel of each layer is twice the one before, with batch norm's moments of these pictures.
fn redundant(pictures: &[Vec<f32>]) -> Graph {
    let graph = Checkpoint::toy([8; 5]).graph;
    let mut nodes = graph.nodes().to_vec();
    for node in &mut nodes {
        match &mut node.op {
            Op::Convolution(it) => {
                let row = it.kernel_values();
                it.weight
                    .chunks_exact_mut(2 * row)
                    .for_each(|it| it.copy_within(..row, row));
            }
            Op::BatchNorm(it) => {
                for (values, factor) in [(&mut it.scale, 2.0), (&mut it.shift, 2.0)] {
                    values.chunks_exact_mut(2).for_each(|it| it[1] = factor * it[0]);
                }
            }
            _ => {}
        }
    }
    let graph = Graph::new(graph.input(), nodes).unwrap();
    reconstruct::with_moments_of(&graph, pictures).unwrap()
}

#[test]
fn channels_that_others_tell_go_without_a_trace() {
    let pictures: Vec<Vec<f32>> = (0..4)
        .map(|seed| sample::Noise::new(seed).values(32 * 3 * 16 * 16))
        .collect();
    let graph = redundant(&pictures);
    let choice = Choice {
        multiple: 1,
        work_exponent: 0.25,
    };
    // Half of the channels leave about a quarter of the work.
    let half: Vec<usize> = vec![4; 5];
    let target = Checkpoint::toy([8; 5]).narrowed(&half).unwrap().graph.macs();
    let pruned = reconstruct::prune(&graph, &Region::all(&graph), target, choice, &pictures).unwrap();
    assert_eq!(crate::checkpoint::widths(&pruned), half);
    let [before, after] = [&graph, &pruned].map(|it| Network::new(it).evaluate(&pictures[0], &mut ()));
    let spread = before.iter().map(|it| it.abs()).fold(0.0, f32::max);
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() < 0.02 * spread, "{after} is not {before}");
    }
}

#[test]
fn fitted_layers_lose_less_than_those_that_only_miss_channels() {
    for graph in [Checkpoint::toy([16; 5]).graph, network(Architecture::MobileNetV2, 32)] {
        let each = graph.input().values();
        let pictures: Vec<Vec<f32>> = (0..4).map(|seed| sample::Noise::new(seed).values(16 * each)).collect();
        let graph = reconstruct::with_moments_of(&graph, &pictures).unwrap();
        let choice = Choice {
            multiple: 1,
            work_exponent: 0.25,
        };
        let (region, target) = (Region::all(&graph), graph.macs() * 4 / 5);
        let fitted = reconstruct::prune(&graph, &region, target, choice, &pictures).unwrap();
        assert!(fitted.macs() <= target);
        // The same layers, of which the channels that come first stay.
        let widths: Vec<usize> = fitted
            .channel_groups()
            .groups()
            .iter()
            .map(|it| it.units.len())
            .collect();
        let channels = graph.channel_groups();
        let groups = channels.groups().iter().zip(&widths);
        let gone: HashSet<usize> = groups
            .flat_map(|(group, width)| group.units[*width..].to_vec())
            .collect();
        let cut = graph.with_units(&channels, |it| !gone.contains(&it)).unwrap();
        let cut = reconstruct::with_moments_of(&cut, &pictures).unwrap();
        let wanted = Network::new(&graph).evaluate(&pictures[0], &mut ());
        let [fitted, cut] = [&fitted, &cut].map(|it| {
            let got = Network::new(it).evaluate(&pictures[0], &mut ());
            wanted
                .iter()
                .zip(&got)
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum::<f64>()
        });
        assert!(fitted < 0.75 * cut, "{fitted} of {cut}");
    }
}

#[test]
fn layers_of_low_rank_become_two_with_less_work_and_the_same_answers() {
    for graph in [Checkpoint::toy([16; 5]).graph, network(Architecture::ResNet18, 32)] {
        let each = graph.input().values();
        let pictures: Vec<Vec<f32>> = (0..4).map(|seed| sample::Noise::new(seed).values(16 * each)).collect();
        // Every convolution gives its first four channels and multiples of them.
        let mut nodes = graph.nodes().to_vec();
        for node in &mut nodes {
            if let Op::Convolution(it) = &mut node.op {
                let taps = it.weight.len() / it.outputs;
                for channel in 4..it.outputs {
                    let (factor, of) = (0.5 + channel as f32 / it.outputs as f32, (channel % 4) * taps);
                    for tap in 0..taps {
                        it.weight[channel * taps + tap] = factor * it.weight[of + tap];
                    }
                }
                it.bias = None;
            }
        }
        let graph = Graph::new(graph.input(), nodes).unwrap();
        let graph = reconstruct::with_moments_of(&graph, &pictures).unwrap();
        let region = Region::all(&graph);
        let target = graph.macs() / 2;
        let factored = low_rank::prune(&graph, &region, target, 4, &pictures).unwrap();
        assert!(factored.macs() <= target && factored.nodes().len() > graph.nodes().len());
        let [before, after] = [&graph, &factored].map(|it| Network::new(it).evaluate(&pictures[0], &mut ()));
        let spread = before.iter().map(|it| it.abs()).fold(0.0, f32::max);
        for (before, after) in before.iter().zip(&after) {
            assert!((before - after).abs() < 0.01 * spread, "{after} is not {before}");
        }
        // What is factored already stays.
        let again = low_rank::prune(&factored, &Region::all(&factored), 0, 4, &pictures).unwrap();
        assert!(again.nodes().iter().all(|it| !it.name.ends_with(".restore.restore")));
    }
}
