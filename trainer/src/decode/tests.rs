//! Pictures whose pixels are known, of every kind that is read; the page is tested with the same ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use split_core::Fit;

use super::*;

/// Rows and columns of what is expected.
const GRID: usize = 8;
/// Levels by which decoders may differ.
const TOLERANCE: u8 = 2;

/// `tests/pictures/table.json`.
#[derive(Deserialize)]
struct Table {
    /// Rows of hexadecimal colours.
    expected: BTreeMap<String, Vec<String>>,
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    like: String,
    fit: Option<Fit>,
    background: Option<[u8; 3]>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/pictures")
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn colours(rows: &[String]) -> Vec<u8> {
    let text = rows.concat();
    let values = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    values.collect::<Result<_, _>>().unwrap()
}

/// Means of the blocks that a picture of `side` has in a grid.
fn in_grid(rgb: &[u8], side: usize) -> Vec<u8> {
    let rgba: Vec<u8> = rgb.chunks(3).flat_map(|it| [it[0], it[1], it[2], 255]).collect();
    let means = Preparation::default().apply(&rgba, [side; 2], [GRID; 2]).unwrap();
    means.chunks(4).flat_map(|it| it[..3].to_vec()).collect()
}

#[test]
fn every_kind_of_picture_is_seen_as_browsers_show_it() {
    let table: Table = serde_json::from_slice(&bytes("table.json")).unwrap();
    assert!(table.files.len() > 40);
    let mut wrong = Vec::new();
    for entry in &table.files {
        let rule = Preparation {
            fit: entry.fit.unwrap_or_default(),
            background: entry.background.unwrap_or_default(),
        };
        let expected = colours(&table.expected[&entry.like]);
        for side in [GRID, 4 * GRID] {
            let decoded = decode(&bytes(&entry.file), rule, [side; 2]);
            let got = decoded
                .map(|it| in_grid(&it.rgb, side))
                .unwrap_or_else(|error| panic!("{}: {error}", entry.file));
            let off = got
                .iter()
                .zip(&expected)
                .map(|(got, it)| got.abs_diff(*it))
                .max()
                .unwrap();
            if off > TOLERANCE {
                wrong.push(format!("{} at {side}: {off} levels", entry.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_cut_off_is_said() {
    for name in [
        "landscape.jpg",
        "progressive.jpg",
        "separate-scans-420.jpg",
        "landscape.png",
        "interlaced.png",
        "lossless.webp",
    ] {
        let whole = bytes(name);
        for share in [40, 60, 80] {
            let part = &whole[..whole.len() * share / 100];
            let error = decode(part, Preparation::default(), [8; 2]);
            assert!(error.is_err(), "{name} cut off at {share} %");
        }
        let error = decode(&whole[..whole.len() * 6 / 10], Preparation::default(), [8; 2]).unwrap_err();
        if name.ends_with("jpg") || name.ends_with("png") {
            let text = error.to_string();
            assert!(
                text.contains("ends early") || text.contains("end of file"),
                "{name}: {text}"
            );
        }
    }
    // Some programs close what they could not read to its end. The last scan of this progressive file refines what is there already.
    let refined = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refined.jpg");
    let refined = ("refined.jpg", std::fs::read(refined).unwrap());
    assert!(decode(&refined.1, Preparation::default(), [8; 2]).is_ok());
    let others = ["landscape.jpg", "separate-scans-420.jpg", "ycck.jpg"].map(|it| (it, bytes(it)));
    for (name, whole) in others.into_iter().chain([refined]) {
        let scans = whole.windows(2).rposition(|it| it == [0xFF, 0xDA]).unwrap() + 14;
        for share in [20, 50] {
            let mut part = whole[..scans + (whole.len() - scans) * share / 100].to_vec();
            part.extend([0xFF, 0xD9]);
            let error = decode(&part, Preparation::default(), [8; 2]);
            assert!(
                matches!(error, Err(DecodeError::Truncated)),
                "{name} with {share} % of its last scan: {error:?}"
            );
        }
    }
    // The first frame is all that is needed.
    let animation = bytes("animated.gif");
    assert!(decode(&animation[..animation.len() * 2 / 10], Preparation::default(), [8; 2]).is_err());
    assert!(decode(&animation[..animation.len() * 8 / 10], Preparation::default(), [8; 2]).is_ok());
    let error = decode(b"<!doctype html><title>404</title>", Preparation::default(), [8; 2]).unwrap_err();
    assert!(matches!(error, DecodeError::Unknown), "{error}");
}

#[test]
fn a_large_picture_is_reduced_while_it_is_decoded_and_looks_the_same() {
    let (width, height) = (1600_usize, 1200_usize);
    let value =
        |x: usize, y: usize| [x * 255 / width, y * 255 / height, (x / 100 + y / 100) % 2 * 200].map(|it| it as u8);
    let rgb: Vec<u8> = (0..width * height)
        .flat_map(|at| value(at % width, at / width))
        .collect();
    let mut file = Vec::new();
    jpeg_encoder::Encoder::new(&mut file, 90)
        .encode(&rgb, width as u16, height as u16, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    let rgba: Vec<u8> = rgb.chunks(3).flat_map(|it| [it[0], it[1], it[2], 255]).collect();
    for (side, large, by) in [
        (32, u64::MAX, 1),
        (16, 480_000, 2),
        (16, 400_000, 4),
        (8, 0, 8),
        (64, 0, 1),
    ] {
        assert_eq!(reduction([height, width], [side; 2], large), by);
        let rule = Preparation::default();
        let expected = rule.apply(&rgba, [height, width], [side; 2]).unwrap();
        let got = jpeg(&file, rule, [side; 2], large).unwrap();
        assert_eq!(got.from, [height, width]);
        let expected = expected.chunks(4).flat_map(|it| it[..3].to_vec());
        let off = got
            .rgb
            .iter()
            .zip(expected)
            .map(|(got, it)| got.abs_diff(it))
            .max()
            .unwrap();
        // The file is not exact itself.
        assert!(off <= 6, "{off} levels at {side}, reduced {by} times");
    }
    assert_eq!(reduction([12_240, 16_320], [224; 2], LARGE), 2);
    assert_eq!(reduction([3000, 4000], [32; 2], LARGE), 1);
}

#[test]
fn bytes_of_any_kind_are_refused_or_decoded() {
    let mut seed = 1_u64;
    let mut chance = move || {
        seed = crate::augment::mix(seed);
        seed as usize
    };
    for name in [
        "separate-scans-420.jpg",
        "progressive.jpg",
        "ycck.jpg",
        "palette.png",
        "hole.webp",
        "animated.gif",
    ] {
        let whole = bytes(name);
        for _ in 0..60 {
            let mut damaged = whole.clone();
            for _ in 0..4 {
                let at = chance() % damaged.len();
                damaged[at] = chance() as u8;
            }
            if let Ok(decoded) = decode(&damaged, Preparation::default(), [8; 2]) {
                assert_eq!(decoded.rgb.len(), 8 * 8 * 3);
            }
        }
    }
}
