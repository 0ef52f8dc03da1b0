//! What a node computes, with its weights.

use std::{fmt, iter};

use serde::{Deserialize, Serialize};
use split_core::Shape;

use crate::graph::Fault;

/// The operation of a node.
///
/// serde leaves out the weights: what it writes is the *description* of an operation. [`fill`](crate::fill) puts weights back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Two-dimensional convolution; zeros around the input.
    Convolution(Convolution),
    /// Batch norm with its running moments.
    BatchNorm(BatchNorm),
    /// An activation, value by value.
    Activation(Activation),
    /// The sum of two tensors of one shape.
    Add,
    /// Features `[C, H, W]`, the first input, times a factor per channel `[C, 1, 1]`, the second.
    Gate,
    /// The channels of all inputs, one after another.
    Concat,
    /// The largest value in every window. What lies outside the input does not count.
    MaxPool(Window),
    /// The mean of every window.
    AveragePool {
        /// How the window moves.
        window: Window,
        /// Whether zeros outside the input count.
        count_include_pad: bool,
    },
    /// The mean of every channel: `[C, H, W]` to `[C, 1, 1]`.
    GlobalAveragePool,
    /// All values as a vector: `[C, H, W]` to `[C·H·W, 1, 1]`.
    Flatten,
    /// Fully connected layer on a vector `[I, 1, 1]`.
    Linear(Linear),
}

/// Value-by-value functions, as PyTorch defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x · min(max(x + 3, 0), 6) / 6.
    HardSwish,
    /// min(max(x + 3, 0), 6) / 6.
    HardSigmoid,
    /// x · sigmoid(x).
    Silu,
    /// 1 / (1 + exp(−x)).
    Sigmoid,
}

impl Activation {
    /// The function's value.
    pub fn of(self, x: f32) -> f32 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }

    /// Whether no result is negative.
    pub fn is_non_negative(self) -> bool {
        !matches!(self, Self::HardSwish | Self::Silu)
    }
}

/// Values added around `[H, W]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns before.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns behind.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    pub fn all(side: usize) -> Self {
        Self {
            top: side,
            left: side,
            bottom: side,
            right: side,
        }
    }

    /// TensorFlow's `SAME`: as many outputs as the stride steps into the input, the odd row or column below and behind.
    pub fn same(input: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> Self {
        let total = |axis: usize| {
            let outputs = input[axis].div_ceil(stride[axis].max(1));
            (outputs.saturating_sub(1) * stride[axis] + kernel[axis]).saturating_sub(input[axis])
        };
        let [rows, columns] = [total(0), total(1)];
        Self {
            top: rows / 2,
            left: columns / 2,
            bottom: rows - rows / 2,
            right: columns - columns / 2,
        }
    }
}

/// How a kernel moves over its input. Pairs are `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Size.
    pub kernel: [usize; 2],
    /// Step between neighbouring outputs.
    pub stride: [usize; 2],
    /// What is added around the input.
    pub padding: Padding,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [[rows, columns], [down, across]] = [self.kernel, self.stride];
        write!(f, "{rows}×{columns} with stride {down}×{across}")?;
        let Padding {
            top,
            left,
            bottom,
            right,
        } = self.padding;
        match [top, left, bottom, right] {
            [0, 0, 0, 0] => Ok(()),
            _ => write!(
                f,
                " and padding {top} above, {bottom} below, {left} left and {right} right"
            ),
        }
    }
}

impl Window {
    /// A square kernel with the same stride both ways and the same padding on all sides.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: Padding::all(padding),
        }
    }

    /// A kernel of 1×1 that stays in place.
    pub fn point() -> Self {
        Self::square(1, 1, 0)
    }

    /// Rows and columns of the output.
    pub(crate) fn slide(&self, input: Shape) -> Result<[usize; 2], Fault> {
        let Padding {
            top,
            left,
            bottom,
            right,
        } = self.padding;
        let side = |input: usize, before: usize, behind: usize, axis: usize| {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            let padded = input.checked_add(before)?.checked_add(behind)?;
            // A window that lies outside the input altogether would have nothing to look at.
            let inside = stride > 0 && before < kernel && behind < kernel && kernel <= padded;
            inside.then(|| (padded - kernel) / stride + 1)
        };
        let sides = [
            side(input.height(), top, bottom, 0),
            side(input.width(), left, right, 1),
        ];
        match sides {
            [Some(height), Some(width)] => Ok([height, width]),
            _ => Err(Fault::Window { window: *self, input }),
        }
    }
}

/// A convolution's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Convolution {
    /// Input channels, I.
    pub inputs: usize,
    /// Output channels, O.
    pub outputs: usize,
    /// Output channel `o` sees only the inputs of its group, `o · groups / O`. Divides I and O; I for a depthwise convolution.
    pub groups: usize,
    /// How the kernel moves.
    pub window: Window,
    /// `[O, I / groups, rows, columns]`.
    #[serde(skip)]
    pub weight: Vec<f32>,
    /// `[O]`.
    #[serde(with = "presence")]
    pub bias: Option<Vec<f32>>,
}

impl Convolution {
    /// Values of the kernel of one output channel.
    pub fn kernel_values(&self) -> usize {
        let [rows, columns] = self.window.kernel;
        self.inputs / self.groups.max(1) * rows * columns
    }

    /// Whether every output channel sees one input channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.inputs
    }
}

/// Batch norm in evaluation mode: `(x − mean) / √(variance + epsilon) · scale + shift`, channel by channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Channels, C.
    pub channels: usize,
    /// Added to the variance. Positive.
    pub epsilon: f32,
    /// `[C]`.
    #[serde(skip)]
    pub scale: Vec<f32>,
    /// `[C]`.
    #[serde(skip)]
    pub shift: Vec<f32>,
    /// Running mean, `[C]`.
    #[serde(skip)]
    pub mean: Vec<f32>,
    /// Running variance, `[C]`. Not negative.
    #[serde(skip)]
    pub variance: Vec<f32>,
}

impl BatchNorm {
    /// What multiplies channel `c`, and what is added then.
    pub fn factor(&self, c: usize) -> (f32, f32) {
        let factor = self.scale[c] / (self.variance[c] + self.epsilon).sqrt();
        (factor, self.shift[c] - self.mean[c] * factor)
    }
}

/// A fully connected layer's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Input values, I.
    pub inputs: usize,
    /// Output values, O.
    pub outputs: usize,
    /// `[O, I]`.
    #[serde(skip)]
    pub weight: Vec<f32>,
    /// `[O]`.
    #[serde(with = "presence")]
    pub bias: Option<Vec<f32>>,
}

/// An optional tensor's description: whether it is there.
mod presence {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(it: &Option<Vec<f32>>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(it.is_some())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f32>>, D::Error> {
        Ok(bool::deserialize(deserializer)?.then(Vec::new))
    }
}

/// One tensor of an operation: PyTorch's name for it, its shape, and its values.
#[derive(Debug)]
pub struct Tensor<V> {
    /// `weight`, `bias`, `running_mean` or `running_var`.
    pub name: &'static str,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: V,
}

impl<V> Tensor<V> {
    fn new(name: &'static str, shape: &[usize], values: V) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            values,
        }
    }

    /// The number of values that the shape asks for, if it is one.
    pub fn expected(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |all, it| all.checked_mul(*it))
    }
}

macro_rules! tensors {
    ($op:expr, $($reference:tt)+) => {
        match $op {
            Op::Convolution(it) => {
                let [rows, columns] = it.window.kernel;
                let shape = [it.outputs, it.inputs / it.groups.max(1), rows, columns];
                let bias = $($reference)+ it.bias;
                let bias = bias.into_iter().map(|bias| Tensor::new("bias", &[it.outputs], bias));
                iter::once(Tensor::new("weight", &shape, $($reference)+ it.weight)).chain(bias).collect()
            }
            Op::BatchNorm(it) => vec![
                Tensor::new("weight", &[it.channels], $($reference)+ it.scale),
                Tensor::new("bias", &[it.channels], $($reference)+ it.shift),
                Tensor::new("running_mean", &[it.channels], $($reference)+ it.mean),
                Tensor::new("running_var", &[it.channels], $($reference)+ it.variance),
            ],
            Op::Linear(it) => {
                let bias = $($reference)+ it.bias;
                let bias = bias.into_iter().map(|bias| Tensor::new("bias", &[it.outputs], bias));
                let shape = [it.outputs, it.inputs];
                iter::once(Tensor::new("weight", &shape, $($reference)+ it.weight)).chain(bias).collect()
            }
            _ => Vec::new(),
        }
    };
}

impl Op {
    /// Its tensors, in a fixed order.
    pub fn tensors(&self) -> Vec<Tensor<&Vec<f32>>> {
        tensors!(self, &)
    }

    /// The same, to be changed. Lengths are checked when a graph is made.
    pub fn tensors_mut(&mut self) -> Vec<Tensor<&mut Vec<f32>>> {
        tensors!(self, &mut)
    }

    /// Whether it changes values one by one or channel by channel, in place: batch norm and activations.
    pub fn is_pointwise(&self) -> bool {
        matches!(self, Self::BatchNorm(_) | Self::Activation(_))
    }

    /// The word for it in messages and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Convolution(it) if it.is_depthwise() => "depthwise convolution",
            Self::Convolution(_) => "convolution",
            Self::BatchNorm(_) => "batch norm",
            Self::Activation(Activation::Relu) => "ReLU",
            Self::Activation(Activation::Relu6) => "ReLU6",
            Self::Activation(Activation::HardSwish) => "hard-swish",
            Self::Activation(Activation::HardSigmoid) => "hard-sigmoid",
            Self::Activation(Activation::Silu) => "SiLU",
            Self::Activation(Activation::Sigmoid) => "sigmoid",
            Self::Add => "addition",
            Self::Gate => "gate",
            Self::Concat => "concatenation",
            Self::MaxPool(_) => "max pool",
            Self::AveragePool { .. } => "average pool",
            Self::GlobalAveragePool => "global average pool",
            Self::Flatten => "flatten",
            Self::Linear(_) => "linear",
        }
    }

    /// The shape made of inputs of these shapes. Lengths of weights are not looked at.
    pub fn output(&self, inputs: &[Shape]) -> Result<Shape, Fault> {
        let arity = match self {
            Self::Add | Self::Gate => 2..=2,
            Self::Concat => 1..=usize::MAX,
            _ => 1..=1,
        };
        let &[first, ref rest @ ..] = inputs else {
            return Err(Fault::Arity { got: 0 });
        };
        if !arity.contains(&inputs.len()) {
            return Err(Fault::Arity { got: inputs.len() });
        }
        let [c, h, w] = first.into();
        let differs = |other: &Shape| Fault::Differ { first, other: *other };
        Ok(match self {
            Self::Convolution(it) => {
                let groups_fit =
                    it.groups > 0 && it.inputs.is_multiple_of(it.groups) && it.outputs.is_multiple_of(it.groups);
                if !groups_fit {
                    let (inputs, outputs, groups) = (it.inputs, it.outputs, it.groups);
                    return Err(Fault::Groups {
                        inputs,
                        outputs,
                        groups,
                    });
                }
                channels(it.inputs, first)?;
                let [height, width] = it.window.slide(first)?;
                Shape::new(it.outputs, height, width)?
            }
            Self::BatchNorm(it) => {
                channels(it.channels, first)?;
                if !(it.epsilon.is_finite() && it.epsilon > 0.0) {
                    return Err(Fault::Epsilon(it.epsilon));
                }
                first
            }
            Self::Activation(_) => first,
            Self::Add => match rest.iter().find(|it| **it != first) {
                Some(other) => return Err(differs(other)),
                None => first,
            },
            Self::Gate => match rest.iter().find(|it| <[usize; 3]>::from(**it) != [c, 1, 1]) {
                Some(other) => return Err(differs(other)),
                None => first,
            },
            Self::Concat => {
                let mut all = c;
                for other in rest {
                    if [other.height(), other.width()] != [h, w] {
                        return Err(differs(other));
                    }
                    all += other.channels();
                }
                Shape::new(all, h, w)?
            }
            Self::MaxPool(window) | Self::AveragePool { window, .. } => {
                let [height, width] = window.slide(first)?;
                Shape::new(c, height, width)?
            }
            Self::GlobalAveragePool => Shape::new(c, 1, 1)?,
            Self::Flatten => Shape::new(first.values(), 1, 1)?,
            Self::Linear(it) => {
                if [c, h, w] != [it.inputs, 1, 1] {
                    return Err(Fault::Input {
                        expected: it.inputs,
                        got: first,
                    });
                }
                Shape::new(it.outputs, 1, 1)?
            }
        })
    }

    /// Multiply–accumulates for one image whose output has this shape: products of convolutions and linear layers.
    pub(crate) fn macs(&self, output: Shape) -> u64 {
        let products = match self {
            Self::Convolution(it) => it.kernel_values(),
            Self::Linear(it) => it.inputs,
            _ => 0,
        };
        (output.values() as u64).saturating_mul(products as u64)
    }

    /// Checks lengths and values of the weights.
    pub(crate) fn check_weights(&self) -> Result<(), Fault> {
        for tensor in self.tensors() {
            let name = tensor.name;
            if tensor.expected() != Some(tensor.values.len()) {
                return Err(Fault::Length {
                    tensor: name,
                    shape: tensor.shape.clone(),
                    got: tensor.values.len(),
                });
            }
            let at = tensor.values.iter().position(|it| {
                let negative = name == "running_var" && *it < 0.0;
                negative || !it.is_finite()
            });
            if let Some(at) = at {
                let value = tensor.values[at];
                return Err(Fault::Value {
                    tensor: name,
                    at,
                    value,
                });
            }
        }
        Ok(())
    }
}

fn channels(expected: usize, got: Shape) -> Result<(), Fault> {
    if got.channels() == expected {
        Ok(())
    } else {
        Err(Fault::Input { expected, got })
    }
}
