//! What the user asks of the choice of operating points.

use serde::{Deserialize, Serialize};
use split_core::{
    manifest::{Manifest, OperatingPoint, Split},
    selection::Requirement,
};

use crate::device::is_local;

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
        self == Self::All || self == Self::of(point)
    }

    /// The kind of an operating point.
    fn of(point: &OperatingPoint) -> Self {
        match point.split {
            Split::Output => Self::Device,
            Split::Input => Self::Edge,
            Split::At(_) => Self::Split,
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

    /// What is asked of a point; of one that stands in for a fixed one, what the default goal asks.
    pub(crate) fn requirement(&self, manifest: &Manifest) -> Requirement {
        match *self {
            Self::LowestLatency { at_least, .. } => Requirement::LowestLatency { at_least },
            Self::HighestAccuracy { at_most, .. } => Requirement::HighestAccuracy { at_most },
            Self::Fixed { .. } => Self::default_for(manifest).requirement(manifest),
        }
    }

    /// Whether this operating point is among those asked for.
    pub(crate) fn wants(&self, manifest: &Manifest, point: usize) -> bool {
        match *self {
            Self::Fixed { point: fixed } => fixed == point,
            Self::LowestLatency { among, .. } | Self::HighestAccuracy { among, .. } => {
                among.has(&manifest.operating_points[point])
            }
        }
    }

    /// Whether this operating point may stand in for those asked for while they cannot be used: what the device computes alone is
    /// given to nobody, and of the rest, those of the same kind give no more away.
    pub(crate) fn permits(&self, manifest: &Manifest, point: usize) -> bool {
        let points = &manifest.operating_points;
        let kind = match *self {
            Self::Fixed { point } => Among::of(&points[point]),
            Self::LowestLatency { among, .. } | Self::HighestAccuracy { among, .. } => among,
        };
        kind.has(&points[point]) || Among::Device.has(&points[point])
    }

    /// Whether frames may leave the device.
    pub(crate) fn may_send(&self, manifest: &Manifest) -> bool {
        (0..manifest.operating_points.len()).any(|it| self.wants(manifest, it) && !is_local(manifest, it))
    }
}
