use std::collections::BTreeMap;

use proptest::prelude::*;
use split_graph::sample::{self, Noise};
use split_graph::{Activation, reference};

use super::*;
use crate::tensors::{self, NamedTensor};

fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let close = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
        assert!(close, "value {at}: {got} is not {expected}");
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<Graph> {
    onnx::parse(bytes.to_vec(), Path::new("."), None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_network_written_as_onnx_is_read_back(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let read = parse(&split_runtime::write_onnx(&graph).bytes).unwrap();
        let image = Noise::new(seed).values(graph.input().values());
        assert_close(&reference::run(&read, &image), &reference::run(&graph, &image));
        let named = |graph: &Graph| tensor_names(graph.nodes());
        prop_assert_eq!(named(&read), named(&graph));
    }

    #[test]
    fn damaged_onnx_files_never_panic(seed in any::<u64>(), flips in prop::collection::vec(any::<(u16, u8)>(), 1..8)) {
        let graph = sample::network(seed % 16).unwrap();
        let mut bytes = split_runtime::write_onnx(&graph).bytes;
        for (at, bits) in flips {
            // The structure is at the front; most of the rest are weights.
            let place = usize::from(at) % bytes.len();
            bytes[place] ^= bits;
        }
        let _ = parse(&bytes);
        let _ = parse(&bytes[..bytes.len() / 2]);
    }
}

/// A file of the least that there is, changed.
fn model(change: impl FnOnce(&mut schema::Graph)) -> Vec<u8> {
    let side = |length| schema::Side {
        length: Some(schema::Length::Fixed(length)),
    };
    let value = |name: &str, sides: &[i64]| schema::Value {
        name: name.into(),
        kind: Some(schema::Type {
            tensor: Some(schema::TensorType {
                shape: Some(schema::Shape {
                    sides: sides.iter().copied().map(side).collect(),
                }),
            }),
        }),
    };
    let mut graph = schema::Graph {
        nodes: vec![
            node("first", "Relu", &["x"], "a"),
            node("second", "Sigmoid", &["a"], "y"),
        ],
        initializers: vec![],
        inputs: vec![value("x", &[1, 3, 4, 4])],
        outputs: vec![value("y", &[1, 3, 4, 4])],
    };
    change(&mut graph);
    let model = schema::Model {
        graph: Some(graph),
        operator_sets: vec![schema::OperatorSet {
            domain: String::new(),
            version: 17,
        }],
    };
    prost::Message::encode_to_vec(&model)
}

fn node(name: &str, operator: &str, inputs: &[&str], output: &str) -> schema::Node {
    schema::Node {
        name: name.into(),
        operator: operator.into(),
        inputs: inputs.iter().map(|it| (*it).into()).collect(),
        outputs: vec![output.into()],
        ..Default::default()
    }
}

fn refused(change: impl FnOnce(&mut schema::Graph), words: &str) {
    let error = format!("{:#}", parse(&model(change)).unwrap_err());
    assert!(error.contains(words), "{error}");
}

#[test]
fn what_an_onnx_file_cannot_be_is_named() {
    assert_eq!(parse(&model(|_| {})).unwrap().nodes().len(), 2);
    refused(
        |it| {
            it.inputs.push(schema::Value {
                name: "z".into(),
                kind: None,
            })
        },
        "one input, the picture; this one has 2: x, z",
    );
    refused(
        |it| {
            it.outputs.push(schema::Value {
                name: "a".into(),
                kind: None,
            })
        },
        "one output, the classes; this one has 2",
    );
    refused(|it| it.nodes[0].inputs[0] = "y".into(), "part of a loop");
    refused(
        |it| it.nodes[0].inputs[0] = "w".into(),
        "takes `w`, which nothing makes",
    );
    refused(
        |it| it.nodes[1].operator = "Erf".into(),
        "node `second` (Erf): this operation is not supported",
    );
    refused(|it| it.nodes[1].domain = "com.microsoft".into(), "com.microsoft");
    let open = |it: &mut schema::Graph| {
        let shape = it.inputs[0]
            .kind
            .as_mut()
            .unwrap()
            .tensor
            .as_mut()
            .unwrap()
            .shape
            .as_mut()
            .unwrap();
        shape.sides[2].length = Some(schema::Length::Named("height".into()));
    };
    refused(open, "dynamic size; say which with --size");
    let graph = onnx::parse(model(open), Path::new("."), Some([5, 4])).unwrap();
    assert_eq!(graph.input(), Shape::new(3, 5, 4).unwrap());
    let tensor = |it: &mut schema::Graph, tensor: schema::Tensor| it.initializers.push(tensor);
    let claimed = schema::Tensor {
        name: "large".into(),
        kind: 1,
        sides: vec![1 << 29],
        raw: vec![0; 8].into(),
        ..Default::default()
    };
    refused(
        |it| tensor(it, claimed),
        "`large`: it has 536870912 values by its shape, and 2 are there",
    );
    let entry = |key: &str, value: &str| schema::Entry {
        key: key.into(),
        value: value.into(),
    };
    let external = |location: &str| schema::Tensor {
        name: "far".into(),
        kind: 1,
        sides: vec![1],
        location: 1,
        external: vec![entry("location", location)],
        ..Default::default()
    };
    refused(
        |it| tensor(it, external("no such file.data")),
        "`far`: its values are in ./no such file.data, which belongs beside",
    );
    refused(|it| tensor(it, external("../secret")), "is not in the folder");
    let whole = model(|_| {});
    for end in 0..whole.len() {
        assert!(parse(&whole[..end]).is_err(), "prefix of {end} bytes");
    }
}

#[test]
fn activations_in_parts_become_one() {
    let graph = parse(&model(|it| it.nodes[1] = node("second", "Mul", &["x", "s"], "y"))).unwrap_err();
    assert!(graph.to_string().contains("`s`"));
    let silu = parse(&model(|it| {
        it.nodes = vec![
            node("gate", "Sigmoid", &["x"], "s"),
            node("product", "Mul", &["x", "s"], "y"),
        ];
    }))
    .unwrap();
    assert_eq!(silu.nodes().len(), 1);
    assert_eq!(silu.nodes()[0].op, Op::Activation(Activation::Silu));
}

/// A constant of one dimension, or a single number.
fn numbers(name: &str, sides: &[i64], values: &[f32]) -> schema::Tensor {
    schema::Tensor {
        name: name.into(),
        kind: 1,
        sides: sides.into(),
        floats: values.into(),
        ..Default::default()
    }
}

fn kinds(graph: &Graph) -> Vec<&'static str> {
    graph.nodes().iter().map(|it| it.op.kind()).collect()
}

/// As tf2onnx writes Keras' hard-swish and hard-sigmoid.
#[test]
fn hard_activations_in_parts_become_one() {
    let parts = |last: schema::Node, more: schema::Node| {
        let nodes = vec![
            node("plus", "Add", &["x", "three"], "a"),
            node("clip", "Clip", &["a", "zero", "six"], "b"),
            last,
            more,
        ];
        let file = model(|it| {
            it.nodes = nodes;
            it.initializers = vec![
                numbers("three", &[], &[3.0]),
                numbers("zero", &[], &[0.0]),
                numbers("six", &[], &[6.0]),
                numbers("sixth", &[], &[1.0 / 6.0]),
            ];
        });
        let graph = parse(&file).unwrap();
        assert_eq!(graph.nodes().len(), 1, "{:?}", kinds(&graph));
        graph.nodes()[0].op.clone()
    };
    let divided = || node("divided", "Mul", &["b", "sixth"], "c");
    let hard_sigmoid = parts(divided(), node("same", "Identity", &["c"], "y"));
    assert_eq!(hard_sigmoid, Op::Activation(Activation::HardSigmoid));
    let hard_swish = parts(divided(), node("product", "Mul", &["x", "c"], "y"));
    assert_eq!(hard_swish, Op::Activation(Activation::HardSwish));
    let hard_swish = parts(
        node("product", "Mul", &["x", "b"], "c"),
        node("six", "Div", &["c", "six"], "y"),
    );
    assert_eq!(hard_swish, Op::Activation(Activation::HardSwish));
}

#[test]
fn factors_and_shifts_go_into_the_layer_before_where_nothing_else_takes_it() {
    let weight = || numbers("w", &[3, 3, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let constants = || {
        let by_channel = |name: &str, values: [f32; 3]| numbers(name, &[1, 3, 1, 1], &values);
        vec![
            weight(),
            by_channel("f", [2.0, 3.0, 4.0]),
            by_channel("s", [0.5, -0.5, 0.0]),
        ]
    };
    let read = |nodes: Vec<schema::Node>| {
        parse(&model(|it| {
            it.nodes = nodes;
            it.initializers = constants();
        }))
        .unwrap()
    };
    let joined = read(vec![
        node("c", "Conv", &["x", "w"], "a"),
        node("m", "Mul", &["a", "f"], "b"),
        node("p", "Sub", &["b", "s"], "y"),
    ]);
    assert_eq!(kinds(&joined), ["convolution"]);
    let apart = read(vec![
        node("c", "Conv", &["x", "w"], "a"),
        node("m", "Mul", &["a", "f"], "b"),
        node("p", "Sub", &["b", "s"], "d"),
        node("sum", "Add", &["a", "d"], "y"),
    ]);
    // The factor and the shift are one layer, and the convolution is as it was.
    assert_eq!(kinds(&apart), ["convolution", "depthwise convolution", "addition"]);
    let image = Noise::new(4).values(3 * 16);
    let (joined, apart) = (reference::run(&joined, &image), reference::run(&apart, &image));
    let value = |position: usize, channel: usize| {
        let sum: f32 = (0..3)
            .map(|input| image[input * 16 + position] * (channel * 3 + input + 1) as f32)
            .sum();
        (sum, sum * [2.0, 3.0, 4.0][channel] - [0.5, -0.5, 0.0][channel])
    };
    let expected: Vec<(f32, f32)> = (0..48).map(|at| value(at % 16, at / 16)).collect();
    assert_close(&joined, &expected.iter().map(|it| it.1).collect::<Vec<_>>());
    assert_close(&apart, &expected.iter().map(|it| it.0 + it.1).collect::<Vec<_>>());
}

/// As Keras pads before a pool, flattens with the channels last and ends.
#[test]
fn what_keras_writes_is_read() {
    let ints = |name: &str, values: &[i64]| schema::Tensor {
        name: name.into(),
        kind: 7,
        sides: vec![values.len() as i64],
        integers: values.into(),
        ..Default::default()
    };
    let attribute = |name: &str, values: &[i64]| schema::Attribute {
        name: name.into(),
        integers: values.into(),
        ..Default::default()
    };
    let with = |mut node: schema::Node, attributes: Vec<schema::Attribute>| {
        node.attributes = attributes;
        node
    };
    // Padded to 6×6 and pooled to 2×2, whose values are [position, channel] for the last layer, which takes one of channel 1.
    let mut weight = vec![0.0; 12];
    weight[2 * 3 + 1] = 1.0;
    let graph = parse(&model(|it| {
        it.nodes = vec![
            node("relu", "Relu", &["x"], "a"),
            node("pad", "Pad", &["a", "pads"], "b"),
            with(
                node("pool", "MaxPool", &["b"], "c"),
                vec![attribute("kernel_shape", &[3, 3]), attribute("strides", &[3, 3])],
            ),
            with(
                node("last", "Transpose", &["c"], "d"),
                vec![attribute("perm", &[0, 2, 3, 1])],
            ),
            node("flat", "Reshape", &["d", "shape"], "e"),
            node("dense", "MatMul", &["e", "w"], "f"),
            node("softmax", "Softmax", &["f"], "y"),
        ];
        it.initializers = vec![
            ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]),
            ints("shape", &[-1, 12]),
            numbers("w", &[12, 1], &weight),
        ];
    }))
    .unwrap();
    assert_eq!(kinds(&graph), ["ReLU", "max pool", "flatten", "linear"]);
    let mut image = vec![-1.0; 48];
    // Row 3, column 0 of channel 1 is in the third window.
    image[16 + 12] = 7.0;
    assert_eq!(reference::run(&graph, &image), [7.0]);
}

/// Saves a small network of an architecture as PyTorch's names and shapes.
fn saved(path: &Path, change: impl FnOnce(&mut BTreeMap<String, NamedTensor>)) {
    let mut nodes = Architecture::AlexNet.nodes(Shape::new(3, 16, 16).unwrap(), 3).unwrap();
    let mut noise = Noise::new(1);
    let mut tensors = BTreeMap::new();
    fill(&mut nodes, |name, shape| {
        let values = sample::values(&mut noise, name, shape);
        let tensor = NamedTensor {
            shape: shape.to_vec(),
            values: values.clone(),
        };
        tensors.insert(name.to_owned(), tensor);
        Ok::<_, std::convert::Infallible>(values)
    })
    .unwrap();
    change(&mut tensors);
    tensors::save(path, &tensors, Default::default()).unwrap();
}

fn alexnet(change: impl FnOnce(&mut BTreeMap<String, NamedTensor>)) -> anyhow::Result<Graph> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    saved(&path, change);
    without_biases_before_norms(of_weights(&path, Architecture::AlexNet, [16, 16])?)
}

#[test]
fn prefixes_counters_and_biases_change_no_network() {
    let plain = alexnet(|_| {}).unwrap();
    let prefixed = |prefix: &str| {
        let rename = |tensors: &mut BTreeMap<String, NamedTensor>| {
            let all = std::mem::take(tensors).into_iter();
            tensors.extend(all.map(|(name, it)| (format!("{prefix}{name}"), it)));
            let count = NamedTensor {
                shape: vec![1],
                values: vec![1.0],
            };
            tensors.insert(format!("{prefix}features.1.num_batches_tracked"), count);
        };
        alexnet(rename).unwrap()
    };
    for prefix in ["", "module.", "_orig_mod.", "state_dict.module.", "model."] {
        assert_eq!(prefixed(prefix), plain, "{prefix}");
    }
    let biased = alexnet(|tensors| {
        let bias = NamedTensor {
            shape: vec![64],
            values: vec![0.5; 64],
        };
        tensors.insert("features.0.bias".into(), bias);
        tensors
            .get_mut("features.1.running_mean")
            .unwrap()
            .values
            .iter_mut()
            .for_each(|it| *it += 0.5);
    });
    let image = Noise::new(2).values(3 * 256);
    assert_close(
        &reference::run(&biased.unwrap(), &image),
        &reference::run(&plain, &image),
    );
}

#[test]
fn what_weights_cannot_be_is_named() {
    let check = |change: &dyn Fn(&mut BTreeMap<String, NamedTensor>), words: &str| {
        let error = format!("{:#}", alexnet(change).unwrap_err());
        assert!(error.contains(words), "{error}");
    };
    let set = |name: &'static str, value: f32| {
        move |tensors: &mut BTreeMap<String, NamedTensor>| tensors.get_mut(name).unwrap().values[1] = value
    };
    check(
        &set("features.1.running_var", f32::NAN),
        "features.1: value 1 of `running_var` is NaN",
    );
    check(
        &set("features.1.running_var", -1.0),
        "features.1: value 1 of `running_var` is -1",
    );
    check(
        &set("features.4.weight", f32::INFINITY),
        "features.4: value 1 of `weight` is inf",
    );
    check(&|it| drop(it.remove("features.5.bias")), "`features.5.bias` is missing");
    check(
        &|it| {
            drop(it.insert(
                "features.99.weight".into(),
                NamedTensor {
                    shape: vec![1],
                    values: vec![1.0],
                },
            ))
        },
        "`features.99.weight` does not belong to alexnet",
    );
}

#[test]
fn other_classes_replace_the_classifier() {
    let graph = alexnet(|_| {}).unwrap();
    let names = |count: usize| -> Vec<String> { (0..count).map(|it| format!("class {it}")).collect() };
    let description = Description::usual(Architecture::AlexNet, [16; 2], names(3));
    let checkpoint = Checkpoint::new(description, graph.clone()).unwrap();
    let three = named(checkpoint.clone(), names(3)).unwrap();
    assert_eq!((three.graph, three.description.classes), (graph.clone(), names(3)));
    let five = named(checkpoint, names(5)).unwrap();
    assert_eq!(five.graph.output(), Shape::new(5, 1, 1).unwrap());
    let before_the_classifier = graph.nodes().len() - 1;
    assert_eq!(
        five.graph.nodes()[..before_the_classifier],
        graph.nodes()[..before_the_classifier]
    );
}

/// Networks of every operation through import, head, tail and segments.
#[test]
#[ignore = "needs Python with onnxruntime, named in PYTHON"]
fn onnxruntime_answers_as_networks_of_every_operation_do() {
    let dir = tempfile::tempdir().unwrap();
    let graph = |seed| sample::network(seed).unwrap();
    let image = |graph: &Graph, seed| Noise::new(seed).values(graph.input().values());
    for seed in 0..60 {
        let graph = graph(seed);
        let bytes: Vec<u8> = image(&graph, seed).iter().flat_map(|it| it.to_le_bytes()).collect();
        std::fs::write(
            dir.path().join(format!("{seed}.onnx")),
            split_runtime::write_onnx(&graph).bytes,
        )
        .unwrap();
        std::fs::write(dir.path().join(format!("{seed}.f32")), bytes).unwrap();
    }
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_logits.py");
    let output = std::process::Command::new(python)
        .arg(script)
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outputs: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&output.stdout).unwrap();
    for seed in 0..60 {
        let (graph, expected) = (graph(seed), &outputs[&seed.to_string()]);
        let image = image(&graph, seed);
        assert_close(&reference::run(&graph, &image), expected);
        let read = onnx::read(&dir.path().join(format!("{seed}.onnx")), None).unwrap();
        let mut network = split_runtime::Network::of(&read).unwrap();
        let mut answer = Vec::new();
        network.run(1, &image, &mut answer).unwrap();
        assert_close(&answer, expected);
        for cut in read.cut_points() {
            let (head, tail) = read.split_at(cut.node).unwrap();
            let mut features = Vec::new();
            split_runtime::Network::of(&head)
                .unwrap()
                .run(1, &image, &mut features)
                .unwrap();
            split_runtime::Network::of(&tail)
                .unwrap()
                .run(1, &features, &mut answer)
                .unwrap();
            assert_close(&answer, expected);
        }
    }
}

/// `small.pth` was written by `torch.save`: below `state_dict` and `module.`, in floats of 16, 32 and 64 bits, the kernels with other strides than
/// a fresh tensor's, beside an optimizer's tensors. The values of every tensor are (place mod 17) / 8 − 1, and 1 for variances.
#[test]
fn pytorchs_own_files_are_read_whatever_strides_and_floats_they_have() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small.pth");
    let graph = of_weights(&path, Architecture::AlexNet, [16, 16]).unwrap();
    let tensors: Vec<_> = graph.nodes().iter().flat_map(|it| it.op.tensors()).collect();
    assert_eq!(tensors.len(), 5 * 5 + 2);
    for tensor in tensors {
        let value = |place: usize| (place % 17) as f32 / 8.0 - 1.0;
        let expected: Vec<f32> = match tensor.name {
            "running_var" => vec![1.0; tensor.values.len()],
            _ => (0..tensor.values.len()).map(value).collect(),
        };
        assert_eq!(*tensor.values, expected, "{} {:?}", tensor.name, tensor.shape);
    }
    let bytes = std::fs::read(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.pth");
    for end in (0..bytes.len()).step_by(97) {
        std::fs::write(&cut, &bytes[..end]).unwrap();
        assert!(
            of_weights(&cut, Architecture::AlexNet, [16, 16]).is_err(),
            "prefix of {end} bytes"
        );
    }
    let error = of_weights(&path, Architecture::ResNet18, [32, 32])
        .unwrap_err()
        .to_string();
    assert!(error.contains("another architecture"), "{error}");
}
