//! Runs that are stopped after every part, against those that are not.

use std::fs;

use super::*;
use crate::data::DataSource;
use crate::prune;
use crate::settings::{Augmentation, Criterion, Learning, RegionName};
use crate::tensors::{self, NamedTensor};

/// Toy pictures as an image folder, and a toy checkpoint beside them.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (subset, count) in [("train", 48), ("test", 12)] {
        let data = Dataset::toy(count);
        for index in 0..count {
            let folder = dir.path().join(subset).join(&data.classes()[data.label(index)]);
            fs::create_dir_all(&folder).unwrap();
            let picture = image::RgbImage::from_raw(16, 16, data.pixels(index).unwrap().into_owned()).unwrap();
            picture.save(folder.join(format!("{index}.png"))).unwrap();
        }
    }
    Checkpoint::toy([8, 8, 8, 8, 8])
        .save(&dir.path().join("parent"))
        .unwrap();
    dir
}

fn settings(scene: &Path, task: Task) -> Settings {
    let parent = scene.join("parent");
    let Checkpoint { description, .. } = Checkpoint::toy([8; 5]);
    Settings {
        architecture: description.architecture,
        input: description.input,
        classes: description.classes,
        preparation: description.preparation,
        task,
        learning: Learning {
            source: DataSource {
                data: scene.to_owned(),
                ..DataSource::default()
            },
            epochs: 4,
            batch: 20,
            teacher: Some(parent.clone()),
            teacher_share: 0.5,
            ..Learning::default()
        },
        parent: Some(parent),
    }
}

fn step1() -> Task {
    Task::Step1(Step1 {
        region: RegionName::All,
        split: None,
        match_features: false,
        criterion: Criterion::Taylor,
        fewer_macs: 800.0,
        rounds: 3,
        round_batches: 2,
        round_learning_rate: 0.01,
        multiple: 1,
        work_exponent: 0.25,
    })
}

fn step2(unfreeze: bool) -> Task {
    Task::Step2(Step2 {
        split: "pool2".into(),
        width: 2,
        bits: 3,
        rate_penalty: 0.01,
        round_batches: 2,
        round_learning_rate: 0.01,
        unfreeze,
    })
}

fn on_one_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap()
        .install(work)
}

#[test]
fn a_run_stopped_after_every_part_ends_as_one_that_was_not_stopped() {
    let scene = scene();
    for (task, cached_views) in [
        (Task::Train, None),
        (step1(), None),
        (step2(false), None),
        (step2(false), Some(2)),
    ] {
        let [whole, stopped] = ["whole", "stopped"].map(|it| scene.path().join(it));
        let mut settings = settings(scene.path(), task);
        settings.learning.cached_views = cached_views;
        let mixed = if cached_views.is_none() { 0.4 } else { 0.0 };
        settings.learning.augmentation = Augmentation {
            zoom: Some(0.5),
            colour: 0.2,
            mixup: mixed,
            cutmix: mixed,
            no_flip: false,
        };
        on_one_thread(|| {
            run(&whole, &settings).unwrap();
            fs::create_dir_all(&stopped).unwrap();
            fs::copy(whole.join("settings.json"), stopped.join("settings.json")).unwrap();
            let mut parts = 0;
            while Run::open(&Library::default(), &stopped)
                .unwrap()
                .advance(&ProgressBar::hidden())
                .unwrap()
            {
                parts += 1;
            }
            assert!(parts >= 4, "{parts} parts");
            resume(&stopped).unwrap();
        });
        for file in ["final.safetensors", "last.safetensors"] {
            let [whole, stopped] = [&whole, &stopped].map(|it| fs::read(it.join(file)).unwrap());
            assert!(whole == stopped, "{file} of {:?}", settings.task);
        }
        [whole, stopped].iter().for_each(|it| fs::remove_dir_all(it).unwrap());
    }
}

#[test]
fn the_mean_of_the_last_weights_is_kept() {
    let scene = scene();
    let learned = [0.0, 0.5].map(|average| {
        let folder = scene.path().join(format!("{average}"));
        let mut settings = settings(scene.path(), Task::Train);
        settings.learning.average = average;
        run(&folder, &settings).unwrap();
        let state = tensors::load(&folder.join(STATE)).unwrap().0;
        let kept = Checkpoint::load(&folder.join(FINAL)).unwrap().to_tensors().unwrap().0;
        let name = "classifier.weight";
        assert_eq!(kept[name] == state[name], average == 0.0);
        state[name].clone()
    });
    // What is learned does not depend on it.
    assert!(learned[0] == learned[1]);
}

#[test]
fn step_2_touches_no_layer_before_the_pruned_one() {
    let scene = scene();
    let parent = Checkpoint::load(&scene.path().join("parent")).unwrap();
    for unfreeze in [false, true] {
        let folder = scene.path().join(format!("{unfreeze}"));
        run(&folder, &settings(scene.path(), step2(unfreeze))).unwrap();
        let pruned = Checkpoint::load(&folder.join("final.safetensors")).unwrap();
        assert_eq!(pruned.description.widths, [8, 2, 8, 8, 8]);
        let [parent, pruned] = [&parent, &pruned].map(|it| it.to_tensors().unwrap().0);
        // The first convolution and its batch norm; pool1 follows, and then the pruned layer.
        let (before, after): (Vec<_>, Vec<_>) = pruned
            .iter()
            .partition(|(name, _)| name.starts_with("features.0.") || name.starts_with("features.1."));
        assert_eq!(before.len(), 5);
        let changed = |(name, tensor): &(&String, &NamedTensor)| parent[*name] != **tensor;
        assert_eq!(before.iter().any(changed), unfreeze);
        assert!(after.iter().all(changed));
    }
}

#[test]
fn the_best_epoch_is_kept_and_becomes_the_result_if_that_is_asked_for() {
    let scene = scene();
    let folder = scene.path().join("run");
    let mut settings = settings(scene.path(), Task::Train);
    run(&folder, &settings).unwrap();
    let last = || fs::read(folder.join(LAST)).unwrap();
    let result = || fs::read(folder.join(FINAL)).unwrap();
    assert!(result() == last());
    // As if the second epoch had been better than all that followed.
    let best = Checkpoint::toy([4; 5]);
    best.save(&folder.join(BEST)).unwrap();
    let (tensors, mut metadata) = tensors::load(&folder.join(STATE)).unwrap();
    let mut progress: Progress = serde_json::from_str(&metadata["progress"]).unwrap();
    progress.best = Some(Best {
        epoch: 2,
        accuracy: 99.0,
    });
    metadata.insert("progress".into(), serde_json::to_string(&progress).unwrap());
    tensors::save(&folder.join(STATE), &tensors, metadata).unwrap();
    run(&folder, &settings).unwrap();
    assert!(result() == last());
    settings.learning.best = true;
    run(&folder, &settings).unwrap();
    assert_eq!(Checkpoint::load(&folder.join(FINAL)).unwrap(), best);
    let outcome: Outcome = serde_json::from_slice(&fs::read(folder.join(OUTCOME)).unwrap()).unwrap();
    let data = Dataset::toy(12);
    assert_eq!(outcome.test_accuracy, learn::measure(&best, &data).unwrap().accuracy());
}

#[test]
fn the_log_names_an_epoch_as_the_best_that_is_as_good_as_any() {
    let scene = scene();
    let folder = scene.path().join("run");
    run(&folder, &settings(scene.path(), Task::Train)).unwrap();
    let (_, metadata) = tensors::load(&folder.join(STATE)).unwrap();
    let Progress { best, .. } = serde_json::from_str(&metadata["progress"]).unwrap();
    let log = crate::log::read(&folder).unwrap();
    let last_best = log
        .parts
        .iter()
        .max_by(|a, b| a.validation_accuracy.total_cmp(&b.validation_accuracy));
    let expected = last_best.map(|it| Best {
        epoch: it.number,
        accuracy: it.validation_accuracy,
    });
    assert_eq!(best, expected);
    assert!(log.parts.iter().all(|it| it.seconds > 0.0));
}

#[test]
fn a_run_is_not_gone_on_with_by_two_programs_at_once() {
    let scene = scene();
    let folder = scene.path().join("run");
    fs::create_dir_all(&folder).unwrap();
    let settings = settings(scene.path(), Task::Train);
    let first = lock(&folder).unwrap();
    let message = run(&folder, &settings).unwrap_err().to_string();
    assert!(message.contains("another program"), "{message}");
    drop(first);
    run(&folder, &settings).unwrap();
}

#[test]
fn a_state_of_another_run_is_refused() {
    let scene = scene();
    let [one, two] = ["one", "two"].map(|it| scene.path().join(it));
    let mut other = settings(scene.path(), Task::Train);
    run(&one, &other).unwrap();
    other.learning.weight_decay = 0.01;
    run(&two, &other).unwrap();
    fs::copy(two.join(STATE), one.join(STATE)).unwrap();
    let message = resume(&one).unwrap_err().to_string();
    assert!(
        message.contains("of another run") && message.contains("--weight-decay"),
        "{message}"
    );
    // Files may have moved, and epochs be added.
    let mut same = read_settings(&two).unwrap();
    same.learning.epochs += 1;
    let moved = scene.path().join("moved");
    fs::rename(scene.path().join("parent"), &moved).unwrap();
    (same.parent, same.learning.teacher) = (Some(moved.clone()), Some(moved));
    fs::write(two.join(SETTINGS), serde_json::to_string(&same).unwrap()).unwrap();
    resume(&two).unwrap();
}

#[test]
fn step_2_puts_no_bottleneck_behind_another() {
    let scene = scene();
    let parent = scene.path().join("parent");
    let Checkpoint { description, graph } = Checkpoint::load(&parent).unwrap();
    let node = cut_node(&graph, "pool1").unwrap();
    let features = vec![1.0; graph.shape(Source::Node(node)).values()];
    let bottleneck = prune::bottleneck(&features, graph.shape(Source::Node(node)).channels(), 2);
    let graph = graph.with_bottleneck(node, &bottleneck).unwrap();
    let names: Vec<String> = graph.cut_points().into_iter().map(|it| it.name).collect();
    Checkpoint::new(description, graph).unwrap().save(&parent).unwrap();
    let mut settings = settings(scene.path(), step2(false));
    let wide = names.iter().find(|it| it.starts_with("decode.")).unwrap();
    if let Task::Step2(step) = &mut settings.task {
        step.split = wide.clone();
    }
    let message = run(&scene.path().join("run"), &settings).unwrap_err().to_string();
    assert!(
        message.contains("decode.pool1 lies behind the bottleneck at pool1"),
        "{message}"
    );
}

/// A disk that fills up while a state is written.
#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_the_last_state_stays_usable() {
    let scene = scene();
    let folder = scene.path().join("run");
    fs::create_dir_all(&folder).unwrap();
    let settings = settings(scene.path(), step1());
    fs::write(folder.join("settings.json"), serde_json::to_string(&settings).unwrap()).unwrap();
    assert!(
        Run::open(&Library::default(), &folder)
            .unwrap()
            .advance(&ProgressBar::hidden())
            .unwrap()
    );
    let before = fs::read(folder.join(STATE)).unwrap();
    for file in [STATE, "last.safetensors"] {
        let part = files::part(&folder.join(file));
        std::os::unix::fs::symlink("/dev/full", part).unwrap();
        let message = format!("{:#}", resume(&folder).unwrap_err());
        assert!(message.contains(file) && message.contains("No space left"), "{message}");
        assert!(fs::read(folder.join(STATE)).unwrap() == before);
    }
    resume(&folder).unwrap();
    assert!(folder.join("final.safetensors").exists());
}

#[test]
fn what_was_learned_is_kept_from_other_settings() {
    let scene = scene();
    let folder = scene.path().join("run");
    let mut wrong = settings(scene.path(), step2(false));
    if let Task::Step2(step) = &mut wrong.task {
        step.split = "pool7".into();
    }
    let message = run(&folder, &wrong).unwrap_err().to_string();
    assert!(message.contains("`pool7`") && message.contains("pool1, "), "{message}");
    // Nothing was learned, so the right name may follow in the same folder.
    let right = settings(scene.path(), step2(false));
    run(&folder, &right).unwrap();
    let message = run(&folder, &wrong).unwrap_err().to_string();
    assert!(message.contains("other settings"), "{message}");
    run(&folder, &right).unwrap();
}

#[test]
fn a_teachers_logits_are_not_taken_for_anothers() {
    let scene = scene();
    let mut settings = settings(scene.path(), Task::Train);
    settings.learning.teacher_logits = Some(scene.path().join("logits"));
    run(&scene.path().join("one"), &settings).unwrap();
    run(&scene.path().join("two"), &settings).unwrap();
    Checkpoint::toy([4; 5]).save(&scene.path().join("other")).unwrap();
    settings.learning.teacher = Some(scene.path().join("other"));
    let message = run(&scene.path().join("three"), &settings).unwrap_err().to_string();
    assert!(
        message.contains("logits") && message.contains("another teacher"),
        "{message}"
    );
}

#[test]
fn a_teachers_logits_are_not_taken_for_those_to_other_pictures() {
    let scene = scene();
    let mut settings = settings(scene.path(), Task::Train);
    settings.learning.epochs = 1;
    settings.learning.teacher_logits = Some(scene.path().join("logits"));
    run(&scene.path().join("one"), &settings).unwrap();
    // As many pictures as before, of the same classes, one of them another.
    let picture = image::RgbImage::from_pixel(16, 16, image::Rgb([1, 2, 3]));
    picture.save(scene.path().join("train/cat/0.png")).unwrap();
    let message = run(&scene.path().join("two"), &settings).unwrap_err().to_string();
    assert!(
        message.contains("logits") && message.contains("other pictures"),
        "{message}"
    );
}

#[test]
fn logits_that_do_not_say_whose_they_are_are_computed_anew() {
    let scene = scene();
    let mut settings = settings(scene.path(), Task::Train);
    settings.learning.epochs = 1;
    let path = scene.path().join("logits");
    settings.learning.teacher_logits = Some(path.clone());
    run(&scene.path().join("run"), &settings).unwrap();
    let (tensors, metadata) = tensors::load(&path).unwrap();
    let mut wrong = tensors.clone();
    wrong.values_mut().for_each(|it| it.values.fill(0.0));
    for missing in ["teacher", "pictures"] {
        let mut metadata = metadata.clone();
        metadata.remove(missing).unwrap();
        tensors::save(&path, &wrong, metadata).unwrap();
        run(&scene.path().join(missing), &settings).unwrap();
        assert!(tensors::load(&path).unwrap().0 == tensors, "{missing}");
    }
    assert_eq!(tensors::load(&path).unwrap().1, metadata);
}

#[test]
fn a_file_that_holds_no_logits_is_not_overwritten() {
    let scene = scene();
    let mut settings = settings(scene.path(), Task::Train);
    let parent = scene.path().join("parent");
    settings.learning.teacher_logits = Some(parent.clone());
    let before = fs::read(&parent).unwrap();
    let message = run(&scene.path().join("run"), &settings).unwrap_err().to_string();
    assert!(message.contains("no logits"), "{message}");
    assert!(fs::read(&parent).unwrap() == before);
}
