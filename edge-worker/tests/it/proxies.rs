//! The proxies of `deploy/` in front of edge workers, for real: TLS, forged headers, edge workers that come and go.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use rustix::process::Signal;
use split_core::{Digest, session::Event};
use split_tests::{
    client::Client,
    proxy::{HOST, Kind, Proxy},
    toy::{POOL1, Toy},
};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::sleep,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    process::{Program, command, series},
    support::{Response, http, within},
};

/// What is the same for all clients of one run.
struct Scene {
    front: SocketAddr,
    tls: TlsConnector,
    manifest: Digest,
    /// Payloads and the class that is their answer.
    frames: Vec<(Vec<u8>, u16)>,
    stop: CancellationToken,
    from_edge: AtomicUsize,
    on_device: AtomicUsize,
}

const CLIENTS: u8 = 16;
/// Frames of one client that are on their way at once.
const IN_FLIGHT: usize = 3;

impl Scene {
    fn new(proxy: &Proxy, toy: &Toy) -> Self {
        let frame = |seed| {
            let payload = toy.payload(POOL1, seed).unwrap();
            let class = toy.answer(POOL1, &payload).unwrap()[0].class;
            (payload, class)
        };
        Self {
            front: proxy.address,
            tls: trusting(proxy),
            manifest: toy.digest(),
            frames: (0..32).map(frame).collect(),
            stop: CancellationToken::new(),
            from_edge: AtomicUsize::new(0),
            on_device: AtomicUsize::new(0),
        }
    }

    async fn connect(&self, from: Ipv4Addr) -> Option<Client<TlsStream<TcpStream>>> {
        let stream = connect(&self.tls, self.front, from).await.ok()?;
        Client::over(stream, HOST, self.manifest, None).await.ok()
    }

    /// Shows frame after frame and returns how many results each got.
    async fn show_frames(self: Arc<Self>, from: Ipv4Addr) -> Vec<usize> {
        let mut results = Vec::new();
        while !self.stop.is_cancelled() {
            match self.connect(from).await {
                Some(client) => self.use_connection(client, &mut results).await,
                None => {
                    let frame = self.new_frame(&mut results);
                    self.run_on_device(frame, &mut results);
                    // About what a device takes for it.
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
        results
    }

    /// Until the connection ends; what it still owed then runs on the device.
    async fn use_connection(&self, mut client: Client<TlsStream<TcpStream>>, results: &mut Vec<usize>) {
        let mut due = HashMap::new();
        loop {
            while due.len() < IN_FLIGHT && !self.stop.is_cancelled() {
                let frame = self.new_frame(results);
                match client.infer(POOL1, &self.frame(frame).0).await {
                    Ok(id) => due.insert(id, frame),
                    Err(_) => return self.end(due.into_values().chain([frame]), results),
                };
            }
            if due.is_empty() {
                return;
            }
            match client.next().await {
                Ok(Event::Result(result)) => {
                    let frame = due.remove(&result.id).expect("an answer to what was asked");
                    assert_eq!(result.top[0].class, self.frame(frame).1);
                    results[frame] += 1;
                    self.from_edge.fetch_add(1, Ordering::Relaxed);
                }
                Ok(other) => panic!("a result is expected, not {other:?}"),
                Err(_) => return self.end(due.into_values(), results),
            }
        }
    }

    fn end(&self, due: impl Iterator<Item = usize>, results: &mut [usize]) {
        due.for_each(|it| self.run_on_device(it, results));
    }

    fn new_frame(&self, results: &mut Vec<usize>) -> usize {
        results.push(0);
        results.len() - 1
    }

    fn frame(&self, frame: usize) -> &(Vec<u8>, u16) {
        &self.frames[frame % self.frames.len()]
    }

    fn run_on_device(&self, frame: usize, results: &mut [usize]) {
        results[frame] += 1;
        self.on_device.fetch_add(1, Ordering::Relaxed);
    }
}

/// Trusts the proxy's own certificate.
fn trusting(proxy: &Proxy) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(proxy.certificate.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// An address of this machine: proxies spread clients by address, where there is no cookie.
fn client_address(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, client)
}

/// A TLS connection to the proxy.
async fn connect(tls: &TlsConnector, front: SocketAddr, from: Ipv4Addr) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(front).await?;
    stream.set_nodelay(true)?;
    tls.connect(HOST.try_into().unwrap(), stream).await
}

fn edge_program(models: &TempDir, address: Option<SocketAddr>) -> Program {
    let mut command = command(models.path());
    // All clients have the address of this machine.
    command.args(["--trusted-proxies", "1", "--threads", "1"]);
    command.args(["--new-sockets-per-second", "100000", "--messages-per-second", "1000000"]);
    if let Some(address) = address {
        command.env("EDGE_WORKER_LISTEN", address.to_string());
    }
    Program::start(command)
}

/// Waits until an edge worker has answered this many frames more.
async fn wait_for_results(edge: &Program, more: f64) {
    let results = async || {
        let text = http(edge.admin, "GET", "/metrics", &[]).await.text();
        let line = text.lines().find(|it| it.starts_with("edge_results_total{"));
        line.map_or(0.0, |it| it.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
    };
    let goal = results().await + more;
    while results().await < goal {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn check_every_frame_gets_one_result(kind: Kind) {
    let (toy, models) = series();
    let mut first = edge_program(&models, None);
    let second = edge_program(&models, None);
    let proxy = Proxy::start(kind, [first.address, second.address]).unwrap();
    let scene = Arc::new(Scene::new(&proxy, &toy));
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|it| tokio::spawn(scene.clone().show_frames(client_address(it))))
        .collect();

    within(wait_for_results(&first, 100.0)).await;
    within(wait_for_results(&second, 100.0)).await;
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    within(wait_for_results(&second, 500.0)).await;
    let first = edge_program(&models, Some(first.address));
    second.signal(Signal::TERM);
    assert_eq!(second.exit().await.code(), Some(0));
    within(wait_for_results(&first, 500.0)).await;
    scene.stop.cancel();

    let results: Vec<usize> = within(join_all(clients))
        .await
        .into_iter()
        .flat_map(|it| it.unwrap())
        .collect();
    assert!(results.iter().all(|it| *it == 1), "every frame has one result");
    let [from_edge, on_device] = [&scene.from_edge, &scene.on_device].map(|it| it.load(Ordering::Relaxed));
    assert_eq!(from_edge + on_device, results.len());
    println!("{from_edge} frames from the edge, {on_device} on the device");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: apt-get install nginx-light"]
async fn behind_nginx_every_frame_gets_one_result_whatever_happens_to_the_edge_workers() {
    check_every_frame_gets_one_result(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Caddy: apt-get install caddy"]
async fn behind_caddy_every_frame_gets_one_result_whatever_happens_to_the_edge_workers() {
    check_every_frame_gets_one_result(Kind::Caddy).await;
}

/// Asks for a WebSocket as a browser does; returns the status, and what keeps the connection open.
async fn handshake(proxy: &Proxy, from: Ipv4Addr, headers: &[(&str, &str)]) -> (u16, TlsStream<TcpStream>) {
    let mut stream = connect(&trusting(proxy), proxy.address, from).await.unwrap();
    let mut request = "GET /v1/infer HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_owned();
    if headers.iter().all(|it| it.0 != "host") {
        request += &format!("host: {HOST}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
    let response = within(Response::read(&mut stream, true)).await;
    (response.status, stream)
}

/// Neither the page's origin nor the client's address can be made up.
async fn check_forged_headers_change_nothing(kind: Kind) {
    let (_, models) = series();
    let mut command = command(models.path());
    command.args(["--trusted-proxies", "1", "--host", HOST, "--sockets-per-address", "2"]);
    let edge = Program::start(command);
    let proxy = Proxy::start(kind, [edge.address; 2]).unwrap();
    let [one, other] = [1, 2].map(client_address);

    let evil = ("origin", "https://evil.example");
    for forged in [
        vec![evil],
        vec![evil, ("x-forwarded-host", "evil.example")],
        vec![evil, ("forwarded", "host=evil.example")],
        vec![("origin", "null")],
    ] {
        assert_eq!(handshake(&proxy, one, &forged).await.0, 403, "{forged:?}");
    }

    // A page that had its own name pointed at the proxy.
    let pointed = [("host", "evil.example"), evil];
    assert_ne!(handshake(&proxy, one, &pointed).await.0, 101);

    let own = ("origin", "https://edge.example.org");
    let mut open = Vec::new();
    for (forged, expected) in [
        (vec![own, ("x-forwarded-for", "10.0.0.1")], 101),
        (
            vec![own, ("x-forwarded-for", "10.0.0.2"), ("x-real-ip", "10.0.0.2")],
            101,
        ),
        (vec![own, ("x-forwarded-for", "10.0.0.3")], 429),
        (vec![own, ("forwarded", "for=10.0.0.4")], 429),
        (
            vec![
                own,
                ("x-forwarded-for", "10.0.0.5, 10.0.0.6"),
                ("x-forwarded-for", "10.0.0.7"),
            ],
            429,
        ),
        (vec![own, ("x-forwarded-for", "127.0.1.2")], 429),
    ] {
        let (status, stream) = handshake(&proxy, one, &forged).await;
        assert_eq!(status, expected, "{forged:?}");
        open.push(stream);
    }
    // It was the client's share, not the proxy's.
    assert_eq!(handshake(&proxy, other, &[own]).await.0, 101);
}

#[tokio::test]
#[ignore = "needs nginx: apt-get install nginx-light"]
async fn behind_nginx_forged_headers_change_nothing() {
    check_forged_headers_change_nothing(Kind::Nginx).await;
}

#[tokio::test]
#[ignore = "needs Caddy: apt-get install caddy"]
async fn behind_caddy_forged_headers_change_nothing() {
    check_forged_headers_change_nothing(Kind::Caddy).await;
}
