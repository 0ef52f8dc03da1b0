//! What the manifests of made-up series have in common.

use anyhow::Result;
use split_core::manifest::{Input, MANIFEST_FORMAT, MeasuredOn, Source, Unpruned};
use split_core::{Manifest, Preparation, Shape};

/// One without variants and points, for square pictures.
pub fn manifest(name: &str, classes: impl IntoIterator<Item = String>, side: usize) -> Result<Manifest> {
    Ok(Manifest {
        format: MANIFEST_FORMAT,
        series: name.into(),
        source: Source {
            network: name.into(),
            ..Source::default()
        },
        classes: classes.into_iter().collect(),
        input: Input {
            shape: Shape::new(3, side, side)?,
            preparation: Preparation::default(),
            mean: [0.5; 3],
            std: [0.25; 3],
        },
        unpruned: Unpruned {
            accuracy: 90.0,
            macs: 1_000_000,
            widths: vec![8; 4],
        },
        measured_on: MeasuredOn {
            name: "made up".into(),
            images: 1,
        },
        timed_on: None,
        split_points: Vec::new(),
        variants: Vec::new(),
        operating_points: Vec::new(),
    })
}
