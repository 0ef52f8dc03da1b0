//! The subcommands that learn: `train`, `prune step1`, `prune step2` and `resume`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::checkpoint::Checkpoint;
use crate::data::{Dataset, Subset};
use crate::run;
use crate::settings::{Learning, Settings, Step1, Step2, Task};

const TRAIN_EXAMPLES: &str = "\
Examples:
  VGG-16 on an image folder with train/<class>/* and test/<class>/*:
    trainer train --data pictures --run runs/unpruned --epochs 100
  VGG-11 for pictures of 64 × 96:
    trainer train --data pictures --run runs/small --architecture vgg11 --size 64 96
The result is RUN/final.safetensors. The same command goes on with a run that was stopped.";

const RESUME_EXAMPLES: &str = "\
Example:
    trainer resume runs/unpruned
RUN/settings.json says what the run does; nothing but the part-epoch in which it was stopped is lost.";

const STEP1_EXAMPLES: &str = "\
Example: an eighth of the multiply–accumulates, learning from the unpruned network too:
    trainer prune step1 --data pictures --run runs/step1-8x --parent runs/unpruned/final.safetensors \\
        --teacher runs/unpruned/final.safetensors --fewer-macs 8
The result is RUN/final.safetensors. The same command goes on with a run that was stopped.";

const STEP2_EXAMPLES: &str = "\
Example: 12 channels of 3 bits at pool3, from a network that step 1 made:
    trainer prune step2 --data pictures --run runs/pool3-12 --parent runs/step1-8x/final.safetensors \\
        --teacher runs/unpruned/final.safetensors --split pool3 --width 12 --bits 3
Runs of different split points and widths do not depend on each other: start them on as many machines as there are.";

/// What to learn.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Train a network from random weights, or train a checkpoint further.
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(Train),
    /// Remove filters: step 1 from the whole network, step 2 just before a split point.
    #[command(subcommand)]
    Prune(Prune),
    /// Go on with a run that was stopped.
    #[command(after_help = RESUME_EXAMPLES)]
    Resume {
        /// The run's folder.
        folder: PathBuf,
        /// Threads to use; all cores if not given.
        #[arg(long)]
        threads: Option<usize>,
    },
}

/// Arguments of `trainer train`.
#[derive(Args, Clone, Debug)]
pub struct Train {
    /// Folder of the run.
    #[arg(long)]
    run: PathBuf,
    /// vgg16, vgg11 or alexnet.
    #[arg(long, default_value = "vgg16")]
    architecture: String,
    /// Rows and columns of the network's input.
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"], default_values_t = [32, 32])]
    size: Vec<usize>,
    /// Checkpoint to start from instead of random weights.
    #[arg(long)]
    parent: Option<PathBuf>,
    /// Threads to use; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    learning: Learning,
}

/// The two steps.
#[derive(Subcommand, Clone, Debug)]
pub enum Prune {
    /// Remove filters from the whole network.
    #[command(after_help = STEP1_EXAMPLES)]
    Step1(Pruning<Step1>),
    /// Remove filters from the layer before one split point, the layers before it left as they are.
    #[command(after_help = STEP2_EXAMPLES)]
    Step2(Pruning<Step2>),
}

/// Arguments of `trainer prune`.
#[derive(Args, Clone, Debug)]
pub struct Pruning<S: Args> {
    /// Folder of the run.
    #[arg(long)]
    run: PathBuf,
    /// Checkpoint to prune.
    #[arg(long)]
    parent: PathBuf,
    /// Threads to use; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    step: S,
    #[command(flatten)]
    learning: Learning,
}

impl Command {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Train(train) => train.run(),
            Self::Prune(Prune::Step1(pruning)) => pruning.run(Task::Step1),
            Self::Prune(Prune::Step2(pruning)) => pruning.run(Task::Step2),
            Self::Resume { folder, threads } => {
                use_threads(threads)?;
                run::resume(&folder)
            }
        }
    }
}

impl Train {
    fn run(self) -> anyhow::Result<()> {
        use_threads(self.threads)?;
        let size = [self.size[0], self.size[1]];
        let classes = Dataset::load(&self.learning.data, Subset::Test, size)?
            .classes()
            .to_vec();
        let settings = Settings {
            architecture: self.architecture,
            input: [3, size[0], size[1]],
            classes,
            parent: self.parent,
            task: Task::Train,
            learning: self.learning,
        };
        run::run(&self.run, &settings)
    }
}

impl<S: Args> Pruning<S> {
    fn run(self, task: impl FnOnce(S) -> Task) -> anyhow::Result<()> {
        use_threads(self.threads)?;
        let parent = Checkpoint::load(&self.parent)?;
        let description = parent.description();
        let settings = Settings {
            architecture: description.architecture.clone(),
            input: description.input,
            classes: description.classes.clone(),
            parent: Some(self.parent),
            task: task(self.step),
            learning: self.learning,
        };
        run::run(&self.run, &settings)
    }
}

fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    Ok(())
}
