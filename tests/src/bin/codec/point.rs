//! One operating point: the codec, its peers, and what they made of the pictures.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use split_core::{
    Shape,
    codec::{FeatureCodec, FeatureCodecSpec, Histograms},
    manifest::OperatingPoint,
};

use crate::peers::{Layout, Png, Zstd};

pub struct Point {
    variant: String,
    split: String,
    bits: u8,
    codec: FeatureCodec,
    /// Channels that have codes at all. The peers are spared the others, too.
    live: Vec<usize>,
    png: Png,
    /// One for each layout.
    zstd: Vec<Zstd>,
    histograms: Histograms,
    /// Counts of codes for each channel, whatever stands beside them.
    plain: Vec<u32>,
    images: usize,
    bytes: usize,
    png_bytes: usize,
    not_exact: usize,
    encode: Duration,
    decode: Duration,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    codes: Vec<u8>,
    payload: Vec<u8>,
    decoded: Vec<u8>,
    features: Vec<f32>,
    live: Vec<u8>,
}

/// Means over the test pictures.
#[derive(Serialize)]
pub struct Row {
    pub variant: String,
    pub split: String,
    pub bits: u8,
    /// Those of the features that have codes.
    pub channels: usize,
    pub images: usize,
    pub ours_bytes: f64,
    pub png_bytes: f64,
    pub zstd_bytes: f64,
    pub zstd_layout: Layout,
    /// 0: there was too little to train a dictionary from.
    pub zstd_dictionary_bytes: usize,
    /// Empirical conditional entropy under the codec's contexts.
    pub entropy_bytes: f64,
    /// Empirical entropy of each channel without contexts.
    pub plain_entropy_bytes: f64,
    /// Codes without entropy coding.
    pub packed_bytes: usize,
    pub not_exact: usize,
    pub encode_us: f64,
    pub decode_us: f64,
    pub head_us: f64,
}

impl Row {
    pub fn of_png(&self) -> f64 {
        self.ours_bytes / self.png_bytes
    }

    pub fn of_zstd(&self) -> f64 {
        self.ours_bytes / self.zstd_bytes
    }

    pub fn of_entropy(&self) -> f64 {
        self.ours_bytes / self.entropy_bytes
    }

    pub fn percent_of_head(&self) -> f64 {
        100.0 * (self.encode_us + self.decode_us) / self.head_us
    }
}

impl Point {
    pub fn new(point: &OperatingPoint, spec: &FeatureCodecSpec, shape: Shape) -> Result<Self> {
        let live: Vec<usize> = (0..shape.channels()).filter(|&it| spec.steps[it] > 0.0).collect();
        Ok(Self {
            variant: point.variant.clone(),
            split: point.split.to_string(),
            bits: spec.bits,
            codec: FeatureCodec::new(shape, spec)?,
            png: Png::new(live.len(), [shape.height(), shape.width()], spec.bits),
            zstd: Layout::of(spec.bits).into_iter().map(Zstd::new).collect(),
            histograms: Histograms::new(shape, spec.bits, &spec.tables)?,
            plain: vec![0; shape.channels() << spec.bits],
            live,
            images: 0,
            bytes: 0,
            png_bytes: 0,
            not_exact: 0,
            encode: Duration::ZERO,
            decode: Duration::ZERO,
            scratch: Scratch::default(),
        })
    }

    /// Takes the features of a training picture.
    pub fn learn(&mut self, features: &[f32]) -> Result<()> {
        self.codec.quantize(features, &mut self.scratch.codes)?;
        self.gather_live();
        let codes = &self.scratch.live;
        self.zstd.iter_mut().for_each(|it| it.learn(codes));
        Ok(())
    }

    pub fn finish_learning(&mut self) -> Result<()> {
        self.zstd.iter_mut().try_for_each(Zstd::finish_learning)
    }

    /// Takes the features of a test picture.
    pub fn measure(&mut self, features: &[f32]) -> Result<()> {
        let scratch = &mut self.scratch;
        let started = Instant::now();
        self.codec.encode(features, &mut scratch.codes, &mut scratch.payload)?;
        let encoded = Instant::now();
        self.codec
            .decode(&scratch.payload, &mut scratch.decoded, &mut scratch.features)?;
        self.decode += encoded.elapsed();
        self.encode += encoded - started;
        self.images += 1;
        self.bytes += scratch.payload.len();
        self.not_exact += usize::from(scratch.codes != scratch.decoded);
        self.histograms.add(&scratch.codes);
        let positions = self.codec.shape().positions();
        for (index, &code) in scratch.codes.iter().enumerate() {
            self.plain[((index / positions) << self.bits) + usize::from(code)] += 1;
        }
        self.gather_live();
        self.png_bytes += self.png.bytes(&self.scratch.live)?;
        let codes = &self.scratch.live;
        self.zstd.iter_mut().try_for_each(|it| it.measure(codes))
    }

    pub fn row(self, head: Duration) -> Row {
        let images = self.images as f64;
        let micros = |it: Duration| 1e6 * it.as_secs_f64() / images;
        let (zstd_layout, zstd_dictionary_bytes, zstd_bytes) = self
            .zstd
            .iter()
            .map(Zstd::best)
            .min_by_key(|it| it.2)
            .unwrap_or_default();
        let codes = self.live.len() * self.codec.shape().positions();
        Row {
            bits: self.bits,
            channels: self.live.len(),
            images: self.images,
            ours_bytes: self.bytes as f64 / images,
            png_bytes: self.png_bytes as f64 / images,
            zstd_bytes: zstd_bytes as f64 / images,
            zstd_layout,
            zstd_dictionary_bytes,
            entropy_bytes: self.histograms.entropy_bits() / 8.0 / images,
            plain_entropy_bytes: self.plain.chunks_exact(1 << self.bits).map(entropy_bits).sum::<f64>() / 8.0 / images,
            packed_bytes: (codes * usize::from(self.bits)).div_ceil(8),
            not_exact: self.not_exact,
            encode_us: micros(self.encode),
            decode_us: micros(self.decode),
            head_us: micros(head),
            variant: self.variant,
            split: self.split,
        }
    }

    fn gather_live(&mut self) {
        let positions = self.codec.shape().positions();
        self.scratch.live.clear();
        for channel in &self.live {
            self.scratch
                .live
                .extend(&self.scratch.codes[channel * positions..][..positions]);
        }
    }
}

fn entropy_bits(counts: &[u32]) -> f64 {
    let sum: f64 = counts.iter().map(|&it| f64::from(it)).sum();
    let seen = counts.iter().filter(|&&it| it > 0).map(|&it| f64::from(it));
    seen.map(|it| it * (sum / it).log2()).sum()
}
