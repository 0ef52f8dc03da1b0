//! The tutorial's commands, as its readers give them.

use std::process::{Command, Output};

use split_core::{
    Manifest,
    manifest::{Codec, Split},
};

use crate::support::{Scene, bytes};

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

/// The block of commands behind the tutorial's mark.
fn commands() -> &'static str {
    let marked = TUTORIAL.split_once("<!-- tutorial:").unwrap().1;
    let block = marked.split_once("```sh\n").unwrap().1;
    block.split_once("```").unwrap().0
}

/// Gives the commands, with as little to learn as shows that every stage goes on where the one before ended.
fn give(scene: &Scene) -> (String, String) {
    let Output { status, stdout, stderr } = Command::new("sh")
        .args(["-eu", "-c", commands()])
        .current_dir(scene.path(""))
        .envs([("from", "parent.safetensors"), ("options", "--epochs 1")])
        .env("trainer", env!("CARGO_BIN_EXE_trainer"))
        .output()
        .unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(status.success(), "{stderr}");
    (stdout, stderr)
}

#[test]
fn the_tutorial_leads_from_pictures_to_a_series() {
    let scene = Scene::new();
    let (table, said) = give(&scene);
    for words in [
        "72 training pictures of 3 classes",
        "minutes on this machine",
        "[1/7]",
        "[7/7]",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(table.contains("cargo xtask run --series models/my-classes"), "{table}");

    let path = scene.path("models/my-classes/manifest.json");
    let manifest = Manifest::parse(&bytes(&path)).unwrap();
    assert_eq!(manifest.series, "my-classes");
    assert_eq!(manifest.classes, ["cat", "dog", "owl"]);
    for split in ["pool2", "pool3"] {
        let variant = format!("small-{split}");
        let is_pruned = |it: &Split| *it == Split::At(split.into());
        let mut points = manifest.operating_points.iter();
        let point = points.find(|it| it.variant == variant && is_pruned(&it.split)).unwrap();
        assert!(matches!(point.codec, Codec::Features(_)));
        assert!(
            table.contains(&variant),
            "{variant} is not in what is printed:\n{table}"
        );
    }
    let whole = |it: &Split| *it == Split::Output;
    assert!(
        manifest
            .operating_points
            .iter()
            .any(|it| it.variant == "small" && whole(&it.split))
    );

    // Given again, it does nothing again but to measure.
    let before = bytes(&path);
    let (_, said) = give(&scene);
    assert!(
        !said.contains("[5/7]") && !said.contains("[6/7]") && !said.contains("epoch 1"),
        "{said}"
    );
    assert!(said.contains("[7/7]") && bytes(&path) == before);

    // Other pictures are not mixed with those that were learned from.
    let more = scene.path("pictures/train/cat/more.png");
    std::fs::copy(scene.path("pictures/train/cat/0.png"), &more).unwrap();
    let quick = "quick --data pictures --series models/my-classes --from parent.safetensors --epochs 1";
    scene.fails(
        quick,
        &[
            "cat 24 → 25",
            "give `--runs` another folder",
            "`--from runs/my-classes/unpruned/final.safetensors`",
        ],
    );
    std::fs::remove_file(more).unwrap();
    let bat = scene.path("pictures/train/bat");
    std::fs::create_dir(&bat).unwrap();
    std::fs::copy(scene.path("pictures/train/cat/0.png"), bat.join("0.png")).unwrap();
    scene.fails(
        quick,
        &[
            "the classes in pictures",
            "(cat, dog, owl)",
            "give `--runs` another folder",
        ],
    );
}
