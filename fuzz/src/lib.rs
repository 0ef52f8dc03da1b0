//! The fuzz targets, as functions of the fuzzer's bytes: so that any test can replay what the fuzzer found.
//!
//! They cover what split-core reads, messages, manifests, codecs' files, payloads of the feature codec, image payloads, which the edge worker
//! decodes, segments as split-runtime reads them without tract, and the files that `trainer import` takes.

// The edge worker's own sources: as a dependency it would bring a server and an inference engine along, which take minutes to instrument.
#[allow(dead_code, reason = "the edge worker uses the rest")]
#[path = "../../edge-worker/src/payload.rs"]
mod payload;
#[path = "../../edge-worker/src/webp.rs"]
mod webp;

// The runtime's, for the same reason.
#[allow(dead_code, reason = "the runtime uses the rest")]
#[path = "../../split-runtime/src/archive.rs"]
mod archive;
#[path = "../../split-runtime/src/read/mod.rs"]
mod read;

// The trainer's, too.
#[path = "../../trainer/src/import/known.rs"]
mod known;
#[path = "../../trainer/src/import/merge.rs"]
mod merge;
#[path = "../../trainer/src/import/onnx.rs"]
#[allow(dead_code, reason = "the trainer reads files")]
mod onnx;
#[path = "../../trainer/src/import/schema.rs"]
mod schema;
#[path = "../../trainer/src/import/weights.rs"]
mod weights;

use std::{path::Path, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use read::Reader;
use split_core::{
    Digest, Manifest, Shape,
    codec::{CONTEXTS, DecodeError, FeatureCodec, FeatureCodecSpec, PREDICTOR_BYTES, REFERENCES, Tables},
    manifest::{ImageFormat, Input, Preparation},
    selection::default_point,
    session::Session,
    wire::{ClientMessage, ServerMessage},
};
use split_graph::Graph;
use weights::Weights;

/// A target's name, which is that of its corpus, and what it does with the fuzzer's bytes; it panics at a fault.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("decode", decode),
    ("decode_image", decode_image),
    ("onnx", onnx),
    ("pytorch", pytorch),
    ("round_trip", round_trip),
    ("safetensors", safetensors),
    ("segment", segment),
    ("wire", wire),
];

/// Arbitrary payloads decode or are refused; what decodes is what an encoder could have meant.
pub fn decode(bytes: &[u8]) {
    let Some((codec, payload)) = codec_and::<Vec<u8>>(bytes) else {
        return;
    };
    let mut codes = Vec::new();
    match codec.decode_codes(&payload, &mut codes) {
        Ok(()) => {
            let (mut again, mut back) = (Vec::new(), Vec::new());
            codec.encode_codes(&codes, &mut again).expect("decoded codes are valid");
            assert!(again.len() <= codec.max_payload_bytes());
            codec
                .decode_codes(&again, &mut back)
                .expect("an encoder's payload decodes");
            assert_eq!(codes, back);
        }
        Err(DecodeError::TooLong { limit, .. }) => assert!(payload.len() > limit),
        Err(_) => assert!(codes.len() == codec.shape().values()),
    }
}

/// Arbitrary image files decode to exactly the network's input or are refused; the first byte chooses the format.
pub fn decode_image(bytes: &[u8]) {
    let Some((choice, file)) = bytes.split_first() else {
        return;
    };
    let shape = Shape::new(3, 32, 32).expect("a valid shape");
    let input = Input {
        shape,
        preparation: Preparation::default(),
        mean: [0.5; 3],
        std: [0.25; 3],
    };
    let format = match choice % 2 {
        0 => ImageFormat::Webp,
        _ => ImageFormat::Jpeg,
    };
    let decoder = payload::Decoder::Image { format, input };
    if decoder.check_length(file.len()).is_err() {
        return;
    }
    let mut values = Vec::new();
    if decoder.decode(file, &mut values).is_ok() {
        assert_eq!(values.len(), shape.values());
        assert!(values.iter().all(|it| it.is_finite()));
    }
}

/// Arbitrary ONNX files are a network or are refused.
pub fn onnx(bytes: &[u8]) {
    // Its external data would be in a folder that is not there.
    let read = |size| onnx::parse(bytes.to_vec(), Path::new("no such folder"), size);
    if let Ok(graph) = read(None).or_else(|_| read(Some([8, 8]))) {
        check(&graph);
    }
}

/// Arbitrary tars are a segment or are refused; the first three bytes are the shape that it has to take.
pub fn segment(bytes: &[u8]) {
    let Some((shape, tar)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let (Ok(shape), Ok(files)) = (Shape::try_from(shape.map(usize::from)), archive::files(tar)) else {
        return;
    };
    let mut reader = Reader::new(shape);
    if reader.append(0, &files).is_some()
        && let Ok(graph) = reader.finish()
    {
        check(&graph);
    }
}

/// Arbitrary safetensors files are weights or are refused.
pub fn safetensors(bytes: &[u8]) {
    if let Ok(weights) = Weights::safetensors(bytes.to_vec()) {
        read_all(weights);
    }
}

/// Arbitrary files in PyTorch's formats are weights or are refused.
pub fn pytorch(bytes: &[u8]) {
    let file = tempfile::Builder::new()
        .suffix(".pth")
        .tempfile()
        .expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("a temporary file can be written");
    if let Ok(weights) = Weights::open(file.path()) {
        read_all(weights);
    }
}

/// All tensors of a file can be read or are refused.
fn read_all(mut weights: Weights) {
    weights.strip_prefix(&["classifier.weight".to_owned(), "features.0.weight".to_owned()]);
    let all: Vec<(String, Vec<usize>)> = weights.shapes().map(|it| (it.0.to_owned(), it.1.to_vec())).collect();
    for (name, shape) in all {
        assert_eq!(weights.shape(&name), Some(&*shape));
        if let Ok(values) = weights.read(&name, &shape) {
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
    }
}

/// What is derived of a sound network can be derived.
fn check(graph: &Graph) {
    let _ = graph.macs();
    let _ = graph.channel_groups();
    for cut in graph.cut_points() {
        assert!(cut.macs_before + cut.macs_after <= graph.macs());
    }
}

/// Features that encode come back as the same codes, from a payload within its limit, no prefix of which decodes.
pub fn round_trip(bytes: &[u8]) {
    let Some((codec, mut features)) = codec_and::<Vec<f32>>(bytes) else {
        return;
    };
    features.resize(codec.shape().values(), 0.3);
    let (mut codes, mut payload, mut back) = (Vec::new(), Vec::new(), Vec::new());
    if codec.encode(&features, &mut codes, &mut payload).is_err() {
        assert!(features.iter().any(|it| !it.is_finite()));
        return;
    }
    assert!(payload.len() <= codec.max_payload_bytes());
    codec
        .decode_codes(&payload, &mut back)
        .expect("an encoder's payload decodes");
    assert_eq!(codes, back);
    for length in 0..payload.len() {
        assert!(codec.decode_codes(&payload[..length], &mut back).is_err());
    }
}

/// Arbitrary bytes are a message or are refused; a message comes back from its own bytes; the same of manifests and codecs' files.
pub fn wire(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Ok(message) = ClientMessage::decode(bytes) {
        message.encode(&mut again);
        assert_eq!(ClientMessage::decode(&again), Ok(message));
    }
    again.clear();
    if let Ok(message) = ServerMessage::decode(bytes) {
        message.encode(&mut again);
        let back = ServerMessage::decode(&again).expect("an encoder's message decodes");
        // Probabilities may be NaN, so compare bytes.
        let mut third = Vec::new();
        back.encode(&mut third);
        assert_eq!(again, third);
    }
    let _ = Session::<()>::new(Digest::of(b""), Duration::ZERO).receive(Duration::ZERO, bytes);
    series(bytes);
}

/// Arbitrary bytes are a series' files or are refused; what is accepted can be used, and written back as it is.
fn series(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        for point in &manifest.operating_points {
            let cut = manifest.cut(point).expect("a checked point can be cut");
            assert_eq!(cut.head.len() + cut.tail.len(), cut.variant.segments.len());
            assert!(cut.variant.macs() >= cut.head.iter().map(|it| it.macs).sum());
            assert!(
                manifest
                    .device_files(point)
                    .all(|it| it.path().contains(&it.sha256.to_string()))
            );
        }
        assert!(default_point(&manifest, 1.0, |_| true).is_some());
        let json = manifest.to_json().expect("a checked manifest can be written");
        assert_eq!(Manifest::parse(&json), Ok(manifest));
    }
    if let Ok(spec) = FeatureCodecSpec::from_json(bytes) {
        let shape = Shape::new(spec.steps.len().clamp(1, 64), 3, 3).expect("a small shape");
        if FeatureCodec::new(shape, &spec).is_ok() {
            assert_eq!(FeatureCodecSpec::from_json(&spec.to_json()), Ok(spec));
        }
    }
}

/// A codec made from fuzzed parts, and what is left for it to work on. None where the parts make no valid spec.
fn codec_and<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<(FeatureCodec, T)> {
    let (codec, rest) = <(CodecInput, T)>::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    Some((codec.codec()?, rest))
}

/// A codec of at most 6×6×6 features; most of its specs are valid, so that the fuzzer spends its time behind the checks.
#[derive(Arbitrary, Debug)]
struct CodecInput {
    bits: u8,
    sides: [u8; 3],
    dead: u8,
    costs: Vec<u8>,
    predictors: Vec<u8>,
}

impl CodecInput {
    fn codec(&self) -> Option<FeatureCodec> {
        let bits = self.bits % 8 + 1;
        let [channels, height, width] = self.sides.map(|it| usize::from(it % 6) + 1);
        let shape = Shape::new(channels, height, width).ok()?;
        let symbols = 1 << bits;
        let count = (self.costs.len() / symbols).clamp(1, CONTEXTS);
        let mut costs = self.costs.clone();
        costs.resize(count * symbols, 9);
        let mut predictors = self.predictors.clone();
        predictors.resize(
            if predictors.is_empty() {
                0
            } else {
                channels * PREDICTOR_BYTES
            },
            0,
        );
        for (channel, predictor) in predictors.chunks_exact_mut(PREDICTOR_BYTES).enumerate() {
            // References to channels that are there.
            predictor[..REFERENCES]
                .iter_mut()
                .for_each(|it| *it %= channel as u8 + 1);
        }
        let step = |channel| if self.dead >> (channel % 8) & 1 == 1 { 0.0 } else { 0.25 };
        let steps = (0..channels).map(step).collect();
        let centre = |channel| f32::from(self.dead) - 32.0 * channel as f32;
        let centres = (0..channels).map(centre).collect();
        let tables = Tables { predictors, costs };
        let spec = FeatureCodecSpec {
            bits,
            steps,
            centres,
            tables,
        };
        FeatureCodec::new(shape, &spec).ok()
    }
}
