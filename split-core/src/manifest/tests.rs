use super::*;
use crate::codec::{FeatureCodecSpec, Tables};

fn segment(output: [usize; 3], macs: u64) -> Segment {
    Segment {
        sha256: Digest::of(&output.map(|it| it as u8)),
        bytes: 10,
        output: output.try_into().unwrap(),
        macs,
        micros: None,
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

fn spec() -> FeatureCodecSpec {
    FeatureCodecSpec {
        bits: 1,
        steps: vec![1.0; 4],
        centres: vec![],
        tables: Tables {
            predictors: vec![],
            costs: vec![16, 16],
        },
    }
}

fn manifest() -> Manifest {
    let features = Codec::Features(CodecFile::of(&spec()).0);
    let image = Codec::Image {
        format: ImageFormat::Webp,
        quality: 50,
    };
    Manifest {
        format: MANIFEST_FORMAT,
        series: "toy".into(),
        source: Source {
            network: "toynet".into(),
            ..Source::default()
        },
        classes: vec!["cat".into(), "dog".into()],
        input: Input {
            shape: Shape::new(3, 4, 4).unwrap(),
            preparation: Preparation::default(),
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
        timed_on: None,
        split_points: vec!["pool1".into()],
        variants: vec![Variant {
            name: "a".into(),
            parent: None,
            input: None,
            widths: vec![4],
            accuracy: 85.0,
            segments: vec![segment([4, 2, 2], 60), segment([2, 1, 1], 40)],
            cuts: vec![Some(1)],
        }],
        operating_points: vec![
            point("input", image, 84.0, 300.0),
            point("pool1", features, 83.0, 5.0),
            point("output", Codec::None, 85.0, 0.0),
        ],
    }
}

/// Changes what the manifest says of the codec at pool1.
fn codec(manifest: &mut Manifest, change: fn(&mut CodecFile)) {
    if let Codec::Features(file) = &mut manifest.operating_points[1].codec {
        change(file);
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

/// What a series looks like on disk.
const GOLDEN: &str = r#"{
"format": 3,
"series": "toy",
"source": {"network":"toynet","origin":"made up","notice":"© nobody"},
"classes": [
"cat",
"dog"
],
"input": {"shape":[3,4,4],"preparation":{"fit":"cover","background":[0,0,0]},"mean":[0.5,0.5,0.5],"std":[0.25,0.25,0.25]},
"unpruned": {"accuracy":90.0,"macs":1000,"widths":[8]},
"measured_on": {"name":"made up","images":10},
"timed_on": "a phone, one thread",
"split_points": [
"pool1"
],
"segments": [
["458747ccaf62b123f924640415dbda23ade0a0948e684ba444997ff260acfdd8",10,[4,2,2],60,12.5],
["da4d3da1daaceba9b72635459fd6a17da13e7530d53a4932535e6dc1d49bde3d",10,[2,1,1],40,3.0],
["3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",10,[2,1,1],7,1.0]
],
"variants": [
{"name":"a","widths":[4],"accuracy":85.0,"segments":[0,1],"cuts":[1]},
{"name":"b","parent":"a","input":{"shape":[3,2,2],"preparation":{"fit":"letterbox","background":[114,114,114]},"mean":[0.0,0.0,0.0],"std":[1.0,1.0,1.0]},"widths":[4],"accuracy":85.0,"segments":[2],"cuts":[null]}
],
"operating_points": [
{"variant":"a","split":"input","codec":{"image":{"format":"webp","quality":50}},"accuracy":84.0,"mean_bytes":300.0,"p95_bytes":300.0},
{"variant":"a","split":"pool1","codec":{"features":{"bits":1,"sha256":"387222223bbe482a33167d1f2442ce77eaeb6ba5e861cb9681404a810b73f3ae","bytes":78}},"accuracy":83.0,"mean_bytes":5.0,"p95_bytes":5.0},
{"variant":"a","split":"output","codec":"none","accuracy":85.0,"mean_bytes":0.0,"p95_bytes":0.0}
]
}
"#;

#[test]
fn golden_manifest() {
    let mut manifest = manifest();
    manifest.source.origin = "made up".into();
    manifest.source.notice = "© nobody".into();
    manifest.timed_on = Some("a phone, one thread".into());
    for (segment, micros) in manifest.variants[0].segments.iter_mut().zip([12.5, 3.0]) {
        segment.micros = Some(micros);
    }
    let variant = another(&mut manifest);
    variant.parent = Some("a".into());
    variant.cuts = vec![None];
    variant.input = Some(Input {
        shape: Shape::new(3, 2, 2).unwrap(),
        preparation: Preparation {
            fit: Fit::Letterbox,
            background: [114; 3],
        },
        mean: [0.0; 3],
        std: [1.0; 3],
    });
    variant.segments = vec![Segment {
        micros: Some(1.0),
        ..segment([2, 1, 1], 7)
    }];
    variant.segments[0].sha256 = Digest::of(b"b");
    let json = String::from_utf8(manifest.to_json().unwrap()).unwrap();
    assert_eq!(json, GOLDEN);
    assert_eq!(Manifest::parse(GOLDEN.as_bytes()), Ok(manifest));
}

#[test]
fn work_is_time_where_the_series_has_times() {
    let plain = segment([2, 1, 1], 40);
    let work = |micros| {
        Segment {
            micros,
            ..plain.clone()
        }
        .work()
    };
    assert_eq!(work(None), 40);
    assert_eq!(work(Some(1.5)), 30_000);
    assert_eq!((work(Some(0.0)), work(Some(f64::MAX))), (1, MAX_SEGMENT_WORK));
}

#[test]
fn a_segment_that_is_not_listed_is_named() {
    let json = String::from_utf8(manifest().to_json().unwrap()).unwrap();
    let error = Manifest::parse(json.replace("[0,1]", "[0,2]").as_bytes()).unwrap_err();
    assert!(
        error.to_string().contains("variant 'a' names segment 2 of 2"),
        "{error}"
    );
}

#[test]
fn a_codec_comes_back_from_its_file_and_fits_its_features_only() {
    let (file, json) = CodecFile::of(&spec());
    assert_eq!((file.sha256, file.bytes), (Digest::of(&json), json.len() as u64));
    let golden = r#"{"bits":1,"steps":[1.0,1.0,1.0,1.0],"tables":{"predictors":"","costs":"EBA="}}"#;
    assert_eq!(String::from_utf8_lossy(&json), golden);
    assert_eq!(FeatureCodecSpec::from_json(&json), Ok(spec()));
    let [fitting, wider] = [4, 5].map(|it| Shape::new(it, 2, 2).unwrap());
    assert!(file.open(fitting, &json).is_ok());
    let check = |file: CodecFile, shape, json: &[u8], expected: &str| {
        let error = file.open(shape, json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(file, wider, &json, "4 quantiser steps for 5 channels");
    check(
        CodecFile { bits: 2, ..file },
        fitting,
        &json,
        "codes of 1 bits, the manifest says 2",
    );
    check(file, fitting, &json[..20], "cannot be read");
    check(file, fitting, b"{}", "cannot be read");
}

#[test]
fn a_device_needs_the_head_and_the_codec() {
    let manifest = manifest();
    let paths = |point: usize| {
        let files = manifest.device_files(&manifest.operating_points[point]);
        files.map(|it| it.path()).collect::<Vec<_>>()
    };
    let [first, second] = [0, 1].map(|it: usize| manifest.variants[0].segments[it].path());
    let codec = CodecFile::of(&spec()).0.sha256;
    assert_eq!(paths(0), Vec::<String>::new());
    assert_eq!(paths(1), [first.clone(), format!("codecs/{codec}.json")]);
    assert_eq!(paths(2), [first, second]);
}

#[test]
fn the_format_is_read_before_anything_else() {
    let error = Manifest::parse(br#"{"format": 2, "something": "else"}"#).unwrap_err();
    assert_eq!(error, ManifestError::Format { got: 2 });
    assert!(error.to_string().contains("`trainer export`"), "{error}");
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
        "cuts variant 'b' at 'pool1'",
    );
    check(
        |it| it.operating_points[1].split = Split::At("pool9".into()),
        "cuts variant 'a' at 'pool9'",
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
        |it| it.variants[0].cuts[0] = Some(2),
        "cannot be cut at 'pool1', after segment 2",
    );
    check(|it| it.variants[0].cuts[0] = Some(0), "cannot be cut at 'pool1'");
    check(|it| it.variants[0].cuts[0] = None, "does not cut it there");
    check(|it| it.variants[0].cuts.clear(), "has 0 cuts for 1 split points");
    check(
        |it| {
            it.split_points.push("pool2".into());
            it.variants[0].cuts.push(Some(1));
        },
        "cannot be cut at 'pool2', after segment 1",
    );
    check(
        |it| it.split_points[0] = "input".into(),
        "'input' appears twice, or has a reserved name",
    );
    check(|it| it.input.std[1] = 0.0, "positive standard deviations");
    check(
        |it| {
            let mut input = it.input.clone();
            input.mean[0] = f32::INFINITY;
            it.variants[0].input = Some(input);
        },
        "the input of variant 'a' must have finite means",
    );
    check(
        |it| codec(it, |it| it.bits = 9),
        "operating point 1 has codes of 9 bits",
    );
    check(
        |it| codec(it, |it| it.bytes = MAX_CODEC_BYTES + 1),
        "operating point 1 has a codec of 1048577 bytes",
    );
    check(|it| it.variants[0].accuracy = -1.0, "an accuracy of -1 %");
    check(|it| it.unpruned.accuracy = 101.0, "an accuracy of 101 %");
    check(|it| it.variants[0].segments[1].macs = u64::MAX, "which is too large");
    check(|it| it.variants[0].segments[1].micros = Some(1.0), "states no machine");
    check(|it| it.timed_on = Some("a phone".into()), "or the reverse");
    check(
        |it| {
            it.timed_on = Some("a phone".into());
            it.variants[0].segments[0].micros = Some(f64::NAN);
        },
        "whose time is no time",
    );
    check(|it| it.series = "my series".into(), "cannot be named 'my series'");
    check(|it| it.source.network.clear(), "has an empty name");
    check(
        |it| it.classes[1] = "a\nb".into(),
        "the text 'a\\nb' has more than 2000 bytes or control characters",
    );
    check(|it| it.source.notice = "x".repeat(2001), "more than 2000 bytes");
}

#[test]
fn frames_are_normalised_channel_by_channel() {
    let input = Input {
        shape: Shape::new(3, 1, 2).unwrap(),
        preparation: Preparation::default(),
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
