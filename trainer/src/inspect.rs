//! Subcommands that look at checkpoints: `describe`, `predict`, `to-onnx` and `average`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use split_core::manifest::Input;
use split_core::{Shape, top_classes};
use split_graph::{Graph, Op, Source};
use split_runtime::Network;

use crate::checkpoint::Checkpoint;
use crate::decode;
use crate::files;
use crate::series::measure::normalize;

/// What to show.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// List a checkpoint's layers, the channels that go together, and where the network can be cut.
    Describe {
        /// The checkpoint.
        file: PathBuf,
    },
    /// Classify pictures with a checkpoint's network, uncut.
    Predict(Predict),
    /// Write a checkpoint's network as an ONNX file, for other engines.
    ToOnnx {
        /// The checkpoint.
        #[arg(long)]
        checkpoint: PathBuf,
        /// Where the ONNX file goes.
        #[arg(long)]
        to: PathBuf,
    },
    /// Make a checkpoint whose weights are the means of those of several that were fine-tuned from the same one.
    #[command(after_help = AVERAGE_EXAMPLE)]
    Average {
        /// The checkpoints; one that is named twice counts twice.
        #[arg(required = true)]
        checkpoints: Vec<PathBuf>,
        /// Where the mean goes.
        #[arg(long)]
        to: PathBuf,
    },
}

const AVERAGE_EXAMPLE: &str = "\
Example: one run without, one with much augmentation, both from the same checkpoint:
    trainer average runs/plain/final.safetensors runs/augmented/final.safetensors --to unpruned.safetensors
Networks that were fine-tuned from the same weights often recognise more together than each alone, and cost no more.";

/// Arguments of `trainer predict`.
#[derive(Args, Clone, Debug)]
pub struct Predict {
    /// The checkpoint.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Print all logits as JSON, one object for each picture.
    #[arg(long)]
    json: bool,
    /// Pictures of any size.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
}

impl Command {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Describe { file } => {
                print!("{}", describe(&Checkpoint::load(&file)?));
                Ok(())
            }
            Self::Predict(it) => it.run(),
            Self::Average { checkpoints, to } => {
                let all = checkpoints.iter().map(|it| Checkpoint::load(it));
                Checkpoint::mean(&all.collect::<anyhow::Result<Vec<_>>>()?)?.save(&to)
            }
            Self::ToOnnx { checkpoint, to } => {
                let file = split_runtime::write_onnx(&Checkpoint::load(&checkpoint)?.graph);
                files::write_whole(&to, &file.bytes).with_context(|| to.display().to_string())
            }
        }
    }
}

impl Predict {
    fn run(&self) -> anyhow::Result<()> {
        let Checkpoint { description, graph } = Checkpoint::load(&self.checkpoint)?;
        let mut network = Network::of(&graph)?;
        let [_, height, width] = description.input;
        let input = Input {
            shape: Shape::try_from(description.input)?,
            preparation: description.preparation,
            mean: description.mean,
            std: description.std,
        };
        let (mut values, mut logits) = (Vec::new(), Vec::new());
        for path in &self.pictures {
            let file = std::fs::read(path).with_context(|| path.display().to_string())?;
            let picture = decode::decode(&file, description.preparation, [height, width]);
            let picture = picture.with_context(|| path.display().to_string())?;
            normalize(&input, &picture.rgb, &mut values)?;
            network.run(1, &values, &mut logits)?;
            if self.json {
                println!("{}", json!({ "picture": path, "logits": logits }));
                continue;
            }
            println!("{}", path.display());
            for it in top_classes(&logits) {
                let class = description
                    .classes
                    .get(usize::from(it.class))
                    .map_or("", String::as_str);
                println!("  {:6.2} %  {class}", 100.0 * it.probability);
            }
        }
        Ok(())
    }
}

/// A text of three tables.
fn describe(checkpoint: &Checkpoint) -> String {
    let Checkpoint { description, graph } = checkpoint;
    let parameters: usize = graph
        .nodes()
        .iter()
        .flat_map(|it| it.op.tensors())
        .map(|it| it.values.len())
        .sum();
    let mut text = format!(
        "{}: {} in, {} classes, {:.1} million MACs, {:.2} million parameters\n",
        description.architecture,
        graph.input(),
        description.classes.len(),
        graph.macs() as f64 / 1e6,
        parameters as f64 / 1e6
    );
    if let Some(quantizer) = &description.quantizer {
        let (split, bits) = (&quantizer.split, quantizer.bits);
        text.push_str(&format!("pruned for {split}, where features have {bits} bits\n"));
    }
    text.push_str("\nlayers\n");
    let width = graph.nodes().iter().map(|it| it.name.len()).max().unwrap_or(0);
    let kinds: Vec<String> = graph.nodes().iter().map(|it| kind(&it.op)).collect();
    let kind_width = kinds.iter().map(|it| it.chars().count()).max().unwrap_or(0);
    for (number, node) in graph.nodes().iter().enumerate() {
        let shape = graph.shape(Source::Node(number));
        let line = format!(
            "  {:width$}  {:kind_width$} {:>14} {:>9.2} MMAC",
            node.name,
            kinds[number],
            shape.to_string(),
            graph.macs_of(number) as f64 / 1e6
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("\nchannels that go together\n");
    for group in graph.channel_groups().groups() {
        let names: Vec<&str> = group
            .producers
            .iter()
            .map(|it| graph.nodes()[*it].name.as_str())
            .collect();
        text.push_str(&format!("  {:5} of {}\n", group.units.len(), names.join(", ")));
    }
    text.push_str("\ncut points\n");
    text.push_str(&cut_points(graph));
    text
}

fn kind(op: &Op) -> String {
    match op {
        Op::Convolution(it) => {
            let [rows, columns] = it.window.kernel;
            format!("{} {rows}×{columns}, stride {}", op.kind(), it.window.stride[0])
        }
        _ => op.kind().to_owned(),
    }
}

fn cut_points(graph: &Graph) -> String {
    let points = graph.cut_points();
    let width = points.iter().map(|it| it.name.len()).max().unwrap_or(0);
    let lines = points.iter().map(|it| {
        let [before, behind] = [it.macs_before, it.macs_after].map(|it| it as f64 / 1e6);
        let (name, shape) = (&it.name, it.shape.to_string());
        format!(
            "  {name:width$}  {shape:>14} {:>9} values, {before:>8.1} MMAC before, {behind:>8.1} behind\n",
            it.shape.values()
        )
    });
    lines.collect()
}
