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
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
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
/// Of those beyond the cap, as many are told at once.
const MAX_REFUSALS: usize = 64;
/// How long one of them has to take the answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The answer.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// What is served on a listener, and until when.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Answers the requests.
    pub(crate) routes: BoxedFilter<(Response,)>,
    /// Limits and counters.
    pub(crate) state: Arc<State>,
    /// Cancelled when no more connections are to be accepted and those there are to end.
    pub(crate) stop: CancellationToken,
    /// Every connection.
    pub(crate) tasks: TaskTracker,
}

impl Endpoint {
    /// Accepts connections until it is stopped.
    pub(crate) async fn accept(self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(
            self.state.config.limits.connections.min(Semaphore::MAX_PERMITS),
        ));
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => self.admit(stream, address.ip(), permit),
                    Err(_) => self.refuse(stream, &refusals),
                },
                Err(error) => pause(&error).await,
            }
        }
    }

    fn admit(&self, stream: TcpStream, address: IpAddr, permit: OwnedSemaphorePermit) {
        self.state.metrics.connections.inc();
        let open = self.state.metrics.connections.clone();
        let connection = Arc::new(Connection { _permit: permit, open });
        let serving = self.clone().serve(stream, Peer { address, connection });
        self.tasks.spawn(serving);
    }

    /// Tells a few of those beyond the cap; the others are dropped.
    fn refuse(&self, stream: TcpStream, refusals: &Arc<Semaphore>) {
        self.state.metrics.refused.inc();
        if let Ok(permit) = refusals.clone().try_acquire_owned() {
            self.tasks.spawn(async move {
                let _ = timeout(REFUSAL_TIMEOUT, say_full(stream)).await;
                drop(permit);
            });
        }
    }

    async fn serve(self, stream: TcpStream, peer: Peer) {
        // Answers are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let routes = TowerToHyperService::new(warp::service(self.routes));
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            routes.call(request)
        });
        let limits = &self.state.config.limits;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = timeout(MAX_HTTP_TIME, connection.as_mut()) => result,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(limits.drain_timeout, connection.as_mut()).await
            }
        };
        if let Ok(Err(error)) = result {
            tracing::debug!(%error, "an HTTP connection failed");
        }
    }
}

async fn say_full(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(FULL).await?;
    stream.shutdown().await?;
    // Closing a socket with unread bytes would reset it and take the answer along.
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// A peer that went away before it was accepted costs nothing; when file descriptors run out, waiting lets some be closed.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
        sleep(Duration::from_millis(100)).await;
    }
}
