//! The manifest: what a series holds and what was measured of it.
//!
//! A series is a folder:
//!
//! ```text
//!  manifest.json                  what the series holds, and what was measured of it
//!  segments/<sha256>.nnef.tgz     pieces of networks
//!  codecs/<sha256>.json           quantisers, predictors and probability tables of operating points
//! ```
//!
//! Segments and codecs are named by the SHA-256 of their bytes, and never change. [`Manifest::parse`] reads and checks a manifest, so that
//! everything reachable from a [`Manifest`] is consistent: every name resolves, every variant gives one logit a class, and a segment that several
//! variants share is the same in each. What the other files hold is checked by whoever loads them: a segment when a network is made of it, a codec
//! by [`CodecFile::open`].
//!
//! `manifest.json` has the fields of [`Manifest`]; sizes of messages are called `mean_bytes` and `p95_bytes`. Each segment is one row of a list
//! `segments`: SHA-256, bytes, output shape, multiply–accumulates, and microseconds or `null`. The variants name their segments by their places
//! in that list.

mod digest;
mod input;
mod name;
mod stored;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::{Deserialize, Serialize};

pub use digest::Digest;
pub use input::{Fit, FrameSizeError, Input, Preparation};
pub use name::{MAX_SERIES_NAME, SeriesNameError, check_series_name};

use crate::{
    Shape,
    codec::{FeatureCodec, FeatureCodecSpec, MAX_BITS, SpecError},
};
use stored::Stored;

/// The manifest format that this code reads and writes.
pub const MANIFEST_FORMAT: u32 = 3;

/// The largest file of a codec, in bytes: a thousand channels take about a hundred thousand.
pub const MAX_CODEC_BYTES: u64 = 1 << 20;

/// The longest name or text of a manifest, in bytes.
const MAX_TEXT: usize = 2000;
/// The most segments of one variant.
const MAX_SEGMENTS: usize = 1024;
/// The most bytes, and the most multiply–accumulates, of one segment: sums over a variant stay numbers.
const MAX_SEGMENT_WORK: u64 = 1 << 50;

/// A series of variants of one network, with everything that was measured of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Name of the series, `cifar10-vgg16`; see [`check_series_name`].
    pub series: String,
    /// The network, and where it is from.
    pub source: Source,
    /// Class names, in the order of the classifier's outputs.
    pub classes: Vec<String>,
    /// What the variants take, except for those that state an input of their own.
    pub input: Input,
    /// The network before pruning, for comparison.
    pub unpruned: Unpruned,
    /// The images on which every accuracy in this manifest was measured.
    pub measured_on: MeasuredOn,
    /// What the times of the segments were measured on: the machine and how many threads, for people. None if no segment has a time; with it, all
    /// have. Only their ratios count: how a device compares with this machine, it measures itself.
    pub timed_on: Option<String>,
    /// Names of the split points, from front to back: for each the path of the module after which the network is cut, `pool1` or
    /// `features.3`. The split points `input` and `output`, which every variant has, are not listed.
    pub split_points: Vec<String>,
    /// The variants, parents before children.
    pub variants: Vec<Variant>,
    /// The operating points. Messages name one by its place in this list.
    pub operating_points: Vec<OperatingPoint>,
}

/// What the variants were made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the architecture, `vgg16`.
    pub network: String,
    /// Where its weights are from, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// The notice that a licence demands of whoever shows or passes on the series, if one does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notice: String,
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

/// One pruned network.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Unique in the series.
    pub name: String,
    /// The variant that this one was pruned from; none for those pruned from the unpruned network.
    pub parent: Option<String>,
    /// What it takes, if that is not what the series states.
    pub input: Option<Input>,
    /// Output channels of each convolution.
    pub widths: Vec<usize>,
    /// Top-1 accuracy in percent, uncut; with the quantiser that it was trained with, if it was trained with one.
    pub accuracy: f64,
    /// The network in pieces, from front to back. The last gives one logit a class.
    pub segments: Vec<Segment>,
    /// For each split point of the series, how many segments lie before it; none where this variant is not cut.
    pub cuts: Vec<Option<usize>>,
}

impl Variant {
    /// Multiply–accumulate operations of one image.
    pub fn macs(&self) -> u64 {
        self.segments.iter().map(|it| it.macs).sum()
    }
}

/// A piece of a network between two neighbouring boundaries; the file is `segments/<sha256>.nnef.tgz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "SegmentRow", into = "SegmentRow")]
pub struct Segment {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Size of the file.
    pub bytes: u64,
    /// Shape `[C, H, W]` of what it gives for one image.
    pub output: Shape,
    /// Multiply–accumulate operations of one image.
    pub macs: u64,
    /// Time for one image in microseconds, on the machine that the series names in [`Manifest::timed_on`].
    pub micros: Option<f64>,
}

/// A segment in the manifest file.
type SegmentRow = (Digest, u64, Shape, u64, Option<f64>);

impl From<SegmentRow> for Segment {
    fn from((sha256, bytes, output, macs, micros): SegmentRow) -> Self {
        Self {
            sha256,
            bytes,
            output,
            macs,
            micros,
        }
    }
}

impl From<Segment> for SegmentRow {
    fn from(it: Segment) -> Self {
        (it.sha256, it.bytes, it.output, it.macs, it.micros)
    }
}

/// What [`Segment::work`] takes the machine behind reference times to do: so many multiply–accumulates a microsecond.
const REFERENCE_MACS_PER_MICROSECOND: f64 = 20_000.0;

impl Segment {
    /// What the segment costs to run, in multiply–accumulates of a usual convolution.
    ///
    /// Where the series has times, they count: as many as a machine with 20 billion a second would do in the segment's time. Multiply–accumulates
    /// themselves mislead where layers wait for memory, as depthwise convolutions do. At least 1.
    pub fn work(&self) -> u64 {
        // A cast from f64 stays within the range of the integer.
        let timed = self.micros.map(|it| (it * REFERENCE_MACS_PER_MICROSECOND) as u64);
        timed.unwrap_or(self.macs).clamp(1, MAX_SEGMENT_WORK)
    }

    /// The segment's file.
    pub fn file(&self) -> File {
        File {
            kind: FileKind::Segment,
            sha256: self.sha256,
            bytes: self.bytes,
        }
    }

    /// Path of the file, relative to the manifest.
    pub fn path(&self) -> String {
        self.file().path()
    }
}

/// A file beside the manifest, named by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct File {
    /// What it holds.
    pub kind: FileKind,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many bytes.
    pub bytes: u64,
}

/// What a file beside the manifest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A piece of a network.
    Segment,
    /// A [`FeatureCodecSpec`].
    Codec,
}

impl File {
    /// Path of the file, relative to the manifest.
    pub fn path(&self) -> String {
        match self.kind {
            FileKind::Segment => format!("segments/{}.nnef.tgz", self.sha256),
            FileKind::Codec => format!("codecs/{}.json", self.sha256),
        }
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
    #[serde(rename = "mean_bytes")]
    pub mean_message_bytes: f64,
    /// 95th percentile of the size of an `Infer` message in bytes.
    #[serde(rename = "p95_bytes")]
    pub p95_message_bytes: f64,
}

/// What a payload is at one operating point. `F` says which codec features have: its file, or the codec itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Codec<F = CodecFile> {
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
    Features(F),
}

/// A codec of features; the file is `codecs/<sha256>.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecFile {
    /// Width of a code in bits, as the file has it.
    pub bits: u8,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Size of the file, at most [`MAX_CODEC_BYTES`].
    pub bytes: u64,
}

impl CodecFile {
    /// The entry and the file's bytes for a codec.
    pub fn of(spec: &FeatureCodecSpec) -> (Self, Vec<u8>) {
        let json = spec.to_json();
        let file = Self {
            bits: spec.bits,
            sha256: Digest::of(&json),
            bytes: json.len() as u64,
        };
        (file, json)
    }

    /// The codec's file.
    pub fn file(&self) -> File {
        File {
            kind: FileKind::Codec,
            sha256: self.sha256,
            bytes: self.bytes,
        }
    }

    /// Builds the codec from the file's bytes, whose SHA-256 the caller has compared, for features of this shape.
    pub fn open(&self, features: Shape, json: &[u8]) -> Result<FeatureCodec, SpecError> {
        let spec = FeatureCodecSpec::from_json(json)?;
        match spec.bits == self.bits {
            true => FeatureCodec::new(features, &spec),
            false => Err(SpecError::OtherBits {
                expected: self.bits,
                got: spec.bits,
            }),
        }
    }
}

impl<F> Codec<F> {
    /// The same, with another form of the features' codec.
    pub fn try_map<T, E>(&self, convert: impl FnOnce(&F) -> Result<T, E>) -> Result<Codec<T>, E> {
        Ok(match self {
            Self::None => Codec::None,
            Self::Image { format, quality } => Codec::Image {
                format: *format,
                quality: *quality,
            },
            Self::Features(it) => Codec::Features(convert(it)?),
        })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Image { format, quality } => write!(f, "{format}-q{quality}"),
            Self::Features(file) => write!(f, "{}-bit", file.bits),
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
        let stored: Stored = serde_json::from_slice(json).map_err(|it| ManifestError::Syntax(it.to_string()))?;
        let manifest = stored.into_manifest()?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes of the manifest file: checked, and the same for the same content. Their [`Digest`] is the series' identity.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        Stored::of(self).to_json()
    }

    /// The variant of this name.
    pub fn variant(&self, name: &str) -> Option<&Variant> {
        self.variants.iter().find(|it| it.name == name)
    }

    /// What a variant takes.
    pub fn input_of<'a>(&'a self, variant: &'a Variant) -> &'a Input {
        variant.input.as_ref().unwrap_or(&self.input)
    }

    /// The files that a device needs for an operating point: the head's segments and the codec. None for a point that is not of this manifest.
    pub fn device_files<'a>(&'a self, point: &'a OperatingPoint) -> impl Iterator<Item = File> + 'a {
        let segments = self.cut(point).map_or(&[][..], |it| it.head);
        let codec = match &point.codec {
            Codec::Features(it) => Some(it.file()),
            _ => None,
        };
        segments.iter().map(Segment::file).chain(codec)
    }

    /// How many segments the head has at a split; the tail has the rest. None for a name that is not in the series, and where the variant is
    /// not cut.
    pub fn head_segments(&self, variant: &Variant, split: &Split) -> Option<usize> {
        match split {
            Split::Input => Some(0),
            Split::Output => Some(variant.segments.len()),
            Split::At(name) => {
                let place = self.split_points.iter().position(|it| it == name)?;
                *variant.cuts.get(place)?
            }
        }
    }

    /// The variant of an operating point, cut: segments of the head and of the tail, and what crosses between them.
    ///
    /// None only for a point that is not of this manifest.
    pub fn cut<'a>(&'a self, point: &OperatingPoint) -> Option<Cut<'a>> {
        self.cut_at(self.variant(&point.variant)?, &point.split)
    }

    /// A variant of this manifest, cut at a split. None for a name that is not in the series, and where the variant is not cut.
    pub fn cut_at<'a>(&'a self, variant: &'a Variant, split: &Split) -> Option<Cut<'a>> {
        let (head, tail) = variant.segments.split_at_checked(self.head_segments(variant, split)?)?;
        let input = self.input_of(variant);
        let features = head.last().map_or(input.shape, |it| it.output);
        Some(Cut {
            variant,
            input,
            head,
            features,
            tail,
        })
    }

    fn check(&self) -> Result<(), ManifestError> {
        let fail = |what: String| Err(ManifestError::Inconsistent(what));
        check_series_name(&self.series)?;
        self.check_texts()?;
        check_input(&self.input, "the series")?;
        if self.classes.is_empty() || self.classes.len() > usize::from(u16::MAX) {
            return fail(format!("{} classes, expected 1 to 65535", self.classes.len()));
        }
        if self.operating_points.is_empty() || self.operating_points.len() > usize::from(u16::MAX) {
            return fail(format!(
                "{} operating points, expected 1 to 65535",
                self.operating_points.len()
            ));
        }
        if !(0.0..=100.0).contains(&self.unpruned.accuracy) {
            return fail(format!(
                "the unpruned network has an accuracy of {} %",
                self.unpruned.accuracy
            ));
        }
        let mut names = HashSet::from(["input", "output"]);
        if let Some(name) = self.split_points.iter().find(|it| !names.insert(it)) {
            return fail(format!("split point '{name}' appears twice, or has a reserved name"));
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

    /// Names and texts can be shown on one line.
    fn check_texts(&self) -> Result<(), ManifestError> {
        let variants = self.variants.iter().map(|it| &it.name);
        let names = [&self.source.network]
            .into_iter()
            .chain(&self.split_points)
            .chain(variants);
        if names.chain(&self.classes).any(String::is_empty) {
            let what = "the network, a class, a split point or a variant has an empty name";
            return Err(ManifestError::Inconsistent(what.into()));
        }
        let texts = [
            &self.source.network,
            &self.source.origin,
            &self.source.notice,
            &self.measured_on.name,
        ];
        let variants = self.variants.iter().map(|it| &it.name);
        let names = self.classes.iter().chain(&self.split_points).chain(variants);
        let mut all = texts.into_iter().chain(&self.timed_on).chain(names);
        match all.find(|it| it.len() > MAX_TEXT || it.chars().any(char::is_control)) {
            None => Ok(()),
            Some(text) => {
                let start: String = text.chars().take(40).collect();
                let what = format!(
                    "the text '{}' has more than {MAX_TEXT} bytes or control characters",
                    start.escape_debug()
                );
                Err(ManifestError::Inconsistent(what))
            }
        }
    }

    /// One file takes and gives the same wherever it stands.
    fn check_shared_segments(&self) -> Result<(), ManifestError> {
        let mut known = HashMap::new();
        for variant in &self.variants {
            let first = self.input_of(variant).shape;
            let inputs = std::iter::once(first).chain(variant.segments.iter().map(|it| it.output));
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
        if let Some(input) = &variant.input {
            check_input(input, &format!("variant '{name}'"))?;
        }
        if !(0.0..=100.0).contains(&variant.accuracy) {
            return fail(format!("has an accuracy of {} %", variant.accuracy));
        }
        if variant.segments.len() > MAX_SEGMENTS {
            return fail(format!(
                "has {} segments, expected {MAX_SEGMENTS} at most",
                variant.segments.len()
            ));
        }
        let logits = variant.segments.last().map_or(0, |it| it.output.values());
        if logits != self.classes.len() {
            return fail(format!("gives {logits} logits for {} classes", self.classes.len()));
        }
        for segment in &variant.segments {
            let digest = segment.sha256;
            if segment.bytes > MAX_SEGMENT_WORK || segment.macs > MAX_SEGMENT_WORK {
                return fail(format!("has segment {digest}, which is too large"));
            }
            if segment.micros.is_some_and(|it| !it.is_finite() || it < 0.0) {
                return fail(format!("has segment {digest}, whose time is no time"));
            }
            if segment.micros.is_some() != self.timed_on.is_some() {
                return fail(format!(
                    "has segment {digest} with a time where the series states no machine, or the reverse"
                ));
            }
        }
        self.check_cuts(variant)
    }

    /// Split points follow one another, and leave something on both sides.
    fn check_cuts(&self, variant: &Variant) -> Result<(), ManifestError> {
        let fail = |what: String| {
            let name = &variant.name;
            Err(ManifestError::Inconsistent(format!("variant '{name}' {what}")))
        };
        if variant.cuts.len() != self.split_points.len() {
            let (got, expected) = (variant.cuts.len(), self.split_points.len());
            return fail(format!("has {got} cuts for {expected} split points"));
        }
        let mut before = 0;
        for (split, cut) in self.split_points.iter().zip(&variant.cuts) {
            match *cut {
                Some(cut) if cut <= before || cut >= variant.segments.len() => {
                    return fail(format!("cannot be cut at '{split}', after segment {cut}"));
                }
                Some(cut) => before = cut,
                None => {}
            }
        }
        Ok(())
    }

    fn check_point(&self, index: usize) -> Result<(), ManifestError> {
        let point = &self.operating_points[index];
        let fail = |what: String| Err(ManifestError::Inconsistent(format!("operating point {index} {what}")));
        if self.cut(point).is_none() {
            return fail(format!(
                "cuts variant '{}' at '{}': the series has no such variant, or does not cut it there",
                point.variant, point.split
            ));
        }
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
            (Split::At(_), Codec::Features(CodecFile { bits, bytes, .. })) => match () {
                () if !(1..=MAX_BITS).contains(bits) => {
                    fail(format!("has codes of {bits} bits, expected 1 to {MAX_BITS}"))
                }
                () if *bytes > MAX_CODEC_BYTES => fail(format!(
                    "has a codec of {bytes} bytes, expected {MAX_CODEC_BYTES} at most"
                )),
                () => Ok(()),
            },
            (split, codec) => fail(format!(
                "has the codec {codec}, which does not fit the split point '{split}'"
            )),
        }
    }
}

fn check_input(input: &Input, whose: &str) -> Result<(), ManifestError> {
    let fail = |what: &str| Err(ManifestError::Inconsistent(format!("the input of {whose} {what}")));
    if input.shape.channels() != 3 || input.std.iter().any(|it| !it.is_finite() || *it <= 0.0) {
        return fail("must be an RGB image with positive standard deviations");
    }
    match input.mean.iter().all(|it| it.is_finite()) {
        true => Ok(()),
        false => fail("must have finite means"),
    }
}

/// A variant cut in two.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// The variant.
    pub variant: &'a Variant,
    /// What it takes.
    pub input: &'a Input,
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
        "the manifest has format {got}, this program reads {MANIFEST_FORMAT}: use programs and series of one release; `trainer export` and \
         `trainer calibrate` write a series again from its checkpoints"
    )]
    Format {
        /// The manifest's format.
        got: u32,
    },
    /// The series has a name that cannot be part of a URL.
    #[error(transparent)]
    Name(#[from] SeriesNameError),
    /// Parts that do not fit each other.
    #[error("the manifest contradicts itself: {0}")]
    Inconsistent(String),
}

#[cfg(test)]
mod tests;
