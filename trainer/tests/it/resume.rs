//! A run that is killed again and again.

use std::{fs, path::Path, process::Stdio, thread::sleep, time::Duration};

use crate::support::{Scene, bytes};

const RUN: &str = "prune step1 --data pictures --parent parent.safetensors --teacher parent.safetensors \
                   --fewer-macs 640 --multiple 2 --rounds 3 --round-batches 4 --batch 16 --epochs 24";

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |it| it.lines().count())
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_one_that_is_not() {
    let scene = Scene::new();
    scene.run(&format!("{RUN} --run whole"));
    let (log, end) = (scene.path("killed/log.jsonl"), scene.path("killed/final.safetensors"));
    let mut kills = 0;
    // Each time it may do a few parts more than it had.
    for allowed in [1, 2, 4, 8] {
        let goal = lines(&log) + allowed;
        let mut command = scene.command(&format!("{RUN} --run killed"));
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while lines(&log) < goal && run.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        kills += usize::from(!end.exists());
    }
    assert!(kills > 0, "it was never killed before its end");
    scene.run("resume killed");
    assert!(bytes(&end) == bytes(&scene.path("whole/final.safetensors")));
}
