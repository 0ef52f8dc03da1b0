//! Training throughput of the trainer beside PyTorch.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use split_tests::report::{Report, median};

/// Trains VGG-16 on made-up pictures with the trainer and with PyTorch in turns, in 32-bit floats on all cores.
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
    /// Pictures in a batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
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

/// The networks compared, with the filters of each convolution.
const NETWORKS: [(&str, [usize; 13]); 2] = [
    (
        "unpruned",
        [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
    ),
    // Those that Shi et al. have after step 1.
    ("step 1", [45, 35, 73, 69, 88, 96, 98, 141, 140, 157, 103, 89, 186]),
];

/// What either program prints.
#[derive(Deserialize)]
struct Measured {
    images_per_second: f64,
}

#[derive(Serialize)]
struct Row {
    network: &'static str,
    widths: [usize; 13],
    batch: usize,
    round: usize,
    trainer_images_per_second: f64,
    pytorch_images_per_second: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "no rounds");
    let mut report = Report::default();
    for (network, widths) in NETWORKS {
        let [mut ours, mut peers] = [const { Vec::new() }; 2];
        for round in 1..=arguments.rounds {
            let mut trainer = Command::new(&arguments.trainer);
            let trainer = measure(trainer.arg("benchmark"), &widths, &arguments)?;
            let pytorch = measure(
                Command::new(&arguments.python).arg(&arguments.peer),
                &widths,
                &arguments,
            )?;
            println!("{network}, round {round}: trainer {trainer:.1} images/s, PyTorch {pytorch:.1} images/s");
            report.record(Row {
                network,
                widths,
                batch: arguments.batch,
                round,
                trainer_images_per_second: trainer,
                pytorch_images_per_second: pytorch,
            });
            ours.push(trainer);
            peers.push(pytorch);
        }
        report.at_least(
            format!("{network}: the trainer's images/s, of PyTorch's"),
            median(ours) / median(peers),
            0.6,
        );
    }
    report.write(&arguments.report)
}

/// Images per second that a program says it learned from.
fn measure(program: &mut Command, widths: &[usize], arguments: &Arguments) -> Result<f64> {
    let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
    program.args(["--widths", &widths.join(",")]);
    program.args(["--batch", &arguments.batch.to_string()]);
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
