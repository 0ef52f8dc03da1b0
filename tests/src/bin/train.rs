//! Training throughput of the trainer beside PyTorch.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use split_tests::report::{Report, median};

/// Trains networks on made-up pictures with the trainer and with PyTorch in turns, in 32-bit floats on all cores.
#[derive(Parser)]
struct Arguments {
    /// The trainer's program.
    #[arg(long)]
    trainer: PathBuf,
    /// A Python that has torch.
    #[arg(long)]
    python: PathBuf,
    /// The peer's script.
    #[arg(long, default_value = "tests/peers/pytorch_train.py")]
    peer: PathBuf,
    /// Pictures of 32×32 in a batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Pictures of 224×224 in a batch.
    #[arg(long, default_value_t = 16)]
    large_batch: usize,
    /// Only the networks whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// How often the sides take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where to write the numbers as JSON.
    #[arg(long)]
    report: PathBuf,
}

/// A network compared, and at least how many times as fast as PyTorch the trainer is to be.
struct Network {
    name: &'static str,
    /// Flags of both programs.
    flags: [&'static str; 2],
    large: bool,
    goal: f64,
}

const NETWORKS: [Network; 4] = [
    Network {
        name: "VGG-16, unpruned",
        flags: ["--widths", "64,64,128,128,256,256,256,512,512,512,512,512,512"],
        large: false,
        goal: 0.6,
    },
    Network {
        // The widths that Shi et al. have after step 1.
        name: "VGG-16, step 1",
        flags: ["--widths", "45,35,73,69,88,96,98,141,140,157,103,89,186"],
        large: false,
        goal: 0.6,
    },
    Network {
        name: "EfficientNet-Lite0",
        flags: ["--architecture", "tf_efficientnet_lite0"],
        large: true,
        goal: 2.0,
    },
    Network {
        name: "ResNet-18",
        flags: ["--architecture", "resnet18"],
        large: true,
        goal: 0.8,
    },
];

/// What either program prints.
#[derive(Deserialize)]
struct Measured {
    images_per_second: f64,
}

#[derive(Serialize)]
struct Row {
    network: &'static str,
    batch: usize,
    round: usize,
    trainer_images_per_second: f64,
    pytorch_images_per_second: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "no rounds");
    let mut report = Report::default();
    for network in NETWORKS.iter().filter(|it| it.name.contains(&arguments.only)) {
        let name = network.name;
        let batch = if network.large {
            arguments.large_batch
        } else {
            arguments.batch
        };
        let [mut ours, mut peers] = [const { Vec::new() }; 2];
        for round in 1..=arguments.rounds {
            let mut trainer = Command::new(&arguments.trainer);
            let trainer = measure(trainer.arg("benchmark"), network, batch, &arguments)?;
            let mut pytorch = Command::new(&arguments.python);
            let pytorch = measure(pytorch.arg(&arguments.peer), network, batch, &arguments)?;
            println!("{name}, round {round}: trainer {trainer:.1} images/s, PyTorch {pytorch:.1} images/s");
            report.record(Row {
                network: name,
                batch,
                round,
                trainer_images_per_second: trainer,
                pytorch_images_per_second: pytorch,
            });
            ours.push(trainer);
            peers.push(pytorch);
        }
        report.at_least(
            format!("{name}: the trainer's images/s, of PyTorch's"),
            median(ours) / median(peers),
            network.goal,
        );
    }
    report.write(&arguments.report)
}

/// Images per second that a program says it learned from.
fn measure(program: &mut Command, network: &Network, batch: usize, arguments: &Arguments) -> Result<f64> {
    program.args(network.flags);
    program.args(["--batch", &batch.to_string()]);
    program.args(["--seconds", &arguments.seconds.to_string()]);
    let output = program.output().with_context(|| format!("cannot start {program:?}"))?;
    ensure!(
        output.status.success(),
        "{program:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let measured: Measured = serde_json::from_slice(&output.stdout).with_context(|| format!("{program:?}"))?;
    Ok(measured.images_per_second)
}
