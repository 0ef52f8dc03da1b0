//! The command-line tool: trains, prunes in two steps, calibrates, measures and exports.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trainer::{benchmark, command, import, inspect, quick, series, sweep};

/// Trains networks, prunes them in two steps for split inference, and makes a series of them.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a series of a folder of pictures: train, prune, calibrate and measure with settings that suit them.
    #[command(after_help = quick::EXAMPLES)]
    Quick(quick::Arguments),
    /// Make a checkpoint of a network from PyTorch, timm or an ONNX file.
    Import(import::Arguments),
    #[command(flatten)]
    Learn(Box<command::Command>),
    /// Run the commands of a file, one after another or one by its number, and show one table of results.
    #[command(after_help = sweep::EXAMPLES)]
    Sweep(sweep::Arguments),
    #[command(flatten)]
    Inspect(inspect::Command),
    #[command(flatten)]
    Series(series::Command),
    /// Measure the speed of training, for the project's own benchmark.
    #[command(hide = true)]
    Benchmark(benchmark::Arguments),
}

fn main() -> ExitCode {
    // Ends quietly when nobody reads on (`trainer predict … | head`), in place of a panic of `println!`.
    sigpipe::reset();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = text(&error);
            eprintln!("error: {text}");
            sweep::note_error(&text);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Quick(arguments) => quick::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Learn(command) => command.run(),
        Command::Sweep(arguments) => sweep::run(&arguments, check),
        Command::Inspect(command) => command.run(),
        Command::Series(command) => command.run(),
        Command::Benchmark(arguments) => benchmark::run(&arguments),
    }
}

/// What is wrong with the arguments of a command, in short.
fn check(words: &[String]) -> Result<(), String> {
    let program = ["trainer"].into_iter().chain(words.iter().map(String::as_str));
    let error = match Cli::try_parse_from(program) {
        Ok(_) => return Ok(()),
        Err(error) => error.to_string(),
    };
    let text = error.split("\n\nUsage:").next().unwrap_or_default();
    Err(text.trim().trim_start_matches("error: ").to_owned())
}

/// An error and its causes, each said once: many repeat their cause in their own words.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn causes_are_said_once() {
        let cause = || anyhow::anyhow!("no such file");
        assert_eq!(super::text(&cause().context("x.jpg")), "x.jpg: no such file");
        let repeated: anyhow::Result<()> = Err(cause()).context("x.jpg: no such file").context("reading");
        assert_eq!(super::text(&repeated.unwrap_err()), "reading: x.jpg: no such file");
    }
}
