//! Reads a network from segments as `write_segment` writes them, without tract.
//!
//! In a browser, tract takes several times as long for a head as everything else in loading it.

mod tensor;
mod text;

use std::collections::HashMap;

use split_core::Shape;
use split_graph::{Activation, Convolution, Graph, GraphError, Node, Op, Padding, Source, Window};

pub use tensor::read_tensor;
use text::{Argument, Expression, assignments};

/// The factor of a hard-sigmoid, as its nearest 32-bit float.
pub const SIXTH: f32 = 1.0 / 6.0;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    /// A tensor.
    Whole(Source),
    /// A tensor times a sixth: a hard-sigmoid of it begins so.
    Sixth(Source),
    /// The same plus a half.
    Moved(Source),
    /// The same, and not negative.
    Positive(Source),
    /// Weights, by the name of their file.
    Weights(&'a str),
}

/// The network that segments make, one after another.
#[derive(Debug)]
pub struct Reader {
    input: Shape,
    nodes: Vec<Node>,
    /// Of each node's output.
    shapes: Vec<Shape>,
}

impl Reader {
    /// No segments yet.
    pub fn new(input: Shape) -> Self {
        Self {
            input,
            nodes: Vec::new(),
            shapes: Vec::new(),
        }
    }

    /// Reads the next segment from its files. `None` if it holds anything that `write_segment` does not write, or does not continue what was read.
    pub fn append(&mut self, number: usize, files: &HashMap<String, &[u8]>) -> Option<()> {
        let first = self.nodes.len();
        let text = std::str::from_utf8(files.get("graph.nnef")?).ok()?;
        let segment = Segment {
            input: self.last(),
            network: self,
            number,
            files,
            values: HashMap::new(),
        };
        let end = segment.read(assignments(text)?)?;
        (self.nodes.len() > first && end == self.last()).then_some(())
    }

    /// The network that was read.
    pub fn finish(self) -> Result<Graph, GraphError> {
        Graph::new(self.input, self.nodes)
    }

    fn last(&self) -> Source {
        self.nodes.len().checked_sub(1).map_or(Source::Input, Source::Node)
    }

    fn shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => self.input,
            Source::Node(node) => self.shapes[node],
        }
    }
}

/// A segment that is being read.
struct Segment<'a> {
    network: &'a mut Reader,
    number: usize,
    input: Source,
    files: &'a HashMap<String, &'a [u8]>,
    values: HashMap<&'a str, Value<'a>>,
}

impl<'a> Segment<'a> {
    /// Where `y` comes from.
    fn read(mut self, assignments: Vec<(&'a str, Expression<'a>)>) -> Option<Source> {
        for (name, expression) in assignments {
            let value = match expression {
                Expression::Name(it) => *self.values.get(it)?,
                Expression::Call(operator, arguments) => self.call(name, operator, arguments)?,
                _ => return None,
            };
            self.values.insert(name, value);
        }
        self.source(&Expression::Name("y"))
    }

    fn call(&mut self, name: &str, operator: &str, all: Vec<Argument<'a>>) -> Option<Value<'a>> {
        let op = match operator {
            "tract_core_external" => return self.external(&all),
            "variable" => {
                let ([], [label, _]) = arguments(&all, ["label", "shape"])?;
                return Some(Value::Weights(text(label?)?));
            }
            "add" | "mul" | "max" | "min" => return self.binary(name, operator, &all),
            "concat" => {
                let ([Expression::List(values)], [axis]) = arguments(&all, ["axis"])? else {
                    return None;
                };
                (numbers(axis?)? == [1]).then_some(())?;
                let sources = values.iter().map(|it| self.source(it)).collect::<Option<_>>()?;
                return self.push(name, Op::Concat, sources);
            }
            "conv" => self.convolution(&all)?,
            "max_pool" => {
                let ([_], [size, stride, padding, border]) = arguments(&all, ["size", "stride", "padding", "border"])?;
                (text(border?)? == "ignore").then_some(())?;
                Op::MaxPool(window(size?, stride?, padding?)?)
            }
            "box" => self.mean(&all)?,
            "reshape" => {
                let ([x], [shape, start, count]) = arguments(&all, ["shape", "axis_start", "axis_count"])?;
                let whole = [self.network.shape(self.source(x)?).values(), 1, 1];
                (numbers(shape?)? == whole && numbers(start?)? == [1] && numbers(count?)? == [3]).then_some(())?;
                Op::Flatten
            }
            "sigmoid" => Op::Activation(Activation::Sigmoid),
            "tract_core_silu" => Op::Activation(Activation::Silu),
            "tract_core_hard_swish" => Op::Activation(Activation::HardSwish),
            _ => return None,
        };
        let source = self.source(&all.first()?.1)?;
        self.push(name, op, vec![source])
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<Source>) -> Option<Value<'a>> {
        let shapes: Vec<Shape> = inputs.iter().map(|it| self.network.shape(*it)).collect();
        self.network.shapes.push(op.output(&shapes).ok()?);
        self.network.nodes.push(Node {
            name: format!("segment{}.{name}", self.number),
            op,
            inputs,
        });
        Some(Value::Whole(self.network.last()))
    }

    /// The segment's input, if it has the shape of what comes before.
    fn external(&self, all: &[Argument]) -> Option<Value<'a>> {
        let ([], [Some(Expression::List(shape)), Some(Expression::Text("F32"))]) =
            arguments(all, ["shape", "datum_type"])?
        else {
            return None;
        };
        let expected: [usize; 3] = self.network.shape(self.input).into();
        let [_, c, h, w] = &shape[..] else { return None };
        let got = [c, h, w].map(numbers);
        (got == expected.map(|it| Some([it]))).then_some(Value::Whole(self.input))
    }

    /// The tensor that an argument is.
    fn source(&self, expression: &Expression) -> Option<Source> {
        match self.value(expression)? {
            Value::Whole(source) => Some(source),
            _ => None,
        }
    }

    fn value(&self, expression: &Expression) -> Option<Value<'a>> {
        match expression {
            Expression::Name(it) => self.values.get(it).copied(),
            _ => None,
        }
    }

    /// Additions, gates, and the parts of activations.
    fn binary(&mut self, name: &str, operator: &str, all: &[Argument]) -> Option<Value<'a>> {
        let ([first, second], []) = arguments(all, [])?;
        let value = self.value(first)?;
        let &Expression::Number(constant) = second else {
            let op = match operator {
                "add" => Op::Add,
                "mul" => Op::Gate,
                _ => return None,
            };
            let sources = vec![self.source(first)?, self.source(second)?];
            return self.push(name, op, sources);
        };
        let is = |of: f32| constant == of;
        match (value, operator) {
            (Value::Whole(source), "max") if is(0.0) => self.push(name, Op::Activation(Activation::Relu), vec![source]),
            (Value::Whole(source), "min") if is(6.0) && source == self.network.last() => {
                let op = &mut self.network.nodes.last_mut()?.op;
                (*op == Op::Activation(Activation::Relu)).then_some(())?;
                *op = Op::Activation(Activation::Relu6);
                // The ReLU by itself has no name any more.
                self.values.retain(|_, it| *it != value);
                Some(value)
            }
            (Value::Whole(source), "mul") if is(SIXTH) => Some(Value::Sixth(source)),
            (Value::Sixth(source), "add") if is(0.5) => Some(Value::Moved(source)),
            (Value::Moved(source), "max") if is(0.0) => Some(Value::Positive(source)),
            (Value::Positive(source), "min") if is(1.0) => {
                self.push(name, Op::Activation(Activation::HardSigmoid), vec![source])
            }
            _ => None,
        }
    }

    fn convolution(&self, all: &[Argument]) -> Option<Op> {
        let ([_, cast, bias], [stride, padding, groups]) = arguments(all, ["stride", "padding", "groups"])?;
        let Expression::Call("tract_core_cast", cast) = cast else {
            return None;
        };
        let ([weight], [to]) = arguments(cast, ["to"])?;
        (text(to?)? == "F32").then_some(())?;
        let ([outputs, inputs, rows, columns], weight) = self.weights(weight)?;
        let ([1, _], bias) = self.weights(bias)? else {
            return None;
        };
        let [groups] = groups.map_or(Some([1]), numbers)?;
        Some(Op::Convolution(Convolution {
            inputs: inputs.checked_mul(groups)?,
            outputs,
            groups,
            window: Window {
                kernel: [rows, columns],
                stride: numbers(stride?)?,
                padding: sides(numbers(padding?)?),
            },
            weight,
            bias: Some(bias),
        }))
    }

    /// Shape and values of weights.
    fn weights<const N: usize>(&self, expression: &Expression) -> Option<([usize; N], Vec<f32>)> {
        let Value::Weights(file) = self.value(expression)? else {
            return None;
        };
        let (shape, values) = read_tensor(self.files.get(&format!("{file}.dat"))?)?;
        Some((shape.try_into().ok()?, values))
    }

    fn mean(&self, all: &[Argument]) -> Option<Op> {
        let ([x], [size, stride, padding, border, normalize]) =
            arguments(all, ["size", "stride", "padding", "border", "normalize"])?;
        let (window, shape) = (window(size?, stride?, padding?)?, self.network.shape(self.source(x)?));
        let count_include_pad = match text(border?)? {
            "constant" => true,
            "ignore" => false,
            _ => return None,
        };
        (*normalize? == Expression::Name("true")).then_some(())?;
        let whole = window.kernel == [shape.height(), shape.width()] && window.padding == Padding::default();
        Some(match whole {
            true => Op::GlobalAveragePool,
            false => Op::AveragePool {
                window,
                count_include_pad,
            },
        })
    }
}

/// The arguments without a name, and those of these names. `None` if there are others.
fn arguments<'e, 'a, const P: usize, const N: usize>(
    all: &'e [Argument<'a>],
    names: [&str; N],
) -> Option<([&'e Expression<'a>; P], [Option<&'e Expression<'a>>; N])> {
    let bare: Vec<_> = all.iter().filter(|it| it.0.is_none()).map(|it| &it.1).collect();
    let named = names.map(|name| all.iter().find(|it| it.0 == Some(name)).map(|it| &it.1));
    let known = bare.len() + named.iter().flatten().count() == all.len();
    Some((bare.try_into().ok()?, named)).filter(|_| known)
}

fn text<'a>(expression: &Expression<'a>) -> Option<&'a str> {
    match expression {
        Expression::Text(it) => Some(it),
        _ => None,
    }
}

/// A whole number, those of a list, or those of a list of pairs.
fn numbers<const N: usize>(expression: &Expression) -> Option<[usize; N]> {
    fn collect(expression: &Expression, into: &mut Vec<usize>) -> Option<()> {
        match expression {
            Expression::Number(it) if it.fract() == 0.0 => into.push(*it as usize),
            Expression::List(all) => all.iter().try_for_each(|it| collect(it, into))?,
            _ => return None,
        }
        Some(())
    }
    let mut all = Vec::new();
    collect(expression, &mut all)?;
    all.try_into().ok()
}

/// How the window of a pool moves.
fn window(size: &Expression, stride: &Expression, padding: &Expression) -> Option<Window> {
    let ([1, 1, rows, columns], [1, 1, down, right]) = (numbers(size)?, numbers(stride)?) else {
        return None;
    };
    let [0, 0, 0, 0, padding @ ..] = numbers::<8>(padding)? else {
        return None;
    };
    Some(Window {
        kernel: [rows, columns],
        stride: [down, right],
        padding: sides(padding),
    })
}

fn sides([top, bottom, left, right]: [usize; 4]) -> Padding {
    Padding {
        top,
        left,
        bottom,
        right,
    }
}

#[cfg(test)]
mod tests {
    use split_graph::sample;

    use super::*;
    use crate::{
        archive::{files, gunzip},
        write_segment,
    };

    /// What is written in place of each word of a text.
    const WORDS: [&str; 9] = [
        "",
        "0",
        "7",
        "0.5",
        "4294967295",
        "99999999999999999999",
        "x",
        "y",
        "\"F32\"",
    ];

    /// Reads a segment, and whatever else its files hold.
    fn read(input: Shape, files: &HashMap<String, &[u8]>) -> Option<Graph> {
        let mut reader = Reader::new(input);
        reader.append(0, files)?;
        reader.finish().ok()
    }

    /// Names, numbers, and each mark and blank by itself.
    fn words(text: &str) -> Vec<&str> {
        let is_mark = |it: char| !it.is_ascii_alphanumeric() && !"_.".contains(it);
        text.split_inclusive(is_mark)
            .flat_map(|it| {
                let (word, mark) = it.split_at(it.trim_end_matches(is_mark).len());
                [word, mark]
            })
            .filter(|it| !it.is_empty())
            .collect()
    }

    #[test]
    fn changed_texts_are_a_network_or_are_refused() {
        for seed in 0..6 {
            let graph = sample::network(seed).unwrap();
            let tar = gunzip(&write_segment(&graph).unwrap().bytes).unwrap();
            let mut files = files(&tar).unwrap();
            assert!(read(graph.input(), &files).is_some(), "network {seed}");
            let text = std::str::from_utf8(files["graph.nnef"]).unwrap();
            let words = words(text);
            assert_eq!(words.concat(), text);
            for at in 0..words.len() {
                for word in WORDS {
                    let changed = [&words[..at], &[word], &words[at + 1..]].concat().concat();
                    let mut files = files.clone();
                    files.insert("graph.nnef".into(), changed.as_bytes());
                    // Whatever it is: it is not a panic.
                    let _ = read(graph.input(), &files);
                }
            }
            files.retain(|name, _| name.ends_with(".nnef"));
            let weightless = words.iter().all(|it| *it != "variable");
            assert_eq!(read(graph.input(), &files).is_some(), weightless, "network {seed}");
        }
    }
}
