//! The kernels against plain loops, on every kind of vector.

use std::{cell::Cell, time::Duration};

use fearless_simd::Level;
use split_core::Shape;
use split_graph::{
    Activation, Architecture, Convolution, Graph, Linear, Node, Op, Padding, Source, Window, reference, sample,
};

use super::{Stack, levels};

/// Compares the stack with plain loops, for images alone and together.
fn compare(graph: &Graph, count: usize, what: &str) {
    let values = graph.input().values();
    let images = sample::Noise::new(3).values(count * values);
    let expected: Vec<f32> = images.chunks(values).flat_map(|it| reference::run(graph, it)).collect();
    let scale = expected.iter().fold(1.0_f32, |most, it| most.max(it.abs()));
    for level in levels() {
        for least in [None, Some(1)] {
            let mut stack = match least {
                None => Stack::new(level, graph.clone()),
                Some(least) => Stack::grouped(level, graph.clone(), least),
            };
            // Nothing may be left of the images before.
            for _ in 0..2 {
                let mut got = Vec::new();
                stack.run(&images, &mut got);
                assert_eq!(got.len(), expected.len(), "{what}");
                for (at, (g, e)) in got.iter().zip(&expected).enumerate() {
                    assert!(
                        (g - e).abs() < 1e-4 * scale,
                        "{what}, {level:?}, value {at}: {g} is not {e}"
                    );
                }
            }
        }
    }
}

/// A chain of operations with random weights.
fn chain(input: [usize; 3], ops: Vec<Op>) -> Graph {
    let source = |at: usize| at.checked_sub(1).map_or(Source::Input, Source::Node);
    let nodes = ops.into_iter().enumerate();
    graph(
        input,
        nodes
            .map(|(at, op)| Node::new(format!("node{at}"), op, source(at)))
            .collect(),
    )
}

fn graph(input: [usize; 3], nodes: Vec<Node>) -> Graph {
    let mut noise = sample::Noise::new(nodes.len() as u64);
    sample::filled(Shape::try_from(input).unwrap(), nodes, &mut noise).unwrap()
}

fn convolution(inputs: usize, outputs: usize, groups: usize, window: Window) -> Op {
    Op::Convolution(Convolution {
        inputs,
        outputs,
        groups,
        window,
        weight: Vec::new(),
        bias: Some(Vec::new()),
    })
}

fn window(kernel: usize, stride: usize, [top, left, bottom, right]: [usize; 4]) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: Padding {
            top,
            left,
            bottom,
            right,
        },
    }
}

#[test]
fn random_networks_equal_plain_loops() {
    for seed in 0..200 {
        let graph = sample::network(seed).unwrap();
        let kinds: Vec<_> = graph.nodes().iter().map(|it| it.op.kind()).collect();
        compare(&graph, 5, &format!("network {seed}: {kinds:?}"));
    }
}

#[test]
fn convolutions_of_random_shapes_equal_plain_loops() {
    let mut noise = sample::Noise::new(1);
    for _ in 0..150 {
        let kernel = [1, 1, 2, 3, 3, 3, 5, 7][noise.below(8)];
        let stride = 1 + noise.below(3);
        let padding = [0; 4].map(|_| noise.below(kernel));
        let sides = [0; 2].map(|_| kernel + noise.below(20));
        let groups = [1, 1, 1, 2, 3, 8][noise.below(6)];
        let [inputs, outputs] = [0; 2].map(|_| groups * (1 + noise.below(40 / groups)));
        let activation = [Activation::Relu, Activation::Relu6, Activation::Silu][noise.below(3)];
        let ops = vec![
            convolution(inputs, outputs, groups, window(kernel, stride, padding)),
            Op::Activation(activation),
        ];
        let what = format!("{kernel}/{stride} {padding:?} {groups} of {inputs}×{sides:?} to {outputs}");
        compare(&chain([inputs, sides[0], sides[1]], ops), 5, &what);
    }
}

#[test]
fn depthwise_convolutions_of_random_shapes_equal_plain_loops() {
    let mut noise = sample::Noise::new(2);
    for _ in 0..100 {
        let kernel = [1, 3, 3, 5, 5, 7][noise.below(6)];
        let stride = 1 + noise.below(3);
        let padding = [0; 4].map(|_| noise.below(kernel));
        let sides = [0; 2].map(|_| kernel + noise.below(16));
        let channels = 2 + noise.below(40);
        let op = convolution(channels, channels, channels, window(kernel, stride, padding));
        let what = format!("{kernel}/{stride} {padding:?} on {channels}×{sides:?}");
        compare(&chain([channels, sides[0], sides[1]], vec![op]), 2, &what);
    }
}

#[test]
fn pools_of_random_shapes_equal_plain_loops() {
    let mut noise = sample::Noise::new(3);
    for index in 0..60 {
        let kernel = 1 + noise.below(4);
        let padding = [0; 4].map(|_| noise.below(kernel));
        let sides = [0; 2].map(|_| kernel + noise.below(12));
        let window = window(kernel, 1 + noise.below(3), padding);
        let pool = match index % 3 {
            0 => Op::MaxPool(window),
            kind => Op::AveragePool {
                window,
                count_include_pad: kind == 1,
            },
        };
        compare(
            &chain([3, sides[0], sides[1]], vec![pool]),
            2,
            &format!("{window:?} on {sides:?}"),
        );
    }
}

/// Wide maps that fit no strip: several strips share rows.
#[test]
fn inverted_bottlenecks_in_strips_equal_plain_loops() {
    for (kernel, stride, padding, side) in [
        (3, 1, [1; 4], 41),
        (3, 2, [0, 0, 1, 1], 64),
        (3, 2, [1; 4], 63),
        (5, 1, [2; 4], 40),
        (5, 2, [1, 2, 2, 1], 50),
        (3, 3, [1; 4], 50),
    ] {
        for expands in [true, false] {
            let inputs = if expands { 12 } else { 120 };
            let mut nodes = Vec::new();
            let mut push = |op| {
                let source = nodes.len().checked_sub(1).map_or(Source::Input, Source::Node);
                nodes.push(Node::new(format!("node{}", nodes.len()), op, source));
            };
            if expands {
                push(convolution(inputs, 120, 1, Window::point()));
                push(Op::Activation(Activation::HardSwish));
            }
            push(convolution(120, 120, 120, window(kernel, stride, padding)));
            push(Op::Activation(Activation::Relu6));
            push(convolution(120, inputs, 1, Window::point()));
            if stride == 1 {
                nodes.push(Node {
                    name: "add".into(),
                    op: Op::Add,
                    inputs: vec![Source::Input, Source::Node(nodes.len() - 1)],
                });
            }
            let what = format!("{kernel}/{stride} {padding:?} on {side}, expands: {expands}");
            compare(&graph([inputs, side, side], nodes), 2, &what);
        }
    }
}

#[test]
fn vectors_equal_plain_loops() {
    let linear = |inputs, outputs| {
        Op::Linear(Linear {
            inputs,
            outputs,
            weight: Vec::new(),
            bias: Some(Vec::new()),
        })
    };
    compare(&chain([5, 3, 4], vec![Op::Flatten, linear(60, 9)]), 5, "flattened");
    compare(
        &chain([5, 3, 4], vec![Op::Flatten, Op::Activation(Activation::Sigmoid)]),
        5,
        "flattened alone",
    );
    let pooled = vec![
        Op::GlobalAveragePool,
        Op::Flatten,
        linear(5, 70),
        Op::Activation(Activation::Relu),
    ];
    compare(&chain([5, 3, 4], pooled), 5, "averaged");
}

#[test]
fn whole_networks_equal_plain_loops() {
    let families = [
        Architecture::EfficientNetLite0,
        Architecture::MobileNetV2,
        Architecture::ResNet18,
    ];
    for architecture in families {
        let nodes = architecture.nodes(Shape::new(3, 48, 48).unwrap(), 10).unwrap();
        let network = graph([3, 48, 48], nodes);
        compare(&network.folded().unwrap(), 1, architecture.name());
    }
}

#[test]
fn batches_are_kept_where_they_take_less_time() {
    let graph = chain([3, 8, 8], vec![convolution(3, 4, 1, window(3, 1, [1; 4]))]);
    let least = |[apart, together]: [u64; 2]| {
        // The clock is read before and after each: one by one first, then together.
        let reads = Cell::new(0);
        let time = Cell::new(0);
        let now = || {
            let read = reads.replace(reads.get() + 1);
            let step = [0, apart, 0, together][read % 4];
            time.set(time.get() + step);
            Duration::from_micros(time.get())
        };
        Stack::for_batches(Level::new(), graph.clone(), now).batch()
    };
    assert_eq!(least([400, 150]), Some(2));
    assert_eq!(least([400, 250]), Some(3));
    assert_eq!(least([400, 390]), Some(4));
    assert_eq!(least([400, 400]), None);
}

/// Beside the weights, whatever the network.
#[test]
fn heads_of_224_pixels_work_in_16_mb() {
    for architecture in [
        Architecture::EfficientNetLite0,
        Architecture::MobileNetV2,
        Architecture::ResNet18,
    ] {
        let nodes = architecture.nodes(Shape::new(3, 224, 224).unwrap(), 10).unwrap();
        let network = graph([3, 224, 224], nodes).folded().unwrap();
        let mut stack = Stack::new(Level::new(), network.clone());
        stack.run(&vec![0.0; network.input().values()], &mut Vec::new());
        let values: usize = stack.memory.buffers.iter().map(Vec::len).sum();
        let bytes = (values + stack.memory.scratch.len()) * size_of::<f32>();
        assert!(bytes <= 16 << 20, "{architecture:?} works in {bytes} bytes");
    }
}
