//! Checkpoints that are refused, and what the error names.

use super::*;

fn saved(tensors: &BTreeMap<String, NamedTensor>, description: &Description) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.safetensors");
    let description = serde_json::to_string(description).unwrap();
    save_tensors(&path, tensors, [(DESCRIPTION.to_owned(), description)].into()).unwrap();
    (dir, path)
}

/// The error names the file and all `words` when the toy network was changed like this before it was saved.
fn check(change: impl FnOnce(&mut BTreeMap<String, NamedTensor>, &mut Description), words: &[&str]) {
    let toy = Checkpoint::toy([4; 5]);
    let (mut tensors, mut description) = (toy.tensors, toy.description);
    change(&mut tensors, &mut description);
    let (_dir, path) = saved(&tensors, &description);
    let message = Checkpoint::load(&path).unwrap_err().to_string();
    for word in ["toy.safetensors"].iter().chain(words) {
        assert!(message.contains(word), "`{word}` in `{message}`");
    }
}

#[test]
fn a_checkpoint_comes_back_as_it_was() {
    let toy = Checkpoint::toy([4; 5]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.safetensors");
    toy.save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), toy);
}

#[test]
fn a_missing_tensor_is_named() {
    check(
        |tensors, _| drop(tensors.remove("features.5.running_var")),
        &["`features.5.running_var` of alexnet is missing"],
    );
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let reshaped = |shape: [usize; 4]| NamedTensor {
        shape: shape.into(),
        values: vec![0.0; shape.iter().product()],
    };
    check(
        |tensors, _| drop(tensors.insert("features.4.weight".into(), reshaped([4, 5, 3, 3]))),
        &["`features.4.weight`", "[4, 5, 3, 3]", "[4, 4, 3, 3]"],
    );
}

#[test]
fn another_class_count_is_named() {
    check(
        |_, description| description.classes.push("bat".into()),
        &["`classifier.weight`", "[3, 16]", "[4, 16]", "class count"],
    );
}

#[test]
fn a_checkpoint_of_another_architecture_is_told_by_its_tensors() {
    check(
        |_, description| {
            description.architecture = "vgg11".into();
            description.input = [3, 32, 32];
            description.widths = vec![4; 8];
        },
        &["`features.15.weight`", "the widths or the architecture differ"],
    );
    check(
        |_, description| description.widths.push(4),
        &["alexnet has 5 convolutions, 6 widths"],
    );
}

#[test]
fn a_tensor_too_many_is_named() {
    check(
        |tensors, _| drop(tensors.insert("features.99.weight".into(), tensors["classifier.bias"].clone())),
        &["`features.99.weight` does not belong to alexnet"],
    );
}

#[test]
fn files_that_are_no_checkpoints_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, words: &str| {
        let message = Checkpoint::load(&dir.path().join(name)).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(words), "{message}");
    };
    check("absent", "No such file");
    std::fs::write(dir.path().join("text"), "no tensors").unwrap();
    check("text", "not a whole safetensors file");
    let toy = Checkpoint::toy([4; 5]);
    toy.save(&dir.path().join("cut short")).unwrap();
    let bytes = std::fs::read(dir.path().join("cut short")).unwrap();
    std::fs::write(dir.path().join("cut short"), &bytes[..bytes.len() - 1]).unwrap();
    check("cut short", "not a whole safetensors file");
    save_tensors(&dir.path().join("bare"), toy.tensors(), Default::default()).unwrap();
    check("bare", "trainer import");
    let half = TensorView::new(Dtype::F16, vec![2], &[0; 4]).unwrap();
    std::fs::write(
        dir.path().join("half"),
        safetensors::serialize([("features.0.weight", half)], None).unwrap(),
    )
    .unwrap();
    check("half", "`features.0.weight` holds F16");
}

#[test]
fn pytorchs_counters_are_no_tensors_of_the_network() {
    let toy = Checkpoint::toy([4; 5]);
    let mut tensors = toy.tensors.clone();
    tensors.insert(
        "features.1.num_batches_tracked".into(),
        tensors["classifier.bias"].clone(),
    );
    let (_dir, path) = saved(&tensors, toy.description());
    assert_eq!(Checkpoint::load(&path).unwrap(), toy);
}
