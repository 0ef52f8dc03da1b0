//! The server: what all connections share, and its life from start to drain.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Instant,
};

use arc_swap::ArcSwap;
use split_core::Digest;
use subtle::ConstantTimeEq;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warp::http::HeaderMap;

use crate::{
    Config, PageError, SeriesError, SettingError,
    catalog::Catalog,
    lease::Lease,
    limits::Addresses,
    listener::{Endpoint, Places},
    metrics::Metrics,
    page::Page,
    pool::Pool,
    refusals::Reason,
    request::Request,
    routes,
};

/// An edge worker with its series loaded. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Server {
    state: Arc<State>,
}

/// What all connections share.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) pool: Pool<Request>,
    computing: Once,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) addresses: Addresses,
    /// Cancelled when the server is to end.
    pub(crate) draining: CancellationToken,
    /// Every connection.
    pub(crate) tasks: TaskTracker,
    /// What a reload replaces as a whole.
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    catalog: Arc<Catalog>,
    token: Token,
}

/// What clients must present, if anything.
#[derive(Clone)]
struct Token {
    /// Of the token, so that comparing takes the same time for every guess, of whatever length.
    digest: Option<Digest>,
    lease: Lease,
}

/// Why a server cannot start, or cannot reload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A series is missing or damaged.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// The page is missing.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The token cannot be read.
    #[error("cannot read the token from '{}': {cause}", .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The token is not one.
    #[error("the token in '{}' must have 1 to 1024 bytes", .path.display())]
    TokenLength {
        /// The file.
        path: PathBuf,
    },
    /// A setting that cannot be meant.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The counters contradict each other.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Server {
    /// Loads and verifies everything. Takes a moment: every tail runs once.
    pub fn new(config: Config) -> Result<Self, StartError> {
        config.limits.check()?;
        let loaded = Loaded::load(&config, None)?;
        let limits = &config.limits;
        let addresses = Addresses::new(limits);
        let pool = Pool::new(config.threads.get(), limits.deadline);
        let state = State {
            pool,
            computing: Once::new(),
            metrics: Arc::new(Metrics::new()?),
            addresses,
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
            loaded: ArcSwap::from_pointee(loaded),
            config,
        };
        for series in state.catalog().series() {
            let points = series.manifest.operating_points.len();
            tracing::info!(series = series.manifest.series, digest = %series.digest, points, "series loaded");
        }
        Ok(Self { state: Arc::new(state) })
    }

    /// Loads page, series and token again; after an error everything stays as it was.
    ///
    /// Connections go on with the series and the token that they began with for at most [`Limits::grace`](crate::Limits::grace). What
    /// is the same as before takes no memory again. Takes as long as a start, and blocks: call it from a thread of its own.
    pub fn reload(&self) -> Result<(), StartError> {
        let older = self.state.loaded.load();
        let loaded = Loaded::load(&self.state.config, Some(&older));
        let loaded = loaded.inspect_err(|_| self.state.metrics.reload_failures.inc())?;
        self.state.loaded.store(Arc::new(loaded));
        self.state.metrics.reloads.inc();
        Ok(())
    }

    /// Serves clients until `shutdown` completes. Then accepts no more connections, answers what is in flight, closes every
    /// WebSocket with code 1001, and returns after at most the drain timeout.
    ///
    /// A server that was shut down stays so.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let endpoint = Endpoint {
            routes: routes::public(self.state.clone()),
            state: self.state.clone(),
            places: Places::of_clients(&self.state.config),
            stop: self.state.draining.clone(),
            tasks: self.state.tasks.clone(),
        };
        self.state.compute();
        let accepting = tokio::spawn(endpoint.accept(listener));
        shutdown.await;
        tracing::info!("draining");
        self.state.draining.cancel();
        let _ = accepting.await;
        self.state.tasks.close();
        if timeout(self.state.config.limits.drain_timeout, self.state.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = self.state.tasks.len(),
                "given up at the end of the drain timeout"
            );
        }
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` to operators, also while the server drains; never completes.
    pub async fn serve_admin(&self, listener: TcpListener) {
        let endpoint = Endpoint {
            routes: routes::admin(self.state.clone()),
            state: self.state.clone(),
            places: Places::of_operators(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        endpoint.accept(listener).await;
    }
}

impl State {
    /// Starts the tasks of the pool, the first time. They end with the last connection after the drain.
    fn compute(self: &Arc<Self>) {
        self.computing.call_once(|| {
            for _ in 0..self.config.threads.get() {
                let state = self.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = state.pool.work() => {}
                        () = state.tasks.wait() => {}
                    }
                });
            }
        });
    }

    /// Whether a client would be served better by another edge worker.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.pool.backlog() > self.config.limits.deadline / 2
    }

    /// The address of the client behind a request, or the proxy's if the proxy does not name the client.
    pub(crate) fn client_address(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        self.config
            .trusted_proxies
            .client(headers, peer)
            .unwrap_or_else(|error| {
                let details =
                    format_args!("the client's address is not known, so {peer} counts as the client: {error}");
                self.metrics.refusals.note(Reason::Forwarded, Instant::now(), details);
                peer
            })
    }

    /// What is served now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.loaded.load().catalog.clone()
    }

    /// How long a client with this token may go on, if it may connect at all.
    pub(crate) fn admit(&self, token: Option<&str>) -> Option<Lease> {
        let Token { digest, lease } = &self.loaded.load().token;
        let admitted = digest.is_none_or(|expected| {
            let got = Digest::of(token.unwrap_or_default().as_bytes());
            expected.as_bytes().ct_eq(got.as_bytes()).into()
        });
        admitted.then(|| lease.clone())
    }
}

impl Loaded {
    fn load(config: &Config, older: Option<&Self>) -> Result<Self, StartError> {
        let page = match &config.web {
            Some(folder) => Page::load(folder)?,
            None => Page::default(),
        };
        let digest = config.token_file.as_deref().map(read_token).transpose()?;
        let default = config.default_series.as_deref();
        let catalog = Catalog::load(&config.models, default, page, older.map(|it| &*it.catalog))?;
        config.limits.check_message(catalog.max_message_bytes())?;
        let (catalog, token) = match older {
            Some(older) => (
                catalog.succeeding(&older.catalog, config.limits.grace),
                older.token.succeeded_by(digest),
            ),
            None => {
                let lease = Lease::default();
                (catalog, Token { digest, lease })
            }
        };
        Ok(Self {
            catalog: Arc::new(catalog),
            token,
        })
    }
}

impl Token {
    /// The token after this one, whose connections are to end if another one is asked for from now on.
    fn succeeded_by(&self, digest: Option<Digest>) -> Self {
        let is_replaced = digest.is_some() && self.digest != digest;
        if is_replaced {
            self.lease.replace();
        }
        let lease = if is_replaced {
            Lease::default()
        } else {
            self.lease.clone()
        };
        Self { digest, lease }
    }
}

fn read_token(path: &Path) -> Result<Digest, StartError> {
    let text = fs::read_to_string(path).map_err(|cause| StartError::Token {
        path: path.into(),
        cause,
    })?;
    match text.trim() {
        token if (1..=1024).contains(&token.len()) => Ok(Digest::of(token.as_bytes())),
        _ => Err(StartError::TokenLength { path: path.into() }),
    }
}
