//! Servers under load, on a core of their own.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core that servers and the bare loop run on. The load comes from another.
const SERVERS: usize = 0;
const LOAD: usize = 1;

/// A server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// The edge worker with limits that do not bind, but for the credit and the deadline.
    pub fn edge_worker(program: &Path, models: &Path) -> Result<Self> {
        let mut command = on_its_core(program);
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--log-filter",
            "warn",
            "--threads",
            "1",
            "--connections",
            "15000",
        ]);
        for limit in [
            "connections-per-address",
            "sockets-per-address",
            "new-sockets-per-second",
            "messages-per-second",
            "messages-per-address",
            "bytes-per-second",
            "held-bytes",
        ] {
            command.arg(format!("--{limit}")).arg("1000000000");
        }
        command.arg("--models").arg(models);
        Self::start(command)
    }

    /// The edge worker with the limits that it has by itself, but for the number of connections.
    pub fn guarded(program: &Path, models: &Path, connections: usize) -> Result<Self> {
        let mut command = on_its_core(program);
        let listen = ["--listen", "127.0.0.1:0", "--log-filter", "error", "--threads", "1"];
        command.args(listen).args(["--connections", &connections.to_string()]);
        command.arg("--models").arg(models);
        Self::start(command)
    }

    /// Another server, which says its address on standard output, too.
    pub fn peer(python: &Path, script: &Path, onnx: &Path) -> Result<Self> {
        let mut command = on_its_core(python);
        command.arg(script).arg(onnx);
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let output = child.stdout.take().context("the server has no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim_end().rsplit('/').next().unwrap_or_default();
        let address = address
            .parse()
            .with_context(|| format!("the server did not start: '{line}'"))?;
        Ok(Self { child, address })
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let kilobytes: usize = line
            .and_then(|it| it.trim().strip_suffix(" kB"))
            .context("no VmRSS")?
            .trim()
            .parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program on the core of the servers.
pub fn on_its_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &SERVERS.to_string()]).arg(program);
    command
}

/// Keeps the calling thread, and threads that it starts later, on the core that makes the load.
pub fn stay_on_load_core() -> Result<()> {
    ensure!(
        std::thread::available_parallelism()?.get() > 1,
        "two cores are needed: one serves, one makes the load"
    );
    stay_on(LOAD)
}

/// Keeps the calling thread on the core of the servers.
pub fn stay_on_servers_core() -> Result<()> {
    stay_on(SERVERS)
}

fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).context("cannot choose a core")
}

/// Lets everything else go before the calling thread.
pub fn be_nice() -> Result<()> {
    rustix::process::setpriority_process(None, 19).context("cannot lower the priority")
}

/// Every connection is an open file.
pub fn raise_file_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).context("cannot raise the limit of open files")
}
