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
use split_runtime::Network;
use split_tests::toy::{Recipe, Toy};

/// A series in a folder.
struct Series {
    folder: PathBuf,
    manifest: Manifest,
}

impl Series {
    fn open(folder: &Path) -> Self {
        let manifest = Manifest::parse(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        Self {
            folder: folder.into(),
            manifest,
        }
    }

    /// What consecutive segments, the first of which takes `input`, make of these values.
    fn run(&self, before: &[Segment], segments: &[Segment], values: &[f32]) -> Vec<f32> {
        let shape = before.last().map_or(self.manifest.input.shape, |it| it.output);
        let files: Vec<Vec<u8>> = segments
            .iter()
            .map(|it| fs::read(self.folder.join(it.path())).unwrap())
            .collect();
        let mut output = Vec::new();
        let mut network = Network::load(shape, files.iter().map(Vec::as_slice)).unwrap();
        network.run(1, values, &mut output).unwrap();
        output
    }

    fn splits(&self) -> Vec<Split> {
        let between = self.manifest.split_points.iter().map(|it| Split::At(it.name.clone()));
        [Split::Input, Split::Output].into_iter().chain(between).collect()
    }

    fn check(&self) {
        assert!(!self.manifest.variants.is_empty());
        self.manifest.variants.iter().for_each(|it| self.check_variant(it));
    }

    fn check_variant(&self, variant: &Variant) {
        let values = self.frame();
        let uncut = self.run(&[], &variant.segments, &values);
        assert_eq!(uncut.len(), self.manifest.classes.len());
        for split in self.splits() {
            let (head, tail) = variant
                .segments
                .split_at(self.manifest.head_segments(variant, &split).unwrap());
            let features = self.run(&[], head, &values);
            let answer = self.run(head, tail, &features);
            for (got, expected) in answer.iter().zip(&uncut) {
                let close = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
                assert!(close, "{} at {split}: {got} is not {expected}", variant.name);
            }
        }
    }

    /// A frame of slanting stripes, normalised.
    fn frame(&self) -> Vec<f32> {
        let pixels = 0..self.manifest.input.shape.positions();
        let rgba: Vec<u8> = pixels
            .flat_map(|it| [it * 7 % 256, it * 11 % 256, it * 13 % 256, 255].map(|it| it as u8))
            .collect();
        let mut values = Vec::new();
        self.manifest.input.normalize_rgba(&rgba, &mut values).unwrap();
        values
    }
}

fn check_toy(toy: &Toy) {
    let folder = tempfile::tempdir().unwrap();
    toy.write(folder.path()).unwrap();
    Series::open(folder.path()).check();
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
    series.iter().for_each(|it| Series::open(it).check());
}
