//! Cutting a network never changes its answer: every variant at every split point, of every series in `models` and of made-up ones.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use split_core::{
    Manifest,
    manifest::{Segment, Split, Variant},
};
use split_tests::{
    series::Series,
    toy::{Recipe, Toy},
};

fn open(folder: &Path) -> Series {
    Series::open(folder).unwrap()
}

/// What consecutive segments, the first of which takes `input`, make of these values.
fn run(series: &Series, before: &[Segment], segments: &[Segment], values: &[f32]) -> Vec<f32> {
    let shape = before.last().map_or(series.manifest.input.shape, |it| it.output);
    let mut output = Vec::new();
    series
        .network(shape, segments)
        .unwrap()
        .run(1, values, &mut output)
        .unwrap();
    output
}

fn splits(manifest: &Manifest) -> Vec<Split> {
    let between = manifest.split_points.iter().map(|it| Split::At(it.name.clone()));
    [Split::Input, Split::Output].into_iter().chain(between).collect()
}

fn check(series: &Series) {
    assert!(!series.manifest.variants.is_empty());
    series.manifest.variants.iter().for_each(|it| check_variant(series, it));
}

fn check_variant(series: &Series, variant: &Variant) {
    let manifest = &series.manifest;
    let values = frame(manifest);
    let uncut = run(series, &[], &variant.segments, &values);
    assert_eq!(uncut.len(), manifest.classes.len());
    for split in splits(manifest) {
        let (head, tail) = variant
            .segments
            .split_at(manifest.head_segments(variant, &split).unwrap());
        let features = run(series, &[], head, &values);
        let answer = run(series, head, tail, &features);
        for (got, expected) in answer.iter().zip(&uncut) {
            let close = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
            assert!(close, "{} at {split}: {got} is not {expected}", variant.name);
        }
    }
}

/// A frame of slanting stripes, normalised.
fn frame(manifest: &Manifest) -> Vec<f32> {
    let pixels = 0..manifest.input.shape.positions();
    let rgba: Vec<u8> = pixels
        .flat_map(|it| [it * 7 % 256, it * 11 % 256, it * 13 % 256, 255].map(|it| it as u8))
        .collect();
    let mut values = Vec::new();
    manifest.input.normalize_rgba(&rgba, &mut values).unwrap();
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
