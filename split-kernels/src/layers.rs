//! Reads a network's graph as layers: each with the activations and additions behind it, and batch norms as convolutions.

use split_core::Shape;
use split_graph::{Activation, Graph, Op, Padding, Source, Window};

use super::Filter;
use super::finish::{Curve, Finish};
use super::pointwise::{Change, Pool};

/// Number of a tensor: 0 is the network's input.
pub type Value = usize;

/// One layer of a network.
#[derive(Debug)]
pub struct Layer {
    pub work: Work,
    pub inputs: Vec<Value>,
    /// What is added to the result of a convolution.
    pub addend: Option<Value>,
    pub output: Value,
}

/// What a layer computes.
#[derive(Debug)]
pub enum Work {
    /// Not depthwise.
    Convolution(Filter, Finish),
    /// `[C, rows, columns]`.
    Depthwise(Vec<f32>, Window, Finish),
    Pool(Pool, Window),
    Average,
    Change(Change, Curve),
    Concatenate,
    Flatten,
}

/// A network, and the shapes of all its tensors.
#[derive(Debug)]
pub struct Layers {
    pub layers: Vec<Layer>,
    /// Shapes by number; tensors that are no layer's are not used.
    pub shapes: Vec<Shape>,
    pub output: Value,
}

impl Layers {
    /// Reads a graph; its weights stay where they are.
    pub fn new(graph: Graph) -> Self {
        let mut reader = Reader::new(&graph);
        for (number, node) in graph.into_nodes().into_iter().enumerate() {
            reader.read(number, node.op, &node.inputs);
        }
        let output = reader.names.last().copied().unwrap_or(0);
        Self {
            layers: reader.layers,
            shapes: reader.shapes,
            output,
        }
    }
}

struct Reader {
    layers: Vec<Layer>,
    shapes: Vec<Shape>,
    /// The number of each tensor of the graph, its input first: a flattened one is the same in memory.
    names: Vec<Value>,
    /// Nodes that take each tensor, by its number; one more for the output.
    uses: Vec<usize>,
    /// Whether linear layers alone take it, or nothing does.
    vector: Vec<bool>,
}

impl Reader {
    fn new(graph: &Graph) -> Self {
        let nodes = graph.nodes();
        let mut uses = vec![0; nodes.len() + 1];
        let mut vector = vec![true; nodes.len() + 1];
        for node in nodes {
            for source in &node.inputs {
                uses[number(*source)] += 1;
                vector[number(*source)] &= matches!(node.op, Op::Linear(_));
            }
        }
        uses[nodes.len()] += 1;
        let shapes = [graph.input()].into_iter();
        Self {
            layers: Vec::new(),
            shapes: shapes
                .chain((0..nodes.len()).map(|it| graph.shape(Source::Node(it))))
                .collect(),
            names: vec![0],
            uses,
            vector,
        }
    }

    fn read(&mut self, node: usize, op: Op, sources: &[Source]) {
        let output = node + 1;
        let inputs: Vec<Value> = sources.iter().map(|it| self.names[number(*it)]).collect();
        // Whether a layer before may take this node in.
        let alone = inputs.iter().all(|it| self.uses[*it] == 1);
        let joined = match &op {
            Op::Activation(it) if alone => self.activate(*it, &inputs, output),
            Op::Add => self.add(&inputs, output),
            Op::Flatten => {
                let same = self.vector[output] || self.shapes[inputs[0]].positions() == 1;
                if same {
                    self.names.push(inputs[0]);
                    self.uses[inputs[0]] += self.uses[output] - 1;
                }
                same
            }
            _ => false,
        };
        if joined {
            return;
        }
        let work = self.work(op, self.shapes[number(sources[0])], &inputs);
        self.layers.push(Layer {
            work,
            inputs,
            addend: None,
            output,
        });
        self.names.push(output);
    }

    fn work(&self, op: Op, input: Shape, inputs: &[Value]) -> Work {
        let finish = |bias: Vec<f32>| Finish {
            bias,
            first: Curve(None),
            last: Curve(None),
        };
        let bias = |bias: Option<Vec<f32>>, outputs| finish(bias.unwrap_or(vec![0.0; outputs]));
        match op {
            Op::Convolution(it) if it.is_depthwise() && it.outputs == it.inputs => {
                Work::Depthwise(it.weight, it.window, bias(it.bias, it.outputs))
            }
            Op::Convolution(it) => Work::Convolution(
                Filter {
                    outputs: it.outputs,
                    inputs: it.inputs / it.groups,
                    groups: it.groups,
                    window: it.window,
                    weight: it.weight,
                },
                bias(it.bias, it.outputs),
            ),
            Op::Linear(it) => {
                // A flattened map is taken as it is, by a kernel that covers it.
                let map = self.shapes[inputs[0]];
                Work::Convolution(
                    Filter {
                        outputs: it.outputs,
                        inputs: map.channels(),
                        groups: 1,
                        window: Window {
                            kernel: [map.height(), map.width()],
                            stride: [1, 1],
                            padding: Padding::default(),
                        },
                        weight: it.weight,
                    },
                    bias(it.bias, it.outputs),
                )
            }
            Op::BatchNorm(it) => {
                let (factors, shifts) = (0..it.channels).map(|channel| it.factor(channel)).unzip();
                Work::Depthwise(factors, Window::point(), finish(shifts))
            }
            Op::Activation(it) => Work::Change(Change::None, Curve(Some(it))),
            Op::Add => Work::Change(Change::Add, Curve(None)),
            Op::Gate => Work::Change(Change::Gate, Curve(None)),
            Op::Concat => Work::Concatenate,
            Op::MaxPool(window) => Work::Pool(Pool::Largest, window),
            Op::AveragePool {
                window,
                count_include_pad,
            } => Work::Pool(
                Pool::Mean {
                    padded: count_include_pad,
                },
                window,
            ),
            Op::GlobalAveragePool if input.positions() == 1 => Work::Change(Change::None, Curve(None)),
            Op::GlobalAveragePool => Work::Average,
            Op::Flatten => Work::Flatten,
        }
    }

    /// Joins an activation to the layer that makes its input, if that is possible.
    fn activate(&mut self, activation: Activation, inputs: &[Value], output: Value) -> bool {
        let Some(layer) = self.layers.iter_mut().find(|it| it.output == inputs[0]) else {
            return false;
        };
        let none = Curve(None);
        let curve = match &mut layer.work {
            Work::Convolution(_, finish) | Work::Depthwise(_, _, finish) => match layer.addend {
                None => &mut finish.first,
                Some(_) => &mut finish.last,
            },
            Work::Change(_, curve) => curve,
            _ => return false,
        };
        if *curve != none {
            return false;
        }
        *curve = Curve(Some(activation));
        layer.output = output;
        self.names.push(output);
        true
    }

    /// Joins an addition to the layer that makes the later of its inputs, if that is possible.
    fn add(&mut self, inputs: &[Value], output: Value) -> bool {
        let maker = |value: Value| self.layers.iter().position(|it| it.output == value);
        let makers = [maker(inputs[0]), maker(inputs[1])];
        let later = usize::from(makers[1] > makers[0]);
        let single = self.uses[inputs[later]] == 1;
        let Some(layer) = makers[later].filter(|_| single && inputs[0] != inputs[1]) else {
            return false;
        };
        let layer = &mut self.layers[layer];
        let takes = matches!(layer.work, Work::Convolution(..) | Work::Depthwise(..));
        if !takes || layer.addend.is_some() {
            return false;
        }
        layer.addend = Some(inputs[1 - later]);
        layer.output = output;
        self.names.push(output);
        true
    }
}

/// Number of a tensor of the graph.
fn number(source: Source) -> usize {
    match source {
        Source::Input => 0,
        Source::Node(node) => node + 1,
    }
}
