//! Measures what a frame goes through: head, codec, message, decoder, tail.

use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use rayon::prelude::*;
use split_core::Shape;
use split_core::codec::{FeatureCodec, FeatureCodecSpec};
use split_core::manifest::{Codec, ImageFormat, Input, Split};
use split_core::wire::ClientMessage;
use split_runtime::Network;

use super::picture;
use super::store::Series;
use crate::data::Dataset;
use crate::learn;

/// What was measured of one operating point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Top-1 accuracy in percent.
    pub accuracy: f64,
    /// Mean cross entropy of the true class in nats: tells settings apart that answer the same images right.
    pub loss: f64,
    /// Mean size of an `Infer` message in bytes, header included.
    pub mean_message_bytes: f64,
    /// 95th percentile of it.
    pub p95_message_bytes: f64,
}

/// One image's way through one operating point.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    right: bool,
    loss: f64,
    message_bytes: usize,
}

/// How what crosses is coded, with the codec itself where the manifest names its file.
pub type Coding = Codec<FeatureCodecSpec>;

/// A coding with the operating point's number, which is part of the message.
pub struct Setting<'a> {
    /// Place of the operating point in the manifest.
    pub point: u16,
    /// How what crosses is coded.
    pub coding: &'a Coding,
}

/// Measures several codecs of one variant cut at one split; the head runs once for all of them.
///
/// One image at a time, as the edge worker does for one browser; images go to all of rayon's threads.
pub fn measure(
    series: &Series,
    variant: &str,
    split: &Split,
    settings: &[Setting<'_>],
    data: &Dataset,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Measured>> {
    let (head, features, tail) = series.head_and_tail(variant, split)?;
    let lane = Mutex::new(Lane {
        input: series.cut(variant, split)?.input,
        head,
        tail,
        codecs: settings
            .iter()
            .map(|it| Coder::new(it, features))
            .collect::<anyhow::Result<_>>()?,
        scratch: Scratch::default(),
    });
    let outcomes = (0..data.len())
        .into_par_iter()
        .map_init(
            || copy(&lane),
            |lane, image| {
                progress.inc(1);
                lane.run(data, image)
            },
        )
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok((0..settings.len())
        .map(|codec| summary(outcomes.iter().map(|it| it[codec])))
        .collect())
}

/// Top-1 accuracy in percent of an uncut variant.
pub fn uncut_accuracy(series: &Series, variant: &str, data: &Dataset, progress: &ProgressBar) -> anyhow::Result<f64> {
    let settings = [Setting {
        point: 0,
        coding: &Coding::None,
    }];
    Ok(measure(series, variant, &Split::Output, &settings, data, progress)?[0].accuracy)
}

fn summary(outcomes: impl ExactSizeIterator<Item = Outcome> + Clone) -> Measured {
    let images = outcomes.len().max(1);
    let mut bytes: Vec<usize> = outcomes.clone().map(|it| it.message_bytes).collect();
    bytes.sort_unstable();
    Measured {
        accuracy: 100.0 * outcomes.clone().filter(|it| it.right).count() as f64 / images as f64,
        loss: outcomes.map(|it| it.loss).sum::<f64>() / images as f64,
        mean_message_bytes: bytes.iter().sum::<usize>() as f64 / images as f64,
        p95_message_bytes: bytes
            .get((bytes.len() * 95).div_ceil(100).saturating_sub(1))
            .copied()
            .unwrap_or(0) as f64,
    }
}

/// An operating point's codec, ready to run.
#[derive(Clone)]
enum Coder {
    None,
    Image {
        point: u16,
        format: ImageFormat,
        quality: u8,
    },
    Features {
        point: u16,
        codec: Box<FeatureCodec>,
    },
}

impl Coder {
    fn new(setting: &Setting<'_>, features: Shape) -> anyhow::Result<Self> {
        let point = setting.point;
        Ok(match setting.coding {
            Coding::None => Self::None,
            Coding::Image { format, quality } => Self::Image {
                point,
                format: *format,
                quality: *quality,
            },
            Coding::Features(spec) => Self::Features {
                point,
                codec: Box::new(FeatureCodec::new(features, spec)?),
            },
        })
    }
}

/// What one thread needs.
#[derive(Clone)]
struct Lane<'a> {
    input: &'a Input,
    head: Network,
    tail: Network,
    codecs: Vec<Coder>,
    scratch: Scratch,
}

#[derive(Clone, Default)]
struct Scratch {
    image: Vec<f32>,
    features: Vec<f32>,
    codes: Vec<u8>,
    payload: Vec<u8>,
    decoded: Vec<f32>,
    logits: Vec<f32>,
}

impl Lane<'_> {
    fn run(&mut self, data: &Dataset, image: usize) -> anyhow::Result<Vec<Outcome>> {
        let Self {
            input,
            head,
            tail,
            codecs,
            scratch,
        } = self;
        let pixels = &*data.pixels(image)?;
        normalize(input, pixels, &mut scratch.image)?;
        head.run(1, &scratch.image, &mut scratch.features)?;
        let mut outcomes = Vec::with_capacity(codecs.len());
        for codec in codecs {
            let message_bytes = cross(codec, input, pixels, data.size(), scratch)?;
            tail.run(1, &scratch.decoded, &mut scratch.logits)?;
            let label = data.label(image);
            outcomes.push(Outcome {
                right: learn::largest(&scratch.logits) == label,
                loss: cross_entropy(&scratch.logits, label),
                message_bytes,
            });
        }
        Ok(outcomes)
    }
}

/// Takes what crosses the link to the other side, into `scratch.decoded`. Returns the message's bytes.
fn cross(
    coder: &Coder,
    input: &Input,
    pixels: &[u8],
    size: [usize; 2],
    scratch: &mut Scratch,
) -> anyhow::Result<usize> {
    match coder {
        Coder::None => {
            scratch.decoded.clone_from(&scratch.features);
            Ok(0)
        }
        Coder::Image { point, format, quality } => {
            let picture::Coded { file, length } = picture::encode(pixels, size, *format, *quality)?;
            normalize(input, &picture::decode(&file, size, *format)?, &mut scratch.decoded)?;
            Ok(framing_bytes(*point) + length)
        }
        Coder::Features { point, codec } => {
            codec.encode(&scratch.features, &mut scratch.codes, &mut scratch.payload)?;
            codec.decode(&scratch.payload, &mut scratch.codes, &mut scratch.decoded)?;
            Ok(framing_bytes(*point) + scratch.payload.len())
        }
    }
}

/// Bytes of an `Infer` message beside its payload; they depend on the operating point's place in the manifest.
pub fn framing_bytes(point: u16) -> usize {
    let (id, payload, mut message) = (0, &[][..], Vec::new());
    ClientMessage::Infer { id, point, payload }.encode(&mut message);
    message.len()
}

/// RGB bytes to the network's input, by the same function as in the browser.
pub fn normalize(input: &Input, rgb: &[u8], values: &mut Vec<f32>) -> anyhow::Result<()> {
    let rgba: Vec<u8> = rgb.chunks_exact(3).flat_map(|it| [it[0], it[1], it[2], 255]).collect();
    Ok(input.normalize_rgba(&rgba, values)?)
}

/// Features of all images, one after another.
pub fn features(series: &Series, variant: &str, split: &Split, data: &Dataset) -> anyhow::Result<Vec<f32>> {
    let head = Mutex::new(series.head_and_tail(variant, split)?.0);
    let input = series.cut(variant, split)?.input;
    let rows = (0..data.len())
        .into_par_iter()
        .map_init(
            || (copy(&head), Vec::new()),
            |(head, values), image| {
                let mut features = Vec::new();
                normalize(input, &data.pixels(image)?, values)?;
                head.run(1, values, &mut features)?;
                Ok(features)
            },
        )
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(rows.concat())
}

/// A copy for one thread. Networks can be sent to another thread, not shared with it.
fn copy<T: Clone>(original: &Mutex<T>) -> T {
    original.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// −log of the label's probability, in nats.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|it| f64::from(it - greatest).exp()).sum();
    sum.ln() - f64::from(logits[label] - greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_costs_nothing_and_doubt_its_logarithm() {
        assert!((cross_entropy(&[7.0, 7.0, 7.0, 7.0], 2) - 4_f64.ln()).abs() < 1e-12);
        assert!(cross_entropy(&[100.0, 0.0], 0) < 1e-12);
        assert!((cross_entropy(&[1000.0, 0.0], 1) - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn summaries_are_of_all_images() {
        let outcomes: Vec<Outcome> = (1..=20)
            .map(|it| Outcome {
                right: it % 4 == 0,
                loss: it as f64,
                message_bytes: it,
            })
            .collect();
        let measured = summary(outcomes.iter().copied());
        assert_eq!(
            measured,
            Measured {
                accuracy: 25.0,
                loss: 10.5,
                mean_message_bytes: 10.5,
                p95_message_bytes: 19.0
            }
        );
    }
}
