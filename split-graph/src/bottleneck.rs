//! Narrow places in a network: between two 1×1 convolutions, the second of which undoes the first, or inside a convolution that becomes two.

use crate::fold;
use crate::graph::{Fault, Graph, GraphError, Node, Source};
use crate::op::{Convolution, Op, Window};

/// What stands on the two sides of a narrow place of `width` channels, in a stream of C.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    /// Channels in between, k.
    pub width: usize,
    /// `[k, C]`: what is sent of the stream.
    pub encode: Vec<f32>,
    /// Added then, `[k]`.
    pub encode_bias: Vec<f32>,
    /// `[C, k]`: what the stream is taken to be.
    pub decode: Vec<f32>,
    /// Added then, `[C]`.
    pub decode_bias: Vec<f32>,
}

impl Bottleneck {
    /// All channels of a stream as they are.
    pub fn identity(channels: usize) -> Self {
        let mut one = vec![0.0; channels * channels];
        one.iter_mut().step_by(channels + 1).for_each(|it| *it = 1.0);
        Self {
            width: channels,
            encode: one.clone(),
            encode_bias: vec![0.0; channels],
            decode: one,
            decode_bias: vec![0.0; channels],
        }
    }

    /// The two convolutions, for a stream of `channels` channels.
    fn convolutions(&self, channels: usize) -> [Convolution; 2] {
        [
            point(channels, self.width, &self.encode, &self.encode_bias),
            point(self.width, channels, &self.decode, &self.decode_bias),
        ]
    }
}

impl Graph {
    /// The network with a narrow place behind a node: all that take its output take the second convolution's instead.
    ///
    /// The first convolution is named `MODULE.encode`, so that the module ends with the narrow tensor and the cut point there keeps its name;
    /// the second is named `decode.MODULE`. Fails where the bottleneck's sizes do not fit.
    pub fn with_bottleneck(&self, node: usize, bottleneck: &Bottleneck) -> Result<Self, GraphError> {
        let channels = self.shape(Source::Node(node)).channels();
        let module = self
            .cut_points()
            .into_iter()
            .find(|it| it.node == node)
            .map_or_else(|| self.nodes()[node].name.clone(), |it| it.name);
        let [encode, decode] = bottleneck.convolutions(channels);
        let chain = [
            (format!("{module}.encode"), encode),
            (format!("decode.{module}"), decode),
        ];
        Self::new(self.input(), self.with_behind(node, chain))
    }

    /// The network in which a convolution is two: the first gives the bottleneck's channels, the second, `NAME.restore` of 1×1, makes the outputs of
    /// them. The convolution's weights are thereby a product of factors of low rank.
    ///
    /// Fails where the bottleneck's sizes do not fit, and where the node is something else.
    pub fn factored(&self, node: usize, bottleneck: &Bottleneck) -> Result<Self, GraphError> {
        let Node { name, op, .. } = &self.nodes()[node];
        let whole = match op {
            Op::Convolution(it) if it.groups == 1 => it,
            _ => {
                return Err(GraphError {
                    node: name.clone(),
                    fault: Fault::Factors,
                });
            }
        };
        let [encode, decode] = bottleneck.convolutions(whole.outputs);
        let mut nodes = self.with_behind(node, [(format!("{name}.restore"), decode)]);
        nodes[node].op = Op::Convolution(fold::product(whole, &encode));
        Self::new(self.input(), nodes)
    }

    /// The nodes with these convolutions behind one of them, each taking the one before; what took the node's output takes the last one's.
    fn with_behind<const N: usize>(&self, node: usize, chain: [(String, Convolution); N]) -> Vec<Node> {
        let mut nodes = self.nodes().to_vec();
        for source in nodes[node + 1..].iter_mut().flat_map(|it| &mut it.inputs) {
            if let Source::Node(it) = source
                && *it >= node
            {
                *it += N;
            }
        }
        let chain = chain.into_iter().enumerate();
        let chain = chain.map(|(at, (name, it))| Node::new(name, Op::Convolution(it), Source::Node(node + at)));
        nodes.splice(node + 1..node + 1, chain);
        nodes
    }
}

/// A convolution of 1×1.
fn point(inputs: usize, outputs: usize, weight: &[f32], bias: &[f32]) -> Convolution {
    Convolution {
        inputs,
        outputs,
        groups: 1,
        window: Window::point(),
        weight: weight.to_vec(),
        bias: Some(bias.to_vec()),
    }
}
