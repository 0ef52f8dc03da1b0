//! Reads a network from tract's graph.

use std::collections::HashMap;

use split_core::Shape;
use split_graph::{Activation, Convolution, Graph, Node, Op, Padding, Source, Window};
use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Max, Min, Mul};
use tract_core::ops::nn::silu::Silu;
use tract_core::ops::nn::{HardSwish, Sigmoid};

use crate::segment::SIXTH;

/// What an outlet of tract's graph is in ours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    /// A tensor.
    Whole(Source),
    /// A tensor times a sixth: a hard-sigmoid of it begins so.
    Sixth(Source),
    /// The same plus a half.
    Moved(Source),
    /// The same, and not negative.
    Positive(Source),
}

/// The network between the graph's source, of shape `input`, and `last`. `None` if there is an operation that [`write_segment`](crate::write_segment) does not write.
pub fn network(model: &TypedModel, source: OutletId, last: OutletId, input: Shape) -> TractResult<Option<Graph>> {
    let mut reader = Reader {
        model,
        values: HashMap::from([(source, Value::Whole(Source::Input))]),
        nodes: Vec::new(),
    };
    // Nodes stand in the order in which they were added, each after what it takes.
    for node in &model.nodes {
        let is_weight = node.outputs.iter().all(|it| it.fact.konst.is_some());
        if node.id == source.node || is_weight {
            continue;
        }
        let Some(value) = reader.read(node)? else {
            return Ok(None);
        };
        reader.values.insert(OutletId::new(node.id, 0), value);
    }
    let ends = reader.values.get(&last)
        == reader
            .nodes
            .len()
            .checked_sub(1)
            .map(|it| Value::Whole(Source::Node(it)))
            .as_ref();
    match Graph::new(input, reader.nodes) {
        Ok(graph) if ends => Ok(Some(graph)),
        _ => Ok(None),
    }
}

struct Reader<'a> {
    model: &'a TypedModel,
    values: HashMap<OutletId, Value>,
    nodes: Vec<Node>,
}

impl Reader<'_> {
    fn read(&mut self, node: &TypedNode) -> TractResult<Option<Value>> {
        let Some(&value) = node.inputs.first().and_then(|it| self.values.get(it)) else {
            // Constants come second in what we write.
            return Ok(None);
        };
        if let Some(binary) = node.op_as::<TypedBinOp>() {
            return self.binary(node, binary, value);
        }
        // The loader casts what meets a constant, even to the type that it has.
        if node.op_is::<Cast>() {
            let same = self.model.outlet_fact(node.inputs[0])?.datum_type == node.outputs[0].fact.datum_type;
            return Ok(same.then_some(value));
        }
        let Value::Whole(source) = value else { return Ok(None) };
        if let Some(op) = node.op_as::<TypedConcat>() {
            let sources = node.inputs.iter().map(|it| match self.values.get(it) {
                Some(Value::Whole(source)) => Some(*source),
                _ => None,
            });
            let sources = sources.collect::<Option<Vec<_>>>().filter(|_| op.axis == 1);
            return Ok(sources.map(|it| self.push(node, Op::Concat, it)));
        }
        let op = if let Some(op) = node.op_as::<Conv>() {
            self.convolution(node, op)?
        } else if let Some(op) = node.op_as::<MaxPool>() {
            window(&op.pool_spec).map(Op::MaxPool)
        } else if let Some(op) = node.op_as::<SumPool>() {
            self.mean(op, node.inputs[0])
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            activation(op).map(Op::Activation)
        } else if let Some(AxisOp::Reshape(1, from, _)) = node.op_as::<AxisOp>() {
            (from.len() == 3).then_some(Op::Flatten)
        } else {
            None
        };
        Ok(op.map(|op| self.push(node, op, vec![source])))
    }

    fn push(&mut self, node: &TypedNode, op: Op, inputs: Vec<Source>) -> Value {
        self.nodes.push(Node {
            name: node.name.clone(),
            op,
            inputs,
        });
        Value::Whole(Source::Node(self.nodes.len() - 1))
    }

    /// Additions, gates, and the parts of activations.
    fn binary(&mut self, node: &TypedNode, op: &TypedBinOp, value: Value) -> TractResult<Option<Value>> {
        let &[_, second] = &node.inputs[..] else {
            return Ok(None);
        };
        if let (Value::Whole(first), Some(&Value::Whole(other))) = (value, self.values.get(&second)) {
            let op = if op.0.is::<Add>() {
                Op::Add
            } else if op.0.is::<Mul>() {
                Op::Gate
            } else {
                return Ok(None);
            };
            return Ok(Some(self.push(node, op, vec![first, other])));
        }
        let Some(constant) = self.constant(second)?.filter(|it| it.len() == 1).map(|it| it[0]) else {
            return Ok(None);
        };
        let is = |of: f32| constant == of;
        Ok(match value {
            Value::Whole(source) if op.0.is::<Max>() && is(0.0) => {
                Some(self.push(node, Op::Activation(Activation::Relu), vec![source]))
            }
            Value::Whole(Source::Node(relu)) if op.0.is::<Min>() && is(6.0) && self.used_once(node.inputs[0]) => {
                let last = self.nodes.len() - 1 == relu;
                let op = &mut self.nodes[relu].op;
                (last && *op == Op::Activation(Activation::Relu)).then(|| {
                    *op = Op::Activation(Activation::Relu6);
                    value
                })
            }
            Value::Whole(source) if op.0.is::<Mul>() && is(SIXTH) => Some(Value::Sixth(source)),
            Value::Sixth(source) if op.0.is::<Add>() && is(0.5) => Some(Value::Moved(source)),
            Value::Moved(source) if op.0.is::<Max>() && is(0.0) => Some(Value::Positive(source)),
            Value::Positive(source) if op.0.is::<Min>() && is(1.0) => {
                Some(self.push(node, Op::Activation(Activation::HardSigmoid), vec![source]))
            }
            _ => None,
        })
    }

    /// Whether one node alone takes the outlet, and what it is cast from.
    fn used_once(&self, outlet: OutletId) -> bool {
        let node = self.model.node(outlet.node);
        let alone = node.outputs[outlet.slot].successors.len() == 1;
        alone && (!node.op_is::<Cast>() || self.used_once(node.inputs[0]))
    }

    fn convolution(&self, node: &TypedNode, op: &Conv) -> TractResult<Option<Op>> {
        let &[_, weight, bias] = &node.inputs[..] else {
            return Ok(None);
        };
        let [weight, bias] = [self.constant(weight)?, self.constant(bias)?];
        let plain = op.q_params.is_none() && op.kernel_fmt == KernelFormat::OIHW;
        let (Some(weight), Some(bias), Some(window), true) = (weight, bias, window(&op.pool_spec), plain) else {
            return Ok(None);
        };
        Ok(Some(Op::Convolution(Convolution {
            inputs: op.input_channels(),
            outputs: op.output_channels(),
            groups: op.group,
            window,
            weight,
            bias: Some(bias),
        })))
    }

    fn mean(&self, op: &SumPool, input: OutletId) -> Option<Op> {
        let window = window(&op.pool_spec).filter(|_| op.normalize)?;
        let shape = self.model.outlet_fact(input).ok()?.shape.as_concrete()?;
        let whole = shape.get(2..) == Some(&window.kernel[..]) && window.padding == Padding::default();
        Some(match whole {
            true => Op::GlobalAveragePool,
            false => Op::AveragePool {
                window,
                count_include_pad: op.count_include_pad,
            },
        })
    }

    fn constant(&self, outlet: OutletId) -> TractResult<Option<Vec<f32>>> {
        match &self.model.outlet_fact(outlet)?.konst {
            Some(it) if it.datum_type() == f32::datum_type() => {
                Ok(Some(it.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
            }
            _ => Ok(None),
        }
    }
}

fn activation(op: &ElementWiseOp) -> Option<Activation> {
    if op.0.is::<HardSwish>() {
        Some(Activation::HardSwish)
    } else if op.0.is::<Silu>() {
        Some(Activation::Silu)
    } else if op.0.is::<Sigmoid>() {
        Some(Activation::Sigmoid)
    } else {
        None
    }
}

/// How a kernel moves, if it moves over rows and columns and leaves out no value between.
fn window(spec: &PoolSpec) -> Option<Window> {
    let together = spec.dilations.as_ref().is_none_or(|it| it.iter().all(|it| *it == 1));
    let kernel = spec.kernel_shape[..].try_into().ok().filter(|_| together)?;
    let stride = match spec.strides.as_deref() {
        None => [1, 1],
        Some(strides) => strides.try_into().ok()?,
    };
    let padding = match &spec.padding {
        PaddingSpec::Valid => Padding::default(),
        PaddingSpec::Explicit(before, behind) | PaddingSpec::ExplicitOnnxPool(before, behind, false) => {
            let (&[top, left], &[bottom, right]) = (&before[..], &behind[..]) else {
                return None;
            };
            Padding {
                top,
                left,
                bottom,
                right,
            }
        }
        _ => return None,
    };
    Some(Window {
        kernel,
        stride,
        padding,
    })
}
