//! The manifest: what a series holds and what was measured of it.
//!
//! A manifest is a JSON file. [`Manifest::parse`] reads and checks it, so that everything reachable from a [`Manifest`] is
//! consistent: every name resolves, every codec can be built and fits the features it codes, every variant gives one logit a class, and a segment
//! that several variants share is the same in each. Whether a segment does take and give what the manifest says is in its file, and checked by who
//! loads it.

mod digest;
mod input;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::{Deserialize, Serialize};

pub use digest::Digest;
pub use input::{Fit, FrameSizeError, Input, Preparation};

use crate::{
    Shape,
    codec::{FeatureCodec, FeatureCodecSpec, SpecError},
};

/// The manifest format that this code reads and writes.
pub const MANIFEST_FORMAT: u32 = 2;

/// A series of variants of one network, with everything that was measured of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Name of the series, `cifar10-vgg16`.
    pub series: String,
    /// Class names, in the order of the classifier's outputs.
    pub classes: Vec<String>,
    /// What the network takes.
    pub input: Input,
    /// The network before pruning, for comparison.
    pub unpruned: Unpruned,
    /// The images on which every accuracy in this manifest was measured.
    pub measured_on: MeasuredOn,
    /// Split points between segments, from front to back; `input` and `output` are not listed.
    pub split_points: Vec<SplitPoint>,
    /// The variants, parents before children.
    pub variants: Vec<Variant>,
    /// The operating points. Messages name one by its place in this list.
    pub operating_points: Vec<OperatingPoint>,
}

/// The network before pruning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpruned {
    /// Top-1 accuracy in percent, uncut.
    pub accuracy: f64,
    /// Multiply–accumulate operations of one image.
    pub macs: u64,
    /// Output channels of each convolution.
    pub widths: Vec<usize>,
}

/// The images behind the accuracies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredOn {
    /// Name of the data set and how it was made.
    pub name: String,
    /// How many images.
    pub images: usize,
}

/// A place at which every variant can be cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitPoint {
    /// `pool1`, say: the layer after which the network is cut.
    pub name: String,
    /// How many segments the head has.
    pub segments: usize,
}

/// One pruned network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Unique in the series.
    pub name: String,
    /// The variant that this one was pruned from; none for those pruned from the unpruned network.
    pub parent: Option<String>,
    /// Output channels of each convolution.
    pub widths: Vec<usize>,
    /// Top-1 accuracy in percent, uncut and without a codec.
    pub accuracy: f64,
    /// The network in pieces, from front to back. The last gives one logit a class.
    pub segments: Vec<Segment>,
}

impl Variant {
    /// Multiply–accumulate operations of one image.
    pub fn macs(&self) -> u64 {
        self.segments.iter().map(|it| it.macs).sum()
    }
}

/// A piece of a network between two neighbouring boundaries; the file is `segments/<sha256>.nnef.tgz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Size of the file.
    pub bytes: u64,
    /// Shape `[C, H, W]` of what it gives for one image.
    pub output: Shape,
    /// Multiply–accumulate operations of one image.
    pub macs: u64,
}

impl Segment {
    /// Path of the file, relative to the manifest.
    pub fn path(&self) -> String {
        format!("segments/{}.nnef.tgz", self.sha256)
    }
}

/// Where a network is cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Split {
    /// Nothing runs on the device: the frame goes out as an image.
    Input,
    /// After the named split point.
    At(String),
    /// Everything runs on the device: nothing is sent.
    Output,
}

impl From<String> for Split {
    fn from(name: String) -> Self {
        match name.as_str() {
            "input" => Self::Input,
            "output" => Self::Output,
            _ => Self::At(name),
        }
    }
}

impl From<Split> for String {
    fn from(split: Split) -> Self {
        split.to_string()
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::At(name) => name,
            Self::Output => "output",
        })
    }
}

/// Variant, split point and codec setting, with what was measured of them together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    /// Name of the variant.
    pub variant: String,
    /// Where it is cut.
    pub split: Split,
    /// How what crosses the link is coded.
    pub codec: Codec,
    /// Top-1 accuracy in percent through head, codec and tail.
    pub accuracy: f64,
    /// Mean size of an `Infer` message in bytes, header included; 0 at `output`.
    pub mean_message_bytes: f64,
    /// 95th percentile of the size of an `Infer` message in bytes.
    pub p95_message_bytes: f64,
}

/// What a payload is at one operating point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Codec {
    /// Nothing is sent: split point `output`.
    None,
    /// The frame as a WebP or JPEG file: split point `input`.
    Image {
        /// File format.
        format: ImageFormat,
        /// Quality from 0 to 100, as the browser's encoder understands it.
        quality: u8,
    },
    /// Features: every other split point.
    Features(FeatureCodecSpec),
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Image { format, quality } => write!(f, "{format}-q{quality}"),
            Self::Features(spec) => write!(f, "{}-bit", spec.bits),
        }
    }
}

/// An image file format that browsers encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Lossy WebP.
    Webp,
    /// Baseline JPEG.
    Jpeg,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Webp => "webp",
            Self::Jpeg => "jpeg",
        })
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(json).map_err(|it| ManifestError::Syntax(it.to_string()))?;
        if format != MANIFEST_FORMAT {
            return Err(ManifestError::Format { got: format });
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|it| ManifestError::Syntax(it.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes of the manifest file: checked, and the same for the same content. Their [`Digest`] is the series' identity.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut json = serde_json::to_vec_pretty(self).map_err(|it| ManifestError::Syntax(it.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    /// The variant of this name.
    pub fn variant(&self, name: &str) -> Option<&Variant> {
        self.variants.iter().find(|it| it.name == name)
    }

    /// How many segments the head has at a split; the tail has the rest. None for a name that is not in the series.
    pub fn head_segments(&self, variant: &Variant, split: &Split) -> Option<usize> {
        match split {
            Split::Input => Some(0),
            Split::Output => Some(variant.segments.len()),
            Split::At(name) => self
                .split_points
                .iter()
                .find(|it| it.name == *name)
                .map(|it| it.segments),
        }
    }

    /// The variant of an operating point, cut: segments of the head and of the tail, and what crosses between them.
    ///
    /// None only for a point that is not of this manifest.
    pub fn cut<'a>(&'a self, point: &OperatingPoint) -> Option<Cut<'a>> {
        self.cut_at(self.variant(&point.variant)?, &point.split)
    }

    /// A variant of this manifest, cut at a split. None for a name that is not in the series.
    pub fn cut_at<'a>(&'a self, variant: &'a Variant, split: &Split) -> Option<Cut<'a>> {
        let (head, tail) = variant.segments.split_at_checked(self.head_segments(variant, split)?)?;
        let features = head.last().map_or(self.input.shape, |it| it.output);
        Some(Cut {
            variant,
            head,
            features,
            tail,
        })
    }

    /// Where a connection should start before anything is measured: the point of least work plus bytes among those
    /// that split between two layers and lose at most `loss` points against the most accurate one; failing that, the most accurate point.
    pub fn default_point(&self, loss: f64) -> Option<usize> {
        let best = self
            .operating_points
            .iter()
            .map(|it| it.accuracy)
            .fold(f64::NEG_INFINITY, f64::max);
        let split = |it: &OperatingPoint| matches!(it.split, Split::At(_)) && it.accuracy >= best - loss;
        let head_macs = |it: &OperatingPoint| {
            self.cut(it)
                .map_or(u64::MAX, |cut| cut.head.iter().map(|it| it.macs).sum())
        };
        // A phone does about 1 GMAC/s in wasm and a 4G uplink carries about 0.7 MB/s: 1 byte weighs as much as 1400 MACs.
        let cost = |it: &OperatingPoint| head_macs(it) as f64 + 1400.0 * it.mean_message_bytes;
        let points = || self.operating_points.iter().enumerate();
        let splitting = points()
            .filter(|it| split(it.1))
            .min_by(|a, b| cost(a.1).total_cmp(&cost(b.1)));
        splitting
            .or_else(|| points().max_by(|a, b| a.1.accuracy.total_cmp(&b.1.accuracy)))
            .map(|it| it.0)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let fail = |what: String| Err(ManifestError::Inconsistent(what));
        if self.input.shape.channels() != 3 || self.input.std.iter().any(|it| !it.is_finite() || *it <= 0.0) {
            return fail("the input must be an RGB image with positive standard deviations".into());
        }
        if self.input.mean.iter().any(|it| !it.is_finite()) {
            return fail("the input's means must be finite".into());
        }
        if self.classes.is_empty() || self.classes.len() > usize::from(u16::MAX) {
            return fail(format!("{} classes, expected 1 to 65535", self.classes.len()));
        }
        if self.operating_points.is_empty() || self.operating_points.len() > usize::from(u16::MAX) {
            return fail(format!(
                "{} operating points, expected 1 to 65535",
                self.operating_points.len()
            ));
        }
        let mut names = HashSet::new();
        let splits = self.split_points.iter().map(|it| &it.name);
        for name in splits.chain(["input", "output"].map(String::from).iter()) {
            if !names.insert(name.clone()) {
                return fail(format!("split point '{name}' appears twice, or has a reserved name"));
            }
        }
        let mut names = HashSet::new();
        for variant in &self.variants {
            self.check_variant(variant, &names)?;
            if !names.insert(variant.name.as_str()) {
                return fail(format!("variant '{}' appears twice", variant.name));
            }
        }
        self.check_shared_segments()?;
        (0..self.operating_points.len()).try_for_each(|it| self.check_point(it))
    }

    /// One file takes and gives the same wherever it stands.
    fn check_shared_segments(&self) -> Result<(), ManifestError> {
        let mut known = HashMap::new();
        for variant in &self.variants {
            let inputs = std::iter::once(self.input.shape).chain(variant.segments.iter().map(|it| it.output));
            for (segment, input) in variant.segments.iter().zip(inputs) {
                if *known.entry(segment.sha256).or_insert((input, segment)) != (input, segment) {
                    let (name, segment) = (&variant.name, segment.sha256);
                    let what = format!("variant '{name}' describes segment {segment} otherwise than before");
                    return Err(ManifestError::Inconsistent(what));
                }
            }
        }
        Ok(())
    }

    fn check_variant(&self, variant: &Variant, earlier: &HashSet<&str>) -> Result<(), ManifestError> {
        let name = &variant.name;
        let fail = |what: String| Err(ManifestError::Inconsistent(format!("variant '{name}' {what}")));
        if let Some(parent) = variant.parent.as_deref().filter(|it| !earlier.contains(it)) {
            return fail(format!("comes before its parent '{parent}', or that is missing"));
        }
        let logits = variant.segments.last().map_or(0, |it| it.output.values());
        if logits != self.classes.len() {
            return fail(format!("gives {logits} logits for {} classes", self.classes.len()));
        }
        match self
            .split_points
            .iter()
            .find(|it| it.segments == 0 || it.segments >= variant.segments.len())
        {
            Some(split) => fail(format!(
                "cannot be cut at '{}', after segment {}",
                split.name, split.segments
            )),
            None => Ok(()),
        }
    }

    fn check_point(&self, index: usize) -> Result<(), ManifestError> {
        let point = &self.operating_points[index];
        let fail = |what: String| Err(ManifestError::Inconsistent(format!("operating point {index} {what}")));
        let Some(cut) = self.cut(point) else {
            return fail(format!(
                "names variant '{}' and split point '{}', not both in the series",
                point.variant, point.split
            ));
        };
        if !(0.0..=100.0).contains(&point.accuracy) {
            return fail(format!("has an accuracy of {} %", point.accuracy));
        }
        let sizes = [point.mean_message_bytes, point.p95_message_bytes];
        if let Some(bytes) = sizes.into_iter().find(|it| !it.is_finite() || *it < 0.0) {
            return fail(format!("has messages of {bytes} bytes"));
        }
        match (&point.split, &point.codec) {
            (Split::Output, Codec::None) => Ok(()),
            (Split::Input, Codec::Image { quality: 0..=100, .. }) => Ok(()),
            (Split::At(_), Codec::Features(spec)) => match FeatureCodec::new(cut.features, spec) {
                Ok(_) => Ok(()),
                Err(source) => Err(ManifestError::Codec { index, source }),
            },
            (split, codec) => fail(format!(
                "has the codec {codec}, which does not fit the split point '{split}'"
            )),
        }
    }
}

/// A variant cut in two.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// The variant.
    pub variant: &'a Variant,
    /// Segments that run on the device.
    pub head: &'a [Segment],
    /// Shape `[C, H, W]` of what crosses.
    pub features: Shape,
    /// Segments that run on the edge.
    pub tail: &'a [Segment],
}

/// Why a manifest was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or not the JSON of a manifest.
    #[error("the manifest cannot be read: {0}")]
    Syntax(String),
    /// Written by another version of the trainer.
    #[error(
        "the manifest has format {got}, this program reads {MANIFEST_FORMAT}: use programs and series of one release"
    )]
    Format {
        /// The manifest's format.
        got: u32,
    },
    /// Parts that do not fit each other.
    #[error("the manifest contradicts itself: {0}")]
    Inconsistent(String),
    /// A codec that cannot be built.
    #[error("the codec of operating point {index} is damaged: {source}")]
    Codec {
        /// The operating point.
        index: usize,
        /// What is wrong.
        source: SpecError,
    },
}

#[cfg(test)]
mod tests;
