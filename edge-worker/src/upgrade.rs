//! From an HTTP request to a WebSocket.
//!
//! Not through `warp::ws`: that fixes a read buffer of 128 KiB for each socket and an unlimited write buffer, and does not show
//! the message that was too long.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
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
    origin::{is_listed, is_named, is_own},
    refusals::Reason,
    routes::misdirected,
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
    let now = Instant::now();
    let address = state.client_address(headers, peer.address);
    let refused = |refusal, status, text: &'static str| {
        let origin = headers.get(header::ORIGIN);
        let details = format_args!("{text} (from {address}, origin {origin:?})");
        state.metrics.refusals.note(refusal, now, details);
        warp::reply::with_status(text, status).into_response()
    };
    let Some(on_upgrade) = on_upgrade.filter(|_| is_version_13(headers)) else {
        let mut response = refused(
            Reason::Version,
            StatusCode::UPGRADE_REQUIRED,
            "connect with a WebSocket, version 13",
        );
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    let Some(key) = key(headers) else {
        let text = "the Sec-WebSocket-Key is not 16 bytes in base64";
        return refused(Reason::Key, StatusCode::BAD_REQUEST, text);
    };
    if !is_named(headers, &state.config.hosts) {
        return misdirected(state, headers);
    }
    if !is_own(headers) && !is_listed(headers, &state.config.allowed_origins) {
        let text = "pages of this origin may not connect: the operator allows it with --allow-origin";
        return refused(Reason::Origin, StatusCode::FORBIDDEN, text);
    }
    if state.draining.is_cancelled() {
        return refused(
            Reason::Draining,
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is going away",
        );
    }
    if name.as_deref().is_some_and(|it| state.catalog().named(it).is_none()) {
        return refused(
            Reason::Series,
            StatusCode::NOT_FOUND,
            "no such series: GET /models lists them",
        );
    }
    let Some(open) = state.addresses.open(address, now) else {
        state.metrics.refused.inc();
        let text = "too many connections from this address";
        let mut response = refused(Reason::Address, StatusCode::TOO_MANY_REQUESTS, text);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
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

/// Whether the request is one for a WebSocket of the version that is spoken here.
fn is_version_13(headers: &HeaderMap) -> bool {
    let is = |name, value: &str| {
        headers
            .get(name)
            .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    is(header::UPGRADE, "websocket") && is(header::SEC_WEBSOCKET_VERSION, "13")
}

/// What to answer to the key of a handshake, if that is one: RFC 6455, section 4.1.
fn key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let nonce = BASE64_STANDARD.decode(key).ok()?;
    (nonce.len() == 16).then(|| derive_accept_key(key))
}
