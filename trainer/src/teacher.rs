//! What the teacher says to the training pictures: asked for every batch, or kept in a file that runs share.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use split_core::Digest;

use crate::augment::View;
use crate::checkpoint::{Checkpoint, Description};
use crate::data::Dataset;
use crate::inference::Inference;
use crate::learn;
use crate::progress;
use crate::prune::cut_node;
use crate::tensors::{self, NamedTensor};

/// The tensors: logits of the pictures as they are, and mirrored.
const TENSORS: [&str; 2] = ["plain", "mirrored"];
/// Keys of what the logits depend on in the file's metadata, and what the file holds if a digest differs.
const KEYS: [(&str, &str); 2] = [("teacher", "another teacher"), ("pictures", "other pictures")];

/// Who teaches.
pub enum Teacher {
    /// The network itself: it sees the same view of a picture as the student (Beyer et al. 2022, *A good teacher is patient and consistent*).
    Live(Inference),
    /// Its logits for the pictures as they are, and mirrored. Crops are judged by the whole picture, which costs two passes in all.
    Logits {
        /// `[pictures, classes]` each.
        all: [Vec<f32>; 2],
        /// How many.
        classes: usize,
    },
}

impl Teacher {
    /// Loads the teacher of a network. With `file`, its logits are read from there if they are there, and computed and kept there if not. With
    /// `until`, a split point, its features there are what it answers.
    pub fn load(
        path: &Path,
        file: Option<&Path>,
        until: Option<&str>,
        student: &Description,
        pictures: &Dataset,
    ) -> anyhow::Result<Self> {
        let checkpoint = Checkpoint::load(path)?;
        let of = &checkpoint.description;
        ensure!(
            of.classes == student.classes,
            "the teacher {} knows other classes than the network",
            path.display()
        );
        ensure!(
            (of.input, of.mean, of.std) == (student.input, student.mean, student.std),
            "the teacher {} takes pictures of another size or normalisation than the network",
            path.display()
        );
        if let Some(split) = until {
            let node = cut_node(&checkpoint.graph, split)?;
            let (head, _) = checkpoint
                .graph
                .split_at(node)
                .with_context(|| format!("{} has nothing behind `{split}`", path.display()))?;
            return Ok(Self::Live(Inference::new(&head)?));
        }
        Ok(match file {
            None => Self::Live(Inference::new(&checkpoint.graph)?),
            Some(file) => Self::Logits {
                all: logits(&checkpoint, path, file, pictures)?,
                classes: of.classes.len(),
            },
        })
    }

    /// Logits `[N, classes]`, or features `[N, H, W, C]`, for some pictures in these views, which are `values` `[N, H, W, 3]`.
    pub fn answers(&self, pictures: &[(usize, View)], values: &[f32]) -> anyhow::Result<Vec<f32>> {
        match self {
            Self::Live(network) => network.run(values),
            Self::Logits { all, classes } => Ok(pictures
                .iter()
                .flat_map(|(index, view)| &all[usize::from(view.mirrored)][index * classes..][..*classes])
                .copied()
                .collect()),
        }
    }
}

fn logits(checkpoint: &Checkpoint, teacher: &Path, file: &Path, pictures: &Dataset) -> anyhow::Result<[Vec<f32>; 2]> {
    let bytes = fs::read(teacher).with_context(|| teacher.display().to_string())?;
    let digests = [Digest::of(&bytes), pictures.digest()].map(|it| it.to_string());
    let shape = vec![pictures.len(), pictures.classes().len()];
    if file.exists()
        && let Some(kept) = kept(file, &digests, &shape)?
    {
        return Ok(kept);
    }
    let both = compute(checkpoint, pictures)?;
    let tensor = |values: &Vec<f32>| NamedTensor {
        shape: shape.clone(),
        values: values.clone(),
    };
    let tensors = TENSORS.map(String::from).into_iter().zip(both.iter().map(tensor));
    let metadata: HashMap<String, String> = KEYS.map(|it| it.0.to_owned()).into_iter().zip(digests).collect();
    tensors::save(file, &tensors.collect(), metadata)?;
    Ok(both)
}

/// What the file holds; none if it does not say of which teacher and pictures, as files of earlier releases did not.
fn kept(file: &Path, digests: &[String; 2], shape: &[usize]) -> anyhow::Result<Option<[Vec<f32>; 2]>> {
    let (mut tensors, metadata) = tensors::load(file)?;
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

fn compute(checkpoint: &Checkpoint, pictures: &Dataset) -> anyhow::Result<[Vec<f32>; 2]> {
    let bar = progress::bar("teacher", 2 * pictures.len() as u64);
    let logits = |mirrored| {
        let before = if mirrored { pictures.len() } else { 0 };
        learn::logits(checkpoint, pictures, mirrored, |done| {
            bar.set_position((before + done) as u64)
        })
    };
    let both = [logits(false)?, logits(true)?];
    bar.finish_and_clear();
    Ok(both)
}
