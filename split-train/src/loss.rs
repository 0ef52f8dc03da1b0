//! What is learned from.

/// Mean cross entropy of labels, with a share of every label spread over all classes, and its slope by the logits `[N, classes]`.
///
/// # Panics
///
/// If there are not as many rows of logits as labels, or a label is no class.
pub fn cross_entropy(logits: &[f32], labels: &[usize], smoothing: f32) -> (f64, Vec<f32>) {
    let classes = logits.len() / labels.len().max(1);
    assert_eq!(logits.len(), labels.len() * classes, "logits of another batch");
    let mut loss = 0.0;
    let mut slope = Vec::with_capacity(logits.len());
    let share = 1.0 / labels.len().max(1) as f32;
    for (logits, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|it| (it - greatest).exp()).sum();
        let log_sum = greatest + sum.ln();
        let spread = smoothing / classes as f32;
        let target = |class: usize| spread + if class == label { 1.0 - smoothing } else { 0.0 };
        for (class, logit) in logits.iter().enumerate() {
            loss += f64::from(target(class) * (log_sum - logit));
            slope.push(((logit - log_sum).exp() - target(class)) * share);
        }
        assert!(label < classes, "label {label} of {classes} classes");
    }
    (loss * f64::from(share), slope)
}
