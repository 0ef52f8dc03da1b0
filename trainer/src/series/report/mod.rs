//! `trainer report`: a series beside the paper's figures, as one page and as plots.
//!
//! Every number comes from the manifest, which holds nothing but what was measured; the paper's are in `reference`, those of the
//! course of training in the logs of the runs that are named.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use split_core::Manifest;

use self::page::Page;
use super::store::Series;
use crate::files::{make_folder, write_whole};
use crate::learn::LEAST_KNOWLEDGE;
use crate::log::{self, RunLog};

mod chart;
mod compare;
mod page;
mod plots;
mod reference;
mod tables;

/// What to report, and where to.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Folder of the series, with its manifest.json.
    #[arg(long)]
    series: PathBuf,
    /// Folder of a run, to show how it learned. May be given again.
    #[arg(long = "run")]
    runs: Vec<PathBuf>,
    /// Folder for index.html and the plots as SVG files.
    #[arg(long)]
    to: PathBuf,
}

/// Files of a report.
#[derive(Clone, Debug, PartialEq)]
struct Report {
    html: String,
    /// Name and content of each plot.
    plots: Vec<(String, String)>,
}

/// Runs `trainer report`.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let series = Series::open(&arguments.series)?;
    let runs = arguments
        .runs
        .iter()
        .map(|it| log::read(it))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let Report { html, plots } = report(&series.manifest, &runs)?;
    make_folder(&arguments.to)?;
    for (name, content) in plots.iter().chain([&("index.html".to_owned(), html)]) {
        let path = arguments.to.join(name);
        write_whole(&path, content.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}", arguments.to.join("index.html").display());
    Ok(())
}

fn report(manifest: &Manifest, runs: &[RunLog]) -> anyhow::Result<Report> {
    let mut page = Page::new(&format!("The series {}", manifest.series));
    let mut drawn = Vec::new();
    let mut plot = |page: &mut Page, name: String, svg: String| {
        page.plot(&svg);
        drawn.push((format!("{name}.svg"), svg));
    };
    page.paragraph(&format!(
        "Accuracies are top-1 on {} images: {}. Those of operating points are taken through the real codec, message sizes include \
         the header.{}",
        manifest.measured_on.images,
        manifest.measured_on.name,
        if reference::is_comparable(manifest) {
            " The paper's figures are those of Shi et al. (2019), VGG-16 on CIFAR-10, where an element counts as one byte."
        } else {
            ""
        }
    ));
    let chance = 100.0 / manifest.classes.len() as f64;
    if manifest.unpruned.accuracy < chance + LEAST_KNOWLEDGE * (100.0 - chance) {
        page.paragraph(&format!(
            "Beware: the unpruned network recognises {:.1} % of the images, guessing among {} classes about {chance:.1} %. What little is lost below \
             by pruning and coding says next to nothing.",
            manifest.unpruned.accuracy,
            manifest.classes.len()
        ));
    }
    page.section("Step 1: less work");
    tables::step1(&mut page, manifest);
    plot(
        &mut page,
        "accuracy-macs".into(),
        chart::points(&plots::accuracy_macs(manifest))?,
    );
    page.section("Step 2: fewer bytes");
    tables::step2(&mut page, manifest)?;
    for split in &manifest.split_points {
        let svg = chart::points(&plots::accuracy_bytes(manifest, split))?;
        plot(&mut page, format!("accuracy-bytes-{split}"), svg);
    }
    page.section("Widths before and after");
    plot(&mut page, "widths".into(), chart::bars(&plots::widths(manifest))?);
    tables::widths(&mut page, manifest);
    if !runs.is_empty() {
        page.section("How it learned");
        tables::runs(&mut page, runs);
        plot(&mut page, "runs".into(), chart::points(&plots::learning(runs))?);
    }
    page.section("Operating points");
    tables::points(&mut page, manifest);
    Ok(Report {
        html: page.finish(),
        plots: drawn,
    })
}

/// Millions of multiply–accumulates.
fn mmacs(macs: u64) -> f64 {
    macs as f64 / 1e6
}

#[cfg(test)]
mod tests;
