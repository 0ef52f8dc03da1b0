//! Writes layers as ONNX, for other engines.
//!
//! The file is a `ModelProto` of `onnx.proto3` (operator set 13). Only the two dozen fields that a chain of
//! convolutions needs are ever written, so they are encoded here rather than by a generated copy of the whole schema.

use split_core::Shape;

use crate::layer::Layer;
use crate::segment::WriteError;

/// A network as one ONNX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Shape of the output for one image; a vector is `[O, 1, 1]`, as in a [`SegmentFile`](crate::SegmentFile).
    pub output: Shape,
}

/// Operator set of the file: the first in which every operator here has its present form.
const OPERATOR_SET: u64 = 13;
/// Version of the file format that operator set 13 came with.
const IR_VERSION: u64 = 7;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// Writes `layers` as an ONNX model with 32-bit weights, input `input` and output `output`, both `[N, C, H, W]`.
pub fn write_onnx(input: Shape, layers: &[Layer]) -> Result<OnnxFile, WriteError> {
    let mut graph = Message::default();
    let mut shape = input;
    let mut last = "input".to_owned();
    let mut initializers = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let at = |source| WriteError::Layer { index, source };
        layer.check_parameters().map_err(at)?;
        last = push(&mut graph, &mut initializers, index, layer, shape, last);
        shape = layer.output(shape).map_err(at)?;
    }
    graph.message(1, &node("Identity", &[&last], "output", &[]));
    graph.text(2, "network");
    initializers.iter().for_each(|it| {
        graph.message(5, it);
    });
    graph.message(11, &value("input", input));
    graph.message(12, &value("output", shape));
    let mut operators = Message::default();
    operators.text(1, "").number(2, OPERATOR_SET);
    let mut model = Message::default();
    model
        .number(1, IR_VERSION)
        .text(2, "split-runtime")
        .message(7, &graph)
        .message(8, &operators);
    Ok(OnnxFile {
        bytes: model.0,
        output: shape,
    })
}

/// Adds the nodes of one layer; returns the name of its result.
fn push(
    graph: &mut Message,
    initializers: &mut Vec<Message>,
    index: usize,
    layer: &Layer,
    input: Shape,
    last: String,
) -> String {
    let (kernel, stride, padding, outputs, weight, bias, relu) = match layer {
        Layer::MaxPool { kernel, stride } => {
            let name = format!("pool{index}");
            let window = [ints("kernel_shape", &[*kernel; 2]), ints("strides", &[*stride; 2])];
            graph.message(1, &node("MaxPool", &[&last], &name, &window));
            return name;
        }
        Layer::Convolution {
            outputs,
            kernel,
            stride,
            padding,
            weight,
            bias,
            relu,
            ..
        } => ([*kernel; 2], *stride, *padding, *outputs, weight, bias, *relu),
        // As in a segment: the convolution whose kernel covers the whole input.
        Layer::Linear {
            outputs,
            weight,
            bias,
            relu,
            ..
        } => ([input.height(), input.width()], 1, 0, *outputs, weight, bias, *relu),
    };
    let (weight_name, bias_name, name) = (format!("weight{index}"), format!("bias{index}"), format!("conv{index}"));
    initializers.push(tensor(
        &weight_name,
        &[outputs, input.channels(), kernel[0], kernel[1]],
        weight,
    ));
    initializers.push(tensor(&bias_name, &[outputs], bias));
    let window = [
        ints("kernel_shape", &kernel),
        ints("strides", &[stride; 2]),
        ints("pads", &[padding; 4]),
    ];
    graph.message(1, &node("Conv", &[&last, &weight_name, &bias_name], &name, &window));
    if !relu {
        return name;
    }
    let result = format!("relu{index}");
    graph.message(1, &node("Relu", &[&name], &result, &[]));
    result
}

/// `NodeProto`.
fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Message {
    let mut node = Message::default();
    for input in inputs {
        node.text(1, input);
    }
    node.text(2, output).text(3, output).text(4, operator);
    for property in attributes {
        node.message(5, property);
    }
    node
}

/// `AttributeProto` with a list of integers.
fn ints(name: &str, values: &[usize]) -> Message {
    const INTS: u64 = 7;
    let mut attribute = Message::default();
    attribute.text(1, name);
    for &value in values {
        attribute.number(8, value as u64);
    }
    attribute.number(20, INTS);
    attribute
}

/// `TensorProto` with its values as little-endian bytes.
fn tensor(name: &str, dims: &[usize], values: &[f32]) -> Message {
    let mut tensor = Message::default();
    for &side in dims {
        tensor.number(1, side as u64);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    tensor.number(2, FLOAT).text(8, name).bytes(9, &bytes);
    tensor
}

/// `ValueInfoProto` of a float tensor `[N, C, H, W]`.
fn value(name: &str, shape: Shape) -> Message {
    let mut dims = Message::default();
    let mut batch = Message::default();
    batch.text(2, "N");
    dims.message(1, &batch);
    for side in <[usize; 3]>::from(shape) {
        let mut dim = Message::default();
        dim.number(1, side as u64);
        dims.message(1, &dim);
    }
    let (mut tensor, mut kind, mut value) = (Message::default(), Message::default(), Message::default());
    tensor.number(1, FLOAT).message(2, &dims);
    kind.message(1, &tensor);
    value.text(1, name).message(2, &kind);
    value
}

/// A protocol-buffer message under construction; each method appends one field.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
