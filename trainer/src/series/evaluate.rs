//! `trainer evaluate`: every operating point of a series on whatever images it is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use split_core::manifest::{OperatingPoint, Split};

use super::measure::{Coding, Measured, Setting, measure};
use super::store::Series;
use crate::data::{DataSource, Dataset, Library, Reader, Subset};
use crate::learn::Score;
use crate::progress::bar;

/// What to evaluate, and how to say it.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Folder of the series, with its manifest.json.
    #[arg(long)]
    series: PathBuf,
    /// The test images are used.
    #[command(flatten)]
    source: DataSource,
    /// Use only this many of the images, spread evenly.
    #[arg(long)]
    images: Option<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// What `quick` asks for.
    pub fn new(source: &DataSource, series: &Path) -> Self {
        Self {
            series: series.to_owned(),
            source: source.clone(),
            images: None,
            json: false,
        }
    }
}

/// The JSON object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Where the images came from.
    pub data: String,
    /// How many there were.
    pub images: usize,
    /// Accuracy of the unpruned network in percent, as the manifest records it.
    pub unpruned_accuracy: f64,
    /// Accuracy in percent of always giving the answer that is right most often.
    pub chance: f64,
    /// Every operating point, in the manifest's order.
    pub points: Vec<Point>,
}

/// One operating point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Its place in the manifest; the page takes it as `?point=`.
    pub point: usize,
    /// Mean width of a code of the feature quantiser: tells settings of as many bits apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_step: Option<f32>,
    /// Name of the variant.
    pub variant: String,
    /// Split point.
    pub split: String,
    /// Codec setting.
    pub codec: String,
    /// Top-1 accuracy in percent, through the codec.
    pub accuracy: f64,
    /// Mean message size in bytes.
    pub mean_message_bytes: f64,
    /// 95th percentile of the message size in bytes.
    pub p95_message_bytes: f64,
    /// Multiply–accumulates of the head for one image.
    pub macs_head: u64,
    /// Multiply–accumulates of the tail for one image.
    pub macs_tail: u64,
}

/// Runs `trainer evaluate`.
pub fn run(arguments: &Arguments, library: &Library) -> anyhow::Result<()> {
    let series = Series::open(&arguments.series)?;
    let mut data = BTreeMap::new();
    for variant in &series.manifest.variants {
        let size = series.size_of(variant);
        if data.contains_key(&size) {
            continue;
        }
        let preparation = series.manifest.input_of(variant).preparation;
        let reader = Reader::new(library, &arguments.source, size, preparation, &arguments.series);
        let test = reader
            .expecting(&series.manifest.classes, "the series")
            .load(Subset::Test)?;
        data.insert(size, test.thinned(arguments.images.unwrap_or(test.len())));
    }
    let evaluation = evaluate(&series, &data, arguments.source.data.display().to_string())?;
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&evaluation)?),
        false => print_table(&evaluation),
    }
    Ok(())
}

/// Measures every operating point, given the pictures in every size that a variant takes.
pub fn evaluate(series: &Series, data: &BTreeMap<[usize; 2], Dataset>, name: String) -> anyhow::Result<Evaluation> {
    let points = &series.manifest.operating_points;
    let groups = groups(points);
    let any = data.values().next().context("no pictures")?;
    let progress = bar("evaluate", (groups.len() * any.len()) as u64);
    let mut measured: Vec<Option<Measured>> = vec![None; points.len()];
    for (variant, split, members) in &groups {
        progress.set_message(format!("{variant} {split}"));
        let codings = members.iter().map(|&it| series.coding(&points[it].codec));
        let codings = codings.collect::<anyhow::Result<Vec<_>>>()?;
        let settings = members.iter().zip(&codings).map(|(&it, coding)| Setting {
            point: it as u16,
            coding,
        });
        let settings: Vec<Setting<'_>> = settings.collect();
        let data = data.get(&series.size_of(series.cut(variant, split)?.variant));
        let data = data.context("no pictures of the size that a variant takes")?;
        let results = measure(series, variant, split, &settings, data, &progress)?;
        members
            .iter()
            .zip(results)
            .for_each(|(&at, result)| measured[at] = Some(result));
    }
    progress.finish_and_clear();
    let points = points
        .iter()
        .zip(measured)
        .enumerate()
        .filter_map(|(at, (point, measured))| Some(describe(series, at, point, measured?)));
    Ok(Evaluation {
        data: name,
        images: any.len(),
        unpruned_accuracy: series.manifest.unpruned.accuracy,
        chance: Score::none_of(any.counts()).chance(),
        points: points.collect::<anyhow::Result<_>>()?,
    })
}

/// Points that share head and tail, so that each is run once for all of them.
fn groups(points: &[OperatingPoint]) -> Vec<(&str, &Split, Vec<usize>)> {
    let mut groups: Vec<(&str, &Split, Vec<usize>)> = Vec::new();
    for (at, point) in points.iter().enumerate() {
        match groups
            .iter_mut()
            .find(|it| it.0 == point.variant && *it.1 == point.split)
        {
            Some(group) => group.2.push(at),
            None => groups.push((&point.variant, &point.split, vec![at])),
        }
    }
    groups
}

fn describe(series: &Series, at: usize, point: &OperatingPoint, measured: Measured) -> anyhow::Result<Point> {
    let cut = series.cut(&point.variant, &point.split)?;
    let mean_step = match series.coding(&point.codec)? {
        Coding::Features(spec) => Some(spec.steps.iter().sum::<f32>() / spec.steps.len() as f32),
        _ => None,
    };
    Ok(Point {
        point: at,
        mean_step,
        variant: point.variant.clone(),
        split: point.split.to_string(),
        codec: point.codec.to_string(),
        accuracy: measured.accuracy,
        mean_message_bytes: measured.mean_message_bytes,
        p95_message_bytes: measured.p95_message_bytes,
        macs_head: cut.head.iter().map(|it| it.macs).sum(),
        macs_tail: cut.tail.iter().map(|it| it.macs).sum(),
    })
}

fn print_table(evaluation: &Evaluation) {
    let Evaluation {
        data,
        images,
        unpruned_accuracy,
        chance,
        points,
    } = evaluation;
    println!(
        "{images} images of {data}; unpruned network {unpruned_accuracy:.2} %, always the same answer {chance:.2} %\n"
    );
    let widest = |lengths: &mut dyn Iterator<Item = usize>, least: usize| lengths.max().unwrap_or(0).max(least);
    let width = widest(&mut points.iter().map(|it| it.variant.len()), 7);
    let split_width = widest(&mut points.iter().map(|it| it.split.len()), 6);
    println!(
        "{:>5}  {:width$}  {:split_width$}  {:9}  {:>9}  {:>8}  {:>10}  {:>9}  {:>9}  {:>9}",
        "point",
        "variant",
        "split",
        "codec",
        "mean step",
        "accuracy",
        "mean bytes",
        "p95 bytes",
        "head MMAC",
        "tail MMAC"
    );
    for point in points {
        println!(
            "{:5}  {:width$}  {:split_width$}  {:9}  {:>9}  {:6.2} %  {:10.1}  {:9.0}  {:9.1}  {:9.1}",
            point.point,
            point.variant,
            point.split,
            point.codec,
            point.mean_step.map(|it| format!("{it:.3}")).unwrap_or_default(),
            point.accuracy,
            point.mean_message_bytes,
            point.p95_message_bytes,
            point.macs_head as f64 / 1e6,
            point.macs_tail as f64 / 1e6,
        );
    }
}
