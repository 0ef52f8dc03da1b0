//! One table of what came of all commands.

use std::time::Duration;

use indicatif::FormattedDuration;

use super::file::Sweep;
use super::record::{Record, Records};
use crate::log;

const TITLES: [&str; 8] = [
    "index",
    "result",
    "held back",
    "test",
    "MMAC",
    "epochs",
    "time",
    "state",
];

/// A line for each command: accuracies in percent on the pictures held back and on the test pictures, millions of multiply–accumulates, epochs
/// that are done, hours, and how far it is.
pub fn table(sweep: &Sweep, records: &Records) -> String {
    let rows = (0..sweep.jobs.len()).map(|at| row(sweep, records, at));
    let all: Vec<[String; 8]> = std::iter::once(TITLES.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| all.iter().map(|it| it[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let cells = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| match TITLES[column] {
                "result" | "state" => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

fn row(sweep: &Sweep, records: &Records, at: usize) -> [String; 8] {
    let job = &sweep.jobs[at];
    let record = records.of(job);
    let run = job.run().and_then(|it| log::read(it).ok());
    let last = run.as_ref().and_then(|it| it.parts.last());
    let outcome = run.as_ref().and_then(|it| it.outcome);
    let held_back = outcome
        .map(|it| it.validation_accuracy)
        .or(last.map(|it| it.validation_accuracy));
    let percent = |it: f64| format!("{it:.2} %");
    let seconds = match (&run, &record) {
        (Some(run), _) if run.seconds() > 0.0 => Some(run.seconds()),
        (_, record) => record.as_ref().map(|it| it.seconds),
    };
    let state = match &record {
        _ if records.is_finished(sweep, at) => "finished".to_owned(),
        Some(Record { error: Some(error), .. }) => format!("failed: {}", error.lines().next().unwrap_or_default()),
        Some(_) => "to be done again".to_owned(),
        None if last.is_some() => "begun".to_owned(),
        None => "to do".to_owned(),
    };
    [
        at.to_string(),
        job.name(),
        held_back.map_or_else(String::new, percent),
        outcome.map_or_else(String::new, |it| percent(it.test_accuracy)),
        last.map_or_else(String::new, |it| format!("{:.1}", it.macs as f64 / 1e6)),
        run.as_ref()
            .map_or_else(String::new, |it| format!("{}/{}", it.epochs_done(), it.epochs)),
        seconds.map_or_else(String::new, |it| {
            FormattedDuration(Duration::from_secs_f64(it)).to_string()
        }),
        state,
    ]
}
