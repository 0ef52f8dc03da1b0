//! The heads of a series.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use split_core::{
    Manifest, Shape,
    manifest::{Codec, OperatingPoint},
};
use split_runtime::Network;

/// A series on disk.
pub struct Series {
    folder: PathBuf,
    pub manifest: Manifest,
}

/// Operating points of one head.
pub struct Group<'a> {
    pub points: Vec<&'a OperatingPoint>,
    /// Of the features.
    pub shape: Shape,
}

impl Series {
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let json = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest: Manifest::parse(&json).with_context(|| path.display().to_string())?,
        })
    }

    /// Operating points whose features are coded, those of one variant and split point together.
    pub fn groups(&self) -> Result<Vec<Group<'_>>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for point in &self.manifest.operating_points {
            let shape = self
                .manifest
                .cut(point)
                .context("a point that is not of this series")?
                .features;
            let alike = |it: &OperatingPoint| (&it.variant, &it.split) == (&point.variant, &point.split);
            match groups.iter_mut().find(|it| alike(it.points[0])) {
                _ if !matches!(point.codec, Codec::Features(_)) => {}
                Some(group) => group.points.push(point),
                None => groups.push(Group {
                    points: vec![point],
                    shape,
                }),
            }
        }
        Ok(groups)
    }

    pub fn head(&self, group: &Group<'_>) -> Result<Network> {
        let cut = self
            .manifest
            .cut(group.points[0])
            .context("a point that is not of this series")?;
        let read = |path: PathBuf| fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
        let files = cut.head.iter().map(|it| read(self.folder.join(it.path())));
        let files = files.collect::<Result<Vec<_>>>()?;
        Ok(Network::load(
            self.manifest.input.shape,
            files.iter().map(Vec::as_slice),
        )?)
    }
}
