//! What is learned from.

/// Mean cross entropy between `targets` and the softmax of `logits`, both `[N, classes]`, and its slope by the logits.
///
/// Each row of the targets is a distribution: its values are not negative and sum to one. Both results are divided by N.
///
/// # Panics
///
/// If the two differ in length, or `classes` is zero.
pub fn cross_entropy(logits: &[f32], targets: &[f32], classes: usize) -> (f64, Vec<f32>) {
    assert_eq!(logits.len(), targets.len(), "targets of another batch");
    let mut loss = 0.0;
    let mut slope = Vec::with_capacity(logits.len());
    let share = classes as f32 / logits.len().max(1) as f32;
    for (logits, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|it| (it - greatest).exp()).sum();
        let log_sum = greatest + sum.ln();
        for (logit, target) in logits.iter().zip(targets) {
            loss += f64::from(target * (log_sum - logit));
            slope.push(((logit - log_sum).exp() - target) * share);
        }
    }
    (loss * f64::from(share), slope)
}

/// The targets of labels, with a share `smoothing` of each spread over all classes.
///
/// # Panics
///
/// If a label is no class.
pub fn smoothed(labels: &[usize], classes: usize, smoothing: f32) -> Vec<f32> {
    let mut targets = vec![smoothing / classes as f32; labels.len() * classes];
    for (targets, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        targets[label] += 1.0 - smoothing;
    }
    targets
}
