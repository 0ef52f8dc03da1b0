//! A series of one tiny network, for tests.

use std::{cell::Cell, time::Duration};

use split_core::{
    Digest, Manifest, Shape,
    codec::{FeatureCodecSpec, Tables},
    manifest::{
        Codec, CodecFile, ImageFormat, Input, MANIFEST_FORMAT, MeasuredOn, OperatingPoint, Preparation, Segment,
        Source, Split, Unpruned, Variant,
    },
};
use split_graph::{Activation, Convolution, Linear, Op, Window, sample};
use split_runtime::{Network, SegmentFile, write_segment};

use crate::{device::Device, timing::Clock};

/// Place of the point that sends the frame.
pub const INPUT: usize = 0;
/// Place of the point that splits after the first segment.
pub const POOL1: usize = 1;
/// Place of the point that sends nothing.
pub const OUTPUT: usize = 2;

pub struct Series {
    pub manifest: Manifest,
    /// Segments and the codec.
    files: Vec<Vec<u8>>,
}

/// Features that the codec keeps exactly: a head whose features are multiples of the quantiser's step.
pub fn series() -> Series {
    let input = Shape::new(3, 4, 4).unwrap();
    let convolution = Convolution {
        inputs: 3,
        outputs: 2,
        groups: 1,
        window: Window::point(),
        weight: vec![1.0, 0.0, 0.0, 0.0, 1.0, 1.0],
        bias: None,
    };
    let head = [
        Op::Convolution(convolution),
        Op::Activation(Activation::Relu),
        Op::MaxPool(Window::square(2, 2, 0)),
    ];
    let pool = write_segment(&sample::chain(input, head).unwrap()).unwrap();
    let linear = Linear {
        inputs: 8,
        outputs: 3,
        weight: (0..24).map(|it| ((it * 7 % 11) as f32 - 5.0) / 8.0).collect(),
        bias: Some(vec![0.5, 0.0, -0.5]),
    };
    let tail = sample::chain(pool.output, [Op::Flatten, Op::Linear(linear)]).unwrap();
    let classifier = write_segment(&tail).unwrap();
    let segments = [pool, classifier];
    let (codec, json) = CodecFile::of(&FeatureCodecSpec {
        bits: 4,
        steps: vec![1.0; 2],
        centres: vec![],
        tables: Tables {
            predictors: vec![],
            costs: vec![64; 16],
        },
    });
    Series {
        manifest: manifest(input, &segments, codec),
        files: segments.into_iter().map(|it| it.bytes).chain([json]).collect(),
    }
}

fn manifest(shape: Shape, files: &[SegmentFile], features: CodecFile) -> Manifest {
    let image = Codec::Image {
        format: ImageFormat::Webp,
        quality: 50,
    };
    let point = |split, codec, accuracy| OperatingPoint {
        variant: "a".into(),
        split,
        codec,
        accuracy,
        mean_message_bytes: 10.0,
        p95_message_bytes: 12.0,
    };
    Manifest {
        format: MANIFEST_FORMAT,
        series: "toy".into(),
        source: Source {
            network: "toynet".into(),
            ..Source::default()
        },
        classes: ["cat", "dog", "frog"].map(String::from).into(),
        input: Input {
            shape,
            preparation: Preparation::default(),
            mean: [0.0; 3],
            std: [1.0 / 255.0; 3],
        },
        unpruned: Unpruned {
            accuracy: 90.0,
            macs: 1000,
            widths: vec![8],
        },
        measured_on: MeasuredOn {
            name: "made up".into(),
            images: 10,
        },
        timed_on: None,
        split_points: vec!["pool1".into()],
        variants: vec![Variant {
            name: "a".into(),
            parent: None,
            input: None,
            widths: vec![2],
            accuracy: 85.0,
            segments: files.iter().map(Segment::from).collect(),
            cuts: vec![Some(1)],
        }],
        operating_points: vec![
            point(Split::Input, image, 84.0),
            point(Split::At("pool1".into()), Codec::Features(features), 84.5),
            point(Split::Output, Codec::None, 85.0),
        ],
    }
}

/// Opaque RGBA pixels with colours from 0 to 7, so that every feature is a small whole number.
pub fn frame(seed: usize) -> Vec<u8> {
    let byte = |it: usize| if it % 4 == 3 { 255 } else { ((it * 5 + seed) % 8) as u8 };
    (0..64).map(byte).collect()
}

/// A clock that is one millisecond later at every look.
pub fn clock() -> Clock {
    Clock::new(now)
}

/// What that clock tells.
pub fn now() -> Duration {
    thread_local! { static NOW: Cell<u64> = const { Cell::new(0) }; }
    Duration::from_millis(NOW.with(|it| it.replace(it.get() + 1)))
}

/// One that ticks once a millisecond, at every tenth look.
pub fn coarse_clock() -> Clock {
    Clock::new(|| Duration::from_millis(now().as_millis() as u64 / 10))
}

impl Series {
    pub fn file(&self, digest: Digest) -> Vec<u8> {
        let file = self.files.iter().find(|it| Digest::of(it) == digest);
        file.unwrap().clone()
    }

    pub fn give_files(&self, device: &mut Device, point: usize) {
        for file in device.missing(&self.manifest, point).unwrap() {
            device.add_file(file.sha256, self.file(file.sha256)).unwrap();
        }
    }

    /// Logits of the edge's part.
    pub fn tail(&self, point: usize, payload: &[u8]) -> Vec<f32> {
        let cut = self.manifest.cut(&self.manifest.operating_points[point]).unwrap();
        let Codec::Features(codec) = &self.manifest.operating_points[point].codec else {
            panic!("a point with features is expected")
        };
        let (mut codes, mut features, mut logits) = (vec![], vec![], vec![]);
        let codec = codec.open(cut.features, &self.file(codec.sha256)).unwrap();
        codec.decode(payload, &mut codes, &mut features).unwrap();
        let files: Vec<_> = cut.tail.iter().map(|it| self.file(it.sha256)).collect();
        let mut tail = Network::load(cut.features, files.iter().map(Vec::as_slice)).unwrap();
        tail.run(1, &features, &mut logits).unwrap();
        logits
    }
}
