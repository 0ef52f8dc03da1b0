//! The command-line tool: trains, prunes in two steps, calibrates, measures and exports.

use clap::{Parser, Subcommand};
use trainer::{benchmark, command, import, series};

/// Trains networks, prunes them in two steps for split inference, and makes a series of them.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a checkpoint of PyTorch's weights.
    Import(import::Arguments),
    #[command(flatten)]
    Learn(command::Command),
    #[command(flatten)]
    Series(series::Command),
    /// Measure the speed of training, for the project's own benchmark.
    #[command(hide = true)]
    Benchmark(benchmark::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Import(arguments) => import::run(&arguments),
        Command::Learn(command) => command.run(),
        Command::Series(command) => command.run(),
        Command::Benchmark(arguments) => benchmark::run(&arguments),
    }
}
