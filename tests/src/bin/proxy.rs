//! A proxy of `deploy/` in front of two edge workers.

use std::{fs, io, net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::Parser;
use split_tests::proxy::{Kind, Proxy};

/// Runs a proxy with the file in `deploy/`, and a certificate of its own, until standard input ends.
#[derive(Parser)]
struct Arguments {
    /// Which proxy
    #[arg(long)]
    kind: Kind,
    /// Addresses of the two edge workers
    #[arg(long, num_args = 2)]
    to: Vec<SocketAddr>,
    /// Where to write the certificate
    #[arg(long)]
    certificate: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let proxy = Proxy::start(arguments.kind, [arguments.to[0], arguments.to[1]])?;
    fs::write(arguments.certificate, &proxy.certificate)?;
    println!("listening on https://{}", proxy.address);
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
