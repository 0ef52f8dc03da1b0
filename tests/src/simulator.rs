//! The selector against links and devices that change, without either.
//!
//! A trace says what link and device are like in time. The simulator shows frames to the selector of `split-core` — the one that browsers
//! run — under that trace, with noise on every measurement, and compares each frame's latency with that of an oracle that knows the trace.
//!
//! Answers come when link and edge have done with them, late ones after the link is back; what a full edge worker refuses goes to the device; and heads
//! have to be downloaded, as in a browser. What is left out: frames that wait for the device, and what downloads and frames take from each other's link.

mod heads;

use std::time::Duration;

use serde::Serialize;
use split_core::{
    Manifest,
    manifest::{OperatingPoint, Segment, Split},
    selection::{Answer, FRAMING_BYTES, Requirement, Selection, Selector, Unanswered},
    wire::InferResult,
};

use self::heads::Heads;
use crate::trace::Conditions;

/// Time between frames.
const FRAME: Duration = Duration::from_millis(50);
/// Seconds per MAC on a device of slowness 1 and on the edge: about 13 GMAC/s, a desktop core in WebAssembly.
const SECONDS_PER_WORK: f64 = 1.0 / 13e9;
/// What every head takes beside its MACs.
const HEAD_OVERHEAD: f64 = 100e-6;
/// Coding a frame as an image.
const IMAGE_SECONDS: f64 = 1.5e-3;
/// How long a frame waits for an answer that does not come before the device takes over: the client's own rule.
const LOST: Duration = Duration::from_millis(300);
/// Messages in flight at most: what edge workers allow unless told otherwise.
const CREDIT: usize = 4;
/// What a full edge worker says of its queue: hints of 1 to 4 ms were measured.
const RETRY: Duration = Duration::from_millis(2);
/// Silence after which a client gives a connection up.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

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

/// Runs one trace, for the lowest latency with at least this accuracy in percent. `noise` is the relative standard deviation of every measured
/// time; the same seed gives the same outcome.
pub fn simulate(manifest: &Manifest, trace: &[Conditions], at_least: f64, noise: f64, seed: u64) -> Outcome {
    let mut client = Client {
        manifest,
        selector: Selector::new(manifest),
        at_least,
        random: Random(seed | 1),
        noise,
        linked: false,
        waiting: Vec::new(),
        heads: Heads::new(manifest),
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
        client.tick(now, &trace[at]);
        now += FRAME;
    }
    client.outcome.minutes = end / 60.0;
    client.outcome
}

struct Client<'a> {
    manifest: &'a Manifest,
    selector: Selector,
    at_least: f64,
    random: Random,
    noise: f64,
    linked: bool,
    waiting: Vec<Sent>,
    heads: Heads<'a>,
    /// The point of the latest frame.
    current: Option<usize>,
    outcome: Outcome,
}

/// A message whose answer has not come yet.
#[derive(Clone, Copy)]
struct Sent {
    message: Unanswered,
    /// None while there is no link: TCP sends it again when there is one.
    arrives: Option<Duration>,
    /// Whether the edge worker has no capacity for it.
    refused: bool,
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

    fn tick(&mut self, now: Duration, conditions: &Conditions) {
        if conditions.rate > 0.0 && !self.linked {
            self.selector.connected();
            self.linked = true;
        }
        self.receive(now, conditions);
        if self.oldest().is_some_and(|it| now > it.sent + ANSWER_LIMIT) {
            self.linked = false;
            self.waiting.clear();
            self.selector.disconnected();
        }
        self.probe(now, conditions);
        let Some(selection) = self.select(now) else {
            return;
        };
        let wanted = [Some(selection.point), selection.runner_up.map(|it| it.0)];
        self.heads.download(wanted.into_iter().flatten(), conditions);
        let known = [Some(selection.point), self.current, self.heads.refuge];
        let ready = known.into_iter().flatten().find(|&it| self.is_usable(it));
        if let Some(index) = ready {
            self.frame(now, index, conditions);
        }
    }

    fn select(&mut self, now: Duration) -> Option<Selection> {
        let requirement = Requirement::LowestLatency {
            at_least: self.at_least,
        };
        let (oldest, missing) = (self.oldest(), |point| Some(self.heads.missing(point)));
        self.selector.select(self.manifest, now, requirement, oldest, missing)
    }

    /// Where the frame can run: a head that is still being downloaded is not waited for.
    fn is_usable(&self, index: usize) -> bool {
        self.heads.missing(index) == 0 && (self.linked || is_local(self.manifest, index))
    }

    fn frame(&mut self, now: Duration, index: usize, conditions: &Conditions) {
        let point = &self.manifest.operating_points[index];
        if !is_local(self.manifest, index) && self.waiting.len() >= CREDIT {
            // It waits for the next frame, which takes its place.
            return;
        }
        self.count_switch(index, conditions);
        self.selector.set_current(Some(index));
        let device = device_seconds(self.manifest, point, conditions);
        let measured = device * self.jitter();
        self.selector.record_device(index, Duration::from_secs_f64(measured));
        let lost = !is_local(self.manifest, index) && conditions.rate == 0.0;
        self.outcome.latency += self.latency(point, conditions) + if lost { LOST.as_secs_f64() } else { 0.0 };
        if !is_local(self.manifest, index) {
            self.send(now, Some(index), point.mean_message_bytes as usize, conditions);
        }
        self.outcome.oracle += self.oracle(conditions);
        self.outcome.frames += 1;
    }

    /// One probe at a time, as the client does.
    fn probe(&mut self, now: Duration, conditions: &Conditions) {
        if self.waiting.iter().any(|it| it.message.point.is_none()) || self.waiting.len() >= CREDIT {
            return;
        }
        if let Some(padding) = self.selector.probe_bytes(now) {
            self.send(now, None, padding, conditions);
        }
    }

    fn send(&mut self, now: Duration, point: Option<usize>, message_bytes: usize, conditions: &Conditions) {
        let message = Unanswered {
            point,
            message_bytes,
            sent: now,
        };
        let arrives = self.arrival(now, message, conditions);
        let refused = point.is_some() && self.random.uniform() < conditions.refused;
        self.waiting.push(Sent {
            message,
            arrives,
            refused,
        });
    }

    /// When the answer to what goes out now will be here.
    fn arrival(&mut self, now: Duration, message: Unanswered, conditions: &Conditions) -> Option<Duration> {
        let link = self.link_seconds(message.message_bytes as f64, conditions) * self.jitter();
        let seconds = link + self.edge_seconds(message);
        (conditions.rate > 0.0).then(|| now + Duration::from_secs_f64(seconds))
    }

    fn edge_seconds(&self, message: Unanswered) -> f64 {
        let point = message.point.map(|it| &self.manifest.operating_points[it]);
        point.map_or(0.0, |it| edge_seconds(self.manifest, it))
    }

    /// Takes the answers that are here by now, in their order. What follows an answer at once, a probe, may be answered by now too.
    fn receive(&mut self, now: Duration, conditions: &Conditions) {
        for index in 0..self.waiting.len() {
            let Sent { message, arrives, .. } = self.waiting[index];
            self.waiting[index].arrives = arrives.or_else(|| self.arrival(now, message, conditions));
        }
        while let Some((index, at)) = self.next_arrival().filter(|it| it.1 <= now) {
            let Sent { message, refused, .. } = self.waiting.swap_remove(index);
            if refused {
                self.selector.record_busy(at, RETRY);
            } else {
                self.answer(at, message);
            }
            self.probe(at, conditions);
        }
    }

    fn next_arrival(&self) -> Option<(usize, Duration)> {
        let arrivals = self
            .waiting
            .iter()
            .enumerate()
            .filter_map(|it| Some((it.0, it.1.arrives?)));
        arrivals.min_by_key(|it| it.1)
    }

    fn answer(&mut self, at: Duration, message: Unanswered) {
        let Unanswered {
            point,
            message_bytes,
            sent,
        } = message;
        let Some(point) = point else {
            return self.selector.record_probe(at, message_bytes, sent);
        };
        let answer = Answer {
            point,
            message_bytes,
            sent,
        };
        let result = InferResult {
            id: 0,
            top: vec![],
            queue_us: 0,
            decode_us: 0,
            tail_us: (self.edge_seconds(message) * 1e6) as u32,
        };
        self.selector.record_answer(at, answer, &result);
    }

    fn oldest(&self) -> Option<Unanswered> {
        self.waiting.iter().map(|it| it.message).min_by_key(|it| it.sent)
    }

    fn count_switch(&mut self, index: usize, conditions: &Conditions) {
        if let Some(left) = self.current.replace(index).filter(|&it| it != index) {
            let [left, chosen] = [left, index].map(|it| self.latency(&self.manifest.operating_points[it], conditions));
            self.outcome.switches += 1;
            self.outcome.wrong_switches += usize::from(chosen > left);
        }
    }

    /// What the frame takes under the true conditions, on average; where there is no link, or no capacity, on the device.
    fn latency(&self, point: &OperatingPoint, conditions: &Conditions) -> f64 {
        let device = device_seconds(self.manifest, point, conditions);
        match point.split {
            Split::Output => device,
            _ if conditions.rate > 0.0 => {
                let there = self.link_seconds(point.mean_message_bytes, conditions);
                let answered = (1.0 - conditions.refused) * edge_seconds(self.manifest, point);
                let refused = conditions.refused * self.alone(conditions);
                device + there + answered + if conditions.refused > 0.0 { refused } else { 0.0 }
            }
            _ => self.alone(conditions),
        }
    }

    /// What the device takes for all of the fastest network.
    fn alone(&self, conditions: &Conditions) -> f64 {
        let points = self.manifest.operating_points.iter();
        let output = points.filter(|it| it.split == Split::Output);
        output
            .map(|it| device_seconds(self.manifest, it, conditions))
            .fold(f64::INFINITY, f64::min)
    }

    fn link_seconds(&self, bytes: f64, conditions: &Conditions) -> f64 {
        conditions.round_trip + (bytes + FRAMING_BYTES) / conditions.rate
    }

    /// The least latency among the points that meet the requirement, or are nearest to it.
    fn oracle(&self, conditions: &Conditions) -> f64 {
        let points = || self.manifest.operating_points.iter();
        let possible = |it: &&OperatingPoint| conditions.rate > 0.0 || it.split == Split::Output;
        let best = points()
            .filter(possible)
            .map(|it| it.accuracy)
            .fold(f64::NEG_INFINITY, f64::max);
        let floor = self.at_least.min(best);
        let allowed = points().filter(possible).filter(|it| it.accuracy >= floor);
        allowed
            .map(|it| self.latency(it, conditions))
            .fold(f64::INFINITY, f64::min)
    }

    fn jitter(&mut self) -> f64 {
        (1.0 + self.noise * self.random.normal()).max(0.3)
    }
}

fn is_local(manifest: &Manifest, point: usize) -> bool {
    manifest.operating_points[point].split == Split::Output
}

fn device_seconds(manifest: &Manifest, point: &OperatingPoint, conditions: &Conditions) -> f64 {
    let work: u64 = manifest
        .cut(point)
        .map_or(0, |it| it.head.iter().map(Segment::work).sum());
    let head = if point.split == Split::Input {
        IMAGE_SECONDS
    } else {
        HEAD_OVERHEAD + work as f64 * SECONDS_PER_WORK
    };
    head * conditions.slowness
}

fn edge_seconds(manifest: &Manifest, point: &OperatingPoint) -> f64 {
    let work: u64 = manifest
        .cut(point)
        .map_or(0, |it| it.tail.iter().map(Segment::work).sum());
    work as f64 * SECONDS_PER_WORK
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
    use super::*;
    use crate::{toy::Toy, trace::read_trace};

    const HEADING: &str = "# A comment\nseconds,rate,round_trip_ms,slowness\n";

    fn steady(slowness: f64, noise: f64, seed: u64) -> Outcome {
        let rows = [0, 60].map(|it| format!("{it},137500,100,{slowness}\n")).concat();
        let trace = read_trace(&format!("{HEADING}{rows}")).unwrap();
        simulate(&Toy::vgg16(3, 12).unwrap().manifest, &trace, 0.0, noise, seed)
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome() {
        // A device on which splitting and computing all of it take about the same.
        assert_eq!(steady(24.0, 0.4, 7), steady(24.0, 0.4, 7));
        assert_ne!(steady(24.0, 0.4, 7), steady(24.0, 0.4, 8));
    }

    #[test]
    fn in_an_outage_frames_run_on_the_device_before_the_connection_is_given_up() {
        let rows = "0,137500,20,60\n10,0,20,60\n14,137500,20,60\n20,137500,20,60\n";
        let trace = read_trace(&format!("{HEADING}{rows}")).unwrap();
        let outcome = simulate(&Toy::vgg16(3, 12).unwrap().manifest, &trace, 0.0, 0.0, 1);
        // Those that were in flight hold up the next ones for less than a second.
        assert!((380..400).contains(&outcome.frames), "{outcome:?}");
        assert!(outcome.switches >= 2, "{outcome:?}");
    }

    #[test]
    fn without_noise_the_selector_is_the_oracle_once_it_knows_the_link() {
        let outcome = steady(100.0, 0.0, 1);
        assert_eq!(outcome.frames, 1200);
        assert!((0.0..0.01).contains(&outcome.regret()), "{outcome:?}");
        assert_eq!(outcome.wrong_switches, 0, "{outcome:?}");
    }

    #[test]
    fn what_a_full_edge_worker_refuses_is_soon_computed_here() {
        // A device that takes 60 times as long: with an edge worker that has capacity, splitting pays by far.
        let rows = "0,137500,20,60,0\n20,137500,20,60,1\n40,137500,20,60,0\n60,137500,20,60,0\n";
        let trace = read_trace(&format!("{HEADING}{rows}")).unwrap();
        let outcome = simulate(&Toy::vgg16(3, 12).unwrap().manifest, &trace, 0.0, 0.0, 1);
        assert_eq!(outcome.frames, 1200);
        assert!(outcome.switches >= 2, "{outcome:?}");
        assert!(outcome.regret() < 0.1, "{outcome:?}");
    }
}
