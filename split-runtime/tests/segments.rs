//! Segments against the network they were cut from, and against plain loops.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use split_core::Shape;
use split_runtime::{Layer, LoadError, Network, RunError, SegmentFile, write_segment};

/// Reproducible values in [-1, 1).
struct Noise(u64);

impl Noise {
    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn convolution(noise: &mut Noise, inputs: usize, outputs: usize, kernel: usize) -> Layer {
    let fan_in = (inputs * kernel * kernel) as f32;
    let weight = noise
        .values(outputs * inputs * kernel * kernel)
        .iter()
        .map(|it| it * (3.0 / fan_in).sqrt())
        .collect();
    let bias = noise.values(outputs).iter().map(|it| it * 0.1).collect();
    Layer::Convolution {
        inputs,
        outputs,
        kernel,
        stride: 1,
        padding: kernel / 2,
        weight,
        bias,
        relu: true,
    }
}

fn linear(noise: &mut Noise, inputs: usize, outputs: usize, relu: bool) -> Layer {
    let weight = noise
        .values(outputs * inputs)
        .iter()
        .map(|it| it / (inputs as f32).sqrt())
        .collect();
    Layer::Linear {
        inputs,
        outputs,
        weight,
        bias: noise.values(outputs),
        relu,
    }
}

const POOL: Layer = Layer::MaxPool { kernel: 2, stride: 2 };

fn image() -> Shape {
    Shape::new(3, 16, 16).unwrap()
}

/// A small network of every kind of layer, with odd widths and a single channel among them.
fn layers() -> Vec<Layer> {
    let noise = &mut Noise(1);
    vec![
        convolution(noise, 3, 7, 3),
        convolution(noise, 7, 8, 3),
        POOL,
        convolution(noise, 8, 1, 3),
        POOL,
        convolution(noise, 1, 12, 5),
        POOL,
        linear(noise, 12 * 2 * 2, 20, true),
        linear(noise, 20, 10, false),
    ]
}

/// Writes every layer as its own segment.
fn segments() -> Vec<SegmentFile> {
    let mut shape = image();
    let write = |layer: &Layer| {
        let segment = write_segment(shape, std::slice::from_ref(layer)).unwrap();
        shape = segment.output;
        segment
    };
    layers().iter().map(write).collect()
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
    let uncut = write_segment(image(), &layers()).unwrap();
    let mut uncut = load(image(), &[uncut]);
    let segments = segments();
    for batch in [1, 3] {
        let input = Noise(2).values(batch * image().values());
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
    let input = Noise(3).values(image().values());
    let mut uncut = load(image(), &[write_segment(image(), &layers()).unwrap()]);
    let mut joined = load(image(), &segments());
    assert_eq!(run(&mut joined, 1, &input), run(&mut uncut, 1, &input));
}

#[test]
fn no_segments_are_the_identity() {
    let mut network = load(image(), &[]);
    let input = Noise(4).values(2 * image().values());
    assert_eq!(network.output(), image());
    assert_eq!(run(&mut network, 2, &input), input);
}

#[test]
fn a_clone_runs_independently() {
    let mut network = load(image(), &segments());
    let input = Noise(5).values(image().values());
    let expected = run(&mut network, 1, &input);
    let mut clone = network.clone();
    let got = std::thread::spawn(move || run(&mut clone, 1, &input)).join().unwrap();
    assert_eq!(got, expected);
}

#[test]
fn convolution_equals_plain_loops() {
    for (kernel, stride, padding) in [(3, 1, 1), (1, 1, 0), (5, 2, 2), (3, 2, 0)] {
        let noise = &mut Noise(6);
        let Layer::Convolution {
            inputs,
            outputs,
            weight,
            bias,
            ..
        } = convolution(noise, 5, 6, kernel)
        else {
            unreachable!()
        };
        let shape = Shape::new(5, 9, 7).unwrap();
        let input = noise.values(shape.values());
        let layer = Layer::Convolution {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            weight: weight.clone(),
            bias: bias.clone(),
            relu: true,
        };
        let segment = write_segment(shape, &[layer]).unwrap();
        let output = segment.output;
        let got = run(&mut load(shape, &[segment]), 1, &input);
        let mut expected = Vec::new();
        for o in 0..outputs {
            for y in 0..output.height() {
                for x in 0..output.width() {
                    let mut sum = bias[o];
                    for i in 0..inputs {
                        for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                            let (row, column) = (
                                (y * stride + ky).wrapping_sub(padding),
                                (x * stride + kx).wrapping_sub(padding),
                            );
                            if row < shape.height() && column < shape.width() {
                                sum += input[(i * shape.height() + row) * shape.width() + column]
                                    * weight[((o * inputs + i) * kernel + ky) * kernel + kx];
                            }
                        }
                    }
                    expected.push(sum.max(0.0));
                }
            }
        }
        // Half precision has 11 significant bits; the inputs are below 1.
        assert_close(&got, &expected, 2e-3);
    }
}

#[test]
fn linear_equals_plain_loops() {
    let noise = &mut Noise(7);
    let Layer::Linear {
        inputs,
        outputs,
        weight,
        bias,
        ..
    } = linear(noise, 24, 5, false)
    else {
        unreachable!()
    };
    let shape = Shape::new(2, 3, 4).unwrap();
    let input = noise.values(24);
    let dot = |o: usize| (0..inputs).map(|i| weight[o * inputs + i] * input[i]).sum::<f32>() + bias[o];
    let expected = (0..outputs).map(dot).collect::<Vec<_>>();
    let segment = write_segment(
        shape,
        &[Layer::Linear {
            inputs,
            outputs,
            weight,
            bias,
            relu: false,
        }],
    )
    .unwrap();
    assert_eq!((segment.macs, segment.output), (120, Shape::new(5, 1, 1).unwrap()));
    assert_close(&run(&mut load(shape, &[segment]), 1, &input), &expected, 2e-3);
}

#[test]
fn counts_multiply_accumulates() {
    let noise = &mut Noise(8);
    let segment = write_segment(image(), &[convolution(noise, 3, 4, 3), POOL]).unwrap();
    assert_eq!(segment.macs, 4 * 16 * 16 * 3 * 9);
    assert_eq!(segment.output, Shape::new(4, 8, 8).unwrap());
}

#[test]
fn same_layers_same_bytes() {
    assert_eq!(segments(), segments());
}

#[test]
fn damage_is_refused_or_harmless() {
    let segment = write_segment(image(), &layers()[..1]).unwrap();
    let load = |bytes: &[u8]| Network::load(image(), [bytes]);
    for end in 0..segment.bytes.len() {
        assert!(
            matches!(load(&segment.bytes[..end]), Err(LoadError::Archive { .. })),
            "prefix of {end} bytes"
        );
    }
    let input = Noise(10).values(image().values());
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
fn refuses_layers_that_contradict_themselves() {
    let noise = &mut Noise(9);
    let check = |layer: Layer, message: &str| {
        let error = write_segment(image(), &[POOL, layer]).unwrap_err().to_string();
        assert!(error.contains("layer 1") && error.contains(message), "{error}");
    };
    check(convolution(noise, 4, 4, 3), "takes 4 inputs");
    check(linear(noise, 10, 4, true), "takes 10 inputs");
    check(Layer::MaxPool { kernel: 9, stride: 1 }, "does not fit");
    check(Layer::MaxPool { kernel: 2, stride: 0 }, "does not fit");
    let Layer::Linear {
        inputs,
        outputs,
        mut weight,
        bias,
        relu,
    } = linear(noise, 192, 4, true)
    else {
        unreachable!()
    };
    weight[3] = 1e6;
    check(
        Layer::Linear {
            inputs,
            outputs,
            weight: weight.clone(),
            bias: bias.clone(),
            relu,
        },
        "1000000",
    );
    weight.pop();
    check(
        Layer::Linear {
            inputs,
            outputs,
            weight,
            bias,
            relu,
        },
        "holds 767 values",
    );
}
