//! Probabilities that mean what they say.

use split_graph::{Graph, Op};

use crate::checkpoint::Checkpoint;
use crate::data::Dataset;
use crate::learn;

/// Temperatures that are tried: beyond them the pictures say more of their number than of the network.
const RANGE: [f64; 2] = [0.25, 4.0];
/// Steps of the search; each leaves 62 % of the range.
const STEPS: usize = 24;

/// The network with its logits divided by the temperature at which the true classes of these pictures, which it has not learned from, have the least cross
/// entropy (Guo et al. 2017, *On calibration of modern neural networks*); and that temperature. Which class comes first stays the same.
///
/// A network that does not end with a linear layer stays as it is, at temperature 1.
pub fn tempered(checkpoint: Checkpoint, pictures: &Dataset) -> anyhow::Result<(Checkpoint, f64)> {
    let ends_linear = matches!(checkpoint.graph.nodes().last(), Some(it) if matches!(it.op, Op::Linear(_)));
    if pictures.is_empty() || !ends_linear {
        return Ok((checkpoint, 1.0));
    }
    let logits = learn::logits(&checkpoint, pictures, false, |_| ())?;
    let labels: Vec<usize> = (0..pictures.len()).map(|it| pictures.label(it)).collect();
    let found = temperature(&logits, &labels);
    let input = checkpoint.graph.input();
    let mut nodes = checkpoint.graph.into_nodes();
    if let Some(Op::Linear(it)) = nodes.last_mut().map(|it| &mut it.op) {
        let values = it.weight.iter_mut().chain(it.bias.iter_mut().flatten());
        values.for_each(|it| *it /= found as f32);
    }
    let tempered = Checkpoint::new(checkpoint.description, Graph::new(input, nodes)?)?;
    Ok((tempered, found))
}

/// The temperature in [`RANGE`] with the least cross entropy, by golden section: the cross entropy is convex in the inverse temperature.
fn temperature(logits: &[f32], labels: &[usize]) -> f64 {
    let entropy = |inverse: f64| cross_entropy(logits, labels, inverse);
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let [mut from, mut to] = [1.0 / RANGE[1], 1.0 / RANGE[0]];
    for _ in 0..STEPS {
        let (low, high) = (to - golden * (to - from), from + golden * (to - from));
        if entropy(low) < entropy(high) {
            to = high;
        } else {
            from = low;
        }
    }
    2.0 / (from + to)
}

/// Of the true classes, the logits being multiplied by `factor`.
fn cross_entropy(logits: &[f32], labels: &[usize], factor: f64) -> f64 {
    let rows = logits.chunks_exact(logits.len() / labels.len());
    let each = rows.zip(labels).map(|(row, label)| {
        let scaled = |it: &f32| f64::from(*it) * factor;
        let greatest = row.iter().map(scaled).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|it| (scaled(it) - greatest).exp()).sum();
        greatest + sum.ln() - scaled(&row[*label])
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of which three quarters are of the class whose logit is ahead by `lead`.
    fn said(lead: f32) -> (Vec<f32>, Vec<usize>) {
        ([lead, 0.0].repeat(40), [0, 0, 0, 1].repeat(10))
    }

    #[test]
    fn what_is_right_three_times_of_four_is_said_with_75_percent() {
        for temperature_of in [0.5, 1.0, 3.0] {
            let (logits, labels) = said(3.0_f32.ln() * temperature_of as f32);
            let found = temperature(&logits, &labels);
            assert!((found - temperature_of).abs() < 1e-3, "{found} is not {temperature_of}");
        }
    }

    #[test]
    fn the_answers_stay() {
        let (checkpoint, data) = (Checkpoint::toy([6; 5]), Dataset::toy(24));
        let before = learn::logits(&checkpoint, &data, false, |_| ()).unwrap();
        let (tempered, temperature) = tempered(checkpoint, &data).unwrap();
        let after = learn::logits(&tempered, &data, false, |_| ()).unwrap();
        assert!(temperature != 1.0);
        for (before, after) in before.iter().zip(&after) {
            assert!((f64::from(*before) / temperature - f64::from(*after)).abs() < 1e-3);
        }
    }
}
