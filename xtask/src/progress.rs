//! Lines that say what is going on and how long it took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Names every step as it starts, with the time since the command started, and says how long it took.
pub struct Progress {
    started: Instant,
}

impl Progress {
    /// The clock starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Runs one step between its two lines. A step that fails ends with its error instead of the second line.
    pub fn step<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        println!("\n[{}] {name}", clock(self.started.elapsed()));
        let done = step()?;
        println!(
            "[{}] {name}: done in {}",
            clock(self.started.elapsed()),
            clock(started.elapsed())
        );
        Ok(done)
    }

    /// Time since the command started, as `minutes:seconds`.
    pub fn elapsed(&self) -> String {
        clock(self.started.elapsed())
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_counts_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(9_900)), "0:09");
        assert_eq!(clock(Duration::from_secs(3_661)), "61:01");
    }
}
