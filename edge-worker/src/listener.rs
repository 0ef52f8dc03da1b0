//! Accepts connections, within the cap, and speaks HTTP/1.1 on them.
//!
//! Not through `warp::serve`: that has no header timeout and no cap, gives up a drain at the WebSockets, and keeps the peer's
//! address to itself. Its filters run as a service all the same.

use std::{
    io,
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

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
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warp::{filters::BoxedFilter, reply::Response};

use crate::{Config, limits::OpenConnection, server::State, session::around};

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
    _of_address: Option<OpenConnection>,
    open: IntGauge,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Head of a request, with its buffer.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Connections that operators may have open: what clients use up is not theirs.
const OPERATORS: usize = 64;
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
    /// How many connections there may be.
    pub(crate) places: Places,
    /// Cancelled when no more connections are to be accepted and those there are to end.
    pub(crate) stop: CancellationToken,
    /// Every connection.
    pub(crate) tasks: TaskTracker,
}

/// How many connections an endpoint takes.
#[derive(Clone)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    /// Whether one address has a share of them. Behind a proxy all connections have its address, so only the WebSockets count, by what it says.
    by_address: bool,
}

impl Places {
    /// As many as the limits say.
    pub(crate) fn of_clients(config: &Config) -> Self {
        Self {
            all: Arc::new(Semaphore::new(config.limits.connections.min(Semaphore::MAX_PERMITS))),
            by_address: config.trusted_proxies.count == 0,
        }
    }

    /// A few, whatever clients do.
    pub(crate) fn of_operators() -> Self {
        Self {
            all: Arc::new(Semaphore::new(OPERATORS)),
            by_address: false,
        }
    }
}

impl Endpoint {
    /// Accepts connections until it is stopped.
    pub(crate) async fn accept(self, listener: TcpListener) {
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => match self.place(address.ip()) {
                    Some(connection) => self.admit(stream, address.ip(), connection),
                    None => self.refuse(stream, &refusals),
                },
                Err(error) => pause(&error).await,
            }
        }
    }

    /// A place for a connection from this address, if there is one.
    fn place(&self, address: IpAddr) -> Option<Connection> {
        let permit = self.places.all.clone().try_acquire_owned().ok()?;
        let of_address = match self.places.by_address {
            true => Some(self.state.addresses.connect(address, Instant::now())?),
            false => None,
        };
        let open = self.state.metrics.connections.clone();
        open.inc();
        Some(Connection {
            _permit: permit,
            _of_address: of_address,
            open,
        })
    }

    fn admit(&self, stream: TcpStream, address: IpAddr, connection: Connection) {
        let connection = Arc::new(connection);
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
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.state.config.limits.stall_timeout));
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
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let aged = sleep(around(limits.max_age));
        // What is being answered is answered to its end, however long that takes a peer that goes on reading.
        let result = tokio::select! {
            result = connection.as_mut() => Ok(result),
            () = aged => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection.as_mut() => Ok(result),
                    () = self.stop.cancelled() => timeout(limits.drain_timeout, connection.as_mut()).await,
                }
            }
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
    // Closing a socket with unread bytes would reset it and take the answer along. More than a request is not read of one that goes on sending.
    let mut unread = [0; 1024];
    for _ in 0..MAX_HEAD_BYTES / unread.len() {
        if stream.read(&mut unread).await? == 0 {
            break;
        }
    }
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
