//! `trainer export`: checkpoints to a series.

use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use split_core::Shape;
use split_core::codec::{FeatureCodecSpec, Tables};
use split_core::manifest::{
    Input, MANIFEST_FORMAT, Manifest, MeasuredOn, OperatingPoint, Source, Split, Unpruned, Variant, check_series_name,
};

use split_graph::{Graph, Op};

use super::cut;
use super::measure::{Coding, Setting, measure, uncut_accuracy};
use super::store::{Series, shared_trunk, store_segments};
use super::temperature::tempered;
use super::timing;
use crate::checkpoint::{Checkpoint, Description, FeatureQuantizer};
use crate::data::{DataSource, Dataset, Library, Reader, Subset};
use crate::files;
use crate::progress::bar;
use crate::run::FINAL;

/// What to export, and where to.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Checkpoint of a variant, named after its file, or after its run if it is RUN/final.safetensors; parents before the variants pruned from
    /// them. May be given again.
    #[arg(long = "checkpoint", required = true)]
    checkpoints: Vec<PathBuf>,
    /// Checkpoint of the network before pruning, for comparison; the first variant if not given.
    #[arg(long)]
    unpruned: Option<PathBuf>,
    /// Folder of the series; its name is the series' name: letters (a to z), digits, '-', '_' and '.'.
    #[arg(long)]
    series: PathBuf,
    /// Accuracies are measured on the test images.
    #[command(flatten)]
    source: DataSource,
    /// What the manifest calls the images; their folder's name if not given.
    #[arg(long)]
    data_name: Option<String>,
    /// Where the network's weights are from, for people who use the series.
    #[arg(long, default_value = "")]
    origin: String,
    /// The notice that a licence demands of whoever shows or passes on the series, if one does.
    #[arg(long, default_value = "")]
    notice: String,
    /// Where the network can be split, such as layer2.1 (`trainer describe` lists the cut points). May be given again; if not given, one cut
    /// point for every size of map, the one with the least to send.
    #[arg(long = "split")]
    splits: Vec<String>,
    /// Also write ONNX files into this folder: each whole variant, and a head and a tail for every split point.
    #[arg(long)]
    onnx: Option<PathBuf>,
}

impl Arguments {
    /// What `quick` asks for.
    pub fn new(source: &DataSource, series: &Path, unpruned: PathBuf, checkpoints: Vec<PathBuf>) -> Self {
        Self {
            checkpoints,
            unpruned: Some(unpruned),
            series: series.to_owned(),
            source: source.clone(),
            data_name: None,
            origin: String::new(),
            notice: String::new(),
            splits: Vec::new(),
            onnx: None,
        }
    }
}

/// Runs `trainer export`.
pub fn run(arguments: &Arguments, library: &Library) -> anyhow::Result<()> {
    let series_name = name_of(&arguments.series)?;
    let mut checkpoints = arguments
        .checkpoints
        .iter()
        .map(|it| load(it))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let unpruned = match &arguments.unpruned {
        Some(path) => load(path)?,
        None => checkpoints[0].clone(),
    };
    let description = checkpoints[0].checkpoint.description.clone();
    let mut splits = match arguments.splits.is_empty() {
        true => cut::usual_splits(&unpruned.checkpoint.unpruned()),
        false => arguments.splits.clone(),
    };
    for named in &checkpoints {
        let pruned_for = named.checkpoint.description.quantizer.as_ref().map(|it| &it.split);
        if let Some(split) = pruned_for.filter(|it| !splits.contains(it)) {
            ensure!(
                arguments.splits.is_empty(),
                "{} was pruned for {split}: add --split {split}, or leave it out",
                named.path.display()
            );
            splits.push(split.clone());
        }
    }
    // In the order of the network, whatever order they were given in.
    splits.sort_by_key(|it| unpruned.checkpoint.graph.cut_point(it).map(|it| it.node));
    for other in checkpoints.iter().chain([&unpruned]) {
        check_same_network(&checkpoints[0], other)?;
    }
    let folder = &arguments.series;
    files::make_folder(folder)?;
    let (mut tests, mut held_back) = (BTreeMap::new(), BTreeMap::new());
    for named in checkpoints.iter().chain([&unpruned]) {
        let size = named.size();
        if let Entry::Vacant(entry) = tests.entry(size) {
            let reader = Reader::new(library, &arguments.source, size, description.preparation, folder);
            let mut reader = reader.expecting(&description.classes, "the network");
            entry.insert(reader.load(Subset::Test)?);
            match reader.validation() {
                Ok(validation) => held_back.extend([(size, validation)]),
                Err(why) => eprintln!("probabilities stay as sure or unsure as they are: {why}"),
            }
        }
    }
    for named in &mut checkpoints {
        if let Some(pictures) = held_back.get(&named.size()) {
            let (tempered, temperature) = tempered(named.checkpoint.clone(), pictures)?;
            eprintln!(
                "{}: logits are divided by {temperature:.2}, which suits the pictures held back best",
                named.name
            );
            named.checkpoint = tempered;
        }
    }
    let test = |it: &Named| tests.get(&it.size()).context("no test pictures");
    let mut manifest = frame(arguments, series_name, &description, test(&checkpoints[0])?)?;
    let mut variants = Vec::new();
    for named in &checkpoints {
        let (segments, split_points) = stored(&arguments.series, named, &splits)?;
        manifest.split_points = split_points;
        let parent = parent(&named.checkpoint, &segments, &variants)?;
        let input = input(&named.checkpoint.description)?;
        variants.push(Variant {
            parent,
            input: (input != manifest.input).then_some(input),
            ..segments
        });
    }
    manifest.variants = variants;
    manifest.unpruned = measure_unpruned(&arguments.series, &manifest, &unpruned, test(&unpruned)?)?;
    let mut series = Series::new(&arguments.series, manifest);
    for named in &checkpoints {
        measure_variant(&mut series, named, test(named)?)?;
    }
    timing::time(&mut series)?;
    series.save()?;
    series.remove_unused_files()?;
    if let Some(folder) = &arguments.onnx {
        for named in &checkpoints {
            write_onnx(folder, named, &splits)?;
        }
    }
    print(&series);
    Ok(())
}

/// A checkpoint and the name of its variant.
#[derive(Clone)]
struct Named {
    name: String,
    path: PathBuf,
    checkpoint: Checkpoint,
}

impl Named {
    /// Rows and columns of the pictures that it takes.
    fn size(&self) -> [usize; 2] {
        let [_, height, width] = self.checkpoint.description.input;
        [height, width]
    }
}

fn load(path: &Path) -> anyhow::Result<Named> {
    let checkpoint = Checkpoint::load(path)?;
    Ok(Named {
        name: variant_name(path),
        path: path.to_owned(),
        checkpoint,
    })
}

/// A variant is named after its file, or after the run that the file is the result of.
fn variant_name(path: &Path) -> String {
    let is_result = path.file_name().is_some_and(|it| it == FINAL);
    let run = path.parent().and_then(Path::file_name).filter(|_| is_result);
    let name = run.or(path.file_stem()).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn check_same_network(a: &Named, b: &Named) -> anyhow::Result<()> {
    let identity = |it: &Named| {
        let Description {
            architecture,
            classes,
            mean,
            std,
            preparation,
            ..
        } = &it.checkpoint.description;
        (architecture.clone(), classes.clone(), (*mean, *std, *preparation))
    };
    if identity(a) != identity(b) {
        let (a, b) = (a.path.display(), b.path.display());
        bail!(
            "{a} and {b} differ in architecture, preparation of pictures, normalisation or classes; a series holds variants of one network"
        );
    }
    Ok(())
}

/// The name of the series in a folder, which is the folder's. Fails where the path does not end in one, or a series cannot have it.
pub fn name_of(series: &Path) -> anyhow::Result<String> {
    let path = || format!("--series {}", series.display());
    let name = series.file_name().with_context(|| {
        let path = path();
        format!(
            "{path} does not end in a name, which the series gets: name its folder, as in --series models/my-classes"
        )
    })?;
    let name = name.to_string_lossy().into_owned();
    check_series_name(&name).with_context(path)?;
    Ok(name)
}

/// The manifest without variants and operating points; those of an earlier one may not fit the new checkpoints.
fn frame(arguments: &Arguments, series: String, description: &Description, data: &Dataset) -> anyhow::Result<Manifest> {
    let data_folder = || {
        let name = arguments.source.data.file_name();
        name.unwrap_or_default().to_string_lossy().into_owned()
    };
    Ok(Manifest {
        format: MANIFEST_FORMAT,
        series,
        source: Source {
            network: description.architecture.clone(),
            origin: arguments.origin.clone(),
            notice: arguments.notice.clone(),
        },
        classes: description.classes.clone(),
        input: input(description)?,
        unpruned: Unpruned {
            accuracy: 0.0,
            macs: 0,
            widths: Vec::new(),
        },
        measured_on: MeasuredOn {
            name: arguments.data_name.clone().unwrap_or_else(data_folder),
            images: data.len(),
        },
        timed_on: None,
        split_points: Vec::new(),
        variants: Vec::new(),
        operating_points: Vec::new(),
    })
}

/// What a network takes.
fn input(description: &Description) -> anyhow::Result<Input> {
    Ok(Input {
        shape: Shape::try_from(description.input)?,
        preparation: description.preparation,
        mean: description.mean,
        std: description.std,
    })
}

/// Writes a checkpoint's segments; its accuracy and parent are still to be found.
fn stored(dir: &Path, named: &Named, splits: &[String]) -> anyhow::Result<(Variant, Vec<String>)> {
    let (files, split_points) =
        cut::write(&named.checkpoint.graph, splits).with_context(|| named.path.display().to_string())?;
    let (split_points, cuts): (Vec<_>, Vec<_>) = split_points.into_iter().map(|(name, it)| (name, Some(it))).unzip();
    let variant = Variant {
        name: named.name.clone(),
        parent: None,
        input: None,
        widths: named.checkpoint.description.widths.clone(),
        accuracy: 0.0,
        segments: store_segments(dir, &files)?,
        cuts,
    };
    Ok((variant, split_points))
}

/// The variant from which one that was pruned for a split point came: of those with the same widths before the pruned layer,
/// the one that shares the most segments.
fn parent(checkpoint: &Checkpoint, variant: &Variant, earlier: &[Variant]) -> anyhow::Result<Option<String>> {
    let Some(FeatureQuantizer { split, .. }) = &checkpoint.description.quantizer else {
        return Ok(None);
    };
    let cut = checkpoint
        .graph
        .cut_point(split)
        .with_context(|| format!("the network cannot be cut at `{split}`"))?;
    let before = &checkpoint.graph.nodes()[..=cut.node];
    let convolutions = before.iter().filter(|it| matches!(it.op, Op::Convolution(_))).count();
    let pruned = convolutions.saturating_sub(1);
    let related = earlier
        .iter()
        .filter(|it| it.parent.is_none() && it.widths.get(..pruned) == variant.widths.get(..pruned));
    // Of several that share as much, the first.
    Ok(related
        .min_by_key(|it| std::cmp::Reverse(shared_trunk(it, variant)))
        .map(|it| it.name.clone()))
}

fn measure_unpruned(dir: &Path, manifest: &Manifest, named: &Named, data: &Dataset) -> anyhow::Result<Unpruned> {
    let (variant, split_points) = stored(dir, named, &manifest.split_points)?;
    let (name, widths, macs) = (variant.name.clone(), variant.widths.clone(), variant.macs());
    let series = Series::new(
        dir,
        Manifest {
            variants: vec![variant],
            input: input(&named.checkpoint.description)?,
            split_points,
            ..manifest.clone()
        },
    );
    let progress = bar("export", data.len() as u64).with_message(format!("unpruned {name}"));
    let accuracy = uncut_accuracy(&series, &name, data, &progress)?;
    progress.finish_and_clear();
    Ok(Unpruned { accuracy, macs, widths })
}

/// Measures a variant, and gives it its first operating point: at `output`, or with the quantiser it was trained with.
fn measure_variant(series: &mut Series, named: &Named, data: &Dataset) -> anyhow::Result<()> {
    let (split, coding) = match &named.checkpoint.description.quantizer {
        None => (Split::Output, Coding::None),
        Some(quantizer) => (
            Split::At(quantizer.split.clone()),
            Coding::Features(plain_codec(quantizer)?),
        ),
    };
    let point = u16::try_from(series.manifest.operating_points.len())?;
    let progress = bar("export", data.len() as u64).with_message(named.name.clone());
    let measured = measure(
        series,
        &named.name,
        &split,
        &[Setting { point, coding: &coding }],
        data,
        &progress,
    )?[0];
    progress.finish_and_clear();
    if let Some(variant) = series.manifest.variants.iter_mut().find(|it| it.name == named.name) {
        variant.accuracy = measured.accuracy;
    }
    let codec = series.store_coding(&coding)?;
    series.manifest.operating_points.push(OperatingPoint {
        variant: named.name.clone(),
        split,
        codec,
        accuracy: measured.accuracy,
        mean_message_bytes: measured.mean_message_bytes,
        p95_message_bytes: measured.p95_message_bytes,
    });
    Ok(())
}

/// The trained quantiser with a table that codes every value alike, until the codec is calibrated.
fn plain_codec(quantizer: &FeatureQuantizer) -> anyhow::Result<FeatureCodecSpec> {
    let bits = u8::try_from(quantizer.bits).context("quantiser")?;
    Ok(FeatureCodecSpec {
        bits,
        steps: quantizer.steps.clone(),
        centres: quantizer.centres.clone(),
        tables: Tables::uniform(bits),
    })
}

fn write_onnx(folder: &Path, named: &Named, splits: &[String]) -> anyhow::Result<()> {
    files::make_folder(folder)?;
    let network = named.checkpoint.graph.folded()?;
    let write = |suffix: &str, network: &Graph| {
        let path = folder.join(format!("{}{suffix}.onnx", named.name));
        let file = split_runtime::write_onnx(network);
        files::write_whole(&path, &file.bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write("", &network)?;
    for split in splits {
        let graph = &named.checkpoint.graph;
        let halves = graph.cut_point(split).and_then(|it| graph.split_at(it.node));
        let (head, tail) = halves.with_context(|| format!("the network cannot be cut at `{split}`"))?;
        write(&format!("-{split}-head"), &head.folded()?)?;
        write(&format!("-{split}-tail"), &tail.folded()?)?;
    }
    Ok(())
}

fn print(series: &Series) {
    let manifest = &series.manifest;
    println!(
        "unpruned: {:.2} %, {:.1} MMAC",
        manifest.unpruned.accuracy,
        manifest.unpruned.macs as f64 / 1e6
    );
    for variant in &manifest.variants {
        let bytes: u64 = variant.segments.iter().map(|it| it.bytes).sum();
        println!(
            "{}: {:.2} %, {:.1} MMAC, {:.2} MB in {} segments{}",
            variant.name,
            variant.accuracy,
            variant.macs() as f64 / 1e6,
            bytes as f64 / 1e6,
            variant.segments.len(),
            variant
                .parent
                .as_ref()
                .map(|it| format!(", pruned from {it}"))
                .unwrap_or_default(),
        );
    }
}

#[cfg(test)]
mod tests;
