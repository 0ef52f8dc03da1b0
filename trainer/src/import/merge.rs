//! Factors and shifts of channels, joined with the layers that they follow; and only what leads to the output.

use split_graph::{BatchNorm, Convolution, Linear, Node, Op, Source};

/// The network that ends with node `output`. Nodes that are `affine` are convolutions that see one value each.
///
/// A factor and shift is left alone where something else takes the output of the layer before, too.
pub fn merged(mut nodes: Vec<Node>, affine: &[bool], output: usize) -> Vec<Node> {
    let mut takers = takers(&nodes, output);
    // What stands for each node.
    let mut stands: Vec<Source> = Vec::with_capacity(nodes.len());
    for number in 0..nodes.len() {
        for at in 0..nodes[number].inputs.len() {
            if let Source::Node(it) = nodes[number].inputs[at] {
                nodes[number].inputs[at] = stands[it];
            }
        }
        let mut stand = Source::Node(number);
        // One that has taken in another may change nothing any more.
        while let Source::Node(it) = stand
            && affine[it]
            && takers[it] > 0
            && let Some(before) = joined(&mut nodes, it, &takers, output)
        {
            if let Source::Node(before) = before {
                takers[before] = takers[before] - 1 + takers[it];
            }
            stand = before;
        }
        stands.push(stand);
    }
    match stands.get(output) {
        Some(Source::Node(output)) => needed(nodes, *output),
        _ => Vec::new(),
    }
}

/// How often the output of each node is taken.
fn takers(nodes: &[Node], output: usize) -> Vec<usize> {
    let kept = kept(nodes, output);
    let mut takers = vec![0; nodes.len()];
    // Something takes the output, too.
    if let Some(last) = takers.get_mut(output) {
        *last = 1;
    }
    let sources = nodes.iter().zip(kept).filter(|it| it.1).flat_map(|it| &it.0.inputs);
    for source in sources {
        if let Source::Node(it) = source {
            takers[*it] += 1;
        }
    }
    takers
}

/// What stands for a factor and shift from now on: the layer before, which has taken it in, or what it changes nothing of.
fn joined(nodes: &mut [Node], number: usize, takers: &[usize], output: usize) -> Option<Source> {
    let source = nodes[number].inputs[0];
    let Op::Convolution(Convolution {
        weight: scale, bias, ..
    }) = &nodes[number].op
    else {
        return None;
    };
    let shift = bias.clone()?;
    if scale.iter().all(|it| *it == 1.0) && shift.iter().all(|it| *it == 0.0) {
        // A network of no operation would be none.
        return (source != Source::Input || number != output).then_some(source);
    }
    let Source::Node(before) = source else { return None };
    let scale = scale.clone();
    (takers[before] == 1 && take_in(&mut nodes[before].op, &scale, shift)).then_some(source)
}

/// Multiplies outputs by factors, and adds a shift then. False where the operation cannot.
fn take_in(op: &mut Op, scale: &[f32], shift: Vec<f32>) -> bool {
    match op {
        Op::Convolution(Convolution {
            outputs, weight, bias, ..
        })
        | Op::Linear(Linear {
            outputs, weight, bias, ..
        }) if *outputs == scale.len() => {
            let each = (weight.len() / scale.len().max(1)).max(1);
            for (row, scale) in weight.chunks_mut(each).zip(scale) {
                row.iter_mut().for_each(|it| *it *= scale);
            }
            *bias = Some(scaled(bias.take(), scale, shift));
        }
        Op::BatchNorm(BatchNorm {
            scale: factor,
            shift: old,
            ..
        }) if [factor.len(), old.len()] == [scale.len(); 2] => {
            factor.iter_mut().zip(scale).for_each(|(it, scale)| *it *= scale);
            *old = scaled(Some(std::mem::take(old)), scale, shift);
        }
        _ => return false,
    }
    true
}

fn scaled(bias: Option<Vec<f32>>, scale: &[f32], mut shift: Vec<f32>) -> Vec<f32> {
    for ((shift, bias), scale) in shift.iter_mut().zip(bias.iter().flatten()).zip(scale) {
        *shift += bias * scale;
    }
    shift
}

/// Nodes that lead to the output.
fn kept(nodes: &[Node], output: usize) -> Vec<bool> {
    let mut kept = vec![false; nodes.len()];
    if let Some(last) = kept.get_mut(output) {
        *last = true;
    }
    for number in (0..nodes.len()).rev().filter(|it| *it <= output) {
        if kept[number] {
            for source in &nodes[number].inputs {
                if let Source::Node(it) = source {
                    kept[*it] = true;
                }
            }
        }
    }
    kept
}

/// The nodes that lead to the output, which comes last.
fn needed(nodes: Vec<Node>, output: usize) -> Vec<Node> {
    let kept = kept(&nodes, output);
    let mut places = Vec::with_capacity(nodes.len());
    let mut left: Vec<Node> = Vec::new();
    for (mut node, kept) in nodes.into_iter().zip(kept) {
        places.push(left.len());
        if kept {
            for source in &mut node.inputs {
                if let Source::Node(it) = source {
                    *it = places[*it];
                }
            }
            left.push(node);
        }
    }
    left
}
