//! The device's computing: segments, heads, and a frame's way to its payload.

use std::{collections::HashMap, time::Duration};

use split_core::{
    Digest, Manifest,
    codec::FeatureCodec,
    manifest::{Codec, Cut, File, Split},
    top_classes,
    wire::ClassProbability,
};
use split_runtime::Network;

use crate::{error::ClientError, timing::Clock};

/// Runs before a head is called warm: the first touches fresh memory. The kernels [have been warmed up](split_runtime::warm_up) before.
const WARM_UP_RUNS: usize = 1;
/// Runs timed together at most: even a head of 10 µs has then filled eight ticks of a clock that ticks once a millisecond.
const MOST_TIMED_RUNS: u32 = 1000;

/// Downloaded files, and the heads and codecs made of them.
#[derive(Debug)]
pub struct Device {
    clock: Clock,
    /// Segments and codecs, as they were downloaded.
    files: HashMap<Digest, Vec<u8>>,
    /// By the segments that they are made of: variants that share a trunk share its heads.
    heads: HashMap<Vec<Digest>, Network>,
    /// By operating point.
    codecs: HashMap<usize, FeatureCodec>,
    scratch: Scratch,
}

/// Buffers kept from frame to frame, so that a steady stream allocates nothing here.
#[derive(Debug, Default)]
struct Scratch {
    values: Vec<f32>,
    features: Vec<f32>,
    codes: Vec<u8>,
    payload: Vec<u8>,
}

/// What a frame became.
#[derive(Clone, Debug, PartialEq)]
pub enum Product<'a> {
    /// To be sent.
    Payload(&'a [u8]),
    /// The answer itself, the most likely classes, best first: the whole network ran here.
    Classes(Vec<ClassProbability>),
}

/// Time of the stages on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStages {
    /// RGBA bytes to the network's input.
    pub normalize: Duration,
    /// The head.
    pub head: Duration,
    /// Features to payload, or the softmax where everything runs here.
    pub encode: Duration,
}

impl DeviceStages {
    /// All three together.
    pub fn total(&self) -> Duration {
        self.normalize + self.head + self.encode
    }
}

impl Device {
    /// A device without any file.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            files: HashMap::new(),
            heads: HashMap::new(),
            codecs: HashMap::new(),
            scratch: Scratch::default(),
        }
    }

    /// Files that the operating point needs here and that have not been downloaded.
    pub fn missing(&self, manifest: &Manifest, point: usize) -> Result<Vec<File>, ClientError> {
        cut(manifest, point)?;
        let needed = manifest.device_files(&manifest.operating_points[point]);
        Ok(needed.filter(|it| !self.files.contains_key(&it.sha256)).collect())
    }

    /// Takes a downloaded file, after checking that it is the one that was asked for.
    pub fn add_file(&mut self, expected: Digest, bytes: Vec<u8>) -> Result<(), ClientError> {
        let got = Digest::of(&bytes);
        if got != expected {
            return Err(ClientError::DamagedFile { expected, got });
        }
        self.files.insert(got, bytes);
        Ok(())
    }

    /// Whether [`run`](Self::run) would find the operating point's codec, and its head warm.
    pub fn is_ready(&self, manifest: &Manifest, point: usize) -> bool {
        let Ok(cut) = cut(manifest, point) else {
            return false;
        };
        let has_codec = match manifest.operating_points[point].codec {
            Codec::Features(_) => self.codecs.contains_key(&point),
            Codec::None | Codec::Image { .. } => true,
        };
        has_codec && (cut.head.is_empty() || self.heads.contains_key(&name(&cut)))
    }

    /// Builds the codec of an operating point, joins its head and warms it up. Returns the mean time of a warm run, over as many as take `enough` together; none if
    /// there is nothing to run.
    pub fn prepare(
        &mut self,
        manifest: &Manifest,
        point: usize,
        enough: Duration,
    ) -> Result<Option<Duration>, ClientError> {
        let cut = cut(manifest, point)?;
        if cut.head.is_empty() {
            return Ok(None);
        }
        if !self.heads.contains_key(&name(&cut)) {
            let head = self.load(point, &cut)?;
            self.heads.insert(name(&cut), head);
        }
        if let Codec::Features(codec) = &manifest.operating_points[point].codec {
            let file = self.files.get(&codec.sha256);
            let file = file.ok_or(ClientError::NotReady { point, missing: 1 })?;
            self.codecs.insert(point, codec.open(cut.features, file)?);
        }
        let black = vec![0; cut.input.rgba_bytes()];
        for _ in 0..WARM_UP_RUNS {
            self.run(manifest, point, &black)?;
        }
        let (mut runs, mut elapsed) = (0, Duration::ZERO);
        while runs == 0 || elapsed < enough && runs < MOST_TIMED_RUNS {
            let (stages, _) = self.run(manifest, point, &black)?;
            (runs, elapsed) = (runs + 1, elapsed + stages.total());
        }
        Ok(Some(elapsed / runs))
    }

    /// Brings one RGBA frame to its payload, or to its answer at the `output` split point.
    pub fn run(
        &mut self,
        manifest: &Manifest,
        point: usize,
        rgba: &[u8],
    ) -> Result<(DeviceStages, Product<'_>), ClientError> {
        let cut = cut(manifest, point)?;
        let missing = || ClientError::NotReady {
            point,
            missing: cut.head.len(),
        };
        let head = self.heads.get_mut(&name(&cut)).ok_or_else(missing)?;
        let Scratch {
            values,
            features,
            codes,
            payload,
        } = &mut self.scratch;
        let start = self.clock.now();
        cut.input.normalize_rgba(rgba, values)?;
        let normalized = self.clock.now();
        head.run(1, values, features)?;
        let ran = self.clock.now();
        let product = match &manifest.operating_points[point].codec {
            Codec::Features(_) => {
                let codec = self
                    .codecs
                    .get(&point)
                    .ok_or(ClientError::NotReady { point, missing: 1 })?;
                codec.encode(features, codes, payload)?;
                Product::Payload(payload)
            }
            Codec::None => Product::Classes(top_classes(features)),
            Codec::Image { .. } => return Err(ClientError::WrongInput { point, got: "pixels" }),
        };
        let stages = DeviceStages {
            normalize: normalized.saturating_sub(start),
            head: ran.saturating_sub(normalized),
            encode: self.clock.now().saturating_sub(ran),
        };
        Ok((stages, product))
    }

    fn load(&self, point: usize, cut: &Cut<'_>) -> Result<Network, ClientError> {
        let segments: Vec<&[u8]> = cut
            .head
            .iter()
            .filter_map(|it| self.files.get(&it.sha256).map(Vec::as_slice))
            .collect();
        let missing = cut.head.len() - segments.len();
        if missing > 0 {
            return Err(ClientError::NotReady { point, missing });
        }
        Ok(Network::load(cut.input.shape, segments)?)
    }
}

/// The operating point, cut.
pub(crate) fn cut(manifest: &Manifest, point: usize) -> Result<Cut<'_>, ClientError> {
    let operating_point = manifest.operating_points.get(point);
    operating_point
        .and_then(|it| manifest.cut(it))
        .ok_or(ClientError::NoSuchPoint {
            got: point,
            points: manifest.operating_points.len(),
        })
}

/// Whether everything runs here.
pub(crate) fn is_local(manifest: &Manifest, point: usize) -> bool {
    manifest
        .operating_points
        .get(point)
        .is_some_and(|it| it.split == Split::Output)
}

fn name(cut: &Cut<'_>) -> Vec<Digest> {
    cut.head.iter().map(|it| it.sha256).collect()
}

#[cfg(test)]
mod tests {
    use split_core::manifest::FileKind;

    use super::*;
    use crate::fixture::{self, INPUT, OUTPUT, POOL1, Series};

    fn ready(series: &Series, point: usize) -> Device {
        let mut device = Device::new(fixture::clock());
        series.give_files(&mut device, point);
        device.prepare(&series.manifest, point, Duration::ZERO).unwrap();
        device
    }

    #[test]
    fn what_is_sent_leads_to_the_answer_of_the_uncut_network() {
        let series = fixture::series();
        let rgba = fixture::frame(1);
        let (_, product) = ready(&series, OUTPUT)
            .run(&series.manifest, OUTPUT, &rgba)
            .map(|it| (it.0, format!("{:?}", it.1)))
            .unwrap();
        let mut device = ready(&series, POOL1);
        let (_, Product::Payload(payload)) = device.run(&series.manifest, POOL1, &rgba).unwrap() else {
            panic!("a payload is expected")
        };
        let answered = series.tail(POOL1, payload);
        assert_eq!(product, format!("{:?}", Product::Classes(top_classes(&answered))));
    }

    #[test]
    fn stages_are_timed_by_the_clock_given() {
        let series = fixture::series();
        let mut device = ready(&series, POOL1);
        let (stages, _) = device.run(&series.manifest, POOL1, &fixture::frame(0)).unwrap();
        let tick = Duration::from_millis(1);
        assert_eq!(
            stages,
            DeviceStages {
                normalize: tick,
                head: tick,
                encode: tick
            }
        );
    }

    #[test]
    fn a_damaged_segment_or_codec_is_refused() {
        let series = fixture::series();
        let mut device = Device::new(fixture::clock());
        let needed = device.missing(&series.manifest, POOL1).unwrap();
        assert_eq!(
            needed.iter().map(|it| it.kind).collect::<Vec<_>>(),
            [FileKind::Segment, FileKind::Codec]
        );
        for file in &needed {
            let mut damaged = series.file(file.sha256);
            damaged[5] ^= 1;
            let error = device.add_file(file.sha256, damaged).unwrap_err();
            assert_eq!(error.code(), "segment-damaged");
        }
        assert_eq!(device.missing(&series.manifest, POOL1).unwrap(), needed);
    }

    #[test]
    fn a_point_waits_for_its_codec() {
        let series = fixture::series();
        let mut device = Device::new(fixture::clock());
        series.give_files(&mut device, OUTPUT);
        let missing = device.missing(&series.manifest, POOL1).unwrap();
        assert_eq!(missing.iter().map(|it| it.kind).collect::<Vec<_>>(), [FileKind::Codec]);
        let unprepared = device.prepare(&series.manifest, POOL1, Duration::ZERO);
        assert_eq!(unprepared.unwrap_err().code(), "not-ready");
        assert!(!device.is_ready(&series.manifest, POOL1));
        series.give_files(&mut device, POOL1);
        device.prepare(&series.manifest, POOL1, Duration::ZERO).unwrap();
        assert!(device.is_ready(&series.manifest, POOL1));
    }

    #[test]
    fn misuse_is_an_error() {
        let series = fixture::series();
        let code =
            |device: &mut Device, point, rgba: &[u8]| device.run(&series.manifest, point, rgba).unwrap_err().code();
        let mut empty = Device::new(fixture::clock());
        assert_eq!(code(&mut empty, POOL1, &fixture::frame(0)), "not-ready");
        assert_eq!(code(&mut empty, 99, &fixture::frame(0)), "no-such-point");
        let unprepared = empty.prepare(&series.manifest, POOL1, Duration::ZERO);
        assert_eq!(unprepared.unwrap_err().code(), "not-ready");
        assert_eq!(code(&mut ready(&series, POOL1), POOL1, &[0; 12]), "frame-size");
        assert!(empty.is_ready(&series.manifest, INPUT));
    }
}
