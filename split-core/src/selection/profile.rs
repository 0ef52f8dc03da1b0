//! The latency profile: how long each head takes in this browser.
//!
//! Heads that ran are known by the median of their runs. The rest follow from a straight line through those, over the heads' work
//! ([`Segment::work`](crate::manifest::Segment::work): times on a reference machine, or multiply–accumulates where a series has none); a common
//! factor carries what a slowing device does to one head over to all of them, within a few frames.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize};

use super::median;

/// Recent frames that tell the device's present speed: their median follows a change within four frames.
const RECENT: usize = 7;
/// Runs kept of one head.
const RUNS: usize = 15;
/// Runs after which a head is known well enough to tell the device's speed. Before, the noise of its first run would be taken for a change of the
/// device, and go into the times of all heads that run next.
const KNOWN: usize = 3;
/// Coding a frame as an image, until it was measured: what Chromium's WebP encoder takes at 32×32 pixels beyond…
const UNKNOWN_IMAGE_SECONDS: f64 = 1.5e-3;
/// …what it takes for every pixel, by its 10 ms at 224×224.
const UNKNOWN_SECONDS_PER_PIXEL: f64 = 1.7e-7;
/// No head takes longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// No device is faster or slower than its usual by more.
const MOST_FACTOR: f64 = 1e3;
/// Until anything ran: 10⁹ a second, a slow phone in WebAssembly.
const UNKNOWN_SECONDS_PER_WORK: f64 = 1e-9;

/// Measured and predicted times of heads, each known by its work, and of coding frames as images, known by their pixels.
///
/// Serialisable, so that the browser can keep it per device and manifest and start right on the next visit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyProfile {
    /// By work: the latest runs in seconds, each divided by the device's factor at its time. Invariant: finite, positive, one at least.
    #[serde(deserialize_with = "possible_runs")]
    runs: HashMap<u64, VecDeque<f64>>,
    /// The same for images, by their pixels.
    #[serde(deserialize_with = "possible_runs")]
    images: HashMap<u64, VecDeque<f64>>,
    /// Latest runs of any head over what was expected of them.
    #[serde(skip)]
    recent: VecDeque<f64>,
}

impl LatencyProfile {
    /// Takes the time of one warm run of a head of this work (pixels to payload). Zero means that the clock did not advance; it is ignored.
    pub fn record(&mut self, work: u64, elapsed: Duration) {
        let (usual, runs) = (self.usual(work), self.runs(work));
        if let Some(run) = self.steady(elapsed, usual, runs) {
            push(self.runs.entry(work).or_default(), run, RUNS);
        }
    }

    /// Takes the time of coding a frame of so many pixels as an image. Zero is ignored.
    pub fn record_image(&mut self, pixels: usize, elapsed: Duration) {
        let key = pixels as u64;
        let (usual, runs) = (self.usual_image(pixels), self.images.get(&key).map_or(0, VecDeque::len));
        if let Some(run) = self.steady(elapsed, usual, runs) {
            push(self.images.entry(key).or_default(), run, RUNS);
        }
    }

    /// How long a head of this work takes now.
    pub fn predict(&self, work: u64) -> Duration {
        self.now(self.usual(work))
    }

    /// How long coding a frame of so many pixels as an image takes now.
    pub fn predict_image(&self, pixels: usize) -> Duration {
        self.now(self.usual_image(pixels))
    }

    /// What one time would be at the device's usual speed, in seconds; tells that speed where enough `runs` came before.
    fn steady(&mut self, elapsed: Duration, usual: f64, runs: usize) -> Option<f64> {
        if elapsed.is_zero() {
            return None;
        }
        let elapsed = elapsed.min(LONGEST).as_secs_f64();
        if runs >= KNOWN {
            push(&mut self.recent, elapsed / usual, RECENT);
        }
        Some(elapsed / self.factor())
    }

    fn now(&self, usual: f64) -> Duration {
        Duration::try_from_secs_f64(usual * self.factor()).map_or(LONGEST, |it| it.min(LONGEST))
    }

    /// How many runs of this head were recorded, at most 15.
    pub fn runs(&self, work: u64) -> usize {
        self.runs.get(&work).map_or(0, VecDeque::len)
    }

    /// Present slowness of the device against its usual: 2 when everything takes twice as long.
    pub fn factor(&self) -> f64 {
        let mut recent: Vec<f64> = self.recent.iter().copied().collect();
        let factor = median(&mut recent).filter(|_| self.recent.len() >= 3).unwrap_or(1.0);
        factor.clamp(1.0 / MOST_FACTOR, MOST_FACTOR)
    }

    fn usual(&self, work: u64) -> f64 {
        self.runs.get(&work).map_or_else(|| self.line(work as f64), typical)
    }

    /// As measured, or in proportion to the image next in size.
    fn usual_image(&self, pixels: usize) -> f64 {
        let expected = |pixels: f64| UNKNOWN_IMAGE_SECONDS + pixels * UNKNOWN_SECONDS_PER_PIXEL;
        let measured = self.images.iter().min_by_key(|it| it.0.abs_diff(pixels as u64));
        let slowness = measured.map_or(1.0, |(&pixels, runs)| typical(runs) / expected(pixels as f64));
        slowness * expected(pixels as f64)
    }

    /// Least squares through the medians of the heads that ran, never decreasing with work and never below zero.
    fn line(&self, work: f64) -> f64 {
        let points: Vec<(f64, f64)> = self.runs.iter().map(|it| (*it.0 as f64, typical(it.1))).collect();
        let count = points.len() as f64;
        let Some(mean) = (!points.is_empty()).then(|| {
            points
                .iter()
                .fold((0.0, 0.0), |m, it| (m.0 + it.0 / count, m.1 + it.1 / count))
        }) else {
            return work * UNKNOWN_SECONDS_PER_WORK;
        };
        let (mut above, mut below) = (0.0, 0.0);
        for (x, y) in &points {
            above += (x - mean.0) * (y - mean.1);
            below += (x - mean.0).powi(2);
        }
        if below == 0.0 || above <= 0.0 || mean.1 - above / below * mean.0 < 0.0 {
            // One head, or a line that makes no sense: in proportion to the work.
            return mean.1 * if mean.0 > 0.0 { work / mean.0 } else { 1.0 };
        }
        mean.1 + above / below * (work - mean.0)
    }
}

/// What was kept of an earlier visit, less what cannot be the time of a run.
fn possible_runs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashMap<u64, VecDeque<f64>>, D::Error> {
    let mut runs = HashMap::<u64, VecDeque<f64>>::deserialize(deserializer)?;
    let most = LONGEST.as_secs_f64() * MOST_FACTOR;
    for times in runs.values_mut() {
        times.retain(|&it| it > 0.0 && it <= most);
        times.truncate(RUNS);
    }
    runs.retain(|_, times| !times.is_empty());
    Ok(runs)
}

fn typical(runs: &VecDeque<f64>) -> f64 {
    median(&mut runs.iter().copied().collect::<Vec<_>>()).unwrap_or_default()
}

pub(super) fn push(values: &mut VecDeque<f64>, value: f64, limit: usize) {
    if values.len() == limit {
        values.pop_front();
    }
    values.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> LatencyProfile {
        let mut profile = LatencyProfile::default();
        for (work, micros) in [(1_000_000, 1100), (5_000_000, 5100)] {
            (0..9).for_each(|_| profile.record(work, Duration::from_micros(micros)));
        }
        profile
    }

    fn close(got: Duration, micros: f64) -> bool {
        (got.as_secs_f64() * 1e6 / micros - 1.0).abs() < 0.01
    }

    #[test]
    fn heads_that_never_ran_lie_on_the_line_through_those_that_did() {
        assert!(close(profile().predict(3_000_000), 3100.0));
        assert!(close(profile().predict(10_000_000), 10_100.0));
    }

    #[test]
    fn a_slowing_device_slows_every_head_within_a_few_frames() {
        let mut profile = profile();
        (0..4).for_each(|_| profile.record(1_000_000, Duration::from_micros(3300)));
        assert!(
            close(profile.predict(5_000_000), 15_300.0),
            "{:?}",
            profile.predict(5_000_000)
        );
        (0..4).for_each(|_| profile.record(1_000_000, Duration::from_micros(1100)));
        assert!(
            close(profile.predict(5_000_000), 5100.0),
            "{:?}",
            profile.predict(5_000_000)
        );
    }

    #[test]
    fn single_hiccups_change_nothing() {
        let mut profile = profile();
        profile.record(1_000_000, Duration::from_millis(80));
        assert!(close(profile.predict(5_000_000), 5100.0));
    }

    #[test]
    fn a_slow_first_run_of_every_head_is_not_the_device() {
        let mut profile = LatencyProfile::default();
        for work in (1..=40).map(|it| it * 1_000_000) {
            for share in [1.3, 1.0, 1.0] {
                profile.record(work, Duration::from_nanos(work).mul_f64(share));
            }
        }
        for work in [1_000_000, 40_000_000] {
            assert!(
                close(profile.predict(work), work as f64 / 1e3),
                "{:?}",
                profile.predict(work)
            );
        }
    }

    #[test]
    fn no_time_at_all_is_no_measure() {
        let mut profile = profile();
        (0..100).for_each(|_| profile.record(1_000_000, Duration::ZERO));
        assert!(close(profile.predict(1_000_000), 1100.0));
        let mut unknown = LatencyProfile::default();
        unknown.record(1_000_000, Duration::ZERO);
        assert_eq!(unknown, LatencyProfile::default());
    }

    #[test]
    fn times_beyond_measure_stay_numbers() {
        let mut profile = profile();
        for elapsed in [Duration::from_nanos(1), Duration::MAX, Duration::from_nanos(1)] {
            (0..20).for_each(|_| profile.record(1_000_000, elapsed));
            assert!((1.0 / MOST_FACTOR..=MOST_FACTOR).contains(&profile.factor()));
            assert!(profile.predict(u64::MAX) <= LONGEST);
        }
    }

    #[test]
    fn of_a_damaged_profile_only_what_can_be_true_is_kept() {
        let mut damaged = LatencyProfile::default();
        let times = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300];
        damaged.runs.insert(1, times.into());
        damaged.runs.insert(2, VecDeque::new());
        damaged.runs.insert(3, times.into_iter().chain([0.5; 99]).collect());
        let kept: LatencyProfile = postcard::from_bytes(&postcard::to_allocvec(&damaged).unwrap()).unwrap();
        assert_eq!((kept.runs(1), kept.runs(2), kept.runs(3)), (0, 0, RUNS));
        assert!(close(kept.predict(3), 5e5));
    }

    #[test]
    fn more_work_never_takes_less_time() {
        let mut profile = LatencyProfile::default();
        assert!(profile.predict(1000) < profile.predict(2000));
        profile.record(2_000_000, Duration::from_millis(1));
        profile.record(1_000_000, Duration::from_millis(2));
        assert!(profile.predict(3_000_000) < profile.predict(4_000_000));
    }

    #[test]
    fn images_are_known_by_their_pixels() {
        let mut profile = profile();
        let (small, large) = (32 * 32, 224 * 224);
        let unknown = profile.predict_image(large);
        assert!(profile.predict_image(small) < unknown / 4);
        (0..5).for_each(|_| profile.record_image(large, 2 * unknown));
        assert_eq!(profile.predict_image(large), 2 * unknown);
        let small = profile.predict_image(small).as_secs_f64() * 1e6;
        assert!((3200.0..3500.0).contains(&small), "{small}");
        assert!(close(profile.predict(3_000_000), 3100.0), "heads are another matter");
    }
}
