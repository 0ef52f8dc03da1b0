//! What well-behaved clients get.

use edge_worker::Config;
use futures_util::SinkExt;
use split_core::{
    Digest,
    session::{Event, SessionError},
    wire::{ClientMessage, ErrorCode, Hello, PROTOCOL_VERSION},
};
use split_tests::{
    client::{Client, ClientError},
    toy::{INPUT, OUTPUT, POOL1, POOL2, Recipe},
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{Edge, assert_answers, binary, refusal};

#[tokio::test]
async fn every_point_is_answered_as_the_uncut_tail_would() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    for seed in 1..20 {
        for point in [INPUT, POOL1, POOL2] {
            assert_answers(&edge.toy, &mut client, point, seed).await;
        }
    }
    let served = r#"edge_results_total{split="pool1",variant="a"}"#;
    assert_eq!(edge.metric(served).await, 19.0);
    assert_eq!(
        edge.metric(r#"edge_tail_seconds_count{split="pool2",variant="a"}"#)
            .await,
        19.0
    );
}

#[tokio::test]
async fn the_welcome_states_the_limits() {
    let adjust = |it: &mut Config| {
        it.limits.credit = 3;
        it.limits.messages_per_second = 7;
        it.limits.bytes_per_second = 70_000;
    };
    let edge = Edge::with(&Recipe::default(), adjust).await;
    let client = edge.client().await;
    let welcome = client.session.welcome().unwrap();
    assert_eq!((welcome.credit, welcome.version), (3, PROTOCOL_VERSION));
    assert_eq!((welcome.messages_per_second, welcome.bytes_per_second), (7, 70_000));
    assert!(welcome.max_message_bytes > 65_536);
}

#[tokio::test]
async fn what_cannot_be_served_is_an_error_and_the_connection_goes_on() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    let cut = &payload[..payload.len() - 1];
    for (point, payload, expected) in [
        (OUTPUT, &payload[..], ErrorCode::NoSuchPoint),
        (999, &payload, ErrorCode::NoSuchPoint),
        (POOL1, cut, ErrorCode::BadPayload),
        (INPUT, &payload, ErrorCode::BadPayload),
    ] {
        let event = client.ask(point, payload).await.unwrap();
        assert!(
            matches!(event, Event::Failed { code, .. } if code == expected),
            "{event:?}"
        );
    }
    assert_answers(&edge.toy, &mut client, POOL1, 1).await;
    assert_eq!(edge.metric(r#"edge_errors_total{code="BadPayload"}"#).await, 2.0);
}

#[tokio::test]
async fn probes_of_every_size_come_back() {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    for padding in [0, 100, split_core::wire::MAX_PROBE_BYTES] {
        let id = client.probe(padding).await.unwrap();
        assert_eq!(client.next().await.unwrap(), Event::ProbeAck { id });
    }
}

async fn check_hello(edge: &Edge, hello: Hello, expected: ErrorCode) {
    let mut socket = edge.socket().await;
    socket.send(binary(&ClientMessage::Hello(hello))).await.unwrap();
    assert_eq!(refusal(&mut socket).await, (Some(expected), CloseCode::Policy));
}

#[tokio::test]
async fn another_version_or_manifest_is_told_to_load_anew() {
    let edge = Edge::start().await;
    let hello = Hello {
        version: PROTOCOL_VERSION,
        manifest: edge.toy.digest(),
        token: None,
    };
    let version = PROTOCOL_VERSION + 1;
    check_hello(
        &edge,
        Hello {
            version,
            ..hello.clone()
        },
        ErrorCode::VersionMismatch,
    )
    .await;
    let manifest = Digest::of(b"other");
    check_hello(&edge, Hello { manifest, ..hello }, ErrorCode::ManifestMismatch).await;
}

#[tokio::test]
async fn only_who_has_the_token_is_welcome() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "open sesame\n").unwrap();
    let edge = Edge::with(&Recipe::default(), |it| it.token_file = Some(file.path().into())).await;
    for (token, welcome) in [(None, false), (Some("open barley"), false), (Some("open sesame"), true)] {
        let stream = TcpStream::connect(edge.address).await.unwrap();
        let client = Client::over(stream, "localhost", edge.toy.digest(), token).await;
        match client {
            Ok(_) => assert!(welcome, "{token:?}"),
            Err(ClientError::Session(SessionError::Refused { code, .. })) => {
                assert_eq!((welcome, code), (false, ErrorCode::Unauthorized));
            }
            Err(error) => panic!("{error}"),
        }
    }
}
