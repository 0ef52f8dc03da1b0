//! A report of a series whose numbers are made up.

use std::fs;

use super::compare::{ours, webp};
use super::*;
use crate::series::made_up::manifest;

#[test]
fn the_smallest_message_within_the_allowed_loss_stands_for_a_split_point() {
    let mut manifest = manifest();
    let found = ours(&manifest, "pool1").unwrap().unwrap();
    assert_eq!(found.point.variant, "narrow");
    assert_eq!(
        (found.unpruned, found.step1, found.elements),
        (64 * 64, 24 * 64, 4 * 64)
    );
    manifest.unpruned.accuracy = 95.0;
    assert_eq!(ours(&manifest, "pool1").unwrap().unwrap().point.variant, "wide");
    assert_eq!(ours(&manifest, "pool2").unwrap(), None);
}

#[test]
fn a_larger_and_worse_frame_is_left_out_of_the_line() {
    assert_eq!(webp(&manifest()), [(164.0, 70.0), (338.0, 85.0)]);
}

#[test]
fn a_network_that_knows_next_to_nothing_is_no_success() {
    let beware = |accuracy| {
        let mut manifest = manifest();
        manifest.unpruned.accuracy = accuracy;
        report(&manifest, &[]).unwrap().html.contains("Beware")
    };
    assert!(beware(35.0) && !beware(90.0));
}

#[test]
fn the_papers_figures_stand_beside_networks_that_are_split_where_theirs_is() {
    let html = |rename: bool| {
        let mut manifest = manifest();
        if rename {
            let text = String::from_utf8(manifest.to_json().unwrap()).unwrap();
            manifest = Manifest::parse(text.replace("pool1", "layer1.0").as_bytes()).unwrap();
        }
        report(&manifest, &[]).unwrap().html
    };
    assert!(html(false).contains("87.67"));
    let other = html(true);
    assert!(other.contains("layer1.0") && !other.contains("87.67") && !other.contains("The paper"));
}

#[test]
fn the_page_holds_every_number_and_needs_nothing_else() {
    let Report { html, plots } = report(&manifest(), &[]).unwrap();
    for text in [
        "The series made-up",
        "7 images: toys",
        // The paper's pool1, and ours beside it.
        "<td>16384</td><td>8960</td><td>1280</td><td>12.8×</td><td>85.83</td><td>6.55</td>",
        "<td>4096</td><td>1536</td><td>256</td><td>16.0×</td><td>43.2</td><td>95×</td><td>88.50</td><td>1.50</td><td>narrow, 2-bit</td>",
        // Step 1 of the paper, and ours.
        "<td>87.67</td><td>-4.71</td><td>56.5</td><td>5.54×</td>",
        "<td>wide</td><td>89.25</td><td>-0.75</td><td>3.0</td><td>4.00×</td>",
        // Every operating point.
        "<td>webp-q50</td>",
        "<td>80.25</td><td>21.8</td><td>23</td>",
    ] {
        assert!(html.contains(text), "{text} in {html}");
    }
    for outside in ["<script", "<link", "src=", "url(", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
    let names: Vec<&str> = plots.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names, ["accuracy-macs.svg", "accuracy-bytes-pool1.svg", "widths.svg"]);
    assert!(plots.iter().all(|it| html.contains(&it.1)));
}

#[test]
fn a_part_that_was_repeated_counts_once_and_one_cut_short_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let settings = r#"{"architecture":"alexnet","input":[3,16,16],"classes":["cat"],"parent":null,
        "task":{"step2":{"split":"pool1","width":4,"bits":2,"rate_penalty":0,"round_batches":1,"round_learning_rate":0.1,"unfreeze":false}},
        "learning":{"data":".","epochs":2,"batch":1,"learning_rate":0.1,"warm_up":0,"weight_decay":0,"momentum":0,"label_smoothing":0,
        "teacher":null,"teacher_logits":null,"teacher_share":0,"temperature":1,"seed":1,"pictures":null}}"#;
    let line = |part: &str, number: u64, accuracy: f64| {
        format!(
            r#"{{"part":"{part}","number":{number},"learning_rate":0.1,"loss":1,"train_accuracy":50,"validation_accuracy":{accuracy},"images_per_second":9,"macs":5,"widths":[4]}}"#
        )
    };
    let lines = [
        line("round", 1, 10.0),
        line("epoch", 1, 20.0),
        line("epoch", 2, 30.0)[..40].to_owned(),
        line("epoch", 1, 25.0),
        line("epoch", 2, 30.0),
    ];
    fs::write(dir.path().join("settings.json"), settings).unwrap();
    fs::write(dir.path().join("log.jsonl"), lines.join("\n")).unwrap();
    let log = log::read(dir.path()).unwrap();
    let accuracies: Vec<f64> = log.parts.iter().map(|it| it.validation_accuracy).collect();
    assert_eq!(accuracies, [10.0, 25.0, 30.0]);
    assert_eq!(log.task, "step 2, 4 filters at pool1, 2 bits");
    let Report { html, plots } = report(&manifest(), &[log]).unwrap();
    assert!(
        html.contains("<td>1</td><td>2</td><td>0.0</td><td>30.00</td><td>9</td>"),
        "{html}"
    );
    assert!(plots.iter().any(|it| it.0 == "runs.svg"));
}
