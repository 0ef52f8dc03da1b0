//! The manifest as its file has it: each segment once, in a list that the variants point into.

use std::{collections::HashMap, io};

use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use super::{Input, Manifest, ManifestError, MeasuredOn, OperatingPoint, Segment, Source, Unpruned, Variant};

/// The fields of [`Manifest`], in the order of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    format: u32,
    series: String,
    source: Source,
    classes: Vec<String>,
    input: Input,
    unpruned: Unpruned,
    measured_on: MeasuredOn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timed_on: Option<String>,
    split_points: Vec<String>,
    segments: Vec<Segment>,
    variants: Vec<StoredVariant>,
    operating_points: Vec<OperatingPoint>,
}

/// The fields of [`Variant`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredVariant {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Input>,
    widths: Vec<usize>,
    accuracy: f64,
    /// Places in the list of segments.
    segments: Vec<usize>,
    cuts: Vec<Option<usize>>,
}

impl Stored {
    /// Looks up the variants' segments.
    pub(super) fn into_manifest(self) -> Result<Manifest, ManifestError> {
        let segments = self.segments;
        let variant = |it: StoredVariant| -> Result<Variant, ManifestError> {
            let own = it.segments.iter().map(|&place| {
                let missing = || {
                    let (name, count) = (&it.name, segments.len());
                    ManifestError::Inconsistent(format!("variant '{name}' names segment {place} of {count}"))
                };
                segments.get(place).cloned().ok_or_else(missing)
            });
            Ok(Variant {
                segments: own.collect::<Result<_, _>>()?,
                name: it.name,
                parent: it.parent,
                input: it.input,
                widths: it.widths,
                accuracy: it.accuracy,
                cuts: it.cuts,
            })
        };
        Ok(Manifest {
            format: self.format,
            series: self.series,
            source: self.source,
            classes: self.classes,
            input: self.input,
            unpruned: self.unpruned,
            measured_on: self.measured_on,
            timed_on: self.timed_on,
            split_points: self.split_points,
            variants: self.variants.into_iter().map(variant).collect::<Result<_, _>>()?,
            operating_points: self.operating_points,
        })
    }

    /// Lists every segment where a variant has it first.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let (mut segments, mut places) = (Vec::new(), HashMap::new());
        let mut place = |segment: &Segment| {
            *places.entry(segment.sha256).or_insert_with(|| {
                segments.push(segment.clone());
                segments.len() - 1
            })
        };
        let variants = manifest.variants.iter().map(|it| StoredVariant {
            name: it.name.clone(),
            parent: it.parent.clone(),
            input: it.input.clone(),
            widths: it.widths.clone(),
            accuracy: it.accuracy,
            segments: it.segments.iter().map(&mut place).collect(),
            cuts: it.cuts.clone(),
        });
        let variants = variants.collect();
        Self {
            format: manifest.format,
            series: manifest.series.clone(),
            source: manifest.source.clone(),
            classes: manifest.classes.clone(),
            input: manifest.input.clone(),
            unpruned: manifest.unpruned.clone(),
            measured_on: manifest.measured_on.clone(),
            timed_on: manifest.timed_on.clone(),
            split_points: manifest.split_points.clone(),
            segments,
            variants,
            operating_points: manifest.operating_points.clone(),
        }
    }

    /// The file's bytes: a line for each field, and for each item of a list.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, Lines::default());
        let written = self.serialize(&mut serializer);
        written.map_err(|it| ManifestError::Syntax(it.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }
}

/// Compact JSON with line breaks between the fields of the outermost object, and between the items of its lists.
#[derive(Default)]
struct Lines {
    depth: usize,
}

impl Lines {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + io::Write>(&self, writer: &mut W, first: bool, broken: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b"," })?;
        writer.write_all(if broken { b"\n" } else { b"" })
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8], broken: bool) -> io::Result<()> {
        writer.write_all(if broken { b"\n" } else { b"" })?;
        self.depth -= 1;
        writer.write_all(bracket)
    }
}

impl Formatter for Lines {
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first, self.depth == 1)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.depth == 1 { b": " } else { b":" })
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}", self.depth == 1)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first, self.depth == 2)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]", self.depth == 2)
    }
}
