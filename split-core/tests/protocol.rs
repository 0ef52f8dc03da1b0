//! docs/protocol.md shows every message byte by byte: each example decodes to what is expected here, and encodes to the same bytes.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use split_core::{
    Digest, Shape,
    codec::{FeatureCodec, FeatureCodecSpec, Tables},
    wire::{
        ClassProbability, ClientMessage, ErrorCode, Hello, InferResult, PROTOCOL_VERSION, ServerMessage, Welcome,
        WireError,
    },
};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// Bytes of all code blocks of one kind, in order. A line is bytes in hexadecimal, two spaces or the end, and what they mean.
fn examples(kind: &str) -> Vec<Vec<u8>> {
    let fence = format!("```hex {kind}\n");
    let blocks = DOCUMENT.split(&fence).skip(1);
    blocks
        .map(|it| it.split("```").next().unwrap().lines().flat_map(bytes).collect())
        .collect()
}

fn bytes(line: &str) -> Vec<u8> {
    let digits = line.split("  ").next().unwrap();
    digits
        .split_whitespace()
        .map(|it| u8::from_str_radix(it, 16).unwrap())
        .collect()
}

fn manifest() -> Digest {
    Digest::of(b"")
}

#[test]
fn what_a_client_sends() {
    let hello = Hello {
        version: PROTOCOL_VERSION,
        manifest: manifest(),
        token: Some("secret".into()),
    };
    let expected = [
        ClientMessage::Hello(hello),
        ClientMessage::Infer {
            id: 7,
            point: 300,
            payload: &[0x2a, 0x80, 0x11],
        },
        ClientMessage::Probe { id: 8, padding: 4 },
        ClientMessage::Bye,
    ];
    let examples = examples("client");
    assert_eq!(examples.len(), expected.len());
    for (bytes, expected) in examples.iter().zip(expected) {
        assert_eq!(ClientMessage::decode(bytes), Ok(expected.clone()));
        let mut again = Vec::new();
        expected.encode(&mut again);
        assert_eq!(again, *bytes);
    }
}

#[test]
fn what_a_server_sends() {
    let best = |class, probability| ClassProbability { class, probability };
    let expected = [
        ServerMessage::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            manifest: manifest(),
            max_message_bytes: 65_541,
            credit: 4,
            messages_per_second: 240,
            bytes_per_second: 8 << 20,
        }),
        ServerMessage::Result(InferResult {
            id: 7,
            top: vec![best(3, 0.75), best(5, 0.25)],
            queue_us: 12,
            decode_us: 85,
            tail_us: 1400,
        }),
        ServerMessage::ProbeAck { id: 8 },
        ServerMessage::Busy { id: 7, retry_ms: 250 },
        ServerMessage::Error {
            id: Some(7),
            code: ErrorCode::NoSuchPoint,
            text: "no tail".into(),
        },
        ServerMessage::Error {
            id: None,
            code: ErrorCode::ManifestMismatch,
            text: "load it anew".into(),
        },
    ];
    let examples = examples("server");
    assert_eq!(examples.len(), expected.len());
    for (bytes, expected) in examples.iter().zip(expected) {
        assert_eq!(ServerMessage::decode(bytes), Ok(expected.clone()));
        let mut again = Vec::new();
        expected.encode(&mut again);
        assert_eq!(again, *bytes);
    }
}

#[test]
fn a_payload() {
    let tables = Tables {
        predictors: vec![],
        costs: vec![8, 32, 64, 64],
    };
    let spec = FeatureCodecSpec {
        bits: 2,
        steps: vec![1.0, 0.5],
        centres: vec![],
        tables,
    };
    let codec = FeatureCodec::new(Shape::new(2, 2, 2).unwrap(), &spec).unwrap();
    let (mut codes, mut payload) = (Vec::new(), Vec::new());
    let features = [0.0, 0.0, 1.2, 0.0, 0.0, 0.4, 0.0, 9.0];
    codec.encode(&features, &mut codes, &mut payload).unwrap();
    assert_eq!(codes, [0, 0, 1, 0, 0, 1, 0, 3]);
    assert_eq!(examples("payload"), [payload]);
}

/// The table's rows, `| 0 | BadMessage | … |`, are all the kinds there are.
#[test]
fn the_kinds_of_errors() {
    let rows = DOCUMENT
        .lines()
        .filter_map(|it| it.strip_prefix("| ")?.split_once(" | `"));
    let kinds: Vec<(u8, &str)> = rows
        .filter_map(|(number, rest)| Some((number.parse().ok()?, rest.split('`').next()?)))
        .collect();
    let decoded = |number: u8| ServerMessage::decode(&[4, 0, number, 0]);
    for (expected, (number, name)) in kinds.iter().enumerate() {
        assert_eq!(usize::from(*number), expected);
        match decoded(*number) {
            Ok(ServerMessage::Error { code, .. }) => assert_eq!(format!("{code:?}"), *name),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(!kinds.is_empty());
    assert_eq!(decoded(kinds.len() as u8), Err(WireError::Malformed { bytes: 4 }));
}
