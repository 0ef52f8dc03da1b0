//! Writes a network as ONNX, for other engines.
//!
//! The file is a `ModelProto` of `onnx.proto3` (operator set 14). Only the two dozen fields that these operations need are ever written, so
//! they are encoded here rather than by a generated copy of the whole schema. Weights keep their names, such as `layer1.0.conv1.weight`.

use split_core::Shape;
use split_graph::{Activation, Graph, Node, Op, Source, Window};

/// A network as one ONNX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Shape of the output for one image, as in a [`SegmentFile`](crate::SegmentFile): a vector is `[O, 1, 1]`, and `[N, O]` in the file.
    pub output: Shape,
}

/// Operator set of the file: the first that has hard-swish.
const OPERATOR_SET: u64 = 14;
/// Version of the file format that operator set came with.
const IR_VERSION: u64 = 7;
/// `TensorProto.DataType.FLOAT` and `INT64`.
const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// Writes a network unchanged, batch norms included, with 32-bit weights. Its input is `input`, `[N, C, H, W]`, its output `output`, `[N, O]` after
/// a flatten or a linear layer and `[N, C, H, W]` otherwise.
pub fn write_onnx(network: &Graph) -> OnnxFile {
    let mut writer = Writer {
        graph: Message::default(),
        initializers: Vec::new(),
        values: Vec::new(),
    };
    for node in network.nodes() {
        writer.push(node);
    }
    let Writer {
        mut graph,
        initializers,
        values,
        ..
    } = writer;
    let last = values.last().cloned().unwrap_or_else(Value::input);
    graph.message(1, &node("Identity", &[&last.name], "output", &[]));
    graph.text(2, "network");
    initializers.iter().for_each(|it| {
        graph.message(5, it);
    });
    let sides = <[usize; 3]>::from(network.input());
    graph.message(11, &value("input", &sides));
    let sides = <[usize; 3]>::from(network.output());
    graph.message(12, &value("output", if last.is_vector { &sides[..1] } else { &sides }));
    let mut operators = Message::default();
    operators.text(1, "").number(2, OPERATOR_SET);
    let mut model = Message::default();
    model
        .number(1, IR_VERSION)
        .text(2, "split-runtime")
        .message(7, &graph)
        .message(8, &operators);
    OnnxFile {
        bytes: model.0,
        output: network.output(),
    }
}

/// A tensor of the file.
#[derive(Clone)]
struct Value {
    name: String,
    /// Whether it is `[N, C]` rather than `[N, C, H, W]`.
    is_vector: bool,
}

impl Value {
    fn input() -> Self {
        Self {
            name: "input".into(),
            is_vector: false,
        }
    }
}

struct Writer {
    graph: Message,
    initializers: Vec<Message>,
    /// What stands for each node's output.
    values: Vec<Value>,
}

impl Writer {
    fn value(&self, source: Source) -> Value {
        match source {
            Source::Input => Value::input(),
            Source::Node(it) => self.values[it].clone(),
        }
    }

    fn push(&mut self, it: &Node) {
        let inputs: Vec<Value> = it.inputs.iter().map(|it| self.value(*it)).collect();
        let stays = matches!(it.op, Op::Activation(_) | Op::BatchNorm(_) | Op::Flatten) && inputs[0].is_vector;
        let is_vector = stays || matches!(it.op, Op::Flatten | Op::Linear(_));
        // Additions and the like would broadcast a vector over a map: all others get maps.
        let inputs: Vec<String> = inputs
            .into_iter()
            .enumerate()
            .map(|(place, input)| match (&it.op, input.is_vector) {
                (Op::Linear(_), false) => self.derived(it, place, input, "Flatten", &[number("axis", 1)], None),
                (Op::Linear(_), true) | (_, false) => input.name,
                _ if stays => input.name,
                _ => {
                    let axes = format!("{}.axes{place}", it.name);
                    self.initializers.push(integers(&axes, &[2, 3]));
                    self.derived(it, place, input, "Unsqueeze", &[], Some(axes))
                }
            })
            .collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.operation(it, &inputs);
        self.values.push(Value {
            name: it.name.clone(),
            is_vector,
        });
    }

    /// Another form of an input; returns its name.
    fn derived(
        &mut self,
        it: &Node,
        place: usize,
        input: Value,
        operator: &str,
        attributes: &[Message],
        second: Option<String>,
    ) -> String {
        let name = format!("{}.input{place}", it.name);
        let inputs: Vec<&str> = [Some(input.name.as_str()), second.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        self.graph.message(1, &node(operator, &inputs, &name, attributes));
        name
    }

    fn operation(&mut self, it: &Node, inputs: &[&str]) {
        let mut weights = Vec::new();
        for weight in it.op.tensors() {
            let name = format!("{}.{}", it.name, weight.name);
            self.initializers.push(tensor(&name, &weight.shape, weight.values));
            weights.push(name);
        }
        let mut inputs = inputs.to_vec();
        inputs.extend(weights.iter().map(String::as_str));
        let (operator, attributes) = match &it.op {
            Op::Convolution(op) => {
                let mut attributes = window(&op.window);
                attributes.push(number("group", op.groups));
                ("Conv", attributes)
            }
            Op::BatchNorm(op) => ("BatchNormalization", vec![float("epsilon", op.epsilon)]),
            Op::Activation(op) => return self.activation(&it.name, *op, inputs[0]),
            Op::Add => ("Add", vec![]),
            Op::Gate => ("Mul", vec![]),
            Op::Concat => ("Concat", vec![number("axis", 1)]),
            Op::MaxPool(op) => ("MaxPool", window(op)),
            Op::AveragePool {
                window: op,
                count_include_pad,
            } => {
                let mut attributes = window(op);
                attributes.push(number("count_include_pad", usize::from(*count_include_pad)));
                ("AveragePool", attributes)
            }
            Op::GlobalAveragePool => ("GlobalAveragePool", vec![]),
            Op::Flatten => ("Flatten", vec![number("axis", 1)]),
            Op::Linear(_) => ("Gemm", vec![number("transB", 1)]),
        };
        self.graph.message(1, &node(operator, &inputs, &it.name, &attributes));
    }

    fn activation(&mut self, name: &str, activation: Activation, x: &str) {
        let (operator, second, attributes) = match activation {
            Activation::Relu => ("Relu", vec![], vec![]),
            Activation::Relu6 => {
                let bounds = [("least", 0.0), ("most", 6.0)].map(|(part, value)| {
                    let bound = format!("{name}.{part}");
                    self.initializers.push(tensor(&bound, &[], &[value]));
                    bound
                });
                ("Clip", bounds.to_vec(), vec![])
            }
            Activation::HardSwish => ("HardSwish", vec![], vec![]),
            Activation::HardSigmoid => (
                "HardSigmoid",
                vec![],
                vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)],
            ),
            Activation::Sigmoid => ("Sigmoid", vec![], vec![]),
            Activation::Silu => {
                let gate = format!("{name}.gate");
                self.graph.message(1, &node("Sigmoid", &[x], &gate, &[]));
                ("Mul", vec![gate], vec![])
            }
        };
        let mut inputs = vec![x];
        inputs.extend(second.iter().map(String::as_str));
        self.graph.message(1, &node(operator, &inputs, name, &attributes));
    }
}

fn window(it: &Window) -> Vec<Message> {
    let p = it.padding;
    vec![
        ints("kernel_shape", &it.kernel),
        ints("strides", &it.stride),
        ints("pads", &[p.top, p.left, p.bottom, p.right]),
    ]
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

/// `AttributeProto` with one integer.
fn number(name: &str, value: usize) -> Message {
    const INT: u64 = 2;
    let mut attribute = Message::default();
    attribute.text(1, name).number(3, value as u64).number(20, INT);
    attribute
}

/// `AttributeProto` with one float.
fn float(name: &str, value: f32) -> Message {
    const FLOAT: u64 = 1;
    let mut attribute = Message::default();
    attribute.text(1, name).float(2, value).number(20, FLOAT);
    attribute
}

/// `TensorProto` of integers in one dimension.
fn integers(name: &str, values: &[i64]) -> Message {
    let mut tensor = Message::default();
    let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    tensor
        .number(1, values.len() as u64)
        .number(2, INT64)
        .text(8, name)
        .bytes(9, &bytes);
    tensor
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

/// `ValueInfoProto` of a float tensor `[N, …]`.
fn value(name: &str, sides: &[usize]) -> Message {
    let mut dims = Message::default();
    let mut batch = Message::default();
    batch.text(2, "N");
    dims.message(1, &batch);
    for &side in sides {
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

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
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
