//! What a measuring program found: goals and numbers printed as they come, and all of them as JSON in the end.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// Everything that was measured.
#[derive(Default, Serialize)]
pub struct Report {
    goals: Vec<Goal>,
    rows: Vec<Value>,
}

#[derive(Serialize)]
struct Goal {
    name: String,
    value: f64,
    goal: f64,
    sense: &'static str,
}

#[derive(Serialize)]
struct Number {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Report {
    /// Prints and notes a number.
    pub fn row(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        println!("{name:<64} {value:>12.3} {unit}");
        self.record(Number { name, value, unit });
    }

    /// Notes a row of the program's own table, which it prints itself.
    pub fn record(&mut self, row: impl Serialize) {
        // Rows are structs of numbers and names, which always are JSON.
        self.rows.push(serde_json::to_value(row).unwrap_or_default());
    }

    /// Prints and notes a number that should not be smaller.
    pub fn at_least(&mut self, name: impl Into<String>, value: f64, goal: f64) {
        self.goal(name.into(), value, goal, "at_least");
    }

    /// Prints and notes a number that should not be larger.
    pub fn at_most(&mut self, name: impl Into<String>, value: f64, goal: f64) {
        self.goal(name.into(), value, goal, "at_most");
    }

    fn goal(&mut self, name: String, value: f64, goal: f64, sense: &'static str) {
        let met = if sense == "at_least" {
            value >= goal
        } else {
            value <= goal
        };
        let verdict = if met { "met" } else { "MISSED" };
        println!("{name:<64} {value:>12.3} {} {goal}: {verdict}", sense.replace('_', " "));
        self.goals.push(Goal {
            name,
            value,
            goal,
            sense,
        });
    }

    /// Writes the JSON, and its folder where that is missing.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The middle one of these values, the upper of two.
///
/// # Panics
///
/// If there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
