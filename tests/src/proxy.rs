//! The proxies of `deploy/` with the files that are deployed, in front of edge workers on this machine.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The name in the certificate and in the files of `deploy/`.
pub const HOST: &str = "edge.example.org";

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// nginx with `deploy/nginx.conf`.
    Nginx,
    /// Caddy with `deploy/Caddyfile`.
    Caddy,
}

/// A proxy that runs; it ends when dropped.
pub struct Proxy {
    /// Where it speaks TLS.
    pub address: SocketAddr,
    /// Its certificate for [`HOST`], as PEM; nobody else has signed it.
    pub certificate: String,
    child: Child,
    _folder: TempDir,
}

impl Proxy {
    /// Starts a proxy and waits until it accepts connections.
    ///
    /// Only what cannot be the same here is replaced in the deployed file: addresses, ports and certificates.
    pub fn start(kind: Kind, edges: [SocketAddr; 2]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let certified = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let certificate = certified.cert.pem();
        fs::write(folder.path().join("tls.crt"), &certificate)?;
        fs::write(folder.path().join("tls.key"), certified.signing_key.serialize_pem())?;
        let address = free_address()?;
        let mut command = match kind {
            Kind::Nginx => nginx(folder.path(), address, edges)?,
            Kind::Caddy => caddy(folder.path(), address, edges)?,
        };
        let mut child = command
            .spawn()
            .with_context(|| format!("{kind:?} is needed, from the system's packages"))?;
        wait_for(&mut child, address)?;
        Ok(Self {
            address,
            certificate,
            child,
            _folder: folder,
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A kill would leave nginx's worker processes behind.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn nginx(folder: &Path, https: SocketAddr, edges: [SocketAddr; 2]) -> Result<Command> {
    let here = folder.display();
    let site = replaced(
        "nginx.conf",
        &[
            ("edge-1.internal:8080", &edges[0].to_string()),
            ("edge-2.internal:8080", &edges[1].to_string()),
            ("listen 443 ", &format!("listen {https} ")),
            ("listen 80;", &format!("listen {};", free_address()?)),
            ("/etc/nginx/tls/", &format!("{here}/")),
        ],
    )?;
    fs::write(folder.join("edge.conf"), site)?;
    let main = format!(
        "daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;\nevents {{}}\nhttp {{ \
         access_log off; client_body_temp_path {here}/1; proxy_temp_path {here}/2; fastcgi_temp_path {here}/3; \
         uwsgi_temp_path {here}/4; scgi_temp_path {here}/5; include {here}/edge.conf; }}\n"
    );
    fs::write(folder.join("main.conf"), main)?;
    let mut command = Command::new("nginx");
    command.arg("-e").arg(folder.join("error.log"));
    command.arg("-c").arg(folder.join("main.conf"));
    Ok(command)
}

fn caddy(folder: &Path, https: SocketAddr, edges: [SocketAddr; 2]) -> Result<Command> {
    let here = folder.display();
    let site = format!("https://{HOST}:{} {{", https.port());
    let tls = format!("\n\tbind {}\n\ttls {here}/tls.crt {here}/tls.key\n", https.ip());
    let site = replaced(
        "Caddyfile",
        &[
            ("edge-1.internal:8080", &edges[0].to_string()),
            ("edge-2.internal:8080", &edges[1].to_string()),
            (&format!("\n{HOST} {{\n"), &format!("\n{site}{tls}")),
        ],
    )?;
    // Without an endpoint for its administrator, certificates from outside and the port for HTTP.
    let options = "{\n\tadmin off\n\tauto_https off\n\tlog {\n\t\tlevel ERROR\n\t}\n}\n";
    fs::write(folder.join("Caddyfile"), options.to_owned() + &site)?;
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]);
    command.arg(folder.join("Caddyfile")).env("HOME", folder);
    Ok(command)
}

/// A file of `deploy/` with other addresses and places.
fn replaced(file: &str, replacements: &[(&str, &str)]) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    let mut text = fs::read_to_string(path)?;
    for (deployed, here) in replacements {
        ensure!(text.contains(deployed), "deploy/{file} does not contain '{deployed}'");
        text = text.replace(deployed, here);
    }
    Ok(text)
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// After this time something is wrong with the machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

fn wait_for(child: &mut Child, address: SocketAddr) -> Result<()> {
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("the proxy ended with {status}");
        }
        ensure!(started.elapsed() < START_TIMEOUT, "the proxy does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
