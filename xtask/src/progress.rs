//! Lines that say what is going on and how long it took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Names every step as it starts, with the time since the command started, and says how long it took.
pub struct Progress {
    started: Instant,
    /// Steps begun, of those planned.
    begun: usize,
    planned: Option<usize>,
}

impl Progress {
    /// The clock starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            begun: 0,
            planned: None,
        }
    }

    /// Counts this many steps from now on.
    pub fn plan(&mut self, steps: usize) {
        self.begun = 0;
        self.planned = Some(steps);
    }

    /// Runs one step between its two lines. A step that fails ends with its error instead of the second line.
    pub fn step<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.begun += 1;
        let count = match self.planned {
            Some(planned) => format!("{} of {planned}: ", self.begun),
            None => String::new(),
        };
        let started = Instant::now();
        println!("\n[{}] {count}{name}", clock(self.started.elapsed()));
        let done = step()?;
        println!(
            "[{}] {count}{name}: done in {}",
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
