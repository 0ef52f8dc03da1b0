//! Times of short work on a coarse clock.
//!
//! A page that is not cross-origin isolated may have a clock that ticks once a millisecond. On it, a head that runs for 0.3 ms takes no time at
//! all in two frames of three, and a millisecond in the third; no single one of these times is of use, and neither is their median. So runs are
//! timed together until the clock has moved by several ticks, and what counts is their mean.

use std::{collections::HashMap, time::Duration};

use crate::device::Clock;

/// Ticks that make a time: its first and its last are uncertain, which is an error of a twentieth of eight.
const TICKS: u32 = 8;
/// Coarser clocks are not waited for any longer. Some browsers round to a tenth of a second against fingerprinting.
const COARSEST: Duration = Duration::from_millis(1);
/// Readings in which such a clock moves: one takes 10 ns and more.
const MOST_READINGS: usize = 100_000;

/// Means of the times of frames, at each operating point.
#[derive(Debug)]
pub(crate) struct Timing {
    enough: Duration,
    /// By operating point: runs since the last mean, and their time.
    pending: HashMap<usize, (u32, Duration)>,
}

impl Timing {
    /// Finds out how coarse the clock is.
    pub fn new(clock: Clock) -> Self {
        let steps = std::iter::repeat_with(|| step(clock)).take(3);
        Self {
            enough: steps.fold(COARSEST, Duration::min) * TICKS,
            pending: HashMap::new(),
        }
    }

    /// What the clock measures well.
    pub fn enough(&self) -> Duration {
        self.enough
    }

    /// Takes the time of one run; gives the mean of the latest once they took enough together: at once on a fine clock.
    pub fn mean(&mut self, point: usize, elapsed: Duration) -> Option<Duration> {
        let (runs, sum) = self.pending.remove(&point).unwrap_or_default();
        let (runs, sum) = (runs + 1, sum + elapsed);
        if sum >= self.enough {
            return Some(sum / runs);
        }
        self.pending.insert(point, (runs, sum));
        None
    }
}

/// By how much the clock moves when it does.
fn step(clock: Clock) -> Duration {
    let since = clock();
    let mut steps = std::iter::repeat_with(|| clock().saturating_sub(since)).take(MOST_READINGS);
    steps.find(|it| !it.is_zero()).unwrap_or(COARSEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_fine_clock_times_every_run() {
        let clock: Clock = || fixture::clock() / 1000;
        let mut timing = Timing::new(clock);
        assert_eq!(timing.enough(), Duration::from_micros(8));
        let elapsed = Duration::from_micros(300);
        assert_eq!(timing.mean(0, elapsed), Some(elapsed));
    }

    #[test]
    fn a_coarse_clock_times_runs_together_each_point_for_itself() {
        let mut timing = Timing::new(fixture::coarse_clock);
        assert_eq!(timing.enough(), Duration::from_millis(8));
        let times = |point| {
            let ticks = (0..200).map(move |frame| Duration::from_millis(u64::from(frame % (3 + point) == 0)));
            ticks.map(move |it| (point as usize, it))
        };
        let mut means = [vec![], vec![]];
        for (point, elapsed) in times(0).zip(times(1)).flat_map(|it| [it.0, it.1]) {
            means[point].extend(timing.mean(point, elapsed));
        }
        for (means, expected) in means.iter().zip([333.0, 250.0]) {
            assert!(means.len() >= 6, "{means:?}");
            let close = |it: &Duration| (it.as_secs_f64() * 1e6 / expected - 1.0).abs() < 0.15;
            assert!(means.iter().all(close), "{means:?}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_holds_up_nothing() {
        let mut timing = Timing::new(|| Duration::ZERO);
        assert_eq!(timing.enough(), Duration::from_millis(8));
        assert_eq!(timing.mean(0, Duration::ZERO), None);
    }
}
