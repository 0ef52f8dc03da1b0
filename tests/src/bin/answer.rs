//! What a client and an edge worker must answer together, computed here by one program without either.

use std::{
    io::{self, Cursor, Read},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::Parser;
use image::{DynamicImage, ImageReader};
use serde::Serialize;
use split_core::{
    codec::FeatureCodec,
    manifest::{Codec, ImageFormat, Input, OperatingPoint},
    softmax,
};
use split_runtime::Network;
use split_tests::series::Series;

/// Two builds of the same network, for other processors, differ by less than this, relative to the feature.
const ROUNDING: f32 = 1e-5;

/// Takes frames through one operating point: head, codec, tail.
///
/// Standard input holds the frames, each behind its length (four bytes, little-endian): RGBA pixels of the network's size, or the image file
/// at the split point `input`. One line of JSON for each goes to standard output.
#[derive(Parser)]
struct Arguments {
    /// Folder of the series
    #[arg(long)]
    series: PathBuf,
    /// Place of the operating point in the manifest
    #[arg(long)]
    point: usize,
}

/// The answer to one frame.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// By class.
    probabilities: Vec<f32>,
    /// Size of what crosses the link, without the message around it.
    payload_bytes: usize,
    /// False where a feature lies so close to the border between two codes that another build may choose the other one.
    certain: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let series = Series::open(&arguments.series)?;
    let mut way = Way::new(&series, arguments.point)?;
    let mut input = io::stdin().lock();
    while let Some(frame) = next(&mut input)? {
        println!("{}", serde_json::to_string(&way.answer(&frame)?)?);
    }
    Ok(())
}

/// The next frame; none at the end.
fn next(input: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut length = Vec::new();
    input.take(4).read_to_end(&mut length)?;
    if length.is_empty() {
        return Ok(None);
    }
    let length = length.try_into().ok().context("the last frame has no length")?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut frame).context("the last frame is cut off")?;
    Ok(Some(frame))
}

/// What a frame goes through at one operating point.
struct Way<'a> {
    input: &'a Input,
    point: &'a OperatingPoint,
    /// None where no features cross.
    codec: Option<FeatureCodec>,
    head: Network,
    tail: Network,
}

impl<'a> Way<'a> {
    fn new(series: &'a Series, point: usize) -> Result<Self> {
        let points = &series.manifest.operating_points;
        let point = points.get(point).context("no such point")?;
        let cut = series.cut(point)?;
        let spec = series.codec(point)?;
        let codec = spec.map(|it| FeatureCodec::new(cut.features, &it)).transpose()?;
        Ok(Self {
            input: cut.input,
            point,
            codec,
            head: series.network(cut.input.shape, cut.head)?,
            tail: series.network(cut.features, cut.tail)?,
        })
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Answer> {
        let (values, payload_bytes, certain) = match (&self.point.codec, self.codec.clone()) {
            (Codec::Image { format, .. }, _) => (self.head(&pixels(*format, frame)?)?, frame.len(), true),
            (_, Some(codec)) => cross(&codec, &self.head(frame)?)?,
            (_, None) => (self.head(frame)?, 0, true),
        };
        let mut logits = Vec::new();
        self.tail.run(1, &values, &mut logits)?;
        Ok(Answer {
            probabilities: softmax(&logits),
            payload_bytes,
            certain,
        })
    }

    /// At the split point `input` the head is empty and gives the frame itself.
    fn head(&mut self, rgba: &[u8]) -> Result<Vec<f32>> {
        let (mut values, mut features) = (Vec::new(), Vec::new());
        self.input.normalize_rgba(rgba, &mut values)?;
        self.head.run(1, &values, &mut features)?;
        Ok(features)
    }
}

/// What of the features arrives, the payload's size, and whether all codes are the same for features larger or smaller by a rounding error.
fn cross(codec: &FeatureCodec, features: &[f32]) -> Result<(Vec<f32>, usize, bool)> {
    let quantize = |factor: f32| {
        let scaled: Vec<f32> = features.iter().map(|it| it * factor).collect();
        let mut codes = Vec::new();
        codec.quantize(&scaled, &mut codes).map(|()| codes)
    };
    let codes = quantize(1.0)?;
    let certain = quantize(1.0 + ROUNDING)? == codes && quantize(1.0 - ROUNDING)? == codes;
    let (mut payload, mut arrived) = (Vec::new(), Vec::new());
    codec.encode_codes(&codes, &mut payload)?;
    codec.decode(&payload, &mut Vec::new(), &mut arrived)?;
    Ok((arrived, payload.len(), certain))
}

fn pixels(format: ImageFormat, file: &[u8]) -> Result<Vec<u8>> {
    let format = match format {
        ImageFormat::Webp => image::ImageFormat::WebP,
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
    };
    let image = ImageReader::with_format(Cursor::new(file), format).decode()?;
    Ok(DynamicImage::into_rgba8(image).into_raw())
}

#[cfg(test)]
mod tests {
    use split_core::{
        Shape,
        codec::{FeatureCodecSpec, Tables},
    };
    use split_tests::toy::{INPUT, OUTPUT, POOL1, POOL2, Recipe, Toy};

    use super::*;

    #[test]
    fn answers_are_those_of_the_toy() {
        let (toy, folder) = (Toy::new(&Recipe::default()).unwrap(), tempfile::tempdir().unwrap());
        toy.write(folder.path()).unwrap();
        let series = Series::open(folder.path()).unwrap();
        let answer = |point: u16, frame: &[u8]| {
            let mut way = Way::new(&series, point.into()).unwrap();
            way.answer(frame).unwrap()
        };
        let image = toy.payload(INPUT, 1).unwrap();
        let expected = toy.answer(INPUT, &image).unwrap();
        let got = answer(INPUT, &image);
        assert_eq!(got.payload_bytes, image.len());
        for it in &expected {
            assert!((got.probabilities[usize::from(it.class)] - it.probability).abs() < 1e-5);
        }
        // Lossless, so the other points see the same pixels: coarser features change the answer a little.
        let rgba = pixels(ImageFormat::Webp, &image).unwrap();
        for (point, tolerance) in [(POOL1, 0.2), (POOL2, 0.2), (OUTPUT, 1e-5)] {
            let answer = answer(point, &rgba);
            assert_eq!(answer.payload_bytes == 0, point == OUTPUT);
            for (one, other) in answer.probabilities.iter().zip(&got.probabilities) {
                assert!((one - other).abs() < tolerance, "{point}: {one} is not {other}");
            }
        }
    }

    #[test]
    fn frames_come_behind_their_lengths() {
        let mut input: &[u8] = &[2, 0, 0, 0, 7, 8, 0, 0, 0, 0];
        assert_eq!(next(&mut input).unwrap(), Some(vec![7, 8]));
        assert_eq!(next(&mut input).unwrap(), Some(vec![]));
        assert_eq!(next(&mut input).unwrap(), None);
        assert!(next(&mut &[9, 0, 0, 0, 1][..]).is_err());
        assert!(next(&mut &[9, 0][..]).is_err());
    }

    #[test]
    fn a_feature_on_the_border_between_two_codes_is_uncertain() {
        let spec = FeatureCodecSpec {
            bits: 4,
            steps: vec![0.25],
            centres: vec![],
            tables: Tables::uniform(4),
        };
        let certain = |feature| {
            let codec = FeatureCodec::new(Shape::new(1, 1, 2).unwrap(), &spec).unwrap();
            cross(&codec, &[feature, 1.0]).unwrap().2
        };
        assert!(certain(0.5));
        assert!(!certain(0.375));
    }
}
