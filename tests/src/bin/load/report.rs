//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

/// Everything that was measured.
#[derive(Default, Serialize)]
pub struct Report {
    goals: Vec<Goal>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Goal {
    name: String,
    value: f64,
    goal: f64,
    sense: &'static str,
}

#[derive(Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Report {
    /// Notes a number.
    pub fn row(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        println!("{name:<64} {value:>12.3} {unit}");
        self.rows.push(Row { name, value, unit });
    }

    /// Notes a number that should not be smaller.
    pub fn at_least(&mut self, name: impl Into<String>, value: f64, goal: f64) {
        self.goal(name.into(), value, goal, "at_least");
    }

    /// Notes a number that should not be larger.
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

    /// Writes the JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}
