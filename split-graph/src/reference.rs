//! What a network computes, in plain loops: slow, and obviously right. Tests hold everything that runs networks against it.

use split_core::Shape;

use crate::graph::{Graph, Source};
use crate::op::{Convolution, Op, Window};

/// The output for one image `[C, H, W]`, whose length is that of the network's input.
pub fn run(graph: &Graph, image: &[f32]) -> Vec<f32> {
    run_masked(graph, image, |_, _| true)
}

/// The same, with every channel of every tensor set to zero for which `shown` is false.
pub fn run_masked(graph: &Graph, image: &[f32], shown: impl Fn(Source, usize) -> bool) -> Vec<f32> {
    let mut values: Vec<Vec<f32>> = Vec::with_capacity(graph.nodes().len());
    for (number, node) in graph.nodes().iter().enumerate() {
        let inputs: Vec<(&[f32], Shape)> = node
            .inputs
            .iter()
            .map(|source| {
                let values = match *source {
                    Source::Input => image,
                    Source::Node(it) => &values[it],
                };
                (values, graph.shape(*source))
            })
            .collect();
        let shape = graph.shape(Source::Node(number));
        let mut made = compute(&node.op, &inputs, shape);
        for (channel, values) in made.chunks_exact_mut(shape.positions()).enumerate() {
            if !shown(Source::Node(number), channel) {
                values.fill(0.0);
            }
        }
        values.push(made);
    }
    values.pop().unwrap_or_default()
}

fn compute(op: &Op, inputs: &[(&[f32], Shape)], output: Shape) -> Vec<f32> {
    let (x, shape) = inputs[0];
    let channel_of = |at: usize| at / shape.positions();
    match op {
        Op::Convolution(it) => convolve(it, x, shape, output),
        Op::BatchNorm(it) => {
            let scaled = x.iter().enumerate().map(|(at, x)| {
                let (factor, shift) = it.factor(channel_of(at));
                x * factor + shift
            });
            scaled.collect()
        }
        Op::Activation(it) => x.iter().map(|x| it.of(*x)).collect(),
        Op::Add => x.iter().zip(inputs[1].0).map(|(a, b)| a + b).collect(),
        Op::Gate => x
            .iter()
            .enumerate()
            .map(|(at, x)| x * inputs[1].0[channel_of(at)])
            .collect(),
        Op::Concat => inputs.iter().flat_map(|it| it.0).copied().collect(),
        Op::MaxPool(window) => pool(window, x, shape, output, |seen, _| {
            seen.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        }),
        Op::AveragePool {
            window,
            count_include_pad,
        } => pool(window, x, shape, output, |seen, padded| {
            seen.iter().sum::<f32>() / if *count_include_pad { padded } else { seen.len() } as f32
        }),
        Op::GlobalAveragePool => x
            .chunks_exact(shape.positions())
            .map(|it| it.iter().sum::<f32>() / it.len() as f32)
            .collect(),
        Op::Flatten => x.to_vec(),
        Op::Linear(it) => it
            .weight
            .chunks_exact(it.inputs)
            .enumerate()
            .map(|(output, row)| {
                let sum: f32 = row.iter().zip(x).map(|(w, x)| w * x).sum();
                sum + it.bias.as_ref().map_or(0.0, |it| it[output])
            })
            .collect(),
    }
}

/// Places of the input that a window sees at an output's row and column, with the place in the kernel.
fn seen(window: &Window, shape: Shape, y: usize, x: usize) -> impl Iterator<Item = (usize, usize)> {
    let Window {
        kernel: [rows, columns],
        stride,
        padding,
    } = *window;
    let (top, left) = (y * stride[0], x * stride[1]);
    (0..rows * columns).filter_map(move |at| {
        let row = (top + at / columns).checked_sub(padding.top)?;
        let column = (left + at % columns).checked_sub(padding.left)?;
        (row < shape.height() && column < shape.width()).then_some((at, row * shape.width() + column))
    })
}

fn convolve(it: &Convolution, image: &[f32], shape: Shape, output: Shape) -> Vec<f32> {
    let [rows, columns] = it.window.kernel;
    let (area, each) = (rows * columns, it.inputs / it.groups);
    let mut made = Vec::with_capacity(output.values());
    for o in 0..it.outputs {
        let first = o / (it.outputs / it.groups) * each;
        for (y, x) in places(output) {
            let mut sum = it.bias.as_ref().map_or(0.0, |it| it[o]);
            for (at, place) in seen(&it.window, shape, y, x) {
                for i in 0..each {
                    sum += it.weight[(o * each + i) * area + at] * image[(first + i) * shape.positions() + place];
                }
            }
            made.push(sum);
        }
    }
    made
}

/// `reduce` gets the values that a window sees, and how many it covers with those in the padding.
fn pool(
    window: &Window,
    image: &[f32],
    shape: Shape,
    output: Shape,
    reduce: impl Fn(&[f32], usize) -> f32,
) -> Vec<f32> {
    let covered = window.kernel.iter().product();
    let mut made = Vec::with_capacity(output.values());
    for channel in image.chunks_exact(shape.positions()) {
        for (y, x) in places(output) {
            let values: Vec<f32> = seen(window, shape, y, x).map(|(_, place)| channel[place]).collect();
            made.push(reduce(&values, covered));
        }
    }
    made
}

fn places(shape: Shape) -> impl Iterator<Item = (usize, usize)> {
    (0..shape.height()).flat_map(move |y| (0..shape.width()).map(move |x| (y, x)))
}
