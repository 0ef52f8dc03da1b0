//! Which URL answers what.

use std::{sync::Arc, time::Instant};

use hyper::upgrade::OnUpgrade;
use serde::Deserialize;
use warp::{
    Filter, Rejection, Reply,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use crate::{
    assets::Asset,
    listener::Peer,
    origin::{AllowedOrigin, is_listed, is_named},
    refusals::Reason,
    server::State,
    upgrade::upgrade,
};

#[derive(Deserialize)]
struct InferQuery {
    series: Option<String>,
}

/// Everything that clients use.
pub(crate) fn public(state: Arc<State>) -> BoxedFilter<(Response,)> {
    let with = {
        let state = state.clone();
        warp::any().map(move || state.clone())
    };
    let read = warp::get().or(warp::head()).unify();
    let infer = warp::path!("v1" / "infer")
        .and(warp::get())
        .and(with.clone())
        .and(warp::query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .and(warp::ext::optional::<OnUpgrade>())
        .map(|state, query: InferQuery, headers, peer, on_upgrade| {
            upgrade(&state, query.series, &headers, &peer, on_upgrade)
        });
    let files = read
        .and(warp::path::full())
        .and(with)
        .and(warp::header::headers_cloned())
        .map(|path: FullPath, state: Arc<State>, headers| {
            if !is_named(&headers, &state.config.hosts) {
                return misdirected(&state, &headers);
            }
            let response = file(&state, path.as_str(), &headers);
            shared(response, &headers, &state.config.allowed_origins)
        });
    health(state).or(infer).unify().or(files).unify().map(secured).boxed()
}

/// What an operator uses, on a listener of its own.
pub(crate) fn admin(state: Arc<State>) -> BoxedFilter<(Response,)> {
    let metrics = {
        let state = state.clone();
        warp::path!("metrics").and(warp::get()).map(move || metrics(&state))
    };
    health(state).or(metrics).unify().boxed()
}

fn health(state: Arc<State>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let live = warp::path!("healthz").map(|| "ok".into_response());
    let ready = warp::path!("readyz").map(move || match state.draining.is_cancelled() {
        false => "ready".into_response(),
        true => warp::reply::with_status("draining", StatusCode::SERVICE_UNAVAILABLE).into_response(),
    });
    warp::get().or(warp::head()).unify().and(live.or(ready).unify())
}

fn metrics(state: &State) -> Response {
    let wait = i64::try_from(state.pool.backlog().as_micros()).unwrap_or(i64::MAX);
    state.metrics.predicted_wait.set(wait);
    state
        .metrics
        .waiting
        .set(i64::try_from(state.pool.waiting()).unwrap_or(i64::MAX));
    match state.metrics.text() {
        Ok(text) => warp::reply::with_header(text, header::CONTENT_TYPE, "text/plain; version=0.0.4").into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Looks a path up among the files in memory.
fn file(state: &State, path: &str, headers: &HeaderMap) -> Response {
    let catalog = state.catalog();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let found: Option<Asset> = match parts[..] {
        ["v1", "manifest.json"] => catalog.default().map(|it| it.json.clone()),
        ["models"] => Some(catalog.list.clone()),
        ["models", series, "manifest.json"] => catalog.named(series).map(|it| it.json.clone()),
        ["v1", folder @ ("segments" | "codecs"), file] | ["models", _, folder @ ("segments" | "codecs"), file] => {
            catalog.file(&format!("{folder}/{file}"))
        }
        _ => catalog.page.get(path).cloned(),
    };
    match found {
        Some(asset) => asset.respond(headers),
        None if path == "/" && catalog.page.is_empty() => {
            missing("this edge worker serves no page: start it with --web")
        }
        None => missing("not found"),
    }
}

/// Lets the pages that may connect read the series, too.
fn shared(mut response: Response, request: &HeaderMap, allowed: &[AllowedOrigin]) -> Response {
    if allowed.is_empty() {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = request.get(header::ORIGIN).filter(|_| is_listed(request, allowed)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response
}

/// Answers a request for a name that is not one of this server.
pub(crate) fn misdirected(state: &State, headers: &HeaderMap) -> Response {
    let host = headers.get(header::HOST);
    state.metrics.refusals.note(
        Reason::Host,
        Instant::now(),
        format_args!("a request for the host {host:?}"),
    );
    let text = "this server has another name: the operator lists its names with --host";
    warp::reply::with_status(text, StatusCode::MISDIRECTED_REQUEST).into_response()
}

fn missing(text: &'static str) -> Response {
    warp::reply::with_status(text, StatusCode::NOT_FOUND).into_response()
}

/// What the page's scripts may do: only what this server sent, WebAssembly included, and workers that the bundler wraps in a blob.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; \
     img-src 'self' blob: data: https:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Sent with every answer. The two cross-origin policies isolate the page, which gives its clocks their full resolution.
const SECURITY_HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=(self), microphone=(), geolocation=()"),
];

fn secured(mut response: Response) -> Response {
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
