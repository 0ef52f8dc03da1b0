//! What follows from a network's structure, held against plain loops.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::collections::BTreeSet;
use std::convert::Infallible;

use proptest::prelude::*;
use split_core::Shape;
use split_graph::{
    Activation, Architecture, Bottleneck, Fault, Graph, Linear, Node, Op, Source, Window, fill, reference,
    sample::{self, Noise},
};

fn architecture(architecture: Architecture, side: usize, classes: usize) -> Graph {
    sample::known(architecture, side, classes, 1).unwrap()
}

fn image(graph: &Graph, seed: u64) -> Vec<f32> {
    Noise::new(seed).values(graph.input().values())
}

fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let close = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
        assert!(close, "value {at}: {got} is not {expected}");
    }
}

/// Some units of every group, never all of one.
fn some_units(graph: &Graph, seed: u64) -> BTreeSet<usize> {
    let mut noise = Noise::new(seed);
    let channels = graph.channel_groups();
    let mut removed = BTreeSet::new();
    for group in channels.groups() {
        let spared = noise.below(group.units.len());
        let gone = group
            .units
            .iter()
            .enumerate()
            .filter(|it| it.0 != spared && noise.below(2) == 0);
        removed.extend(gone.map(|it| *it.1));
    }
    removed
}

proptest! {
    #[test]
    fn removing_channels_equals_zeroing_them(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let channels = graph.channel_groups();
        let removed = some_units(&graph, seed);
        let kept = |unit: usize| !removed.contains(&unit);
        let smaller = graph.with_units(&channels, kept).unwrap();
        prop_assert_eq!(smaller.macs(), graph.macs_with(&channels, graph.nodes().len(), kept));
        let image = image(&graph, seed);
        let zeroed = reference::run_masked(&graph, &image, |source, channel| kept(channels.of(source)[channel]));
        assert_close(&reference::run(&smaller, &image), &zeroed);
    }

    #[test]
    fn folding_changes_no_answer_and_leaves_no_batch_norm(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let folded = graph.folded().unwrap();
        prop_assert!(!folded.nodes().iter().any(|it| matches!(it.op, Op::BatchNorm(_))));
        let image = image(&graph, seed);
        assert_close(&reference::run(&folded, &image), &reference::run(&graph, &image));
    }

    #[test]
    fn tail_of_head_is_the_network_at_every_cut_point(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let image = image(&graph, seed);
        let expected = reference::run(&graph, &image);
        for cut in graph.cut_points() {
            let (head, tail) = graph.split_at(cut.node).unwrap();
            prop_assert_eq!((head.macs(), tail.macs()), (cut.macs_before, cut.macs_after));
            prop_assert_eq!((head.output(), tail.input()), (cut.shape, cut.shape));
            let features = reference::run(&head.folded().unwrap(), &image);
            assert_close(&reference::run(&tail.folded().unwrap(), &features), &expected);
            prop_assert_eq!(head.then(tail).unwrap(), graph.clone());
            prop_assert_eq!(graph.cut_point(&cut.name), Some(cut));
        }
    }

    #[test]
    fn a_bottleneck_of_all_channels_changes_no_answer(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let image = image(&graph, seed);
        let expected = reference::run(&graph, &image);
        for cut in graph.cut_points() {
            let wide = graph.with_bottleneck(cut.node, &Bottleneck::identity(cut.shape.channels())).unwrap();
            assert_close(&reference::run(&wide, &image), &expected);
            let narrow = wide.cut_point(&cut.name).unwrap();
            prop_assert_eq!(narrow.node, cut.node + 1);
            let (head, tail) = wide.split_at(narrow.node).unwrap();
            let features = reference::run(&head.folded().unwrap(), &image);
            assert_close(&reference::run(&tail.folded().unwrap(), &features), &expected);
        }
    }

    #[test]
    fn factors_of_full_rank_change_no_answer(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let image = image(&graph, seed);
        let expected = reference::run(&graph, &image);
        for (node, it) in graph.nodes().iter().enumerate() {
            let Op::Convolution(whole) = &it.op else { continue };
            if whole.groups == 1 {
                let factored = graph.factored(node, &Bottleneck::identity(whole.outputs)).unwrap();
                prop_assert_eq!(factored.nodes().len(), graph.nodes().len() + 1);
                assert_close(&reference::run(&factored, &image), &expected);
            }
        }
    }

    #[test]
    fn a_description_and_weights_make_the_same_network(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let text = serde_json::to_string(graph.nodes()).unwrap();
        let mut nodes: Vec<Node> = serde_json::from_str(&text).unwrap();
        fill(&mut nodes, |name, shape| {
            let (node, tensor) = name.rsplit_once('.').unwrap();
            let node = &graph.nodes()[graph.find(node).unwrap()];
            let tensors = node.op.tensors();
            let found = tensors.iter().find(|it| it.name == tensor && it.shape == shape).unwrap();
            Ok::<_, Infallible>(found.values.clone())
        }).unwrap();
        prop_assert_eq!(Graph::new(graph.input(), nodes).unwrap(), graph);
    }
}

fn names(graph: &Graph) -> Vec<String> {
    graph.cut_points().into_iter().map(|it| it.name).collect()
}

#[test]
fn resnet50_is_cut_behind_its_blocks_and_never_inside_one() {
    let graph = architecture(Architecture::ResNet50, 64, 10);
    let blocks = [(1, 3), (2, 4), (3, 6), (4, 3)];
    let blocks = blocks
        .into_iter()
        .flat_map(|(layer, blocks)| (0..blocks).map(move |it| format!("layer{layer}.{it}")));
    let expected: Vec<String> = ["relu".to_owned(), "maxpool".to_owned()]
        .into_iter()
        .chain(blocks)
        .chain(["avgpool".to_owned()])
        .collect();
    assert_eq!(names(&graph), expected);
    assert_eq!(graph.cut_point("layer2"), graph.cut_point("layer2.3"));
    assert_eq!(graph.cut_point("layer2.3.conv1"), None);
    assert_eq!(
        graph.cut_point("layer1.0").unwrap().shape,
        Shape::new(256, 16, 16).unwrap()
    );
}

#[test]
fn mobilenet_v2_is_cut_behind_its_blocks() {
    let graph = architecture(Architecture::MobileNetV2, 64, 10);
    let names = names(&graph);
    for block in 0..=18 {
        assert!(names.contains(&format!("features.{block}")), "{block}: {names:?}");
    }
    // Inside a block without a residual, too, one tensor is live; inside the others never.
    assert!(names.contains(&"features.2.conv.1".to_owned()), "{names:?}");
    assert!(!names.iter().any(|it| it.starts_with("features.3.")), "{names:?}");
    assert_eq!(
        graph.cut_point("features.3").unwrap().shape,
        Shape::new(24, 16, 16).unwrap()
    );
}

#[test]
fn vgg16_has_the_papers_work_and_is_cut_behind_its_pools() {
    let graph = architecture(Architecture::Vgg16, 32, 10);
    assert_eq!(graph.macs(), 313_201_664);
    let names = names(&graph);
    for pool in 1..=5 {
        assert!(names.contains(&format!("pool{pool}")), "{names:?}");
    }
    assert!(graph.find("features.40").is_some());
}

#[test]
fn architectures_do_the_work_that_is_known_of_them() {
    // torchvision and timm, 224 × 224 pictures and 1000 classes; in millions of multiply–accumulates.
    for (it, millions) in [
        (Architecture::ResNet18, 1814),
        (Architecture::ResNet34, 3663),
        (Architecture::ResNet50, 4089),
        (Architecture::MobileNetV2, 300),
        (Architecture::EfficientNetLite0, 385),
        (Architecture::Vgg11Bn, 7609),
        (Architecture::Vgg16Bn, 15470),
    ] {
        let graph = architecture(it, 224, 1000);
        assert_eq!(graph.macs() / 1_000_000, millions, "{}", it.name());
    }
}

#[test]
fn the_channels_of_a_residual_stream_go_together() {
    let graph = architecture(Architecture::ResNet18, 32, 10);
    let channels = graph.channel_groups();
    let stream = channels.groups().iter().find(|it| it.name == "conv1").unwrap();
    let producers: Vec<&str> = stream
        .producers
        .iter()
        .map(|it| graph.nodes()[*it].name.as_str())
        .collect();
    assert_eq!(producers, ["conv1", "layer1.0.conv2", "layer1.1.conv2"]);
    assert_eq!(stream.units.len(), 64);
    // Four streams, one group inside each of eight blocks; the classes stay.
    assert_eq!(channels.groups().len(), 4 + 8);
    let cut = graph.cut_point("layer1.0").unwrap();
    assert_eq!(channels.group_of(Source::Node(cut.node)).unwrap().name, "conv1");
}

#[test]
fn a_depthwise_convolution_has_the_channels_of_the_one_before() {
    let graph = architecture(Architecture::EfficientNetLite0, 32, 10);
    let channels = graph.channel_groups();
    let expanded = channels
        .groups()
        .iter()
        .find(|it| it.name == "blocks.1.0.conv_pw")
        .unwrap();
    assert_eq!((expanded.producers.len(), expanded.units.len()), (1, 96));
    let kept = expanded.units[..7].to_vec();
    let others: BTreeSet<usize> = expanded.units[7..].iter().copied().collect();
    let smaller = graph.with_units(&channels, |it| !others.contains(&it)).unwrap();
    let depthwise = &smaller.nodes()[smaller.find("blocks.1.0.conv_dw").unwrap()].op;
    assert!(matches!(depthwise, Op::Convolution(it) if [it.inputs, it.outputs, it.groups] == [kept.len(); 3]));
}

#[test]
fn nothing_is_removed_from_input_and_output_and_no_tensor_is_emptied() {
    let graph = architecture(Architecture::AlexNet, 16, 3);
    let channels = graph.channel_groups();
    let error = |gone: &[usize]| {
        graph
            .with_units(&channels, |it| !gone.contains(&it))
            .unwrap_err()
            .to_string()
    };
    assert!(error(&channels.of(Source::Input)[..1]).contains("input"));
    let last = graph.nodes().len() - 1;
    assert!(error(&channels.of(Source::Node(last))[..1]).contains("classifier"));
    assert!(error(&channels.groups()[1].units).contains("features.4"));
}

#[test]
fn what_contradicts_itself_is_named() {
    let input = Shape::new(3, 8, 8).unwrap();
    let check = |nodes: Vec<Node>, words: &str| {
        let error = Graph::new(input, nodes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let relu = |name: &str, input| Node::new(name, Op::Activation(Activation::Relu), input);
    check(vec![], "at least one node");
    check(
        vec![relu("a", Source::Input), relu("a", Source::Node(0))],
        "a: every node needs a name",
    );
    check(vec![relu("a", Source::Node(0))], "does not come before");
    check(vec![relu("a", Source::Node(usize::MAX))], "does not come before");
    check(
        vec![relu("a", Source::Input), relu("b", Source::Input)],
        "a: nothing uses its output",
    );
    let pool = |window| Node::new("pool", Op::MaxPool(window), Source::Input);
    check(vec![pool(Window::square(9, 1, 0))], "does not fit the input 3×8×8");
    check(vec![pool(Window::square(2, 0, 0))], "does not fit");
    check(vec![pool(Window::square(2, 1, usize::MAX))], "does not fit");
    let linear = |inputs, weight| {
        Node::new(
            "fc",
            Op::Linear(Linear {
                inputs,
                outputs: 1,
                weight,
                bias: None,
            }),
            Source::Input,
        )
    };
    check(vec![linear(192, vec![0.0; 192])], "fc: it takes 192");
    check(vec![linear(192, vec![0.0; 191])], "cannot have 191 values");
    check(vec![linear(usize::MAX, vec![0.0; 191])], "cannot have 191 values");
    check(vec![linear(2, vec![0.0, f32::NAN])], "value 1 of `weight` is NaN");
    let two = |op| Node {
        name: "two".into(),
        op,
        inputs: vec![Source::Input; 3],
    };
    check(vec![two(Op::Add)], "3 inputs");
    check(vec![two(Op::Flatten)], "3 inputs");
    let error = Architecture::Vgg16
        .nodes(Shape::new(3, 16, 64).unwrap(), 10)
        .unwrap_err();
    assert!(matches!(error.fault, Fault::Window { .. }), "{error}");
}
