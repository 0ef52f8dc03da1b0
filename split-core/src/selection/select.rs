//! The choice itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LinkEstimate;
use crate::{
    Manifest,
    manifest::{OperatingPoint, Split},
};

/// A point replaces the one in use only if it is faster by this share of the latter's latency…
const SWITCH_SHARE: f64 = 0.1;
/// …and by this much.
const SWITCH_MARGIN: Duration = Duration::from_millis(1);
/// Bytes of WebSocket, TCP and IP around one message: 4 + 2 (masked header), 20 + 12, 20.
pub const FRAMING_BYTES: f64 = 58.0;

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "goal")]
pub enum Requirement {
    /// Lowest latency with at least this top-1 accuracy in percent: the paper's.
    LowestLatency {
        /// In percent.
        at_least: f64,
    },
    /// Highest accuracy with at most this latency in milliseconds.
    HighestAccuracy {
        /// In milliseconds.
        at_most: f64,
    },
}

/// What is measured of one operating point's computing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Head and encoding in this browser.
    pub device: Duration,
    /// Decoding and tail on the edge; zero at `output`.
    pub edge: Duration,
    /// Bytes of the head's segments that are not there yet.
    pub missing_bytes: u64,
    /// Whether the point may be chosen at all (its image format is supported, its segments did not fail to load).
    pub usable: bool,
}

/// Everything that a selection depends on beside the manifest and the requirement.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// For each operating point of the manifest, in its order.
    pub candidates: Vec<Candidate>,
    /// From a picture to the network's pixels, and the answer's way back to who asked; the same for every point.
    pub capture: Duration,
    /// The link; none without a connection.
    pub link: Option<LinkEstimate>,
    /// Wait before the tail.
    pub queue: Duration,
}

/// Expected latency of one operating point, by its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// From a picture to the network's pixels, and the answer's way back to who asked.
    pub capture: Duration,
    /// Head and encoding.
    pub device: Duration,
    /// Message bytes over the rate.
    pub transmission: Duration,
    /// Round trip.
    pub round_trip: Duration,
    /// Queue, decoding and tail.
    pub edge: Duration,
    /// What waiting for a missing head adds to a frame on average over the next ten seconds: `w²/20` for a wait of `w` seconds, since of evenly
    /// spaced frames `w/10` fall into it, and those are delayed by `w/2` on average.
    pub download: Duration,
}

impl Prediction {
    /// The sum of the parts.
    pub fn total(&self) -> Duration {
        self.capture + self.device + self.transmission + self.round_trip + self.edge + self.download
    }
}

/// The point chosen, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Its place in the manifest.
    pub point: usize,
    /// What it is expected to take.
    pub prediction: Prediction,
    /// Whether it meets the requirement; otherwise it is the nearest to it.
    pub meets: bool,
    /// The next best point of those that meet the requirement (or of all, if none does), with its prediction.
    pub runner_up: Option<(usize, Prediction)>,
    /// Whether the point in use was kept although another is better, because that is better by too little.
    pub kept: bool,
}

/// Picks the operating point for the requirement; none only if no point is usable.
///
/// * `LowestLatency`: the fastest of those accurate enough; if none is, the most accurate.
/// * `HighestAccuracy`: the most accurate of those fast enough; if none is, the fastest.
///
/// Ties go to the lower latency, then to the higher accuracy, then to the earlier point. Without a link only
/// `output` points can be chosen. Hysteresis: the point in use stays while it meets the requirement unless another is faster by a tenth and by a
/// millisecond (`LowestLatency`), or is more accurate and below nine tenths of the ceiling (`HighestAccuracy`).
pub fn select(
    manifest: &Manifest,
    conditions: &Conditions,
    requirement: Requirement,
    current: Option<usize>,
) -> Option<Selection> {
    let mut ranked: Vec<Ranked> = predictions(manifest, conditions)
        .map(|it| it.judge(requirement))
        .collect();
    ranked.sort_by(|a, b| a.order(b, requirement));
    let best = *ranked.first()?;
    let used = ranked.iter().find(|it| Some(it.point) == current).copied();
    let keep = used.filter(|used| used.point != best.point && used.stays_against(&best, requirement));
    let chosen = keep.unwrap_or(best);
    let runner_up = ranked
        .iter()
        .find(|it| it.point != chosen.point)
        .map(|it| (it.point, it.prediction));
    Some(Selection {
        point: chosen.point,
        prediction: chosen.prediction,
        meets: chosen.meets,
        runner_up,
        kept: keep.is_some(),
    })
}

/// Where to start before anything is measured: the point of least work plus bytes among those that split between two layers and
/// lose at most `loss` percentage points against the most accurate one; failing that, the most accurate point. Points that are not `usable` do
/// not count; none if none is.
pub fn default_point(manifest: &Manifest, loss: f64, usable: impl Fn(usize) -> bool) -> Option<usize> {
    let points = || manifest.operating_points.iter().enumerate().filter(|it| usable(it.0));
    let accuracies = manifest.operating_points.iter().map(|it| it.accuracy);
    let floor = accuracies.fold(f64::NEG_INFINITY, f64::max) - loss;
    let head_macs = |it: &OperatingPoint| {
        manifest
            .cut(it)
            .map_or(u64::MAX, |cut| cut.head.iter().map(|it| it.macs).sum())
    };
    // A phone does about 1 GMAC/s in wasm and a 4G uplink carries about 0.7 MB/s: 1 byte weighs as much as 1400 MACs.
    let cost = |it: &OperatingPoint| head_macs(it) as f64 + 1400.0 * it.mean_message_bytes;
    let splitting = points()
        .filter(|it| matches!(it.1.split, Split::At(_)) && it.1.accuracy >= floor)
        .min_by(|a, b| cost(a.1).total_cmp(&cost(b.1)));
    splitting
        .or_else(|| points().max_by(|a, b| a.1.accuracy.total_cmp(&b.1.accuracy)))
        .map(|it| it.0)
}

#[derive(Clone, Copy)]
struct Ranked {
    point: usize,
    accuracy: f64,
    prediction: Prediction,
    meets: bool,
}

impl Ranked {
    fn judge(mut self, requirement: Requirement) -> Self {
        self.meets = match requirement {
            Requirement::LowestLatency { at_least } => self.accuracy >= at_least,
            Requirement::HighestAccuracy { at_most } => self.milliseconds() <= at_most,
        };
        self
    }

    fn milliseconds(&self) -> f64 {
        self.prediction.total().as_secs_f64() * 1e3
    }

    /// Better points first.
    fn order(&self, other: &Self, requirement: Requirement) -> std::cmp::Ordering {
        let latency = || self.prediction.total().cmp(&other.prediction.total());
        let accuracy = || other.accuracy.total_cmp(&self.accuracy);
        let by_accuracy = match requirement {
            Requirement::LowestLatency { .. } => !self.meets,
            Requirement::HighestAccuracy { .. } => self.meets,
        };
        let goal = if by_accuracy {
            accuracy().then_with(latency)
        } else {
            latency().then_with(accuracy)
        };
        other
            .meets
            .cmp(&self.meets)
            .then(goal)
            .then(self.point.cmp(&other.point))
    }

    /// The hysteresis: whether this point, in use, is kept although `best` ranks before it.
    fn stays_against(&self, best: &Self, requirement: Requirement) -> bool {
        let (used, other) = (self.prediction.total(), best.prediction.total());
        match requirement {
            _ if !self.meets => false,
            Requirement::LowestLatency { .. } => used < other + SWITCH_MARGIN.max(used.mul_f64(SWITCH_SHARE)),
            Requirement::HighestAccuracy { at_most } => {
                best.accuracy <= self.accuracy || best.milliseconds() > at_most * (1.0 - SWITCH_SHARE)
            }
        }
    }
}

fn predictions<'a>(manifest: &'a Manifest, conditions: &'a Conditions) -> impl Iterator<Item = Ranked> + 'a {
    let points = manifest.operating_points.iter().zip(&conditions.candidates).enumerate();
    points
        .filter(|(_, (_, candidate))| candidate.usable)
        .filter_map(|(index, (point, candidate))| {
            let prediction = match (&point.split, conditions.link) {
                (Split::Output, link) => Prediction {
                    capture: conditions.capture,
                    device: candidate.device,
                    download: download(candidate, link),
                    ..Prediction::default()
                },
                (_, None) => return None,
                (_, Some(link)) => Prediction {
                    capture: conditions.capture,
                    device: candidate.device,
                    transmission: seconds((point.mean_message_bytes + FRAMING_BYTES) / link.rate_bytes_per_second),
                    round_trip: link.round_trip,
                    edge: conditions.queue + candidate.edge,
                    download: download(candidate, Some(link)),
                },
            };
            Some(Ranked {
                point: index,
                accuracy: point.accuracy,
                prediction,
                meets: false,
            })
        })
}

/// A missing head delays the frames until it is there; see [`Prediction::download`].
fn download(candidate: &Candidate, link: Option<LinkEstimate>) -> Duration {
    // Downlinks are at least as fast as uplinks; without a link a missing head never comes.
    match (candidate.missing_bytes, link) {
        (0, _) => Duration::ZERO,
        (_, None) => Duration::from_secs(3600),
        (bytes, Some(link)) => {
            let wait = bytes as f64 / link.rate_bytes_per_second + link.round_trip.as_secs_f64();
            seconds((wait * wait / 20.0).max(0.001))
        }
    }
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value.clamp(0.0, 3600.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Digest, Shape,
        manifest::{
            Codec, CodecFile, ImageFormat, Input, MANIFEST_FORMAT, MeasuredOn, OperatingPoint, Preparation, Segment,
            Source, Unpruned, Variant,
        },
    };

    /// One `input` point, one `output` point, and as many at pool1 as asked for, with these accuracies and message sizes.
    fn manifest(points: &[(f64, f64)]) -> Manifest {
        let segment = |output| Segment {
            sha256: Digest::of(b""),
            bytes: 1,
            output,
            macs: 1,
            micros: None,
        };
        let features = CodecFile {
            bits: 1,
            sha256: Digest::of(b""),
            bytes: 1,
        };
        let operating_points = points.iter().enumerate().map(|(index, &(accuracy, bytes))| {
            let (split, codec) = match index {
                0 => (
                    Split::Input,
                    Codec::Image {
                        format: ImageFormat::Webp,
                        quality: 50,
                    },
                ),
                1 => (Split::Output, Codec::None),
                _ => (Split::At("pool1".into()), Codec::Features(features)),
            };
            let variant = "a".into();
            OperatingPoint {
                variant,
                split,
                codec,
                accuracy,
                mean_message_bytes: bytes,
                p95_message_bytes: bytes,
            }
        });
        let shape = |sides: [usize; 3]| Shape::try_from(sides).unwrap();
        Manifest {
            format: MANIFEST_FORMAT,
            series: "toy".into(),
            source: Source::default(),
            classes: vec!["a".into()],
            input: Input {
                shape: shape([3, 4, 4]),
                preparation: Preparation::default(),
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            unpruned: Unpruned {
                accuracy: 90.0,
                macs: 9,
                widths: vec![],
            },
            measured_on: MeasuredOn {
                name: String::new(),
                images: 1,
            },
            timed_on: None,
            split_points: vec!["pool1".into()],
            variants: vec![Variant {
                name: "a".into(),
                parent: None,
                input: None,
                widths: vec![1],
                accuracy: 85.0,
                segments: vec![segment(shape([1, 2, 2])), segment(shape([1, 1, 1]))],
                cuts: vec![Some(1)],
            }],
            operating_points: operating_points.collect(),
        }
    }

    fn conditions(times: &[(u64, u64)], rate: f64) -> Conditions {
        let micros = Duration::from_micros;
        let candidate = |&(device, edge): &(u64, u64)| Candidate {
            device: micros(device),
            edge: micros(edge),
            missing_bytes: 0,
            usable: true,
        };
        let link = LinkEstimate {
            rate_bytes_per_second: rate,
            is_rate_known: true,
            round_trip: micros(10_000),
        };
        Conditions {
            candidates: times.iter().map(candidate).collect(),
            capture: Duration::ZERO,
            link: Some(link),
            queue: Duration::ZERO,
        }
    }

    const FASTEST: Requirement = Requirement::LowestLatency { at_least: 0.0 };

    fn pick(
        manifest: &Manifest,
        conditions: &Conditions,
        requirement: Requirement,
        current: Option<usize>,
    ) -> Selection {
        select(manifest, conditions, requirement, current).unwrap()
    }

    type Case = (Vec<(f64, f64)>, Vec<(u64, u64)>, f64);

    fn cases() -> impl Strategy<Value = Case> {
        (3..12_usize, 1e3..1e7_f64).prop_flat_map(|(count, rate)| {
            let points = prop::collection::vec((50.0..95.0_f64, 4.0..2000.0_f64), count);
            (
                points,
                prop::collection::vec((0..300_000_u64, 0..20_000_u64), count),
                Just(rate),
            )
        })
    }

    fn requirements() -> impl Strategy<Value = Requirement> {
        prop_oneof![
            (50.0..95.0).prop_map(|at_least| Requirement::LowestLatency { at_least }),
            (1.0..300.0).prop_map(|at_most| Requirement::HighestAccuracy { at_most }),
        ]
    }

    proptest! {
        #[test]
        fn never_picks_a_dominated_point((points, times, rate) in cases(), requirement in requirements()) {
            let (manifest, conditions) = (manifest(&points), conditions(&times, rate));
            let picked = pick(&manifest, &conditions, requirement, None);
            for other in predictions(&manifest, &conditions) {
                let better = other.accuracy > points[picked.point].0 && other.prediction.total() < picked.prediction.total();
                prop_assert!(!better, "{} dominates {}", other.point, picked.point);
            }
        }

        #[test]
        fn a_faster_link_or_device_never_makes_it_slower((points, times, rate) in cases(), at_least in 50.0..95.0) {
            let manifest = manifest(&points);
            let requirement = Requirement::LowestLatency { at_least };
            let total = |conditions: Conditions| pick(&manifest, &conditions, requirement, None).prediction.total();
            let slow = total(conditions(&times, rate));
            prop_assert!(total(conditions(&times, rate * 2.0)) <= slow);
            let halved: Vec<_> = times.iter().map(|&(device, edge)| (device / 2, edge)).collect();
            prop_assert!(total(conditions(&halved, rate)) <= slow);
        }

        #[test]
        fn the_choice_does_not_depend_on_the_unit_of_time((points, times, rate) in cases(), at_least in 50.0..95.0) {
            let manifest = manifest(&points);
            let requirement = Requirement::LowestLatency { at_least };
            let mut slower = conditions(&times.iter().map(|&(d, e)| (d * 8, e * 8)).collect::<Vec<_>>(), rate / 8.0);
            slower.link.as_mut().unwrap().round_trip *= 8;
            let here = pick(&manifest, &conditions(&times, rate), requirement, None).point;
            prop_assert_eq!(here, pick(&manifest, &slower, requirement, None).point);
        }

        #[test]
        fn what_was_chosen_stays_chosen((points, times, rate) in cases(), requirement in requirements()) {
            let (manifest, conditions) = (manifest(&points), conditions(&times, rate));
            let first = pick(&manifest, &conditions, requirement, None);
            let again = pick(&manifest, &conditions, requirement, Some(first.point));
            prop_assert_eq!((first.point, again.kept), (again.point, false));
        }
    }

    /// Head and edge times in microseconds of an `input`, an `output` and two splitting points.
    const TIMES: [(u64, u64); 4] = [(500, 4000), (40_000, 0), (5000, 1000), (9000, 500)];
    const POINTS: [(f64, f64); 4] = [(88.0, 300.0), (89.0, 0.0), (86.0, 60.0), (87.0, 30.0)];

    #[test]
    fn without_a_link_everything_runs_on_the_device() {
        let mut conditions = conditions(&TIMES, 1e5);
        conditions.link = None;
        assert_eq!(pick(&manifest(&POINTS), &conditions, FASTEST, Some(2)).point, 1);
    }

    #[test]
    fn a_long_queue_on_the_edge_does_too() {
        let mut conditions = conditions(&TIMES, 1e5);
        conditions.queue = Duration::from_millis(100);
        assert_eq!(pick(&manifest(&POINTS), &conditions, FASTEST, Some(2)).point, 1);
    }

    #[test]
    fn a_little_better_is_not_worth_a_switch() {
        let manifest = manifest(&POINTS);
        let mut times = TIMES;
        times[3].0 = 5500;
        let close = conditions(&times, 1e5);
        assert_eq!(pick(&manifest, &close, FASTEST, None).point, 3);
        let kept = pick(&manifest, &close, FASTEST, Some(2));
        assert_eq!((kept.point, kept.kept, kept.runner_up.unwrap().0), (2, true, 3));
        times[3].0 = 1000;
        assert_eq!(pick(&manifest, &conditions(&times, 1e5), FASTEST, Some(2)).point, 3);
    }

    #[test]
    fn what_cannot_be_met_is_said_and_the_nearest_is_taken() {
        let (manifest, conditions) = (manifest(&POINTS), conditions(&TIMES, 1e5));
        let accurate = pick(
            &manifest,
            &conditions,
            Requirement::LowestLatency { at_least: 99.0 },
            None,
        );
        assert_eq!((accurate.point, accurate.meets), (1, false));
        let fast = pick(
            &manifest,
            &conditions,
            Requirement::HighestAccuracy { at_most: 1.0 },
            None,
        );
        assert_eq!((fast.point, fast.meets), (2, false));
    }

    #[test]
    fn a_head_that_still_has_to_come_counts_with_its_download() {
        let manifest = manifest(&POINTS);
        let mut conditions = conditions(&TIMES, 1e5);
        conditions.candidates[2].missing_bytes = 1_000_000;
        assert_eq!(pick(&manifest, &conditions, FASTEST, None).point, 0);
    }

    #[test]
    fn what_a_picture_takes_counts_against_a_ceiling() {
        let (manifest, mut conditions) = (manifest(&POINTS), conditions(&TIMES, 1e5));
        let within = Requirement::HighestAccuracy { at_most: 17.5 };
        assert!(pick(&manifest, &conditions, within, None).meets);
        conditions.capture = Duration::from_millis(4);
        let picked = pick(&manifest, &conditions, within, None);
        assert!(!picked.meets);
        assert_eq!(picked.prediction.capture, conditions.capture);
    }

    #[test]
    fn the_default_point_splits_where_accuracy_allows() {
        let mut manifest = manifest(&POINTS);
        let default = |manifest: &Manifest, loss| default_point(manifest, loss, |_| true);
        assert_eq!(default(&manifest, 3.0), Some(3));
        manifest.operating_points[3].accuracy = 80.0;
        assert_eq!(default(&manifest, 3.0), Some(2));
        assert_eq!(default(&manifest, 0.5), Some(1));
        assert_eq!(default_point(&manifest, 0.5, |it| it != 1), Some(0));
        assert_eq!(default_point(&manifest, 0.5, |_| false), None);
    }
}
