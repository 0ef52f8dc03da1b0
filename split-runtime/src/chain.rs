//! Reads a chain of layers from tract's graph.

use split_core::Shape;
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_core::ops::math::Max;

use split_graph::{Activation, Convolution, Graph, Node, Op, Padding, Source, Window};

/// The layers between the graph's source and `last`. `None` where they are not convolutions, ReLU and max pools that follow one another.
pub fn read(model: &TypedModel, source: OutletId, last: OutletId, input: Shape) -> TractResult<Option<Graph>> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut push = |op: Op| {
        let source = nodes.len().checked_sub(1).map_or(Source::Input, Source::Node);
        nodes.push(Node::new(format!("{}", nodes.len()), op, source));
    };
    let mut current = source;
    // Nodes stand in the order in which they were added, each after what it takes.
    for node in &model.nodes {
        if !node.inputs.contains(&current) {
            continue;
        }
        if node.op_as::<Cast>().is_some_and(|it| it.to == f32::datum_type()) {
            // A map is in f32 in any case.
        } else if is_relu(model, node, current)? {
            push(Op::Activation(Activation::Relu));
        } else {
            match operation(model, node)? {
                Some(it) => push(it),
                None => return Ok(None),
            }
        }
        current = OutletId::new(node.id, 0);
    }
    Ok((current == last).then(|| Graph::new(input, nodes).ok()).flatten())
}

fn operation(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Op>> {
    if let Some(op) = node.op_as::<Conv>() {
        return Ok(filter(model, node, op)?.map(Op::Convolution));
    }
    let pool = node.op_as::<MaxPool>().map(|op| &op.pool_spec);
    Ok(
        pool.and_then(|spec| match (&spec.kernel_shape[..], stride(spec), padding(spec)) {
            (&[kernel, columns], Some(stride), Some(0)) if kernel == columns => {
                Some(Op::MaxPool(Window::square(kernel, stride, 0)))
            }
            _ => None,
        }),
    )
}

fn filter(model: &TypedModel, node: &TypedNode, op: &Conv) -> TractResult<Option<Convolution>> {
    let spec = &op.pool_spec;
    let &[_, weight, bias] = &node.inputs[..] else {
        return Ok(None);
    };
    let window = (&spec.kernel_shape[..], stride(spec), padding(spec));
    let (&[height, width], Some(stride), Some(padding)) = window else {
        return Ok(None);
    };
    let [weight, bias] = [constant(model, weight)?, constant(model, bias)?];
    let (Some(weight), Some(bias)) = (weight, bias) else {
        return Ok(None);
    };
    let [outputs, inputs] = [op.output_channels(), op.input_channels()];
    let plain = op.group == 1 && op.q_params.is_none() && op.kernel_fmt == KernelFormat::OIHW;
    let whole = weight.len() == outputs * inputs * height * width && bias.len() == outputs;
    Ok((plain && whole).then_some(Convolution {
        outputs,
        inputs,
        groups: 1,
        window: Window {
            kernel: [height, width],
            stride: [stride; 2],
            padding: Padding::all(padding),
        },
        weight,
        bias: Some(bias),
    }))
}

/// Whether the node is max(current, 0).
fn is_relu(model: &TypedModel, node: &TypedNode, current: OutletId) -> TractResult<bool> {
    let largest = node.op_as::<TypedBinOp>().is_some_and(|it| it.0.is::<Max>());
    let other = node.inputs.iter().find(|it| **it != current);
    match other {
        Some(other) if largest => Ok(constant(model, *other)?.is_some_and(|it| it == [0.0])),
        _ => Ok(false),
    }
}

fn constant(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Vec<f32>>> {
    match &model.outlet_fact(outlet)?.konst {
        Some(it) if it.datum_type() == f32::datum_type() => {
            Ok(Some(it.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
        }
        _ => Ok(None),
    }
}

/// The step in both directions, if it is the same and no value between is left out.
fn stride(spec: &PoolSpec) -> Option<usize> {
    let together = spec.dilations.as_ref().is_none_or(|it| it.iter().all(|it| *it == 1));
    match spec.strides.as_deref() {
        _ if !together => None,
        None => Some(1),
        Some(&[y, x]) if y == x => Some(y),
        Some(_) => None,
    }
}

/// The padding, if it is the same on all sides.
fn padding(spec: &PoolSpec) -> Option<usize> {
    match &spec.padding {
        PaddingSpec::Valid => Some(0),
        PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, false) => {
            let first = *before.first()?;
            before.iter().chain(after).all(|it| *it == first).then_some(first)
        }
        _ => None,
    }
}
