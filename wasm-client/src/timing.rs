//! Times of short work on a coarse clock.
//!
//! A page that is not cross-origin isolated may have a clock that ticks once a millisecond. On it, a head that runs for 0.3 ms takes no time at
//! all in two frames of three, and a millisecond in the third; no single one of these times is of use, and neither is their median. So runs are
//! timed together until the clock has moved by several ticks, and what counts is their mean.

use std::{collections::HashMap, fmt, rc::Rc, time::Duration};

/// Ticks that make a time: its first and its last are uncertain, which is an error of a twentieth of eight.
const TICKS: u32 = 8;
/// Coarser clocks are not waited for any longer. Some browsers round to a tenth of a second against fingerprinting.
const COARSEST: Duration = Duration::from_millis(1);
/// Readings in which such a clock moves: one takes 10 ns and more.
const MOST_READINGS: usize = 100_000;

/// Tells the time since some fixed moment; never runs backwards.
#[derive(Clone)]
pub struct Clock(Rc<dyn Fn() -> Duration>);

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Timed {
    /// From a picture to the network's pixels.
    Capture,
    /// From the network's pixels to the payload of an operating point.
    Device(usize),
}

/// Means of the times of frames.
#[derive(Debug)]
pub(crate) struct Timing {
    enough: Duration,
    /// Runs since the last mean, and their time.
    pending: HashMap<Timed, (u32, Duration)>,
}

impl Clock {
    /// A clock that asks this function.
    pub fn new(now: impl Fn() -> Duration + 'static) -> Self {
        Self(Rc::new(now))
    }

    /// The time.
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl Timing {
    /// Finds out how coarse the clock is.
    pub fn new(clock: &Clock) -> Self {
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
    pub fn mean(&mut self, timed: Timed, elapsed: Duration) -> Option<Duration> {
        let (runs, sum) = self.pending.remove(&timed).unwrap_or_default();
        let (runs, sum) = (runs + 1, sum + elapsed);
        if sum >= self.enough {
            return Some(sum / runs);
        }
        self.pending.insert(timed, (runs, sum));
        None
    }
}

/// By how much the clock moves when it does.
fn step(clock: &Clock) -> Duration {
    let since = clock.now();
    let mut steps = std::iter::repeat_with(|| clock.now().saturating_sub(since)).take(MOST_READINGS);
    steps.find(|it| !it.is_zero()).unwrap_or(COARSEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_fine_clock_times_every_run() {
        let mut timing = Timing::new(&Clock::new(|| fixture::now() / 1000));
        assert_eq!(timing.enough(), Duration::from_micros(8));
        let elapsed = Duration::from_micros(300);
        assert_eq!(timing.mean(Timed::Device(0), elapsed), Some(elapsed));
    }

    #[test]
    fn a_coarse_clock_times_runs_together_each_point_for_itself() {
        let mut timing = Timing::new(&fixture::coarse_clock());
        assert_eq!(timing.enough(), Duration::from_millis(8));
        let times = |point| {
            let ticks = (0..200).map(move |frame| Duration::from_millis(u64::from(frame % (3 + point) == 0)));
            ticks.map(move |it| (point as usize, it))
        };
        let mut means = [vec![], vec![]];
        for (point, elapsed) in times(0).zip(times(1)).flat_map(|it| [it.0, it.1]) {
            means[point].extend(timing.mean(Timed::Device(point), elapsed));
        }
        for (means, expected) in means.iter().zip([333.0, 250.0]) {
            assert!(means.len() >= 6, "{means:?}");
            let close = |it: &Duration| (it.as_secs_f64() * 1e6 / expected - 1.0).abs() < 0.15;
            assert!(means.iter().all(close), "{means:?}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_holds_up_nothing() {
        let mut timing = Timing::new(&Clock::new(|| Duration::ZERO));
        assert_eq!(timing.enough(), Duration::from_millis(8));
        assert_eq!(timing.mean(Timed::Capture, Duration::ZERO), None);
    }
}
