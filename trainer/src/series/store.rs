//! A series on disk: `manifest.json` and `segments/<sha256>.nnef.tgz`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use split_core::manifest::{Cut, Digest, Manifest, OperatingPoint, Segment, Variant};
use split_core::{Shape, manifest::Split};
use split_runtime::{Network, SegmentFile};

use crate::files::write_whole;

/// A series and where it lies.
#[derive(Clone, Debug)]
pub struct Series {
    dir: PathBuf,
    /// What the series holds.
    pub manifest: Manifest,
}

impl Series {
    /// Reads and checks the manifest of a series.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("manifest.json");
        let json = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest = Manifest::parse(&json).with_context(|| path.display().to_string())?;
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
        })
    }

    /// A series that will lie in `dir`. Nothing is written yet.
    pub fn new(dir: &Path, manifest: Manifest) -> Self {
        Self {
            dir: dir.to_owned(),
            manifest,
        }
    }

    /// Writes the manifest, whole or not at all.
    pub fn save(&self) -> anyhow::Result<()> {
        let path = self.dir.join("manifest.json");
        write_whole(&path, &self.manifest.to_json()?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes segment files that no variant names any more.
    pub fn remove_unused_segments(&self) -> anyhow::Result<()> {
        let used: HashSet<String> = self
            .manifest
            .variants
            .iter()
            .flat_map(|it| &it.segments)
            .map(Segment::path)
            .collect();
        for entry in fs::read_dir(self.dir.join("segments"))? {
            let entry = entry?;
            let path = format!("segments/{}", entry.file_name().to_string_lossy());
            if path.ends_with(".nnef.tgz") && !used.contains(&path) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Joins segments, which take `input`, into a network.
    pub fn network(&self, input: Shape, segments: &[Segment]) -> anyhow::Result<Network> {
        let files = segments
            .iter()
            .map(|it| self.read(it))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Network::load(input, files.iter().map(Vec::as_slice))?)
    }

    /// Head and tail of a variant at a split, and what crosses between them.
    pub fn head_and_tail(&self, variant: &str, split: &Split) -> anyhow::Result<(Network, Shape, Network)> {
        let cut = self.cut(variant, split)?;
        let head = self.network(self.manifest.input.shape, cut.head)?;
        Ok((head, cut.features, self.network(cut.features, cut.tail)?))
    }

    /// A variant cut at a split.
    pub fn cut(&self, variant: &str, split: &Split) -> anyhow::Result<Cut<'_>> {
        let Some(found) = self.manifest.variant(variant) else {
            let known: Vec<&str> = self.manifest.variants.iter().map(|it| it.name.as_str()).collect();
            bail!(
                "there is no variant `{variant}` in the series; it has {}",
                known.join(", ")
            );
        };
        let cut = self.manifest.head_segments(found, split).and_then(|segments| {
            let (head, tail) = found.segments.split_at_checked(segments)?;
            let features = head.last().map_or(self.manifest.input.shape, |it| it.output);
            Some(Cut {
                variant: found,
                head,
                features,
                tail,
            })
        });
        cut.with_context(|| {
            let known: Vec<&str> = self.manifest.split_points.iter().map(|it| it.name.as_str()).collect();
            format!(
                "there is no split point `{split}`; the series has input, {}, output",
                known.join(", ")
            )
        })
    }

    /// Puts new operating points of one variant in the place of its old ones, in the order of variants, splits and bytes.
    pub fn replace_points(&mut self, variant: &str, points: Vec<OperatingPoint>) {
        let all = &mut self.manifest.operating_points;
        all.retain(|it| it.variant != variant);
        all.extend(points);
        let order = |it: &OperatingPoint| {
            let variant = self.manifest.variants.iter().position(|v| v.name == it.variant);
            let split = match &it.split {
                Split::Input => 0,
                Split::At(name) => {
                    1 + self
                        .manifest
                        .split_points
                        .iter()
                        .position(|s| s.name == *name)
                        .unwrap_or(0)
                }
                Split::Output => usize::MAX,
            };
            (variant, split)
        };
        let mut ordered = std::mem::take(&mut self.manifest.operating_points);
        ordered.sort_by(|a, b| {
            order(a)
                .cmp(&order(b))
                .then(a.mean_message_bytes.total_cmp(&b.mean_message_bytes))
        });
        self.manifest.operating_points = ordered;
    }

    fn read(&self, segment: &Segment) -> anyhow::Result<Vec<u8>> {
        let path = self.dir.join(segment.path());
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if Digest::of(&bytes) != segment.sha256 {
            bail!("{} is damaged: its SHA-256 is {}", path.display(), Digest::of(&bytes));
        }
        Ok(bytes)
    }
}

/// Stores segment files under their digests in `dir`, and describes them as a manifest does.
pub fn store_segments(dir: &Path, files: &[SegmentFile]) -> anyhow::Result<Vec<Segment>> {
    fs::create_dir_all(dir.join("segments")).with_context(|| format!("cannot make {}", dir.display()))?;
    let store = |file: &SegmentFile| {
        let sha256 = Digest::of(&file.bytes);
        let segment = Segment {
            sha256,
            bytes: file.bytes.len() as u64,
            output: file.output,
            macs: file.macs,
        };
        let path = dir.join(segment.path());
        write_whole(&path, &file.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(segment)
    };
    files.iter().map(store).collect()
}

/// How many leading segments two variants share.
pub fn shared_trunk(a: &Variant, b: &Variant) -> usize {
    a.segments
        .iter()
        .zip(&b.segments)
        .take_while(|(a, b)| a.sha256 == b.sha256)
        .count()
}
