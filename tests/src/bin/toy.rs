//! Writes the made-up series of the tests to a folder, for tests that cannot call Rust.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use split_tests::toy::{Recipe, Toy};

/// Writes a small series of one network with made-up weights.
#[derive(Parser)]
struct Arguments {
    /// Folder of the series
    #[arg(long)]
    to: PathBuf,
    /// Another seed gives other weights, so another manifest
    #[arg(long, default_value_t = Recipe::default().seed)]
    seed: u64,
    /// Channels of the middle layers: the work behind the first split point grows with their square
    #[arg(long, default_value_t = Recipe::default().width)]
    width: usize,
}

fn main() -> Result<()> {
    let Arguments { to, seed, width } = Arguments::parse();
    let recipe = Recipe {
        seed,
        width,
        ..Recipe::default()
    };
    Toy::new(&recipe)?.write(&to)
}
