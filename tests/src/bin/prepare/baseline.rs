//! The network before pruning, cut at its split points, as the paper sends it: one byte a value.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use split_core::{
    codec::{FeatureCodec, FeatureCodecSpec, Tables},
    manifest::{Codec, CodecFile, OperatingPoint, Split, Variant},
    wire::ClientMessage,
};
use split_tests::{
    pictures::{self, Picture},
    series::Series,
};

const BITS: u8 = 8;

/// Links a few pictures of every class to another image folder, so that what reads all of them takes less time.
pub fn thin(data: &Path, to: &Path, images: usize) -> Result<()> {
    for half in ["train", "test"] {
        for file in pictures::files(&data.join(half), images)? {
            let folder = to.join(half).join(pictures::class(&file));
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            let link = folder.join(file.file_name().unwrap_or_default());
            if !link.exists() {
                let original = fs::canonicalize(&file)?;
                fs::hard_link(&original, &link)
                    .or_else(|_| fs::copy(&original, &link).map(drop))
                    .with_context(|| format!("cannot link {}", link.display()))?;
            }
        }
    }
    Ok(())
}

/// Name of the network before pruning, where a series has others too.
const UNPRUNED: &str = "unpruned";

/// Writes a series of the unpruned variant alone, with one operating point at every split point.
pub fn calibrate(series: &Series, to: &Path, data: &Path, images: usize) -> Result<()> {
    let variant = match &series.manifest.variants[..] {
        [only] => only,
        _ => series
            .manifest
            .variant(UNPRUNED)
            .with_context(|| format!("the series has several variants, none of which is '{UNPRUNED}'"))?,
    };
    let mut series = alone(series, variant, to)?;
    let input = series.manifest.input_of(variant);
    let load = |half: &str| pictures::load(&data.join(half), input.shape, images);
    let (training, test) = (load("train")?, load("test")?);
    let splits = series.manifest.split_points.iter().map(|it| Split::At(it.clone()));
    let points = splits
        .enumerate()
        .map(|(number, split)| point(&series, variant, split, number as u16, &training, &test))
        .collect::<Result<Vec<_>>>()?;
    series.manifest.operating_points = points;
    let path = series.folder.join("manifest.json");
    fs::write(&path, series.manifest.to_json()?).with_context(|| format!("cannot write {}", path.display()))
}

/// The series with this variant only, and with the split points at which that is cut, in a folder of its own.
fn alone(series: &Series, variant: &Variant, to: &Path) -> Result<Series> {
    for segment in &variant.segments {
        let path = to.join(segment.file().path());
        fs::create_dir_all(path.parent().unwrap_or(to)).with_context(|| format!("cannot make {}", to.display()))?;
        fs::write(&path, series.read(segment.file())?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut manifest = series.manifest.clone();
    let cuts = manifest.split_points.iter().zip(&variant.cuts);
    let (split_points, cuts) = cuts.filter(|it| it.1.is_some()).map(|it| (it.0.clone(), *it.1)).unzip();
    manifest.split_points = split_points;
    manifest.variants = vec![Variant {
        cuts,
        ..variant.clone()
    }];
    Ok(Series {
        folder: to.to_owned(),
        manifest,
    })
}

fn point(
    series: &Series,
    variant: &Variant,
    split: Split,
    number: u16,
    training: &[Picture],
    test: &[Picture],
) -> Result<OperatingPoint> {
    let mut point = OperatingPoint {
        variant: variant.name.clone(),
        split,
        codec: Codec::None,
        accuracy: 0.0,
        mean_message_bytes: 0.0,
        p95_message_bytes: 0.0,
    };
    let spec = spec(series, &point, training)?;
    let (accuracy, bytes) = measure(series, &point, &spec, number, test)?;
    point.accuracy = accuracy;
    point.mean_message_bytes = bytes;
    point.p95_message_bytes = bytes;
    let (codec, json) = CodecFile::of(&spec);
    let path = series.folder.join(codec.file().path());
    fs::create_dir_all(series.folder.join("codecs"))?;
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    point.codec = Codec::Features(codec);
    println!("{} {}: {accuracy:.2} %, {bytes:.0} bytes", point.variant, point.split);
    Ok(point)
}

/// Steps from the smallest to the largest value of each channel, and tables by which every code takes its 8 bits.
fn spec(series: &Series, point: &OperatingPoint, training: &[Picture]) -> Result<FeatureCodecSpec> {
    let cut = series.cut(point)?;
    let input = cut.input;
    let mut head = series.network(input.shape, cut.head)?;
    let (mut values, mut features) = (Vec::new(), Vec::new());
    let mut ranges = vec![(0.0f32, 0.0f32); cut.features.channels()];
    for picture in training {
        input.normalize_rgba(&picture.rgba, &mut values)?;
        head.run(1, &values, &mut features)?;
        for (range, channel) in ranges.iter_mut().zip(features.chunks_exact(cut.features.positions())) {
            let values = channel.iter().copied();
            *range = values.fold(*range, |(low, high), it| (low.min(it), high.max(it)));
        }
    }
    let top = f32::from(u8::MAX);
    Ok(FeatureCodecSpec {
        bits: BITS,
        // A channel that never changes is sent all the same, as in the paper.
        steps: ranges
            .iter()
            .map(|(low, high)| ((high - low) / top).max(1e-6))
            .collect(),
        centres: ranges.iter().map(|it| it.0).collect(),
        tables: Tables::uniform(BITS),
    })
}

/// Accuracy in percent and bytes of a message, which are the same for every picture.
fn measure(
    series: &Series,
    point: &OperatingPoint,
    spec: &FeatureCodecSpec,
    number: u16,
    test: &[Picture],
) -> Result<(f64, f64)> {
    let cut = series.cut(point)?;
    let input = cut.input;
    let mut head = series.network(input.shape, cut.head)?;
    let mut tail = series.network(cut.features, cut.tail)?;
    let codec = FeatureCodec::new(cut.features, spec)?;
    let (mut values, mut features, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut codes, mut payload, mut message) = (Vec::new(), Vec::new(), Vec::new());
    let mut right = 0;
    for picture in test {
        input.normalize_rgba(&picture.rgba, &mut values)?;
        head.run(1, &values, &mut features)?;
        codec.encode(&features, &mut codes, &mut payload)?;
        codec.decode(&payload, &mut codes, &mut features)?;
        tail.run(1, &features, &mut logits)?;
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        right += usize::from(best.and_then(|it| series.manifest.classes.get(it)) == Some(&picture.class));
    }
    let payload = &payload[..];
    ensure!(
        payload.len() <= cut.features.values() + 1,
        "{} bytes for {} values",
        payload.len(),
        cut.features.values()
    );
    ClientMessage::Infer {
        id: 0,
        point: number,
        payload,
    }
    .encode(&mut message);
    Ok((100.0 * right as f64 / test.len() as f64, message.len() as f64))
}
