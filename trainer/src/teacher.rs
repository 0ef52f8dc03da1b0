//! What the teacher says to the training pictures, kept in a file that runs share.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::Device;
use split_core::Digest;

use crate::checkpoint::{self, Checkpoint, NamedTensor};
use crate::data::{DataError, Dataset};
use crate::learn;
use crate::model::Network;
use crate::progress;

/// The tensors: logits of the pictures as they are, and mirrored.
const TENSORS: [&str; 2] = ["plain", "mirrored"];
/// Keys of what the logits depend on in the file's metadata, and what the file holds if a digest differs.
const KEYS: [(&str, &str); 2] = [("teacher", "another teacher"), ("pictures", "other pictures")];

/// A teacher's logits for every picture as it is and mirrored: read from `file` if they are there, computed and kept there if not.
///
/// Crops are judged by the whole picture: that costs two passes of the teacher in all instead of one in every epoch.
pub fn logits(teacher: &Path, file: &Path, pictures: &Dataset) -> anyhow::Result<[Vec<f32>; 2]> {
    let checkpoint = Checkpoint::load(teacher)?;
    if checkpoint.description().classes != pictures.classes() {
        bail!("the teacher {} knows other classes than the network", teacher.display());
    }
    let bytes = fs::read(teacher).with_context(|| teacher.display().to_string())?;
    let digests = [Digest::of(&bytes), pictures.digest()].map(|it| it.to_string());
    let shape = vec![pictures.len(), pictures.classes().len()];
    if file.exists()
        && let Some(kept) = kept(file, &digests, &shape)?
    {
        return Ok(kept);
    }
    let both = compute(&Network::from_checkpoint(&checkpoint, &Device::flex())?, pictures)?;
    let tensor = |values: &Vec<f32>| NamedTensor {
        shape: shape.clone(),
        values: values.clone(),
    };
    let tensors = TENSORS.map(String::from).into_iter().zip(both.iter().map(tensor));
    let metadata: HashMap<String, String> = KEYS.map(|it| it.0.to_owned()).into_iter().zip(digests).collect();
    checkpoint::save_tensors(file, &tensors.collect(), metadata)?;
    Ok(both)
}

/// What the file holds; none if it does not say of which teacher and pictures, as files of earlier releases did not.
fn kept(file: &Path, digests: &[String; 2], shape: &[usize]) -> anyhow::Result<Option<[Vec<f32>; 2]>> {
    let (mut tensors, metadata) = checkpoint::load_tensors(file)?;
    for ((key, other), digest) in KEYS.iter().zip(digests) {
        if metadata.get(*key).is_some_and(|it| it != digest) {
            bail!(
                "{} holds logits of {other}; remove it, or name another file",
                file.display()
            );
        }
    }
    let [plain, mirrored] = TENSORS.map(|it| tensors.remove(it).filter(|it| it.shape == shape));
    // Nothing else is ever overwritten: the file may be a checkpoint, named by mistake.
    let (Some(plain), Some(mirrored)) = (plain, mirrored) else {
        bail!(
            "{} holds no logits, or those of other pictures or classes; remove it, or name another file",
            file.display()
        );
    };
    if KEYS.iter().any(|it| !metadata.contains_key(it.0)) {
        eprintln!(
            "{} does not say of which teacher and pictures its logits are: they are computed anew",
            file.display()
        );
        return Ok(None);
    }
    Ok(Some([plain.values, mirrored.values]))
}

fn compute(network: &Network, pictures: &Dataset) -> Result<[Vec<f32>; 2], DataError> {
    let bar = progress::bar("teacher", 2 * pictures.len() as u64);
    let logits = |mirrored| {
        let before = if mirrored { pictures.len() } else { 0 };
        learn::logits(network, None, pictures, mirrored, |done| {
            bar.set_position((before + done) as u64)
        })
    };
    let both = [logits(false)?, logits(true)?];
    bar.finish_and_clear();
    Ok(both)
}
