//! A residual network from elsewhere, from its file to a series.

use std::fs;

use serde_json::Value;
use split_core::{
    Manifest, Shape,
    manifest::{Codec, Split},
};
use split_graph::{Activation, BatchNorm, Convolution, Graph, Linear, Node, Op, Source, Window, reference, sample};
use split_runtime::write_onnx;

use crate::support::{Scene, bytes};

/// Two residual blocks, the second of which halves the map; between them features may be negative.
fn network() -> Graph {
    let input = Shape::new(3, 16, 16).unwrap();
    let mut nodes: Vec<Node> = Vec::new();
    let mut push = |name: &str, op: Op, inputs: Vec<Source>| {
        let name = name.to_owned();
        nodes.push(Node { name, op, inputs });
        Source::Node(nodes.len() - 1)
    };
    let convolution = |inputs, outputs, window| {
        Op::Convolution(Convolution {
            inputs,
            outputs,
            groups: 1,
            window,
            weight: Vec::new(),
            bias: None,
        })
    };
    let norm = |channels| {
        Op::BatchNorm(BatchNorm {
            channels,
            epsilon: 1e-5,
            scale: Vec::new(),
            shift: Vec::new(),
            mean: Vec::new(),
            variance: Vec::new(),
        })
    };
    let relu = || Op::Activation(Activation::Relu);
    let stem = push(
        "stem.0",
        convolution(3, 8, Window::square(3, 2, 1)),
        vec![Source::Input],
    );
    let stem = push("stem.1", norm(8), vec![stem]);
    let stem = push("stem.2", relu(), vec![stem]);
    let a = push(
        "blocks.0.conv1",
        convolution(8, 12, Window::square(3, 1, 1)),
        vec![stem],
    );
    let a = push("blocks.0.relu", relu(), vec![a]);
    let a = push("blocks.0.conv2", convolution(12, 8, Window::square(3, 1, 1)), vec![a]);
    let a = push("blocks.0.add", Op::Add, vec![a, stem]);
    let b = push("blocks.1.conv1", convolution(8, 16, Window::square(3, 2, 1)), vec![a]);
    let b = push("blocks.1.relu", relu(), vec![b]);
    let b = push("blocks.1.conv2", convolution(16, 16, Window::square(3, 1, 1)), vec![b]);
    let shortcut = push(
        "blocks.1.shortcut",
        convolution(8, 16, Window::square(1, 2, 0)),
        vec![a],
    );
    let b = push("blocks.1.add", Op::Add, vec![b, shortcut]);
    let b = push("blocks.1.relu_1", relu(), vec![b]);
    let pool = push("pool", Op::GlobalAveragePool, vec![b]);
    let flat = push("flatten", Op::Flatten, vec![pool]);
    let linear = Linear {
        inputs: 16,
        outputs: 3,
        weight: Vec::new(),
        bias: Some(Vec::new()),
    };
    push("classifier", Op::Linear(linear), vec![flat]);
    sample::filled(input, nodes, &mut sample::Noise::new(5)).unwrap()
}

#[test]
fn a_residual_network_from_an_onnx_file_becomes_a_series() {
    let scene = Scene::new();
    let network = network();
    fs::write(scene.path("residual.onnx"), write_onnx(&network).bytes).unwrap();
    scene.run("import --from residual.onnx --classes cat,dog,owl --mean 0.5 0.5 0.5 --std 0.25 0.25 0.25 --to residual.safetensors");
    let described = scene.run("describe residual.safetensors");
    for words in ["blocks.0.add", "8 of stem.0, blocks.0.conv2", "cut points", "blocks.1 "] {
        assert!(described.contains(words), "{words} in {described}");
    }

    // What it says of a picture is what the network computes of it.
    let picture = "pictures/test/owl/3.png";
    let line = scene.run(&format!("predict --checkpoint residual.safetensors --json {picture}"));
    let line: Value = serde_json::from_str(&line).unwrap();
    let pixels = image::open(scene.path(picture)).unwrap().into_rgb8();
    let values = |channel: usize| {
        pixels
            .pixels()
            .map(move |it| (f32::from(it.0[channel]) / 255.0 - 0.5) / 0.25)
    };
    let image: Vec<f32> = (0..3).flat_map(|it| values(it).collect::<Vec<_>>()).collect();
    for (logit, expected) in line["logits"]
        .as_array()
        .unwrap()
        .iter()
        .zip(reference::run(&network, &image))
    {
        assert!(
            (logit.as_f64().unwrap() as f32 - expected).abs() < 1e-4,
            "{logit} is not {expected}"
        );
    }
    assert!(
        scene
            .run(&format!("predict --checkpoint residual.safetensors {picture}"))
            .contains(" %  ")
    );

    // The file that is written again is the same network.
    scene.run("to-onnx --checkpoint residual.safetensors --to again.onnx");
    scene.run(
        "import --from again.onnx --classes cat,dog,owl --mean 0.5 0.5 0.5 --std 0.25 0.25 0.25 --to again.safetensors",
    );
    let again = scene.run("describe again.safetensors");
    assert_eq!(again.replace("again:", "residual:"), described);

    scene.run(
        "export --data pictures --series series --checkpoint residual.safetensors --split blocks.0 --split blocks.1",
    );
    scene.run("calibrate --data pictures --series series");
    scene.run("evaluate --data pictures --series series");
    let manifest = Manifest::parse(&bytes(&scene.path("series/manifest.json"))).unwrap();
    assert_eq!(manifest.split_points, ["blocks.0", "blocks.1"]);
    assert_eq!(manifest.variants[0].macs(), network.macs());
    // The series has points at a split, and where features are negative they keep the answer.
    let at = |split: &str| {
        let split = Split::At(split.to_owned());
        let points = manifest.operating_points.iter().filter(move |it| it.split == split);
        points.filter(|it| matches!(it.codec, Codec::Features(_))).count()
    };
    assert!(
        at("blocks.0") > 0 && at("blocks.1") > 0,
        "{:?}",
        manifest.operating_points
    );
    scene.fails(
        "export --data pictures --series other --checkpoint residual.safetensors --split blocks.0.conv1",
        &["cannot be cut at `blocks.0.conv1`; it can at", "stem.2", "blocks.1"],
    );
}

/// Trains the residual network, prunes it in all three regions, and makes a series of the results.
#[test]
fn a_residual_network_is_pruned_in_all_regions_and_served() {
    let scene = Scene::new();
    fs::write(scene.path("residual.onnx"), write_onnx(&network()).bytes).unwrap();
    scene.run("import --from residual.onnx --classes cat,dog,owl --mean 0.5 0.5 0.5 --std 0.25 0.25 0.25 --to residual.safetensors");
    let learn = "--data pictures --batch 24 --warm-up 0.3 --learning-rate 0.02";
    let run = |command: &str, name: &str| {
        scene.run(&format!("{command} {learn} --run runs/{name}"));
        let to = scene.path(&format!("{name}.safetensors"));
        fs::copy(scene.path(&format!("runs/{name}/final.safetensors")), to).unwrap();
    };
    run("train --parent residual.safetensors --epochs 10", "unpruned");
    let prune = "--teacher unpruned.safetensors --multiple 2 --rounds 2 --round-batches 3 --epochs 2";
    run(
        &format!("prune step1 --parent unpruned.safetensors --fewer-macs 2 {prune}"),
        "all",
    );
    run(
        &format!("prune step1 --parent unpruned.safetensors --region head --split blocks.0 --fewer-macs 1.3 {prune}"),
        "head",
    );
    // A residual stream, whose features may be negative, and features behind an activation.
    let narrow = "--teacher unpruned.safetensors --round-batches 3 --epochs 4";
    run(
        &format!(
            "prune step2 --parent head.safetensors --split blocks.0 --width 3 --bits 3 {narrow} --rate-penalty 0.01"
        ),
        "stream",
    );
    run(
        &format!("prune step2 --parent stream.safetensors --split blocks.0 --width 2 --bits 2 {narrow}"),
        "narrower",
    );
    run("train --parent all.safetensors --size 12 12 --epochs 1", "small");
    run(
        &format!(
            "prune step1 --parent unpruned.safetensors --region head --split blocks.0 --fewer-macs 1.3 --match-features {prune}"
        ),
        "matched",
    );
    let checkpoints = ["unpruned", "all", "head", "stream", "narrower", "small", "matched"];
    let flags: String = checkpoints
        .iter()
        .map(|it| format!(" --checkpoint {it}.safetensors"))
        .collect();
    scene.run(&format!(
        "export --data pictures --series series{flags} --split blocks.0 --split blocks.1"
    ));
    scene.run("calibrate --data pictures --series series");
    scene.run("calibrate --data pictures --series series --variant unpruned --split input --split output");
    scene.run("report --series series --run runs/all --to report");

    let manifest = Manifest::parse(&bytes(&scene.path("series/manifest.json"))).unwrap();
    let unpruned: Vec<_> = manifest
        .operating_points
        .iter()
        .filter(|it| it.variant == "unpruned")
        .collect();
    assert!(unpruned.iter().any(|it| it.split == Split::Input) && unpruned.iter().any(|it| it.split == Split::Output));
    assert!(unpruned.iter().all(|it| !matches!(it.split, Split::At(_))));
    let evaluated: Value = serde_json::from_str(&scene.run("evaluate --data pictures --series series --json")).unwrap();
    for (point, evaluated) in manifest
        .operating_points
        .iter()
        .zip(evaluated["points"].as_array().unwrap())
    {
        assert_eq!(evaluated["accuracy"], point.accuracy, "{point:?}");
    }
    assert!(manifest.unpruned.accuracy > 60.0, "{}", manifest.unpruned.accuracy);
    let [unpruned, all, head, stream, narrower, small, matched] = &manifest.variants[..] else {
        panic!("{:?}", manifest.variants)
    };
    assert_eq!(manifest.input_of(small).shape, Shape::new(3, 12, 12).unwrap());
    // Only the head has learned: the tail is the parent's, to the bit.
    assert_eq!(matched.segments[1..], unpruned.segments[1..]);
    assert_ne!(matched.segments[0], unpruned.segments[0]);
    assert!(small.macs() < all.macs() && small.widths == all.widths);
    assert!(all.macs() * 2 <= unpruned.macs());
    let split = Split::At("blocks.0".into());
    let macs = |variant| -> u64 {
        manifest
            .cut_at(variant, &split)
            .unwrap()
            .head
            .iter()
            .map(|it| it.macs)
            .sum()
    };
    let crossing = |variant| manifest.cut_at(variant, &split).unwrap().features.channels();
    assert!(macs(head) * 13 <= macs(unpruned) * 10);
    assert_eq!([unpruned, head, stream, narrower].map(crossing), [8, 8, 3, 2]);
    // Behind the split the head's pruning has left every width, and the bottleneck shares its parent's trunk.
    assert_eq!(head.widths[3..], unpruned.widths[3..]);
    assert_eq!(stream.parent.as_deref(), Some("head"));
    for point in manifest.operating_points.iter().filter(|it| it.variant == "stream") {
        assert!(
            matches!(point.codec, Codec::Features(_)) && point.split == split,
            "{point:?}"
        );
    }
}

#[test]
fn another_name_of_a_split_point_is_the_same_split_point() {
    let scene = Scene::new();
    fs::write(scene.path("residual.onnx"), write_onnx(&network()).bytes).unwrap();
    scene.run("import --from residual.onnx --classes cat,dog,owl --mean 0.5 0.5 0.5 --std 0.25 0.25 0.25 --to residual.safetensors");
    let step2 = "prune step2 --data pictures --parent residual.safetensors --epochs 1 --learning-rate 0.001 --batch 24";
    // The node that ends the block, where the block is what is listed.
    scene.run(&format!(
        "{step2} --split blocks.1.relu_1 --width 4 --run narrow --round-batches 1"
    ));
    scene.run(&format!("{step2} --split blocks.0.add --width 3 --run stream"));
    fs::copy(scene.path("stream/final.safetensors"), scene.path("stream.safetensors")).unwrap();
    let described = scene.run("describe stream.safetensors");
    assert!(
        described.contains("pruned for blocks.0, where features have 3 bits"),
        "{described}"
    );
    // What a variant was pruned for is a split point of its series, unless others are asked for.
    let export =
        "export --data pictures --series series --checkpoint residual.safetensors --checkpoint stream.safetensors";
    scene.run(export);
    let manifest = Manifest::parse(&bytes(&scene.path("series/manifest.json"))).unwrap();
    assert!(
        manifest.split_points.contains(&"blocks.0".to_owned()),
        "{:?}",
        manifest.split_points
    );
    assert_eq!(manifest.variants[1].parent.as_deref(), Some("residual"));
    scene.fails(
        &format!("{export} --split blocks.1"),
        &["stream.safetensors was pruned for blocks.0", "--split blocks.0"],
    );
    scene.fails(
        "prune step1 --data pictures --parent residual.safetensors --run head --region head --split stem.2 --fewer-macs 2",
        &["nothing can be pruned before `stem.2`"],
    );
}
