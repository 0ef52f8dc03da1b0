//! ONNX files, as `torch.onnx.export` and `tf2onnx` write them, to a network.
//!
//! The nodes are read once, in topological order. A value is a tensor of the network, in one of three layouts, or something that is known
//! without a picture: a constant, or the shape of a tensor, which exporters compute where they flatten. Padding, the parts of an activation, and
//! factors of channels are written as operations of their own; they are joined with what they belong to.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use prost::Message;
use split_graph::{Activation, BatchNorm, Convolution, Graph, Linear, Node, Op, Padding, Source, Window};

use super::schema::{self, Length};
use super::{known, merge};

/// Operator sets that are read.
const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 13..=22;
/// Bytes of a file and of its external data together.
const MAX_BYTES: u64 = 4 << 30;
/// Weights of all nodes may be this many times the values in the file, as nodes may share them, and so many more.
const SHARING: usize = 4;
const MORE_VALUES: usize = 1 << 22;
/// Channels of a factor or shift.
const MAX_CHANNELS: usize = 1 << 16;

/// Where the channels of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `[N, C, H, W]`.
    First,
    /// `[N, H, W, C]`.
    Last,
    /// `[N, C]`.
    Vector,
    /// `[N, H·W·C]`, flattened from `[N, H, W, C]` of so many positions. The network's own order is that of `[N, C, H, W]`.
    Flat(usize),
}

/// What a name stands for.
#[derive(Clone, Debug)]
enum Value {
    Tensor(Source, Layout),
    /// A tensor with zeros around it, or what is less than everything.
    Padded(Source, Layout, Padding, f32),
    Constant(Constant),
    /// Sides of a tensor, or a part of them; the batch is not known.
    Sides(Vec<Option<i64>>),
}

/// Numbers that are known without a picture.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Sizes, outermost first; none for a single number.
    pub sides: Vec<usize>,
    /// Values, row-major.
    pub values: Numbers,
}

/// The values of a constant.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// Of 16, 32 or 64 bits in the file.
    Floats(Vec<f32>),
    /// Of 32 or 64 bits in the file.
    Integers(Vec<i64>),
}

impl Constant {
    /// The number of values.
    pub fn len(&self) -> usize {
        match &self.values {
            Numbers::Floats(it) => it.len(),
            Numbers::Integers(it) => it.len(),
        }
    }
}

/// Reads a network from a file. `size` is the rows and columns of its input where the file leaves them open.
pub fn read(path: &Path, size: Option<[usize; 2]>) -> anyhow::Result<Graph> {
    let length = std::fs::metadata(path)?.len();
    ensure!(length <= MAX_BYTES, "the file is larger than {} GB", MAX_BYTES >> 30);
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(std::fs::read(path)?, folder, size)
}

/// Reads a network from the bytes of a file, whose external data is in `folder`.
pub fn parse(bytes: Vec<u8>, folder: &Path, size: Option<[usize; 2]>) -> anyhow::Result<Graph> {
    let model = schema::Model::decode(prost::bytes::Bytes::from(bytes)).context("not a whole ONNX file")?;
    let version = model
        .operator_sets
        .iter()
        .find(|it| it.domain.is_empty() || it.domain == "ai.onnx");
    let version = version
        .context("the file names no operator set; is it an ONNX file?")?
        .version;
    ensure!(
        OPERATOR_SETS.contains(&version),
        "operator set {version} is not read; export with opset_version from {} to {}",
        OPERATOR_SETS.start(),
        OPERATOR_SETS.end()
    );
    let graph = model.graph.context("the file holds no graph")?;
    let mut reader = Reader::default();
    for tensor in &graph.initializers {
        let constant = constant(tensor, folder).with_context(|| format!("tensor `{}`", tensor.name))?;
        reader.values.insert(tensor.name.clone(), Value::Constant(constant));
    }
    reader.room = graph_values(&reader)
        .saturating_mul(SHARING)
        .saturating_add(MORE_VALUES);
    let output = reader.read(&graph, size)?;
    let input = reader.input.context("the network has no input")?;
    let nodes = merge::merged(reader.nodes, &reader.affine, output);
    Ok(Graph::new(input, with_own_names(nodes))?)
}

fn graph_values(reader: &Reader) -> usize {
    let values = reader.values.values().map(|it| match it {
        Value::Constant(it) => it.len(),
        _ => 0,
    });
    values.sum()
}

/// Nodes of one module get numbers.
fn with_own_names(mut nodes: Vec<Node>) -> Vec<Node> {
    let mut names: HashSet<String> = HashSet::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for node in &mut nodes {
        let path = node.name.clone();
        while !names.insert(node.name.clone()) {
            let number = numbers.entry(path.clone()).or_insert(1);
            *number += 1;
            node.name = format!("{path}_{number}");
        }
    }
    nodes
}

/// A tensor of the file, its length checked against what is there before anything is made of it.
fn constant(tensor: &schema::Tensor, folder: &Path) -> anyhow::Result<Constant> {
    let sides = tensor
        .sides
        .iter()
        .map(|it| usize::try_from(*it))
        .collect::<Result<Vec<_>, _>>();
    let sides = sides.context("it has a negative side")?;
    let count = sides
        .iter()
        .try_fold(1_usize, |all, it| all.checked_mul(*it))
        .context("it is too large")?;
    const EXTERNAL: i32 = 1;
    let raw = if tensor.location == EXTERNAL {
        external(tensor, folder)?.into()
    } else {
        tensor.raw.clone()
    };
    let counted = |found: usize| {
        let all = || anyhow!("it has {count} values by its shape, and {found} are there");
        (found == count).then_some(()).ok_or_else(all)
    };
    let values = match tensor.kind {
        1 if tensor.floats.is_empty() => {
            Numbers::Floats(raw.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect())
        }
        1 => Numbers::Floats(tensor.floats.clone()),
        11 if tensor.doubles.is_empty() => Numbers::Floats(
            raw.as_chunks()
                .0
                .iter()
                .map(|it| f64::from_le_bytes(*it) as f32)
                .collect(),
        ),
        11 => Numbers::Floats(tensor.doubles.iter().map(|it| *it as f32).collect()),
        10 | 16 => {
            let float = |bits: u16| match tensor.kind {
                10 => half::f16::from_bits(bits).to_f32(),
                _ => half::bf16::from_bits(bits).to_f32(),
            };
            Numbers::Floats(match tensor.small.is_empty() {
                true => raw
                    .as_chunks()
                    .0
                    .iter()
                    .map(|it| float(u16::from_le_bytes(*it)))
                    .collect(),
                false => tensor.small.iter().map(|it| float(*it as u16)).collect(),
            })
        }
        7 if tensor.integers.is_empty() => {
            Numbers::Integers(raw.as_chunks().0.iter().map(|it| i64::from_le_bytes(*it)).collect())
        }
        7 => Numbers::Integers(tensor.integers.clone()),
        6 if tensor.small.is_empty() => Numbers::Integers(
            raw.as_chunks()
                .0
                .iter()
                .map(|it| i64::from(i32::from_le_bytes(*it)))
                .collect(),
        ),
        6 => Numbers::Integers(tensor.small.iter().map(|it| i64::from(*it)).collect()),
        // Booleans and the like turn up where nothing depends on them.
        _ => Numbers::Integers(Vec::new()),
    };
    match &values {
        Numbers::Floats(it) => counted(it.len())?,
        Numbers::Integers(it) if matches!(tensor.kind, 6 | 7) => counted(it.len())?,
        Numbers::Integers(_) => {}
    }
    Ok(Constant { sides, values })
}

/// The part of a file beside the ONNX file that holds a tensor.
fn external(tensor: &schema::Tensor, folder: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let entry = |key: &str| {
        tensor
            .external
            .iter()
            .find(|it| it.key == key)
            .map(|it| it.value.as_str())
    };
    let number = |key: &str| {
        entry(key)
            .map(str::parse::<u64>)
            .transpose()
            .with_context(|| format!("its {key} is no number"))
    };
    let location = entry("location").context("its file has no name")?;
    let plain = Path::new(location)
        .components()
        .all(|it| matches!(it, std::path::Component::Normal(_)));
    ensure!(plain, "its file {location} is not in the folder of the ONNX file");
    let path = folder.join(location);
    let missing = || {
        format!(
            "its values are in {}, which belongs beside the ONNX file",
            path.display()
        )
    };
    let mut file = std::fs::File::open(&path).with_context(missing)?;
    let all = file.metadata()?.len();
    let first = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(all.saturating_sub(first));
    let ends = first.checked_add(length).filter(|it| *it <= all && length <= MAX_BYTES);
    ensure!(ends.is_some(), "{} is shorter than the ONNX file says", path.display());
    file.seek(SeekFrom::Start(first))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[derive(Default)]
struct Reader {
    input: Option<split_core::Shape>,
    values: HashMap<String, Value>,
    nodes: Vec<Node>,
    shapes: Vec<split_core::Shape>,
    /// Nodes that only multiply channels by constants and add constants to them.
    affine: Vec<bool>,
    /// Names that some node takes, and that of the output.
    uses: HashSet<String>,
    /// Values that nodes may still have as weights.
    room: usize,
    /// Name of the output.
    output: String,
}

impl Reader {
    /// Reads all nodes; returns the one that makes the output.
    fn read(&mut self, graph: &schema::Graph, size: Option<[usize; 2]>) -> anyhow::Result<usize> {
        let inputs: Vec<&schema::Value> = graph
            .inputs
            .iter()
            .filter(|it| !self.values.contains_key(&it.name))
            .collect();
        let names = |all: &[&schema::Value]| all.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
        let [input] = inputs[..] else {
            bail!(
                "a network has one input, the picture; this one has {}: {}",
                inputs.len(),
                names(&inputs)
            );
        };
        let [output] = &graph.outputs[..] else {
            let outputs: Vec<&schema::Value> = graph.outputs.iter().collect();
            bail!(
                "a network has one output, the classes; this one has {}: {}",
                outputs.len(),
                names(&outputs)
            );
        };
        for name in graph.nodes.iter().flat_map(|it| &it.inputs).chain([&output.name]) {
            self.uses.insert(name.clone());
        }
        self.output.clone_from(&output.name);
        self.declare(input, size)?;
        for node in sorted(graph, &self.values)? {
            self.node(node)
                .with_context(|| format!("node `{}` ({})", node.name, node.operator))?;
        }
        match self.values.get(&output.name) {
            Some(Value::Tensor(Source::Node(node), Layout::First | Layout::Vector)) => Ok(*node),
            _ => bail!(
                "the output `{}` is not made by an operation of the network",
                output.name
            ),
        }
    }

    /// Takes down the input's shape.
    fn declare(&mut self, input: &schema::Value, size: Option<[usize; 2]>) -> anyhow::Result<()> {
        let shape = input.kind.as_ref().and_then(|it| it.tensor.as_ref()?.shape.as_ref());
        let sides: Vec<Option<usize>> = shape
            .map(|it| {
                let side = |it: &schema::Side| match it.length {
                    Some(Length::Fixed(length)) => usize::try_from(length).ok().filter(|it| *it > 0),
                    _ => None,
                };
                it.sides.iter().map(side).collect()
            })
            .unwrap_or_default();
        let &[_, a, b, c] = &sides[..] else {
            bail!(
                "the input `{}` has {} dimensions, not the four of pictures",
                input.name,
                sides.len()
            );
        };
        // A few channels stand last only in files from TensorFlow.
        let last = a != Some(3) && c == Some(3);
        let (channels, height, width) = if last { (c, a, b) } else { (a, b, c) };
        let channels =
            channels.with_context(|| format!("the input `{}` does not say how many channels it has", input.name))?;
        let side = |side: Option<usize>, given: Option<usize>| match (side, given) {
            (Some(side), Some(given)) if side != given => Err(anyhow!(
                "the file is for pictures of {side} rows or columns, not {given}; export it anew for another size"
            )),
            (None, None) => Err(anyhow!(
                "the input `{}` has a dynamic size; say which with --size HEIGHT WIDTH",
                input.name
            )),
            (Some(side), _) | (None, Some(side)) => Ok(side),
        };
        let [height, width] = [side(height, size.map(|it| it[0]))?, side(width, size.map(|it| it[1]))?];
        self.input = Some(split_core::Shape::new(channels, height, width)?);
        let layout = if last { Layout::Last } else { Layout::First };
        self.values
            .insert(input.name.clone(), Value::Tensor(Source::Input, layout));
        Ok(())
    }

    fn shape(&self, source: Source) -> anyhow::Result<split_core::Shape> {
        match source {
            Source::Input => self.input.context("no input"),
            Source::Node(it) => Ok(self.shapes[it]),
        }
    }

    fn node(&mut self, node: &schema::Node) -> anyhow::Result<()> {
        ensure!(
            node.domain.is_empty() || node.domain == "ai.onnx",
            "operations of {} are not supported",
            node.domain
        );
        let value = self.operation(node)?;
        let name = node.outputs.first().context("it has no output")?;
        for extra in node.outputs.iter().skip(1).filter(|it| !it.is_empty()) {
            ensure!(
                !self.uses.contains(extra),
                "its output `{extra}` is used, and only the first is supported"
            );
        }
        self.values.insert(name.clone(), value);
        Ok(())
    }

    fn operation(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        if let Some(known) = self.evaluate(node) {
            return Ok(Value::Constant(known));
        }
        match node.operator.as_str() {
            "Identity" | "Dropout" => Ok(self.value(node, 0)?.clone()),
            "Cast" => Ok(self.value(node, 0)?.clone()),
            "CastLike" => self.cast_like(node),
            "Constant" => constant_node(node),
            "ConstantOfShape" => self.constant_of_shape(node),
            "Shape" => self.sides(node),
            "Gather" => self.gather(node),
            "Slice" if matches!(self.value(node, 0)?, Value::Sides(_) | Value::Constant(_)) => self.slice(node),
            "Concat" if matches!(self.value(node, 0)?, Value::Sides(_) | Value::Constant(_)) => self.concat_sides(node),
            "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Pad" => self.pad(node),
            "Conv" => self.convolution(node),
            "BatchNormalization" => self.batch_norm(node),
            "Relu" => self.activation(node, Activation::Relu),
            "Sigmoid" => self.activation(node, Activation::Sigmoid),
            "HardSwish" => self.activation(node, Activation::HardSwish),
            "HardSigmoid" => {
                let [alpha, beta] = [float(node, "alpha", 0.2), float(node, "beta", 0.5)];
                ensure!(
                    (alpha - 1.0 / 6.0).abs() < 1e-4 && beta == 0.5,
                    "only a slope of 1/6 and a shift of 1/2 are supported"
                );
                self.activation(node, Activation::HardSigmoid)
            }
            "Clip" => self.clip(node),
            "Add" | "Sum" => self.add(node),
            "Sub" => self.subtract(node),
            "Mul" => self.multiply(node),
            "Div" => self.divide(node),
            "Softmax" => self.softmax(node),
            "Concat" => self.concat(node),
            "MaxPool" => self.pool(node),
            "AveragePool" => self.pool(node),
            "GlobalAveragePool" => self.global_average(node, Layout::First),
            "ReduceMean" => self.reduce_mean(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.mat_mul(node),
            _ => bail!("this operation is not supported"),
        }
    }

    /// What an operation makes of constants and of sides that are all known.
    fn evaluate(&self, node: &schema::Node) -> Option<Constant> {
        let known = |name: &String| match self.values.get(name)? {
            Value::Constant(it) => Some(it.clone()),
            Value::Sides(it) => {
                let all = it.iter().copied().collect::<Option<Vec<i64>>>()?;
                Some(Constant {
                    sides: vec![all.len()],
                    values: Numbers::Integers(all),
                })
            }
            _ => None,
        };
        // Weights are not copied to see that they are too large.
        let is_large = |name: &String| matches!(self.values.get(name), Some(Value::Constant(it)) if it.len() > 4096);
        if node.inputs.iter().any(is_large) {
            return None;
        }
        let inputs: Vec<Option<Constant>> = node.inputs.iter().map(known).collect();
        let complete = node
            .inputs
            .iter()
            .zip(&inputs)
            .all(|(name, it)| name.is_empty() || it.is_some());
        let integer = |name: &str| node.attributes.iter().find(|it| it.name == name).map(|it| it.integer);
        complete.then(|| known::evaluate(&node.operator, &inputs, integer))?
    }

    /// One number many times: pads that are zero.
    fn constant_of_shape(&self, node: &schema::Node) -> anyhow::Result<Value> {
        let sides = self
            .known(node, 0)?
            .into_iter()
            .map(|it| usize::try_from(it?).ok())
            .collect::<Option<Vec<_>>>();
        let sides = sides.context("a shape that is not known")?;
        let count = sides
            .iter()
            .try_fold(1_usize, |all, it| all.checked_mul(*it))
            .filter(|it| *it <= 4096);
        let count = count.context("a constant so large is not supported")?;
        let tensor = node.attributes.iter().find_map(|it| it.tensor.as_ref());
        let value = tensor
            .map(|it| constant(it, Path::new(".")))
            .transpose()?
            .map(|it| it.values);
        let values = match value {
            Some(Numbers::Integers(it)) => Numbers::Integers(vec![*it.first().context("it has no value")?; count]),
            Some(Numbers::Floats(it)) => Numbers::Floats(vec![*it.first().context("it has no value")?; count]),
            None => Numbers::Floats(vec![0.0; count]),
        };
        Ok(Value::Constant(Constant { sides, values }))
    }

    fn value(&self, node: &schema::Node, place: usize) -> anyhow::Result<&Value> {
        let name = node.inputs.get(place).filter(|it| !it.is_empty());
        let name = name.with_context(|| format!("it has no input {place}"))?;
        self.values
            .get(name)
            .with_context(|| format!("its input `{name}` does not exist"))
    }

    fn has(&self, node: &schema::Node, place: usize) -> bool {
        node.inputs.get(place).is_some_and(|it| !it.is_empty())
    }

    fn tensor(&self, node: &schema::Node, place: usize) -> anyhow::Result<(Source, Layout)> {
        match self.value(node, place)? {
            Value::Tensor(source, layout) => Ok((*source, *layout)),
            _ => bail!("its input {place} is not a tensor that depends on the picture"),
        }
    }

    /// A tensor `[N, C, H, W]`, and what is around it.
    fn map(&self, node: &schema::Node, around: f32) -> anyhow::Result<(Source, Padding)> {
        match *self.value(node, 0)? {
            Value::Tensor(source, Layout::First) => Ok((source, Padding::default())),
            // Among values that are not negative, a zero is never larger than the largest.
            Value::Padded(source, Layout::First, padding, value)
                if value == around || value == 0.0 && around < 0.0 && self.is_non_negative(source) =>
            {
                Ok((source, padding))
            }
            Value::Padded(_, Layout::First, _, value) => {
                bail!("its input is padded with {value}, which is not supported")
            }
            _ => bail!("its input is not [N, C, H, W]"),
        }
    }

    fn is_non_negative(&self, source: Source) -> bool {
        matches!(source, Source::Node(it) if matches!(self.nodes[it].op, Op::Activation(it) if it.is_non_negative()))
    }

    fn constant(&self, node: &schema::Node, place: usize) -> anyhow::Result<&Constant> {
        match self.value(node, place)? {
            Value::Constant(it) => Ok(it),
            _ => bail!("its input {place} is not constant"),
        }
    }

    fn floats(&self, node: &schema::Node, place: usize) -> anyhow::Result<Vec<f32>> {
        match &self.constant(node, place)?.values {
            Numbers::Floats(it) => Ok(it.clone()),
            Numbers::Integers(_) => bail!("its input {place} holds no floats"),
        }
    }

    /// Integers from an input, or from the attribute that older operator sets have instead.
    fn integers(&self, node: &schema::Node, place: usize, attribute: &str) -> anyhow::Result<Option<Vec<i64>>> {
        if self.has(node, place) {
            return match self.value(node, place)? {
                Value::Constant(Constant {
                    values: Numbers::Integers(it),
                    ..
                }) => Ok(Some(it.clone())),
                _ => bail!("its {attribute} are not constant integers"),
            };
        }
        Ok(node
            .attributes
            .iter()
            .find(|it| it.name == attribute)
            .map(|it| it.integers.clone()))
    }

    fn push(&mut self, node: &schema::Node, op: Op, inputs: Vec<Source>, layout: Layout) -> anyhow::Result<Value> {
        let name = module_path(node, &op);
        self.push_named(name, op, inputs, layout)
    }

    fn push_named(&mut self, name: String, op: Op, inputs: Vec<Source>, layout: Layout) -> anyhow::Result<Value> {
        let inputs_shapes = inputs
            .iter()
            .map(|it| self.shape(*it))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let values: usize = op.tensors().iter().map(|it| it.values.len()).sum();
        let left = self.room.checked_sub(values);
        self.room = left.context("its nodes have many times the weights that are in the file")?;
        self.shapes.push(op.output(&inputs_shapes)?);
        self.affine.push(false);
        self.nodes.push(Node { name, op, inputs });
        Ok(Value::Tensor(Source::Node(self.nodes.len() - 1), layout))
    }

    fn activation(&mut self, node: &schema::Node, activation: Activation) -> anyhow::Result<Value> {
        let (source, layout) = self.tensor(node, 0)?;
        self.push(node, Op::Activation(activation), vec![source], layout)
    }

    fn clip(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let bound = |place: usize| -> anyhow::Result<Option<f32>> {
            if !self.has(node, place) {
                return Ok(None);
            }
            let values = self.floats(node, place)?;
            Ok(Some(*values.first().context("a bound without value")?))
        };
        let activation = match (bound(1)?, bound(2)?) {
            (Some(0.0), Some(6.0)) => Activation::Relu6,
            (Some(0.0), None) => Activation::Relu,
            (Some(0.0), Some(most)) if most >= f32::MAX => Activation::Relu,
            bounds => bail!("bounds {bounds:?} are not supported, only 0 and 6"),
        };
        self.activation(node, activation)
    }

    fn convolution(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let (source, padding) = self.map(node, 0.0)?;
        let Constant { sides, .. } = self.constant(node, 1)?;
        let &[outputs, each, rows, columns] = &sides[..] else {
            bail!("a kernel with {} dimensions is not supported", sides.len())
        };
        let groups = usize::try_from(integer(node, "group", 1))?;
        let window = self.window(node, source, Some([rows, columns]), padding)?;
        let bias = self.has(node, 2).then(|| self.floats(node, 2)).transpose()?;
        let convolution = Convolution {
            inputs: each.checked_mul(groups).context("too many channels")?,
            outputs,
            groups,
            window,
            weight: self.floats(node, 1)?,
            bias,
        };
        self.push(node, Op::Convolution(convolution), vec![source], Layout::First)
    }

    /// How a kernel moves over a tensor that `around` is put around before.
    fn window(
        &self,
        node: &schema::Node,
        source: Source,
        kernel: Option<[usize; 2]>,
        around: Padding,
    ) -> anyhow::Result<Window> {
        let pair = |name: &str| -> anyhow::Result<Option<[usize; 2]>> {
            let found = node
                .attributes
                .iter()
                .find(|it| it.name == name && !it.integers.is_empty());
            let found = found.map(|it| {
                let both: [i64; 2] = it.integers[..]
                    .try_into()
                    .with_context(|| format!("{name} of two dimensions are supported"))?;
                anyhow::Ok([usize::try_from(both[0])?, usize::try_from(both[1])?])
            });
            found.transpose()
        };
        let dilations = pair("dilations")?.unwrap_or([1, 1]);
        ensure!(dilations == [1, 1], "dilations of {dilations:?} are not supported");
        let kernel = pair("kernel_shape")?.or(kernel).context("it has no kernel")?;
        let stride = pair("strides")?.unwrap_or([1, 1]);
        ensure!(!stride.contains(&0), "a stride of 0");
        let shape = self.shape(source)?;
        let sides = [shape.height(), shape.width()];
        let mut padding = match text(node, "auto_pad").as_str() {
            "" | "NOTSET" => explicit(node)?,
            "VALID" => Padding::default(),
            "SAME_UPPER" => Padding::same(sides, kernel, stride),
            "SAME_LOWER" => {
                let upper = Padding::same(sides, kernel, stride);
                Padding {
                    top: upper.bottom,
                    left: upper.right,
                    bottom: upper.top,
                    right: upper.left,
                }
            }
            other => bail!("auto_pad {other} is not supported"),
        };
        padding.top = padding.top.saturating_add(around.top);
        padding.left = padding.left.saturating_add(around.left);
        padding.bottom = padding.bottom.saturating_add(around.bottom);
        padding.right = padding.right.saturating_add(around.right);
        if integer(node, "ceil_mode", 0) != 0 {
            let more = |side: usize, before: usize, behind: usize, axis: usize| {
                let moved = side
                    .saturating_add(before)
                    .saturating_add(behind)
                    .saturating_sub(kernel[axis]);
                let left = moved % stride[axis];
                // A window that would begin behind the input and the padding before it is left out.
                let begins = moved - left + stride[axis];
                if left > 0 && begins < side + before {
                    stride[axis] - left
                } else {
                    0
                }
            };
            padding.bottom += more(sides[0], padding.top, padding.bottom, 0);
            padding.right += more(sides[1], padding.left, padding.right, 1);
        }
        Ok(Window {
            kernel,
            stride,
            padding,
        })
    }

    fn pool(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let is_max = node.operator == "MaxPool";
        let (source, padding) = self.map(node, if is_max { f32::NEG_INFINITY } else { 0.0 })?;
        let own = self.window(node, source, None, Padding::default())?.padding;
        let is_padded = padding != Padding::default();
        ensure!(
            !is_padded || is_max || own == Padding::default() || integer(node, "count_include_pad", 0) != 0,
            "an average of a padded input that pads it, too, is not supported"
        );
        // Zeros from a pad before it are values as others are.
        let count_include_pad = is_padded || integer(node, "count_include_pad", 0) != 0;
        ensure!(
            is_max || !count_include_pad || integer(node, "ceil_mode", 0) == 0,
            "ceil_mode together with count_include_pad is not supported"
        );
        let window = self.window(node, source, None, padding)?;
        if window == Window::point() {
            return Ok(Value::Tensor(source, Layout::First));
        }
        let op = match is_max {
            true => Op::MaxPool(window),
            false => Op::AveragePool {
                window,
                count_include_pad,
            },
        };
        self.push(node, op, vec![source], Layout::First)
    }

    fn batch_norm(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let (source, layout) = self.tensor(node, 0)?;
        ensure!(
            layout != Layout::Last,
            "channels that stand last are not supported here"
        );
        ensure!(
            integer(node, "training_mode", 0) == 0,
            "export the network in evaluation mode"
        );
        let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|it| self.floats(node, it));
        let norm = BatchNorm {
            channels: self.shape(source)?.channels(),
            epsilon: float(node, "epsilon", 1e-5),
            scale: scale?,
            shift: shift?,
            mean: mean?,
            variance: variance?,
        };
        self.push(node, Op::BatchNorm(norm), vec![source], layout)
    }

    fn add(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        ensure!(
            node.inputs.len() == 2,
            "{} inputs are not supported, only two",
            node.inputs.len()
        );
        let constant = [0, 1]
            .into_iter()
            .find(|it| matches!(self.value(node, *it), Ok(Value::Constant(_))));
        if let Some(place) = constant {
            return self.add_constant(node, place);
        }
        let [(a, layout), (b, other)] = [self.tensor(node, 0)?, self.tensor(node, 1)?];
        ensure!(layout == other, "its inputs have another order of dimensions");
        self.push(node, Op::Add, vec![a, b], layout)
    }

    /// A number for each channel, or one for all.
    fn add_constant(&mut self, node: &schema::Node, place: usize) -> anyhow::Result<Value> {
        let (source, layout) = self.tensor(node, 1 - place)?;
        let shift = self.per_channel(node, place, source, layout)?;
        self.affine(node, source, layout, vec![1.0; shift.len()], shift)
    }

    fn subtract(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        if let Ok((source, layout)) = self.tensor(node, 0) {
            let shift: Vec<f32> = self
                .per_channel(node, 1, source, layout)?
                .iter()
                .map(|it| -it)
                .collect();
            return self.affine(node, source, layout, vec![1.0; shift.len()], shift);
        }
        let (source, layout) = self.tensor(node, 1)?;
        let shift = self.per_channel(node, 0, source, layout)?;
        self.affine(node, source, layout, vec![-1.0; shift.len()], shift)
    }

    fn divide(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let (source, layout) = self.tensor(node, 0)?;
        let divisor = self.per_channel(node, 1, source, layout)?;
        self.scale(node, source, layout, divisor.iter().map(|it| 1.0 / it).collect())
    }

    /// Multiplies channels by constants.
    fn scale(&mut self, node: &schema::Node, source: Source, layout: Layout, scale: Vec<f32>) -> anyhow::Result<Value> {
        // A hard-sigmoid in parts: min(max(x + 3, 0), 6) / 6.
        if scale.iter().all(|it| (it - 1.0 / 6.0).abs() < 1e-6)
            && let Some((x, name)) = self.clipped_sum(source)
        {
            return self.push_named(name, Op::Activation(Activation::HardSigmoid), vec![x], layout);
        }
        self.affine(node, source, layout, scale.clone(), vec![0.0; scale.len()])
    }

    /// The x of min(max(x + 3, 0), 6), and the name of that node.
    fn clipped_sum(&self, source: Source) -> Option<(Source, String)> {
        let Source::Node(clipped) = source else { return None };
        let clipped = &self.nodes[clipped];
        let (Op::Activation(Activation::Relu6), [Source::Node(sum)]) = (&clipped.op, &clipped.inputs[..]) else {
            return None;
        };
        let Op::Convolution(it) = &self.nodes[*sum].op else {
            return None;
        };
        let is_sum =
            self.affine[*sum] && it.weight.iter().all(|it| *it == 1.0) && it.bias.iter().flatten().all(|it| *it == 3.0);
        is_sum.then(|| (self.nodes[*sum].inputs[0], clipped.name.clone()))
    }

    fn affine(
        &mut self,
        node: &schema::Node,
        source: Source,
        layout: Layout,
        scale: Vec<f32>,
        shift: Vec<f32>,
    ) -> anyhow::Result<Value> {
        let channels = scale.len();
        let convolution = Convolution {
            inputs: channels,
            outputs: channels,
            groups: channels,
            window: Window::point(),
            weight: scale,
            bias: Some(shift),
        };
        let value = self.push(node, Op::Convolution(convolution), vec![source], layout)?;
        if let Some(last) = self.affine.last_mut() {
            *last = true;
        }
        Ok(value)
    }

    /// The end of a classifier, which whoever takes its outputs computes for themselves.
    fn softmax(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let (source, layout) = self.tensor(node, 0)?;
        let axis = integer(node, "axis", -1);
        ensure!(
            node.outputs.first() == Some(&self.output) && layout == Layout::Vector && (axis == 1 || axis == -1),
            "it is only supported at the end of the network, over the classes"
        );
        eprintln!("the softmax at the end is left out, so the outputs are logits");
        Ok(Value::Tensor(source, layout))
    }

    /// A constant as one number for each channel.
    fn per_channel(
        &self,
        node: &schema::Node,
        place: usize,
        source: Source,
        layout: Layout,
    ) -> anyhow::Result<Vec<f32>> {
        let channels = self.shape(source)?.channels();
        ensure!(
            channels <= MAX_CHANNELS,
            "constants for {channels} channels are not supported"
        );
        self.broadcast(node, place, layout, channels)
    }

    fn broadcast(
        &self,
        node: &schema::Node,
        place: usize,
        layout: Layout,
        channels: usize,
    ) -> anyhow::Result<Vec<f32>> {
        let values = self.floats(node, place)?;
        let sides = &self.constant(node, place)?.sides;
        // The channels are the last dimension of a vector, and followed by rows and columns in a map.
        let behind = match layout {
            Layout::First => 2,
            Layout::Last | Layout::Vector => 0,
            Layout::Flat(_) => bail!("its input is flattened with the channels last, which is not supported here"),
        };
        let axis = sides.len().checked_sub(behind + 1);
        let others = sides
            .iter()
            .enumerate()
            .all(|(at, side)| Some(at) == axis || *side == 1);
        match values.len() {
            1 => Ok(vec![values[0]; channels]),
            all if all == channels && others && axis.is_some() => Ok(values),
            _ => bail!("a constant of {sides:?} is not one number for each of {channels} channels"),
        }
    }

    fn multiply(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        ensure!(node.inputs.len() == 2, "it does not have two inputs");
        let constant = [0, 1]
            .into_iter()
            .find(|it| matches!(self.value(node, *it), Ok(Value::Constant(_))));
        if let Some(place) = constant {
            let (source, layout) = self.tensor(node, 1 - place)?;
            let scale = self.per_channel(node, place, source, layout)?;
            return self.scale(node, source, layout, scale);
        }
        let both = [self.tensor(node, 0)?, self.tensor(node, 1)?];
        ensure!(both[0].1 == both[1].1, "its inputs have another order of dimensions");
        for (at, (gate, layout)) in both.into_iter().enumerate() {
            let (x, _) = both[1 - at];
            // x · sigmoid(x) is one operation, and so is x · hard-sigmoid(x), whose division by six may follow.
            if let Source::Node(number) = gate {
                let (op, inputs) = (&self.nodes[number].op, &self.nodes[number].inputs);
                let whole = match op {
                    Op::Activation(Activation::Sigmoid) if *inputs == [x] => Activation::Silu,
                    Op::Activation(Activation::HardSigmoid) if *inputs == [x] => Activation::HardSwish,
                    _ if self.clipped_sum(gate).is_some_and(|it| it.0 == x) => Activation::HardSwish,
                    _ => continue,
                };
                let is_divided = !matches!(op, Op::Activation(Activation::Relu6));
                let name = self.nodes[number].name.clone();
                let value = self.push_named(name, Op::Activation(whole), vec![x], layout)?;
                let Value::Tensor(source, _) = value else { continue };
                let channels = self.shape(source)?.channels();
                return match is_divided {
                    true => Ok(value),
                    false => self.affine(node, source, layout, vec![6.0; channels], vec![0.0; channels]),
                };
            }
        }
        let shapes = [self.shape(both[0].0)?, self.shape(both[1].0)?];
        let gate = usize::from(shapes[1].positions() == 1);
        let (x, layout) = both[1 - gate];
        self.push(node, Op::Gate, vec![x, both[gate].0], layout)
    }

    fn concat(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let tensors = (0..node.inputs.len())
            .map(|it| self.tensor(node, it))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let layout = tensors.first().context("it has no inputs")?.1;
        ensure!(
            tensors.iter().all(|it| it.1 == layout),
            "its inputs have another order of dimensions"
        );
        let axis = integer(node, "axis", 1);
        let channels = match layout {
            Layout::First => axis == 1 || axis == -3,
            Layout::Last => axis == 3 || axis == -1,
            Layout::Vector => axis == 1 || axis == -1,
            Layout::Flat(_) => false,
        };
        ensure!(channels, "axis {axis} is not supported, only the channels");
        self.push(node, Op::Concat, tensors.into_iter().map(|it| it.0).collect(), layout)
    }

    fn global_average(&mut self, node: &schema::Node, layout: Layout) -> anyhow::Result<Value> {
        let (source, before) = self.tensor(node, 0)?;
        ensure!(
            matches!(before, Layout::First | Layout::Last),
            "its input is not [N, C, H, W]"
        );
        let made = self.push(node, Op::GlobalAveragePool, vec![source], Layout::First)?;
        Ok(match made {
            Value::Tensor(source, _) => Value::Tensor(source, layout),
            other => other,
        })
    }

    fn reduce_mean(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let (_, layout) = self.tensor(node, 0)?;
        let axes = self.integers(node, 1, "axes")?.unwrap_or_default();
        let mut axes: Vec<i64> = axes
            .into_iter()
            .map(|it| if it < 0 { it.saturating_add(4) } else { it })
            .collect();
        axes.sort_unstable();
        let expected = match layout {
            Layout::First => [2, 3],
            Layout::Last => [1, 2],
            Layout::Vector | Layout::Flat(_) => bail!("the mean of a vector is not supported"),
        };
        ensure!(
            axes == expected,
            "a mean over axes {axes:?} is not supported, only over rows and columns"
        );
        let kept = integer(node, "keepdims", 1) != 0;
        self.global_average(node, if kept { layout } else { Layout::Vector })
    }

    fn gemm(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let plain =
            float(node, "alpha", 1.0) == 1.0 && float(node, "beta", 1.0) == 1.0 && integer(node, "transA", 0) == 0;
        ensure!(plain, "alpha, beta and transA are not supported");
        let transposed = integer(node, "transB", 0) != 0;
        self.linear(node, transposed, 2)
    }

    fn mat_mul(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        self.linear(node, false, usize::MAX)
    }

    /// `transposed`: whether the weight is `[O, I]`. `bias` is its place among the inputs.
    fn linear(&mut self, node: &schema::Node, transposed: bool, bias: usize) -> anyhow::Result<Value> {
        let (source, layout) = self.tensor(node, 0)?;
        // In a vector flattened with the channels last, a channel's values are apart.
        let positions = match layout {
            Layout::Vector => 1,
            Layout::Flat(positions) => positions,
            _ => bail!("its input is not [N, C]"),
        };
        let Constant { sides, .. } = self.constant(node, 1)?;
        let &[first, second] = &sides[..] else {
            bail!("a weight with {} dimensions is not supported", sides.len())
        };
        let weight = self.floats(node, 1)?;
        let (outputs, inputs) = if transposed { (first, second) } else { (second, first) };
        ensure!(
            inputs > 0 && inputs.is_multiple_of(positions),
            "a weight for {inputs} inputs does not fit its input"
        );
        let from = |at: usize| {
            let (output, input) = (at / inputs, at % inputs);
            let input = input % positions * (inputs / positions) + input / positions;
            match transposed {
                true => output * inputs + input,
                false => input * outputs + output,
            }
        };
        let weight = match transposed && positions == 1 {
            true => weight,
            false => (0..weight.len()).map(|at| weight[from(at)]).collect(),
        };
        let bias = self
            .has(node, bias)
            .then(|| self.broadcast(node, bias, Layout::Vector, outputs))
            .transpose()?;
        let linear = Linear {
            inputs,
            outputs,
            weight,
            bias,
        };
        self.push(node, Op::Linear(linear), vec![source], Layout::Vector)
    }

    fn pad(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let mode = text(node, "mode");
        ensure!(mode.is_empty() || mode == "constant", "mode {mode} is not supported");
        let value = if self.has(node, 2) {
            self.floats(node, 2)?.first().copied().unwrap_or(0.0)
        } else {
            0.0
        };
        ensure!(!self.has(node, 3), "axes are not supported");
        let (source, layout) = self.tensor(node, 0)?;
        let pads = self.integers(node, 1, "pads")?.context("it has no pads")?;
        let pads = pads
            .into_iter()
            .map(usize::try_from)
            .collect::<Result<Vec<_>, _>>()
            .context("negative pads are not supported")?;
        let (top, left, bottom, right) = match (layout, &pads[..]) {
            (Layout::First, &[0, 0, top, left, 0, 0, bottom, right])
            | (Layout::Last, &[0, top, left, 0, 0, bottom, right, 0]) => (top, left, bottom, right),
            _ => bail!("pads of {pads:?} are not supported, only of rows and columns"),
        };
        let padding = Padding {
            top,
            left,
            bottom,
            right,
        };
        Ok(match padding == Padding::default() {
            true => Value::Tensor(source, layout),
            false => Value::Padded(source, layout, padding, value),
        })
    }

    fn transpose(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        let order = node
            .attributes
            .iter()
            .find(|it| it.name == "perm")
            .map(|it| it.integers.clone())
            .unwrap_or_default();
        if let Value::Constant(it) = self.value(node, 0)? {
            return Ok(Value::Constant(transposed(it, &order)?));
        }
        let moved = |layout: Layout| match (layout, &order[..]) {
            (Layout::Last, [0, 3, 1, 2]) => Ok(Layout::First),
            (Layout::First, [0, 2, 3, 1]) => Ok(Layout::Last),
            _ => bail!("order {order:?} is not supported"),
        };
        if let Value::Padded(source, layout, padding, value) = *self.value(node, 0)? {
            return Ok(Value::Padded(source, moved(layout)?, padding, value));
        }
        let (source, layout) = self.tensor(node, 0)?;
        Ok(Value::Tensor(source, moved(layout)?))
    }

    /// A constant as one of the kind of another value; tensors are floats.
    fn cast_like(&self, node: &schema::Node) -> anyhow::Result<Value> {
        Ok(match (self.value(node, 0)?, self.value(node, 1)?) {
            (
                Value::Constant(Constant {
                    sides,
                    values: Numbers::Integers(it),
                }),
                Value::Tensor(..),
            ) => Value::Constant(Constant {
                sides: sides.clone(),
                values: Numbers::Floats(it.iter().map(|it| *it as f32).collect()),
            }),
            (other, _) => other.clone(),
        })
    }

    /// Sides of a tensor or of weights, or some of them.
    fn sides(&self, node: &schema::Node) -> anyhow::Result<Value> {
        let sides = match self.value(node, 0)? {
            Value::Constant(it) => it.sides.iter().map(|it| Some(*it as i64)).collect(),
            _ => {
                let (source, layout) = self.tensor(node, 0)?;
                let shape = self.shape(source)?;
                let [c, h, w] = [shape.channels(), shape.height(), shape.width()].map(|it| Some(it as i64));
                match layout {
                    Layout::First => vec![None, c, h, w],
                    Layout::Last => vec![None, h, w, c],
                    Layout::Vector | Layout::Flat(_) => vec![None, c],
                }
            }
        };
        let count = sides.len() as i64;
        let place = |it: i64| if it < 0 { it.saturating_add(count) } else { it }.clamp(0, count) as usize;
        let (first, end) = (place(integer(node, "start", 0)), place(integer(node, "end", count)));
        Ok(Value::Sides(
            sides.get(first..end).context("an end before its start")?.to_vec(),
        ))
    }

    /// Integers that are known in part.
    fn known(&self, node: &schema::Node, place: usize) -> anyhow::Result<Vec<Option<i64>>> {
        match self.value(node, place)? {
            Value::Sides(it) => Ok(it.clone()),
            Value::Constant(Constant {
                values: Numbers::Integers(it),
                ..
            }) => Ok(it.iter().copied().map(Some).collect()),
            _ => bail!("its input {place} does not hold integers"),
        }
    }

    fn gather(&self, node: &schema::Node) -> anyhow::Result<Value> {
        let from = self.known(node, 0)?;
        let places = self.known(node, 1)?.into_iter().map(|place| {
            let place = place.context("a place that is not known")?;
            let place = if place < 0 {
                place.saturating_add(from.len() as i64)
            } else {
                place
            };
            let value = usize::try_from(place).ok().and_then(|it| from.get(it));
            value.copied().context("a place outside the shape")
        });
        Ok(Value::Sides(places.collect::<anyhow::Result<_>>()?))
    }

    fn slice(&self, node: &schema::Node) -> anyhow::Result<Value> {
        let from = self.known(node, 0)?;
        let bound = |place: usize| -> anyhow::Result<usize> {
            let bounds = self.known(node, place)?;
            let bound = bounds.first().copied().flatten().context("a bound that is not known")?;
            let bound = if bound < 0 {
                bound.saturating_add(from.len() as i64)
            } else {
                bound
            };
            Ok(usize::try_from(bound.max(0))?.min(from.len()))
        };
        let (first, end) = (bound(1)?, bound(2)?);
        Ok(Value::Sides(
            from.get(first..end).context("bounds that are not in order")?.to_vec(),
        ))
    }

    fn concat_sides(&self, node: &schema::Node) -> anyhow::Result<Value> {
        let parts = (0..node.inputs.len()).map(|it| self.known(node, it));
        Ok(Value::Sides(parts.collect::<anyhow::Result<Vec<_>>>()?.concat()))
    }

    /// Everything that changes a tensor's dimensions and no value of it.
    fn reshape(&mut self, node: &schema::Node) -> anyhow::Result<Value> {
        match self.value(node, 0)?.clone() {
            Value::Sides(it) => Ok(Value::Sides(it)),
            Value::Constant(it) => self.reshape_constant(node, it),
            Value::Padded(..) => bail!("a padded tensor cannot be reshaped"),
            Value::Tensor(source, layout) => {
                let [c, h, w] = self.shape(source)?.into();
                let sides = match layout {
                    Layout::First => vec![c, h, w],
                    Layout::Last => vec![h, w, c],
                    Layout::Vector | Layout::Flat(_) => vec![c],
                };
                let target = self.target(node, &sides)?;
                let values = c * h * w;
                if target == sides {
                    Ok(Value::Tensor(source, layout))
                } else if target == [values] && layout == Layout::Last && h * w > 1 {
                    self.push(node, Op::Flatten, vec![source], Layout::Flat(h * w))
                } else if target == [values] && (layout == Layout::First || h * w == 1) {
                    self.push(node, Op::Flatten, vec![source], Layout::Vector)
                } else if target == [values, 1, 1] && h * w == 1 && !matches!(layout, Layout::Flat(_)) {
                    Ok(Value::Tensor(source, Layout::First))
                } else if target == [1, 1, values] && h * w == 1 && !matches!(layout, Layout::Flat(_)) {
                    Ok(Value::Tensor(source, Layout::Last))
                } else {
                    bail!("[N, {sides:?}] to [N, {target:?}] is not supported, only flattening");
                }
            }
        }
    }

    /// Sides after a reshape of a tensor with these sides, without the batch.
    fn target(&self, node: &schema::Node, sides: &[usize]) -> anyhow::Result<Vec<usize>> {
        let all: usize = sides.iter().product();
        let rank = sides.len() as i64 + 1;
        let axes = |place: usize, rank: i64| -> anyhow::Result<Vec<i64>> {
            let axes = self.integers(node, place, "axes")?.context("it has no axes")?;
            Ok(axes
                .into_iter()
                .map(|it| if it < 0 { it.saturating_add(rank) } else { it })
                .collect())
        };
        match node.operator.as_str() {
            "Flatten" => {
                let axis = integer(node, "axis", 1);
                ensure!(axis == 1 || axis == 1 - rank, "axis {axis} is not supported");
                Ok(vec![all])
            }
            "Squeeze" => {
                let axes = axes(1, rank)?;
                let left = sides.iter().enumerate().filter(|it| !axes.contains(&(it.0 as i64 + 1)));
                let left: Vec<usize> = left.map(|it| *it.1).collect();
                ensure!(
                    left.iter().product::<usize>() == all && !axes.contains(&0),
                    "axes {axes:?} are not of one value"
                );
                Ok(left)
            }
            "Unsqueeze" => {
                let added = self.integers(node, 1, "axes")?.map_or(0, |it| it.len());
                let mut axes = axes(1, rank + added as i64)?;
                axes.sort_unstable();
                let mut wide = sides.to_vec();
                for axis in axes {
                    let place = usize::try_from(axis - 1).ok().filter(|it| *it <= wide.len());
                    wide.insert(place.context("an axis before the batch")?, 1);
                }
                Ok(wide)
            }
            _ => {
                let known = self.known(node, 1)?;
                let [_batch, rest @ ..] = &known[..] else {
                    bail!("a shape without sides")
                };
                let mut target = Vec::new();
                for (at, side) in rest.iter().enumerate() {
                    let side = side.context("a side that depends on the batch")?;
                    target.push(match side {
                        0 => sides
                            .get(at)
                            .copied()
                            .map(|it| it as i64)
                            .context("a side that is not there")?,
                        side => side,
                    });
                }
                let others: i64 = target
                    .iter()
                    .filter(|it| **it >= 0)
                    .try_fold(1_i64, |all, it| all.checked_mul(*it))
                    .context("a side that is too large")?;
                let fill = |side: i64| if side < 0 { all as i64 / others.max(1) } else { side };
                let target = target
                    .into_iter()
                    .map(|it| usize::try_from(fill(it)))
                    .collect::<Result<Vec<_>, _>>()?;
                let values = target.iter().try_fold(1_usize, |all, it| all.checked_mul(*it));
                ensure!(values == Some(all), "{sides:?} cannot become {target:?}");
                Ok(target)
            }
        }
    }

    /// Constants are small where they are reshaped: biases and axes.
    fn reshape_constant(&self, node: &schema::Node, it: Constant) -> anyhow::Result<Value> {
        let count: usize = it.sides.iter().product();
        let sides = match node.operator.as_str() {
            "Reshape" => {
                let target = self
                    .known(node, 1)?
                    .into_iter()
                    .collect::<Option<Vec<i64>>>()
                    .context("a side that is not known")?;
                let others: i64 = target
                    .iter()
                    .filter(|it| **it > 0)
                    .try_fold(1_i64, |all, it| all.checked_mul(*it))
                    .context("a side that is too large")?;
                let fill = |(at, side): (usize, i64)| match side {
                    0 => it.sides.get(at).copied(),
                    side if side < 0 => Some(count / usize::try_from(others).ok()?.max(1)),
                    side => usize::try_from(side).ok(),
                };
                target
                    .into_iter()
                    .enumerate()
                    .map(fill)
                    .collect::<Option<Vec<_>>>()
                    .context("a side that is not known")?
            }
            "Squeeze" => it.sides.iter().copied().filter(|it| *it != 1).collect(),
            "Flatten" => vec![count],
            _ => {
                let mut sides = it.sides.clone();
                for axis in self.integers(node, 1, "axes")?.unwrap_or_default() {
                    let place = if axis < 0 {
                        sides.len()
                    } else {
                        usize::try_from(axis)?.min(sides.len())
                    };
                    sides.insert(place, 1);
                }
                sides
            }
        };
        let same = sides.iter().try_fold(1_usize, |all, it| all.checked_mul(*it)) == Some(count);
        ensure!(same, "a constant of {:?} cannot become {sides:?}", it.sides);
        Ok(Value::Constant(Constant {
            sides,
            values: it.values,
        }))
    }
}

/// A matrix or kernel with its dimensions in another order.
fn transposed(it: &Constant, order: &[i64]) -> anyhow::Result<Constant> {
    let rank = it.sides.len();
    let order: Vec<usize> = match order {
        [] => (0..rank).rev().collect(),
        order => order.iter().map(|it| usize::try_from(*it)).collect::<Result<_, _>>()?,
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    ensure!(
        sorted.iter().copied().eq(0..rank),
        "order {order:?} is not one of {rank} dimensions"
    );
    let mut strides = vec![1; rank];
    for at in (1..rank).rev() {
        strides[at - 1] = strides[at] * it.sides[at];
    }
    let sides: Vec<usize> = order.iter().map(|at| it.sides[*at]).collect();
    let place = |mut at: usize| {
        let mut from = 0;
        for axis in (0..rank).rev() {
            from += at % sides[axis] * strides[order[axis]];
            at /= sides[axis];
        }
        from
    };
    let places = (0..it.len()).map(place);
    let values = match &it.values {
        Numbers::Floats(values) => Numbers::Floats(places.map(|at| values[at]).collect()),
        Numbers::Integers(values) => Numbers::Integers(places.map(|at| values[at]).collect()),
    };
    Ok(Constant { sides, values })
}

fn constant_node(node: &schema::Node) -> anyhow::Result<Value> {
    let one = |values| Constant { sides: vec![], values };
    let it = node.attributes.first().context("it has no value")?;
    let value = match it.name.as_str() {
        "value" => constant(it.tensor.as_ref().context("it has no value")?, Path::new("."))?,
        "value_float" => one(Numbers::Floats(vec![it.float])),
        "value_int" => one(Numbers::Integers(vec![it.integer])),
        "value_floats" => Constant {
            sides: vec![it.floats.len()],
            values: Numbers::Floats(it.floats.clone()),
        },
        "value_ints" => Constant {
            sides: vec![it.integers.len()],
            values: Numbers::Integers(it.integers.clone()),
        },
        other => bail!("{other} is not supported"),
    };
    Ok(Value::Constant(value))
}

/// The nodes in an order in which each comes after what it takes. Fails for a loop.
fn sorted<'a>(graph: &'a schema::Graph, known: &HashMap<String, Value>) -> anyhow::Result<Vec<&'a schema::Node>> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|it| !it.is_empty()) {
            ensure!(makers.insert(output, number).is_none(), "two nodes make `{output}`");
        }
    }
    let mut missing: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    let mut takers: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        let mut count = 0;
        for input in node
            .inputs
            .iter()
            .filter(|it| !it.is_empty() && !known.contains_key(*it))
        {
            let maker = makers.get(input.as_str());
            let maker = *maker.with_context(|| format!("node `{}` takes `{input}`, which nothing makes", node.name))?;
            takers.entry(maker).or_default().push(number);
            count += 1;
        }
        missing.push(count);
    }
    let mut ready: Vec<usize> = (0..missing.len()).rev().filter(|it| missing[*it] == 0).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(number) = ready.pop() {
        order.push(&graph.nodes[number]);
        for taker in takers.remove(&number).unwrap_or_default().into_iter().rev() {
            missing[taker] -= 1;
            if missing[taker] == 0 {
                ready.push(taker);
            }
        }
    }
    match missing.iter().position(|it| *it > 0) {
        Some(stuck) => bail!("node `{}` is part of a loop", graph.nodes[stuck].name),
        None => Ok(order),
    }
}

fn explicit(node: &schema::Node) -> anyhow::Result<Padding> {
    let Some(pads) = node.attributes.iter().find(|it| it.name == "pads") else {
        return Ok(Padding::default());
    };
    let pads = pads
        .integers
        .iter()
        .map(|it| usize::try_from(*it))
        .collect::<Result<Vec<_>, _>>();
    let pads = pads.context("negative pads are not supported")?;
    let &[top, left, bottom, right] = &pads[..] else {
        bail!("pads of {pads:?} are not those of two dimensions")
    };
    Ok(Padding {
        top,
        left,
        bottom,
        right,
    })
}

fn integer(node: &schema::Node, name: &str, default: i64) -> i64 {
    node.attributes
        .iter()
        .find(|it| it.name == name)
        .map_or(default, |it| it.integer)
}

fn float(node: &schema::Node, name: &str, default: f32) -> f32 {
    node.attributes
        .iter()
        .find(|it| it.name == name)
        .map_or(default, |it| it.float)
}

fn text(node: &schema::Node, name: &str) -> String {
    let found = node.attributes.iter().find(|it| it.name == name);
    found
        .map(|it| String::from_utf8_lossy(&it.text).into_owned())
        .unwrap_or_default()
}

/// The module path of a node: that of its weights, or the one in its own name or metadata.
fn module_path(node: &schema::Node, op: &Op) -> String {
    let of_weight = || {
        let module = node.inputs.get(1)?.strip_suffix(".weight")?;
        Some(module.to_owned())
    };
    let module = Some(op)
        .filter(|it| !it.tensors().is_empty())
        .and_then(|_| of_weight())
        .or_else(|| scope(node))
        .unwrap_or_else(|| hierarchy(&node.name));
    let functional = matches!(op, Op::Add | Op::Gate | Op::Concat | Op::Flatten);
    let ends = module.rsplit('.').next() == Some(&node.operator.to_lowercase());
    let path = match module.as_str() {
        "" => node.operator.to_lowercase(),
        module if functional && !ends => format!("{module}.{}", node.operator.to_lowercase()),
        module => module.to_owned(),
    };
    let plain = |it: char| {
        if it.is_ascii_alphanumeric() || "_.-".contains(it) {
            it
        } else {
            '_'
        }
    };
    let mut path: String = path.chars().map(plain).collect();
    // Two names that stand for the whole network's ends where it is split.
    if ["input", "output"].contains(&path.as_str()) {
        path.push('_');
    }
    path
}

/// The module path that PyTorch's newer exporter notes beside a node: `['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']`.
fn scope(node: &schema::Node) -> Option<String> {
    let scopes = node.metadata.iter().find(|it| it.key == "pkg.torch.onnx.name_scopes")?;
    let parts: Vec<&str> = scopes.value.split('\'').skip(1).step_by(2).collect();
    let [.., module, _] = &parts[..] else { return None };
    Some((*module).to_owned())
}

/// The module path in a name such as `/layer1/layer1.0/conv1/Conv`, as PyTorch's older exporter writes them.
fn hierarchy(name: &str) -> String {
    let Some((modules, _)) = name.trim_start_matches('/').rsplit_once('/') else {
        return match name.starts_with('/') {
            true => String::new(),
            false => name.to_owned(),
        };
    };
    let mut path: Vec<&str> = Vec::new();
    for module in modules.split('/') {
        // A module in a list says the list's name again.
        if let Some(last) = path.last()
            && module.strip_prefix(last).is_some_and(|it| it.starts_with('.'))
        {
            path.pop();
        }
        path.push(module);
    }
    path.join(".")
}
