//! Named tensors of 32-bit floats in safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::files;

/// A file of tensors that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorsError {
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
    /// A tensor of another element type.
    #[error("{path}: tensor `{name}` holds {got}, F32 was expected")]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Type found.
        got: String,
    },
}

/// Values of one tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, NamedTensor>;
/// What else a file says.
pub type Metadata = HashMap<String, String>;

/// Writes tensors and metadata as one file, whole or not at all.
pub fn save(path: &Path, tensors: &Tensors, metadata: Metadata) -> Result<(), TensorsError> {
    let bytes: Vec<(&String, &NamedTensor, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, tensor, bytes)
        })
        .collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, tensor, bytes) in &bytes {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        views.push((name.as_str(), view.map_err(|error| format_error(path, &error))?));
    }
    let mut file = safetensors::serialize(views, Some(metadata)).map_err(|error| format_error(path, &error))?;
    sort_header(&mut file).map_err(|error| format_error(path, &error))?;
    files::write_whole(path, &file).map_err(|source| io_error(path, source))
}

/// Puts the header's fields in order, so that the same content always is the same file: metadata come in that of a hash.
fn sort_header(file: &mut [u8]) -> serde_json::Result<()> {
    let Some((length, rest)) = file.split_first_chunk_mut::<8>() else {
        return Ok(());
    };
    let header = usize::try_from(u64::from_le_bytes(*length)).ok();
    if let Some(header) = header.and_then(|it| rest.get_mut(..it)) {
        let sorted = serde_json::to_vec(&serde_json::from_slice::<serde_json::Value>(header)?)?;
        if let Some((text, padding)) = header.split_at_mut_checked(sorted.len()) {
            text.copy_from_slice(&sorted);
            padding.fill(b' ');
        }
    }
    Ok(())
}

/// Reads the tensors and the metadata of a file. PyTorch's counts of the batches that a batch norm has seen are left out.
pub fn load(path: &Path) -> Result<(Tensors, Metadata), TensorsError> {
    let bytes = std::fs::read(path).map_err(|source| io_error(path, source))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| format_error(path, &error))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format_error(path, &error))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        if view.dtype() != Dtype::F32 {
            return Err(TensorsError::Type {
                path: path.to_owned(),
                name,
                got: format!("{:?}", view.dtype()),
            });
        }
        let (words, _) = view.data().as_chunks::<4>();
        let values = words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let shape = view.shape().to_vec();
        tensors.insert(name, NamedTensor { shape, values });
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

fn io_error(path: &Path, source: std::io::Error) -> TensorsError {
    TensorsError::Io {
        path: path.to_owned(),
        source,
    }
}

fn format_error(path: &Path, reason: &dyn std::fmt::Display) -> TensorsError {
    TensorsError::Format {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
