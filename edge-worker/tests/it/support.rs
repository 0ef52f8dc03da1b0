//! A running edge worker and a plain HTTP request.

use std::{collections::HashMap, net::SocketAddr, num::NonZeroUsize, time::Duration};

use edge_worker::{Config, Server};
use futures_util::StreamExt;
use split_core::wire::{ClientMessage, ErrorCode, ServerMessage};
use split_tests::{
    client::Client,
    toy::{POOL1, Recipe, Toy},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

/// After this time something hangs. No test waits so long when all is well.
pub const HANGS: Duration = Duration::from_secs(60);

/// A server in this process.
pub struct Edge {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub toy: Toy,
    pub models: TempDir,
    pub server: Server,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<()>,
}

impl Edge {
    pub async fn start() -> Self {
        Self::with(&Recipe::default(), |_| {}).await
    }

    /// With settings other than the defaults.
    pub async fn with(recipe: &Recipe, adjust: impl FnOnce(&mut Config)) -> Self {
        let models = tempfile::tempdir().unwrap();
        let toy = Toy::new(recipe).unwrap();
        toy.write(models.path()).unwrap();
        let mut config = Config {
            models: models.path().into(),
            threads: NonZeroUsize::MIN,
            ..Config::default()
        };
        adjust(&mut config);
        let server = Server::new(config).unwrap();
        let [listener, operators] = [free_port().await, free_port().await];
        let [address, admin] = [&listener, &operators].map(|it| it.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let (serving, stop) = (server.clone(), shutdown.clone());
        let served = tokio::spawn(async move { serving.serve(listener, stop.cancelled()).await });
        let administrated = server.clone();
        tokio::spawn(async move { administrated.serve_admin(operators).await });
        Self {
            address,
            admin,
            toy,
            models,
            server,
            shutdown,
            served,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address, self.toy.digest()).await.unwrap()
    }

    /// A WebSocket on which nothing was said yet.
    pub async fn socket(&self) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/v1/infer", self.address);
        tokio_tungstenite::client_async(url, stream).await.unwrap().0
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        http(self.address, "GET", path, headers).await
    }

    /// Fails unless a well-behaved client is served.
    pub async fn assert_serves(&self) {
        let mut client = self.client().await;
        assert_answers(&self.toy, &mut client, POOL1, 1).await;
    }

    /// The value of a line of `/metrics`, named with its labels; zero if there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = http(self.admin, "GET", "/metrics", &[]).await.text();
        let lines = text.lines().filter_map(|it| it.rsplit_once(' '));
        let value = lines.filter(|it| it.0 == name).map(|it| it.1.parse().unwrap()).next();
        value.unwrap_or_default()
    }

    /// Waits until no client is connected.
    pub async fn wait_until_alone(&self) {
        self.wait_for_connections(1.0).await;
    }

    /// Waits until so many connections are left, the operator's own included.
    pub async fn wait_for_connections(&self, left: f64) {
        let waiting = async {
            while self.metric("edge_connections").await > left {
                tokio::task::yield_now().await;
            }
        };
        within(waiting).await;
    }
}

/// Asks for one frame and compares the answer with what the toy knows.
pub async fn assert_answers(toy: &Toy, client: &mut Client, point: u16, seed: u64) {
    let payload = toy.payload(point, seed).unwrap();
    let event = within(client.ask(point, &payload)).await.unwrap();
    let split_core::session::Event::Result(result) = event else {
        panic!("a result is expected, not {event:?}")
    };
    let expected = toy.answer(point, &payload).unwrap();
    let classes = |top: &[split_core::wire::ClassProbability]| top.iter().map(|it| it.class).collect::<Vec<_>>();
    assert_eq!(classes(&result.top), classes(&expected), "point {point}");
    for (got, expected) in result.top.iter().zip(&expected) {
        assert!(
            (got.probability - expected.probability).abs() < 1e-5,
            "{got:?} is not {expected:?}"
        );
    }
}

/// Reads until the server has said why it ends the connection, and has closed it.
pub async fn refusal(socket: &mut WebSocketStream<TcpStream>) -> (Option<ErrorCode>, CloseCode) {
    let mut code = None;
    loop {
        match within(socket.next()).await.expect("a Close before the end").unwrap() {
            Message::Binary(bytes) => {
                if let ServerMessage::Error {
                    id: None,
                    code: it,
                    text,
                } = ServerMessage::decode(&bytes).unwrap()
                {
                    assert!(!text.is_empty());
                    code = Some(it);
                }
            }
            Message::Close(frame) => return (code, frame.expect("a Close with a code").code),
            _ => {}
        }
    }
}

/// A message as the WebSocket carries it.
pub fn binary(message: &ClientMessage<'_>) -> Message {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    Message::Binary(bytes.into())
}

/// Fails instead of hanging.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(HANGS, future).await.expect("the edge worker hangs")
}

pub async fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub struct Response {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    /// Reads one response; the connection may stay open behind it.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin), with_body: bool) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        let headers: HashMap<_, _> = lines.map(header).collect();
        let length = headers.get("content-length").filter(|_| with_body && status != 304);
        let mut body = vec![0; length.map_or(0, |it| it.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        Self { status, headers, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// One request on a connection of its own, exactly as given: no path is tidied up.
pub async fn http(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = request(address, method, path, headers);
    stream.write_all(request.as_bytes()).await.unwrap();
    within(Response::read(&mut stream, method != "HEAD")).await
}

/// The head of a request; its host is the address, unless another one is given.
fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if headers.iter().all(|it| it.0 != "host") {
        request += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request + "\r\n"
}

/// Asks for an upgrade to a WebSocket that is refused.
pub async fn refused_upgrade(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    http(address, "GET", path, &upgrading(headers)).await
}

/// Asks for a WebSocket; returns the answer, and what keeps the connection open.
pub async fn upgrade(address: SocketAddr, headers: &[(&str, &str)]) -> (Response, TcpStream) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = request(address, "GET", "/v1/infer", &upgrading(headers));
    stream.write_all(request.as_bytes()).await.unwrap();
    let response = within(Response::read(&mut stream, true)).await;
    (response, stream)
}

/// The headers of a handshake, unless others of their names are given.
fn upgrading<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let missing = usual
        .into_iter()
        .filter(|it| headers.iter().all(|given| given.0 != it.0));
    missing.chain(headers.iter().copied()).collect()
}
