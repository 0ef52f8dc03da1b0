//! Many commands from one file.

use std::{fs, os::unix::process::CommandExt, process::Stdio, thread::sleep, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::support::{Scene, bytes};

const SWEEP: &str = "\
# Two runs from one parent, the second with a split point that does not exist; then what needs them.
defaults prune step2 --data pictures --parent parent.safetensors --epochs 1 --round-batches 1 --width 4

prune step2 --run runs/one --split pool3
prune step2 --run runs/two --split pool9
export --data pictures --series one --checkpoint runs/one/final.safetensors
export --data pictures --series two --checkpoint runs/two/final.safetensors
";

/// The lines of what is done now, by their numbers.
fn given(said: &str) -> Vec<usize> {
    let lines = said
        .lines()
        .filter(|it| it.starts_with('[') && !it.ends_with("is finished"));
    let numbers = lines.filter_map(|it| it.split_once("line ")?.1.split(':').next()?.parse().ok());
    numbers.collect()
}

#[test]
fn a_command_that_fails_stops_only_what_needs_it_and_the_next_time_only_those_are_given() {
    let scene = Scene::new();
    fs::write(scene.path("sweep"), SWEEP).unwrap();
    scene.fails(
        "sweep sweep",
        &[
            "2 of 4 commands in sweep failed",
            "line 5, runs/two: the network cannot be cut at `pool9`",
            "line 7, export two: not run, because line 5 failed",
        ],
    );
    let table = scene.run("sweep sweep --table");
    let row = |at: usize| table.lines().nth(1 + at).unwrap().to_owned();
    for word in ["runs/one", "%", "1/1", "finished"] {
        assert!(row(0).contains(word), "{word} in {table}");
    }
    assert!(
        row(1).contains("failed: the network cannot be cut at `pool9`"),
        "{table}"
    );
    assert!(row(2).contains("export one") && row(2).ends_with("finished"), "{table}");
    assert!(row(3).ends_with("to do"), "{table}");

    fs::write(scene.path("sweep"), SWEEP.replace("pool9", "pool2")).unwrap();
    let said = scene.says("sweep sweep");
    assert_eq!(given(&said), [5, 7], "{said}");
    assert!(
        bytes(&scene.path("two/manifest.json"))
            .windows(4)
            .any(|it| it == b"two\"")
    );
    assert!(given(&scene.says("sweep sweep")).is_empty());

    // What is gone is made again, and so is what came of it.
    fs::remove_dir_all(scene.path("runs/one")).unwrap();
    let said = scene.says("sweep sweep");
    assert_eq!(given(&said), [4, 6], "{said}");
}

#[test]
fn one_command_is_given_by_its_index() {
    let scene = Scene::new();
    fs::write(scene.path("sweep"), SWEEP).unwrap();
    let index = |index: &str| {
        let mut command = scene.command("sweep sweep");
        command.env("JOB_COMPLETION_INDEX", index).output().unwrap()
    };
    let output = index("2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("line 6 needs what line 4 makes"),
        "{error}"
    );
    assert!(index("0").status.success());
    assert!(scene.path("runs/one/final.safetensors").exists());
    assert!(!scene.path("runs/two").exists() && !scene.path("one").exists());
    assert!(index("2").status.success());
    assert!(!index("1").status.success());
    scene.fails("sweep sweep --index 4", &["there are 4 commands", "--index says 4"]);
}

#[test]
fn what_is_wrong_with_a_sweep_is_said_before_anything_is_done() {
    let scene = Scene::new();
    let check = |text: &str, words: &[&str]| {
        fs::write(scene.path("sweep"), format!("{SWEEP}\n{text}\n")).unwrap();
        scene.fails("sweep sweep", words);
        assert!(!scene.path("runs").exists());
    };
    check(
        "train --data pictures --rum runs/x",
        &["line 9: unexpected argument '--rum'"],
    );
    check("trian --run runs/x", &["line 9: unrecognized subcommand 'trian'"]);
    check(
        "train --data pictures --run runs/x --parent absent.safetensors",
        &["line 9: --parent absent.safetensors is not there"],
    );
    check("calibrate --data pictures --series 'one", &["line 9: a quotation mark"]);
    scene.fails("sweep absent", &["absent: No such file"]);
}

#[test]
fn a_sweep_that_is_killed_goes_on() {
    let scene = Scene::new();
    let run =
        |name: &str| format!("train --data pictures --parent parent.safetensors --epochs 12 --batch 16 --run {name}");
    fs::write(scene.path("sweep"), format!("{}\n{}\n", run("one"), run("two"))).unwrap();
    let state = scene.path("two/state.safetensors");
    let mut command = scene.command("sweep sweep");
    // With the command that it has given, as Ctrl-C does.
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut sweep = command.spawn().unwrap();
    while !state.exists() && sweep.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(1));
    }
    kill_process_group(Pid::from_child(&sweep), Signal::KILL).unwrap();
    sweep.wait().unwrap();
    assert!(scene.run("sweep sweep --table").contains("begun"));
    let said = scene.says("sweep sweep");
    assert_eq!(given(&said), [2], "{said}");
    assert!(said.contains("going on after"), "{said}");
    let [one, two] = ["one", "two"].map(|it| bytes(&scene.path(it).join("final.safetensors")));
    assert!(one == two);
}

#[test]
fn the_job_has_an_index_for_each_of_its_commands() {
    let text = include_str!("../../../deploy/training/job.yaml");
    let documents = text
        .split("\n---\n")
        .map(|it| serde_yaml_ng::from_str::<Value>(it).unwrap());
    let documents: Vec<Value> = documents.collect();
    let of_kind = |kind: &str| documents.iter().find(|it| it["kind"] == kind).unwrap();
    let job = &of_kind("Job")["spec"];
    let container = &job["template"]["spec"]["containers"][0];
    let arguments: Vec<&str> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .find(|it| arguments[1].starts_with(it["mountPath"].as_str().unwrap()))
        .unwrap();
    assert_eq!(mount["readOnly"], true);
    let name = arguments[1].rsplit_once('/').unwrap().1;
    let sweep = of_kind("ConfigMap")["data"][name].as_str().unwrap();

    let scene = Scene::new();
    fs::write(scene.path("sweep"), sweep).unwrap();
    // All of its flags are known, and nothing is needed but what its comments name.
    let table = scene.run("sweep sweep --table");
    assert_eq!(job["completions"], table.lines().count() - 1);
    for needed in ["runs/unpruned/final.safetensors", "runs/step1/final.safetensors"] {
        assert!(text.contains(&format!("#   {needed}")), "{needed}");
        fs::create_dir_all(scene.path(needed).parent().unwrap()).unwrap();
        fs::copy(scene.path("parent.safetensors"), scene.path(needed)).unwrap();
    }
    // Another network's split points: the first command begins, so every input is there.
    let command = ["sweep", "sweep", "--index", "0"]
        .into_iter()
        .chain(arguments[2..].iter().copied());
    let mut command = scene.command(&command.collect::<Vec<_>>().join(" "));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("is not there"), "{said}");
    assert!(output.status.success(), "{said}");
}
