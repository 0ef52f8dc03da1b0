//! The layers a segment is made of, with batch norm already folded into the convolutions.

use split_core::{Shape, ShapeError};

/// One layer, ready for inference.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// Square two-dimensional convolution with a bias per output channel.
    Convolution {
        /// Input channels, I.
        inputs: usize,
        /// Output channels, O.
        outputs: usize,
        /// Side of the kernel, k.
        kernel: usize,
        /// Step between neighbouring outputs, in both directions.
        stride: usize,
        /// Zeros added on each of the four sides.
        padding: usize,
        /// Weights, `[O, I, k, k]`.
        weight: Vec<f32>,
        /// Bias, `[O]`.
        bias: Vec<f32>,
        /// Whether negative results become zero.
        relu: bool,
    },
    /// Largest value of every window, channel by channel, without padding.
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// Step between neighbouring windows.
        stride: usize,
    },
    /// Fully connected layer. Takes `[C, H, W]` as it is (C·H·W must be `inputs`) and gives `[O, 1, 1]`.
    Linear {
        /// Input values, I.
        inputs: usize,
        /// Output values, O.
        outputs: usize,
        /// Weights, `[O, I]`.
        weight: Vec<f32>,
        /// Bias, `[O]`.
        bias: Vec<f32>,
        /// Whether negative results become zero.
        relu: bool,
    },
}

/// A layer that cannot follow the tensor before it, or that contradicts itself.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The layer is made for another number of inputs.
    #[error("the layer takes {expected} inputs, the tensor before it is {got}")]
    Input {
        /// Channels (convolution) or values (linear) the layer takes.
        expected: usize,
        /// The tensor before it.
        got: Shape,
    },
    /// A parameter has the wrong length.
    #[error("the {parameter} holds {got} values, the layer needs {expected}")]
    Parameter {
        /// `weight` or `bias`.
        parameter: &'static str,
        /// Values needed.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// The window is larger than the padded input, or kernel or stride is zero.
    #[error("a window of {kernel} with stride {stride} does not fit the padded input {height}×{width}")]
    Window {
        /// Side of the window.
        kernel: usize,
        /// Step of the window.
        stride: usize,
        /// Rows of the padded input.
        height: usize,
        /// Columns of the padded input.
        width: usize,
    },
    /// A weight is not finite, or too large for 16 bits.
    #[error("the {parameter} holds {value}, which 16-bit floats cannot")]
    Value {
        /// `weight` or `bias`.
        parameter: &'static str,
        /// The first offending value.
        value: f32,
    },
    /// The result would be empty or too large.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// Largest finite 16-bit float.
const MAX_F16: f32 = 65504.0;

impl Layer {
    /// Shape that the layer makes of `input`.
    pub fn output(&self, input: Shape) -> Result<Shape, LayerError> {
        match *self {
            Self::Convolution {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
                ..
            } => {
                if inputs != input.channels() {
                    return Err(LayerError::Input {
                        expected: inputs,
                        got: input,
                    });
                }
                let [height, width] = slide(input, kernel, stride, padding)?;
                Ok(Shape::new(outputs, height, width)?)
            }
            Self::MaxPool { kernel, stride } => {
                let [height, width] = slide(input, kernel, stride, 0)?;
                Ok(Shape::new(input.channels(), height, width)?)
            }
            Self::Linear { inputs, outputs, .. } => {
                if inputs != input.values() {
                    return Err(LayerError::Input {
                        expected: inputs,
                        got: input,
                    });
                }
                Ok(Shape::new(outputs, 1, 1)?)
            }
        }
    }

    /// Multiply–accumulate operations for one image: the convolutions' and linear layers' products, without pools and biases.
    pub fn macs(&self, input: Shape) -> Result<u64, LayerError> {
        let output = self.output(input)?;
        let products = match *self {
            Self::Convolution { inputs, kernel, .. } => inputs * kernel * kernel,
            Self::MaxPool { .. } => 0,
            Self::Linear { inputs, .. } => inputs,
        };
        Ok(output.values() as u64 * products as u64)
    }

    /// Checks the parameters' lengths and values.
    pub(crate) fn check_parameters(&self) -> Result<(), LayerError> {
        let (weight, bias, weights, outputs) = match self {
            Self::MaxPool { .. } => return Ok(()),
            Self::Convolution {
                inputs,
                outputs,
                kernel,
                weight,
                bias,
                ..
            } => (weight, bias, outputs * inputs * kernel * kernel, *outputs),
            Self::Linear {
                inputs,
                outputs,
                weight,
                bias,
                ..
            } => (weight, bias, outputs * inputs, *outputs),
        };
        check_values("weight", weight, weights)?;
        check_values("bias", bias, outputs)
    }
}

/// Rows and columns left when a window slides over the padded input.
fn slide(input: Shape, kernel: usize, stride: usize, padding: usize) -> Result<[usize; 2], LayerError> {
    let [height, width] = [input.height() + 2 * padding, input.width() + 2 * padding];
    if kernel == 0 || stride == 0 || kernel > height.min(width) {
        return Err(LayerError::Window {
            kernel,
            stride,
            height,
            width,
        });
    }
    Ok([(height - kernel) / stride + 1, (width - kernel) / stride + 1])
}

fn check_values(parameter: &'static str, values: &[f32], expected: usize) -> Result<(), LayerError> {
    if values.len() != expected {
        return Err(LayerError::Parameter {
            parameter,
            expected,
            got: values.len(),
        });
    }
    match values.iter().find(|it| !it.is_finite() || it.abs() > MAX_F16) {
        Some(&value) => Err(LayerError::Value { parameter, value }),
        None => Ok(()),
    }
}
