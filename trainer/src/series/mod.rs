//! From checkpoints to a series that can be served: cut, stored, calibrated, measured, reported.
//!
//! [`export`] tempers every checkpoint ([`temperature`]), cuts it into segments ([`cut`]), times them ([`timing`]) and starts the manifest, [`calibrate`] gives each variant its
//! operating points, [`evaluate`] measures them again on any images, [`report`] draws them. All of them read and
//! write a series through [`store`], and every accuracy comes from [`measure`]: the path that a camera frame takes, head →
//! codec → message → tail.

use clap::Subcommand;

use crate::data::Library;

pub mod calibrate;
pub mod cut;
pub mod evaluate;
pub mod export;
#[cfg(test)]
mod made_up;
pub mod measure;
pub mod picture;
pub mod quantizer;
pub mod report;
pub mod store;
pub mod temperature;
pub mod timing;

const EXPORT_EXAMPLES: &str = "\
Example: a variant of step 1 and two that step 2 made of it, named after their files:
    trainer export --data pictures --series models/pictures --unpruned unpruned.safetensors \\
        --checkpoint step1-8x.safetensors --checkpoint pool3-12.safetensors --checkpoint pool4-6.safetensors
Then `trainer calibrate` gives them their operating points. Exporting into the folder again writes the series anew: all
variants have to be named, and calibrated, again.";

const CALIBRATE_EXAMPLES: &str = "\
Examples:
    trainer calibrate --data pictures --series models/pictures
  One variant only:
    trainer calibrate --data pictures --series models/pictures --variant pool3-12";

const EVALUATE_EXAMPLES: &str = "\
Example:
    trainer evaluate --data pictures --series models/pictures --json";

const TIME_EXAMPLES: &str = "\
Example:
    trainer time --series models/pictures";

const REPORT_EXAMPLES: &str = "\
Example:
    trainer report --series models/pictures --run runs/step1-8x --run runs/pool3-12 --to report
Open report/index.html; the plots lie beside it as SVG files.";

/// The subcommands that make and measure a series.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Cut checkpoints into segments and write them as a series.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(export::Arguments),
    /// Calibrate the codecs of a series and write its operating points.
    #[command(after_help = CALIBRATE_EXAMPLES)]
    Calibrate(calibrate::Arguments),
    /// Measure every operating point of a series on test images.
    #[command(after_help = EVALUATE_EXAMPLES)]
    Evaluate(evaluate::Arguments),
    /// Time the segments of a series on this machine again.
    #[command(after_help = TIME_EXAMPLES)]
    Time(timing::Arguments),
    /// Draw a series beside the paper's figures, as one page.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(report::Arguments),
}

impl Command {
    /// Runs the subcommand.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from its result; what was already written stays usable.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Export(arguments) => export::run(&arguments, &Library::default()),
            Self::Calibrate(arguments) => calibrate::run(&arguments, &Library::default()),
            Self::Evaluate(arguments) => evaluate::run(&arguments, &Library::default()),
            Self::Time(arguments) => timing::run(&arguments),
            Self::Report(arguments) => report::run(&arguments),
        }
    }
}
