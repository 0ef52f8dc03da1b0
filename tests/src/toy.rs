//! A series of one network with made-up weights, for whoever needs one on disk and knows what it must answer.

use std::{fs, io::Cursor, path::Path};

use anyhow::{Context, Result, bail};
use image::{DynamicImage, ImageReader};
use split_core::{
    Digest, Manifest, Shape,
    codec::{FeatureCodec, FeatureCodecSpec, Tables},
    manifest::{Codec, CodecFile, ImageFormat, OperatingPoint, Segment, Split, Variant},
    top_classes,
    wire::ClassProbability,
};
use split_graph::{Activation, Convolution, Graph, Linear, Op, Window, sample};
use split_runtime::{Network, SegmentFile, write_onnx, write_segment};

use crate::made_up;

/// The operating point that sends the frame itself, as lossless WebP.
pub const INPUT: u16 = 0;
/// The operating point that splits after the first of three segments.
pub const POOL1: u16 = 1;
/// The operating point that splits after the second of three segments. So on for those that have more.
pub const POOL2: u16 = 2;
/// The operating point of three segments that sends nothing, so that the edge has no tail for it.
pub const OUTPUT: u16 = 3;

/// Side of a frame in pixels.
const SIDE: usize = 32;
/// Bits of a feature on the wire.
const BITS: u8 = 4;

/// What a toy series is like.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Name of the series.
    pub name: &'static str,
    /// Another seed gives other weights, so another manifest.
    pub seed: u64,
    /// Channels between the two pools: the tail's work grows with their square.
    pub width: usize,
}

impl Default for Recipe {
    /// Tails of some microseconds.
    fn default() -> Self {
        Self {
            name: "toy",
            seed: 1,
            width: 8,
        }
    }
}

impl Recipe {
    /// Tails of some milliseconds, so that requests queue.
    pub fn slow() -> Self {
        Self {
            width: 192,
            ..Self::default()
        }
    }
}

/// A series in memory.
pub struct Toy {
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest file.
    pub json: Vec<u8>,
    segments: Vec<Vec<Op>>,
    files: Vec<SegmentFile>,
}

impl Toy {
    /// A network of three segments: two with a pool each, and a classifier.
    pub fn new(recipe: &Recipe) -> Result<Self> {
        let mut noise = Noise(recipe.seed);
        let width = recipe.width;
        let quarter = SIDE / 4;
        let segments = vec![
            noise.block(3, &[4]),
            noise.block(4, &[width, width, 4]),
            noise.classifier(4 * quarter * quarter),
        ];
        Self::of(recipe.name, segments)
    }

    /// VGG-16 for 32×32 images with the widths that Shi et al. have after step 1, 56 million MACs, and after step 2 at one of the pools: its
    /// last layer gives so many channels. Six segments, the last of which is the classifier. The weights are made up, which changes
    /// the answers but not the work.
    pub fn vgg16(pool: usize, channels: usize) -> Result<Self> {
        let mut blocks = [
            vec![45, 35],
            vec![73, 69],
            vec![88, 96, 98],
            vec![141, 140, 157],
            vec![103, 89, 186],
        ];
        if let Some(last) = pool.checked_sub(1).and_then(|it| blocks.get_mut(it)?.last_mut()) {
            *last = channels;
        }
        let mut noise = Noise(1);
        let mut inputs = 3;
        let mut segments = Vec::new();
        for widths in blocks {
            segments.push(noise.block(inputs, &widths));
            inputs = widths.last().copied().unwrap_or(inputs);
        }
        segments.push(noise.classifier(inputs));
        Self::of("vgg16", segments)
    }

    fn of(name: &str, segments: Vec<Vec<Op>>) -> Result<Self> {
        let mut shape = Shape::new(3, SIDE, SIDE)?;
        let mut files = Vec::new();
        for ops in &segments {
            let file = write_segment(&network(shape, ops)?)?;
            shape = file.output;
            files.push(file);
        }
        let manifest = manifest(name, &files)?;
        Ok(Self {
            json: manifest.to_json()?,
            manifest,
            segments,
            files,
        })
    }

    /// Identity of the series.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.json)
    }

    /// Writes the series into a folder, over what is there.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("segments"))?;
        fs::create_dir_all(folder.join("codecs"))?;
        for (segment, file) in self.manifest.variants[0].segments.iter().zip(&self.files) {
            fs::write(folder.join(segment.path()), &file.bytes)?;
        }
        for point in &self.manifest.operating_points {
            if let Codec::Features(codec) = &point.codec {
                let features = self
                    .manifest
                    .cut(point)
                    .context("the point is not of this series")?
                    .features;
                fs::write(
                    folder.join(codec.file().path()),
                    CodecFile::of(&spec(features.channels())).1,
                )?;
            }
        }
        Ok(fs::write(folder.join("manifest.json"), &self.json)?)
    }

    /// A payload for an operating point; another seed gives another.
    pub fn payload(&self, point: u16, seed: u64) -> Result<Vec<u8>> {
        let mut noise = Noise(seed);
        let mut payload = Vec::new();
        match self.point(point)? {
            (_, Codec::None) => bail!("operating point {point} sends nothing"),
            (_, Codec::Image { .. }) => {
                let rgb = (0..3 * SIDE * SIDE).map(|_| noise.byte()).collect();
                let image =
                    image::RgbImage::from_raw(SIDE as u32, SIDE as u32, rgb).context("a frame of another size")?;
                image.write_to(&mut Cursor::new(&mut payload), image::ImageFormat::WebP)?;
            }
            (shape, Codec::Features(_)) => {
                let features = self.features(point, seed)?;
                FeatureCodec::new(shape, &spec(shape.channels()))?.encode(&features, &mut Vec::new(), &mut payload)?;
            }
        }
        Ok(payload)
    }

    /// What the edge must answer to a payload.
    pub fn answer(&self, point: u16, payload: &[u8]) -> Result<Vec<ClassProbability>> {
        let mut values = Vec::new();
        let (shape, codec) = self.point(point)?;
        match codec {
            Codec::None => bail!("operating point {point} sends nothing"),
            Codec::Image { .. } => {
                let image = ImageReader::with_format(Cursor::new(payload), image::ImageFormat::WebP).decode()?;
                let rgba = DynamicImage::into_rgba8(image);
                self.manifest.input.normalize_rgba(rgba.as_raw(), &mut values)?;
            }
            Codec::Features(_) => {
                FeatureCodec::new(shape, &spec(shape.channels()))?.decode(payload, &mut Vec::new(), &mut values)?;
            }
        }
        let mut logits = Vec::new();
        self.tail(point)?.run(1, &values, &mut logits)?;
        Ok(top_classes(&logits))
    }

    /// The tail of an operating point, as one network.
    pub fn tail(&self, point: u16) -> Result<Network> {
        let (shape, _) = self.point(point)?;
        let tail = &self.files[usize::from(point)..];
        Ok(Network::load(shape, tail.iter().map(|it| it.bytes.as_slice()))?)
    }

    /// The tail of an operating point as an ONNX file, for other engines.
    pub fn tail_onnx(&self, point: u16) -> Result<Vec<u8>> {
        let (shape, _) = self.point(point)?;
        Ok(write_onnx(&network(shape, &self.segments[usize::from(point)..].concat())?).bytes)
    }

    /// Features as they cross the link at an operating point, before the codec.
    pub fn features(&self, point: u16, seed: u64) -> Result<Vec<f32>> {
        let (shape, _) = self.point(point)?;
        let mut noise = Noise(seed);
        Ok((0..shape.values()).map(|_| 4.0 * noise.value()).collect())
    }

    /// The codec of an operating point whose features cross the link.
    pub fn codec(&self, point: u16) -> Result<CodecFile> {
        match self.point(point)?.1 {
            Codec::Features(it) => Ok(*it),
            other => bail!("operating point {point} has the codec {other}"),
        }
    }

    /// Shape and codec of what crosses the link at an operating point.
    fn point(&self, point: u16) -> Result<(Shape, &Codec)> {
        let point = &self.manifest.operating_points[usize::from(point)];
        let cut = self.manifest.cut(point).context("the point is not of this series")?;
        Ok((cut.features, &point.codec))
    }
}

/// The codec of so many channels.
fn spec(channels: usize) -> FeatureCodecSpec {
    FeatureCodecSpec {
        bits: BITS,
        steps: vec![0.25; channels],
        centres: vec![],
        tables: Tables::uniform(BITS),
    }
}

fn manifest(name: &str, files: &[SegmentFile]) -> Result<Manifest> {
    let image = Codec::Image {
        format: ImageFormat::Webp,
        quality: 100,
    };
    let point = |split, codec| OperatingPoint {
        variant: "a".into(),
        split,
        codec,
        accuracy: 80.0,
        mean_message_bytes: 100.0,
        p95_message_bytes: 120.0,
    };
    let cuts: Vec<(usize, String)> = (1..files.len()).map(|it| (it, format!("pool{it}"))).collect();
    let splits = cuts.iter().map(|(segments, name)| {
        let channels = files[segments - 1].output.channels();
        point(
            Split::At(name.clone()),
            Codec::Features(CodecFile::of(&spec(channels)).0),
        )
    });
    let (first, last) = (point(Split::Input, image), point(Split::Output, Codec::None));
    let classes = ["bird", "cat", "dog", "frog", "ship"];
    Ok(Manifest {
        split_points: cuts.iter().map(|it| it.1.clone()).collect(),
        variants: vec![Variant {
            name: "a".into(),
            parent: None,
            input: None,
            widths: files.iter().map(|it| it.output.channels()).collect(),
            accuracy: 80.0,
            segments: files.iter().map(Segment::from).collect(),
            cuts: cuts.iter().map(|it| Some(it.0)).collect(),
        }],
        operating_points: [first].into_iter().chain(splits).chain([last]).collect(),
        ..made_up::manifest(name, classes.map(String::from), SIDE)?
    })
}

/// Reproducible values: Knuth's linear congruential generator for 64 bits.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 40
    }

    /// In [0, 1).
    fn value(&mut self) -> f32 {
        self.next() as f32 / (1 << 24) as f32
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 16) as u8
    }

    /// Weights under which values keep their size from layer to layer.
    fn weights(&mut self, outputs: usize, inputs: usize) -> Vec<f32> {
        let scale = 2.0 * (6.0 / inputs as f32).sqrt();
        (0..outputs * inputs).map(|_| (self.value() - 0.5) * scale).collect()
    }

    fn classifier(&mut self, inputs: usize) -> Vec<Op> {
        let linear = Linear {
            inputs,
            outputs: 5,
            weight: self.weights(5, inputs),
            bias: Some(vec![0.0; 5]),
        };
        vec![Op::Flatten, Op::Linear(linear)]
    }

    /// 3×3 convolutions with so many outputs, each with a ReLU, and a pool that halves both sides.
    fn block(&mut self, mut inputs: usize, widths: &[usize]) -> Vec<Op> {
        let mut ops = Vec::new();
        for &outputs in widths {
            ops.push(Op::Convolution(Convolution {
                inputs,
                outputs,
                groups: 1,
                window: Window::square(3, 1, 1),
                weight: self.weights(outputs, inputs * 9),
                bias: Some(vec![0.1; outputs]),
            }));
            ops.push(Op::Activation(Activation::Relu));
            inputs = outputs;
        }
        ops.push(Op::MaxPool(Window::square(2, 2, 0)));
        ops
    }
}

fn network(input: Shape, ops: &[Op]) -> Result<Graph> {
    Ok(sample::chain(input, ops.iter().cloned())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_depend_on_the_payload_and_every_point_has_one() {
        let toy = Toy::new(&Recipe::default()).unwrap();
        for point in [INPUT, POOL1, POOL2] {
            let [one, other] = [1, 2].map(|seed| {
                let payload = toy.payload(point, seed).unwrap();
                toy.answer(point, &payload).unwrap()
            });
            assert_eq!(one.len(), 5);
            assert_ne!(one, other, "point {point}");
        }
        assert!(toy.payload(OUTPUT, 1).is_err());
    }
}
