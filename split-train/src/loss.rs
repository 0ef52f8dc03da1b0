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

/// Decoupled distillation (Zhao et al. 2022, *Decoupled knowledge distillation*): the cross entropy of whether it is the label's class, and
/// `others` times that of which other class it would be. In [`cross_entropy`] the latter counts little where the teacher is sure of the label.
///
/// `targets` is the teacher's distribution for each of the `labels`; otherwise as [`cross_entropy`].
///
/// # Panics
///
/// If the three differ in length, a label is no class, or there is one class only.
pub fn decoupled_cross_entropy(
    logits: &[f32],
    targets: &[f32],
    labels: &[usize],
    classes: usize,
    others: f32,
) -> (f64, Vec<f32>) {
    assert!(classes > 1, "one class has no others");
    assert_eq!(logits.len(), targets.len(), "targets of another batch");
    assert_eq!(logits.len(), labels.len() * classes, "labels of another batch");
    let mut loss = 0.0;
    let mut slope = Vec::with_capacity(logits.len());
    let share = 1.0 / labels.len().max(1) as f32;
    let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
    for ((logits, targets), &label) in rows.zip(labels) {
        let isnt = |at: &usize| *at != label;
        let greatest = (0..classes)
            .filter(isnt)
            .map(|it| logits[it])
            .fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = (0..classes).filter(isnt).map(|it| (logits[it] - greatest).exp()).sum();
        // Logarithms of the sums of powers: of the other classes, and of all.
        let of_others = greatest + sum.ln();
        let (high, low) = (logits[label].max(of_others), logits[label].min(of_others));
        let of_all = high + (low - high).exp().ln_1p();
        let wanted = targets[label];
        let off = (logits[label] - of_all).exp() - wanted;
        loss += f64::from(of_all - wanted * logits[label] - (1.0 - wanted) * of_others);
        let rest = (1.0 - wanted).max(f32::MIN_POSITIVE);
        for at in 0..classes {
            if at == label {
                slope.push(off * share);
                continue;
            }
            let (probability, target) = ((logits[at] - of_others).exp(), targets[at] / rest);
            loss += f64::from(others * target * (of_others - logits[at]));
            slope.push((others * (probability - target) - off * probability) * share);
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
