use super::*;
use crate::codec::Tables;

fn segment(output: [usize; 3], macs: u64) -> Segment {
    Segment {
        sha256: Digest::of(&output.map(|it| it as u8)),
        bytes: 10,
        output: output.try_into().unwrap(),
        macs,
    }
}

fn point(split: &str, codec: Codec, accuracy: f64, bytes: f64) -> OperatingPoint {
    let split = Split::from(split.to_owned());
    OperatingPoint {
        variant: "a".into(),
        split,
        codec,
        accuracy,
        mean_message_bytes: bytes,
        p95_message_bytes: bytes,
    }
}

fn manifest() -> Manifest {
    let features = Codec::Features(FeatureCodecSpec {
        bits: 1,
        steps: vec![1.0; 4],
        tables: Tables {
            predictors: vec![],
            costs: vec![16, 16],
        },
    });
    let image = Codec::Image {
        format: ImageFormat::Webp,
        quality: 50,
    };
    Manifest {
        format: MANIFEST_FORMAT,
        series: "toy".into(),
        classes: vec!["cat".into(), "dog".into()],
        input: Input {
            shape: Shape::new(3, 4, 4).unwrap(),
            mean: [0.5; 3],
            std: [0.25; 3],
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
        split_points: vec![SplitPoint {
            name: "pool1".into(),
            segments: 1,
        }],
        variants: vec![Variant {
            name: "a".into(),
            parent: None,
            widths: vec![4],
            accuracy: 85.0,
            segments: vec![segment([4, 2, 2], 60), segment([2, 1, 1], 40)],
        }],
        operating_points: vec![
            point("input", image, 84.0, 300.0),
            point("pool1", features, 83.0, 5.0),
            point("output", Codec::None, 85.0, 0.0),
        ],
    }
}

fn refused(change: fn(&mut Manifest)) -> String {
    let mut manifest = manifest();
    change(&mut manifest);
    manifest.to_json().unwrap_err().to_string()
}

/// A second variant of the same segments.
fn another(manifest: &mut Manifest) -> &mut Variant {
    let variant = Variant {
        name: "b".into(),
        ..manifest.variants[0].clone()
    };
    manifest.variants.push(variant);
    &mut manifest.variants[1]
}

#[test]
fn a_manifest_comes_back_from_its_file() {
    let mut manifest = manifest();
    another(&mut manifest);
    let json = manifest.to_json().unwrap();
    assert_eq!(Manifest::parse(&json), Ok(manifest));
    assert!((0..json.len() - 1).all(|it| Manifest::parse(&json[..it]).is_err()));
}

#[test]
fn the_format_is_read_before_anything_else() {
    let error = Manifest::parse(br#"{"format": 9, "something": "new"}"#).unwrap_err();
    assert_eq!(error, ManifestError::Format { got: 9 });
}

#[test]
fn cuts_follow_the_split_points() {
    let manifest = manifest();
    let lengths = manifest.operating_points.iter().map(|it| {
        let cut = manifest.cut(it).unwrap();
        (cut.head.len(), cut.features.values(), cut.tail.len())
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [(0, 48, 2), (1, 16, 1), (2, 2, 0)]);
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let check = |change, expected: &str| {
        let error = refused(change);
        assert!(error.contains(expected), "{error}");
    };
    check(
        |it| it.operating_points[1].variant = "b".into(),
        "names variant 'b' and split point 'pool1'",
    );
    check(
        |it| it.operating_points[1].split = Split::At("pool9".into()),
        "split point 'pool9'",
    );
    check(
        |it| it.operating_points[1].codec = Codec::None,
        "the codec none, which does not fit",
    );
    check(|it| it.operating_points[0].accuracy = f64::NAN, "an accuracy of NaN");
    check(
        |it| it.operating_points[1].mean_message_bytes = -1.0,
        "operating point 1 has messages of -1 bytes",
    );
    check(
        |it| it.operating_points[2].p95_message_bytes = f64::INFINITY,
        "operating point 2 has messages of inf bytes",
    );
    check(|it| it.operating_points.clear(), "0 operating points");
    check(|it| it.classes.push("bird".into()), "gives 2 logits for 3 classes");
    check(|it| it.variants[0].parent = Some("root".into()), "its parent 'root'");
    check(|it| it.variants.push(it.variants[0].clone()), "appears twice");
    let otherwise = "variant 'b' describes segment";
    check(
        |it| another(it).segments[0].output = Shape::new(4, 3, 3).unwrap(),
        otherwise,
    );
    check(|it| another(it).segments[1].macs += 1, otherwise);
    check(|it| another(it).segments[0] = segment([5, 2, 2], 60), otherwise);
    check(
        |it| it.split_points[0].segments = 2,
        "cannot be cut at 'pool1', after segment 2",
    );
    check(
        |it| it.split_points[0].name = "input".into(),
        "'input' appears twice, or has a reserved name",
    );
    check(|it| it.input.std[1] = 0.0, "positive standard deviations");
    let narrow = |it: &mut Manifest| it.variants[0].segments[0].output = Shape::new(5, 2, 2).unwrap();
    check(
        narrow,
        "the codec of operating point 1 is damaged: 4 quantiser steps for 5 channels",
    );
}

#[test]
fn frames_are_normalised_channel_by_channel() {
    let input = Input {
        shape: Shape::new(3, 1, 2).unwrap(),
        mean: [0.0, 0.5, 1.0],
        std: [1.0, 0.5, 2.0],
    };
    let mut values = Vec::new();
    input
        .normalize_rgba(&[255, 255, 255, 0, 0, 0, 0, 9], &mut values)
        .unwrap();
    assert_eq!(values, [1.0, 0.0, 1.0, -1.0, 0.0, -0.5]);
    let error = input.normalize_rgba(&[0; 12], &mut values).unwrap_err();
    assert_eq!(error.to_string(), "frame of 12 bytes, expected 8: RGBA of 2×1 pixels");
}

#[test]
fn the_default_point_splits_where_accuracy_allows() {
    let mut manifest = manifest();
    assert_eq!(manifest.default_point(3.0), Some(1));
    assert_eq!(manifest.default_point(1.0), Some(2));
    manifest.operating_points[2].accuracy = 80.0;
    assert_eq!(manifest.default_point(0.5), Some(0));
}
