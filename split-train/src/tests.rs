//! Every operation against plain loops, and its gradient against differences.

use split_core::Shape;
use split_graph::sample::{self, Noise};
use split_graph::{Architecture, Graph, reference};

use crate::{Average, Gradients, Momentum, Network, Observer, Role, cross_entropy, decoupled_cross_entropy, smoothed};

const BATCH: usize = 5;

/// `[C, H, W]` to `[H, W, C]`.
fn channels_last(shape: Shape, image: &[f32]) -> Vec<f32> {
    let (positions, channels) = (shape.positions(), shape.channels());
    let at = |it: usize| image[it % channels * positions + it / channels];
    (0..shape.values()).map(at).collect()
}

fn images(graph: &Graph, seed: u64) -> Vec<f32> {
    Noise::new(seed).values(BATCH * graph.input().values())
}

/// A sum of the outputs with random weights, and its slope by them.
fn loss(output: &[f32], seed: u64) -> (f64, Vec<f32>) {
    let weights = Noise::new(seed).values(output.len());
    let products = output.iter().zip(&weights).map(|(a, b)| f64::from(*a) * f64::from(*b));
    (products.sum(), weights)
}

#[test]
fn networks_compute_what_plain_loops_compute() {
    for seed in 0..200 {
        let graph = sample::network(seed).unwrap();
        let network = Network::new(&graph);
        let image = Noise::new(seed + 1000).values(graph.input().values());
        let expected = channels_last(graph.output(), &reference::run(&graph, &image));
        let got = network.evaluate(&channels_last(graph.input(), &image), &mut ());
        assert_eq!(got.len(), expected.len(), "network {seed}");
        for (got, expected) in got.iter().zip(&expected) {
            let close = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
            assert!(close, "network {seed}: {got} is not {expected}");
        }
    }
}

#[test]
fn weights_come_back_as_they_were() {
    for seed in 0..100 {
        let graph = sample::network(seed).unwrap();
        assert_eq!(Network::new(&graph).graph().unwrap(), graph, "network {seed}");
    }
}

fn gradients(network: &Network, images: &[f32], seed: u64) -> Gradients {
    let pass = network.pass(images, &mut ());
    let (_, slope) = loss(pass.output(), seed);
    network.backward(pass, slope, &mut ())
}

fn loss_at(network: &Network, images: &[f32], seed: u64) -> f64 {
    loss(network.pass(images, &mut ()).output(), seed).0
}

/// Along its gradient, a loss rises as steeply as the gradient is long.
#[test]
fn gradients_are_those_that_differences_show() {
    let mut checked = 0;
    for seed in 0..60 {
        let graph = sample::network(seed).unwrap();
        let mut network = Network::new(&graph);
        let images = images(&graph, seed + 7);
        let gradients = gradients(&network, &images, seed);
        for (place, gradient) in gradients.parameters.iter().enumerate() {
            let length = gradient.iter().map(|it| f64::from(it * it)).sum::<f64>().sqrt();
            // Where hardly anything changes, 32 bits show little.
            if length < 0.05 {
                continue;
            }
            // Large steps meet kinks of activations, small ones end in the noise of 32 bits; beside a kink only one side shows the slope.
            let mut at = |by: f64| {
                shift(&mut network, place, gradient, by / length);
                let loss = loss_at(&network, &images, seed);
                shift(&mut network, place, gradient, -by / length);
                loss
            };
            let middle = at(0.0);
            let seen: Vec<f64> = [4e-3, 1e-3, 3e-4]
                .into_iter()
                .flat_map(|step| {
                    let (above, below) = (at(step), at(-step));
                    let sides = [above - middle, middle - below, (above - below) / 2.0];
                    sides.map(|it| it / step)
                })
                .collect();
            let close = seen.iter().any(|it| (it - length).abs() <= 0.02 * length);
            assert!(close, "network {seed}, parameter {place}: {seen:?} is not {length}");
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked} gradients are too few");
}

fn shift(network: &mut Network, place: usize, direction: &[f32], by: f64) {
    let (values, _) = network.parameters_mut().swap_remove(place);
    let each = values.iter_mut().zip(direction);
    each.for_each(|(value, slope)| *value += (by * f64::from(*slope)) as f32);
}

/// What passes a node, and its slope: as observers see them.
#[derive(Default)]
struct Seen {
    node: usize,
    output: Vec<f32>,
    slope: Vec<f32>,
}

impl Observer for Seen {
    fn forward(&mut self, node: usize, output: &mut [f32]) {
        if node == self.node {
            self.output = output.to_vec();
        }
    }

    fn backward(&mut self, node: usize, output: &[f32], slope: &mut [f32]) {
        if node == self.node {
            assert_eq!(output, self.output);
            self.slope = slope.to_vec();
        }
    }
}

fn known(architecture: Architecture, side: usize, classes: usize) -> Graph {
    sample::known(architecture, side, classes, 3).unwrap()
}

#[test]
fn observers_see_what_passes_and_its_slope() {
    let graph = known(Architecture::ResNet18, 32, 4);
    let network = Network::new(&graph);
    let images = images(&graph, 1);
    let cut = graph.cut_point("layer2.1").unwrap();
    let mut seen = Seen {
        node: cut.node,
        ..Seen::default()
    };
    let pass = network.pass(&images, &mut seen);
    assert_eq!(seen.output.len(), BATCH * cut.shape.values());
    let (_, slope) = loss(pass.output(), 1);
    let gradients = network.backward(pass, slope, &mut seen);
    assert!(gradients.parameters.iter().all(|it| !it.is_empty()));
    assert_eq!(seen.slope.len(), seen.output.len());
    assert!(seen.slope.iter().any(|it| *it != 0.0));
}

#[test]
fn a_network_learns_and_its_running_moments_follow() {
    let graph = known(Architecture::ResNet18, 32, 3);
    let mut network = Network::new(&graph);
    // Three colours.
    let labels: Vec<usize> = (0..12).map(|it| it % 3).collect();
    let mut noise = Noise::new(9);
    let picture = |label: usize| (0..32 * 32 * 3).map(move |it| if it % 3 == label { 1.0 } else { -1.0 });
    let images: Vec<f32> = labels
        .iter()
        .flat_map(|it| picture(*it))
        .map(|it| it + 0.3 * noise.value())
        .collect();
    let targets = smoothed(&labels, 3, 0.0);
    let mut optimizer = Momentum::new(0.9, 5e-4);
    let mut losses = Vec::new();
    for _ in 0..12 {
        let pass = network.pass(&images, &mut ());
        let (loss, slope) = cross_entropy(pass.output(), &targets, 3);
        network.update_moments(&pass, 0.1);
        let gradients = network.backward(pass, slope, &mut ());
        optimizer.step(&mut network, &gradients, 0.01);
        losses.push(loss);
    }
    assert!(losses[11] < 0.1 * losses[0], "{losses:?}");
    for _ in 0..80 {
        let pass = network.pass(&images, &mut ());
        network.update_moments(&pass, 0.1);
    }
    let pass = network.pass(&images, &mut ());
    let expected = cross_entropy(pass.output(), &targets, 3).0;
    let got = cross_entropy(&network.evaluate(&images, &mut ()), &targets, 3).0;
    assert!((got - expected).abs() < 0.05, "{got} is not {expected}");
}

#[test]
fn decoupled_distillation_has_the_parts_of_cross_entropy() {
    let mut noise = Noise::new(11);
    for label in 0..5 {
        let logits: Vec<f32> = noise.values(5).iter().map(|it| 4.0 * it).collect();
        let powers: Vec<f32> = noise.values(5).iter().map(|it| (3.0 * it).exp()).collect();
        let sum: f32 = powers.iter().sum();
        let targets: Vec<f32> = powers.iter().map(|it| it / sum).collect();
        let (expected, slopes) = cross_entropy(&logits, &targets, 5);
        // By the paper's equation 7, the other classes have the weight of their part in the teacher's distribution.
        let (got, got_slopes) = decoupled_cross_entropy(&logits, &targets, &[label], 5, 1.0 - targets[label]);
        assert!((got - expected).abs() < 1e-5, "{got} is not {expected}");
        for (got, expected) in got_slopes.iter().zip(&slopes) {
            assert!((got - expected).abs() < 1e-5, "{got} is not {expected}");
        }
        let (more, _) = decoupled_cross_entropy(&logits, &targets, &[label], 5, 2.0);
        assert!(more > got);
    }
}

#[test]
fn sparsity_pulls_scales_alone_towards_zero() {
    let graph = known(Architecture::EfficientNetLite0, 32, 4);
    let images = images(&graph, 3);
    let learned = |sparsity: f32| {
        let mut network = Network::new(&graph);
        let gradients = gradients(&network, &images, 7);
        let mut optimizer = Momentum::new(0.0, 0.0).with_sparsity(sparsity);
        optimizer.step(&mut network, &gradients, 0.1);
        network
    };
    let (mut before, mut with, mut without) = (Network::new(&graph), learned(0.01), learned(0.0));
    let learned = with.parameters_mut().into_iter().zip(without.parameters_mut());
    let mut scales = 0;
    for ((before, role), ((with, _), (without, _))) in before.parameters_mut().into_iter().zip(learned) {
        for ((before, with), without) in before.iter().zip(with.iter()).zip(without.iter()) {
            let pull = if role == Role::Scale {
                0.001 * before.signum()
            } else {
                0.0
            };
            assert!((without - with - pull).abs() < 1e-5, "{role:?}: {with}, {without}");
            scales += usize::from(role == Role::Scale);
        }
    }
    assert!(scales > 0);
}

#[test]
fn a_run_is_repeatable() {
    let graph = known(Architecture::EfficientNetLite0, 32, 4);
    let images = images(&graph, 2);
    let run = || {
        let network = Network::new(&graph);
        gradients(&network, &images, 5).parameters
    };
    assert_eq!(run(), run());
}

#[test]
fn an_average_is_of_all_steps_or_of_the_last() {
    let graph = sample::network(3).unwrap();
    let mut network = Network::new(&graph);
    let set = |network: &mut Network, value: f32| network.state_mut().into_iter().for_each(|it| it.fill(value));
    let (mut all, mut last) = (Average::default(), Average::default());
    for value in 1..=4 {
        set(&mut network, value as f32);
        all.add(&mut network, 100.0);
        last.add(&mut network, 2.0);
    }
    assert!(all.values().iter().flatten().all(|it| (it - 2.5).abs() < 1e-6));
    // Each step has half of the weight of all that came after it.
    assert!(last.values().iter().flatten().all(|it| (it - 3.125).abs() < 1e-6));
    all.swap(&mut network);
    assert!(
        network
            .state_mut()
            .into_iter()
            .flatten()
            .all(|it| (*it - 2.5).abs() < 1e-6)
    );
    all.swap(&mut network);
    assert!(network.state_mut().into_iter().flatten().all(|it| *it == 4.0));
}

#[test]
fn cross_entropy_is_steepest_at_the_wrong_class() {
    let (loss, slope) = cross_entropy(&[0.0, 0.0, 10.0, 0.0], &smoothed(&[1, 0], 2, 0.0), 2);
    assert!((loss - 0.5 * 2_f64.ln()).abs() < 1e-3, "{loss}");
    assert!(
        (slope[0] - 0.25).abs() < 1e-6 && (slope[1] + 0.25).abs() < 1e-6,
        "{slope:?}"
    );
    let softer = cross_entropy(&[0.0, 0.0], &smoothed(&[1], 2, 0.1), 2).1;
    assert!((softer[0] - 0.45).abs() < 1e-6, "{softer:?}");
}
