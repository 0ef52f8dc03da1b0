//! The program as a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use split_tests::toy::{Recipe, Toy};
use tempfile::TempDir;

use crate::support::within;

/// The program, on a free port, with everything else as it comes.
pub fn command(models: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-worker"));
    command
        .env("EDGE_WORKER_LISTEN", "127.0.0.1:0")
        .arg("--models")
        .arg(models);
    command
}

/// A toy series on disk.
pub fn series() -> (Toy, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let toy = Toy::new(&Recipe::default()).unwrap();
    toy.write(folder.path()).unwrap();
    (toy, folder)
}

/// A program that runs; killed when dropped.
pub struct Program {
    pub child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        command.args(["--admin", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |start| {
            let line = lines.next().expect("an address on standard output").unwrap();
            line.strip_prefix(start).expect(&line).parse().unwrap()
        };
        Self {
            admin: address("operators: http://"),
            address: address("listening on http://"),
            child,
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub async fn exit(mut self) -> ExitStatus {
        within(tokio::task::spawn_blocking(move || self.child.wait().unwrap()))
            .await
            .unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
