//! A series on disk, for tests and benchmarks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use split_core::{
    Manifest, Shape,
    manifest::{Cut, OperatingPoint, Segment},
};
use split_runtime::Network;

/// A series and the folder it lies in.
pub struct Series {
    /// Holds `manifest.json` and `segments/`.
    pub folder: PathBuf,
    /// As read.
    pub manifest: Manifest,
}

impl Series {
    /// Reads the manifest.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let json = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest: Manifest::parse(&json).with_context(|| path.display().to_string())?,
        })
    }

    /// The variant of an operating point, cut at its split.
    pub fn cut(&self, point: &OperatingPoint) -> Result<Cut<'_>> {
        self.manifest.cut(point).context("a point that is not of this series")
    }

    /// A segment's file.
    pub fn read(&self, segment: &Segment) -> Result<Vec<u8>> {
        let path = self.folder.join(segment.path());
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Joins segments, which take `input`, into a network.
    pub fn network(&self, input: Shape, segments: &[Segment]) -> Result<Network> {
        let files = segments.iter().map(|it| self.read(it)).collect::<Result<Vec<_>>>()?;
        Ok(Network::load(input, files.iter().map(Vec::as_slice))?)
    }
}
