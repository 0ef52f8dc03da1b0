//! Segments against the network they were cut from, and against plain loops.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use proptest::prelude::*;
use split_core::Shape;
use split_graph::{
    Activation, Convolution, Graph, Linear, Op, Window, reference,
    sample::{self, Noise},
};
use split_runtime::{LoadError, Network, RunError, SegmentFile, read_segments, write_segment};

fn convolution(noise: &mut Noise, inputs: usize, outputs: usize, kernel: usize) -> Vec<Op> {
    let fan_in = (inputs * kernel * kernel) as f32;
    let weight = noise.values(outputs * inputs * kernel * kernel);
    let convolution = Op::Convolution(Convolution {
        inputs,
        outputs,
        groups: 1,
        window: Window::square(kernel, 1, kernel / 2),
        weight: weight.iter().map(|it| it * (3.0 / fan_in).sqrt()).collect(),
        bias: Some(noise.values(outputs).iter().map(|it| it * 0.1).collect()),
    });
    vec![convolution, Op::Activation(Activation::Relu)]
}

fn linear(noise: &mut Noise, inputs: usize, outputs: usize) -> Op {
    let weight = noise.values(outputs * inputs);
    Op::Linear(Linear {
        inputs,
        outputs,
        weight: weight.iter().map(|it| it / (inputs as f32).sqrt()).collect(),
        bias: Some(noise.values(outputs)),
    })
}

fn pool() -> Vec<Op> {
    vec![Op::MaxPool(Window::square(2, 2, 0))]
}

fn image() -> Shape {
    Shape::new(3, 16, 16).unwrap()
}

/// A small network of the layers of a VGG, in pieces, with odd widths and a single channel among them.
fn pieces() -> Vec<Vec<Op>> {
    let noise = &mut Noise::new(1);
    vec![
        convolution(noise, 3, 7, 3),
        convolution(noise, 7, 8, 3),
        pool(),
        convolution(noise, 8, 1, 3),
        pool(),
        convolution(noise, 1, 12, 5),
        pool(),
        vec![
            Op::Flatten,
            linear(noise, 12 * 2 * 2, 20),
            Op::Activation(Activation::Relu),
        ],
        vec![linear(noise, 20, 10)],
    ]
}

fn whole() -> SegmentFile {
    write_segment(&sample::chain(image(), pieces().concat()).unwrap()).unwrap()
}

/// Writes every piece as its own segment.
fn segments() -> Vec<SegmentFile> {
    let mut shape = image();
    let write = |ops: Vec<Op>| {
        let segment = write_segment(&sample::chain(shape, ops).unwrap()).unwrap();
        shape = segment.output;
        segment
    };
    pieces().into_iter().map(write).collect()
}

fn load(input: Shape, segments: &[SegmentFile]) -> Network {
    Network::load(input, segments.iter().map(|it| it.bytes.as_slice())).unwrap()
}

fn run(network: &mut Network, batch: usize, input: &[f32]) -> Vec<f32> {
    let mut output = vec![f32::NAN; 3];
    network.run(batch, input, &mut output).unwrap();
    assert_eq!(output.len(), batch * network.output().values());
    output
}

fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (at, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(
            (g - e).abs() <= tolerance * (1.0 + e.abs()),
            "value {at}: {g} is not {e}"
        );
    }
}

#[test]
fn tail_of_head_equals_the_uncut_network_at_every_split_point() {
    let mut uncut = load(image(), &[whole()]);
    let segments = segments();
    for batch in [1, 3] {
        let input = Noise::new(2).values(batch * image().values());
        let expected = run(&mut uncut, batch, &input);
        for split in 0..=segments.len() {
            let mut head = load(image(), &segments[..split]);
            let mut tail = load(head.output(), &segments[split..]);
            let features = run(&mut head, batch, &input);
            assert_close(&run(&mut tail, batch, &features), &expected, 1e-5);
        }
    }
}

#[test]
fn joined_segments_equal_one_segment() {
    let input = Noise::new(3).values(image().values());
    let mut uncut = load(image(), &[whole()]);
    let mut joined = load(image(), &segments());
    assert_eq!(run(&mut joined, 1, &input), run(&mut uncut, 1, &input));
}

#[test]
fn no_segments_are_the_identity() {
    let mut network = load(image(), &[]);
    let input = Noise::new(4).values(2 * image().values());
    assert_eq!(network.output(), image());
    assert_eq!(run(&mut network, 2, &input), input);
}

#[test]
fn a_clone_runs_independently() {
    let mut network = load(image(), &segments());
    let input = Noise::new(5).values(image().values());
    let expected = run(&mut network, 1, &input);
    let mut clone = network.clone();
    let got = std::thread::spawn(move || run(&mut clone, 1, &input)).join().unwrap();
    assert_eq!(got, expected);
}

/// The network with weights and biases that a segment holds exactly.
fn rounded(graph: &Graph) -> Graph {
    let folded = graph.folded().unwrap();
    let mut nodes = folded.into_nodes();
    for tensor in nodes.iter_mut().flat_map(|it| it.op.tensors_mut()) {
        for value in tensor.values {
            *value = (*value * 512.0).round() / 512.0;
        }
    }
    Graph::new(graph.input(), nodes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn segments_of_every_operation_equal_plain_loops(seed in any::<u64>()) {
        let graph = rounded(&sample::network(seed).unwrap());
        let image = Noise::new(seed).values(graph.input().values());
        let segment = write_segment(&graph).unwrap();
        prop_assert_eq!((segment.output, segment.macs), (graph.output(), graph.macs()));
        let expected = reference::run(&graph, &image);
        let read = read_segments(graph.input(), [&segment.bytes[..]]).unwrap();
        assert_close(&reference::run(&read, &image), &expected, 1e-4);
        assert_close(&run(&mut load(graph.input(), &[segment]), 1, &image), &expected, 1e-4);
    }

    #[test]
    fn tail_of_head_equals_the_uncut_network_of_every_operation(seed in any::<u64>()) {
        let graph = sample::network(seed).unwrap();
        let image = Noise::new(seed).values(graph.input().values());
        let whole = run(&mut load(graph.input(), &[write_segment(&graph).unwrap()]), 1, &image);
        for cut in graph.cut_points() {
            let (head, tail) = graph.split_at(cut.node).unwrap();
            let features = run(&mut load(graph.input(), &[write_segment(&head).unwrap()]), 1, &image);
            let answer = run(&mut load(cut.shape, &[write_segment(&tail).unwrap()]), 1, &features);
            // Weights that are folded together are rounded together.
            assert_close(&answer, &whole, 5e-3);
        }
    }
}

#[test]
fn counts_multiply_accumulates() {
    let noise = &mut Noise::new(8);
    let ops = [convolution(noise, 3, 4, 3), pool()].concat();
    let segment = write_segment(&sample::chain(image(), ops).unwrap()).unwrap();
    assert_eq!(segment.macs, 4 * 16 * 16 * 3 * 9);
    assert_eq!(segment.output, Shape::new(4, 8, 8).unwrap());
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    assert_eq!(segments(), segments());
}

#[test]
fn damage_is_refused_or_harmless() {
    let segment = segments().swap_remove(0);
    let load = |bytes: &[u8]| Network::load(image(), [bytes]);
    for end in 0..segment.bytes.len() {
        assert!(
            matches!(load(&segment.bytes[..end]), Err(LoadError::Archive { .. })),
            "prefix of {end} bytes"
        );
    }
    let input = Noise::new(10).values(image().values());
    let expected = run(&mut load(&segment.bytes).unwrap(), 1, &input);
    for at in 0..segment.bytes.len() {
        let mut damaged = segment.bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        // Some bits of gzip carry no content: a time, the padding of a block. Flipping one may pass, but never changes an answer.
        if let Ok(mut network) = load(&damaged) {
            assert_eq!(run(&mut network, 1, &input), expected, "byte {at}");
        }
    }
}

#[test]
fn refuses_segments_that_do_not_follow_each_other() {
    let segments = segments();
    let swapped = Network::load(image(), [segments[1].bytes.as_slice(), &segments[0].bytes]);
    assert!(
        matches!(swapped, Err(LoadError::Mismatch { segment: 0, .. })),
        "{swapped:?}"
    );
}

#[test]
fn refuses_inputs_of_the_wrong_length() {
    let mut network = load(image(), &segments());
    for (batch, values) in [(1, 767), (1, 769), (2, 768), (usize::MAX, 768)] {
        let result = network.run(batch, &vec![0.0; values], &mut Vec::new());
        assert!(matches!(result, Err(RunError::Length { .. })), "{batch} × {values}");
    }
}

#[test]
fn refuses_weights_that_16_bits_cannot_hold() {
    let Op::Linear(mut it) = linear(&mut Noise::new(9), 768, 4) else {
        unreachable!()
    };
    it.weight[3] = 1e6;
    let network = sample::chain(image(), [Op::Flatten, Op::Linear(it)]).unwrap();
    let error = write_segment(&network).unwrap_err().to_string();
    assert!(error.contains("linear 1") && error.contains("1000000"), "{error}");
}
