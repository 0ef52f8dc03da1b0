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
/// Of what the others get, a switch there and back and cold caches take this much. Measured on the machine of the reference figures, where a loop of
/// 0.2 ms to 8 ms then takes 4.9 to 5.3 and 9.6 to 10.4 times as long.
const SWITCH: Duration = Duration::from_micros(15);

/// To be started with real-time priority on one core: `taskset --cpu-list 0 chrt --fifo 1 slices`.
///
/// Every line on standard input is a factor: programs on that core then take so many times as long. It ends where standard input ends. A quota of
/// a control group would need no such program, but is accounted at the scheduler's tick: measured at 1 ms of every 5 ms, work of 0.2 ms to 1 ms
/// took no longer at all, work of 8 ms 3.9 times as long.
fn main() -> Result<()> {
    let factor = Arc::new(AtomicU64::new(1));
    let taken = factor.clone();
    thread::spawn(move || take(&taken));
    for line in io::stdin().lines() {
        let line = line?;
        let wanted = line
            .trim()
            .parse()
            .with_context(|| format!("'{line}' is not a whole factor"))?;
        factor.store(wanted, Ordering::Relaxed);
        println!("set");
    }
    Ok(())
}

/// Keeps the core busy but for a share of every period.
fn take(factor: &AtomicU64) {
    let mut next = Instant::now();
    loop {
        let given = share(factor.load(Ordering::Relaxed));
        while next.elapsed() < PERIOD - given {
            std::hint::spin_loop();
        }
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        // After a pause of the whole machine, nothing is made up for.
        next = next.max(Instant::now() - PERIOD);
    }
}

/// What the others get of every period.
fn share(factor: u64) -> Duration {
    match u32::try_from(factor) {
        Ok(2..) => (PERIOD / factor as u32 + SWITCH).min(PERIOD),
        _ => PERIOD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_get_their_share() {
        assert_eq!(share(0), PERIOD);
        assert_eq!(share(1), PERIOD);
        assert_eq!(share(5), Duration::from_micros(200) + SWITCH);
        assert_eq!(share(10), Duration::from_micros(100) + SWITCH);
    }
}
