//! Cutting a network never changes its answer: every variant at every split point, of every series in `models` and of made-up ones.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use split_core::{
    Manifest, Shape,
    manifest::{Input, Segment, Split, Variant},
};
use split_tests::{
    series::Series,
    toy::{Recipe, Toy},
};

fn open(folder: &Path) -> Series {
    Series::open(folder).unwrap()
}

/// What consecutive segments, the first of which takes this shape, make of these values.
fn run(series: &Series, input: Shape, segments: &[Segment], values: &[f32]) -> Vec<f32> {
    let mut output = Vec::new();
    series
        .network(input, segments)
        .unwrap()
        .run(1, values, &mut output)
        .unwrap();
    output
}

/// Where a variant can be cut.
fn splits(manifest: &Manifest, variant: &Variant) -> Vec<Split> {
    let places = manifest.split_points.iter().zip(&variant.cuts);
    let between = places.filter(|it| it.1.is_some()).map(|it| Split::At(it.0.clone()));
    [Split::Input, Split::Output].into_iter().chain(between).collect()
}

fn check(series: &Series) {
    assert!(!series.manifest.variants.is_empty());
    series.manifest.variants.iter().for_each(|it| check_variant(series, it));
}

fn check_variant(series: &Series, variant: &Variant) {
    let manifest = &series.manifest;
    let input = manifest.input_of(variant);
    let values = frame(input);
    let uncut = run(series, input.shape, &variant.segments, &values);
    assert_eq!(uncut.len(), manifest.classes.len());
    for split in splits(manifest, variant) {
        let cut = manifest.cut_at(variant, &split).unwrap();
        let features = run(series, input.shape, cut.head, &values);
        assert_eq!(features.len(), cut.features.values(), "{} at {split}", variant.name);
        let answer = run(series, cut.features, cut.tail, &features);
        assert_eq!(answer.len(), uncut.len(), "{} at {split}", variant.name);
        for (got, expected) in answer.iter().zip(&uncut) {
            let close = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
            assert!(close, "{} at {split}: {got} is not {expected}", variant.name);
        }
    }
}

/// A frame of slanting stripes, normalised.
fn frame(input: &Input) -> Vec<f32> {
    let pixels = 0..input.shape.positions();
    let rgba: Vec<u8> = pixels
        .flat_map(|it| [it * 7 % 256, it * 11 % 256, it * 13 % 256, 255].map(|it| it as u8))
        .collect();
    let mut values = Vec::new();
    input.normalize_rgba(&rgba, &mut values).unwrap();
    values
}

fn check_toy(toy: &Toy) {
    let folder = tempfile::tempdir().unwrap();
    toy.write(folder.path()).unwrap();
    check(&open(folder.path()));
}

#[test]
fn tail_of_head_equals_the_uncut_network_in_made_up_series() {
    check_toy(&Toy::new(&Recipe::default()).unwrap());
    check_toy(&Toy::vgg16(3, 8).unwrap());
}

#[test]
fn tail_of_head_equals_the_uncut_network_in_every_shipped_series() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let folders = fs::read_dir(models).into_iter().flatten().map(|it| it.unwrap().path());
    let series: Vec<PathBuf> = folders.filter(|it| it.join("manifest.json").is_file()).collect();
    assert!(!series.is_empty(), "no series is shipped");
    series.iter().for_each(|it| check(&open(it)));
}
