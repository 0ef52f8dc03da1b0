//! Which filters to remove, and removing them.
//!
//! Ranking is the first-order Taylor criterion (Molchanov et al. 2017): a filter's score is |mean over batch and positions of
//! activation × gradient|, summed over batches. With batch norm before the ReLU that mean needs no activations: where the ReLU is
//! open its output is `scale · x̂ + shift`, so Σ output · gradient = scale · ∂scale + shift · ∂shift.

use std::collections::BTreeMap;

use crate::checkpoint::{Checkpoint, CheckpointError, NamedTensor};
use crate::network::LayerSpec;

/// How step 1 chooses.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Widths stay multiples of this.
    pub multiple: usize,
    /// Exponent of a filter's own multiply–accumulates in its price: 0 ranks by score alone.
    pub work_exponent: f64,
    /// No layer gets narrower.
    pub least: usize,
}

/// Adds one batch's scores of a layer: `scale`, `shift` and their gradients, over `positions` outputs of each filter.
pub fn add_scores(scores: &mut [f64], scale: &[f32], shift: &[f32], slopes: (&[f32], &[f32]), positions: usize) {
    for (filter, score) in scores.iter_mut().enumerate() {
        let sum = f64::from(scale[filter]) * f64::from(slopes.0[filter])
            + f64::from(shift[filter]) * f64::from(slopes.1[filter]);
        *score += (sum / positions as f64).abs();
    }
}

/// Divides by the layer's L2 norm, which makes layers comparable.
pub fn normalize(scores: &[f64]) -> Vec<f64> {
    let norm = scores.iter().map(|score| score * score).sum::<f64>().sqrt();
    scores
        .iter()
        .map(|score| if norm > 0.0 { score / norm } else { 0.0 })
        .collect()
}

/// Filters to keep in each layer so that the network has at most `target` multiply–accumulates, least valuable first out.
pub fn choose(
    checkpoint: &Checkpoint,
    scores: &[Vec<f64>],
    target: u64,
    choice: Choice,
) -> Result<Vec<Vec<usize>>, CheckpointError> {
    let mut order: Vec<Vec<(usize, f64)>> = scores
        .iter()
        .map(|scores| {
            let mut order: Vec<(usize, f64)> = normalize(scores).into_iter().enumerate().collect();
            order.sort_by(|a, b| b.1.total_cmp(&a.1));
            order
        })
        .collect();
    let mut description = checkpoint.description().clone();
    loop {
        let work = description.macs()?;
        if work.iter().sum::<u64>() <= target {
            break;
        }
        let cheapest = (0..order.len())
            .filter_map(|layer| {
                let width = order[layer].len();
                let group = if width.is_multiple_of(choice.multiple) {
                    choice.multiple
                } else {
                    width % choice.multiple
                };
                let left = width.checked_sub(group).filter(|left| *left >= choice.least)?;
                let value = order[layer][left..].iter().map(|it| it.1).sum::<f64>() / group as f64;
                // Removing a filter saves its own work and its share of the next layer's.
                let saved = (work[layer] + work[layer + 1]) as f64 / width as f64;
                Some((value / saved.powf(choice.work_exponent), layer, left))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, layer, left)) = cheapest else { break };
        order[layer].truncate(left);
        description.widths[layer] = left;
    }
    let kept = order.into_iter().map(|order| {
        let mut kept: Vec<usize> = order.into_iter().map(|it| it.0).collect();
        kept.sort_unstable();
        kept
    });
    Ok(kept.collect())
}

/// The checkpoint with only the filters `kept` of convolution `index` (from 0), its batch norm, and what the next layer reads.
pub fn keep_filters(checkpoint: &Checkpoint, index: usize, kept: &[usize]) -> Result<Checkpoint, CheckpointError> {
    let mut description = checkpoint.description().clone();
    let mut convolutions: Vec<usize> = Vec::new();
    let mut area = 1;
    for layer in description.layers()? {
        match layer {
            LayerSpec::Convolution { position, .. } => convolutions.push(position),
            LayerSpec::Pool {
                output: [_, height, width],
                ..
            } => area = height * width,
            LayerSpec::Linear { .. } => {}
        }
    }
    let position = convolutions[index];
    let mut tensors: BTreeMap<String, NamedTensor> = checkpoint.tensors().clone();
    let mut keep = |name: String, along: usize, block: usize| {
        if let Some(tensor) = tensors.get_mut(&name) {
            *tensor = select(tensor, along, kept, block);
        }
    };
    keep(format!("features.{position}.weight"), 0, 1);
    for part in ["weight", "bias", "running_mean", "running_var"] {
        keep(format!("features.{}.{part}", position + 1), 0, 1);
    }
    match convolutions.get(index + 1) {
        Some(next) => keep(format!("features.{next}.weight"), 1, 1),
        None => keep("classifier.weight".to_owned(), 1, area),
    }
    description.widths[index] = kept.len();
    Checkpoint::new(description, tensors)
}

/// The entries `kept` along a dimension whose entries are runs of `block` indices.
fn select(tensor: &NamedTensor, along: usize, kept: &[usize], block: usize) -> NamedTensor {
    let inner = tensor.shape[along + 1..].iter().product::<usize>() * block;
    let row = tensor.shape[along] / block * inner;
    let mut shape = tensor.shape.clone();
    shape[along] = kept.len() * block;
    let values = tensor
        .values
        .chunks_exact(row)
        .flat_map(|row| kept.iter().flat_map(move |index| &row[index * inner..][..inner]))
        .copied()
        .collect();
    NamedTensor { shape, values }
}

#[cfg(test)]
mod tests;
