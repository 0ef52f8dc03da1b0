//! What link and device are like in time: the traces that the simulator runs on.

use anyhow::{Context, Result, ensure};

/// Conditions from a moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// From when on, in seconds.
    pub seconds: f64,
    /// Uplink in bytes per second; 0 without a link.
    pub rate: f64,
    /// Round trip in seconds.
    pub round_trip: f64,
    /// How many times slower than a desktop core the device is.
    pub slowness: f64,
    /// The share of requests that the edge worker refuses for want of capacity, 0 to 1.
    pub refused: f64,
}

/// Longest trace: a day.
const MAX_SECONDS: f64 = 86_400.0;
/// Longest round trip: a minute.
const MAX_ROUND_TRIP_MS: f64 = 60_000.0;
/// Slowest device told apart.
const MAX_SLOWNESS: f64 = 1e4;
/// Fastest link told apart.
const MAX_RATE: f64 = 1e12;

/// Reads a trace: comment lines start with `#`; then a heading, then `seconds,rate,round_trip_ms,slowness` in order of time, and where there are
/// any, the share of requests that are `refused`. The last row only tells the end.
///
/// Refuses what cannot be simulated: a day and more, rates between 0 and 1 byte per second, a device without speed.
pub fn read_trace(text: &str) -> Result<Vec<Conditions>> {
    let lines = text.lines().filter(|it| !it.starts_with('#')).skip(1);
    let trace: Vec<Conditions> = lines.map(read_row).collect::<Result<_>>()?;
    ensure!(trace.len() >= 2, "a trace needs at least two rows");
    ensure!(
        trace.windows(2).all(|it| it[0].seconds < it[1].seconds),
        "the rows of a trace must be in order of time"
    );
    Ok(trace)
}

fn read_row(line: &str) -> Result<Conditions> {
    let numbers: Result<Vec<f64>, _> = line.split(',').map(|it| it.trim().parse()).collect();
    let mut numbers = numbers.with_context(|| format!("'{line}' is not four or five numbers"))?;
    if numbers.len() == 4 {
        numbers.push(0.0);
    }
    let &[seconds, rate, round_trip_ms, slowness, refused] = numbers.as_slice() else {
        anyhow::bail!("'{line}' is not four or five numbers");
    };
    ensure!(
        (0.0..=MAX_SECONDS).contains(&seconds),
        "'{line}': {seconds} seconds, expected 0 to {MAX_SECONDS}"
    );
    ensure!(
        rate == 0.0 || (1.0..=MAX_RATE).contains(&rate),
        "'{line}': rate {rate}, expected 0 or 1 to {MAX_RATE}"
    );
    ensure!(
        (0.0..=MAX_ROUND_TRIP_MS).contains(&round_trip_ms),
        "'{line}': round trip {round_trip_ms}, expected 0 to {MAX_ROUND_TRIP_MS}"
    );
    ensure!(
        slowness > 0.0 && slowness <= MAX_SLOWNESS,
        "'{line}': slowness {slowness}, expected more than 0, at most {MAX_SLOWNESS}"
    );
    ensure!(
        (0.0..=1.0).contains(&refused),
        "'{line}': share of refusals {refused}, expected 0 to 1"
    );
    Ok(Conditions {
        seconds,
        rate,
        round_trip: round_trip_ms / 1e3,
        slowness,
        refused,
    })
}

/// Whether nothing changes during a trace.
pub fn is_steady(trace: &[Conditions]) -> bool {
    let like = |a: &Conditions, b: &Conditions| {
        let later = Conditions {
            seconds: b.seconds,
            ..*a
        };
        later == *b
    };
    trace.windows(2).all(|it| like(&it[0], &it[1]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HEADING: &str = "# A comment\nseconds,rate,round_trip_ms,slowness\n";

    #[test]
    fn the_shipped_traces_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
        let mut steady = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let trace = read_trace(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
            steady += usize::from(is_steady(&trace));
        }
        assert_eq!(steady, 1);
    }

    #[test]
    fn what_cannot_be_simulated_is_refused_with_its_line() {
        let check = |rows: &str, expected: &str| {
            let error = read_trace(&format!("{HEADING}{rows}")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", "at least two rows");
        check("0,1000,10,1\n", "at least two rows");
        check("0,1000,10\n1,1000,10,1\n", "'0,1000,10' is not four or five numbers");
        check(
            "0,fast,10,1\n1,1000,10,1\n",
            "'0,fast,10,1' is not four or five numbers",
        );
        check("1,1000,10,1\n1,1000,10,1\n", "in order of time");
        check("0,NaN,10,1\n1,1000,10,1\n", "rate NaN");
        check("0,1e-300,10,1\n1,1000,10,1\n", "expected 0 or 1 to");
        check("0,1000,1e9,1\n1,1000,10,1\n", "round trip 1000000000");
        check("0,1000,10,0\n1,1000,10,1\n", "slowness 0");
        check("0,1000,10,1,2\n1,1000,10,1\n", "share of refusals 2");
        check("0,1000,10,1\n1e9,1000,10,1\n", "1000000000 seconds");
    }
}
