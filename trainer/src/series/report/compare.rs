//! The numbers behind the page: which operating point stands for a split point, and how many elements cross there.

use anyhow::Context;
use split_core::Manifest;
use split_core::manifest::{Codec, ImageFormat, OperatingPoint, Split, Variant};

use crate::checkpoint;

/// Points of accuracy that the table lets a split point lose against the unpruned network.
pub const ALLOWED_LOSS: f64 = 1.5;

/// What the table says of one split point of the series.
#[derive(Clone, Debug, PartialEq)]
pub struct Ours<'a> {
    /// The operating point that stands for it.
    pub point: &'a OperatingPoint,
    /// Elements that cross in the unpruned network.
    pub unpruned: usize,
    /// Elements that cross in the variant that step 2 started from.
    pub step1: usize,
    /// Elements that cross at the operating point.
    pub elements: usize,
}

/// The best of a split point: the fewest bytes at a loss of at most [`ALLOWED_LOSS`], else the highest accuracy. None where the
/// series does not split.
pub fn ours<'a>(manifest: &'a Manifest, split: &str) -> anyhow::Result<Option<Ours<'a>>> {
    let points = || {
        let all = manifest.operating_points.iter();
        all.filter(|it| matches!(&it.split, Split::At(name) if name == split))
    };
    let good = points().filter(|it| manifest.unpruned.accuracy - it.accuracy <= ALLOWED_LOSS);
    let best = good
        .min_by(|a, b| a.mean_message_bytes.total_cmp(&b.mean_message_bytes))
        .or_else(|| points().max_by(|a, b| a.accuracy.total_cmp(&b.accuracy)));
    let Some(point) = best else { return Ok(None) };
    let variant = manifest.variant(&point.variant).context("a variant is missing")?;
    let parent = variant.parent.as_deref().and_then(|it| manifest.variant(it));
    Ok(Some(Ours {
        point,
        unpruned: unpruned_elements(manifest, split)?,
        step1: elements(manifest, parent.unwrap_or(variant), split)?,
        elements: elements(manifest, variant, split)?,
    }))
}

/// Elements that cross at a split point in a variant.
fn elements(manifest: &Manifest, variant: &Variant, split: &str) -> anyhow::Result<usize> {
    let cut = manifest.cut_at(variant, &Split::At(split.to_owned()));
    let cut = cut.with_context(|| format!("{} is not cut at {split}", variant.name))?;
    Ok(cut.features.values())
}

/// Elements that cross at a split point in the unpruned network; where its architecture is not known by name, in the widest variant.
fn unpruned_elements(manifest: &Manifest, split: &str) -> anyhow::Result<usize> {
    let network = checkpoint::unpruned(&manifest.source.network, manifest.input.shape, manifest.classes.len());
    if let Some(point) = network.and_then(|it| it.cut_point(split)) {
        return Ok(point.shape.values());
    }
    let known = step1(manifest).filter_map(|it| elements(manifest, it, split).ok());
    known.max().with_context(|| format!("no variant is cut at {split}"))
}

/// Variants that step 1 made: the others have a parent.
pub fn step1(manifest: &Manifest) -> impl Iterator<Item = &Variant> {
    manifest.variants.iter().filter(|it| it.parent.is_none())
}

/// Bytes and accuracy of the frame as WebP: of all variants and qualities those that none beats in both, by bytes.
pub fn webp(manifest: &Manifest) -> Vec<(f64, f64)> {
    let is_webp = |it: &&OperatingPoint| {
        matches!(
            it.codec,
            Codec::Image {
                format: ImageFormat::Webp,
                ..
            }
        )
    };
    let mut points: Vec<(f64, f64)> = manifest
        .operating_points
        .iter()
        .filter(is_webp)
        .map(|it| (it.mean_message_bytes, it.accuracy))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut best = f64::NEG_INFINITY;
    points.retain(|it| {
        let better = it.1 > best;
        best = best.max(it.1);
        better
    });
    points
}
