//! Networks by name, free of any training framework: which layers there are, and what a pruned one is made of.
//!
//! Every network is a chain: 3×3 convolutions without bias (stride 1, padding 1), each followed by batch norm and ReLU, with
//! 2×2 max pools between, and one linear classifier on the flattened last features. A variant differs from its parent only in
//! its *widths*, the number of filters of each convolution.

use serde::{Deserialize, Serialize};
use split_core::Preparation;

/// Side of every convolution's kernel.
pub const KERNEL: usize = 3;
/// Added to the variance in batch norm; PyTorch's default, so that its checkpoints mean the same here.
pub const BATCH_NORM_EPSILON: f32 = 1e-5;

/// What stands at one place of the chain, before the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Convolution(usize),
    Pool,
}
use Stage::{Convolution as C, Pool as P};

/// VGG-16 of Simonyan and Zisserman (2015), configuration D.
const VGG16: &[Stage] = &[
    C(64),
    C(64),
    P,
    C(128),
    C(128),
    P,
    C(256),
    C(256),
    C(256),
    P,
    C(512),
    C(512),
    C(512),
    P,
    C(512),
    C(512),
    C(512),
    P,
];
/// VGG-11, configuration A.
const VGG11: &[Stage] = &[
    C(64),
    P,
    C(128),
    P,
    C(256),
    C(256),
    P,
    C(512),
    C(512),
    P,
    C(512),
    C(512),
    P,
];
/// AlexNet's five convolutions with the small kernels that 32×32 images call for.
const ALEXNET: &[Stage] = &[C(64), P, C(192), P, C(384), C(256), C(256), P];

/// A network that cannot be built as asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No network of that name.
    #[error("there is no architecture `{0}`; known are vgg16, vgg11 and alexnet")]
    UnknownArchitecture(String),
    /// One width per convolution is needed.
    #[error("{architecture} has {expected} convolutions, {got} widths were given")]
    Widths {
        /// The architecture's name.
        architecture: String,
        /// Convolutions it has.
        expected: usize,
        /// Widths given.
        got: usize,
    },
    /// A layer without filters, a network without classes, or a picture without pixels.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// The pools leave nothing of the input.
    #[error("an input of {height}×{width} is too small for {pools} pools; it needs at least {needed} pixels each way")]
    InputTooSmall {
        /// Rows of the input.
        height: usize,
        /// Columns of the input.
        width: usize,
        /// Pools of the architecture.
        pools: usize,
        /// Least side.
        needed: usize,
    },
    /// No such split point.
    #[error("there is no split point `{split}`; {architecture} has {known}")]
    UnknownSplit {
        /// What was asked for.
        split: String,
        /// The architecture's name.
        architecture: String,
        /// Names it has.
        known: String,
    },
}

/// Everything about a network but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// `vgg16`, `vgg11` or `alexnet`.
    pub architecture: String,
    /// Filters of each convolution, in order.
    pub widths: Vec<usize>,
    /// Input, `[C, H, W]`.
    pub input: [usize; 3],
    /// Class names, in the order of the outputs.
    pub classes: Vec<String>,
    /// Subtracted from each channel of a picture in `[0, 1]`.
    pub mean: [f32; 3],
    /// Divides each channel thereafter.
    pub std: [f32; 3],
    /// How a picture of any size becomes the input.
    #[serde(default)]
    pub preparation: Preparation,
    /// The feature quantiser this network was trained with, if it was pruned for one split point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantizer: Option<FeatureQuantizer>,
}

/// Per-channel uniform quantiser in front of a tail: code `q` in `0..2^bits` stands for `q · step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureQuantizer {
    /// Split point whose features are quantised, such as `pool3`.
    pub split: String,
    /// Bits of a code, 1 to 8.
    pub bits: u32,
    /// Width of a code, one per channel; positive.
    pub steps: Vec<f32>,
}

/// One layer of a network, with its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerSpec {
    /// 3×3 convolution without bias, batch norm, ReLU.
    Convolution {
        /// Position of the convolution in `features.*` of the checkpoint; its batch norm is the next.
        position: usize,
        /// Input channels.
        inputs: usize,
        /// Filters.
        outputs: usize,
        /// Rows and columns of input and output.
        size: [usize; 2],
    },
    /// 2×2 max pool with stride 2, an odd last row or column left out.
    Pool {
        /// Split point after it, `pool1` the first.
        split: String,
        /// What it gives, `[C, H, W]`.
        output: [usize; 3],
    },
    /// The classifier on the flattened `[C, H, W]`, giving one logit a class.
    Linear {
        /// Input values.
        inputs: usize,
        /// Classes.
        outputs: usize,
    },
}

/// The layers before the classifier of a known architecture.
fn stages(architecture: &str) -> Result<&'static [Stage], NetworkError> {
    match architecture {
        "vgg16" => Ok(VGG16),
        "vgg11" => Ok(VGG11),
        "alexnet" => Ok(ALEXNET),
        other => Err(NetworkError::UnknownArchitecture(other.to_owned())),
    }
}

/// Widths of the unpruned network. Fails for an unknown name.
pub fn full_widths(architecture: &str) -> Result<Vec<usize>, NetworkError> {
    Ok(stages(architecture)?
        .iter()
        .filter_map(|stage| if let C(width) = stage { Some(*width) } else { None })
        .collect())
}

/// The architecture that has so many convolutions; no two have the same number.
pub fn architecture_of(convolutions: usize) -> Option<&'static str> {
    let known = ["vgg16", "vgg11", "alexnet"];
    known
        .into_iter()
        .find(|name| full_widths(name).is_ok_and(|it| it.len() == convolutions))
}

impl Description {
    /// The unpruned network for pictures of `input` (`[C, H, W]`) and the given classes, with CIFAR-10's normalisation.
    pub fn unpruned(architecture: &str, input: [usize; 3], classes: Vec<String>) -> Result<Self, NetworkError> {
        let description = Self {
            architecture: architecture.to_owned(),
            widths: full_widths(architecture)?,
            input,
            classes,
            mean: [0.4914, 0.4822, 0.4465],
            std: [0.2023, 0.1994, 0.2010],
            preparation: Preparation::default(),
            quantizer: None,
        };
        description.layers()?;
        Ok(description)
    }

    /// The layers in order, sizes worked out. Fails when widths, input or classes do not fit the architecture.
    pub fn layers(&self) -> Result<Vec<LayerSpec>, NetworkError> {
        let stages = stages(&self.architecture)?;
        self.check(stages)?;
        let [mut channels, mut height, mut width] = self.input;
        let (mut position, mut pools, mut widths) = (0, 0, self.widths.iter());
        let mut layers = Vec::new();
        for stage in stages {
            match (stage, widths.as_slice().first()) {
                (C(_), Some(&outputs)) => {
                    layers.push(LayerSpec::Convolution {
                        position,
                        inputs: channels,
                        outputs,
                        size: [height, width],
                    });
                    channels = outputs;
                    position += 3;
                    widths.next();
                }
                _ => {
                    (height, width, pools, position) = (height / 2, width / 2, pools + 1, position + 1);
                    layers.push(LayerSpec::Pool {
                        split: format!("pool{pools}"),
                        output: [channels, height, width],
                    });
                }
            }
        }
        layers.push(LayerSpec::Linear {
            inputs: channels * height * width,
            outputs: self.classes.len(),
        });
        Ok(layers)
    }

    fn check(&self, stages: &[Stage]) -> Result<(), NetworkError> {
        let convolutions = stages.iter().filter(|stage| **stage != P).count();
        if self.widths.len() != convolutions {
            return Err(NetworkError::Widths {
                architecture: self.architecture.clone(),
                expected: convolutions,
                got: self.widths.len(),
            });
        }
        let [channels, height, width] = self.input;
        for (what, zero) in [
            ("a width", self.widths.contains(&0)),
            ("the number of classes", self.classes.is_empty()),
            ("the number of input channels", channels == 0),
        ] {
            if zero {
                return Err(NetworkError::Zero(what));
            }
        }
        let pools = stages.len() - convolutions;
        let needed = 1 << pools;
        if height < needed || width < needed {
            return Err(NetworkError::InputTooSmall {
                height,
                width,
                pools,
                needed,
            });
        }
        Ok(())
    }

    /// Names of the split points inside the network, first to last.
    pub fn splits(&self) -> Result<Vec<String>, NetworkError> {
        let names = self.layers()?.into_iter().filter_map(|layer| match layer {
            LayerSpec::Pool { split, .. } => Some(split),
            _ => None,
        });
        Ok(names.collect())
    }

    /// Number (from 0) of the convolution just before a split point. Fails with the known names when there is no such point.
    pub fn convolution_before(&self, split: &str) -> Result<usize, NetworkError> {
        let mut convolutions = 0_usize;
        for layer in self.layers()? {
            match layer {
                LayerSpec::Convolution { .. } => convolutions += 1,
                LayerSpec::Pool { split: name, .. } if name == split && convolutions > 0 => return Ok(convolutions - 1),
                _ => {}
            }
        }
        Err(NetworkError::UnknownSplit {
            split: split.to_owned(),
            architecture: self.architecture.clone(),
            known: self.splits()?.join(", "),
        })
    }

    /// Multiply–accumulates of each layer with weights, for one picture: the convolutions in order, then the classifier.
    pub fn macs(&self) -> Result<Vec<u64>, NetworkError> {
        let counts = self.layers()?.into_iter().filter_map(|layer| match layer {
            LayerSpec::Convolution {
                inputs,
                outputs,
                size: [height, width],
                ..
            } => Some((inputs * outputs * KERNEL * KERNEL * height * width) as u64),
            LayerSpec::Linear { inputs, outputs } => Some((inputs * outputs) as u64),
            LayerSpec::Pool { .. } => None,
        });
        Ok(counts.collect())
    }
}

#[cfg(test)]
impl Description {
    /// A small network for tests: AlexNet's layers with few filters, 16×16 pictures of three classes, 2×2 features at the end.
    pub fn toy(widths: [usize; 5]) -> Self {
        let classes = ["cat", "dog", "owl"].map(String::from).into();
        Self {
            widths: widths.into(),
            ..Self::unpruned("alexnet", [3, 16, 16], classes).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    #[test]
    fn vgg16_has_the_papers_work_and_pytorchs_positions() {
        let network = Description::unpruned("vgg16", [3, 32, 32], classes(10)).unwrap();
        assert_eq!(network.macs().unwrap().iter().sum::<u64>(), 313_201_664);
        let positions = network.layers().unwrap().into_iter().filter_map(|layer| match layer {
            LayerSpec::Convolution { position, .. } => Some(position),
            _ => None,
        });
        assert_eq!(
            positions.collect::<Vec<_>>(),
            [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
        );
        assert_eq!(network.splits().unwrap(), ["pool1", "pool2", "pool3", "pool4", "pool5"]);
        assert_eq!(network.convolution_before("pool3").unwrap(), 6);
    }

    #[test]
    fn other_sizes_flatten_what_is_left() {
        let network = Description::unpruned("alexnet", [3, 40, 56], classes(7)).unwrap();
        assert_eq!(
            network.layers().unwrap().last(),
            Some(&LayerSpec::Linear {
                inputs: 256 * 5 * 7,
                outputs: 7
            })
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |network: Result<Description, NetworkError>, words: &str| {
            let message = network.unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        check(Description::unpruned("resnet", [3, 32, 32], classes(10)), "`resnet`");
        check(Description::unpruned("vgg16", [3, 16, 64], classes(10)), "16×64");
        check(Description::unpruned("vgg11", [3, 32, 32], vec![]), "classes");
        let network = Description::unpruned("vgg11", [3, 32, 32], classes(2)).unwrap();
        let error = network.convolution_before("pool9").unwrap_err().to_string();
        assert!(error.contains("pool1, pool2, pool3, pool4, pool5"), "{error}");
    }
}
