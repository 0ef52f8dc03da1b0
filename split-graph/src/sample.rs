//! Small random networks of every operation, for tests of everything that takes a network.

use split_core::Shape;

use crate::architecture::Architecture;
use crate::graph::{Graph, GraphError, Node, Source, fill};
use crate::op::{Activation, BatchNorm, Convolution, Linear, Op, Padding, Window};

/// Reproducible numbers: Knuth's linear congruential generator for 64 bits.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Another seed gives other numbers.
    pub fn new(seed: u64) -> Self {
        let mut noise = Self(seed ^ 0x9e37_79b9_7f4a_7c15);
        noise.below(2);
        noise
    }

    /// A number from 0 on, below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    /// In [-1, 1).
    pub fn value(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }

    /// So many values in [-1, 1).
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    fn is_heads(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// A random network of a few blocks: convolutions of all kinds, batch norms, activations, additions, gates, concatenations, pools, and
/// mostly a classifier. The same seed gives the same network.
///
/// Fails only through a fault of this crate.
pub fn network(seed: u64) -> Result<Graph, GraphError> {
    let mut noise = Noise::new(seed);
    let input = shape([1 + noise.below(4), 6 + noise.below(9), 6 + noise.below(9)])?;
    let mut builder = Builder {
        input,
        shapes: Vec::new(),
        nodes: Vec::new(),
        last: Source::Input,
        noise: noise.clone(),
    };
    let first = 1 + noise.below(6);
    builder.convolution(first, Kind::Same)?;
    for _ in 0..2 + noise.below(5) {
        builder.block()?;
    }
    if noise.below(4) > 0 {
        builder.classifier()?;
    }
    filled(input, builder.nodes, &mut noise)
}

/// The network of an architecture for square pictures, with random weights. The same seed gives the same ones.
///
/// Fails where the architecture takes no pictures of that size.
pub fn known(architecture: Architecture, side: usize, classes: usize, seed: u64) -> Result<Graph, GraphError> {
    let input = shape([3, side, side])?;
    filled(input, architecture.nodes(input, classes)?, &mut Noise::new(seed))
}

/// The network of these nodes, with random [`values`] in place of their weights.
///
/// Fails where the nodes are no network.
pub fn filled(input: Shape, mut nodes: Vec<Node>, noise: &mut Noise) -> Result<Graph, GraphError> {
    fill(&mut nodes, |name, shape| {
        Ok::<_, GraphError>(values(noise, name, shape))
    })?;
    Graph::new(input, nodes)
}

fn shape(shape: [usize; 3]) -> Result<Shape, GraphError> {
    Shape::try_from(shape).map_err(|it| GraphError {
        node: "input".into(),
        fault: it.into(),
    })
}

/// The network of operations that follow one another, each named after its kind and place: `max pool 2`.
pub fn chain(input: Shape, ops: impl IntoIterator<Item = Op>) -> Result<Graph, GraphError> {
    let node = |(place, op): (usize, Op)| {
        let source = place.checked_sub(1).map_or(Source::Input, Source::Node);
        Node::new(format!("{} {place}", op.kind()), op, source)
    };
    Graph::new(input, ops.into_iter().enumerate().map(node).collect())
}

/// Random weights under which values keep their size from layer to layer: of a tensor of this name and shape.
pub fn values(noise: &mut Noise, name: &str, shape: &[usize]) -> Vec<f32> {
    let inputs = shape.iter().skip(1).product::<usize>() as f32;
    let count = shape.iter().product();
    let values = noise.values(count).into_iter();
    if shape.len() > 1 {
        values.map(|it| it * (3.0 / inputs).sqrt()).collect()
    } else if name.ends_with("running_var") || name.ends_with("weight") {
        values.map(|it| 1.0 + 0.5 * it).collect()
    } else {
        values.map(|it| 0.3 * it).collect()
    }
}

enum Kind {
    /// Keeps the size.
    Same,
    /// Any kernel, stride and padding.
    Any,
    /// 1×1 without padding.
    Point,
}

struct Builder {
    input: Shape,
    shapes: Vec<Shape>,
    nodes: Vec<Node>,
    last: Source,
    noise: Noise,
}

type Built = Result<(), GraphError>;

impl Builder {
    fn shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => self.input,
            Source::Node(node) => self.shapes[node],
        }
    }

    fn push(&mut self, op: Op, inputs: Vec<Source>) -> Built {
        let name = format!("block{}.{}", self.nodes.len() / 4, self.nodes.len());
        let shapes: Vec<Shape> = inputs.iter().map(|it| self.shape(*it)).collect();
        let shape = op.output(&shapes).map_err(|fault| GraphError {
            node: name.clone(),
            fault,
        })?;
        self.shapes.push(shape);
        self.last = Source::Node(self.nodes.len());
        self.nodes.push(Node { name, op, inputs });
        Ok(())
    }

    fn next(&mut self, op: Op) -> Built {
        self.push(op, vec![self.last])
    }

    fn window(&mut self, kind: &Kind) -> Window {
        let shape = self.shape(self.last);
        let sides = [shape.height(), shape.width()];
        match kind {
            Kind::Point => Window::point(),
            Kind::Same => {
                let side = self.noise.below(2);
                Window::square(2 * side + 1, 1, side)
            }
            Kind::Any => {
                let kernel = sides.map(|it| 1 + self.noise.below(it.min(5)));
                let mut padding = |kernel: usize| self.noise.below(kernel.min(3));
                let padding = Padding {
                    top: padding(kernel[0]),
                    left: padding(kernel[1]),
                    bottom: padding(kernel[0]),
                    right: padding(kernel[1]),
                };
                Window {
                    kernel,
                    stride: sides.map(|it| 1 + usize::from(it > 4 && self.noise.is_heads())),
                    padding,
                }
            }
        }
    }

    fn convolution(&mut self, outputs: usize, kind: Kind) -> Built {
        let window = self.window(&kind);
        let inputs = self.shape(self.last).channels();
        let groups = match kind {
            Kind::Any if self.noise.is_heads() => inputs,
            Kind::Any if inputs.is_multiple_of(2) && self.noise.is_heads() => 2,
            _ => 1,
        };
        let bias = self.noise.is_heads().then(Vec::new);
        self.next(Op::Convolution(Convolution {
            inputs,
            outputs: outputs.next_multiple_of(groups),
            groups,
            window,
            weight: Vec::new(),
            bias,
        }))
    }

    fn norm(&mut self) -> Built {
        self.next(Op::BatchNorm(BatchNorm {
            channels: self.shape(self.last).channels(),
            epsilon: 1e-3,
            scale: Vec::new(),
            shift: Vec::new(),
            mean: Vec::new(),
            variance: Vec::new(),
        }))
    }

    fn activate(&mut self) -> Built {
        use Activation::{HardSigmoid, HardSwish, Relu, Relu6, Sigmoid, Silu};
        let all = [Relu, Relu6, HardSwish, HardSigmoid, Silu, Sigmoid];
        let one = all[self.noise.below(all.len())];
        self.next(Op::Activation(one))
    }

    fn block(&mut self) -> Built {
        let channels = self.shape(self.last).channels();
        let outputs = 1 + self.noise.below(8);
        match self.noise.below(7) {
            0 | 1 => {
                self.convolution(outputs, Kind::Any)?;
                self.norm()?;
                self.activate()
            }
            2 => {
                let input = self.last;
                self.convolution(channels, Kind::Same)?;
                self.norm()?;
                self.activate()?;
                self.convolution(channels, Kind::Same)?;
                self.push(Op::Add, vec![self.last, input])?;
                self.activate()
            }
            3 => self.gate(),
            4 => {
                let input = self.last;
                self.convolution(outputs, Kind::Same)?;
                let one = self.last;
                self.last = input;
                self.convolution(2, Kind::Point)?;
                self.push(Op::Concat, vec![one, input, self.last])?;
                self.norm()
            }
            5 => {
                let window = self.window(&Kind::Any);
                self.next(Op::MaxPool(window))
            }
            _ => {
                let window = self.window(&Kind::Any);
                let count_include_pad = self.noise.is_heads();
                self.next(Op::AveragePool {
                    window,
                    count_include_pad,
                })
            }
        }
    }

    fn gate(&mut self) -> Built {
        let input = self.last;
        let channels = self.shape(input).channels();
        self.next(Op::GlobalAveragePool)?;
        self.convolution(1 + channels / 2, Kind::Point)?;
        self.next(Op::Activation(Activation::Relu))?;
        self.convolution(channels, Kind::Point)?;
        let gate = if self.noise.is_heads() {
            Activation::Sigmoid
        } else {
            Activation::HardSigmoid
        };
        self.next(Op::Activation(gate))?;
        self.push(Op::Gate, vec![input, self.last])
    }

    fn classifier(&mut self) -> Built {
        if self.noise.is_heads() {
            self.next(Op::GlobalAveragePool)?;
        }
        self.next(Op::Flatten)?;
        if self.noise.is_heads() {
            self.linear(8)?;
            self.next(Op::Activation(Activation::Relu))?;
        }
        self.linear(3)
    }

    fn linear(&mut self, outputs: usize) -> Built {
        self.next(Op::Linear(Linear {
            inputs: self.shape(self.last).channels(),
            outputs,
            weight: Vec::new(),
            bias: Some(Vec::new()),
        }))
    }
}
