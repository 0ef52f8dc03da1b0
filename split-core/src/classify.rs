//! From logits to the classes worth telling.

use crate::wire::ClassProbability;

/// The most classes in an answer.
pub const MAX_TOP: usize = 10;

/// The most probable classes, best first: all of them up to [`MAX_TOP`], which also bounds the size of an answer.
///
/// Probabilities are the softmax of all logits, so those of a cut list add up to less than 1. Equal ones keep their order.
///
/// ```
/// let top = split_core::top_classes(&[1.0, 3.0, 1.0]);
/// assert_eq!(top.iter().map(|it| it.class).collect::<Vec<_>>(), [1, 0, 2]);
/// assert!((top[0].probability - 0.787).abs() < 1e-3);
/// ```
pub fn top_classes(logits: &[f32]) -> Vec<ClassProbability> {
    let mut top: Vec<_> = (0..=u16::MAX)
        .zip(softmax(logits))
        .map(|(class, probability)| ClassProbability { class, probability })
        .collect();
    top.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    top.truncate(MAX_TOP);
    top
}

/// Probabilities of all classes, adding up to 1, from their logits.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Without the largest taken off, a logit above 88 would overflow.
    let mut weights: Vec<f32> = logits.iter().map(|it| (it - largest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|it| *it /= sum);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_logits_do_not_overflow() {
        let top = top_classes(&[1000.0, 999.0]);
        assert!((top[0].probability - 0.731).abs() < 1e-3);
        assert!((top[0].probability + top[1].probability - 1.0).abs() < 1e-6);
    }

    #[test]
    fn only_the_best_are_told() {
        let logits: Vec<f32> = (0..1000).map(|it| it as f32 / 100.0).collect();
        let top = top_classes(&logits);
        assert_eq!(top.len(), MAX_TOP);
        assert_eq!(top[0].class, 999);
        assert!(top.is_sorted_by(|a, b| a.probability >= b.probability));
    }
}
