//! The subcommands that learn: `train`, `prune step1`, `prune step2` and `resume`.

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, Subcommand, ValueEnum};
use split_core::{Fit, Preparation};

use crate::checkpoint::{Checkpoint, Description, architecture};
use crate::data;
use crate::run;
use crate::settings::{Learning, Settings, Step1, Step2, Task};

const TRAIN_EXAMPLES: &str = "\
Examples:
  VGG-16 on an image folder with train/<class>/* and test/<class>/*:
    trainer train --data pictures --run runs/unpruned --epochs 100
  VGG-11 for pictures of 64 × 96:
    trainer train --data pictures --run runs/small --architecture vgg11 --size 64 96
  EfficientNet-Lite0 that `trainer import` made of timm's weights, for your own classes:
    trainer train --data pictures --run runs/lite0 --parent lite0.safetensors --learning-rate 0.01 --batch 32
  A network that knows other classes learns these:
    trainer train --data pictures --run runs/mine --parent pretrained.safetensors --learning-rate 0.01
The result is RUN/final.safetensors. The same command goes on with a run that was stopped; with more --epochs, a finished one goes on too.";

const RESUME_EXAMPLES: &str = "\
Example:
    trainer resume runs/unpruned
RUN/settings.json says what the run does; nothing but the part-epoch in which it was stopped is lost.";

const STEP1_EXAMPLES: &str = "\
Examples: an eighth of the multiply–accumulates, learning from the unpruned network too:
    trainer prune step1 --data pictures --run runs/step1-8x --parent runs/unpruned/final.safetensors \\
        --teacher runs/unpruned/final.safetensors --fewer-macs 8
A third of the work on the device, and an accurate tail:
    trainer prune step1 --data pictures --run runs/head-3x --parent runs/unpruned/final.safetensors \\
        --teacher runs/unpruned/final.safetensors --region head --split blocks.2.0 --fewer-macs 3
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
    /// Remove filters: step 1 from the whole network or its head, step 2 at a split point.
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
    /// Which network: vgg16, vgg11 and alexnet are for small pictures, resnet18, mobilenet_v2, tf_efficientnet_lite0 and others for those of a
    /// camera; the parent's if there is one, else vgg16.
    #[arg(long)]
    architecture: Option<String>,
    /// Rows and columns of the network's input; the parent's if there is one, else what is usual for the architecture.
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"])]
    size: Option<Vec<usize>>,
    /// How pictures of other proportions fill the input.
    #[arg(long, value_enum, default_value = "cover")]
    fit: FitName,
    /// Colour behind transparent pictures, and beside those that do not fill the input: red, green, blue.
    #[arg(long, num_args = 3, value_names = ["RED", "GREEN", "BLUE"], default_values_t = [0, 0, 0])]
    background: Vec<u8>,
    /// Checkpoint to start from instead of random weights. It may know other classes.
    #[arg(long)]
    parent: Option<PathBuf>,
    /// Threads to use; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    learning: Learning,
}

/// How pictures of other proportions fill the input.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FitName {
    /// Scaled until they cover it, cut to their middle.
    Cover,
    /// Scaled until they lie in it, with the background beside them.
    Letterbox,
}

impl From<FitName> for Fit {
    fn from(name: FitName) -> Self {
        match name {
            FitName::Cover => Self::Cover,
            FitName::Letterbox => Self::Letterbox,
        }
    }
}

/// The two steps.
#[derive(Subcommand, Clone, Debug)]
pub enum Prune {
    /// Remove filters from the whole network, or from the layers before a split point.
    #[command(after_help = STEP1_EXAMPLES)]
    Step1(Pruning<Step1>),
    /// Leave few channels to send at one split point, the layers before it left as they are.
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
        let parent = self.parent.as_ref().map(|it| Checkpoint::load(it)).transpose()?;
        let of_parent = parent.as_ref().map(|it| &it.description);
        let name = architecture_name(self.architecture, of_parent)?;
        let settings = Settings {
            input: match (self.size.as_deref(), of_parent) {
                (Some([height, width]), _) => [3, *height, *width],
                (_, Some(parent)) => parent.input,
                _ => {
                    let [height, width] = architecture(&name)?.usual_size();
                    [3, height, width]
                }
            },
            architecture: name,
            classes: data::classes(&self.learning.source.data)?,
            preparation: Preparation {
                fit: self.fit.into(),
                background: [self.background[0], self.background[1], self.background[2]],
            },
            parent: self.parent,
            task: Task::Train,
            learning: self.learning,
        };
        run::run(&self.run, &settings)
    }
}

/// The architecture that was asked for, which must be the parent's.
fn architecture_name(asked: Option<String>, parent: Option<&Description>) -> anyhow::Result<String> {
    match (asked, parent) {
        (Some(asked), Some(parent)) => {
            ensure!(
                asked == parent.architecture,
                "--parent is of the architecture {}, --architecture says {asked}",
                parent.architecture
            );
            Ok(asked)
        }
        (Some(asked), None) => Ok(asked),
        (None, Some(parent)) => Ok(parent.architecture.clone()),
        (None, None) => Ok("vgg16".to_owned()),
    }
}

impl<S: Args> Pruning<S> {
    fn run(self, task: impl FnOnce(S) -> Task) -> anyhow::Result<()> {
        use_threads(self.threads)?;
        let parent = Checkpoint::load(&self.parent)?;
        let description = &parent.description;
        let settings = Settings {
            architecture: description.architecture.clone(),
            input: description.input,
            classes: description.classes.clone(),
            preparation: description.preparation,
            parent: Some(self.parent),
            task: task(self.step),
            learning: self.learning,
        };
        run::run(&self.run, &settings)
    }
}

/// Limits the threads that work is shared out to.
pub fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    Ok(())
}
