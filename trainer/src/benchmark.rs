//! `trainer benchmark`: how many pictures a second are learned from, for comparison with other frameworks.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use serde_json::json;
use split_core::Shape;
use split_graph::{Architecture, Graph, fill};
use split_train::{Momentum, cross_entropy};

use crate::augment::mix;
use crate::checkpoint::Checkpoint;
use crate::learn::{Learner, Lesson};
use crate::model::Network;
use crate::network::Description;
use crate::settings::Learning;

/// Side of the pictures.
const SIDE: usize = 32;
/// Classes of VGG-16.
const CLASSES: usize = 10;
/// Classes of any other network.
const LARGE_CLASSES: usize = 1000;
/// How long a guess is measured.
const TRIAL: Duration = Duration::from_secs(2);
/// Steps before the clock starts.
const WARM_UP: usize = 2;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Filters of each of VGG-16's convolutions, separated by commas; the unpruned network's if not given.
    #[arg(long, value_delimiter = ',')]
    widths: Vec<usize>,
    /// Another network than VGG-16, unpruned, on pictures of its usual size: `tf_efficientnet_lite0`, `resnet18`.
    #[arg(long, conflicts_with = "widths")]
    architecture: Option<String>,
    /// Pictures in a batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
}

/// Takes training steps on made-up pictures and prints one JSON object: `images_per_second` and `steps`.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.batch > 0, "a batch of no pictures");
    let duration = Duration::try_from_secs_f64(arguments.seconds)?;
    let (images_per_second, steps) = match &arguments.architecture {
        Some(name) => measure_any(name, arguments.batch, duration)?,
        None => measure(chain(arguments)?, arguments.batch, duration)?,
    };
    println!("{}", json!({ "images_per_second": images_per_second, "steps": steps }));
    Ok(())
}

/// VGG-16 of the widths asked for.
fn chain(arguments: &Arguments) -> anyhow::Result<Description> {
    let classes = (0..CLASSES).map(|it| it.to_string()).collect();
    let mut description = Description::unpruned("vgg16", [3, SIDE, SIDE], classes)?;
    if !arguments.widths.is_empty() {
        description.widths.clone_from(&arguments.widths);
    }
    Ok(description)
}

/// About how long learning from one picture takes, by a few steps.
pub fn seconds_per_picture(description: Description, batch: usize) -> anyhow::Result<f64> {
    let (images_per_second, _) = measure(description, batch, TRIAL)?;
    Ok(1.0 / images_per_second)
}

/// Images a second, and in how many steps that was measured.
fn measure(description: Description, batch: usize, duration: Duration) -> anyhow::Result<(f64, usize)> {
    let device = Device::flex();
    let (lesson, learning) = (lesson(&description, batch, &device), learning());
    let network = Network::from_checkpoint(&Checkpoint::random(description, 1)?, &device)?;
    let mut learner = Learner::new(network, 0);
    Ok(timed(batch, duration, || {
        learner.step(&lesson, &learning, learning.learning_rate, None);
    }))
}

/// The same for a network of any architecture.
fn measure_any(name: &str, batch: usize, duration: Duration) -> anyhow::Result<(f64, usize)> {
    let architecture = Architecture::of(name).with_context(|| {
        let known: Vec<&str> = Architecture::all().map(Architecture::name).collect();
        format!("there is no architecture `{name}`; there are {}", known.join(", "))
    })?;
    let [height, width] = architecture.usual_size();
    let input = Shape::new(3, height, width)?;
    let mut nodes = architecture.nodes(input, LARGE_CLASSES)?;
    let mut tensors = 0;
    fill(&mut nodes, |_, shape| {
        tensors += 1;
        let inputs = shape.iter().skip(1).product::<usize>() as f32;
        // Weights under which values keep their size; ones for batch norm.
        let value = |at: usize| match shape.len() {
            1 => 1.0,
            _ => noise(tensors << 32 | at) * (6.0 / inputs).sqrt(),
        };
        Ok::<_, anyhow::Error>((0..shape.iter().product()).map(value).collect())
    })?;
    let mut network = split_train::Network::new(&Graph::new(input, nodes)?);
    let pictures: Vec<f32> = (0..batch * input.values()).map(noise).collect();
    let labels: Vec<usize> = (0..batch).map(|it| it % LARGE_CLASSES).collect();
    let mut optimizer = Momentum::new(0.9, 5e-4);
    Ok(timed(batch, duration, || {
        let pass = network.pass(&pictures, None, &mut ());
        let (_, slope) = cross_entropy(pass.output(), &labels, 0.1);
        network.update_moments(&pass);
        let gradients = network.backward(pass, slope, &mut ());
        optimizer.step(&mut network, &gradients, 0.001);
    }))
}

/// Images a second, and in how many steps that was measured.
fn timed(batch: usize, duration: Duration, mut step: impl FnMut()) -> (f64, usize) {
    for _ in 0..WARM_UP {
        step();
    }
    let (started, mut steps) = (Instant::now(), 0);
    while steps == 0 || started.elapsed() < duration {
        step();
        steps += 1;
    }
    ((steps * batch) as f64 / started.elapsed().as_secs_f64(), steps)
}

fn noise(at: usize) -> f32 {
    (mix(at as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Noise, and classes in turn: what is learned does not change the work.
fn lesson(description: &Description, batch: usize, device: &Device) -> Lesson {
    let [channels, height, width] = description.input;
    let values = (0..batch * height * width * channels).map(noise).collect::<Vec<f32>>();
    Lesson {
        pictures: Tensor::from_data(TensorData::new(values, [batch, height, width, channels]), device),
        labels: (0..batch).map(|it| it % description.classes.len()).collect(),
        teacher: None,
    }
}

/// Plain training, as `trainer train` does it.
fn learning() -> Learning {
    Learning {
        learning_rate: 0.01,
        ..Learning::usual()
    }
}
