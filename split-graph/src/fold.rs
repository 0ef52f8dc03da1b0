//! Making one layer of several that are linear.

use crate::graph::{Graph, GraphError, Node, Source};
use crate::op::{BatchNorm, Convolution, Op, Padding, Window};

impl Graph {
    /// The same network for inference, without batch norms: each becomes part of the convolution or linear layer before it, or, where there is
    /// none, a depthwise convolution of 1×1. Then 1×1 convolutions that follow or precede another convolution directly become one with it, where
    /// that means no more work.
    ///
    /// Fails if a weight overflows.
    pub fn folded(&self) -> Result<Self, GraphError> {
        let mut graph = self.without_batch_norms()?;
        while let Some((first, second)) = graph.mergeable() {
            graph = graph.merge(first, second)?;
        }
        Ok(graph)
    }

    fn without_batch_norms(&self) -> Result<Self, GraphError> {
        let consumers = self.consumers();
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes().len());
        let mut moved: Vec<usize> = Vec::with_capacity(self.nodes().len());
        for node in self.nodes() {
            let mut node = node.clone();
            if let Op::BatchNorm(norm) = &node.op {
                if let Source::Node(before) = node.inputs[0]
                    && consumers[before].len() == 1
                    && scale(&mut nodes[moved[before]].op, norm)
                {
                    moved.push(moved[before]);
                    continue;
                }
                node.op = Op::Convolution(diagonal(norm));
            }
            for source in &mut node.inputs {
                if let Source::Node(it) = source {
                    *it = moved[*it];
                }
            }
            moved.push(nodes.len());
            nodes.push(node);
        }
        Self::new(self.input(), nodes)
    }

    /// A convolution and the one that follows it directly, of which one is of 1×1, so that they can be one with no more work.
    fn mergeable(&self) -> Option<(usize, usize)> {
        let consumers = self.consumers();
        self.nodes().iter().enumerate().find_map(|(second, node)| {
            let Source::Node(first) = node.inputs[0] else {
                return None;
            };
            let (Op::Convolution(a), Op::Convolution(b)) = (&self.nodes()[first].op, &node.op) else {
                return None;
            };
            let plain = a.groups == 1 && b.groups == 1 && consumers[first].len() == 1;
            let is_point = |it: &Convolution| it.window == Window::point();
            // Around its input a convolution sees zeros, but a bias would not be zero there.
            let unbiased = a.bias.as_ref().is_none_or(|it| it.iter().all(|it| *it == 0.0));
            let padded = b.window.padding != Padding::default();
            let linear = is_point(b) || is_point(a) && (unbiased || !padded);
            let area = self.shape(Source::Node(second)).positions()
                * if is_point(b) { a } else { b }.window.kernel.iter().product::<usize>();
            let merged = (area as u64).saturating_mul((a.inputs * b.outputs) as u64);
            (plain && linear && merged <= self.macs_of(first) + self.macs_of(second)).then_some((first, second))
        })
    }

    fn merge(&self, first: usize, second: usize) -> Result<Self, GraphError> {
        let mut nodes = self.nodes().to_vec();
        let node = nodes.remove(second);
        if let (Op::Convolution(a), Op::Convolution(b)) = (&nodes[first].op, &node.op) {
            nodes[first].op = Op::Convolution(product(a, b));
        }
        for source in nodes.iter_mut().flat_map(|it| &mut it.inputs) {
            if let Source::Node(it) = source {
                match *it {
                    it_is if it_is == second => *it = first,
                    later if later > second => *it = later - 1,
                    _ => {}
                }
            }
        }
        Self::new(self.input(), nodes)
    }
}

/// Puts a batch norm into the operation before it. False if it has no weights.
fn scale(op: &mut Op, norm: &BatchNorm) -> bool {
    let (weight, bias) = match op {
        Op::Convolution(it) => (&mut it.weight, &mut it.bias),
        Op::Linear(it) => (&mut it.weight, &mut it.bias),
        _ => return false,
    };
    let row = weight.len() / norm.channels.max(1);
    let mut biases = bias.take().unwrap_or_else(|| vec![0.0; norm.channels]);
    for (channel, values) in weight.chunks_exact_mut(row.max(1)).enumerate() {
        let (factor, shift) = norm.factor(channel);
        values.iter_mut().for_each(|it| *it *= factor);
        biases[channel] = biases[channel] * factor + shift;
    }
    *bias = Some(biases);
    true
}

fn diagonal(norm: &BatchNorm) -> Convolution {
    let (weight, bias) = (0..norm.channels).map(|it| norm.factor(it)).unzip();
    Convolution {
        inputs: norm.channels,
        outputs: norm.channels,
        groups: norm.channels,
        window: Window::point(),
        weight,
        bias: Some(bias),
    }
}

/// The convolution that does `a`, then `b`. One of them is of 1×1 with stride 1.
pub(crate) fn product(a: &Convolution, b: &Convolution) -> Convolution {
    let window = if b.window == Window::point() {
        a.window
    } else {
        b.window
    };
    let (area_a, area_b) = (
        a.window.kernel.iter().product::<usize>(),
        b.window.kernel.iter().product::<usize>(),
    );
    let area = area_a * area_b;
    let mut weight = vec![0.0_f64; b.outputs * a.inputs * area];
    let mut bias = vec![0.0_f64; b.outputs];
    for output in 0..b.outputs {
        for middle in 0..b.inputs {
            for at_b in 0..area_b {
                let factor = f64::from(b.weight[(output * b.inputs + middle) * area_b + at_b]);
                bias[output] += factor * a.bias.as_ref().map_or(0.0, |it| f64::from(it[middle]));
                for input in 0..a.inputs {
                    for at_a in 0..area_a {
                        let value = f64::from(a.weight[(middle * a.inputs + input) * area_a + at_a]);
                        weight[(output * a.inputs + input) * area + at_a.max(at_b)] += factor * value;
                    }
                }
            }
        }
        bias[output] += b.bias.as_ref().map_or(0.0, |it| f64::from(it[output]));
    }
    let biased = a.bias.is_some() || b.bias.is_some();
    Convolution {
        inputs: a.inputs,
        outputs: b.outputs,
        groups: 1,
        window,
        weight: weight.into_iter().map(|it| it as f32).collect(),
        bias: biased.then(|| bias.into_iter().map(|it| it as f32).collect()),
    }
}
