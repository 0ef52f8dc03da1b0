//! Makes what the benchmarks in the browser need: networks for other engines, well-known networks as series, a clip for the camera,
//! the network before pruning as a series.

mod baseline;
mod clip;
mod onnx;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use split_core::manifest::{OperatingPoint, Split};
use split_tests::{family::Family, series::Series};

/// Makes files for the benchmarks in the browser.
#[derive(Parser)]
enum Command {
    /// Writes every head of a series, and every network that runs whole, as ONNX: VARIANT-SPLIT-head.onnx and VARIANT.onnx
    Onnx {
        /// Folder of the series
        #[arg(long)]
        series: PathBuf,
        /// Folder of the ONNX files
        #[arg(long)]
        to: PathBuf,
    },
    /// Writes a series of a well-known network with random weights, unpruned and pruned
    Family {
        /// Name of the network, for example `resnet18`
        #[arg(long)]
        network: String,
        /// Folder of the series
        #[arg(long)]
        to: PathBuf,
    },
    /// Writes a clip of pictures for Chromium's camera
    Clip(clip::Arguments),
    /// Links a few pictures of every class to another image folder
    Thin {
        /// Image folder: `train/CLASS/*` and `test/CLASS/*`
        #[arg(long)]
        data: PathBuf,
        /// The smaller image folder
        #[arg(long)]
        to: PathBuf,
        /// Pictures of each half, spread evenly over the classes
        #[arg(long, default_value_t = 1000)]
        images: usize,
    },
    /// Writes a series of the unpruned network alone with an operating point at every split point: 8 bits a value, not entropy-coded
    Baseline {
        /// Folder of a series that has it: its only variant, or the one of the name `unpruned`
        #[arg(long)]
        series: PathBuf,
        /// Folder of the series to write
        #[arg(long)]
        to: PathBuf,
        /// Image folder: `train/CLASS/*` for the largest features, `test/CLASS/*` for the accuracies
        #[arg(long)]
        data: PathBuf,
        /// Pictures of each half, spread evenly over the classes
        #[arg(long, default_value_t = 300)]
        images: usize,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Onnx { series, to } => onnx::write(&Series::open(&series)?, &to),
        Command::Family { network, to } => Family::of(&network)?.write(&to),
        Command::Clip(arguments) => clip::write(&arguments),
        Command::Thin { data, to, images } => baseline::thin(&data, &to, images),
        Command::Baseline {
            series,
            to,
            data,
            images,
        } => baseline::calibrate(&Series::open(&series)?, &to, &data, images),
    }
}

/// Name of the ONNX file of an operating point's head, without its ending.
fn head_name(point: &OperatingPoint) -> Option<String> {
    match &point.split {
        Split::Input => None,
        Split::At(split) => Some(format!("{}-{split}-head", point.variant)),
        Split::Output => Some(point.variant.clone()),
    }
}
