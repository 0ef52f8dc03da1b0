//! Clients that break rules, networks that break down. Each gets its stated answer, and everybody else is served.

use std::time::Duration;

use edge_worker::{Config, Limits};
use futures_util::{SinkExt, StreamExt, future::join_all};
use split_core::{
    session::{Event, Session},
    wire::{ClientMessage, ErrorCode, MAX_PROBE_BYTES},
};
use split_tests::{
    client::Client,
    toy::{INPUT, POOL1, POOL2, Recipe},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{CloseCode, Data, OpCode},
    },
};

use crate::support::{Edge, Response, assert_answers, binary, http, refusal, refused_upgrade, within};

const SOON: Duration = Duration::from_millis(50);

async fn edge(adjust: impl FnOnce(&mut Limits)) -> Edge {
    Edge::with(&Recipe::default(), |config: &mut Config| adjust(&mut config.limits)).await
}

/// Whether the server ends this connection, whatever it says before.
async fn assert_ends(stream: &mut TcpStream) {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = within(stream.read_to_end(&mut said)).await;
}

#[tokio::test]
async fn a_slow_handshake_is_given_up() {
    let edge = edge(|it| it.header_timeout = SOON).await;
    for sent in ["", "GET /v1/infer HTTP/1.1\r\nhost: "] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        edge.assert_serves().await;
        assert_ends(&mut stream).await;
    }
    edge.wait_until_alone().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let edge = edge(|_| {}).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let line = format!("x-{}: 1\r\n", "a".repeat(1000));
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    stream.write_all(line.repeat(20).as_bytes()).await.unwrap();
    assert_eq!(within(Response::read(&mut stream, true)).await.status, 431);
    edge.assert_serves().await;
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused() {
    let edge = edge(|_| {}).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let client_hello = [
        0x16, 0x03, 0x01, 0x00, 0xa5, 0x01, 0x00, 0x00, 0xa1, 0x03, 0x03, b'\r', b'\n',
    ];
    stream.write_all(&client_hello).await.unwrap();
    assert_ends(&mut stream).await;
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_socket_that_says_no_hello_is_closed() {
    let edge = edge(|it| it.hello_timeout = SOON).await;
    let expected = (Some(ErrorCode::BadMessage), CloseCode::Policy);
    assert_eq!(refusal(&mut edge.socket().await).await, expected);
}

#[tokio::test]
async fn a_half_open_socket_is_given_up_after_two_heartbeats() {
    let edge = edge(|it| it.heartbeat = SOON).await;
    // Nobody polls this client, so nobody answers the pings: as if its machine had lost power.
    let gone = edge.client().await;
    edge.wait_until_alone().await;
    drop(gone);
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let edge = edge(|it| it.heartbeat = SOON).await;
    let mut client = edge.client().await;
    for _ in 0..6 {
        assert!(within(client.socket.next()).await.unwrap().unwrap().is_ping());
        client.socket.flush().await.unwrap();
    }
    assert_answers(&edge.toy, &mut client, POOL1, 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let edge = edge(|it| (it.heartbeat, it.idle_timeout) = (SOON, SOON)).await;
    let mut client = edge.client().await;
    assert_eq!(refusal(&mut client.socket).await, (None, CloseCode::Away));
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    let edge = edge(|it| {
        it.write_timeout = SOON;
        (it.messages_per_second, it.messages_per_address) = (u32::MAX, u32::MAX);
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(edge.address).await.unwrap();
    let mut client = Client::over(stream, "localhost", edge.toy.digest(), None)
        .await
        .unwrap();
    let point = u16::MAX;
    let asking = async {
        // Each answer is a text that is longer than the question, so the server's side fills first.
        while client
            .socket
            .feed(binary(&ClientMessage::Infer {
                id: 0,
                point,
                payload: b"x",
            }))
            .await
            .is_ok()
        {}
    };
    within(asking).await;
    edge.assert_serves().await;
    edge.wait_until_alone().await;
}

#[tokio::test]
async fn an_oversized_message_is_refused() {
    let edge = edge(|_| {}).await;
    let expected = (Some(ErrorCode::LimitExceeded), CloseCode::Size);
    let mut client = edge.client().await;
    client
        .socket
        .send(Message::Binary(vec![0; 2 * MAX_PROBE_BYTES].into()))
        .await
        .unwrap();
    assert_eq!(refusal(&mut client.socket).await, expected);
    edge.assert_serves().await;
}

#[tokio::test]
async fn before_the_welcome_a_message_is_as_long_as_a_hello_at_most() {
    let edge = edge(|_| {}).await;
    let hello = Session::<()>::new(edge.toy.digest(), Duration::ZERO).hello(Some("x".repeat(1024)));
    let mut socket = edge.socket().await;
    socket.send(Message::Binary(hello.into())).await.unwrap();
    assert!(
        within(socket.next()).await.unwrap().unwrap().is_binary(),
        "a Welcome is expected"
    );
    let expected = (Some(ErrorCode::LimitExceeded), CloseCode::Size);
    let mut socket = edge.socket().await;
    socket.send(Message::Binary(vec![0; 1064].into())).await.unwrap();
    assert_eq!(refusal(&mut socket).await, expected);
    // The header alone is enough: nothing is kept of what it announces.
    let mut socket = edge.socket().await;
    socket
        .get_mut()
        .write_all(&[0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0])
        .await
        .unwrap();
    assert_eq!(refusal(&mut socket).await, expected);
}

#[tokio::test]
async fn a_message_that_does_not_become_whole_is_given_up() {
    let edge = edge(|it| (it.heartbeat, it.message_timeout) = (SOON, SOON)).await;
    let mut client = edge.client().await;
    let part = Frame::message(vec![0; 10], OpCode::Data(Data::Binary), false);
    client.socket.send(Message::Frame(part)).await.unwrap();
    let expected = (Some(ErrorCode::LimitExceeded), CloseCode::Policy);
    assert_eq!(refusal(&mut client.socket).await, expected);
}

#[tokio::test]
async fn messages_beyond_the_byte_budget_are_read_later_and_none_is_lost() {
    let adjust = |config: &mut Config| config.limits.held_bytes = 8 * 300;
    let edge = Edge::with(&Recipe::slow(), adjust).await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    assert!(4 * 4 * payload.len() > 300, "more than an address may have on its way");
    let asking = (0..4).map(|_| async {
        let mut client = edge.client().await;
        for _ in 0..4 {
            client.infer(POOL1, &payload).await.unwrap();
        }
        for _ in 0..4 {
            assert!(matches!(within(client.next()).await.unwrap(), Event::Result(_)));
        }
    });
    join_all(asking).await;
}

#[tokio::test]
async fn a_message_in_fragments_is_one_message_with_one_limit() {
    let edge = edge(|_| {}).await;
    let mut client = edge.client().await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    let id = client.session.infer(Duration::ZERO, POOL1, &payload, ()).unwrap();
    let message = client.session.message(id).to_vec();
    let fragment = |part: Vec<u8>, kind, last| Message::Frame(Frame::message(part, OpCode::Data(kind), last));
    let (first, rest) = message.split_at(2);
    client
        .socket
        .send(fragment(first.into(), Data::Binary, false))
        .await
        .unwrap();
    client
        .socket
        .send(fragment(rest.into(), Data::Continue, true))
        .await
        .unwrap();
    within(client.next()).await.unwrap();

    client
        .socket
        .send(fragment(vec![0; 1000], Data::Binary, false))
        .await
        .unwrap();
    for _ in 0..MAX_PROBE_BYTES / 1000 + 10 {
        client
            .socket
            .send(fragment(vec![0; 1000], Data::Continue, false))
            .await
            .unwrap();
    }
    let expected = (Some(ErrorCode::LimitExceeded), CloseCode::Size);
    assert_eq!(refusal(&mut client.socket).await, expected);
}

/// What a connection gets that said `Hello` and then this.
async fn check_refused(message: Message, expected: CloseCode) {
    let edge = edge(|_| {}).await;
    let mut client = edge.client().await;
    client.socket.send(message).await.unwrap();
    assert_eq!(
        refusal(&mut client.socket).await,
        (Some(ErrorCode::BadMessage), expected)
    );
    edge.assert_serves().await;
    assert_eq!(edge.metric(r#"edge_errors_total{code="BadMessage"}"#).await, 1.0);
}

#[tokio::test]
async fn text_is_refused() {
    check_refused(Message::text("hello"), CloseCode::Unsupported).await;
}

/// A WebSocket frame as a client sends it, masked with zeros: its first byte, and its payload.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match u8::try_from(payload.len()) {
        Ok(short @ ..126) => vec![0x80 | short],
        _ => [&[0x80 | 126], &(payload.len() as u16).to_be_bytes()[..]].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

#[tokio::test]
async fn frames_that_rfc_6455_forbids_are_refused() {
    let edge = edge(|_| {}).await;
    let probe = [2, 7, 0];
    for (frame, expected) in [
        ([&[0x82, 3], &probe[..]].concat(), CloseCode::Protocol),
        (masked(0xc2, &probe), CloseCode::Protocol),
        (masked(0x83, &probe), CloseCode::Protocol),
        (masked(0x8b, b""), CloseCode::Protocol),
        (masked(0x80, &probe), CloseCode::Protocol),
        (
            [masked(0x02, &probe), masked(0x82, &probe)].concat(),
            CloseCode::Protocol,
        ),
        (masked(0x09, b"a piece of a Ping"), CloseCode::Protocol),
        (masked(0x89, &[0; 126]), CloseCode::Protocol),
        // Refused by its header: what it announces never comes.
        (
            [&[0x89, 0x80 | 127][..], &[0xff; 8], &[0; 4]].concat(),
            CloseCode::Protocol,
        ),
        (masked(0x88, &[3]), CloseCode::Protocol),
        (masked(0x81, &[0xff, 0xfe]), CloseCode::Invalid),
        (masked(0x88, &[3, 0xe8, 0xff, 0xfe]), CloseCode::Invalid),
    ] {
        for greeted in [false, true] {
            let mut socket = match greeted {
                true => edge.client().await.socket,
                false => edge.socket().await,
            };
            socket.get_mut().write_all(&frame).await.unwrap();
            let got = refusal(&mut socket).await;
            assert_eq!(got, (Some(ErrorCode::BadMessage), expected), "{frame:?}");
        }
    }
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_close_is_answered() {
    let edge = edge(|_| {}).await;
    for (sent, answer) in [
        (&[][..], &[0x88, 0][..]),
        (&[0x03, 0xe8], &[0x88, 2, 0x03, 0xe8]),
        (
            &[0x03, 0xe9, b'b', b'y', b'e'],
            &[0x88, 5, 0x03, 0xe9, b'b', b'y', b'e'],
        ),
        // A code that must not be sent.
        (
            &[0x03, 0xed],
            &[&[0x88, 20, 0x03, 0xea][..], b"Protocol violation"].concat(),
        ),
    ] {
        for greeted in [false, true] {
            let mut socket = match greeted {
                true => edge.client().await.socket,
                false => edge.socket().await,
            };
            let stream = socket.get_mut();
            // What comes behind a Close is not looked at.
            let frames = [masked(0x88, sent), masked(0x82, &[2, 7, 0])].concat();
            stream.write_all(&frames).await.unwrap();
            let mut said = Vec::new();
            within(stream.read_to_end(&mut said)).await.unwrap();
            assert_eq!(said, answer, "{sent:?}");
        }
    }
    edge.assert_serves().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    check_refused(Message::binary(vec![77; 10]), CloseCode::Protocol).await;
    check_refused(Message::binary(vec![]), CloseCode::Protocol).await;
}

#[tokio::test]
async fn messages_before_hello_are_refused() {
    let edge = edge(|_| {}).await;
    for message in [
        ClientMessage::Infer {
            id: 0,
            point: POOL1,
            payload: b"x",
        },
        ClientMessage::Probe { id: 0, padding: 0 },
        ClientMessage::Bye,
    ] {
        let mut socket = edge.socket().await;
        socket.send(binary(&message)).await.unwrap();
        let expected = (Some(ErrorCode::BadMessage), CloseCode::Policy);
        assert_eq!(refusal(&mut socket).await, expected, "{message:?}");
    }
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_second_hello_is_refused() {
    let edge = edge(|_| {}).await;
    let mut client = edge.client().await;
    let hello = client.session.hello(None);
    client.socket.send(Message::binary(hello)).await.unwrap();
    let expected = (Some(ErrorCode::BadMessage), CloseCode::Policy);
    assert_eq!(refusal(&mut client.socket).await, expected);
}

#[tokio::test]
async fn an_id_used_again_before_its_answer_is_refused() {
    let edge = Edge::with(&Recipe::slow(), |_| {}).await;
    let mut client = edge.client().await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    for _ in 0..2 {
        let message = binary(&ClientMessage::Infer {
            id: 7,
            point: POOL1,
            payload: &payload,
        });
        client.socket.feed(message).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    let expected = (Some(ErrorCode::BadMessage), CloseCode::Policy);
    assert_eq!(refusal(&mut client.socket).await, expected);
    edge.assert_serves().await;
}

#[tokio::test]
async fn damaged_payloads_never_hurt() {
    let edge = edge(|it| it.messages_per_second = u32::MAX).await;
    let mut client = edge.client().await;
    for point in [INPUT, POOL1, POOL2] {
        let payload = edge.toy.payload(point, 1).unwrap();
        for at in 0..payload.len().min(200) {
            let mut damaged = payload.clone();
            damaged[at] ^= 0x55;
            within(client.ask(point, &damaged)).await.unwrap();
        }
    }
    assert_answers(&edge.toy, &mut client, POOL1, 1).await;
    assert_eq!(edge.metric("edge_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_client_that_is_a_little_too_fast_is_told_so_and_stays() {
    let edge = edge(|it| it.messages_per_second = 5).await;
    let mut client = edge.client().await;
    let payload = edge.toy.payload(POOL1, 1).unwrap();
    let mut served = 0;
    // A burst is two seconds' worth. Then the hint is when the next one is allowed, and by then it is.
    while served < 13 {
        match within(client.ask(POOL1, &payload)).await.unwrap() {
            Event::Result(_) => served += 1,
            Event::Busy { retry_ms, .. } => {
                assert!(served >= 10, "{served} served");
                assert!((1..=200).contains(&retry_ms), "{retry_ms} ms");
                tokio::time::sleep(Duration::from_millis(retry_ms.into())).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_flood_ends_the_connection_that_sends_it() {
    let edge = edge(|it| it.messages_per_second = 10).await;
    let piece = |kind| Message::Frame(Frame::message(vec![], OpCode::Data(kind), false));
    let probe = binary(&ClientMessage::Probe { id: 0, padding: 0 });
    for (first, message) in [
        (probe.clone(), probe),
        (Message::Ping(vec![].into()), Message::Ping(vec![].into())),
        (piece(Data::Binary), piece(Data::Continue)),
    ] {
        let mut client = edge.client().await;
        client.socket.feed(first).await.unwrap();
        // Ten times two seconds' worth, and what time adds to it.
        for _ in 0..2000 {
            client.socket.feed(message.clone()).await.unwrap();
        }
        client.socket.flush().await.unwrap();
        let expected = (Some(ErrorCode::LimitExceeded), CloseCode::Policy);
        assert_eq!(refusal(&mut client.socket).await, expected);
        edge.assert_serves().await;
    }
}

#[tokio::test]
async fn one_address_has_its_share_of_sockets() {
    let edge = edge(|it| it.sockets_per_address = 2).await;
    let [first, _second] = [edge.client().await, edge.client().await];
    let refused = refused_upgrade(edge.address, "/v1/infer", &[]).await;
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (429, "1"));
    assert_eq!(edge.metric("edge_refused_total").await, 1.0);
    drop(first);
    let again = async {
        while Client::connect(edge.address, edge.toy.digest()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(again).await;
}

/// Connects from another address of the loopback interface.
async fn connect_from(last: u8, edge: &Edge) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    socket.connect(edge.address).await.unwrap()
}

async fn get(stream: &mut TcpStream, path: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nhost: edge\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    within(Response::read(stream, true)).await
}

#[tokio::test]
async fn one_address_has_its_share_of_connections() {
    let edge = edge(|it| it.connections = 6).await;
    let mut held = Vec::new();
    for sent in ["", "G", "GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n"] {
        let mut stream = connect_from(2, &edge).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let refused = get(&mut connect_from(2, &edge).await, "/healthz").await;
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(get(&mut connect_from(3, &edge).await, "/healthz").await.status, 200);
    edge.assert_serves().await;
}

#[tokio::test]
async fn operators_are_served_whatever_clients_use_up() {
    let edge = edge(|it| (it.connections, it.connections_per_address) = (2, Some(2))).await;
    let held = [connect_from(1, &edge).await, connect_from(1, &edge).await];
    assert_eq!(edge.get("/healthz", &[]).await.status, 503);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(http(edge.admin, "GET", path, &[]).await.status, 200, "{path}");
    }
    drop(held);
}

#[tokio::test]
async fn requests_whose_answers_are_never_read_end_the_connection() {
    let edge = edge(|it| it.stall_timeout = SOON).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let request = b"GET /v1/manifest.json HTTP/1.1\r\nhost: edge\r\n\r\n".repeat(100);
    let asking = async { while stream.write_all(&request).await.is_ok() {} };
    within(asking).await;
    edge.assert_serves().await;
    edge.wait_until_alone().await;
}

#[tokio::test]
async fn a_download_is_finished_however_old_its_connection() {
    let web = tempfile::tempdir().unwrap();
    // More than sockets buffer on both sides.
    let file = vec![7; 32 << 20];
    std::fs::write(web.path().join("index.html"), "page").unwrap();
    std::fs::write(web.path().join("large.bin"), &file).unwrap();
    let edge = Edge::with(&Recipe::default(), |it| {
        it.web = Some(web.path().into());
        it.limits.max_age = SOON;
    })
    .await;
    let mut slow = TcpStream::connect(edge.address).await.unwrap();
    let request = b"GET /large.bin HTTP/1.1\r\nhost: edge\r\n\r\n";
    slow.write_all(request).await.unwrap();
    let mut got = vec![0; 1 << 16];
    slow.read_exact(&mut got).await.unwrap();
    // Two that begin later and end one after the other, each at three quarters of the age at least.
    for _ in 0..2 {
        let mut idle = TcpStream::connect(edge.address).await.unwrap();
        assert_eq!(get(&mut idle, "/healthz").await.status, 200);
        assert_ends(&mut idle).await;
    }
    within(slow.read_to_end(&mut got)).await.unwrap();
    assert!(got.ends_with(&file), "{} bytes", got.len());
}

#[tokio::test]
async fn beyond_the_cap_connections_are_told_and_closed() {
    let edge = edge(|it| (it.connections, it.connections_per_address) = (2, Some(2))).await;
    let mut first = edge.client().await;
    let _second = edge.client().await;
    let refused = edge.get("/healthz", &[]).await;
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    assert_answers(&edge.toy, &mut first, POOL1, 1).await;
}

#[tokio::test]
async fn a_thousand_connects_at_once_are_welcomed_or_refused() {
    let edge = edge(|it| it.connections = 900).await;
    let mut early = edge.client().await;
    let storm = join_all((0..1000).map(|_| Client::connect(edge.address, edge.toy.digest())));
    let asking = async {
        for seed in 0..20 {
            assert_answers(&edge.toy, &mut early, POOL1, seed).await;
        }
    };
    let (storm, ()) = tokio::join!(within(storm), asking);
    let welcome = storm.iter().filter(|it| it.is_ok()).count();
    // A burst of two seconds' worth, and what time adds to it.
    let burst = 2 * Limits::default().new_sockets_per_second as usize - 1;
    assert!((burst..300).contains(&welcome), "{welcome} of 1000");
    drop(storm);
    edge.wait_for_connections(2.0).await;
    assert_answers(&edge.toy, &mut early, POOL1, 99).await;
}

/// Deadlines and limits hold when the system's clock is set, because nothing here reads it.
#[test]
fn nothing_depends_on_the_systems_clock() {
    let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    for source in sources.map(|it| it.unwrap().path()) {
        let text = std::fs::read_to_string(&source).unwrap();
        assert!(!text.contains("SystemTime"), "{}", source.display());
    }
}
