//! Writes a stretch of layers as one segment file.
//!
//! The graph is written as NNEF text rather than through tract's own writer, which folds constants first and would store the
//! 16-bit weights widened to 32 bits. Every tensor between segments is `[N, C, H, W]`; a linear layer is written as the
//! convolution whose kernel covers its whole input, so that no reshape is needed and a vector is `[N, O, 1, 1]`.

use std::fmt::Write;

use split_core::Shape;
use tract_core::internal::*;
use tract_nnef::tensors::write_tensor;

use crate::archive::pack;
use crate::layer::{Layer, LayerError};

/// A segment ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// The file: a gzipped tar in NNEF form. The same layers give the same bytes.
    pub bytes: Vec<u8>,
    /// Shape that the segment makes of its input.
    pub output: Shape,
    /// Multiply–accumulate operations for one image, see [`Layer::macs`].
    pub macs: u64,
}

/// Why layers could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A layer contradicts itself or its input.
    #[error("layer {index}: {source}")]
    Layer {
        /// Position in the list, from 0.
        index: usize,
        /// What is wrong with it.
        source: LayerError,
    },
    /// A tensor could not be put in NNEF form.
    #[error("cannot write the segment: {0}")]
    Encode(String),
}

/// Writes `layers`, which take an image or features of shape `input`, with weights as 16-bit and biases as 32-bit floats.
pub fn write_segment(input: Shape, layers: &[Layer]) -> Result<SegmentFile, WriteError> {
    let mut graph = Graph::new(input);
    let mut shape = input;
    let mut macs = 0;
    for (index, layer) in layers.iter().enumerate() {
        let at = |source| WriteError::Layer { index, source };
        layer.check_parameters().map_err(at)?;
        macs += layer.macs(shape).map_err(at)?;
        graph
            .push(index, layer, shape)
            .map_err(|it| WriteError::Encode(format!("layer {index}: {it:#}")))?;
        shape = layer.output(shape).map_err(at)?;
    }
    let bytes = graph.finish().map_err(|it| WriteError::Encode(it.to_string()))?;
    Ok(SegmentFile {
        bytes,
        output: shape,
        macs,
    })
}

/// NNEF text under construction, and the tensors it names.
struct Graph {
    body: String,
    /// Name of the value that the next layer takes.
    last: String,
    tensors: Vec<(String, Vec<u8>)>,
}

/// How a convolution moves over its input; its size is the filter's.
struct Window {
    stride: usize,
    padding: usize,
}

impl Graph {
    fn new(input: Shape) -> Self {
        let [c, h, w] = input.into();
        let body = format!("    x = tract_core_external(datum_type = \"F32\", shape = [N, {c}, {h}, {w}]);\n");
        Self {
            body,
            last: "x".into(),
            tensors: Vec::new(),
        }
    }

    fn push(&mut self, index: usize, layer: &Layer, input: Shape) -> TractResult<()> {
        match layer {
            Layer::Convolution {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
                weight,
                bias,
                relu,
            } => {
                let window = Window {
                    stride: *stride,
                    padding: *padding,
                };
                let filter = Tensor::from_shape(&[*outputs, *inputs, *kernel, *kernel], weight)?;
                self.convolution(index, &window, &filter, bias, *relu)
            }
            Layer::Linear {
                outputs,
                weight,
                bias,
                relu,
                ..
            } => {
                let window = Window { stride: 1, padding: 0 };
                let filter = Tensor::from_shape(&[*outputs, input.channels(), input.height(), input.width()], weight)?;
                self.convolution(index, &window, &filter, bias, *relu)
            }
            Layer::MaxPool { kernel: k, stride: s } => {
                let last = &self.last;
                self.assign(
                    format!("pool{index}"),
                    &format!(
                        "max_pool({last}, size = [1, 1, {k}, {k}], stride = [1, 1, {s}, {s}], \
                         padding = [(0, 0), (0, 0), (0, 0), (0, 0)], border = \"ignore\")"
                    ),
                );
                Ok(())
            }
        }
    }

    fn convolution(
        &mut self,
        index: usize,
        window: &Window,
        filter: &Tensor,
        bias: &[f32],
        relu: bool,
    ) -> TractResult<()> {
        let half = filter.cast_to::<f16>()?;
        let filter = self.variable(format!("weight{index}"), half.as_ref())?;
        let bias = self.variable(format!("bias{index}"), &Tensor::from_shape(&[1, bias.len()], bias)?)?;
        let Window { stride: s, padding: p } = window;
        let call = format!(
            "conv({}, tract_core_cast({filter}, to = \"F32\"), {bias}, stride = [{s}, {s}], \
             padding = [({p}, {p}), ({p}, {p})])",
            self.last
        );
        self.assign(format!("conv{index}"), &call);
        if relu {
            let call = format!("max({}, 0.0)", self.last);
            self.assign(format!("relu{index}"), &call);
        }
        Ok(())
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

    fn assign(&mut self, name: String, value: &str) {
        self.body.push_str(&format!("    {name} = {value};\n"));
        self.last = name;
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        let text = format!(
            "version 1.0;\n\nextension tract_registry tract_core;\nextension tract_symbol N;\n\n\
             graph network(x) -> (y)\n{{\n{}    y = {};\n}}\n",
            self.body, self.last
        );
        let graph = [("graph.nnef", text.as_bytes())];
        pack(
            graph.into_iter().chain(
                self.tensors
                    .iter()
                    .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
            ),
        )
    }
}
