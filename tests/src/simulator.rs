//! The selector against links and devices that change, without either.
//!
//! A trace says what link and device are like in time. The simulator shows frames to the selector of `split-core` — the one that browsers
//! run — under that trace, with noise on every measurement, and compares each frame's latency with that of an oracle that knows the trace.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use split_core::{
    Manifest,
    manifest::{OperatingPoint, Split},
    selection::{Answer, LinkSample, Requirement, Selector},
    wire::InferResult,
};

/// Time between frames.
const FRAME: Duration = Duration::from_millis(50);
/// Seconds per MAC on a device of slowness 1 and on the edge: about 13 GMAC/s, a desktop core in WebAssembly.
const SECONDS_PER_MAC: f64 = 1.0 / 13e9;
/// What every head takes beside its MACs.
const HEAD_OVERHEAD: f64 = 100e-6;
/// Coding a frame as an image.
const IMAGE_SECONDS: f64 = 1.5e-3;
/// Bytes that WebSocket, TCP and IP add to a message.
const FRAMING_BYTES: f64 = 58.0;
/// How long a frame waits for an answer that does not come before the device takes over: the client's own rule.
const LOST: Duration = Duration::from_millis(300);

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
}

/// Longest trace: a day.
const MAX_SECONDS: f64 = 86_400.0;
/// Longest round trip: a minute.
const MAX_ROUND_TRIP_MS: f64 = 60_000.0;
/// Slowest device told apart.
const MAX_SLOWNESS: f64 = 1e4;
/// Fastest link told apart.
const MAX_RATE: f64 = 1e12;

/// Reads a trace: comment lines start with `#`; then a heading, then `seconds,rate,round_trip_ms,slowness` in order of time. The last row
/// only tells the end.
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
    let numbers = numbers.with_context(|| format!("'{line}' is not four numbers"))?;
    let &[seconds, rate, round_trip_ms, slowness] = numbers.as_slice() else {
        anyhow::bail!("'{line}' is not four numbers");
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
    Ok(Conditions {
        seconds,
        rate,
        round_trip: round_trip_ms / 1e3,
        slowness,
    })
}

/// Whether nothing changes during a trace.
pub fn is_steady(trace: &[Conditions]) -> bool {
    let like =
        |a: &Conditions, b: &Conditions| (a.rate, a.round_trip, a.slowness) == (b.rate, b.round_trip, b.slowness);
    trace.windows(2).all(|it| like(&it[0], &it[1]))
}

/// What became of one trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Frames shown.
    pub frames: usize,
    /// Sum of the frames' latencies in seconds.
    pub latency: f64,
    /// The same for the oracle.
    pub oracle: f64,
    /// Changes of the operating point.
    pub switches: usize,
    /// Changes to a point that the oracle's conditions make slower than the one left.
    pub wrong_switches: usize,
    /// Minutes simulated.
    pub minutes: f64,
}

impl Outcome {
    /// Latency lost against the oracle, as a share of the oracle's.
    pub fn regret(&self) -> f64 {
        self.latency / self.oracle - 1.0
    }

    /// Wrong switches a minute.
    pub fn wrong_per_minute(&self) -> f64 {
        self.wrong_switches as f64 / self.minutes
    }
}

/// Runs one trace. `noise` is the relative standard deviation of every measured time; the same seed gives the same outcome.
pub fn simulate(manifest: &Manifest, trace: &[Conditions], requirement: Requirement, noise: f64, seed: u64) -> Outcome {
    let mut client = Client {
        manifest,
        selector: Selector::new(manifest),
        random: Random(seed | 1),
        noise,
        linked: false,
        current: None,
        outcome: Outcome::default(),
    };
    client.warm_up(&trace[0]);
    let Some(end) = trace.last().map(|it| it.seconds) else {
        return client.outcome;
    };
    let mut now = Duration::ZERO;
    while now.as_secs_f64() < end {
        let at = trace
            .partition_point(|it| it.seconds <= now.as_secs_f64())
            .saturating_sub(1);
        client.frame(now, &trace[at], requirement);
        now += FRAME;
    }
    client.outcome.minutes = end / 60.0;
    client.outcome
}

struct Client<'a> {
    manifest: &'a Manifest,
    selector: Selector,
    random: Random,
    noise: f64,
    linked: bool,
    current: Option<usize>,
    outcome: Outcome,
}

impl Client<'_> {
    /// The start of a visit: a few runs of each head, as the client does in idle slices.
    fn warm_up(&mut self, conditions: &Conditions) {
        for (index, point) in self.manifest.operating_points.iter().enumerate() {
            for _ in 0..3 {
                let elapsed = device_seconds(self.manifest, point, conditions) * self.jitter();
                self.selector.record_device(index, Duration::from_secs_f64(elapsed));
            }
        }
    }

    fn frame(&mut self, now: Duration, conditions: &Conditions, requirement: Requirement) {
        let up = conditions.rate > 0.0;
        if up && !self.linked {
            self.selector.connected();
        }
        self.linked |= up;
        self.probe(now, conditions);
        let Some(selection) = self.selector.select(self.manifest, now, requirement, None, |_| Some(0)) else {
            return;
        };
        let (index, point) = (selection.point, &self.manifest.operating_points[selection.point]);
        self.count_switch(index, conditions);
        let device = device_seconds(self.manifest, point, conditions);
        let measured = device * self.jitter();
        self.selector.record_device(index, Duration::from_secs_f64(measured));
        let true_latency = self.latency(point, conditions);
        self.outcome.latency += match point.split {
            Split::Output => device,
            _ if up => {
                self.answer(now, index, conditions);
                true_latency
            }
            _ => {
                self.linked = false;
                self.selector.disconnected();
                LOST.as_secs_f64() + true_latency
            }
        };
        self.outcome.oracle += self.oracle(conditions, requirement);
        self.outcome.frames += 1;
    }

    fn probe(&mut self, now: Duration, conditions: &Conditions) {
        if conditions.rate == 0.0 {
            return;
        }
        while let Some(padding) = self.selector.probe_bytes(now) {
            let elapsed = self.link_seconds(padding as f64, conditions) * self.jitter();
            let sample = LinkSample {
                message_bytes: padding,
                elapsed: Duration::from_secs_f64(elapsed),
            };
            self.selector.record_probe(now, sample);
        }
    }

    fn answer(&mut self, now: Duration, index: usize, conditions: &Conditions) {
        let point = &self.manifest.operating_points[index];
        let bytes = point.mean_message_bytes;
        let edge = edge_seconds(self.manifest, point);
        let elapsed = self.link_seconds(bytes, conditions) * self.jitter() + edge;
        let answer = Answer {
            point: index,
            message_bytes: bytes as usize,
            elapsed: Duration::from_secs_f64(elapsed),
        };
        let tail_us = (edge * 1e6) as u32;
        let result = InferResult {
            id: 0,
            top: vec![],
            queue_us: 0,
            decode_us: 0,
            tail_us,
        };
        self.selector.record_answer(now, answer, &result);
    }

    fn count_switch(&mut self, index: usize, conditions: &Conditions) {
        if let Some(left) = self.current.replace(index).filter(|&it| it != index) {
            let [left, chosen] = [left, index].map(|it| self.latency(&self.manifest.operating_points[it], conditions));
            self.outcome.switches += 1;
            self.outcome.wrong_switches += usize::from(chosen > left);
        }
    }

    /// What the frame takes under the true conditions; where there is no link, on the device.
    fn latency(&self, point: &OperatingPoint, conditions: &Conditions) -> f64 {
        let device = device_seconds(self.manifest, point, conditions);
        match point.split {
            Split::Output => device,
            _ if conditions.rate > 0.0 => {
                device + self.link_seconds(point.mean_message_bytes, conditions) + edge_seconds(self.manifest, point)
            }
            _ => {
                let output = self
                    .manifest
                    .operating_points
                    .iter()
                    .filter(|it| it.split == Split::Output);
                output
                    .map(|it| device_seconds(self.manifest, it, conditions))
                    .fold(f64::INFINITY, f64::min)
            }
        }
    }

    fn link_seconds(&self, bytes: f64, conditions: &Conditions) -> f64 {
        conditions.round_trip + (bytes + FRAMING_BYTES) / conditions.rate
    }

    /// The least latency among the points that meet the requirement, or are nearest to it.
    fn oracle(&self, conditions: &Conditions, requirement: Requirement) -> f64 {
        let points = || self.manifest.operating_points.iter();
        let possible = |it: &&OperatingPoint| conditions.rate > 0.0 || it.split == Split::Output;
        let best = points()
            .filter(possible)
            .map(|it| it.accuracy)
            .fold(f64::NEG_INFINITY, f64::max);
        let floor = match requirement {
            Requirement::LowestLatency { at_least } => at_least.min(best),
            Requirement::HighestAccuracy { .. } => f64::NEG_INFINITY,
        };
        let allowed = points().filter(possible).filter(|it| it.accuracy >= floor);
        allowed
            .map(|it| self.latency(it, conditions))
            .fold(f64::INFINITY, f64::min)
    }

    fn jitter(&mut self) -> f64 {
        (1.0 + self.noise * self.random.normal()).max(0.3)
    }
}

fn device_seconds(manifest: &Manifest, point: &OperatingPoint, conditions: &Conditions) -> f64 {
    let macs: u64 = manifest
        .cut(point)
        .map_or(0, |it| it.head.iter().map(|it| it.macs).sum());
    let head = if point.split == Split::Input {
        IMAGE_SECONDS
    } else {
        HEAD_OVERHEAD + macs as f64 * SECONDS_PER_MAC
    };
    head * conditions.slowness
}

fn edge_seconds(manifest: &Manifest, point: &OperatingPoint) -> f64 {
    let macs: u64 = manifest
        .cut(point)
        .map_or(0, |it| it.tail.iter().map(|it| it.macs).sum());
    macs as f64 * SECONDS_PER_MAC
}

/// xorshift64* (Vigna, *An experimental exploration of Marsaglia's xorshift generators*, 2016): enough for noise, and the same everywhere.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by the sum of twelve uniforms.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::toy::Toy;

    const HEADING: &str = "# A comment\nseconds,rate,round_trip_ms,slowness\n";
    const FASTEST: Requirement = Requirement::LowestLatency { at_least: 0.0 };

    fn steady(slowness: f64, noise: f64, seed: u64) -> Outcome {
        let rows = [0, 60].map(|it| format!("{it},137500,100,{slowness}\n")).concat();
        let trace = read_trace(&format!("{HEADING}{rows}")).unwrap();
        simulate(&Toy::vgg16(3, 12).unwrap().manifest, &trace, FASTEST, noise, seed)
    }

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
        check("0,1000,10\n1,1000,10,1\n", "'0,1000,10' is not four numbers");
        check("0,fast,10,1\n1,1000,10,1\n", "'0,fast,10,1' is not four numbers");
        check("1,1000,10,1\n1,1000,10,1\n", "in order of time");
        check("0,NaN,10,1\n1,1000,10,1\n", "rate NaN");
        check("0,1e-300,10,1\n1,1000,10,1\n", "expected 0 or 1 to");
        check("0,1000,1e9,1\n1,1000,10,1\n", "round trip 1000000000");
        check("0,1000,10,0\n1,1000,10,1\n", "slowness 0");
        check("0,1000,10,1\n1e9,1000,10,1\n", "1000000000 seconds");
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome() {
        // A device on which splitting and computing all of it take about the same.
        assert_eq!(steady(24.0, 0.4, 7), steady(24.0, 0.4, 7));
        assert_ne!(steady(24.0, 0.4, 7), steady(24.0, 0.4, 8));
    }

    #[test]
    fn without_noise_the_selector_is_the_oracle_once_it_knows_the_link() {
        let outcome = steady(100.0, 0.0, 1);
        assert_eq!(outcome.frames, 1200);
        assert!((0.0..0.01).contains(&outcome.regret()), "{outcome:?}");
        assert_eq!(outcome.wrong_switches, 0, "{outcome:?}");
    }
}
