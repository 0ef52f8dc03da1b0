//! What is exported answers as the network did in training.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use split_runtime::Network;

use super::*;
use crate::learn;
use crate::series::measure::normalize;

const PICTURES: usize = 6;

/// A network pruned at its second, fourth and last layer.
fn pruned() -> Checkpoint {
    Checkpoint::toy([6, 4, 6, 3, 5])
}

/// The pictures as the network takes them, `[C, H, W]` each, and its answers in training.
fn lesson(checkpoint: &Checkpoint) -> (Vec<f32>, Vec<f32>) {
    let data = Dataset::toy(PICTURES);
    let description = &checkpoint.description;
    let input = Input {
        shape: Shape::try_from(description.input).unwrap(),
        preparation: split_core::Preparation::default(),
        mean: description.mean,
        std: description.std,
    };
    let (mut all, mut values) = (Vec::new(), Vec::new());
    for index in 0..data.len() {
        normalize(&input, &data.pixels(index).unwrap(), &mut values).unwrap();
        all.extend_from_slice(&values);
    }
    (all, learn::logits(checkpoint, &data, false, |_| ()).unwrap())
}

fn close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let greatest = expected.iter().fold(0.0, |greatest: f32, it| greatest.max(it.abs()));
    for (got, expected) in got.iter().zip(expected) {
        assert!(
            (got - expected).abs() < tolerance * greatest,
            "{what}: {got} for {expected}"
        );
    }
}

#[test]
fn exported_and_reloaded_a_pruned_network_answers_as_in_training() {
    let checkpoint = pruned();
    let (pictures, expected) = lesson(&checkpoint);
    let (files, split_points) = cut::write(&checkpoint.graph, &cut::usual_splits(&checkpoint.graph)).unwrap();
    assert_eq!(split_points.len(), 3);
    let run = |input: Shape, files: &[split_runtime::SegmentFile], values: &[f32]| {
        let mut network = Network::load(input, files.iter().map(|it| it.bytes.as_slice())).unwrap();
        let mut output = Vec::new();
        network.run(PICTURES, values, &mut output).unwrap();
        (network.output(), output)
    };
    let input = Shape::try_from(checkpoint.description.input).unwrap();
    // Segments hold 16-bit weights: 11 bits of precision each, over five layers.
    close("whole", &run(input, &files, &pictures).1, &expected, 5e-3);
    for (split, segments) in split_points {
        let (head, tail) = files.split_at(segments);
        let (shape, features) = run(input, head, &pictures);
        close(&split, &run(shape, tail, &features).1, &expected, 5e-3);
    }
}

#[test]
#[ignore = "needs Python with onnxruntime, named in PYTHON"]
fn onnxruntime_answers_as_in_training() {
    let checkpoint = pruned();
    let (pictures, expected) = lesson(&checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let toy = Named {
        name: "toy".into(),
        path: "toy.safetensors".into(),
        checkpoint,
    };
    let splits = ["pool1", "pool2", "pool3"].map(String::from);
    write_onnx(dir.path(), &toy, &splits).unwrap();
    let bytes: Vec<u8> = pictures.iter().flat_map(|it| it.to_le_bytes()).collect();
    fs::write(dir.path().join("pictures.f32"), bytes).unwrap();
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_outputs.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outputs: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["pool1", "pool2", "pool3", "whole"]);
    for (what, got) in &outputs {
        close(what, got, &expected, 1e-4);
    }
}
