//! Codes the features of real pictures with the feature codec, PNG and zstd, and prints bytes and times beside each other.

mod groups;
mod peers;
mod point;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use split_core::manifest::OperatingPoint;
use split_tests::{pictures, report::Report, series::Series};

use crate::{
    groups::Group,
    point::{Point, Row},
};

/// Codes the features of a series at every operating point that splits the network.
///
/// On one thread, so that times are those of one frame. Every peer gets the choice that is best for it: PNG its filter for each picture, zstd the
/// layout of the codes and the size of its dictionary for each operating point.
#[derive(Parser)]
struct Arguments {
    /// Folder of the series.
    #[arg(long, default_value = "models/cifar10-vgg16")]
    series: PathBuf,
    /// Image folder: `train/<class>/*` for zstd's dictionary, `test/<class>/*` for everything that is reported.
    #[arg(long)]
    data: PathBuf,
    /// Test pictures, spread evenly over the classes.
    #[arg(long, default_value_t = 2000)]
    images: usize,
    /// Training pictures, likewise.
    #[arg(long, default_value_t = 2000)]
    training_images: usize,
    /// Where to write the numbers as JSON.
    #[arg(long)]
    report: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let series = Series::open(&arguments.series)?;
    let groups = groups::groups(&series)?;
    ensure!(
        !groups.is_empty(),
        "no operating point of the series splits its network"
    );
    let load = |subset: &str, count| -> Result<Vec<Vec<u8>>> {
        let pictures = pictures::load(&arguments.data.join(subset), series.manifest.input.shape, count)?;
        Ok(pictures.into_iter().map(|it| it.rgba).collect())
    };
    let training = load("train", arguments.training_images)?;
    let test = load("test", arguments.images)?;
    println!("{} test pictures, mean bytes of a payload:\n", test.len());
    print_heading();
    let mut rows = Vec::new();
    for group in groups {
        for row in measure(&series, group, &training, &test)? {
            print_row(&row);
            rows.push(row);
        }
    }
    println!();
    summary(rows).write(&arguments.report)
}

/// All operating points of one head: it runs once a picture for all of them.
fn measure(series: &Series, group: Group<'_>, training: &[Vec<u8>], test: &[Vec<u8>]) -> Result<Vec<Row>> {
    let (mut head, input) = (groups::head(series, &group)?, series.cut(group.points[0])?.input);
    let point = |it: &&OperatingPoint| {
        let spec = series.codec(it)?.context("features are coded")?;
        Point::new(it, &spec, group.shape)
    };
    let mut points = group.points.iter().map(point).collect::<Result<Vec<_>>>()?;
    let (mut values, mut features) = (Vec::new(), Vec::new());
    for picture in training {
        input.normalize_rgba(picture, &mut values)?;
        head.run(1, &values, &mut features)?;
        points.iter_mut().try_for_each(|it| it.learn(&features))?;
    }
    points.iter_mut().try_for_each(Point::finish_learning)?;
    let mut head_time = Duration::ZERO;
    for picture in test {
        input.normalize_rgba(picture, &mut values)?;
        let started = Instant::now();
        head.run(1, &values, &mut features)?;
        head_time += started.elapsed();
        points.iter_mut().try_for_each(|it| it.measure(&features))?;
    }
    Ok(points.into_iter().map(|it| it.row(head_time)).collect())
}

fn summary(rows: Vec<Row>) -> Report {
    let mut report = Report::default();
    let worst = |ratio: fn(&Row) -> f64| rows.iter().map(ratio).fold(f64::NEG_INFINITY, f64::max);
    report.at_most("bytes, of PNG's, at the worst point", worst(Row::of_png), 0.60);
    report.at_most("bytes, of zstd's, at the worst point", worst(Row::of_zstd), 0.75);
    report.at_most(
        "bytes, of the entropy, at the worst point",
        worst(Row::of_entropy),
        1.05,
    );
    report.at_most(
        "pictures not decoded exactly",
        rows.iter().map(|it| it.not_exact as f64).sum(),
        0.0,
    );
    let name = "encode and decode, % of the head, natively, at the worst point";
    report.at_most(name, worst(Row::percent_of_head), 5.0);
    rows.iter().for_each(|it| report.record(it));
    report
}

fn print_heading() {
    println!(
        "{:<20} {:<6} {:>4} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>9} {:>9} {:>7}",
        "variant",
        "split",
        "bits",
        "ours",
        "PNG",
        "zstd",
        "entropy",
        "of PNG",
        "of zstd",
        "of entr.",
        "codec µs",
        "head µs",
        "share"
    );
}

fn print_row(row: &Row) {
    println!(
        "{:<20} {:<6} {:>4} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>7.3} {:>7.3} {:>8.3} {:>9.1} {:>9.1} {:>6.2}%",
        row.variant,
        row.split,
        row.bits,
        row.ours_bytes,
        row.png_bytes,
        row.zstd_bytes,
        row.entropy_bytes,
        row.of_png(),
        row.of_zstd(),
        row.of_entropy(),
        row.encode_us + row.decode_us,
        row.head_us,
        row.percent_of_head(),
    );
}
