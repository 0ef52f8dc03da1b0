//! What `deploy/` holds, for real.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command},
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
    toy::{POOL1, Toy},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    process::{Program, command, series},
    support::{Edge, http, within},
};

fn deployed(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    fs::read_to_string(folder.join(file)).unwrap()
}

/// Every row of the table of faults ends with the tests that show the answer.
#[test]
fn the_table_of_faults_names_tests_that_exist() {
    let table = deployed("../docs/faults.md");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src", "tests/it", "../trainer/tests/it"]
        .iter()
        .flat_map(|it| fs::read_dir(here.join(it)).unwrap())
        .map(|it| fs::read_to_string(it.unwrap().path()).unwrap())
        .collect();
    let rows = table
        .lines()
        .filter(|it| it.starts_with("| ") && !it.starts_with("| ---") && !it.starts_with("| fault"));
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for test in tests.split(", ").map(|it| it.trim_matches('`')) {
            assert!(sources.contains(&format!("fn {test}()")), "{test}");
        }
    }
}

/// Names of metrics in a text, without the endings that histograms add.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    let endings = ["_bucket", "_sum", "_count"];
    words
        .filter(|it| it.starts_with("edge_") && !it.ends_with("_mean"))
        .map(|it| endings.iter().find_map(|ending| it.strip_suffix(ending)).unwrap_or(it))
        .collect()
}

#[tokio::test]
async fn the_dashboard_and_the_autoscaler_name_metrics_that_exist() {
    let edge = Edge::with(&Default::default(), |it| it.limits.credit = 1).await;
    edge.assert_serves().await;
    // Counters by label exist from their first event on.
    let mut client = edge.client().await;
    client.ask(u16::MAX, b"x").await.unwrap();
    let exported = http(edge.admin, "GET", "/metrics", &[]).await.text();
    let exported = metrics_in(&exported);
    for file in ["grafana-dashboard.json", "kubernetes/prometheus-adapter.yaml"] {
        let text = deployed(file);
        let named = metrics_in(&text);
        assert!(!named.is_empty());
        let unknown: Vec<_> = named
            .difference(&exported)
            .filter(|it| **it != "edge_busy_total")
            .collect();
        assert!(
            unknown.is_empty(),
            "{file} names {unknown:?}, which the edge worker does not export"
        );
    }
}

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

/// Name in the certificate and in `nginx.conf`.
const HOST: &str = "edge.example.org";
const CLIENTS: usize = 16;
/// Frames of one client that are on their way at once.
const IN_FLIGHT: usize = 3;

impl Scene {
    fn new(nginx: &Nginx, toy: &Toy) -> Self {
        let frame = |seed| {
            let payload = toy.payload(POOL1, seed).unwrap();
            let class = toy.answer(POOL1, &payload).unwrap()[0].class;
            (payload, class)
        };
        Self {
            front: nginx.address,
            tls: nginx.tls.clone(),
            manifest: toy.digest(),
            frames: (0..32).map(frame).collect(),
            stop: CancellationToken::new(),
            from_edge: AtomicUsize::new(0),
            on_device: AtomicUsize::new(0),
        }
    }

    async fn connect(&self) -> Option<Client<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(self.front).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let stream = self.tls.connect(HOST.try_into().unwrap(), stream).await.ok()?;
        Client::over(stream, HOST, self.manifest, None).await.ok()
    }

    /// Shows frame after frame and returns how many results each got.
    async fn show_frames(self: Arc<Self>) -> Vec<usize> {
        let mut results = Vec::new();
        while !self.stop.is_cancelled() {
            match self.connect().await {
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

/// nginx with `deploy/nginx.conf`; killed when dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
    tls: TlsConnector,
    _folder: TempDir,
}

impl Nginx {
    fn start(edges: [SocketAddr; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [https, plain] = [free_address(), free_address()];
        let certified = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        fs::write(folder.path().join("tls.crt"), certified.cert.pem()).unwrap();
        fs::write(folder.path().join("tls.key"), certified.signing_key.serialize_pem()).unwrap();
        let mut site = deployed("nginx.conf");
        let here = folder.path().display();
        for (deployed, tested) in [
            ("edge-1.internal:8080", edges[0].to_string()),
            ("edge-2.internal:8080", edges[1].to_string()),
            ("listen 443 ssl;", format!("listen {https} ssl;")),
            ("listen 80;", format!("listen {plain};")),
            ("/etc/nginx/tls/", format!("{here}/")),
        ] {
            assert!(site.contains(deployed), "{deployed}");
            site = site.replace(deployed, &tested);
        }
        fs::write(folder.path().join("edge.conf"), site).unwrap();
        let main = format!(
            "daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;\nevents {{}}\nhttp {{ \
             access_log off; client_body_temp_path {here}/1; proxy_temp_path {here}/2; fastcgi_temp_path {here}/3; \
             uwsgi_temp_path {here}/4; scgi_temp_path {here}/5; include {here}/edge.conf; }}\n"
        );
        fs::write(folder.path().join("main.conf"), main).unwrap();
        let mut nginx = Command::new("nginx");
        nginx.arg("-e").arg(folder.path().join("error.log"));
        nginx.arg("-c").arg(folder.path().join("main.conf"));
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            child: nginx.spawn().expect("nginx, from the system's packages"),
            address: https,
            tls: Arc::new(tls).into(),
            _folder: folder,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only when it is asked to.
        let pid = rustix::process::Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn edge_program(models: &TempDir, address: Option<SocketAddr>) -> Program {
    let mut command = command(models.path());
    // All clients have the address of this machine.
    command.args(["--trust-forwarded", "--threads", "1"]);
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: apt-get install nginx-light"]
async fn behind_nginx_every_frame_gets_one_result_whatever_happens_to_the_edge_workers() {
    let (toy, models) = series();
    let mut first = edge_program(&models, None);
    let second = edge_program(&models, None);
    let nginx = Nginx::start([first.address, second.address]);
    let scene = Arc::new(Scene::new(&nginx, &toy));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(scene.clone().show_frames()))
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
