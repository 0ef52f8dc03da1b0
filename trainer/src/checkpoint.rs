//! Checkpoints: a network's weights by PyTorch's names, in one safetensors file whose header also holds the description.
//!
//! Layout: `features.N.weight` `[O, I, 3, 3]` of each convolution; of the batch norm after it `weight`, `bias`, `running_mean`
//! and `running_var` `[O]`; `classifier.weight` `[classes, C·H·W]` and `classifier.bias`. `N` counts convolution, batch norm, ReLU
//! and pool alike.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::augment;
use crate::files;
use crate::network::{Description, KERNEL, LayerSpec, NetworkError};

/// Key of the description in the header's metadata.
const DESCRIPTION: &str = "description";

/// A checkpoint that cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read or written (a full disk, for one).
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("{path} is not a whole safetensors file: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A bare PyTorch checkpoint, which does not say what it is.
    #[error("{path} does not say which network it holds; `trainer import` makes a checkpoint of it")]
    Undescribed {
        /// The file.
        path: PathBuf,
    },
    /// A tensor that the network needs is not there.
    #[error("tensor `{name}` of {architecture} is missing; is this a checkpoint of another architecture?")]
    Missing {
        /// The tensor.
        name: String,
        /// The network expected.
        architecture: String,
    },
    /// A tensor that the network does not have.
    #[error("tensor `{name}` does not belong to {architecture}; is this a checkpoint of another architecture?")]
    Unexpected {
        /// The tensor.
        name: String,
        /// The network expected.
        architecture: String,
    },
    /// A tensor of another shape than the description's.
    #[error("tensor `{name}` has shape {got:?}, {expected:?} was expected{hint}")]
    Shape {
        /// The tensor.
        name: String,
        /// Shape by the description.
        expected: Vec<usize>,
        /// Shape found.
        got: Vec<usize>,
        /// What it may mean.
        hint: &'static str,
    },
    /// A tensor of another element type.
    #[error("tensor `{name}` holds {got}, F32 was expected")]
    Type {
        /// The tensor.
        name: String,
        /// Type found.
        got: String,
    },
    /// What a file holds is not the network expected.
    #[error("{path}: {reason}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<CheckpointError>,
    },
    /// The description contradicts itself.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Values of one tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// A network with its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    description: Description,
    tensors: BTreeMap<String, NamedTensor>,
}

/// Names and shapes of the tensors that a network needs.
pub fn tensor_shapes(description: &Description) -> Result<Vec<(String, Vec<usize>)>, NetworkError> {
    let mut shapes = Vec::new();
    for layer in description.layers()? {
        match layer {
            LayerSpec::Convolution {
                position,
                inputs,
                outputs,
                ..
            } => {
                shapes.push((
                    format!("features.{position}.weight"),
                    vec![outputs, inputs, KERNEL, KERNEL],
                ));
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    shapes.push((format!("features.{}.{part}", position + 1), vec![outputs]));
                }
            }
            LayerSpec::Linear { inputs, outputs } => {
                shapes.push(("classifier.weight".to_owned(), vec![outputs, inputs]));
                shapes.push(("classifier.bias".to_owned(), vec![outputs]));
            }
            LayerSpec::Pool { .. } => {}
        }
    }
    Ok(shapes)
}

impl Checkpoint {
    /// Checks that the tensors are exactly those of the description, each of its shape.
    pub fn new(description: Description, mut tensors: BTreeMap<String, NamedTensor>) -> Result<Self, CheckpointError> {
        let architecture = &description.architecture;
        // PyTorch counts the batches a batch norm has seen; nothing here needs it.
        tensors.retain(|name, _| !name.ends_with(".num_batches_tracked"));
        let expected = tensor_shapes(&description)?;
        for (name, shape) in &expected {
            let Some(tensor) = tensors.get(name) else {
                return Err(CheckpointError::Missing {
                    name: name.clone(),
                    architecture: architecture.clone(),
                });
            };
            if tensor.shape != *shape || tensor.values.len() != shape.iter().product::<usize>() {
                let hint = match name.starts_with("classifier") {
                    true => " (the class count or the input size differs)",
                    false => " (the widths or the architecture differ)",
                };
                return Err(CheckpointError::Shape {
                    name: name.clone(),
                    expected: shape.clone(),
                    got: tensor.shape.clone(),
                    hint,
                });
            }
        }
        if let Some(name) = tensors
            .keys()
            .find(|name| !expected.iter().any(|(known, _)| known == *name))
        {
            return Err(CheckpointError::Unexpected {
                name: name.clone(),
                architecture: architecture.clone(),
            });
        }
        Ok(Self { description, tensors })
    }

    /// What network this is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, NamedTensor> {
        &self.tensors
    }

    /// One tensor; the error names it when there is none.
    pub fn tensor(&self, name: &str) -> Result<&NamedTensor, CheckpointError> {
        self.tensors.get(name).ok_or_else(|| CheckpointError::Missing {
            name: name.to_owned(),
            architecture: self.description.architecture.clone(),
        })
    }

    /// Random weights to train from: He et al.'s normal initialisation (2015) for convolutions, small uniform ones for the
    /// classifier; the same for the same seed.
    pub fn random(description: Description, seed: u64) -> Result<Self, CheckpointError> {
        let mut tensors = BTreeMap::new();
        for (number, (name, shape)) in tensor_shapes(&description)?.into_iter().enumerate() {
            let count: usize = shape.iter().product();
            let inputs = shape.iter().skip(1).product::<usize>() as f32;
            let chance = |at: usize| random_unit(seed ^ ((number as u64) << 40), at as u64);
            let values = match shape.len() {
                4 => (0..count)
                    .map(|at| normal(chance(2 * at), chance(2 * at + 1)) * (2.0 / inputs).sqrt())
                    .collect(),
                2 => (0..count).map(|at| (2.0 * chance(at) - 1.0) / inputs.sqrt()).collect(),
                _ if name.ends_with("running_var") || name.ends_with(".weight") => vec![1.0; count],
                _ => vec![0.0; count],
            };
            tensors.insert(name, NamedTensor { shape, values });
        }
        Self::new(description, tensors)
    }

    /// Reads a checkpoint written by [`Checkpoint::save`].
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let (description, tensors) = read(path)?;
        let description = description.ok_or_else(|| CheckpointError::Undescribed { path: path.to_owned() })?;
        Self::new(description, tensors).map_err(|error| unfit(path, error))
    }

    /// Writes the checkpoint beside `path` and renames it, so that a file of that name is always whole.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let description = serde_json::to_string(&self.description).map_err(|error| format_error(path, &error))?;
        save_tensors(path, &self.tensors, [(DESCRIPTION.to_owned(), description)].into())
    }
}

/// Writes tensors and metadata as one safetensors file, whole or not at all.
pub fn save_tensors(
    path: &Path,
    tensors: &BTreeMap<String, NamedTensor>,
    metadata: HashMap<String, String>,
) -> Result<(), CheckpointError> {
    let bytes: Vec<(&String, &NamedTensor, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            (
                name,
                tensor,
                tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            )
        })
        .collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, tensor, bytes) in &bytes {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((name.as_str(), view.map_err(|error| format_error(path, &error))?));
    }
    let file = safetensors::serialize(views, Some(metadata)).map_err(|error| format_error(path, &error))?;
    files::write_whole(path, &file).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Tensors by name, and a file's metadata.
pub type NamedTensors = (BTreeMap<String, NamedTensor>, HashMap<String, String>);

/// Reads the float tensors and the metadata of a safetensors file.
pub fn load_tensors(path: &Path) -> Result<NamedTensors, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| format_error(path, &error))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format_error(path, &error))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        if view.dtype() != Dtype::F32 {
            let got = format!("{:?}", view.dtype());
            return Err(unfit(path, CheckpointError::Type { name, got }));
        }
        let values = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        tensors.insert(
            name,
            NamedTensor {
                shape: view.shape().to_vec(),
                values,
            },
        );
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

fn read(path: &Path) -> Result<(Option<Description>, BTreeMap<String, NamedTensor>), CheckpointError> {
    let (tensors, metadata) = load_tensors(path)?;
    let description = metadata
        .get(DESCRIPTION)
        .map(|text| serde_json::from_str(text))
        .transpose();
    Ok((description.map_err(|error| format_error(path, &error))?, tensors))
}

/// A number in `(0, 1)` for each seed and place.
fn random_unit(seed: u64, at: u64) -> f32 {
    let bits = augment::mix(augment::mix(seed) ^ at) >> 41;
    (bits as f32 + 0.5) / (1_u64 << 23) as f32
}

/// Box and Muller's transform of two uniform numbers to a normal one.
fn normal(a: f32, b: f32) -> f32 {
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

fn unfit(path: &Path, error: CheckpointError) -> CheckpointError {
    CheckpointError::Unfit {
        path: path.to_owned(),
        reason: Box::new(error),
    }
}

fn format_error(path: &Path, reason: &dyn std::fmt::Display) -> CheckpointError {
    CheckpointError::Format {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
impl Checkpoint {
    /// [`Description::toy`] with random weights and batch norms.
    pub fn toy(widths: [usize; 5]) -> Self {
        let Self {
            description,
            mut tensors,
        } = Self::random(Description::toy(widths), 1).unwrap();
        for (number, (name, tensor)) in tensors.iter_mut().enumerate() {
            let positive = name.ends_with("running_var") || name.ends_with(".weight");
            if tensor.shape.len() == 1 {
                let unit = |at| random_unit(number as u64, at as u64);
                let value = |at| if positive { 0.5 + unit(at) } else { 0.6 * unit(at) - 0.3 };
                tensor.values = (0..tensor.values.len()).map(value).collect();
            }
        }
        Self { description, tensors }
    }
}

#[cfg(test)]
mod tests;
