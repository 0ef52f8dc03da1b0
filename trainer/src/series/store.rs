//! A series on disk: `manifest.json`, `segments/<sha256>.nnef.tgz` and `codecs/<sha256>.json`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use split_core::Shape;
use split_core::codec::FeatureCodecSpec;
use split_core::manifest::{Codec, CodecFile, Cut, Digest, File, Manifest, OperatingPoint, Segment, Split, Variant};
use split_runtime::{Network, SegmentFile};

use super::measure::{Coding, framing_bytes};
use crate::files::{make_folder, write_whole};

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
        ensure!(
            path.exists(),
            "{} is not the folder of a series: there is no {}, which `trainer export` writes",
            dir.display(),
            path.display()
        );
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

    /// Removes segments and codecs that the manifest does not name any more.
    pub fn remove_unused_files(&self) -> anyhow::Result<()> {
        let segments = self.manifest.variants.iter().flat_map(|it| &it.segments);
        let codecs = self.manifest.operating_points.iter().filter_map(|it| match &it.codec {
            Codec::Features(codec) => Some(codec.file()),
            Codec::None | Codec::Image { .. } => None,
        });
        let used: HashSet<String> = segments.map(Segment::file).chain(codecs).map(|it| it.path()).collect();
        for (folder, suffix) in [("segments", ".nnef.tgz"), ("codecs", ".json")] {
            let Ok(entries) = fs::read_dir(self.dir.join(folder)) else {
                continue;
            };
            for entry in entries {
                let entry = entry?;
                let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if path.ends_with(suffix) && !used.contains(&path) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Stores a coding's codec, and gives what the manifest says of it.
    pub fn store_coding(&self, coding: &Coding) -> anyhow::Result<Codec> {
        coding.try_map(|spec| {
            let (codec, json) = CodecFile::of(spec);
            store(&self.dir, codec.file(), &json)?;
            Ok(codec)
        })
    }

    /// Reads the codec that the manifest names.
    pub fn coding(&self, codec: &Codec) -> anyhow::Result<Coding> {
        codec.try_map(|it| self.codec(it))
    }

    /// Reads a codec.
    pub fn codec(&self, codec: &CodecFile) -> anyhow::Result<FeatureCodecSpec> {
        let file = codec.file();
        FeatureCodecSpec::from_json(&self.read(file)?).with_context(|| self.dir.join(file.path()).display().to_string())
    }

    /// Rows and columns of the pictures that a variant takes.
    pub fn size_of(&self, variant: &Variant) -> [usize; 2] {
        let shape = self.manifest.input_of(variant).shape;
        [shape.height(), shape.width()]
    }

    /// Joins segments, which take `input`, into a network.
    pub fn network(&self, input: Shape, segments: &[Segment]) -> anyhow::Result<Network> {
        let files = segments
            .iter()
            .map(|it| self.read(it.file()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Network::load(input, files.iter().map(Vec::as_slice))?)
    }

    /// One segment, which takes `input`, on vectors no wider than a browser has.
    pub fn network_as_in_browsers(&self, input: Shape, segment: &Segment) -> anyhow::Result<Network> {
        let file = self.read(segment.file())?;
        Ok(Network::load_as_in_browsers(input, [&file[..]])?)
    }

    /// Head and tail of a variant at a split, and what crosses between them.
    pub fn head_and_tail(&self, variant: &str, split: &Split) -> anyhow::Result<(Network, Shape, Network)> {
        let cut = self.cut(variant, split)?;
        let head = self.network(cut.input.shape, cut.head)?;
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
        self.manifest.cut_at(found, split).with_context(|| {
            let places = self.manifest.split_points.iter().zip(&found.cuts);
            let known: Vec<&str> = places.filter(|it| it.1.is_some()).map(|it| it.0.as_str()).collect();
            format!(
                "`{variant}` cannot be cut at `{split}`; it has the split points input, {}, output",
                known.join(", ")
            )
        })
    }

    /// Puts new operating points of one variant in the place of its old ones, in the order of variants, splits and bytes.
    ///
    /// The new ones' messages must have been measured with the number 0. Every point's are counted with the number it gets.
    pub fn replace_points(&mut self, variant: &str, points: Vec<OperatingPoint>) {
        let old = std::mem::take(&mut self.manifest.operating_points);
        let kept = old.into_iter().enumerate().filter(|it| it.1.variant != variant);
        let mut all: Vec<(usize, OperatingPoint)> = kept.chain(points.into_iter().map(|it| (0, it))).collect();
        all.sort_by(|(_, a), (_, b)| {
            let bytes = a.mean_message_bytes.total_cmp(&b.mean_message_bytes);
            self.order(a).cmp(&self.order(b)).then(bytes)
        });
        let images = self.manifest.measured_on.images;
        let moved = |(place, (measured_at, point))| renumbered(point, measured_at, place, images);
        self.manifest.operating_points = all.into_iter().enumerate().map(moved).collect();
    }

    /// Places of a point's variant and split point in the manifest.
    fn order(&self, point: &OperatingPoint) -> (Option<usize>, usize) {
        let Manifest {
            variants, split_points, ..
        } = &self.manifest;
        let split = match &point.split {
            Split::Input => 0,
            Split::At(name) => 1 + split_points.iter().position(|it| it == name).unwrap_or(0),
            Split::Output => usize::MAX,
        };
        (variants.iter().position(|it| it.name == point.variant), split)
    }

    fn read(&self, file: File) -> anyhow::Result<Vec<u8>> {
        let path = self.dir.join(file.path());
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if Digest::of(&bytes) != file.sha256 {
            bail!("{} is damaged: its SHA-256 is {}", path.display(), Digest::of(&bytes));
        }
        Ok(bytes)
    }
}

/// Stores segment files under their digests in `dir`, and describes them as a manifest does.
pub fn store_segments(dir: &Path, files: &[SegmentFile]) -> anyhow::Result<Vec<Segment>> {
    let described = |file: &SegmentFile| {
        let segment = Segment::from(file);
        store(dir, segment.file(), &file.bytes)?;
        Ok(segment)
    };
    files.iter().map(described).collect()
}

fn store(dir: &Path, file: File, bytes: &[u8]) -> anyhow::Result<()> {
    let path = dir.join(file.path());
    let folder = path.parent().unwrap_or(dir);
    make_folder(folder)?;
    write_whole(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// A point whose messages, of `images` images, were measured with another number than they will carry.
fn renumbered(point: OperatingPoint, from: usize, to: usize, images: usize) -> OperatingPoint {
    if point.codec == Codec::None {
        return point;
    }
    let [from, to] = [from, to].map(|it| framing_bytes(it as u16) as f64);
    let images = images as f64;
    // Whole bytes of all images first: so the mean is to the last bit what `evaluate` finds.
    let sum = (point.mean_message_bytes * images).round() + (to - from) * images;
    OperatingPoint {
        mean_message_bytes: sum / images,
        p95_message_bytes: point.p95_message_bytes + to - from,
        ..point
    }
}

/// How many leading segments two variants share.
pub fn shared_trunk(a: &Variant, b: &Variant) -> usize {
    a.segments
        .iter()
        .zip(&b.segments)
        .take_while(|(a, b)| a.sha256 == b.sha256)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::made_up;
    use split_core::manifest::ImageFormat;

    /// Points of a variant at `input`, whose payloads have 100, 101, … bytes on average over three images, as measured with the number 0.
    fn points(variant: &str, count: usize) -> Vec<OperatingPoint> {
        let point = |number| {
            let mean_message_bytes = (3 * (number + framing_bytes(0)) + 1) as f64 / 3.0;
            OperatingPoint {
                variant: variant.into(),
                split: Split::Input,
                codec: Codec::Image {
                    format: ImageFormat::Webp,
                    quality: 50,
                },
                accuracy: 50.0,
                mean_message_bytes,
                p95_message_bytes: mean_message_bytes.ceil(),
            }
        };
        (100..100 + count).map(point).collect()
    }

    /// The mean of whole messages, as measuring at each place would give it.
    fn expected(series: &Series, first: usize, count: usize) -> Vec<f64> {
        let message = |place| 100 + place - first + framing_bytes(place as u16);
        let variant = &series.manifest.operating_points[first].variant;
        assert!(
            series.manifest.operating_points[first..][..count]
                .iter()
                .all(|it| it.variant == *variant)
        );
        (first..first + count)
            .map(|it| (3 * message(it) + 1) as f64 / 3.0)
            .collect()
    }

    #[test]
    fn messages_are_counted_with_the_numbers_that_their_points_get() {
        let mut series = Series::new(Path::new("series"), made_up::manifest());
        series.manifest.measured_on.images = 3;
        series.manifest.operating_points.clear();
        let check = |series: &Series, counts: [usize; 2]| {
            let means = |it: &OperatingPoint| it.mean_message_bytes;
            let all: Vec<f64> = series.manifest.operating_points.iter().map(means).collect();
            let [wide, narrow] = counts;
            assert_eq!(
                all,
                [expected(series, 0, wide), expected(series, wide, narrow)].concat()
            );
        };
        series.replace_points("narrow", points("narrow", 100));
        series.replace_points("wide", points("wide", 90));
        check(&series, [90, 100]);
        // Fewer points of one variant give those behind them shorter numbers, more give them longer ones.
        series.replace_points("wide", points("wide", 20));
        check(&series, [20, 100]);
        series.replace_points("wide", points("wide", 200));
        check(&series, [200, 100]);
    }
}
