//! From checkpoints to a series that can be served: cut, stored, calibrated, measured, reported.
//!
//! [`export`] cuts every checkpoint into segments ([`cut`]) and starts the manifest, [`calibrate`] gives each variant its
//! operating points, [`evaluate`] measures them again on any images. All of them read and
//! write a series through [`store`], and every accuracy comes from [`measure`]: the path that a camera frame takes, head →
//! codec → message → tail.

use clap::Subcommand;

pub mod calibrate;
pub mod cut;
pub mod evaluate;
pub mod export;
pub mod measure;
pub mod picture;
pub mod quantizer;
pub mod store;

/// The subcommands that make and measure a series.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Cut checkpoints into segments and write them as a series.
    Export(export::Arguments),
    /// Calibrate the codecs of a series and write its operating points.
    Calibrate(calibrate::Arguments),
    /// Measure every operating point of a series on test images.
    Evaluate(evaluate::Arguments),
}

impl Command {
    /// Runs the subcommand.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from its result; what was already written stays usable.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Export(arguments) => export::run(&arguments),
            Self::Calibrate(arguments) => calibrate::run(&arguments),
            Self::Evaluate(arguments) => evaluate::run(&arguments),
        }
    }
}
