//! `trainer calibrate`: the operating points of a series.
//!
//! A variant pruned for one split point has one quantiser, the one it was trained with; only its tables are fitted. Any other
//! variant is calibrated at every split point for several code widths, and at `input` for several picture qualities.
//!
//! Clipping is searched for the least task loss, not the least squared error: the steps that are most faithful are scaled by a few
//! factors, each is taken through the tail on some of the training images, and the lower-left hull of bytes against cross entropy is
//! kept. A cross entropy tells settings apart with far fewer images than an accuracy. What is on the hull is fitted to the training images
//! and measured on those held back (`val`, or a tenth of the training images), and of that what no other beats in both bytes and accuracy is
//! kept. The test images only measure what was kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::Args;
use rayon::prelude::*;
use split_core::Shape;
use split_core::codec::{FeatureCodec, FeatureCodecSpec, Tables, calibrate};
use split_core::manifest::{Codec, CodecFile, ImageFormat, OperatingPoint, Split, Variant};

use super::measure::{Coding, Measured, Setting, features, measure};
use super::quantizer::Quantizer;
use super::store::Series;
use crate::data::{DataSource, Dataset, Library, Reader, Subset};
use crate::progress::bar;

/// Training images to calibrate on, unless asked for otherwise.
const IMAGES: usize = 2000;
/// Code widths tried where no quantiser was trained.
const WIDTHS: [u8; 4] = [1, 2, 3, 4];
/// Widths of a step tried for each, against the most faithful: narrower ones clip more, wider ones give more zeros, hence fewer bytes.
const FACTORS: [f32; 5] = [0.7, 0.85, 1.0, 1.3, 1.7];
/// Values of features that a codec is fitted to at most: 256 MiB.
const VALUES: usize = 1 << 26;
/// Training images on which the widths of a step are compared.
const SEARCH_IMAGES: usize = 500;
/// Picture qualities tried at `input`.
const QUALITIES: [u8; 6] = [5, 15, 30, 50, 75, 92];
/// Points of accuracy that an operating point may lie under its uncut variant and still be of use.
const USEFUL_LOSS: f64 = 8.0;

/// What to calibrate, and with which images.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Folder of the series, as `export` wrote it.
    #[arg(long)]
    series: PathBuf,
    /// The same as for `export`.
    #[command(flatten)]
    source: DataSource,
    /// Training images to calibrate on, spread evenly over the classes.
    #[arg(long, default_value_t = IMAGES)]
    images: usize,
    /// Only this variant. May be given again.
    #[arg(long = "variant")]
    variants: Vec<String>,
    /// Only here: `input`, `output` or a split point of the series. May be given again; if not given, everywhere.
    #[arg(long = "split")]
    splits: Vec<String>,
}

impl Arguments {
    /// What `quick` asks for.
    pub fn new(source: &DataSource, series: &Path) -> Self {
        Self {
            series: series.to_owned(),
            source: source.clone(),
            images: IMAGES,
            variants: Vec::new(),
            splits: Vec::new(),
        }
    }
}

/// Runs `trainer calibrate`. The manifest is written after each variant, so an interrupted run loses one at most.
pub fn run(arguments: &Arguments, library: &Library) -> anyhow::Result<()> {
    let mut series = Series::open(&arguments.series)?;
    for name in &arguments.variants {
        series.cut(name, &Split::Output)?;
    }
    let chosen = |it: &&Variant| arguments.variants.is_empty() || arguments.variants.contains(&it.name);
    let variants: Vec<Variant> = series.manifest.variants.iter().filter(chosen).cloned().collect();
    check_splits(&series, &arguments.splits)?;
    let mut all = BTreeMap::new();
    for (number, variant) in variants.iter().enumerate() {
        eprintln!("variant {} of {}: {}", number + 1, variants.len(), variant.name);
        let images = match all.entry(series.size_of(variant)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Images::load(arguments, library, &series, variant)?),
        };
        let points = calibrate_variant(&series, variant, images, &arguments.splits)?;
        series.replace_points(&variant.name, points);
        series.save()?;
        series.remove_unused_files()?;
        print(&series, &variant.name);
    }
    Ok(())
}

fn check_splits(series: &Series, splits: &[String]) -> anyhow::Result<()> {
    let known = &series.manifest.split_points;
    for split in splits {
        ensure!(
            split == "input" || split == "output" || known.contains(split),
            "the series cannot be split at `{split}`, but at input, {}, output",
            known.join(", ")
        );
    }
    Ok(())
}

fn print(series: &Series, variant: &str) {
    let points = series.manifest.operating_points.iter();
    for point in points.filter(|it| it.variant == variant) {
        let OperatingPoint {
            split,
            codec,
            accuracy,
            mean_message_bytes,
            ..
        } = point;
        println!("{variant} {split} {codec}: {accuracy:.2} %, {mean_message_bytes:.1} bytes");
    }
}

struct Images {
    /// What codecs are fitted to.
    train: Dataset,
    /// What is chosen with.
    validation: Dataset,
    /// What is measured, of what was chosen.
    test: Dataset,
}

impl Images {
    /// Those of the size that a variant takes.
    fn load(arguments: &Arguments, library: &Library, series: &Series, variant: &Variant) -> anyhow::Result<Self> {
        let preparation = series.manifest.input_of(variant).preparation;
        let reader = Reader::new(
            library,
            &arguments.source,
            series.size_of(variant),
            preparation,
            &arguments.series,
        );
        let mut reader = reader.expecting(&series.manifest.classes, "the series");
        let (train, validation) = reader.learning(None)?;
        let images = Self {
            train: train.thinned(arguments.images),
            validation: validation.thinned(arguments.images),
            test: reader.load(Subset::Test)?,
        };
        ensure!(
            images.test.len() == series.manifest.measured_on.images,
            "the manifest's accuracies were measured on {} images, {} has {}; export the series with these",
            series.manifest.measured_on.images,
            arguments.source.data.display(),
            images.test.len()
        );
        Ok(images)
    }
}

fn calibrate_variant(
    series: &Series,
    variant: &Variant,
    images: &Images,
    splits: &[String],
) -> anyhow::Result<Vec<OperatingPoint>> {
    let wanted = |it: &str| splits.is_empty() || splits.iter().any(|split| split == it);
    let mut points = Vec::new();
    if let Some((split, codec)) = trained_quantizer(series, variant) {
        let FeatureCodecSpec {
            bits, steps, centres, ..
        } = series.codec(codec)?;
        let features = Features::of(series, variant, split, &images.train)?;
        let coding = Coding::Features(features.fit(Quantizer { bits, steps, centres })?);
        return measured(series, variant, split, vec![coding], &images.test);
    }
    // The accuracy of the uncut variant that the manifest has is that on the test images.
    let uncut = run_all(
        series,
        variant,
        &Split::Output,
        &[Coding::None],
        &images.validation,
        "measuring",
    )?;
    let least = uncut.iter().map(|it| it.accuracy - USEFUL_LOSS).fold(0.0, f64::max);
    let formats = [ImageFormat::Webp, ImageFormat::Jpeg].into_iter();
    for format in formats.filter(|_| wanted("input")) {
        let codings = QUALITIES.map(|quality| Coding::Image { format, quality }).to_vec();
        points.extend(best(series, variant, &Split::Input, codings, images, least)?);
    }
    let places = series.manifest.split_points.iter().zip(&variant.cuts);
    for (name, _) in places.filter(|it| it.1.is_some() && wanted(it.0)) {
        let split = Split::At(name.clone());
        let features = Features::of(series, variant, &split, &images.train)?;
        let fit = |it| features.fit(it).map(Coding::Features);
        let quantizers = search(series, variant, &split, &images.validation.thinned(SEARCH_IMAGES))?;
        let codings = quantizers.into_par_iter().map(fit).collect::<anyhow::Result<_>>()?;
        points.extend(best(series, variant, &split, codings, images, least)?);
    }
    if wanted("output") {
        let coding = vec![Coding::None];
        points.extend(measured(series, variant, &Split::Output, coding, &images.test)?);
    }
    Ok(points)
}

/// The quantiser of a variant that was pruned for one split point, which `export` put into the manifest.
fn trained_quantizer<'a>(series: &'a Series, variant: &Variant) -> Option<(&'a Split, &'a CodecFile)> {
    let mut own = series
        .manifest
        .operating_points
        .iter()
        .filter(|it| it.variant == variant.name);
    match (own.next(), own.next()) {
        (
            Some(OperatingPoint {
                split,
                codec: Codec::Features(codec),
                ..
            }),
            None,
        ) => Some((split, codec)),
        _ => None,
    }
}

/// The quantisers on the hull of bytes against task loss.
fn search(series: &Series, variant: &Variant, split: &Split, data: &Dataset) -> anyhow::Result<Vec<Quantizer>> {
    let features = Features::of(series, variant, split, data)?;
    let mut quantizers = Vec::new();
    for bits in WIDTHS {
        let quantizer = features.quantizer(bits);
        quantizers.extend(FACTORS.map(|factor| quantizer.widened(factor)));
    }
    let fit = |it: &Quantizer| features.fit(it.clone()).map(Coding::Features);
    let codings = quantizers.par_iter().map(fit).collect::<anyhow::Result<Vec<_>>>()?;
    let found: Vec<(f64, f64)> = run_all(series, variant, split, &codings, data, "searching among")?
        .iter()
        .map(|it| (it.mean_message_bytes, it.loss))
        .collect();
    Ok(hull(&found).into_iter().map(|it| quantizers[it].clone()).collect())
}

/// Keeps the codings of at least this accuracy on the lower left edge of bytes against accuracy on images that were held back, and measures
/// those on test images.
fn best(
    series: &Series,
    variant: &Variant,
    split: &Split,
    codings: Vec<Coding>,
    images: &Images,
    least: f64,
) -> anyhow::Result<Vec<OperatingPoint>> {
    let candidates = run_all(series, variant, split, &codings, &images.validation, "choosing among")?;
    let (codings, candidates): (Vec<Coding>, Vec<Measured>) = codings
        .into_iter()
        .zip(candidates)
        .filter(|it| it.1.accuracy >= least)
        .unzip();
    let keep = frontier(
        &candidates
            .iter()
            .map(|it| (it.mean_message_bytes, it.accuracy))
            .collect::<Vec<_>>(),
    );
    let kept = keep.into_iter().map(|it| codings[it].clone()).collect();
    measured(series, variant, split, kept, &images.test)
}

/// Indices of the points than which no other is both smaller and at least as accurate.
fn frontier(points: &[(f64, f64)]) -> Vec<usize> {
    let beaten = |it: usize| {
        let better = |other: usize| {
            let (smaller, more) = (points[other].0 <= points[it].0, points[other].1 >= points[it].1);
            smaller && more && (points[other] != points[it] || other < it)
        };
        (0..points.len()).any(better)
    };
    (0..points.len()).filter(|it| !beaten(*it)).collect()
}

/// Indices of the points on the lower-left convex hull of bytes against loss, by bytes.
fn hull(points: &[(f64, f64)]) -> Vec<usize> {
    let upside_down: Vec<(f64, f64)> = points.iter().map(|it| (it.0, -it.1)).collect();
    let mut order = frontier(&upside_down);
    order.sort_by(|a, b| points[*a].0.total_cmp(&points[*b].0));
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        while let [.., a, b] = hull[..]
            && is_above(points[b], points[a], points[next])
        {
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// Whether a point lies on or above the line through two others, the one left and the other right of it.
fn is_above(point: (f64, f64), left: (f64, f64), right: (f64, f64)) -> bool {
    (point.1 - left.1) * (right.0 - left.0) >= (right.1 - left.1) * (point.0 - left.0)
}

fn run_all(
    series: &Series,
    variant: &Variant,
    split: &Split,
    codings: &[Coding],
    data: &Dataset,
    stage: &str,
) -> anyhow::Result<Vec<Measured>> {
    let settings = match codings.len() {
        1 => "1 setting".to_owned(),
        count => format!("{count} settings"),
    };
    let message = format!("{} at {split}: {stage} {settings}", variant.name);
    let progress = bar("calibrate", data.len() as u64).with_message(message.clone());
    if progress.is_hidden() {
        eprintln!("{message}");
    }
    // Which places the points will have is not known yet: `replace_points` gives them theirs.
    let settings: Vec<Setting<'_>> = codings.iter().map(|coding| Setting { point: 0, coding }).collect();
    let results = measure(series, &variant.name, split, &settings, data, &progress)?;
    progress.finish_and_clear();
    Ok(results)
}

/// Measures codings, and stores those of features.
fn measured(
    series: &Series,
    variant: &Variant,
    split: &Split,
    codings: Vec<Coding>,
    data: &Dataset,
) -> anyhow::Result<Vec<OperatingPoint>> {
    let results = run_all(series, variant, split, &codings, data, "measuring")?;
    let point = |(coding, measured): (&Coding, Measured)| {
        Ok(OperatingPoint {
            variant: variant.name.clone(),
            split: split.clone(),
            codec: series.store_coding(coding)?,
            accuracy: measured.accuracy,
            mean_message_bytes: measured.mean_message_bytes,
            p95_message_bytes: measured.p95_message_bytes,
        })
    };
    codings.iter().zip(results).map(point).collect()
}

/// Features of the calibration images at one split point.
struct Features {
    shape: Shape,
    values: Vec<f32>,
}

impl Features {
    fn of(series: &Series, variant: &Variant, split: &Split, data: &Dataset) -> anyhow::Result<Self> {
        let shape = series.cut(&variant.name, split)?.features;
        let data = data.thinned((VALUES / shape.values()).max(1));
        Ok(Self {
            shape,
            values: features(series, &variant.name, split, &data)?,
        })
    }

    fn quantizer(&self, bits: u8) -> Quantizer {
        Quantizer::of(&self.values, self.shape.channels(), self.shape.positions(), bits)
    }

    /// Fits predictors and probability tables to these features under a quantiser.
    fn fit(&self, quantizer: Quantizer) -> anyhow::Result<FeatureCodecSpec> {
        let Quantizer { bits, steps, centres } = quantizer;
        let mut spec = FeatureCodecSpec {
            bits,
            steps,
            centres,
            tables: Tables::uniform(bits),
        };
        let codec = FeatureCodec::new(self.shape, &spec)?;
        let (mut all, mut codes) = (Vec::with_capacity(self.values.len()), Vec::new());
        for image in self.values.chunks_exact(self.shape.values()) {
            codec.quantize(image, &mut codes)?;
            all.extend_from_slice(&codes);
        }
        spec.tables = calibrate(self.shape, bits, &all);
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_has_no_dominated_point() {
        let points = [
            (10.0, 80.0),
            (20.0, 79.0),
            (20.0, 85.0),
            (20.0, 85.0),
            (40.0, 85.0),
            (50.0, 90.0),
        ];
        assert_eq!(frontier(&points), [0, 2, 5]);
        assert_eq!(frontier(&[]), [0_usize; 0]);
    }

    #[test]
    fn the_hull_leaves_out_what_a_mixture_of_others_beats() {
        let points = [
            (30.0, 1.0),
            (10.0, 3.0),
            // On the frontier, but above the line from (10, 3) to (30, 1).
            (20.0, 2.5),
            (60.0, 0.9),
            // As good as the one before, for more bytes.
            (70.0, 0.9),
        ];
        assert_eq!(hull(&points), [1, 0, 3]);
        assert_eq!(hull(&points[..1]), [0]);
        assert_eq!(hull(&[]), [0_usize; 0]);
    }
}
