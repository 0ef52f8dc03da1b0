//! Accepts connections, within the cap, and speaks HTTP/1.1 on them.
//!
//! Not through `warp::serve`: that has no header timeout and no cap, gives up a drain at the WebSockets, and keeps the peer's
//! address to itself. Its filters run as a service all the same.

use std::{io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus::IntGauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use warp::{filters::BoxedFilter, reply::Response};

use crate::server::State;

/// Who is at the other end of a connection; part of every request.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Address of the socket, which may be a proxy's.
    pub(crate) address: IpAddr,
    /// Keeps the connection counted, also after it became a WebSocket.
    pub(crate) connection: Arc<Connection>,
}

/// Counts as one of the connections that may be open.
pub(crate) struct Connection {
    _permit: OwnedSemaphorePermit,
    open: IntGauge,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Head of a request, with its buffer.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The longest life of a connection that does not become a WebSocket: enough for the largest file on the slowest link in use.
const MAX_HTTP_TIME: Duration = Duration::from_secs(300);
/// To those beyond the cap.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// Serves `routes` until the state drains; then no connection is accepted any more.
pub(crate) async fn accept(listener: TcpListener, routes: BoxedFilter<(Response,)>, state: Arc<State>) {
    let permits = Arc::new(Semaphore::new(state.config.limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => match permits.clone().try_acquire_owned() {
                Ok(permit) => {
                    state.metrics.connections.inc();
                    let open = state.metrics.connections.clone();
                    let connection = Arc::new(Connection { _permit: permit, open });
                    let address = address.ip();
                    let task = serve(stream, Peer { address, connection }, routes.clone(), state.clone());
                    state.tasks.spawn(task);
                }
                Err(_) => {
                    state.metrics.refused.inc();
                    // Nobody waits for this one: what does not fit the socket's empty buffer is lost.
                    let _ = stream.try_write(FULL);
                }
            },
            Err(error) => pause(&error).await,
        }
    }
}

/// A peer that went away before it was accepted costs nothing; when file descriptors run out, waiting lets some be closed.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn serve(stream: TcpStream, peer: Peer, routes: BoxedFilter<(Response,)>, state: Arc<State>) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.config.limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = timeout(MAX_HTTP_TIME, connection.as_mut()) => result,
        () = state.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(state.config.limits.drain_timeout, connection.as_mut()).await
        }
    };
    if let Ok(Err(error)) = result {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}
