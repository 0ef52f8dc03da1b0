//! The fast path against tract, on the same segments.

use std::{fs, path::Path};

use fearless_simd::Level;
use split_core::{Manifest, Shape, manifest::Segment};
use split_graph::{Activation, Convolution, Graph, Linear, Op, Window, sample};
use split_kernels::{Stack, levels};

use super::Engine;
use crate::{Network, write_segment};

/// Reproducible values in [-1, 1).
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn convolution([inputs, outputs, kernel]: [usize; 3], stride: usize, padding: usize, relu: bool) -> Vec<Op> {
    let scale = (3.0 / (inputs * kernel * kernel) as f32).sqrt();
    let weight = noise(outputs * inputs * kernel * kernel, outputs as u64);
    let convolution = Op::Convolution(Convolution {
        inputs,
        outputs,
        groups: 1,
        window: Window::square(kernel, stride, padding),
        weight: weight.iter().map(|it| it * scale).collect(),
        bias: Some(noise(outputs, 7)),
    });
    let relu = relu.then_some(Op::Activation(Activation::Relu));
    [convolution].into_iter().chain(relu).collect()
}

fn pool(kernel: usize, stride: usize) -> Vec<Op> {
    vec![Op::MaxPool(Window::square(kernel, stride, 0))]
}

/// Compares both engines; the first one has to be the stack.
fn compare(input: Shape, layers: &[Vec<Op>]) {
    let segment = write_segment(&sample::chain(input, layers.concat()).unwrap()).unwrap();
    let load = |level: Option<Level>, together| {
        let prepare = |graph: Graph| {
            level.map(|level| match together {
                true => Stack::grouped(level, graph, 3),
                false => Stack::new(level, graph),
            })
        };
        Network::load_with(input, [&segment.bytes[..]], prepare).unwrap()
    };
    // A group that is full, one that is not, and images by themselves; later ones are smaller: nothing may be left of those before.
    let count = 9;
    let mut images = noise(count * input.values(), 1);
    for (index, image) in images.chunks_mut(input.values()).enumerate() {
        image.iter_mut().for_each(|it| *it /= (index + 1) as f32);
    }
    let mut expected = Vec::new();
    load(None, false).run(count, &images, &mut expected).unwrap();
    let values = expected.len() / count;
    for level in levels() {
        for together in [false, true] {
            let mut ours = load(Some(level), together);
            assert!(
                matches!(ours.engine, Engine::Stack(_)),
                "{} layers on {input} are not recognised",
                layers.len()
            );
            for (first, size) in [(0, 4), (0, 9), (4, 3), (7, 1)] {
                let mut got = Vec::new();
                let batch = &images[first * input.values()..][..size * input.values()];
                ours.run(size, batch, &mut got).unwrap();
                assert_eq!(got.len(), size * values);
                for (at, (g, e)) in got.iter().zip(&expected[first * values..]).enumerate() {
                    assert!(
                        (g - e).abs() < 1e-4,
                        "{size} × {input}, {level:?}, value {at}: {g} is not {e}"
                    );
                }
            }
        }
    }
}

#[test]
fn convolutions_of_every_shape_equal_tracts() {
    for (height, width) in [(1, 1), (2, 2), (3, 5), (4, 4), (7, 6), (9, 12), (16, 16)] {
        for (inputs, outputs) in [(3, 8), (8, 5), (12, 16), (16, 1)] {
            let input = Shape::new(inputs, height, width).unwrap();
            for relu in [false, true] {
                compare(input, &[convolution([inputs, outputs, 3], 1, 1, relu)]);
            }
            compare(input, &[convolution([inputs, outputs, 1], 1, 0, true)]);
            compare(input, &[convolution([inputs, outputs, 5], 2, 2, true)]);
        }
    }
}

#[test]
fn pools_equal_tracts_after_a_convolution_and_alone() {
    for (height, width) in [(2, 2), (5, 4), (8, 8), (9, 7)] {
        let input = Shape::new(8, height, width).unwrap();
        let filters = || convolution([8, 12, 3], 1, 1, true);
        compare(input, &[filters(), pool(2, 2)]);
        compare(input, &[pool(2, 2)]);
        compare(input, &[pool(2, 1), filters()]);
        if height.min(width) > 4 {
            compare(input, &[filters(), pool(2, 2), pool(2, 2)]);
            compare(input, &[filters(), pool(3, 2)]);
        }
    }
}

#[test]
fn a_whole_network_equals_tracts() {
    let layers = [
        convolution([3, 12, 3], 1, 1, true),
        convolution([12, 20, 3], 1, 1, true),
        pool(2, 2),
        convolution([20, 24, 3], 1, 1, true),
        pool(2, 2),
        convolution([24, 7, 3], 1, 1, true),
        convolution([7, 40, 3], 1, 1, true),
        pool(2, 2),
        vec![
            Op::Flatten,
            Op::Linear(Linear {
                inputs: 40 * 2 * 4,
                outputs: 10,
                weight: noise(40 * 2 * 4 * 10, 3).iter().map(|it| it * 0.05).collect(),
                bias: Some(noise(10, 4)),
            }),
        ],
    ];
    compare(Shape::new(3, 16, 32).unwrap(), &layers);
}

/// Runs segments on the kernels, then by tract; both have to give the same.
fn compare_segments<'a>(input: Shape, segments: impl IntoIterator<Item = &'a [u8]> + Clone, what: &str) {
    let image = noise(input.values(), 5);
    let [ours, tracts] = [true, false].map(|ours| {
        let prepare = |graph| ours.then(|| Stack::new(Level::new(), graph));
        let mut network = Network::load_with(input, segments.clone(), prepare).unwrap();
        assert_eq!(matches!(network.engine, Engine::Stack(_)), ours, "{what}");
        let mut output = Vec::new();
        network.run(1, &image, &mut output).unwrap();
        output
    });
    let scale = tracts.iter().fold(1.0_f32, |most, it| most.max(it.abs()));
    for (at, (ours, tracts)) in ours.iter().zip(&tracts).enumerate() {
        let difference = (ours - tracts).abs();
        assert!(difference < 1e-4 * scale, "{what}, value {at}: {ours} is not {tracts}");
    }
}

#[test]
fn every_operation_equals_tracts() {
    for seed in 0..40 {
        let graph = sample::network(seed).unwrap();
        let segment = write_segment(&graph).unwrap();
        compare_segments(graph.input(), [&segment.bytes[..]], &format!("network {seed}"));
    }
}

#[test]
fn networks_that_ship_equal_tracts() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    for series in fs::read_dir(models).unwrap() {
        let folder = series.unwrap().path();
        let manifest = Manifest::parse(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        for variant in &manifest.variants {
            let read = |it: &Segment| fs::read(folder.join(it.file().path())).unwrap();
            let segments: Vec<_> = variant.segments.iter().map(read).collect();
            let input = manifest.input_of(variant).shape;
            compare_segments(input, segments.iter().map(Vec::as_slice), &variant.name);
        }
    }
}
