//! Who gets a WebSocket: origins, names of the server, addresses behind proxies, and what a refusal leaves behind.

use std::fs;

use edge_worker::{Config, ForwardedHeader, TrustedProxies};
use split_tests::{client::Client, toy::Recipe};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    process::{Program, command, series},
    support::{Edge, Response, http, refused_upgrade, upgrade, within},
};

async fn edge(adjust: impl FnOnce(&mut Config)) -> Edge {
    Edge::with(&Recipe::default(), adjust).await
}

#[tokio::test]
async fn pages_of_other_origins_cannot_connect() {
    let edge = edge(|it| it.allowed_origins = vec!["https://Page.example:443".parse().unwrap()]).await;
    let own = format!("http://{}", edge.address);
    for (origin, status) in [
        ("https://page.example", 101),
        (own.as_str(), 101),
        ("https://other.example", 403),
        ("http://page.example", 403),
        ("null", 403),
    ] {
        let (response, _stream) = upgrade(edge.address, &[("origin", origin)]).await;
        assert_eq!(response.status, status, "{origin}");
        assert!(status == 101 || response.text().contains("--allow-origin"));
    }
    assert_eq!(
        edge.metric(r#"edge_handshakes_refused_total{reason="origin"}"#).await,
        3.0
    );
}

#[tokio::test]
async fn a_host_may_have_a_default_port_and_upper_case() {
    let edge = Edge::start().await;
    for (host, origin, status) in [
        ("edge.example", "https://edge.example", 101),
        ("edge.example:443", "https://edge.example", 101),
        ("Edge.Example", "https://edge.example", 101),
        ("edge.example:8443", "https://edge.example", 403),
    ] {
        let (response, _stream) = upgrade(edge.address, &[("host", host), ("origin", origin)]).await;
        assert_eq!(response.status, status, "{origin} at {host}");
    }
}

#[tokio::test]
async fn a_name_that_was_pointed_here_is_refused() {
    let edge = edge(|it| it.hosts = vec!["edge.example".parse().unwrap()]).await;
    let evil = [("host", "evil.example"), ("origin", "http://evil.example")];
    assert_eq!(refused_upgrade(edge.address, "/v1/infer", &evil).await.status, 421);
    for path in ["/", "/v1/manifest.json"] {
        let response = edge.get(path, &[("host", "evil.example:8080")]).await;
        assert_eq!(response.status, 421, "{path}");
        assert!(response.text().contains("--host"));
        assert!(!response.headers.contains_key("access-control-allow-origin"));
    }
    assert_eq!(
        edge.metric(r#"edge_handshakes_refused_total{reason="host"}"#).await,
        3.0
    );
    // Those who probe know an address, or no name at all.
    assert_eq!(
        edge.get("/readyz", &[("host", "edge-1.internal:8080")]).await.status,
        200
    );
    let own = [("host", "edge.example"), ("origin", "https://edge.example")];
    assert_eq!(upgrade(edge.address, &own).await.0.status, 101);
    edge.assert_serves().await;
}

#[tokio::test]
async fn a_share_belongs_to_the_client_that_the_proxy_names() {
    for (header, name) in [
        (ForwardedHeader::XForwardedFor, "x-forwarded-for"),
        (ForwardedHeader::Forwarded, "forwarded"),
    ] {
        let edge = edge(|it| {
            it.trusted_proxies = TrustedProxies { count: 2, header };
            it.limits.sockets_per_address = 1;
        })
        .await;
        let value = |address: &str| match header {
            ForwardedHeader::XForwardedFor => address.to_owned(),
            ForwardedHeader::Forwarded => format!("For=\"{address}\""),
        };
        let mut open = Vec::new();
        for (forged, client, status) in [
            ("1.1.1.1", "10.0.0.1:4711", 101),
            ("2.2.2.2", "10.0.0.1", 429),
            ("2.2.2.2", "[2001:db8::1]:4711", 101),
            // The same network.
            ("2.2.2.2", "[2001:db8::2]", 429),
        ] {
            let chain = [forged, client, "10.9.9.9"].map(value).join(", ");
            let (response, stream) = upgrade(edge.address, &[(name, &chain)]).await;
            assert_eq!(response.status, status, "{chain}");
            open.push(stream);
        }
        assert_eq!(
            edge.metric(r#"edge_handshakes_refused_total{reason="forwarded"}"#)
                .await,
            0.0
        );
        // Nobody is said to ask, so the proxy itself counts, and that is noted.
        let (response, _stream) = upgrade(edge.address, &[(name, &value("unknown"))]).await;
        assert_eq!(response.status, 101);
        assert_eq!(
            edge.metric(r#"edge_handshakes_refused_total{reason="forwarded"}"#)
                .await,
            1.0
        );
    }
}

#[tokio::test]
async fn a_plain_request_is_told_to_use_a_websocket() {
    let edge = Edge::start().await;
    let other_version = [("sec-websocket-version", "8")];
    for response in [
        edge.get("/v1/infer", &[]).await,
        refused_upgrade(edge.address, "/v1/infer", &other_version).await,
    ] {
        let header = |name: &str| response.headers[name].as_str();
        assert_eq!(
            (response.status, header("upgrade"), header("sec-websocket-version")),
            (426, "websocket", "13")
        );
    }
}

#[tokio::test]
async fn a_malformed_key_is_refused() {
    let edge = Edge::start().await;
    for key in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZTE=",
        "dGhlIHNhbXBsZSBub25jZQ==, x",
    ] {
        let refused = refused_upgrade(edge.address, "/v1/infer", &[("sec-websocket-key", key)]).await;
        assert_eq!(refused.status, 400, "{key}");
    }
}

/// As a proxy or a load balancer probes: often with `HEAD`, HTTP/1.0 or without a known name.
#[tokio::test]
async fn probes_of_every_kind_are_answered() {
    let edge = edge(|it| it.hosts = vec!["edge.example".parse().unwrap()]).await;
    for address in [edge.address, edge.admin] {
        for path in ["/healthz", "/readyz"] {
            let head = http(address, "HEAD", path, &[]).await;
            assert_eq!((head.status, head.body.len()), (200, 0));
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
                .await
                .unwrap();
            assert_eq!(within(Response::read(&mut stream, true)).await.status, 200);
        }
    }
}

#[tokio::test]
async fn refused_handshakes_are_logged_with_their_reason() {
    let (_, models) = series();
    let log = models.path().join("log");
    let mut command = command(models.path());
    command
        .args(["--host", "edge.example", "--trusted-proxies", "1"])
        .stderr(fs::File::create(&log).unwrap());
    let program = Program::start(command);
    let client = ("x-forwarded-for", "10.0.0.1");
    for _ in 0..20 {
        refused_upgrade(
            program.address,
            "/v1/infer",
            &[client, ("origin", "https://evil.example")],
        )
        .await;
    }
    refused_upgrade(program.address, "/v1/infer", &[client, ("host", "evil.example")]).await;
    let own = [("host", "edge.example"), ("x-forwarded-for", "nonsense")];
    upgrade(program.address, &own).await;
    let log = fs::read_to_string(log).unwrap();
    let lines = |what: &str| log.lines().filter(|it| it.contains(what)).count();
    assert_eq!(lines("https://evil.example"), 1, "one line for all of a kind: {log}");
    assert_eq!(lines("evil.example"), 2, "{log}");
    assert_eq!(lines("'nonsense' is no address"), 1, "{log}");
}

#[tokio::test]
async fn a_refused_token_leaves_a_line_without_the_token() {
    let (toy, models) = series();
    let [log, token] = ["log", "token"].map(|it| models.path().join(it));
    fs::write(&token, "open sesame").unwrap();
    let mut command = command(models.path());
    command
        .arg("--token-file")
        .arg(token)
        .args(["--log-filter", "debug"])
        .stderr(fs::File::create(&log).unwrap());
    let program = Program::start(command);
    for token in [Some("open barley"), None] {
        let stream = TcpStream::connect(program.address).await.unwrap();
        assert!(Client::over(stream, "localhost", toy.digest(), token).await.is_err());
    }
    let log = fs::read_to_string(log).unwrap();
    assert!(
        log.contains("reason=\"token\"") && log.contains("the token is wrong"),
        "{log}"
    );
    assert!(!log.contains("barley") && !log.contains("sesame"), "{log}");
}

/// Fails with this code and these words, at the start and when the configuration is only checked.
fn check_refused(arguments: &[&str], code: i32, says: &[&str]) {
    let (_, models) = series();
    for check in [&["--check-config"][..], &[]] {
        let output = command(models.path()).args(check).args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(says.iter().all(|it| error.contains(it)), "{arguments:?}: {error}");
    }
}

/// The same for a line of the configuration file.
fn check_file_refused(line: &str, says: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), line).unwrap();
    check_refused(&["--config", file.path().to_str().unwrap()], 1, says);
}

#[test]
fn what_can_match_nothing_is_refused() {
    for origin in [
        "page.example",
        "page.example:443",
        "https://page.example/app",
        "https://*.example",
        "ws://page.example",
        "null",
        "?",
        "https://.",
        "https://a..b",
        "https://page.example:0",
        "https://1.2.3",
    ] {
        check_refused(&["--allow-origin", origin], 2, &[origin, "--allow-origin"]);
        check_file_refused(&format!("allow-origin = [\"{origin}\"]"), &[origin, "allow-origin"]);
    }
    for host in ["https://edge.example", "edge.example:443", "a b", ".", "1.2.3"] {
        check_refused(&["--host", host], 2, &[host, "--host"]);
        check_file_refused(&format!("host = [\"{host}\"]"), &[host, "host"]);
    }
}

#[test]
fn a_limit_of_zero_is_refused() {
    for setting in [
        "--credit",
        "--connections",
        "--sockets-per-address",
        "--new-sockets-per-second",
        "--messages-per-second",
        "--bytes-per-second",
        "--connections-per-address",
        "--messages-per-address",
        "--held-bytes",
        "--idle-seconds",
    ] {
        check_refused(&[setting, "0"], 1, &[setting, "at least 1"]);
    }
}
