//! `trainer import`: a network from PyTorch, timm or an ONNX file, told which pictures and classes it is for.

mod known;
mod merge;
mod onnx;
mod schema;
mod weights;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, builder::PossibleValuesParser};
use split_core::Shape;
use split_graph::{Architecture, Fault, Graph, GraphError, Node, Op, fill};

use crate::checkpoint::{Checkpoint, Description, resize};
use crate::command::FitName;
use weights::Weights;

const EXAMPLES: &str = "\
Examples:
  torchvision's MobileNetV2, whose classes are the lines of a file:
    trainer import --from mobilenet_v2.pth --architecture mobilenet_v2 --classes-file imagenet.txt --to mobilenet.safetensors
  The same network for three classes of your own: the classifier is replaced, and has to be trained:
    trainer import --from mobilenet_v2.pth --architecture mobilenet_v2 --classes cat,dog,owl --to mobilenet.safetensors
  Any network of convolutions, as torch.onnx.export and tf2onnx write it:
    trainer import --from network.onnx --classes cat,dog,owl --to network.safetensors
Weights are a state_dict in safetensors, or in PyTorch's own format, of which nothing is executed; prefixes such as module. and other floats than
32-bit ones are taken as they come.";

/// What to import, and what it is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Weights (.safetensors, .pth, .pt, .bin, .ckpt) or a whole network (.onnx).
    #[arg(long)]
    from: PathBuf,
    /// Where the checkpoint goes.
    #[arg(long)]
    to: PathBuf,
    /// Which network the weights are of; not needed for an ONNX file. vgg11, vgg16 and alexnet are those for small pictures, the others
    /// torchvision's and timm's.
    #[arg(long, value_parser = PossibleValuesParser::new(names()))]
    architecture: Option<String>,
    /// Rows and columns of the network's input; the architecture's usual ones if not given.
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"])]
    size: Option<Vec<usize>>,
    /// Class names in the order of the outputs, separated by commas. Of another number than the network's, they replace the classifier.
    #[arg(long, value_delimiter = ',', conflicts_with = "classes_file")]
    classes: Vec<String>,
    /// The same as a file, one name a line.
    #[arg(long)]
    classes_file: Option<PathBuf>,
    /// What is subtracted from red, green and blue in [0, 1]; the architecture's usual values if not given, and ImageNet's for an ONNX file.
    #[arg(long, num_args = 3, value_names = ["RED", "GREEN", "BLUE"], allow_negative_numbers = true)]
    mean: Option<Vec<f32>>,
    /// What then divides them.
    #[arg(long, num_args = 3, value_names = ["RED", "GREEN", "BLUE"])]
    std: Option<Vec<f32>>,
    /// How pictures of other proportions fill the input.
    #[arg(long, value_enum, default_value = "cover")]
    fit: FitName,
}

fn names() -> Vec<&'static str> {
    Architecture::all().map(Architecture::name).collect()
}

/// Runs `trainer import`.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checkpoint = import(arguments).with_context(|| arguments.from.display().to_string())?;
    checkpoint.save(&arguments.to)?;
    let Checkpoint { description, graph } = &checkpoint;
    let (mean, std) = (description.mean, description.std);
    println!(
        "{}: {} for pictures of {}, {} classes, {:.1} million MACs; pixels in [0, 1] minus {mean:?}, divided by {std:?}",
        arguments.to.display(),
        description.architecture,
        graph.input(),
        description.classes.len(),
        graph.macs() as f64 / 1e6
    );
    Ok(())
}

fn import(arguments: &Arguments) -> anyhow::Result<Checkpoint> {
    let size = arguments.size.as_ref().map(|it| [it[0], it[1]]);
    let is_onnx = arguments
        .from
        .extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("onnx"));
    let (architecture, graph) = if is_onnx {
        (None, onnx::read(&arguments.from, size)?)
    } else {
        let name = arguments.architecture.as_deref();
        let name = name.with_context(|| {
            format!(
                "say which network these are the weights of with --architecture: {}",
                names().join(", ")
            )
        })?;
        let architecture = Architecture::of(name).with_context(|| format!("no architecture is called {name}"))?;
        let graph = of_weights(&arguments.from, architecture, size.unwrap_or(architecture.usual_size()));
        (Some(architecture), graph.map_err(|error| with_advice(error, size))?)
    };
    let graph = without_biases_before_norms(graph)?;
    ensure!(
        graph.input().channels() == 3,
        "the network takes {} channels; pictures have three",
        graph.input().channels()
    );
    // ImageNet's, unless the architecture has others.
    let mut description = Description::usual(
        architecture.unwrap_or(Architecture::ResNet18),
        [graph.input().height(), graph.input().width()],
        (0..graph.output().channels()).map(|it| it.to_string()).collect(),
    );
    if architecture.is_none() {
        description.architecture = arguments
            .from
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
    }
    description.preparation.fit = arguments.fit.into();
    if let Some(mean) = &arguments.mean {
        description.mean.copy_from_slice(mean);
    }
    if let Some(std) = &arguments.std {
        description.std.copy_from_slice(std);
    }
    let valid = description.mean.iter().all(|it| it.is_finite())
        && description.std.iter().all(|it| it.is_finite() && *it > 0.0);
    ensure!(valid, "--mean takes numbers, --std positive ones");
    named(Checkpoint::new(description, graph)?, classes(arguments)?)
}

/// An architecture's network with the weights of a file, as wide as they say.
fn of_weights(path: &Path, architecture: Architecture, size: [usize; 2]) -> anyhow::Result<Graph> {
    let mut weights = Weights::open(path)?;
    let input = Shape::new(3, size[0], size[1])?;
    // The classes are as many as the file has: any number will do before.
    let mut nodes = architecture.nodes(input, 1).with_context(|| {
        format!(
            "{} does not work on pictures of {}×{}",
            architecture.name(),
            size[0],
            size[1]
        )
    })?;
    let expected: Vec<String> = tensor_names(&nodes);
    weights.strip_prefix(&expected);
    for node in &mut nodes {
        resize(node, |name| weights.shape(name));
    }
    let expected = tensor_names(&nodes);
    if let Some((name, _)) = weights.shapes().find(|it| !expected.iter().any(|name| name == it.0)) {
        bail!(
            "tensor `{name}` does not belong to {}; is this a checkpoint of another architecture?",
            architecture.name()
        );
    }
    fill(&mut nodes, |name, shape| weights.read(name, shape))?;
    Graph::new(input, nodes).map_err(Into::into)
}

/// An error with what to do if the weights are of a network for pictures of another size than the one that was asked for.
fn with_advice(error: anyhow::Error, size: Option<[usize; 2]>) -> anyhow::Error {
    let fault = error.downcast_ref::<GraphError>().map(|it| &it.fault);
    match (fault, size) {
        (Some(Fault::Input { .. }), Some([height, width])) => anyhow!(
            "{error}; import it for the size that its weights are made for, and `train --parent … --size {height} {width}` brings it to this one"
        ),
        _ => error,
    }
}

fn tensor_names(nodes: &[Node]) -> Vec<String> {
    let names = nodes.iter().flat_map(|node| {
        let tensors = node.op.tensors();
        tensors
            .into_iter()
            .map(|it| format!("{}.{}", node.name, it.name))
            .collect::<Vec<_>>()
    });
    names.collect()
}

/// A bias that a batch norm follows only moves its mean.
fn without_biases_before_norms(graph: Graph) -> anyhow::Result<Graph> {
    let (input, consumers) = (graph.input(), graph.consumers());
    let mut nodes = graph.into_nodes();
    for (number, consumers) in consumers.into_iter().enumerate() {
        let [next] = consumers[..] else { continue };
        let [before, .., norm] = &mut nodes[number..=next] else {
            continue;
        };
        if let (Op::Convolution(it), Op::BatchNorm(norm)) = (&mut before.op, &mut norm.op)
            && let Some(bias) = it.bias.take()
        {
            norm.mean.iter_mut().zip(bias).for_each(|(mean, bias)| *mean -= bias);
        }
    }
    Ok(Graph::new(input, nodes)?)
}

/// The class names that were given; none if they are to be numbered.
fn classes(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let classes: Vec<String> = match &arguments.classes_file {
        None => arguments.classes.clone(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            text.lines()
                .map(|it| it.trim().to_owned())
                .filter(|it| !it.is_empty())
                .collect()
        }
    };
    if let Some(twice) = classes.iter().enumerate().find(|(at, it)| classes[..*at].contains(it)) {
        bail!("the class {} is there twice", twice.1);
    }
    ensure!(
        arguments.classes_file.is_none() || !classes.is_empty(),
        "the file of classes is empty"
    );
    Ok(classes)
}

/// The network with these names for its numbered classes. Where it has another number of classes, its classifier begins anew.
fn named(mut checkpoint: Checkpoint, classes: Vec<String>) -> anyhow::Result<Checkpoint> {
    let found = checkpoint.description.classes.len();
    if classes.is_empty() {
        eprintln!("the classes have no names, so they are numbered; --classes-file gives them names");
        return Ok(checkpoint);
    }
    if classes.len() == found {
        checkpoint.description.classes = classes;
        return Ok(checkpoint);
    }
    let description = Description {
        classes,
        ..checkpoint.description.clone()
    };
    let count = description.classes.len();
    let (adapted, anew) = checkpoint.adapted(description, 1)?;
    for name in anew {
        eprintln!("{name}: {found} classes are replaced by {count} others, which have to be trained");
    }
    Ok(adapted)
}

#[cfg(test)]
mod tests;
