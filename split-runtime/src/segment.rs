//! Writes a network as one segment file.
//!
//! The graph is written as NNEF text rather than through tract's own writer, which folds constants first and would store the
//! 16-bit weights widened to 32 bits. Every tensor between segments is `[N, C, H, W]`; a linear layer is written as the
//! convolution whose kernel covers its whole input, so that no reshape is needed and a vector is `[N, O, 1, 1]`.

use std::fmt::Write;

use split_core::manifest::Segment;
use split_core::{Digest, Shape};
use split_graph::{Activation, Convolution, Graph, GraphError, Linear, Node, Op, Padding, Source, Window};
use tract_core::internal::*;
use tract_nnef::tensors::write_tensor;

use crate::archive::{gzip, tar};
use crate::read::SIXTH;

/// A segment ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// The file: a gzipped tar in NNEF form. The same network gives the same bytes.
    pub bytes: Vec<u8>,
    /// Shape that the segment makes of its input.
    pub output: Shape,
    /// Multiply–accumulate operations for one image, see [`Graph::macs`].
    pub macs: u64,
}

impl From<&SegmentFile> for Segment {
    /// The file as a manifest lists it, not timed yet.
    fn from(file: &SegmentFile) -> Self {
        Self {
            sha256: Digest::of(&file.bytes),
            bytes: file.bytes.len() as u64,
            output: file.output,
            macs: file.macs,
            micros: None,
        }
    }
}

/// Why a network could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Folding a batch norm gives a weight that is not finite.
    #[error(transparent)]
    Fold(#[from] GraphError),
    /// A weight is too large for 16 bits.
    #[error("{node}: the {parameter} holds {value}, which 16-bit floats cannot")]
    Value {
        /// The node's name.
        node: String,
        /// `weight` or `bias`.
        parameter: &'static str,
        /// The first offending value.
        value: f32,
    },
    /// A tensor could not be put in NNEF form.
    #[error("cannot write the segment: {0}")]
    Encode(String),
}

/// Largest finite 16-bit float.
const MAX_F16: f32 = 65504.0;

/// Writes a network, its batch norms folded, with weights as 16-bit and biases as 32-bit floats.
pub fn write_segment(network: &Graph) -> Result<SegmentFile, WriteError> {
    let network = network.folded()?;
    for node in network.nodes() {
        for tensor in node.op.tensors() {
            if let Some(&value) = tensor.values.iter().find(|it| it.abs() > MAX_F16) {
                return Err(WriteError::Value {
                    node: node.name.clone(),
                    parameter: tensor.name,
                    value,
                });
            }
        }
    }
    Ok(SegmentFile {
        bytes: gzip(&encode(&network)?).map_err(encoding)?,
        output: network.output(),
        macs: network.macs(),
    })
}

fn encoding(error: std::io::Error) -> WriteError {
    WriteError::Encode(error.to_string())
}

/// A network without batch norms in tract's form, a tar.
fn encode(network: &Graph) -> Result<Vec<u8>, WriteError> {
    let mut text = Text::new(network);
    let consumers = network.consumers();
    for (number, node) in network.nodes().iter().enumerate() {
        let consumers = consumers[number].iter().map(|it| &network.nodes()[*it].op);
        text.push(network, number, node, consumers.collect())
            .map_err(|it| WriteError::Encode(format!("{}: {it:#}", node.name)))?;
    }
    text.finish().map_err(encoding)
}

/// NNEF text under construction, and the tensors it names.
struct Text {
    body: String,
    /// Name and shape of each node's output in the text, where a flatten before a linear layer does nothing.
    values: Vec<(String, Shape)>,
    input: Shape,
    tensors: Vec<(String, Vec<u8>)>,
}

impl Text {
    fn new(network: &Graph) -> Self {
        let [c, h, w] = network.input().into();
        let body = format!("    x = tract_core_external(datum_type = \"F32\", shape = [N, {c}, {h}, {w}]);\n");
        Self {
            body,
            values: Vec::new(),
            input: network.input(),
            tensors: Vec::new(),
        }
    }

    fn value(&self, source: Source) -> (String, Shape) {
        match source {
            Source::Input => ("x".into(), self.input),
            Source::Node(node) => self.values[node].clone(),
        }
    }

    fn push(&mut self, network: &Graph, number: usize, node: &Node, consumers: Vec<&Op>) -> TractResult<()> {
        let inputs: Vec<(String, Shape)> = node.inputs.iter().map(|it| self.value(*it)).collect();
        let (x, shape) = &inputs[0];
        let (name, call) = match &node.op {
            Op::Convolution(it) => (format!("conv{number}"), self.convolution(number, it, x)?),
            Op::Linear(it) => (format!("conv{number}"), self.linear(number, it, x, *shape)?),
            Op::BatchNorm(_) => bail!("a batch norm that is not folded"),
            Op::Activation(it) => self.activation(number, *it, x),
            Op::Add => (format!("add{number}"), format!("add({x}, {})", inputs[1].0)),
            Op::Gate => (format!("gate{number}"), format!("mul({x}, {})", inputs[1].0)),
            Op::Concat => {
                let names: Vec<&str> = inputs.iter().map(|it| it.0.as_str()).collect();
                (
                    format!("concat{number}"),
                    format!("concat([{}], axis = 1)", names.join(", ")),
                )
            }
            Op::MaxPool(window) => (
                format!("pool{number}"),
                format!("max_pool({x}, {}, border = \"ignore\")", pool(window)),
            ),
            Op::AveragePool {
                window,
                count_include_pad,
            } => (format!("mean{number}"), mean(x, window, *count_include_pad)),
            Op::GlobalAveragePool => {
                let whole = Window {
                    kernel: [shape.height(), shape.width()],
                    stride: [1, 1],
                    padding: Padding::default(),
                };
                (format!("mean{number}"), mean(x, &whole, false))
            }
            // A linear layer takes the tensor unchanged.
            Op::Flatten if !consumers.is_empty() && consumers.iter().all(|it| matches!(it, Op::Linear(_))) => {
                self.values.push(inputs[0].clone());
                return Ok(());
            }
            Op::Flatten => (
                format!("flat{number}"),
                format!(
                    "reshape({x}, shape = [{}, 1, 1], axis_start = 1, axis_count = 3)",
                    shape.values()
                ),
            ),
        };
        self.assign(&name, &call);
        self.values.push((name, network.shape(Source::Node(number))));
        Ok(())
    }

    fn convolution(&mut self, number: usize, it: &Convolution, x: &str) -> TractResult<String> {
        let [rows, columns] = it.window.kernel;
        let filter = Tensor::from_shape(&[it.outputs, it.inputs / it.groups, rows, columns], &it.weight)?;
        self.conv(number, x, &filter, it.bias.as_deref(), &it.window, it.groups)
    }

    fn linear(&mut self, number: usize, it: &Linear, x: &str, shape: Shape) -> TractResult<String> {
        let [c, h, w] = shape.into();
        let filter = Tensor::from_shape(&[it.outputs, c, h, w], &it.weight)?;
        self.conv(number, x, &filter, it.bias.as_deref(), &Window::point(), 1)
    }

    fn conv(
        &mut self,
        number: usize,
        x: &str,
        filter: &Tensor,
        bias: Option<&[f32]>,
        window: &Window,
        groups: usize,
    ) -> TractResult<String> {
        let outputs = filter.shape()[0];
        let zeros = vec![0.0; outputs];
        let bias = Tensor::from_shape(&[1, outputs], bias.unwrap_or(&zeros))?;
        let filter = filter.cast_to::<f16>()?;
        let filter = self.variable(format!("weight{number}"), filter.as_ref())?;
        let bias = self.variable(format!("bias{number}"), &bias)?;
        let Window {
            stride: [down, right],
            padding: p,
            ..
        } = window;
        let groups = match groups {
            1 => String::new(),
            groups => format!(", groups = {groups}"),
        };
        Ok(format!(
            "conv({x}, tract_core_cast({filter}, to = \"F32\"), {bias}, stride = [{down}, {right}], \
             padding = [({}, {}), ({}, {})]{groups})",
            p.top, p.bottom, p.left, p.right
        ))
    }

    /// Name and value of an activation; what it needs besides is assigned before.
    fn activation(&mut self, number: usize, activation: Activation, x: &str) -> (String, String) {
        match activation {
            Activation::Relu => (format!("relu{number}"), format!("max({x}, 0.0)")),
            Activation::Relu6 => {
                let positive = format!("positive{number}");
                self.assign(&positive, &format!("max({x}, 0.0)"));
                (format!("relu{number}"), format!("min({positive}, 6.0)"))
            }
            Activation::HardSigmoid => {
                let [part, moved, positive] = ["part", "moved", "positive"].map(|it| format!("{it}{number}"));
                self.assign(&part, &format!("mul({x}, {SIXTH})"));
                self.assign(&moved, &format!("add({part}, 0.5)"));
                self.assign(&positive, &format!("max({moved}, 0.0)"));
                (format!("gate{number}"), format!("min({positive}, 1.0)"))
            }
            Activation::HardSwish => (format!("swish{number}"), format!("tract_core_hard_swish({x})")),
            Activation::Silu => (format!("silu{number}"), format!("tract_core_silu({x})")),
            Activation::Sigmoid => (format!("sigmoid{number}"), format!("sigmoid({x})")),
        }
    }

    /// Stores a tensor and names it in the graph.
    fn variable(&mut self, name: String, tensor: &Tensor) -> TractResult<String> {
        let mut bytes = Vec::new();
        write_tensor(&mut bytes, tensor)?;
        let shape = tensor
            .shape()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        writeln!(
            self.body,
            "    {name} = variable<scalar>(label = \"{name}\", shape = [{shape}]);"
        )?;
        self.tensors.push((format!("{name}.dat"), bytes));
        Ok(name)
    }

    fn assign(&mut self, name: &str, value: &str) {
        self.body.push_str(&format!("    {name} = {value};\n"));
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        let last = self.values.last().map_or("x", |it| it.0.as_str());
        let text = format!(
            "version 1.0;\n\nextension tract_registry tract_core;\nextension tract_symbol N;\n\n\
             graph network(x) -> (y)\n{{\n{}    y = {last};\n}}\n",
            self.body
        );
        let graph = [("graph.nnef", text.as_bytes())];
        tar(graph.into_iter().chain(
            self.tensors
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        ))
    }
}

fn pool(window: &Window) -> String {
    let Window {
        kernel: [rows, columns],
        stride: [down, right],
        padding: p,
    } = window;
    format!(
        "size = [1, 1, {rows}, {columns}], stride = [1, 1, {down}, {right}], \
         padding = [(0, 0), (0, 0), ({}, {}), ({}, {})]",
        p.top, p.bottom, p.left, p.right
    )
}

fn mean(x: &str, window: &Window, count_include_pad: bool) -> String {
    let border = if count_include_pad { "constant" } else { "ignore" };
    format!("box({x}, {}, border = \"{border}\", normalize = true)", pool(window))
}
