//! One series: read from its folder, verified, and ready to serve.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use split_core::{
    Digest, Manifest,
    codec::SpecError,
    manifest::{Codec, CodecFile, Cut, File, FileKind, ManifestError, OperatingPoint, Segment, Split, Variant},
    wire::MAX_PROBE_BYTES,
};
use split_runtime::LoadError;

use crate::{
    assets::{Asset, IMMUTABLE, REVALIDATE},
    payload::Decoder,
    tail::{Builder, Pieces, Tail},
};

/// A series in memory.
pub(crate) struct Series {
    /// What it holds.
    pub(crate) manifest: Manifest,
    /// Identity: the digest of the manifest file.
    pub(crate) digest: Digest,
    /// The manifest file.
    pub(crate) json: Asset,
    /// What a device may need, by its path beside the manifest.
    files: HashMap<String, Asset>,
    points: PreparedPoints,
    /// What the tails are made of, for the series that come after this one.
    pieces: Pieces,
}

/// The operating points in the order of the manifest; none has no tail.
type PreparedPoints = Vec<Option<Arc<Point>>>;

/// One operating point with a tail.
pub(crate) struct Point {
    /// Labels of the metrics.
    pub(crate) variant: String,
    /// Labels of the metrics.
    pub(crate) split: String,
    /// Decodes its payloads.
    pub(crate) decoder: Decoder,
    /// Shared with the points that differ in their codec only.
    pub(crate) tail: Arc<Tail>,
}

/// Why a series could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// Neither a series nor a folder of series.
    #[error(
        "'{}' holds no series: expected manifest.json in it or in a folder below it; make one with the trainer, or name another folder with --models", .folder.display()
    )]
    NoSeries {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("cannot read '{}': {cause}; the series is incomplete or --models names the wrong folder", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The manifest is damaged or of another release.
    #[error("'{}': {cause}", .path.display())]
    Manifest {
        /// The manifest file.
        path: PathBuf,
        /// What is wrong.
        cause: ManifestError,
    },
    /// The bytes of a segment or a codec are not those that the manifest names.
    #[error("'{}' is damaged: its SHA-256 is {got}; copy the series again", .path.display())]
    Damaged {
        /// The file; its name is the expected digest.
        path: PathBuf,
        /// Digest of what it holds.
        got: Digest,
    },
    /// Sound files that do not make a network.
    #[error("'{}': variant '{variant}' cannot be loaded: {cause}; write the series again with a trainer of this release", .path.display())]
    Network {
        /// The manifest file.
        path: PathBuf,
        /// Name of the variant.
        variant: String,
        /// What is wrong.
        cause: LoadError,
    },
    /// A network that loads but does not run, or gives other logits than the manifest says.
    #[error("'{}': variant '{variant}' does not run: {reason}; write the series again with a trainer of this release", .path.display())]
    Run {
        /// The manifest file.
        path: PathBuf,
        /// Name of the variant.
        variant: String,
        /// What is wrong.
        reason: String,
    },
    /// A sound file that is no codec of its operating point.
    #[error("'{}': the codec of operating point {point} cannot be built: {cause}; write the series again with a trainer of this release", .path.display())]
    Codec {
        /// The codec's file.
        path: PathBuf,
        /// Place of the operating point in the manifest.
        point: usize,
        /// What is wrong.
        cause: SpecError,
    },
    /// No series for clients that name none.
    #[error("{}: name one of these with --default-series: {names}", .set.as_ref().map_or("there are several series".into(), |it| format!("there is no series '{it}'")))]
    Default {
        /// The name that was set.
        set: Option<String>,
        /// Those there are.
        names: String,
    },
    /// Two series of one name.
    #[error("two folders in '{}' hold a series named '{name}': remove one", .folder.display())]
    Twice {
        /// The folder of the series.
        folder: PathBuf,
        /// The name.
        name: String,
    },
}

impl Series {
    /// The name of the series in a folder.
    pub(crate) fn name(folder: &Path) -> Result<String, SeriesError> {
        Ok(read_manifest(&folder.join("manifest.json"))?.1.series)
    }

    /// Reads `folder/manifest.json` and every file that it names, verifies them, and prepares every codec and every tail, warmed up.
    ///
    /// What is equal in the series that are known already is shared with them: the whole series, or files and parts of tails.
    pub(crate) fn load(folder: &Path, known: &[Arc<Self>]) -> Result<Arc<Self>, SeriesError> {
        let (json, manifest) = read_manifest(&folder.join("manifest.json"))?;
        let read = read_files(folder, &manifest)?;
        let digest = Digest::of(&json);
        if let Some(same) = known.iter().find(|it| it.digest == digest) {
            return Ok(same.clone());
        }
        let pieces = known.iter().flat_map(|it| it.pieces.clone()).collect();
        let (points, pieces) = Points::new(folder, &manifest, &read, Builder::new(pieces)).load()?;
        // Only what a device may have to run is served: a tail may be its owner's secret.
        let points_of_devices = manifest.operating_points.iter();
        let files: HashSet<File> = points_of_devices.flat_map(|it| manifest.device_files(it)).collect();
        let files = files.into_iter().filter_map(|it| {
            let path = it.path();
            let known = known.iter().find_map(|it| it.file(&path).cloned());
            let asset = known.or_else(|| Some(asset(it.kind, read.get(&it.sha256)?)))?;
            Some((path, asset))
        });
        let files = files.collect();
        Ok(Arc::new(Self {
            digest,
            json: Asset::new(json, "application/json", REVALIDATE).compressed(),
            manifest,
            files,
            points,
            pieces,
        }))
    }

    /// Whether no weights are in memory twice.
    #[cfg(test)]
    pub(crate) fn shares_all_with(&self, other: &Self) -> bool {
        let is_shared = |(key, piece): (_, &Arc<_>)| other.pieces.get(key).is_some_and(|it| Arc::ptr_eq(it, piece));
        self.pieces.iter().all(is_shared)
    }

    /// The file at this path beside the manifest, if a device may need it: a head's segment, or a codec.
    pub(crate) fn file(&self, path: &str) -> Option<&Asset> {
        self.files.get(path)
    }

    /// The operating point at this place in the manifest, if there is one and it has a tail.
    pub(crate) fn point(&self, index: u16) -> Option<&Arc<Point>> {
        self.points.get(usize::from(index))?.as_ref()
    }

    /// The longest message that a client of this series has reason to send, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        let payload = self.points.iter().flatten().map(|it| it.decoder.max_payload_bytes());
        payload.chain([MAX_PROBE_BYTES]).max().unwrap_or_default() + MAX_HEADER_BYTES
    }
}

/// The longest header of an `Infer` (kind, id, point of three bytes) or a `Probe` (kind, id, padding of three bytes).
const MAX_HEADER_BYTES: usize = 5;

fn read(path: &Path) -> Result<Vec<u8>, SeriesError> {
    fs::read(path).map_err(|cause| SeriesError::Read {
        path: path.into(),
        cause,
    })
}

/// The manifest file and what it says.
fn read_manifest(path: &Path) -> Result<(Bytes, Manifest), SeriesError> {
    let json: Bytes = read(path)?.into();
    let manifest = Manifest::parse(&json).map_err(|cause| SeriesError::Manifest {
        path: path.into(),
        cause,
    })?;
    Ok((json, manifest))
}

/// The bytes of every segment and codec, verified.
fn read_files(folder: &Path, manifest: &Manifest) -> Result<HashMap<Digest, Bytes>, SeriesError> {
    let segments = manifest.variants.iter().flat_map(|it| &it.segments).map(Segment::file);
    let codecs = manifest.operating_points.iter().filter_map(|it| match &it.codec {
        Codec::Features(codec) => Some(codec.file()),
        Codec::None | Codec::Image { .. } => None,
    });
    let mut files = HashMap::new();
    for file in segments.chain(codecs) {
        if files.contains_key(&file.sha256) {
            continue;
        }
        let path = folder.join(file.path());
        let bytes = read(&path)?;
        let got = Digest::of(&bytes);
        if got != file.sha256 {
            return Err(SeriesError::Damaged { path, got });
        }
        files.insert(file.sha256, bytes.into());
    }
    Ok(files)
}

fn asset(kind: FileKind, bytes: &Bytes) -> Asset {
    match kind {
        FileKind::Segment => Asset::new(bytes.clone(), "application/gzip", IMMUTABLE),
        FileKind::Codec => Asset::new(bytes.clone(), "application/json", IMMUTABLE).compressed(),
    }
}

/// Prepares the operating points of a manifest.
struct Points<'a> {
    folder: &'a Path,
    manifest: &'a Manifest,
    files: &'a HashMap<Digest, Bytes>,
    builder: Builder,
    tails: HashMap<(&'a str, usize), Arc<Tail>>,
}

impl<'a> Points<'a> {
    fn new(folder: &'a Path, manifest: &'a Manifest, files: &'a HashMap<Digest, Bytes>, builder: Builder) -> Self {
        Self {
            folder,
            manifest,
            files,
            builder,
            tails: HashMap::new(),
        }
    }

    fn load(mut self) -> Result<(PreparedPoints, Pieces), SeriesError> {
        let points = self.manifest.operating_points.iter().enumerate();
        let points: Result<PreparedPoints, _> = points.map(|(index, it)| self.point(index, it)).collect();
        Ok((points?, self.builder.used()))
    }

    fn point(&mut self, index: usize, point: &'a OperatingPoint) -> Result<Option<Arc<Point>>, SeriesError> {
        let Some(cut) = self.manifest.cut(point) else {
            return Ok(None);
        };
        let decoder = match &point.codec {
            Codec::None => return Ok(None),
            Codec::Image { format, .. } => Decoder::Image {
                format: *format,
                input: cut.input.clone(),
            },
            Codec::Features(codec) => self.decoder(index, codec, &cut)?,
        };
        Ok(Some(Arc::new(Point {
            variant: point.variant.clone(),
            split: point.split.to_string(),
            decoder,
            tail: self.tail(cut.variant, cut.head.len())?,
        })))
    }

    fn decoder(&self, point: usize, codec: &CodecFile, cut: &Cut<'_>) -> Result<Decoder, SeriesError> {
        let json = self.files.get(&codec.sha256).map_or(&[][..], |it| it);
        match codec.open(cut.features, json) {
            Ok(codec) => Ok(Decoder::Features(Box::new(codec))),
            Err(cause) => Err(SeriesError::Codec {
                path: self.folder.join(codec.file().path()),
                point,
                cause,
            }),
        }
    }

    fn tail(&mut self, variant: &'a Variant, from: usize) -> Result<Arc<Tail>, SeriesError> {
        if let Some(tail) = self.tails.get(&(variant.name.as_str(), from)) {
            return Ok(tail.clone());
        }
        let cuts = self.cuts(variant);
        let input = self.manifest.input_of(variant).shape;
        let path = || self.folder.join("manifest.json");
        let tail = self.builder.tail(input, &variant.segments, from, &cuts, self.files);
        let tail = tail.map_err(|cause| SeriesError::Network {
            path: path(),
            variant: variant.name.clone(),
            cause,
        })?;
        let fails = |reason: String| SeriesError::Run {
            path: path(),
            variant: variant.name.clone(),
            reason,
        };
        let logits = tail.warm_up().map_err(|it| fails(it.to_string()))?;
        if logits.len() != self.manifest.classes.len() {
            let (got, expected) = (logits.len(), self.manifest.classes.len());
            return Err(fails(format!("it gives {got} logits for {expected} classes")));
        }
        let tail = Arc::new(tail);
        self.tails.insert((&variant.name, from), tail.clone());
        Ok(tail)
    }

    /// Where the operating points cut this variant: segments in front of each cut, in order.
    fn cuts(&self, variant: &Variant) -> Vec<usize> {
        let points = self.manifest.operating_points.iter();
        let cuts: BTreeSet<_> = points
            .filter(|it| it.variant == variant.name && it.split != Split::Output)
            .filter_map(|it| self.manifest.head_segments(variant, &it.split))
            .collect();
        cuts.into_iter().collect()
    }
}
