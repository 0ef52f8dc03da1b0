//! The edge worker: serves the page, the series and the tails of split networks.
//!
//! A [`Server`] is made from a [`Config`]: it reads and verifies every series ([`SeriesError`] names the file at fault), loads
//! the page, prepares the tails and warms them up. [`Server::serve`] then accepts connections from a listener until a shutdown
//! future completes, and returns when every request in flight is answered.
//!
//! ```text
//!  listener ──► routes ──► page, series' files          (assets: whole files in memory, a lookup by path)
//!                  │
//!                  └─────► session (one task a WebSocket) ──► pool (one task a core) ──► tail
//! ```
//!
//! The pool predicts how long a request would wait and refuses at once those that would wait too long.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use edge_worker::{Config, Server};
//!
//! let server = Server::new(Config { models: "models".into(), ..Config::default() })?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! println!("listening on http://{}", listener.local_addr()?);
//! server.serve(listener, async { let _ = tokio::signal::ctrl_c().await; }).await;
//! # Ok(())
//! # }
//! ```

mod assets;
mod catalog;
mod config;
mod forwarded;
mod gate;
mod lease;
mod limits;
mod listener;
mod metrics;
mod origin;
mod page;
mod payload;
mod pool;
mod queue;
mod refusals;
mod request;
mod routes;
mod series;
mod server;
mod session;
mod tail;
mod upgrade;
mod webp;

pub use config::{Config, Limits, SettingError};
pub use forwarded::{ForwardedHeader, TrustedProxies};
pub use origin::{AllowedOrigin, NameError, Origin, ServerName};
pub use page::PageError;
pub use series::SeriesError;
pub use server::{Server, StartError};
