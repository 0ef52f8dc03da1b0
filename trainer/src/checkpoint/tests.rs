//! Checkpoints that are refused, and what the error names.

use std::path::PathBuf;

use safetensors::{Dtype, tensor::TensorView};

use super::*;

/// As earlier releases wrote it, without a graph.
fn saved(tensors: &Tensors, description: &Description) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.safetensors");
    let description = serde_json::to_string(description).unwrap();
    tensors::save(&path, tensors, [(DESCRIPTION.to_owned(), description)].into()).unwrap();
    (dir, path)
}

/// The error names the file and all `words` when the toy network was changed like this before it was saved.
fn check(change: impl FnOnce(&mut Tensors, &mut Description), words: &[&str]) {
    let toy = Checkpoint::toy([4; 5]);
    let (mut tensors, mut description) = (toy.to_tensors().unwrap().0, toy.description);
    change(&mut tensors, &mut description);
    let (_dir, path) = saved(&tensors, &description);
    let message = format!("{:#}", Checkpoint::load(&path).unwrap_err());
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
    let (_dir, path) = saved(&toy.to_tensors().unwrap().0, &toy.description);
    assert_eq!(Checkpoint::load(&path).unwrap(), toy, "one of an earlier release");
}

#[test]
fn a_mean_lies_between_networks_of_one_structure() {
    let toy = |seed| Checkpoint::random(Checkpoint::toy([4; 5]).description, seed).unwrap();
    let all = [toy(1), toy(2), toy(3)];
    let mean = Checkpoint::mean(&all).unwrap().to_tensors().unwrap().0;
    let parts = all.each_ref().map(|it| it.to_tensors().unwrap().0);
    for (name, tensor) in &mean {
        for (at, value) in tensor.values.iter().enumerate() {
            let sum: f32 = parts.iter().map(|it| it[name].values[at]).sum();
            assert!((sum / 3.0 - value).abs() < 1e-6, "{name}");
        }
    }
    let message = Checkpoint::mean(&[toy(1), Checkpoint::toy([8; 5])])
        .unwrap_err()
        .to_string();
    assert!(message.contains("different networks"), "{message}");
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
        &["features.4", "takes 5 channels", "4×8×8"],
    );
}

#[test]
fn another_class_count_is_named() {
    check(
        |_, description| description.classes.push("bat".into()),
        &["the network gives 3×1×1", "4 classes"],
    );
}

#[test]
fn a_checkpoint_of_another_architecture_is_told_by_its_tensors() {
    check(
        |_, description| {
            description.architecture = "vgg11".into();
            description.input = [3, 32, 32];
        },
        &["`features.15.weight`", "another architecture"],
    );
    check(
        |_, description| description.architecture = "lenet".into(),
        &["`lenet`", "vgg16"],
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
        let message = format!("{:#}", Checkpoint::load(&dir.path().join(name)).unwrap_err());
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
    tensors::save(
        &dir.path().join("bare"),
        &toy.to_tensors().unwrap().0,
        Default::default(),
    )
    .unwrap();
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
    let mut tensors = toy.to_tensors().unwrap().0;
    tensors.insert(
        "features.1.num_batches_tracked".into(),
        tensors["classifier.bias"].clone(),
    );
    let (_dir, path) = saved(&tensors, &toy.description);
    assert_eq!(Checkpoint::load(&path).unwrap(), toy);
}

#[test]
fn a_network_for_other_classes_and_pictures_keeps_what_fits() {
    let classes = |count: usize| (0..count).map(|it| it.to_string()).collect::<Vec<_>>();
    let known = Description::usual(Architecture::EfficientNetLite0, [64; 2], classes(5));
    let known = Checkpoint::random(known, 1).unwrap();
    // At 80 pixels the padding of strided layers is another.
    let description = Description::usual(Architecture::EfficientNetLite0, [80; 2], classes(3));
    let fresh = Checkpoint::random(description.clone(), 2).unwrap();
    let (adapted, anew) = known.clone().adapted(description, 2).unwrap();
    assert_eq!(anew, ["classifier"]);
    let last = fresh.graph.nodes().len() - 1;
    for (number, (node, like)) in adapted.graph.nodes().iter().zip(fresh.graph.nodes()).enumerate() {
        let describe = |it: &Node| serde_json::to_string(it).unwrap();
        assert_eq!(describe(node), describe(like));
        let kept = node
            .op
            .tensors()
            .iter()
            .zip(known.graph.nodes()[number].op.tensors())
            .all(|(a, b)| a.values == b.values);
        assert_eq!(kept, number != last, "{}", node.name);
    }
}
