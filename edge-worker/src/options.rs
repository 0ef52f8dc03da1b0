//! Settings: flags win over environment variables, those over the configuration file, that over the defaults.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Parser, ValueEnum};
use edge_worker::{AllowedOrigin, Config, ForwardedHeader, Limits, ServerName, TrustedProxies};
use serde::Deserialize;

/// Serves the page, the series and the tails of split networks.
///
/// Every setting is a flag, an environment variable, or a line of the TOML file named by --config (without the leading dashes), in this order of
/// precedence. SIGTERM drains and ends; SIGHUP loads page, series and token anew.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// TOML file of settings.
    #[arg(long, env = "EDGE_WORKER_CONFIG")]
    config: Option<PathBuf>,
    /// Load and verify everything, then end.
    #[arg(long)]
    pub(crate) check_config: bool,
    #[command(flatten)]
    given: Given,
}

/// What can also stand in the file.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Given {
    /// Folder of series, or a series itself [default: models].
    #[arg(long, env = "EDGE_WORKER_MODELS")]
    models: Option<PathBuf>,
    /// Series for clients that name none; not needed where there is only one.
    #[arg(long, env = "EDGE_WORKER_DEFAULT_SERIES")]
    default_series: Option<String>,
    /// Folder of the built page; without it no page is served.
    #[arg(long, env = "EDGE_WORKER_WEB")]
    web: Option<PathBuf>,
    /// Address to serve clients on; port 0 takes any free one [default: 127.0.0.1:8080].
    #[arg(long, env = "EDGE_WORKER_LISTEN")]
    listen: Option<ListenAddress>,
    /// Address to serve /metrics, /healthz and /readyz to operators on [default: none].
    #[arg(long, env = "EDGE_WORKER_ADMIN")]
    admin: Option<ListenAddress>,
    /// Threads that move bytes and run tails [default: one a core].
    #[arg(long, env = "EDGE_WORKER_THREADS")]
    threads: Option<NonZeroUsize>,
    /// Origin of a page that may connect, beside this server's own; '*' allows any. May be repeated.
    #[arg(long, env = "EDGE_WORKER_ALLOW_ORIGIN", value_delimiter = ',')]
    allow_origin: Option<Vec<AllowedOrigin>>,
    /// Name of this server: requests for other names are refused, but for localhost and addresses. May be repeated [default: any name].
    #[arg(long, env = "EDGE_WORKER_HOST", value_delimiter = ',')]
    host: Option<Vec<ServerName>>,
    /// File that holds the token which clients must present.
    #[arg(long, env = "EDGE_WORKER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Proxies that every request passes, each of which states the address that it saw [default: 0].
    #[arg(long, env = "EDGE_WORKER_TRUSTED_PROXIES")]
    trusted_proxies: Option<u8>,
    /// Where they state it [default: x-forwarded-for].
    #[arg(long, env = "EDGE_WORKER_FORWARDED_HEADER")]
    forwarded_header: Option<HeaderName>,
    /// Requests in flight on one connection [default: 4].
    #[arg(long, env = "EDGE_WORKER_CREDIT")]
    credit: Option<u8>,
    /// Longest predicted wait of a request, in milliseconds; beyond it the answer is Busy [default: 200].
    #[arg(long, env = "EDGE_WORKER_DEADLINE_MS")]
    deadline_ms: Option<u64>,
    /// Open connections, in all [default: 10000, or as many as open files allow].
    #[arg(long, env = "EDGE_WORKER_CONNECTIONS")]
    connections: Option<usize>,
    /// Open connections of one address [default: 512, at most half of all].
    #[arg(long, env = "EDGE_WORKER_CONNECTIONS_PER_ADDRESS")]
    connections_per_address: Option<u32>,
    /// Open WebSockets of one address [default: 256].
    #[arg(long, env = "EDGE_WORKER_SOCKETS_PER_ADDRESS")]
    sockets_per_address: Option<u32>,
    /// New WebSockets of one address in a second [default: 50].
    #[arg(long, env = "EDGE_WORKER_NEW_SOCKETS_PER_SECOND")]
    new_sockets_per_second: Option<u32>,
    /// Messages of one connection in a second; each WebSocket frame counts as one [default: 240].
    #[arg(long, env = "EDGE_WORKER_MESSAGES_PER_SECOND")]
    messages_per_second: Option<u32>,
    /// Bytes of one connection in a second [default: 8388608].
    #[arg(long, env = "EDGE_WORKER_BYTES_PER_SECOND")]
    bytes_per_second: Option<u32>,
    /// Messages of all connections of one address in a second; beyond it they are read later [default: 4800].
    #[arg(long, env = "EDGE_WORKER_MESSAGES_PER_ADDRESS")]
    messages_per_address: Option<u32>,
    /// Bytes of messages that are not answered yet, of all connections; one address may hold an eighth [default: 67108864].
    #[arg(long, env = "EDGE_WORKER_HELD_BYTES")]
    held_bytes: Option<usize>,
    /// Seconds without a message after which a connection is closed [default: 600].
    #[arg(long, env = "EDGE_WORKER_IDLE_SECONDS")]
    idle_seconds: Option<u64>,
    /// Seconds after which a client is asked to connect again, give or take a quarter [default: 3600].
    #[arg(long, env = "EDGE_WORKER_MAX_AGE_SECONDS")]
    max_age_seconds: Option<u64>,
    /// The same while the edge worker is overloaded [default: 60].
    #[arg(long, env = "EDGE_WORKER_OVERLOAD_AGE_SECONDS")]
    overload_age_seconds: Option<u64>,
    /// Seconds to answer what is in flight at shutdown [default: 10].
    #[arg(long, env = "EDGE_WORKER_DRAIN_SECONDS")]
    drain_seconds: Option<u64>,
    /// Most seconds that a connection goes on with a series or a token that a reload replaced [default: 300].
    #[arg(long, env = "EDGE_WORKER_GRACE_SECONDS")]
    grace_seconds: Option<u64>,
    /// Form of the log on standard error [default: text].
    #[arg(long, env = "EDGE_WORKER_LOG")]
    log: Option<LogFormat>,
    /// What is logged, in the syntax of tracing's EnvFilter [default: info].
    #[arg(long, env = "EDGE_WORKER_LOG_FILTER")]
    log_filter: Option<String>,
}

/// An address to listen on, as a setting.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct ListenAddress(SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse();
        address.map(Self).map_err(|_| {
            format!("'{text}' is not an address with a port: write it like 127.0.0.1:8080 or [::1]:8080, and 0.0.0.0 for every address of IPv4")
        })
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A header of proxies, as a setting.
#[derive(Clone, Copy, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HeaderName {
    /// Addresses, separated by commas.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl From<HeaderName> for ForwardedHeader {
    fn from(name: HeaderName) -> Self {
        match name {
            HeaderName::XForwardedFor => Self::XForwardedFor,
            HeaderName::Forwarded => Self::Forwarded,
        }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Every setting, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) log: LogFormat,
    pub(crate) log_filter: String,
    /// Whether the number of connections was asked for.
    pub(crate) connections_given: bool,
}

impl Settings {
    /// Reads the file, if one is named, and fills in the defaults.
    pub(crate) fn resolve(options: Options) -> anyhow::Result<Self> {
        let file = match &options.config {
            Some(path) => {
                let text = fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read the configuration '{}'", path.display()))?;
                toml::from_str(&text).with_context(|| format!("in the configuration '{}'", path.display()))?
            }
            None => Given::default(),
        };
        Ok(options.given.or(file).into())
    }
}

impl Given {
    /// What is given here, and from `other` what is not.
    fn or(self, other: Self) -> Self {
        Self {
            models: self.models.or(other.models),
            default_series: self.default_series.or(other.default_series),
            web: self.web.or(other.web),
            listen: self.listen.or(other.listen),
            admin: self.admin.or(other.admin),
            threads: self.threads.or(other.threads),
            allow_origin: self.allow_origin.or(other.allow_origin),
            token_file: self.token_file.or(other.token_file),
            host: self.host.or(other.host),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            forwarded_header: self.forwarded_header.or(other.forwarded_header),
            credit: self.credit.or(other.credit),
            deadline_ms: self.deadline_ms.or(other.deadline_ms),
            connections: self.connections.or(other.connections),
            connections_per_address: self.connections_per_address.or(other.connections_per_address),
            sockets_per_address: self.sockets_per_address.or(other.sockets_per_address),
            new_sockets_per_second: self.new_sockets_per_second.or(other.new_sockets_per_second),
            messages_per_second: self.messages_per_second.or(other.messages_per_second),
            bytes_per_second: self.bytes_per_second.or(other.bytes_per_second),
            messages_per_address: self.messages_per_address.or(other.messages_per_address),
            held_bytes: self.held_bytes.or(other.held_bytes),
            max_age_seconds: self.max_age_seconds.or(other.max_age_seconds),
            overload_age_seconds: self.overload_age_seconds.or(other.overload_age_seconds),
            idle_seconds: self.idle_seconds.or(other.idle_seconds),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            grace_seconds: self.grace_seconds.or(other.grace_seconds),
            log: self.log.or(other.log),
            log_filter: self.log_filter.or(other.log_filter),
        }
    }

    fn limits(&self) -> Limits {
        let limits = Limits::default();
        Limits {
            credit: self.credit.unwrap_or(limits.credit),
            deadline: self.deadline_ms.map_or(limits.deadline, Duration::from_millis),
            connections: self.connections.unwrap_or(limits.connections),
            connections_per_address: self.connections_per_address.or(limits.connections_per_address),
            sockets_per_address: self.sockets_per_address.unwrap_or(limits.sockets_per_address),
            new_sockets_per_second: self.new_sockets_per_second.unwrap_or(limits.new_sockets_per_second),
            messages_per_second: self.messages_per_second.unwrap_or(limits.messages_per_second),
            bytes_per_second: self.bytes_per_second.unwrap_or(limits.bytes_per_second),
            messages_per_address: self.messages_per_address.unwrap_or(limits.messages_per_address),
            held_bytes: self.held_bytes.unwrap_or(limits.held_bytes),
            max_age: self.max_age_seconds.map_or(limits.max_age, Duration::from_secs),
            overload_age: self
                .overload_age_seconds
                .map_or(limits.overload_age, Duration::from_secs),
            idle_timeout: self.idle_seconds.map_or(limits.idle_timeout, Duration::from_secs),
            drain_timeout: self.drain_seconds.map_or(limits.drain_timeout, Duration::from_secs),
            grace: self.grace_seconds.map_or(limits.grace, Duration::from_secs),
            ..limits
        }
    }
}

impl From<Given> for Settings {
    fn from(given: Given) -> Self {
        let config = Config::default();
        Self {
            connections_given: given.connections.is_some(),
            config: Config {
                limits: given.limits(),
                models: given.models.unwrap_or(config.models),
                default_series: given.default_series,
                web: given.web,
                threads: given.threads.unwrap_or(config.threads),
                allowed_origins: given.allow_origin.unwrap_or_default(),
                token_file: given.token_file,
                hosts: given.host.unwrap_or_default(),
                trusted_proxies: TrustedProxies {
                    count: given.trusted_proxies.unwrap_or_default(),
                    header: given.forwarded_header.map_or_else(ForwardedHeader::default, Into::into),
                },
            },
            listen: given.listen.map_or((Ipv4Addr::LOCALHOST, 8080).into(), |it| it.0),
            admin: given.admin.map(|it| it.0),
            log: given.log.unwrap_or(LogFormat::Text),
            log_filter: given.log_filter.unwrap_or_else(|| "info".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(arguments: &[&str]) -> Settings {
        let options = Options::try_parse_from([&["edge-worker"], arguments].concat()).unwrap();
        Settings::resolve(options).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_and_that_over_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edge.toml");
        fs::write(&file, "credit = 7\nlisten = \"0.0.0.0:1\"\ntrusted-proxies = 2\nforwarded-header = \"forwarded\"\nallow-origin = [\"https://page.example\"]\n").unwrap();
        let settings = resolve(&["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:2"]);
        assert_eq!(settings.config.limits.credit, 7);
        assert_eq!(settings.listen.port(), 2);
        let proxies = settings.config.trusted_proxies;
        assert_eq!((proxies.count, proxies.header), (2, ForwardedHeader::Forwarded));
        assert_eq!(
            settings.config.allowed_origins,
            ["https://page.example:443".parse().unwrap()]
        );
        assert_eq!(settings.config.limits.connections, 10_000);
    }

    #[test]
    fn a_setting_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edge.toml");
        fs::write(&file, "credits = 7\n").unwrap();
        let options = Options::try_parse_from(["edge-worker", "--config", file.to_str().unwrap()]).unwrap();
        let error = format!("{:#}", Settings::resolve(options).unwrap_err());
        assert!(error.contains("credits") && error.contains("edge.toml"), "{error}");
    }

    #[test]
    fn the_help_states_the_defaults_in_use() {
        let settings = resolve(&[]);
        let limits = &settings.config.limits;
        let help = <Options as clap::CommandFactory>::command()
            .render_long_help()
            .to_string();
        for default in [
            limits.credit.to_string(),
            limits.deadline.as_millis().to_string(),
            limits.sockets_per_address.to_string(),
            limits.new_sockets_per_second.to_string(),
            limits.messages_per_second.to_string(),
            limits.bytes_per_second.to_string(),
            limits.messages_per_address.to_string(),
            limits.held_bytes.to_string(),
            limits.max_age.as_secs().to_string(),
            limits.overload_age.as_secs().to_string(),
            limits.idle_timeout.as_secs().to_string(),
            limits.drain_timeout.as_secs().to_string(),
            limits.grace.as_secs().to_string(),
            settings.listen.to_string(),
        ] {
            assert!(help.contains(&format!("[default: {default}]")), "{default}");
        }
    }
}
