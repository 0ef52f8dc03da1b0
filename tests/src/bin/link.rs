//! A TCP proxy with the rate and the round trip of a slower link.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use split_tests::link::{Conditions, Link};

/// Leads connections to a server over a link of one's choice, over the loopback interface only.
///
/// Says its address on standard output. Every line on standard input sets the link anew: `<kbit/s> <round trip in ms>`, with 0 kbit/s for no limit.
/// It ends where standard input ends.
#[derive(Parser)]
struct Arguments {
    /// The server's address.
    #[arg(long)]
    to: SocketAddr,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on http://{}", listener.local_addr()?);
    let link = Link::default();
    let serving = link.clone();
    thread::spawn(move || serving.run(&listener, arguments.to));
    for line in io::stdin().lines() {
        let line = line?;
        link.set(conditions(&line).with_context(|| format!("'{line}' is not '<kbit/s> <round trip in ms>'"))?);
        println!("set");
    }
    Ok(())
}

fn conditions(line: &str) -> Option<Conditions> {
    let (rate, round_trip) = line.trim().split_once(' ')?;
    let (rate, round_trip): (f64, f64) = (rate.parse().ok()?, round_trip.parse().ok()?);
    Some(Conditions {
        bits_per_second: (rate > 0.0).then_some(rate * 1e3),
        round_trip: Duration::try_from_secs_f64(round_trip / 1e3).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line() {
        let set = conditions("1100 100").unwrap();
        assert_eq!(set.bits_per_second, Some(1.1e6));
        assert_eq!(set.round_trip, Duration::from_millis(100));
        assert_eq!(conditions("0 0"), Some(Conditions::default()));
        for bad in ["", "1100", "fast 100", "1 -1"] {
            assert_eq!(conditions(bad), None, "{bad}");
        }
    }
}
