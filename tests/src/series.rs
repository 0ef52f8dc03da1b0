//! A series on disk, for tests and benchmarks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use split_core::{
    Manifest, Shape,
    codec::FeatureCodecSpec,
    manifest::{Codec, Cut, File, OperatingPoint, Segment},
};
use split_runtime::Network;

/// A series and the folder it lies in.
pub struct Series {
    /// Holds `manifest.json`, `segments/` and `codecs/`.
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

    /// A segment or a codec.
    pub fn read(&self, file: File) -> Result<Vec<u8>> {
        let path = self.folder.join(file.path());
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The codec of an operating point; none where no features cross.
    pub fn codec(&self, point: &OperatingPoint) -> Result<Option<FeatureCodecSpec>> {
        match &point.codec {
            Codec::Features(it) => Ok(Some(FeatureCodecSpec::from_json(&self.read(it.file())?)?)),
            Codec::None | Codec::Image { .. } => Ok(None),
        }
    }

    /// Joins segments, which take `input`, into a network.
    pub fn network(&self, input: Shape, segments: &[Segment]) -> Result<Network> {
        let files = segments
            .iter()
            .map(|it| self.read(it.file()))
            .collect::<Result<Vec<_>>>()?;
        Ok(Network::load(input, files.iter().map(Vec::as_slice))?)
    }
}
