//! `trainer import`: a PyTorch checkpoint, told which network it is.

use std::path::PathBuf;

use clap::Args;

use crate::checkpoint::Checkpoint;
use crate::network::Description;

const EXAMPLES: &str = "\
Example:
    trainer import --from vgg16.safetensors --to unpruned.safetensors --classes cat,dog,frog
The file holds the state_dict of a chain: 3×3 convolutions without bias, each with batch norm, as features.N.weight and so on, where N
counts convolution, batch norm, ReLU and pool alike; then one linear layer, classifier.weight and classifier.bias.";

/// What to import, and what it is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// PyTorch's `state_dict`, saved as safetensors.
    #[arg(long)]
    from: PathBuf,
    /// Where the checkpoint goes.
    #[arg(long)]
    to: PathBuf,
    /// vgg16, vgg11 or alexnet.
    #[arg(long, default_value = "vgg16")]
    architecture: String,
    /// Rows and columns of the network's input.
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"], default_values_t = [32, 32])]
    size: Vec<usize>,
    /// Class names in the order of the outputs, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    classes: Vec<String>,
    /// Filters of each convolution, separated by commas; those of the unpruned network if not given.
    #[arg(long, value_delimiter = ',')]
    widths: Option<Vec<usize>>,
}

/// Runs `trainer import`.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments {
        from,
        to,
        architecture,
        size,
        classes,
        widths,
    } = arguments;
    let mut description = Description::unpruned(architecture, [3, size[0], size[1]], classes.clone())?;
    if let Some(widths) = widths {
        description.widths.clone_from(widths);
    }
    let checkpoint = Checkpoint::import(from, description)?;
    checkpoint.save(to)?;
    println!("{}", to.display());
    Ok(())
}
