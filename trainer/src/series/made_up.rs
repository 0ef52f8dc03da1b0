//! A series that was never trained: its numbers are made up, so that each can be found again.

use split_core::Shape;
use split_core::manifest::{
    Codec, CodecFile, Digest, ImageFormat, Input, MANIFEST_FORMAT, Manifest, MeasuredOn, OperatingPoint, Preparation,
    Segment, Source, Split, Unpruned, Variant,
};

/// AlexNet for 16×16 pictures, cut after its first pool only.
pub fn manifest() -> Manifest {
    let segment = |variant: &str, shape: [usize; 3], macs| Segment {
        sha256: Digest::of(format!("{variant} {shape:?}").as_bytes()),
        bytes: 1,
        output: Shape::try_from(shape).unwrap(),
        macs,
        micros: None,
    };
    let variant = |name: &str, parent: Option<&str>, channels, accuracy| Variant {
        name: name.into(),
        parent: parent.map(Into::into),
        input: None,
        widths: vec![channels, 20, 20, 20, 20],
        accuracy,
        segments: vec![
            segment(name, [channels, 8, 8], 1_000_000),
            segment(name, [3, 1, 1], 2_000_000),
        ],
        cuts: vec![Some(1)],
    };
    let features = |channels: usize| {
        Codec::Features(CodecFile {
            bits: 2,
            sha256: Digest::of(format!("{channels} channels").as_bytes()),
            bytes: 1,
        })
    };
    let frame = |quality| Codec::Image {
        format: ImageFormat::Webp,
        quality,
    };
    let point = |variant: &str, split: &str, codec, accuracy, bytes| OperatingPoint {
        variant: variant.into(),
        split: Split::from(split.to_owned()),
        codec,
        accuracy,
        mean_message_bytes: bytes,
        p95_message_bytes: bytes + 1.0,
    };
    Manifest {
        format: MANIFEST_FORMAT,
        series: "made-up".into(),
        source: Source {
            network: "alexnet".into(),
            ..Source::default()
        },
        classes: ["cat", "dog", "owl"].map(String::from).into(),
        input: Input {
            shape: Shape::new(3, 16, 16).unwrap(),
            preparation: Preparation::default(),
            mean: [0.5; 3],
            std: [0.25; 3],
        },
        unpruned: Unpruned {
            accuracy: 90.0,
            macs: 12_000_000,
            widths: vec![64, 192, 384, 256, 256],
        },
        measured_on: MeasuredOn {
            name: "toys".into(),
            images: 7,
        },
        timed_on: None,
        split_points: vec!["pool1".into()],
        variants: vec![
            variant("wide", None, 24, 89.25),
            variant("narrow", Some("wide"), 4, 88.75),
            variant("narrower", Some("wide"), 2, 80.5),
        ],
        operating_points: vec![
            point("wide", "input", frame(10), 70.0, 164.0),
            point("wide", "input", frame(50), 69.0, 274.0),
            point("wide", "input", frame(75), 85.0, 338.0),
            point("wide", "pool1", features(24), 89.0, 321.5),
            point("narrow", "pool1", features(4), 88.5, 43.25),
            point("narrower", "pool1", features(2), 80.25, 21.75),
        ],
    }
}
