//! What the plots show.

use split_core::Manifest;
use split_core::manifest::{Split, Variant};

use super::chart::{Bars, Chart, Marks};
use super::compare;
use super::mmacs;
use super::reference::{self, STEP1_ACCURACY, STEP1_MMACS, UNPRUNED_ACCURACY, UNPRUNED_MMACS};
use crate::log::RunLog;

/// Whole networks, ours and the paper's.
pub fn accuracy_macs(manifest: &Manifest) -> Chart {
    let point = |it: &Variant, name: &str| (mmacs(it.macs()), it.accuracy, name.to_owned());
    let marks = |name: &str, points| Marks {
        name: name.to_owned(),
        joined: false,
        points,
    };
    let unpruned = (
        mmacs(manifest.unpruned.macs),
        manifest.unpruned.accuracy,
        "unpruned".to_owned(),
    );
    let paper = [
        (UNPRUNED_MMACS, UNPRUNED_ACCURACY, "unpruned".to_owned()),
        (STEP1_MMACS, STEP1_ACCURACY, "step 1".to_owned()),
    ];
    let step2 = manifest.variants.iter().filter(|it| it.parent.is_some());
    Chart {
        title: "Accuracy against work, uncut".into(),
        x: "million multiply–accumulates".into(),
        y: "accuracy, %".into(),
        logarithmic: true,
        marks: vec![
            marks(
                "unpruned and step 1",
                [unpruned]
                    .into_iter()
                    .chain(compare::step1(manifest).map(|it| point(it, &it.name)))
                    .collect(),
            ),
            marks("step 2", step2.map(|it| point(it, "")).collect()),
        ]
        .into_iter()
        .chain(reference::is_comparable(manifest).then(|| marks("paper", paper.into())))
        .collect(),
    }
}

/// Operating points of one split point, those of each step apart, and the frame as WebP.
pub fn accuracy_bytes(manifest: &Manifest, split: &str) -> Chart {
    let of_step = |second: bool| {
        let all = manifest.operating_points.iter();
        let own = all.filter(move |it| matches!(&it.split, Split::At(name) if name == split));
        let step = own.filter(move |it| {
            manifest
                .variant(&it.variant)
                .is_some_and(|it| it.parent.is_some() == second)
        });
        step.map(|it| (it.mean_message_bytes, it.accuracy, String::new()))
            .collect()
    };
    let frame = compare::webp(manifest)
        .into_iter()
        .map(|(bytes, accuracy)| (bytes, accuracy, String::new()));
    let marks = |name: &str, joined, points| Marks {
        name: name.to_owned(),
        joined,
        points,
    };
    Chart {
        title: format!("Accuracy against bytes at {split}"),
        x: "mean message, bytes".into(),
        y: "accuracy, %".into(),
        logarithmic: true,
        marks: vec![
            marks("step 2", false, of_step(true)),
            marks("step 1", false, of_step(false)),
            marks("frame as WebP", true, frame.collect()),
        ],
    }
}

/// Widths of the unpruned network and after step 1.
pub fn widths(manifest: &Manifest) -> Bars {
    let unpruned = ("unpruned".to_owned(), manifest.unpruned.widths.clone());
    let pruned = compare::step1(manifest).map(|it| (it.name.clone(), it.widths.clone()));
    Bars {
        title: "Filters of each convolution".into(),
        x: "convolution".into(),
        y: "filters".into(),
        bars: [unpruned].into_iter().chain(pruned).collect(),
    }
}

/// Accuracy of runs on the images held back, part by part.
pub fn learning(runs: &[RunLog]) -> Chart {
    let marks = |run: &RunLog| {
        let parts = run.parts.iter().enumerate();
        Marks {
            name: run.name.clone(),
            joined: true,
            points: parts
                .map(|(at, it)| ((at + 1) as f64, it.validation_accuracy, String::new()))
                .collect(),
        }
    };
    Chart {
        title: "Accuracy on held-back images while learning".into(),
        x: "rounds of removing filters, then epochs".into(),
        y: "accuracy, %".into(),
        logarithmic: false,
        marks: runs.iter().map(marks).collect(),
    }
}
