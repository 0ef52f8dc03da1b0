//! Reload and shutdown, in this process.

use std::fs;

use futures_util::{SinkExt, StreamExt};
use split_core::{
    Digest,
    codec::FeatureCodecSpec,
    manifest::{Codec, CodecFile},
    session::{Event, SessionError},
    wire::{CLOSE_MOVED, ErrorCode},
};
use split_tests::{
    client::{Client, ClientError},
    toy::{POOL1, Recipe, Toy},
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::support::{Edge, assert_answers, http, refused_upgrade, within};

fn other_toy() -> Toy {
    let recipe = Recipe::default();
    Toy::new(&Recipe { seed: 2, ..recipe }).unwrap()
}

#[tokio::test]
async fn a_reload_serves_the_new_series_beside_the_old_one() {
    let edge = Edge::start().await;
    let mut old = edge.client().await;
    let new = other_toy();
    new.write(edge.models.path()).unwrap();
    edge.server.reload().unwrap();

    assert_answers(&edge.toy, &mut old, POOL1, 1).await;
    let mut client = Client::connect(edge.address, new.digest()).await.unwrap();
    assert_answers(&new, &mut client, POOL1, 1).await;
    assert_eq!(edge.get("/v1/manifest.json", &[]).await.body, new.json);
    // As long as anybody uses the old series, its segments can be loaded and others with its manifest may join.
    let old_segment = format!("/v1/{}", edge.toy.manifest.variants[0].segments[0].path());
    assert_eq!(edge.get(&old_segment, &[]).await.status, 200);
    assert_answers(&edge.toy, &mut edge.client().await, POOL1, 2).await;

    drop(old);
    let forgotten = async {
        while Client::connect(edge.address, edge.toy.digest()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within(forgotten).await;
    let refused = Client::connect(edge.address, edge.toy.digest()).await;
    let expected = ErrorCode::ManifestMismatch;
    let Err(ClientError::Session(SessionError::Refused { code, text })) = refused else {
        panic!("the old manifest is refused")
    };
    assert_eq!(code, expected, "{text}");
    assert_eq!(edge.get(&old_segment, &[]).await.status, 404);
}

/// Whatever a deployment leaves in the folder, the series in memory stays.
async fn check_reload_fails(damage: impl FnOnce(&Toy, &std::path::Path), expected: &str) {
    let edge = Edge::start().await;
    let mut client = edge.client().await;
    let new = other_toy();
    new.write(edge.models.path()).unwrap();
    damage(&new, edge.models.path());
    let error = edge.server.reload().unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert_eq!(edge.metric("edge_reload_failures_total").await, 1.0);
    assert_answers(&edge.toy, &mut client, POOL1, 1).await;
    assert_answers(&edge.toy, &mut edge.client().await, POOL1, 2).await;
    assert_eq!(edge.get("/v1/manifest.json", &[]).await.body, edge.toy.json);
}

#[tokio::test]
async fn a_truncated_segment_at_reload_leaves_the_old_series() {
    let truncate = |toy: &Toy, folder: &std::path::Path| {
        let path = folder.join(toy.manifest.variants[0].segments[1].path());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    check_reload_fails(truncate, "is damaged").await;
}

#[tokio::test]
async fn a_swapped_segment_at_reload_leaves_the_old_series() {
    let swap = |toy: &Toy, folder: &std::path::Path| {
        let [from, to] = [0, 1].map(|it: usize| folder.join(toy.manifest.variants[0].segments[it].path()));
        fs::copy(from, to).unwrap();
    };
    check_reload_fails(swap, "is damaged").await;
}

#[tokio::test]
async fn a_truncated_codec_at_reload_leaves_the_old_series() {
    let truncate = |toy: &Toy, folder: &std::path::Path| {
        let path = folder.join(toy.codec(POOL1).unwrap().file().path());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    check_reload_fails(truncate, "is damaged").await;
}

#[tokio::test]
async fn a_codec_of_another_shape_at_reload_leaves_the_old_series() {
    // The digest is right, but the codec has fewer channels than the features.
    let narrow = |toy: &Toy, folder: &std::path::Path| {
        let codec = toy.codec(POOL1).unwrap();
        let mut spec = FeatureCodecSpec::from_json(&fs::read(folder.join(codec.file().path())).unwrap()).unwrap();
        spec.steps.pop();
        let (file, bytes) = CodecFile::of(&spec);
        fs::write(folder.join(file.file().path()), bytes).unwrap();
        let mut manifest = toy.manifest.clone();
        manifest.operating_points[usize::from(POOL1)].codec = Codec::Features(file);
        fs::write(folder.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    };
    check_reload_fails(
        narrow,
        "the codec of operating point 1 cannot be built: 3 quantiser steps for 4 channels",
    )
    .await;
}

#[tokio::test]
async fn segments_of_other_shapes_at_reload_leave_the_old_series() {
    // Every digest is right, but the pieces do not follow one another.
    let exchange = |toy: &Toy, folder: &std::path::Path| {
        let json = String::from_utf8(toy.json.clone()).unwrap();
        let [one, two] = [1, 2].map(|it: usize| toy.manifest.variants[0].segments[it].sha256.to_string());
        let json = json.replace(&one, "#").replace(&two, &one).replace('#', &two);
        fs::write(folder.join("manifest.json"), json).unwrap();
    };
    check_reload_fails(exchange, "cannot be loaded").await;
}

#[tokio::test]
async fn a_missing_manifest_at_reload_leaves_the_old_series() {
    let remove = |_: &Toy, folder: &std::path::Path| fs::remove_file(folder.join("manifest.json")).unwrap();
    check_reload_fails(remove, "holds no series").await;
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_closes() {
    let edge = Edge::with(&Recipe::slow(), |_| {}).await;
    let mut client = edge.client().await;
    let mut idle = edge.client().await;
    let mut silent = edge.socket().await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    for _ in 0..4 {
        client.infer(POOL1, &payload).await.unwrap();
    }
    // The first answer shows that all four have arrived: they came in that order.
    assert!(matches!(within(client.next()).await.unwrap(), Event::Result(_)));
    edge.shutdown.cancel();
    for _ in 0..3 {
        assert!(matches!(within(client.next()).await.unwrap(), Event::Result(_)));
    }
    assert_closes(&mut client.socket).await;
    assert_closes(&mut idle.socket).await;
    assert_closes(&mut silent).await;
    within(edge.served).await.unwrap();
}

async fn assert_closes(socket: &mut tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>) {
    let Message::Close(Some(frame)) = within(socket.next()).await.unwrap().unwrap() else {
        panic!("a Close is expected")
    };
    assert_eq!(frame.code, CloseCode::Away);
    // Reading on sends the answer to the Close.
    while within(socket.next()).await.is_some() {}
}

/// Asks for frames, as many at once as there is credit for, and goes on elsewhere when it is moved, as a page does.
struct Streaming<'a> {
    edge: &'a Edge,
    client: Client,
    payload: Vec<u8>,
    sent: usize,
    answered: usize,
    moved: usize,
}

impl<'a> Streaming<'a> {
    async fn start(edge: &'a Edge) -> Self {
        Self {
            client: edge.client().await,
            payload: edge.toy.payload(POOL1, 1).unwrap(),
            edge,
            sent: 0,
            answered: 0,
            moved: 0,
        }
    }

    async fn ask(&mut self) {
        while self.client.session.has_credit() {
            // After a Close nothing can be sent, but what came before it can be read.
            if self.client.infer(POOL1, &self.payload).await.is_err() {
                break;
            }
            self.sent += 1;
        }
    }

    async fn receive(&mut self) {
        match within(self.client.next()).await {
            Ok(Event::Result(_)) => self.answered += 1,
            Err(ClientError::Closed(Some(frame))) => {
                assert_eq!(u16::from(frame.code), CLOSE_MOVED);
                self.sent -= self.client.session.in_flight();
                self.moved += 1;
                self.client = self.edge.client().await;
            }
            other => panic!("a result or a Close is expected, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_connection_that_has_reached_its_age_is_moved_and_no_frame_is_lost() {
    let short = |config: &mut edge_worker::Config| config.limits.max_age = std::time::Duration::from_millis(50);
    let edge = Edge::with(&Recipe::slow(), short).await;
    let mut streaming = Streaming::start(&edge).await;
    while streaming.moved < 3 {
        streaming.ask().await;
        streaming.receive().await;
    }
    while streaming.client.session.in_flight() > 0 {
        streaming.receive().await;
    }
    assert_eq!(streaming.sent, streaming.answered);
    // What the edge worker had read, it has answered before it closed.
    let results = r#"edge_results_total{split="pool1",variant="a"}"#;
    assert_eq!(edge.metric(results).await, streaming.answered as f64);
}

#[tokio::test]
async fn an_overloaded_edge_worker_moves_connections_on_sooner() {
    let loaded = |config: &mut edge_worker::Config| {
        config.limits.heartbeat = std::time::Duration::from_millis(20);
        config.limits.overload_age = std::time::Duration::ZERO;
        // Whatever is in the queue is too much, and nothing is refused for it.
        config.limits.deadline = std::time::Duration::from_nanos(1);
    };
    let edge = Edge::with(&Recipe::slow(), loaded).await;
    let mut idle = edge.client().await;
    for _ in 0..3 {
        assert!(within(idle.socket.next()).await.unwrap().unwrap().is_ping());
        idle.socket.flush().await.unwrap();
    }
    let asking = async {
        let payload = edge.toy.payload(POOL1, 1).unwrap();
        loop {
            // It is moved, too.
            let mut client = edge.client().await;
            while client.ask(POOL1, &payload).await.is_ok() {}
        }
    };
    let closed = async {
        loop {
            match idle.socket.next().await.unwrap().unwrap() {
                Message::Close(frame) => break frame.unwrap().code,
                _ => idle.socket.flush().await.unwrap(),
            }
        }
    };
    tokio::select! {
        code = within(closed) => assert_eq!(u16::from(code), CLOSE_MOVED),
        () = asking => {}
    }
}

#[tokio::test]
async fn while_it_drains_it_is_live_but_not_ready_and_takes_no_connection() {
    let edge = Edge::start().await;
    // A client that does not answer the Close holds the drain up.
    let _stuck = edge.client().await;
    edge.shutdown.cancel();
    let refused = async { while Client::connect(edge.address, edge.toy.digest()).await.is_ok() {} };
    within(refused).await;
    assert_eq!(http(edge.admin, "GET", "/readyz", &[]).await.status, 503);
    assert_eq!(http(edge.admin, "GET", "/healthz", &[]).await.status, 200);
    within(edge.served).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_in_the_stated_time_whatever_clients_do() {
    let impatient =
        |config: &mut edge_worker::Config| config.limits.drain_timeout = std::time::Duration::from_millis(50);
    let edge = Edge::with(&Recipe::slow(), impatient).await;
    let _stuck = edge.client().await;
    edge.shutdown.cancel();
    within(edge.served).await.unwrap();
}

#[tokio::test]
async fn two_series_are_served_side_by_side() {
    let edge = Edge::with(&Recipe::default(), |it| it.default_series = Some("toy".into())).await;
    let other = Toy::new(&Recipe {
        name: "other",
        seed: 2,
        ..Recipe::default()
    })
    .unwrap();
    let toy = fs::read(edge.models.path().join("manifest.json")).unwrap();
    edge.toy.write(&edge.models.path().join("toy")).unwrap();
    other.write(&edge.models.path().join("other")).unwrap();
    fs::remove_file(edge.models.path().join("manifest.json")).unwrap();
    edge.server.reload().unwrap();
    for (name, expected) in [("toy", &toy), ("other", &other.json)] {
        let path = format!("/models/{name}/manifest.json");
        assert_eq!(&edge.get(&path, &[]).await.body, expected);
        Client::connect(edge.address, Digest::of(expected)).await.unwrap();
    }
    let unknown = refused_upgrade(edge.address, "/v1/infer?series=none", &[]).await;
    assert_eq!(unknown.status, 404);
}

/// A grace time that passes while a test waits.
const SOON: std::time::Duration = std::time::Duration::from_millis(50);

/// Reads until the server moves the client on.
async fn assert_moved(client: &mut Client) {
    let code = loop {
        match within(client.socket.next())
            .await
            .expect("a Close before the end")
            .unwrap()
        {
            Message::Close(frame) => break frame.expect("a Close with a code").code,
            Message::Ping(_) => {}
            other => panic!("a Close is expected, not {other:?}"),
        }
    };
    assert_eq!(u16::from(code), CLOSE_MOVED);
}

fn seeded(seed: u64) -> Toy {
    Toy::new(&Recipe {
        seed,
        ..Recipe::default()
    })
    .unwrap()
}

#[tokio::test]
async fn clients_of_a_replaced_series_are_moved_on_after_the_grace_time() {
    let edge = Edge::with(&Recipe::default(), |it| it.limits.grace = SOON).await;
    let mut old = edge.client().await;
    other_toy().write(edge.models.path()).unwrap();
    edge.server.reload().unwrap();
    assert_moved(&mut old).await;
    // By now it has to load the new manifest, which it learns.
    let again = async { while Client::connect(edge.address, edge.toy.digest()).await.is_ok() {} };
    within(again).await;
    let refused = Client::connect(edge.address, edge.toy.digest()).await.err().unwrap();
    let ClientError::Session(SessionError::Refused { code, .. }) = refused else {
        panic!("{refused}")
    };
    assert_eq!(code, ErrorCode::ManifestMismatch);
}

#[tokio::test]
async fn at_most_two_replaced_series_stay() {
    let edge = Edge::start().await;
    let mut clients = Vec::new();
    for seed in 2..6 {
        let current = seeded(seed);
        current.write(edge.models.path()).unwrap();
        edge.server.reload().unwrap();
        clients.push((Client::connect(edge.address, current.digest()).await.unwrap(), current));
    }
    let (mut oldest, _) = clients.remove(0);
    assert_moved(&mut oldest).await;
    for (client, toy) in &mut clients {
        assert_answers(toy, client, POOL1, 1).await;
    }
}

#[tokio::test]
async fn a_reload_without_a_change_moves_nobody() {
    let edge = Edge::with(&Recipe::default(), |it| it.limits.grace = std::time::Duration::ZERO).await;
    let mut client = edge.client().await;
    for seed in 1..8 {
        edge.server.reload().unwrap();
        assert_answers(&edge.toy, &mut client, POOL1, seed).await;
    }
    // Nor does one that comes back to what was there before.
    other_toy().write(edge.models.path()).unwrap();
    edge.server.reload().unwrap();
    assert_moved(&mut client).await;
    edge.toy.write(edge.models.path()).unwrap();
    edge.server.reload().unwrap();
    let mut client = edge.client().await;
    edge.server.reload().unwrap();
    assert_answers(&edge.toy, &mut client, POOL1, 1).await;
}

#[tokio::test]
async fn a_rotated_token_ends_the_connections_of_the_old_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "old").unwrap();
    let edge = Edge::with(&Recipe::default(), |it| {
        it.token_file = Some(file.path().into());
        it.limits.grace = SOON;
    })
    .await;
    let connect = async |token| {
        let stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
        Client::over(stream, "localhost", edge.toy.digest(), Some(token)).await
    };
    let mut old = connect("old").await.unwrap();
    fs::write(file.path(), "new").unwrap();
    edge.server.reload().unwrap();
    let mut new = connect("new").await.unwrap();
    assert!(connect("old").await.is_err());
    assert_moved(&mut old).await;
    edge.server.reload().unwrap();
    assert_answers(&edge.toy, &mut new, POOL1, 1).await;
}

#[tokio::test]
async fn several_series_need_a_default() {
    let edge = Edge::with(&Recipe::default(), |it| it.default_series = Some("toy".into())).await;
    let other = Toy::new(&Recipe {
        name: "a-first-by-name",
        ..Recipe::default()
    })
    .unwrap();
    edge.toy.write(&edge.models.path().join("toy")).unwrap();
    other.write(&edge.models.path().join("other")).unwrap();
    fs::remove_file(edge.models.path().join("manifest.json")).unwrap();
    edge.server.reload().unwrap();
    assert_eq!(edge.get("/v1/manifest.json", &[]).await.body, edge.toy.json);
    for (default, says) in [(None, "several series"), (Some("none"), "no series 'none'")] {
        let config = edge_worker::Config {
            models: edge.models.path().into(),
            default_series: default.map(Into::into),
            ..Default::default()
        };
        let error = edge_worker::Server::new(config).err().unwrap().to_string();
        assert!(
            error.contains(says) && error.contains("--default-series: a-first-by-name, toy"),
            "{error}"
        );
    }
}
