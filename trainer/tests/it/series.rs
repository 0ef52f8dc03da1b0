//! From pictures to a report.

use std::fs;

use serde_json::Value;
use split_core::{Manifest, manifest::Split};

use crate::support::{Scene, bytes};

/// Trains, prunes in both steps, exports, calibrates.
fn series() -> Scene {
    let scene = Scene::new();
    let learn = "--data pictures --batch 24 --warm-up 0.3";
    scene.run(&format!(
        "train {learn} --run unpruned --parent parent.safetensors --architecture alexnet --size 16 16 --epochs 6"
    ));
    fs::rename(
        scene.path("unpruned/final.safetensors"),
        scene.path("unpruned.safetensors"),
    )
    .unwrap();
    scene.run(&format!(
        "prune step1 {learn} --run step1 --parent unpruned.safetensors --teacher unpruned.safetensors --fewer-macs 500 \
         --multiple 2 --rounds 2 --round-batches 3 --epochs 4"
    ));
    fs::rename(scene.path("step1/final.safetensors"), scene.path("half.safetensors")).unwrap();
    for (split, width) in [("pool1", 2), ("pool3", 3)] {
        scene.run(&format!(
            "prune step2 {learn} --run {split} --parent half.safetensors --teacher unpruned.safetensors --split {split} \
             --width {width} --bits 2 --round-batches 3 --epochs 4"
        ));
        let checkpoint = format!("{split}-{width}.safetensors");
        fs::rename(scene.path(split).join("final.safetensors"), scene.path(&checkpoint)).unwrap();
    }
    scene.run(
        "export --data pictures --data-name coloured-noise --series series --unpruned unpruned.safetensors --onnx onnx \
         --origin noise --checkpoint half.safetensors --checkpoint pool1-2.safetensors --checkpoint pool3-3.safetensors",
    );
    scene.run("calibrate --data pictures --series series");
    scene
}

fn manifest(scene: &Scene) -> Manifest {
    Manifest::parse(&bytes(&scene.path("series/manifest.json"))).unwrap()
}

#[test]
fn a_series_is_made_measured_and_reported() {
    let scene = series();
    let manifest = manifest(&scene);
    assert_eq!(manifest.measured_on.name, "coloured-noise");
    assert!(manifest.unpruned.accuracy > 60.0, "{}", manifest.unpruned.accuracy);
    assert_eq!(
        (&*manifest.source.network, &*manifest.source.origin),
        ("alexnet", "noise")
    );
    assert!(manifest.timed_on.as_ref().is_some_and(|it| it.contains("one thread")));
    assert!(
        manifest
            .variants
            .iter()
            .flat_map(|it| &it.segments)
            .all(|it| it.micros > Some(0.0))
    );

    // Variants of one parent share its trunk; the layer before the split point starts a segment of its own.
    let [half, pool1, pool3] = &manifest.variants[..] else {
        panic!("{:?}", manifest.variants)
    };
    assert!(half.macs() < manifest.unpruned.macs);
    for (variant, shared) in [(pool1, 0), (pool3, 3)] {
        assert_eq!(variant.parent.as_deref(), Some("half"));
        let same = half
            .segments
            .iter()
            .zip(&variant.segments)
            .take_while(|it| it.0 == it.1);
        assert_eq!(same.count(), shared, "{}", variant.name);
    }
    assert_eq!((pool1.widths[0], pool3.widths[4]), (2, 3));
    // One that was trained with a quantiser is worth what it is with that.
    for variant in [pool1, pool3] {
        let mut points = manifest.operating_points.iter();
        let point = points.find(|it| it.variant == variant.name).unwrap();
        assert_eq!(variant.accuracy, point.accuracy);
    }

    // Step 1's variant can be cut anywhere, one of step 2 where it was pruned for.
    let splits = |name: &str| {
        let points = manifest.operating_points.iter().filter(|it| it.variant == name);
        points.map(|it| it.split.clone()).collect::<Vec<Split>>()
    };
    assert!(splits("half").contains(&Split::Output) && splits("half").contains(&Split::Input));
    assert_eq!(splits("pool1-2"), [Split::At("pool1".into())]);
    assert_eq!(splits("pool3-3"), [Split::At("pool3".into())]);

    the_manifest_says_what_evaluate_measures(&scene, &manifest);
    the_report_shows_every_variant(&scene, &manifest);
    for split in ["pool1", "pool2", "pool3"] {
        for half in ["head", "tail"] {
            assert!(scene.path(&format!("onnx/pool1-2-{split}-{half}.onnx")).exists());
        }
    }
}

fn the_manifest_says_what_evaluate_measures(scene: &Scene, manifest: &Manifest) {
    let json: Value = serde_json::from_str(&scene.run("evaluate --series series --data pictures --json")).unwrap();
    assert_eq!(json["images"], 24);
    assert_eq!(json["unpruned_accuracy"], manifest.unpruned.accuracy);
    let points = json["points"].as_array().unwrap();
    assert_eq!(points.len(), manifest.operating_points.len());
    for (measured, point) in points.iter().zip(&manifest.operating_points) {
        assert_eq!(measured["variant"], point.variant);
        assert_eq!(measured["split"], point.split.to_string());
        assert_eq!(measured["codec"], point.codec.to_string());
        assert_eq!(measured["accuracy"], point.accuracy);
        assert_eq!(measured["mean_message_bytes"], point.mean_message_bytes);
        let variant = manifest.variant(&point.variant).unwrap();
        let macs = measured["macs_head"].as_u64().unwrap() + measured["macs_tail"].as_u64().unwrap();
        assert_eq!(macs, variant.macs());
    }
}

fn the_report_shows_every_variant(scene: &Scene, manifest: &Manifest) {
    scene.run("report --series series --run step1 --run pool3 --to report");
    let page = String::from_utf8(bytes(&scene.path("report/index.html"))).unwrap();
    for variant in &manifest.variants {
        assert!(page.contains(&variant.name), "{}", variant.name);
    }
    for split in ["pool1", "pool2", "pool3"] {
        assert!(scene.path(&format!("report/accuracy-bytes-{split}.svg")).exists());
    }
    for plot in ["accuracy-macs", "widths", "runs"] {
        assert!(scene.path(&format!("report/{plot}.svg")).exists());
    }
}
