//! What is refused, and that the message names it.

use std::fs;

use split_graph::{Graph, Op};
use trainer::checkpoint::{Checkpoint, Description, architecture};

use crate::support::{Scene, bytes, small_alexnet};

const STEP2: &str = "prune step2 --data pictures --parent parent.safetensors --run run --epochs 1 --round-batches 1";
const TRAIN: &str = "train --data pictures --architecture alexnet --size 16 16 --run run --epochs 1";

#[test]
fn split_points_and_widths_that_do_not_exist_are_named() {
    let scene = Scene::new();
    let check = |flags: &str, words: &[&str]| scene.fails(&format!("{STEP2} {flags}"), words);
    check(
        "--split pool9 --width 2",
        &["cut at `pool9`", "it can at", "pool1, ", "pool3"],
    );
    check("--split pool3 --width 17", &["16 channels cross at pool3", "17"]);
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
    let export = "export --data pictures --checkpoint parent.safetensors --series";
    for name in ["my-série", ".hidden", "<i>"] {
        scene.fails(
            &format!("{export} {name}"),
            &["--series", "cannot be named", "letters (a to z), digits"],
        );
    }
    assert!(!scene.path("<i>").exists());
    for command in [export, "quick --data pictures --series"] {
        for path in [".", "models/.."] {
            scene.fails(
                &format!("{command} {path}"),
                &[path, "does not end in a name", "--series models/my-classes"],
            );
        }
    }
    scene.fails(
        "report --to report --series pictures",
        &["pictures", "not the folder of a series", "`trainer export`"],
    );
}

#[cfg(unix)]
#[test]
fn a_command_whose_output_nobody_reads_ends_quietly() {
    let scene = Scene::new();
    let picture = scene.path("pictures/test/cat/0.png");
    for arguments in [
        format!("predict --checkpoint parent.safetensors {}", picture.display()),
        "describe parent.safetensors".to_owned(),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = scene.command(&arguments).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments}");
        assert!(!output.status.success());
    }
}

#[test]
fn numbers_that_no_run_can_be_made_with_are_named_by_their_flags() {
    let scene = Scene::new();
    for (flags, word) in [
        ("--batch 0", "--batch"),
        ("--pictures 0", "--pictures"),
        ("--warm-up 2", "--warm-up"),
        ("--temperature 0", "--temperature"),
        ("--learning-rate -1", "--learning-rate is above 0"),
        ("--weight-decay -1", "--weight-decay is 0 to 1"),
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
        &["`resnet`", "vgg16", "resnet18"],
    );
}

#[test]
fn pictures_that_cannot_be_used_are_named() {
    let scene = Scene::new();
    for name in ["dog/broken.jpg", "owl/page.png"] {
        fs::write(scene.path("pictures/train").join(name), "no picture").unwrap();
    }
    scene.fails(
        TRAIN,
        &[
            "2 of 74 pictures",
            "broken.jpg: not a picture",
            "page.png",
            "--skip-bad",
        ],
    );
    scene.run(&format!("{TRAIN} --skip-bad"));
    for name in ["dog/broken.jpg", "owl/page.png"] {
        fs::remove_file(scene.path("pictures/train").join(name)).unwrap();
    }
    fs::create_dir(scene.path("pictures/train/bat")).unwrap();
    scene.fails(TRAIN, &["bat holds no pictures"]);
    fs::remove_dir(scene.path("pictures/train/bat")).unwrap();
    fs::remove_dir_all(scene.path("pictures/test/owl")).unwrap();
    scene.fails(
        &TRAIN.replace("--run run", "--run other"),
        &["pictures/test lacks `owl`"],
    );
    fs::remove_dir_all(scene.path("pictures/train/owl")).unwrap();
    scene.fails(
        &format!("{STEP2} --split pool3 --width 2").replace("--run run", "--run another"),
        &["pictures/train lacks `owl`", "the run"],
    );
    scene.fails("train --data nothing --run run", &["nothing", "CIFAR"]);
}

#[test]
fn a_run_goes_on_with_the_pictures_that_it_learned_from_only() {
    let scene = Scene::new();
    scene.run(TRAIN);
    let at = |name: &str| scene.path("pictures/train").join(name);
    // Swapped: as many pictures of each class as before, all labels wrong.
    fs::rename(at("cat"), at("x")).unwrap();
    fs::rename(at("dog"), at("cat")).unwrap();
    fs::rename(at("x"), at("dog")).unwrap();
    scene.fails(TRAIN, &["not those that run has learned from", "in other classes"]);
    scene.fails("resume run", &["not those that run has learned from"]);
    fs::rename(at("cat"), at("x")).unwrap();
    fs::rename(at("dog"), at("cat")).unwrap();
    fs::rename(at("x"), at("dog")).unwrap();
    scene.run(TRAIN);
    fs::copy(at("cat/0.png"), at("cat/more.png")).unwrap();
    scene.fails(TRAIN, &["cat 24 → 25", "--parent run/last.safetensors"]);
}

#[test]
fn a_finished_run_can_be_lengthened_and_others_settings_are_named() {
    let scene = Scene::new();
    scene.run(TRAIN);
    let before = bytes(&scene.path("run/final.safetensors"));
    // Another way to the same folder.
    let again = scene.says(&TRAIN.replace("--data pictures", "--data ./pictures/../pictures"));
    assert!(again.contains("nothing is left to learn"), "{again}");
    assert_eq!(bytes(&scene.path("run/final.safetensors")), before);
    let longer = scene.says(&TRAIN.replace("--epochs 1", "--epochs 2"));
    assert!(
        longer.contains("had 1 epoch, it now gets 2") && longer.contains("going on after epoch 1"),
        "{longer}"
    );
    assert_ne!(bytes(&scene.path("run/final.safetensors")), before);
    scene.fails(
        &format!("{TRAIN} --learning-rate 0.01"),
        &["--learning-rate was 0.05, is now 0.01"],
    );
}

#[test]
fn what_diverges_is_stopped_and_the_state_before_kept() {
    let scene = Scene::new();
    scene.run(TRAIN);
    let state = bytes(&scene.path("run/state.safetensors"));
    // From a network whose weights are too large already, with the highest rate that is allowed.
    let Checkpoint { description, graph } = Checkpoint::load(&scene.path("parent.safetensors")).unwrap();
    let (input, mut nodes) = (graph.input(), graph.into_nodes());
    if let Some(Op::Linear(classifier)) = nodes.last_mut().map(|it| &mut it.op) {
        classifier.weight.iter_mut().for_each(|it| *it *= 1e6);
    }
    let wild = Checkpoint::new(description, Graph::new(input, nodes).unwrap()).unwrap();
    wild.save(&scene.path("wild.safetensors")).unwrap();
    let train = TRAIN.replace(
        "--run run",
        "--run wild --parent wild.safetensors --learning-rate 10 --warm-up 0",
    );
    scene.fails(&train, &["diverges", "learning rate", "a tenth"]);
    assert!(!scene.path("wild/final.safetensors").exists() && !scene.path("wild/state.safetensors").exists());
    assert_eq!(bytes(&scene.path("run/state.safetensors")), state);
}

#[test]
fn goals_that_cannot_be_met_or_are_met_already_are_said() {
    let scene = Scene::new();
    let step1 = "prune step1 --data pictures --parent parent.safetensors --epochs 1 --rounds 1 --round-batches 1";
    let met = scene.says(&format!("{step1} --run met --fewer-macs 2"));
    assert!(met.contains("nothing is removed"), "{met}");
    let beyond = scene.says(&format!("{step1} --run beyond --fewer-macs 1e6"));
    assert!(
        beyond.contains("not 1000000") && beyond.contains("8 channels"),
        "{beyond}"
    );
    let present = scene.says(&format!("{STEP2} --split pool1 --width 8"));
    assert!(present.contains("nothing has to be removed"), "{present}");
}

#[test]
fn a_network_that_knows_other_classes_learns_these() {
    let scene = Scene::new();
    let classes = ["ant", "bee"].map(String::from).into();
    small_alexnet(classes).save(&scene.path("other.safetensors")).unwrap();
    let said = scene.says("train --data pictures --parent other.safetensors --run run --epochs 1");
    assert!(said.contains("classifier begins anew"), "{said}");
    let learned = Checkpoint::load(&scene.path("run/final.safetensors")).unwrap();
    assert_eq!(learned.description.classes, ["cat", "dog", "owl"]);
    assert_eq!(learned.description.widths, [8, 8, 8, 8, 16]);
    for words in [
        "test: ",
        "always giving the same answer would be right for 33.33 %",
        "by class: ",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    scene.fails(
        "train --data pictures --parent other.safetensors --architecture vgg11 --run new",
        &["--parent is of the architecture alexnet"],
    );
}

#[test]
fn a_series_name_that_no_edge_worker_takes_is_refused_at_once() {
    let scene = Scene::new();
    for name in [".hidden", "<i>", "\u{1f600}"] {
        for command in ["export --checkpoint parent.safetensors", "quick"] {
            scene.fails(
                &format!("{command} --data pictures --series series/{name}"),
                &["cannot be named"],
            );
        }
    }
    assert!(!scene.path("series").exists());
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
    let named = format!("{import} --classes cat,dog,owl");
    scene.fails(&named, &["parent.safetensors", "--architecture", "resnet18"]);
    scene.fails(
        &format!("{named} --architecture vgg11"),
        &["`features.14.weight`", "another architecture"],
    );
    scene.fails(
        &format!("{named} --architecture alexnet --size 4 4"),
        &["parent.safetensors", "does not work on pictures of 4×4"],
    );
    scene.fails(
        &format!("{named} --architecture alexnet --size 32 32"),
        &["classifier: it takes 64", "256×1×1", "`train --parent … --size 32 32`"],
    );
    scene.run(&format!("{named} --architecture alexnet --size 16 16"));
    let load = |name| Checkpoint::load(&scene.path(name)).unwrap();
    assert_eq!(load("imported.safetensors"), load("parent.safetensors"));
}

#[test]
fn a_series_of_different_networks_is_refused() {
    let scene = Scene::new();
    let classes = ["ant", "bee"].map(String::from).into();
    let other = Description::usual(architecture("alexnet").unwrap(), [8; 2], classes);
    let other = Checkpoint::random(other, 1).unwrap();
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
