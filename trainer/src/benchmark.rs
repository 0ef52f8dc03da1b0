//! `trainer benchmark`: how many pictures a second are learned from, for comparison with other frameworks.

use std::time::{Duration, Instant};

use anyhow::ensure;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use serde_json::json;

use crate::augment::mix;
use crate::checkpoint::Checkpoint;
use crate::learn::{Learner, Lesson};
use crate::model::Network;
use crate::network::Description;
use crate::settings::Learning;

/// Side of the pictures.
const SIDE: usize = 32;
/// Classes.
const CLASSES: usize = 10;
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
    let classes = (0..CLASSES).map(|it| it.to_string()).collect();
    let mut description = Description::unpruned("vgg16", [3, SIDE, SIDE], classes)?;
    if !arguments.widths.is_empty() {
        description.widths.clone_from(&arguments.widths);
    }
    let duration = Duration::try_from_secs_f64(arguments.seconds)?;
    let (images_per_second, steps) = measure(description, arguments.batch, duration)?;
    println!("{}", json!({ "images_per_second": images_per_second, "steps": steps }));
    Ok(())
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
    let mut step = || learner.step(&lesson, &learning, learning.learning_rate, None);
    for _ in 0..WARM_UP {
        step();
    }
    let (started, mut steps) = (Instant::now(), 0);
    while steps == 0 || started.elapsed() < duration {
        step();
        steps += 1;
    }
    Ok(((steps * batch) as f64 / started.elapsed().as_secs_f64(), steps))
}

/// Noise, and classes in turn: what is learned does not change the work.
fn lesson(description: &Description, batch: usize, device: &Device) -> Lesson {
    let [channels, height, width] = description.input;
    let noise = |at: usize| (mix(at as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
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
