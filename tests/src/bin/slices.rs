//! Makes one processor core slower for everything else on it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// The core is taken and given back once in this time: short against a network's head, long against what a switch costs.
const PERIOD: Duration = Duration::from_millis(1);

/// To be started with real-time priority on one core: `taskset --cpu-list 0 chrt --fifo 1 slices`.
///
/// Every line on standard input is a factor: programs on that core then get one part in so many of it, and lose a little more to the switches. It
/// ends where standard input ends. A quota of a control group would need no such program, but is accounted at the scheduler's tick: measured at
/// 1 ms of every 5 ms, work of 0.2 ms to 1 ms took no longer at all, work of 8 ms 3.9 times as long; with this program 5.0 to 5.4 times.
fn main() -> Result<()> {
    let given = Arc::new(AtomicU64::new(share(1.0)));
    let taking = given.clone();
    thread::spawn(move || take(&taking));
    for line in io::stdin().lines() {
        let line = line?;
        let factor = line.trim().parse();
        let factor = factor.with_context(|| format!("'{line}' is not a factor"))?;
        given.store(share(factor), Ordering::Relaxed);
        println!("set");
    }
    Ok(())
}

/// Keeps the core busy but for so many nanoseconds of every period.
fn take(given: &AtomicU64) {
    let mut next = Instant::now();
    loop {
        let taken = PERIOD.saturating_sub(Duration::from_nanos(given.load(Ordering::Relaxed)));
        while next.elapsed() < taken {
            std::hint::spin_loop();
        }
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        // After a pause of the whole machine, nothing is made up for.
        next = next.max(Instant::now() - PERIOD);
    }
}

/// Nanoseconds that the others get of every period.
fn share(factor: f64) -> u64 {
    (PERIOD.as_nanos() as f64 / factor.max(1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_get_their_share() {
        assert_eq!(share(0.0), 1_000_000);
        assert_eq!(share(1.0), 1_000_000);
        assert_eq!(share(5.0), 200_000);
        assert_eq!(share(12.5), 80_000);
    }
}
