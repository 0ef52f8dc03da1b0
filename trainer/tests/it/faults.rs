//! What is refused, and that the message names it.

use std::fs;

use trainer::{checkpoint::Checkpoint, network::Description};

use crate::support::Scene;

const STEP2: &str = "prune step2 --data pictures --parent parent.safetensors --run run --epochs 1 --round-batches 1";
const TRAIN: &str = "train --data pictures --architecture alexnet --size 16 16 --run run --epochs 1";

#[test]
fn split_points_and_widths_that_do_not_exist_are_named() {
    let scene = Scene::new();
    let check = |flags: &str, words: &[&str]| scene.fails(&format!("{STEP2} {flags}"), words);
    check(
        "--split pool9 --width 2",
        &["`pool9`", "alexnet has pool1, pool2, pool3"],
    );
    check("--split pool3 --width 17", &["pool3", "16 filters", "17"]);
    check("--split pool3 --width 0", &["pool3", "0 cannot be left"]);
    check("--split pool3 --width 2 --bits 9", &["1 to 8 bits, not 9"]);
    check("--split pool3 --width 2 --epochs 0", &["--epochs"]);
    // None of these has spoiled the folder.
    scene.run(&format!("{STEP2} --split pool3 --width 8"));
    scene.fails(
        &format!("{STEP2} --split pool3 --width 4"),
        &["run holds a run with other settings"],
    );
}

#[test]
fn a_series_is_not_exported_under_a_name_that_cannot_be_served() {
    let scene = Scene::new();
    for name in ["my-série", ".hidden", "<i>", "."] {
        scene.fails(
            &format!("export --data pictures --checkpoint parent.safetensors --series {name}"),
            &["--series", "cannot be named", "letters (a to z), digits"],
        );
    }
    assert!(!scene.path("<i>").exists());
}

#[test]
fn numbers_that_no_run_can_be_made_with_are_named_by_their_flags() {
    let scene = Scene::new();
    for (flags, word) in [
        ("--batch 0", "--batch"),
        ("--pictures 0", "--pictures"),
        ("--warm-up 2", "--warm-up"),
        ("--temperature 0", "--temperature"),
    ] {
        scene.fails(&format!("{TRAIN} {flags}"), &[word]);
    }
    let step1 = "prune step1 --data pictures --parent parent.safetensors --run run";
    scene.fails(&format!("{step1} --multiple 0"), &["--multiple"]);
    scene.fails(&format!("{step1} --fewer-macs 0.5"), &["--fewer-macs", "0.5"]);
    scene.fails(&format!("{step1} --rounds 0"), &["--rounds", "nothing is pruned"]);
    let step2 = step1.replace("step1", "step2 --split pool3 --width 2");
    for step in [step1, &step2] {
        scene.fails(&format!("{step} --round-batches 0"), &["--round-batches", "ranked"]);
    }
    scene.fails(
        "train --data pictures --architecture resnet --run run",
        &["`resnet`", "vgg16"],
    );
}

#[test]
fn pictures_that_cannot_be_used_are_named() {
    let scene = Scene::new();
    fs::write(scene.path("pictures/train/dog/broken.jpg"), "no picture").unwrap();
    scene.fails(TRAIN, &["broken.jpg cannot be decoded"]);
    fs::remove_file(scene.path("pictures/train/dog/broken.jpg")).unwrap();
    fs::create_dir(scene.path("pictures/train/bat")).unwrap();
    scene.fails(TRAIN, &["bat holds no pictures"]);
    fs::remove_dir(scene.path("pictures/train/bat")).unwrap();
    for subset in ["train", "test"] {
        fs::remove_dir_all(scene.path(&format!("pictures/{subset}/owl"))).unwrap();
    }
    let words = ["3 (cat, dog, owl)", "pictures", "2 (cat, dog)"];
    scene.fails(&format!("{STEP2} --split pool3 --width 2"), &words);
    scene.fails("train --data nothing --run run", &["nothing", "CIFAR"]);
}

#[test]
fn checkpoints_that_do_not_fit_are_named() {
    let scene = Scene::new();
    let step2 = |parent| STEP2.replace("parent.safetensors", parent) + " --split pool3 --width 2";
    scene.fails(&step2("absent.safetensors"), &["absent.safetensors", "No such file"]);
    fs::write(scene.path("text.safetensors"), "text").unwrap();
    scene.fails(
        &step2("text.safetensors"),
        &["text.safetensors is not a whole safetensors file"],
    );
    let import = "import --from parent.safetensors --to imported.safetensors";
    scene.fails(
        &format!("{import} --classes cat,dog,owl"),
        &[
            "parent.safetensors",
            "`features.0.weight`",
            "the widths or the architecture differ",
        ],
    );
    let alexnet = format!("{import} --architecture alexnet --size 16 16");
    scene.fails(
        &format!("{alexnet} --classes cat,dog,owl"),
        &["`features.0.weight`", "[64, 3, 3, 3]"],
    );
    let pruned = format!("{alexnet} --widths 8,8,8,8,16");
    scene.fails(
        &format!("{pruned} --classes cat,dog"),
        &["`classifier.weight`", "class count"],
    );
    scene.run(&format!("{pruned} --classes cat,dog,owl"));
    let load = |name| Checkpoint::load(&scene.path(name)).unwrap();
    assert_eq!(load("imported.safetensors"), load("parent.safetensors"));
}

#[test]
fn a_series_of_different_networks_is_refused() {
    let scene = Scene::new();
    let classes = ["ant", "bee"].map(String::from).into();
    let other = Checkpoint::random(Description::unpruned("alexnet", [3, 8, 8], classes).unwrap(), 1).unwrap();
    other.save(&scene.path("other.safetensors")).unwrap();
    scene.fails(
        "export --data pictures --series series --checkpoint parent.safetensors --checkpoint other.safetensors",
        &["parent.safetensors and other.safetensors differ"],
    );
    assert!(!scene.path("series/manifest.json").exists());
    scene.run("export --data pictures --series series --checkpoint parent.safetensors");
    scene.fails(
        "calibrate --data pictures --series series --variant absent",
        &["no variant `absent`", "it has parent"],
    );
    scene.fails("report --series absent --to report", &["absent/manifest.json"]);
    scene.fails(
        "report --series series --run absent --to report",
        &["absent/settings.json"],
    );
}
