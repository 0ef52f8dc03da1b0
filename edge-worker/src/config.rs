//! What an operator can set.

use std::{num::NonZeroUsize, path::PathBuf, thread::available_parallelism, time::Duration};

use crate::{
    forwarded::TrustedProxies,
    origin::{AllowedOrigin, ServerName},
};

/// How a [`Server`](crate::Server) is to run. The defaults serve the folder `models`, without a page.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of series, or a series itself.
    pub models: PathBuf,
    /// Name of the series for clients that name none; not needed where there is only one.
    pub default_series: Option<String>,
    /// Folder of the built page; none serves no page.
    pub web: Option<PathBuf>,
    /// Tails that run at once. As many as cores, since that work never waits.
    pub threads: NonZeroUsize,
    /// Origins of pages that may connect, beside this server's own.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Names that this server answers to, beside `localhost` and addresses; none answers to any.
    pub hosts: Vec<ServerName>,
    /// File that holds the token which clients must present.
    pub token_file: Option<PathBuf>,
    /// Proxies in front of this server.
    pub trusted_proxies: TrustedProxies,
    /// What one client may use.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            models: "models".into(),
            default_series: None,
            web: None,
            threads: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            allowed_origins: Vec::new(),
            hosts: Vec::new(),
            token_file: None,
            trusted_proxies: TrustedProxies::default(),
            limits: Limits::default(),
        }
    }
}

/// What clients may use, so that each leaves room for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight on one connection, at least 1. More than a few only lengthen the queue: frames grow stale.
    pub credit: u8,
    /// Longest predicted wait in the queue; beyond it the answer is `Busy`.
    pub deadline: Duration,
    /// Open connections, in all.
    pub connections: usize,
    /// Of these, of one address (IPv6: of one /64); none stands for 512, or half of all if that is less.
    pub connections_per_address: Option<u32>,
    /// Open WebSockets of one address.
    pub sockets_per_address: u32,
    /// New WebSockets of one address in a second.
    pub new_sockets_per_second: u32,
    /// Messages of one connection in a second; each WebSocket frame counts as one.
    pub messages_per_second: u32,
    /// Bytes of one connection in a second.
    pub bytes_per_second: u32,
    /// Messages of all connections of one address in a second; beyond it they are read later.
    pub messages_per_address: u32,
    /// Bytes of messages that are not answered yet, of all connections; one address may hold an eighth. Beyond it they are read later.
    pub held_bytes: usize,
    /// Time to send the head of an HTTP request, also the next one on a connection kept alive.
    pub header_timeout: Duration,
    /// Time from the upgrade to a valid `Hello`.
    pub hello_timeout: Duration,
    /// Time for a message to arrive whole.
    pub message_timeout: Duration,
    /// Time without any progress in sending over HTTP, before the connection is given up. Slower than this no download has to be.
    pub stall_timeout: Duration,
    /// Time to take an answer, before the connection is given up.
    pub write_timeout: Duration,
    /// Between two pings; a peer silent for two of them is gone.
    pub heartbeat: Duration,
    /// Time without a message, after which a connection is closed.
    pub idle_timeout: Duration,
    /// Age at which a WebSocket is moved on, give or take a quarter: so that an edge worker that joins others gets its share.
    pub max_age: Duration,
    /// The same while the edge worker is overloaded.
    pub overload_age: Duration,
    /// Time to answer what is in flight at shutdown.
    pub drain_timeout: Duration,
    /// Longest time that a connection goes on with a series or a token that a reload replaced.
    pub grace: Duration,
}

/// A setting with which nobody could be served. Settings are named as flags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// A limit of zero.
    #[error("{setting} is 0, which would refuse every client: it must be at least 1")]
    Zero {
        /// The setting.
        setting: &'static str,
    },
    /// The longest message would take more than may be sent at once.
    #[error(
        "--bytes-per-second is {got}, too little for a message of {longest_bytes} bytes, the longest that clients may send: it must be at least {least}"
    )]
    Bytes {
        /// The rate.
        got: u32,
        /// The least that it can be.
        least: usize,
        /// The longest message.
        longest_bytes: usize,
    },
}

impl Limits {
    /// Fails where a limit is one that nobody could keep.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        let settings = [
            ("--credit", self.credit == 0),
            ("--connections", self.connections == 0),
            ("--sockets-per-address", self.sockets_per_address == 0),
            ("--new-sockets-per-second", self.new_sockets_per_second == 0),
            ("--messages-per-second", self.messages_per_second == 0),
            ("--bytes-per-second", self.bytes_per_second == 0),
            ("--connections-per-address", self.connections_per_address == Some(0)),
            ("--messages-per-address", self.messages_per_address == 0),
            ("--held-bytes", self.held_bytes == 0),
            ("--idle-seconds", self.idle_timeout.is_zero()),
            ("--max-age-seconds", self.max_age.is_zero()),
        ];
        match settings.into_iter().find(|it| it.1) {
            Some((setting, _)) => Err(SettingError::Zero { setting }),
            None => Ok(()),
        }
    }

    /// Fails where the longest message is one that nobody could send within the limits.
    pub(crate) fn check_message(&self, longest_bytes: usize) -> Result<(), SettingError> {
        // A client may send two seconds' worth at once.
        let (got, least) = (self.bytes_per_second, longest_bytes.div_ceil(2));
        if usize::try_from(got).is_ok_and(|it| it < least) {
            return Err(SettingError::Bytes {
                got,
                least,
                longest_bytes,
            });
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            credit: 4,
            deadline: Duration::from_millis(200),
            connections: 10_000,
            connections_per_address: None,
            sockets_per_address: 256,
            new_sockets_per_second: 50,
            messages_per_second: 240,
            bytes_per_second: 8 << 20,
            messages_per_address: 4800,
            held_bytes: 64 << 20,
            header_timeout: Duration::from_secs(10),
            hello_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(600),
            max_age: Duration::from_secs(3600),
            overload_age: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(300),
        }
    }
}

/// Connections of one address, at most half of all.
const CONNECTIONS_PER_ADDRESS: usize = 512;

impl Limits {
    /// Open connections of one address.
    pub(crate) fn connections_of_one_address(&self) -> u32 {
        let share = CONNECTIONS_PER_ADDRESS.min(self.connections.div_ceil(2));
        self.connections_per_address
            .unwrap_or(u32::try_from(share).unwrap_or(u32::MAX))
    }
}
