//! The `edge-worker` program: settings, logs and signals around [`edge_worker::Server`].

mod options;

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Parser;
use edge_worker::Server;
use options::{LogFormat, Options, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match start(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Options) -> anyhow::Result<()> {
    let check = options.check_config;
    let mut settings = Settings::resolve(options)?;
    init_log(&settings)?;
    check_threads(settings.config.threads.get())?;
    check_addresses(settings.listen, settings.admin)?;
    fit_connections(&mut settings)?;
    let server = Server::new(settings.config.clone())?;
    if check {
        say("the configuration is sound, and everything that it names can be loaded");
        return Ok(());
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.config.threads.get())
        .enable_all()
        .build()
        .context("cannot start the executor")?;
    let result = runtime.block_on(run(server, &settings));
    // A reload that is still on its way is of no use any more.
    runtime.shutdown_background();
    result
}

async fn run(server: Server, settings: &Settings) -> anyhow::Result<()> {
    let listener = bind(settings.listen).await?;
    if let Some(address) = settings.admin {
        let admin = bind(address).await?;
        say(&format!("operators: http://{}", admin.local_addr()?));
        let server = server.clone();
        tokio::spawn(async move { server.serve_admin(admin).await });
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let reloading = server.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload(&reloading).await;
        }
    });
    say(&format!("listening on http://{}", listener.local_addr()?));
    let shutdown = async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    server.serve(listener, shutdown).await;
    Ok(())
}

async fn reload(server: &Server) {
    let server = server.clone();
    match tokio::task::spawn_blocking(move || server.reload()).await {
        Ok(Ok(())) => tracing::info!("reloaded"),
        Ok(Err(error)) => tracing::error!(%error, "cannot reload; the old series stays"),
        Err(error) => tracing::error!(%error, "the reload failed; the old series stays"),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let error = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => bail!(
            "{address} is taken by another program: stop that one, or name another address (port 0 takes any free one)"
        ),
        io::ErrorKind::PermissionDenied => bail!("not allowed to listen on {address}: use a port from 1024 on"),
        _ => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// A full disk or a closed pipe must not end the program, as `println!` would.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Open files beside connections: 64 of operators, as many refused ones on each of two listeners, those of the runtime, and series and page
/// while they are read.
const OTHER_FILES: u64 = 256;

/// Each connection is an open file: more connections than files may be open would be refused without a word. As many as fit are taken, unless a
/// number was asked for.
fn fit_connections(settings: &mut Settings) -> anyhow::Result<()> {
    let connections = &mut settings.config.limits.connections;
    let needed = u64::try_from(*connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    let Some(maximum) = getrlimit(Resource::Nofile).maximum.filter(|it| *it < needed) else {
        return Ok(());
    };
    let Some(fit) = maximum.checked_sub(OTHER_FILES).filter(|it| *it > 0) else {
        bail!(
            "this system allows {maximum} open files, and {OTHER_FILES} are needed beside connections: {RAISE} to {needed}"
        );
    };
    if settings.connections_given {
        bail!(
            "{connections} connections need {needed} open files, and this system allows {maximum}: {RAISE} to {needed}, or lower --connections to {fit}"
        );
    }
    tracing::warn!(
        "{fit} connections are taken instead of {connections}, because this system allows {maximum} open files: {RAISE} to {needed}, or set --connections {fit}"
    );
    *connections = usize::try_from(fit).unwrap_or(usize::MAX);
    Ok(())
}

/// What to do about too few open files.
const RAISE: &str = "raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker)";

/// Two listeners cannot have one port.
fn check_addresses(listen: SocketAddr, admin: Option<SocketAddr>) -> anyhow::Result<()> {
    let is_same = |admin: SocketAddr| {
        let is_shared = listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
        listen.port() != 0 && listen.port() == admin.port() && is_shared
    };
    match admin.filter(|it| is_same(*it)) {
        Some(admin) => bail!("--admin {admin} would take the port of --listen {listen}: name another port"),
        None => Ok(()),
    }
}

/// More threads than this are a slip of the keyboard, and the system would refuse them.
const MAX_THREADS: usize = 1024;

fn check_threads(threads: usize) -> anyhow::Result<()> {
    ensure!(
        threads <= MAX_THREADS,
        "--threads is {threads}, at most {MAX_THREADS} are taken: one a core is enough"
    );
    Ok(())
}

/// Each connection is an open file, and the usual soft limit of 1024 is one for programs that call `select`.
fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn init_log(settings: &Settings) -> anyhow::Result<()> {
    // Not as a context: this error repeats its cause.
    let filter = EnvFilter::try_new(&settings.log_filter)
        .map_err(|error| anyhow!("the log filter cannot be read; try 'info': {error}"))?;
    // Standard error, so that standard output holds the addresses alone. Lines that cannot be written are lost, nothing else.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false);
    let result = match settings.log {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    result.map_err(|it| anyhow!("cannot set up the log: {it}"))
}
