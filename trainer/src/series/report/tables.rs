//! The tables of the page.

use split_core::Manifest;

use super::compare::{self, ALLOWED_LOSS, Ours, ours};
use super::mmacs;
use super::page::Page;
use super::reference::{self, ROWS, Row, STEP1_ACCURACY, STEP1_MMACS, UNPRUNED_ACCURACY, UNPRUNED_MMACS};
use crate::log::{Part, RunLog};

/// Whole networks: accuracy and work.
pub fn step1(page: &mut Page, manifest: &Manifest) {
    let row = |name: &str, accuracy: f64, before: f64, mmacs: f64, full: f64| {
        vec![
            name.to_owned(),
            format!("{accuracy:.2}"),
            format!("{:+.2}", accuracy - before),
            format!("{mmacs:.1}"),
            format!("{:.2}×", full / mmacs),
        ]
    };
    let (accuracy, full) = (manifest.unpruned.accuracy, mmacs(manifest.unpruned.macs));
    let paper = [
        row(
            "paper, unpruned",
            UNPRUNED_ACCURACY,
            UNPRUNED_ACCURACY,
            UNPRUNED_MMACS,
            UNPRUNED_MMACS,
        ),
        row(
            "paper, step 1",
            STEP1_ACCURACY,
            UNPRUNED_ACCURACY,
            STEP1_MMACS,
            UNPRUNED_MMACS,
        ),
    ];
    let mut rows = match reference::is_comparable(manifest) {
        true => paper.to_vec(),
        false => Vec::new(),
    };
    rows.push(row("unpruned", accuracy, accuracy, full, full));
    rows.extend(compare::step1(manifest).map(|it| row(&it.name, it.accuracy, accuracy, mmacs(it.macs()), full)));
    let head = ["network", "accuracy %", "against unpruned", "million MACs", "fewer"];
    page.table("Whole networks", &head, &rows);
}

/// Split points: elements, bytes and accuracy.
pub fn step2(page: &mut Page, manifest: &Manifest) -> anyhow::Result<()> {
    let with_paper = reference::is_comparable(manifest);
    let mut rows = Vec::new();
    for row in ROWS.iter().filter(|_| with_paper) {
        let mut cells = paper_cells(row);
        cells.extend(our_cells(ours(manifest, row.split)?, manifest.unpruned.accuracy));
        rows.push(cells);
    }
    for split in &manifest.split_points {
        if !with_paper || ROWS.iter().all(|row| row.split != split) {
            let mut cells = vec![split.clone()];
            cells.resize(if with_paper { 7 } else { 1 }, "–".to_owned());
            cells.extend(our_cells(ours(manifest, split)?, manifest.unpruned.accuracy));
            rows.push(cells);
        }
    }
    let paper = ["paper: unpruned", "step 1", "step 2", "fewer", "accuracy %", "lost"];
    let ours = [
        "ours: unpruned",
        "step 1",
        "step 2",
        "fewer",
        "mean bytes",
        "fewer bytes",
        "accuracy %",
        "lost",
        "variant",
    ];
    let paper = if with_paper { &paper[..] } else { &[] };
    let head = [&["split after"], paper, &ours].concat();
    let caption = format!(
        "Elements that cross at each split point. Ours: the smallest mean message at a loss of at most {ALLOWED_LOSS} points, or \
         else the most accurate; its bytes against one byte for each element of the unpruned network"
    );
    page.table(&caption, &head, &rows);
    Ok(())
}

fn paper_cells(row: &Row) -> Vec<String> {
    vec![
        row.split.to_owned(),
        row.unpruned.to_string(),
        row.step1.to_string(),
        row.step2.to_string(),
        format!("{:.1}×", f64::from(row.unpruned) / f64::from(row.step2)),
        format!("{:.2}", row.accuracy),
        format!("{:.2}", UNPRUNED_ACCURACY - row.accuracy),
    ]
}

fn our_cells(ours: Option<Ours<'_>>, unpruned_accuracy: f64) -> Vec<String> {
    let Some(Ours {
        point,
        unpruned,
        step1,
        elements,
    }) = ours
    else {
        return vec!["–".to_owned(); 9];
    };
    vec![
        unpruned.to_string(),
        step1.to_string(),
        elements.to_string(),
        format!("{:.1}×", unpruned as f64 / elements as f64),
        format!("{:.1}", point.mean_message_bytes),
        format!("{:.0}×", unpruned as f64 / point.mean_message_bytes),
        format!("{:.2}", point.accuracy),
        format!("{:.2}", unpruned_accuracy - point.accuracy),
        format!("{}, {}", point.variant, point.codec),
    ]
}

/// Filters of every variant, a column each.
pub fn widths(page: &mut Page, manifest: &Manifest) {
    let variants = manifest.variants.iter().map(|it| {
        let name = match &it.parent {
            Some(parent) => format!("{}, of {parent}", it.name),
            None => it.name.clone(),
        };
        (name, &it.widths)
    });
    let networks: Vec<(String, &Vec<usize>)> = std::iter::once(("unpruned".to_owned(), &manifest.unpruned.widths))
        .chain(variants)
        .collect();
    // Some have a convolution more, which leaves few channels to send.
    let most = networks.iter().map(|it| it.1.len()).max().unwrap_or(0);
    let row = |number: usize| {
        let width = |it: &(String, &Vec<usize>)| it.1.get(number).map_or("–".to_owned(), usize::to_string);
        std::iter::once((number + 1).to_string())
            .chain(networks.iter().map(width))
            .collect()
    };
    let rows: Vec<Vec<String>> = (0..most).map(row).collect();
    let names = networks.iter().map(|it| it.0.as_str());
    let head: Vec<&str> = std::iter::once("convolution").chain(names).collect();
    page.table("Filters of each convolution, front to back", &head, &rows);
}

/// What each run did and came to.
pub fn runs(page: &mut Page, logs: &[RunLog]) {
    let row = |run: &RunLog| {
        let last = run.parts.last();
        let number = |part: &str| run.parts.iter().filter(|it| it.part == part).count().to_string();
        let of_last = |show: &dyn Fn(&Part) -> String| last.map_or("–".to_owned(), show);
        vec![
            run.name.clone(),
            run.task.clone(),
            number("round"),
            number("epoch"),
            of_last(&|it| format!("{:.1}", mmacs(it.macs))),
            of_last(&|it| format!("{:.2}", it.validation_accuracy)),
            of_last(&|it| format!("{:.0}", it.images_per_second)),
        ]
    };
    let head = [
        "run",
        "task",
        "rounds",
        "epochs",
        "million MACs",
        "accuracy %, held-back images",
        "images/s",
    ];
    page.table(
        "Runs; a run of step 2 is measured through its quantiser",
        &head,
        &logs.iter().map(row).collect::<Vec<_>>(),
    );
}

/// Every operating point.
pub fn points(page: &mut Page, manifest: &Manifest) {
    let rows: Vec<Vec<String>> = manifest
        .operating_points
        .iter()
        .map(|it| {
            let macs = manifest
                .cut(it)
                .map(|cut| [cut.head, cut.tail].map(|it| it.iter().map(|it| it.macs).sum::<u64>()));
            let [head, tail] = macs.unwrap_or_default().map(|it| format!("{:.1}", mmacs(it)));
            vec![
                it.variant.clone(),
                it.split.to_string(),
                it.codec.to_string(),
                format!("{:.2}", it.accuracy),
                format!("{:.1}", it.mean_message_bytes),
                format!("{:.0}", it.p95_message_bytes),
                head,
                tail,
            ]
        })
        .collect();
    let head = [
        "variant",
        "split",
        "codec",
        "accuracy %",
        "mean bytes",
        "95 % below",
        "head, million MACs",
        "tail",
    ];
    page.table("Everything that the selector chooses from", &head, &rows);
}
