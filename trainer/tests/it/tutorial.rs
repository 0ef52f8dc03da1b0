//! The tutorial's commands, as its readers give them.

use std::process::Command;

use split_core::{
    Manifest,
    manifest::{Codec, Split},
};

use crate::support::{Scene, bytes};

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

/// As little as shows that every command goes on where the one before ended.
const SETTINGS: [(&str, &str); 8] = [
    ("architecture", "alexnet"),
    ("height", "16"),
    ("width", "16"),
    ("batch", "24"),
    ("epochs", "1"),
    ("fewer_macs", "4"),
    ("rounds", "1"),
    ("round_batches", "1"),
];

/// The block of commands behind the tutorial's mark.
fn commands() -> &'static str {
    let marked = TUTORIAL.split_once("<!-- tutorial:").unwrap().1;
    let block = marked.split_once("```sh\n").unwrap().1;
    block.split_once("```").unwrap().0
}

#[test]
fn the_tutorial_leads_from_pictures_to_a_series() {
    let scene = Scene::new();
    let output = Command::new("sh")
        .args(["-eu", "-c", commands()])
        .current_dir(scene.path(""))
        .envs(SETTINGS)
        .env("trainer", env!("CARGO_BIN_EXE_trainer"))
        .output()
        .unwrap();
    let (table, errors) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{errors}");

    let manifest = Manifest::parse(&bytes(&scene.path("models/my-classes/manifest.json"))).unwrap();
    assert_eq!(manifest.series, "my-classes");
    assert_eq!(manifest.classes, ["cat", "dog", "owl"]);
    let pruned = |it: &Split| *it == Split::At("pool2".into());
    let point = manifest
        .operating_points
        .iter()
        .find(|it| it.variant == "small-pool2" && pruned(&it.split))
        .unwrap();
    assert!(matches!(point.codec, Codec::Features(_)));
    for variant in ["small", "small-pool2"] {
        assert!(
            table.contains(variant),
            "{variant} is not in what evaluate prints:\n{table}"
        );
    }
}
