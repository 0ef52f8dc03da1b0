//! What the user asks of the choice of operating points.

use serde::{Deserialize, Serialize};
use split_core::{
    manifest::{Manifest, OperatingPoint, Split},
    selection::Requirement,
};

/// The most that the default goal gives away against the most accurate operating point, in percentage points.
pub(crate) const DEFAULT_LOSS: f64 = 1.5;

/// How the operating point is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Goal {
    /// Lowest latency with at least this top-1 accuracy in percent.
    LowestLatency {
        /// In percent.
        at_least: f64,
        /// Which points may be chosen.
        #[serde(default)]
        among: Among,
    },
    /// Highest accuracy with at most this latency in milliseconds.
    HighestAccuracy {
        /// In milliseconds.
        at_most: f64,
        /// Which points may be chosen.
        #[serde(default)]
        among: Among,
    },
    /// This one, whatever it costs.
    Fixed {
        /// Place of the operating point in the manifest.
        point: usize,
    },
}

/// Which operating points may be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Among {
    /// Any.
    #[default]
    All,
    /// Those that run everything on the device.
    Device,
    /// Those that run everything on the edge.
    Edge,
    /// Those that split between two layers.
    Split,
}

impl Among {
    /// Whether this operating point is one of them.
    pub fn has(self, point: &OperatingPoint) -> bool {
        match self {
            Self::All => true,
            Self::Device => point.split == Split::Output,
            Self::Edge => point.split == Split::Input,
            Self::Split => matches!(point.split, Split::At(_)),
        }
    }
}

impl Goal {
    /// Lowest latency among points within 1.5 percentage points of the most accurate one.
    pub fn default_for(manifest: &Manifest) -> Self {
        let accuracies = manifest.operating_points.iter().map(|it| it.accuracy);
        Self::LowestLatency {
            at_least: accuracies.fold(0.0, f64::max) - DEFAULT_LOSS,
            among: Among::All,
        }
    }

    /// The requirement and the points it chooses among; none if the point is fixed.
    pub(crate) fn requirement(&self) -> Option<(Requirement, Among)> {
        match *self {
            Self::LowestLatency { at_least, among } => Some((Requirement::LowestLatency { at_least }, among)),
            Self::HighestAccuracy { at_most, among } => Some((Requirement::HighestAccuracy { at_most }, among)),
            Self::Fixed { .. } => None,
        }
    }
}
