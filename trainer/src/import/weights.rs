//! Tensors by name, as PyTorch and others save them: safetensors, and PyTorch's own zip and pickle. Nothing in a file is executed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensors};

/// The tensors of a file, read when they are asked for.
pub struct Weights {
    tensors: BTreeMap<String, Found>,
    bytes: Vec<u8>,
    /// Length of the file, which no tensor has more values than.
    file_bytes: usize,
}

/// Where a tensor is.
struct Found {
    shape: Vec<usize>,
    kind: Kind,
    place: Place,
}

enum Place {
    /// In the bytes of a safetensors file.
    Bytes(std::ops::Range<usize>),
    /// In PyTorch's file; row-major whatever strides it was saved with.
    Pytorch(Box<pytorch_reader::Tensor>),
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F16,
    Bf16,
    F32,
    F64,
    /// Integers and the like.
    Other,
}

impl Weights {
    /// Opens a file, of whichever kind it is. Fails for a damaged one.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "safetensors" => Self::safetensors(std::fs::read(path)?),
            "pth" | "pt" | "bin" | "ckpt" | "tar" => Self::pytorch(path),
            _ => bail!(
                "the name has to end with .safetensors, .pth, .pt, .bin, .ckpt or .onnx, which says what is in it"
            ),
        }
    }

    /// Reads the bytes of a safetensors file.
    pub fn safetensors(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let file = SafeTensors::deserialize(&bytes).context("not a whole safetensors file")?;
        let start = bytes.as_ptr() as usize;
        let tensors = file.iter().map(|(name, view)| {
            let first = view.data().as_ptr() as usize - start;
            let found = Found {
                shape: view.shape().to_vec(),
                kind: match view.dtype() {
                    Dtype::F16 => Kind::F16,
                    Dtype::BF16 => Kind::Bf16,
                    Dtype::F32 => Kind::F32,
                    Dtype::F64 => Kind::F64,
                    _ => Kind::Other,
                },
                place: Place::Bytes(first..first + view.data().len()),
            };
            (name.to_owned(), found)
        });
        let tensors = tensors.collect();
        let file_bytes = bytes.len();
        Ok(Self {
            tensors,
            bytes,
            file_bytes,
        })
    }

    fn pytorch(path: &Path) -> anyhow::Result<Self> {
        let file_bytes = usize::try_from(std::fs::metadata(path)?.len())?;
        let reader = PytorchReader::new(path)
            .context("not a PyTorch file that can be read; torch.save(network.state_dict(), …) writes one")?;
        let tensors: HashMap<String, pytorch_reader::Tensor> = reader.into_tensors();
        let tensors = tensors.into_iter().map(|(name, tensor)| {
            let kind = match tensor.dtype() {
                DType::F16 => Kind::F16,
                DType::BF16 => Kind::Bf16,
                DType::F32 => Kind::F32,
                DType::F64 => Kind::F64,
                _ => Kind::Other,
            };
            let found = Found {
                shape: tensor.shape().to_vec(),
                kind,
                place: Place::Pytorch(Box::new(tensor)),
            };
            (name, found)
        });
        Ok(Self {
            tensors: tensors.collect(),
            bytes: Vec::new(),
            file_bytes,
        })
    }

    /// Keeps the tensors below the prefix, such as `state_dict.module.`, under which most of these names are found; the shortest of several.
    pub fn strip_prefix(&mut self, expected: &[String]) {
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for name in expected {
            for full in self.tensors.keys() {
                if let Some(prefix) = full
                    .strip_suffix(name.as_str())
                    .filter(|it| it.is_empty() || it.ends_with('.'))
                {
                    *found.entry(prefix).or_default() += 1;
                }
            }
        }
        let best = found
            .into_iter()
            .max_by_key(|(prefix, count)| (*count, std::cmp::Reverse(prefix.len())));
        let Some(prefix) = best.map(|it| it.0.to_owned()) else {
            return;
        };
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors
            .filter_map(|(name, found)| Some((name.strip_prefix(&prefix)?.to_owned(), found)))
            .collect();
    }

    /// Names and shapes, without the counts of batches that PyTorch's batch norms keep.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let all = self
            .tensors
            .iter()
            .map(|(name, found)| (name.as_str(), found.shape.as_slice()));
        all.filter(|it| !it.0.ends_with("num_batches_tracked"))
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|it| it.shape.as_slice())
    }

    /// A tensor's values as `f32`, row-major. Fails if it is not there, has another shape or is not of floats.
    pub fn read(&self, name: &str, shape: &[usize]) -> anyhow::Result<Vec<f32>> {
        let found = self
            .tensors
            .get(name)
            .with_context(|| format!("tensor `{name}` is missing; is this a checkpoint of another architecture?"))?;
        if found.shape != shape {
            bail!(
                "tensor `{name}` has shape {:?}, {shape:?} was expected; is this a checkpoint of another architecture or of other widths?",
                found.shape
            );
        }
        // PyTorch's strides may repeat a value without end.
        let count = shape.iter().try_fold(1_usize, |all, it| all.checked_mul(*it));
        ensure!(
            count.is_some_and(|it| it <= self.file_bytes),
            "tensor `{name}` has more values than the file"
        );
        let read;
        let bytes = match &found.place {
            Place::Bytes(range) => &self.bytes[range.clone()],
            Place::Pytorch(tensor) => {
                read = tensor.read().with_context(|| format!("tensor `{name}`"))?;
                &read
            }
        };
        let values = floats(found.kind, bytes)
            .with_context(|| format!("tensor `{name}` holds no floats of 16, 32 or 64 bits"))?;
        ensure!(Some(values.len()) == count, "tensor `{name}` is cut short");
        Ok(values)
    }
}

fn floats(kind: Kind, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match kind {
        Kind::F16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|it| half::f16::from_le_bytes(*it).to_f32())
            .collect(),
        Kind::Bf16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|it| half::bf16::from_le_bytes(*it).to_f32())
            .collect(),
        Kind::F32 => bytes.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect(),
        Kind::F64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|it| f64::from_le_bytes(*it) as f32)
            .collect(),
        Kind::Other => return None,
    })
}
