//! `trainer benchmark`: how many pictures a second are learned from, for comparison with other frameworks.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use serde_json::json;
use split_graph::{Architecture, Graph};

use crate::augment::mix;
use crate::checkpoint::{Checkpoint, Description, architecture};
use crate::learn::{Learner, Lesson, Part};
use crate::settings::Learning;

/// Classes of a network for small pictures, and of any other.
const CLASSES: [usize; 2] = [10, 1000];
/// How long a guess is measured, and in how many steps at least.
const TRIAL: (Duration, usize) = (Duration::from_secs(2), 3);
/// Learning rate: small, since noise teaches nothing.
const RATE: f64 = 0.001;
/// Steps before the clock starts.
const WARM_UP: usize = 2;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Which network, on pictures of its usual size.
    #[arg(long, default_value = "vgg16")]
    architecture: String,
    /// Channels of each of its groups, separated by commas; the unpruned network's if not given.
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
    let duration = Duration::try_from_secs_f64(arguments.seconds)?;
    let architecture = architecture(&arguments.architecture)?;
    let size = architecture.usual_size();
    let classes = CLASSES[usize::from(size != Architecture::Vgg16.usual_size())];
    let classes = (0..classes).map(|it| it.to_string()).collect();
    let mut checkpoint = Checkpoint::random(Description::usual(architecture, size, classes), 1)?;
    if !arguments.widths.is_empty() {
        checkpoint = checkpoint.narrowed(&arguments.widths)?;
    }
    let steps = measure(&checkpoint.graph, arguments.batch, (duration, 1))?;
    let images_per_second = (steps.len() * arguments.batch) as f64 / steps.iter().sum::<f64>();
    println!(
        "{}",
        json!({ "images_per_second": images_per_second, "steps": steps.len() })
    );
    Ok(())
}

/// About how long learning from one picture takes: the median of a few steps, since other programs may slow some down.
pub fn seconds_per_picture(graph: &Graph, batch: usize) -> anyhow::Result<f64> {
    let mut steps = measure(graph, batch, TRIAL)?;
    steps.sort_by(f64::total_cmp);
    Ok(steps[steps.len() / 2] / batch as f64)
}

/// Seconds that each step takes; steps are taken until both bounds are reached. The pictures are noise: what is learned does not change the work.
fn measure(graph: &Graph, batch: usize, (duration, count): (Duration, usize)) -> anyhow::Result<Vec<f64>> {
    let classes = graph.output().channels();
    let lesson = Lesson {
        input: (0..batch * graph.input().values()).map(noise).collect(),
        labels: (0..batch).map(|it| it % classes).collect(),
        ..Lesson::default()
    };
    let learning = Learning::usual();
    let mut learner = Learner::new(graph, Part::default(), &learning)?;
    let mut step = || {
        let started = Instant::now();
        learner.step(&lesson, &learning, RATE, None);
        started.elapsed().as_secs_f64()
    };
    (0..WARM_UP).for_each(|_| _ = step());
    let (started, mut steps) = (Instant::now(), Vec::new());
    while steps.len() < count || started.elapsed() < duration {
        steps.push(step());
    }
    Ok(steps)
}

fn noise(at: usize) -> f32 {
    (mix(at as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0
}
