//! From an HTTP request to a WebSocket.
//!
//! Not through `warp::ws`: that fixes a read buffer of 128 KiB for each socket and an unlimited write buffer, and does not show
//! the message that was too long.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use warp::{
    Reply,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{
    gate::Gate,
    limits::{Address, Meter},
    listener::Peer,
    server::State,
    session,
};

/// Read buffer of a socket. A payload is a few hundred bytes; a longer message grows it for as long as it takes.
pub(crate) const READ_BUFFER_BYTES: usize = 4096;
/// Unsent answers of a socket: each is waited for, so this is never reached by less than one message.
const MAX_WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// The longest message before the `Welcome`: a `Hello` with a token of 1,024 bytes.
const MAX_HELLO_BYTES: usize = 1024 + 39;

/// Answers `GET /v1/infer`.
pub(crate) fn upgrade(
    state: &Arc<State>,
    name: Option<String>,
    headers: &HeaderMap,
    peer: &Peer,
    on_upgrade: Option<OnUpgrade>,
) -> Response {
    let Some((on_upgrade, key)) = on_upgrade.zip(key(headers)) else {
        let refused = refuse(StatusCode::UPGRADE_REQUIRED, "connect with a WebSocket, version 13");
        return warp::reply::with_header(refused, header::UPGRADE, "websocket").into_response();
    };
    if !own_origin(headers) && !origin_listed(headers, &state.config.allowed_origins) {
        let text = "pages of this origin may not connect: the operator allows it with --allow-origin";
        return refuse(StatusCode::FORBIDDEN, text);
    }
    if state.draining.is_cancelled() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is going away");
    }
    if name.as_deref().is_some_and(|it| state.catalog().named(it).is_none()) {
        return refuse(StatusCode::NOT_FOUND, "no such series: GET /models lists them");
    }
    let address = client_address(state.config.trust_forwarded, headers, peer.address);
    let Some(open) = state.addresses.open(address, Instant::now()) else {
        state.metrics.refused.inc();
        let refused = refuse(StatusCode::TOO_MANY_REQUESTS, "too many connections from this address");
        return warp::reply::with_header(refused, header::RETRY_AFTER, "1").into_response();
    };
    let task = serve(state.clone(), name, on_upgrade, open.address.clone());
    let connection = peer.connection.clone();
    state.tasks.spawn(async move {
        task.await;
        drop((open, connection));
    });
    switch(key)
}

async fn serve(state: Arc<State>, name: Option<String>, on_upgrade: OnUpgrade, address: Arc<Address>) {
    // Whoever asks for an upgrade and then does not take the answer.
    let upgraded = tokio::time::timeout(UPGRADE_TIMEOUT, on_upgrade).await;
    let Ok(Ok(upgraded)) = upgraded else { return };
    let limit = state.catalog().max_message_bytes();
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let abuse = Meter::abuse(&state.config.limits, Instant::now());
    let gate = Gate::new(TokioIo::new(upgraded), address.clone(), abuse, MAX_HELLO_BYTES);
    let socket = WebSocketStream::from_raw_socket(gate, Role::Server, Some(config)).await;
    session::run(socket, state, name, &address).await;
}

const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

fn refuse(status: StatusCode, text: &'static str) -> Response {
    warp::reply::with_status(text, status).into_response()
}

fn switch(key: String) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // Base64 is always a valid header value.
    if let Ok(key) = key.parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    response
}

/// What to answer to the handshake, if it is one of the WebSocket version that is spoken here.
fn key(headers: &HeaderMap) -> Option<String> {
    let is = |name, value: &str| {
        headers
            .get(name)
            .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    let fits = is(header::UPGRADE, "websocket") && is(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| fits)?;
    Some(derive_accept_key(key.as_bytes()))
}

/// Whether the page came from this server, or it is no page that asks: programs send no `Origin`.
fn own_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let own = origin.to_str().ok().and_then(|it| it.split_once("://"));
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    own.is_some_and(|it| Some(it.1) == host)
}

/// Whether the operator allows pages of this origin.
pub(crate) fn origin_listed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|it| it.to_str().ok());
    origin.is_some_and(|origin| allowed.iter().any(|it| it == "*" || it.eq_ignore_ascii_case(origin)))
}

fn client_address(trust_forwarded: bool, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let forwarded = headers.get_all("x-forwarded-for").into_iter().next_back();
    let last = forwarded
        .and_then(|it| it.to_str().ok())
        .and_then(|it| it.rsplit(',').next());
    match last.filter(|_| trust_forwarded).map(|it| it.trim().parse()) {
        Some(Ok(address)) => address,
        _ => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn origins() {
        let allowed = ["https://page.example".to_owned()];
        let own = ("host", "edge.example:8080");
        for (origin, expected) in [
            ("http://edge.example:8080", true),
            ("https://page.example", true),
            ("http://edge.example", false),
            ("https://edge.example.evil.example:8080", false),
            ("https://other.example", false),
            ("null", false),
        ] {
            let headers = headers(&[own, ("origin", origin)]);
            let admitted = own_origin(&headers) || origin_listed(&headers, &allowed);
            assert_eq!(admitted, expected, "{origin}");
        }
        assert!(own_origin(&headers(&[own])));
        let any = headers(&[("origin", "https://any.example")]);
        assert!(origin_listed(&any, &["*".to_owned()]));
    }

    #[test]
    fn the_clients_address_comes_from_a_trusted_proxy_only() {
        let peer = IpAddr::from([127, 0, 0, 1]);
        let forged = headers(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 3.3.3.3")]);
        assert_eq!(client_address(false, &forged, peer), peer);
        assert_eq!(client_address(true, &forged, peer), IpAddr::from([3, 3, 3, 3]));
        assert_eq!(
            client_address(true, &headers(&[("x-forwarded-for", "unknown")]), peer),
            peer
        );
    }
}
