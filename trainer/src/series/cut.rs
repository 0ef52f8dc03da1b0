//! Where a network is cut into segments.
//!
//! A boundary lies at every split point and before the layer in front of it. Step 2 prunes only that layer, so two variants of one
//! parent differ in the segment of that layer and in those behind it, and share all before.

use anyhow::Context;
use split_core::Shape;
use split_runtime::{Layer, SegmentFile, write_segment};

use crate::checkpoint::{Checkpoint, FoldedLayer};

/// Names of split points, and how many segments lie before each.
pub type SplitPoints = Vec<(String, usize)>;

/// A network in pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces {
    /// Layers of each segment, front to back.
    pub layers: Vec<Vec<Layer>>,
    /// Where they can be cut.
    pub split_points: SplitPoints,
}

/// Cuts the folded layers of a checkpoint.
pub fn cut(layers: &[FoldedLayer]) -> Pieces {
    let pools: Vec<(usize, &str)> = layers
        .iter()
        .enumerate()
        .filter_map(|(at, layer)| {
            if let FoldedLayer::Pool { split } = layer {
                Some((at, split.as_str()))
            } else {
                None
            }
        })
        .collect();
    // A pool follows the layer that step 2 prunes: the segment of pool `at` starts at `at − 1` and ends behind the pool.
    let mut boundaries: Vec<usize> = pools
        .iter()
        .flat_map(|&(at, _)| [at.saturating_sub(1), at + 1])
        .collect();
    boundaries.extend([0, layers.len()]);
    boundaries.sort_unstable();
    boundaries.dedup();
    let segments_before = |layer: usize| boundaries.partition_point(|it| *it < layer);
    Pieces {
        layers: boundaries
            .windows(2)
            .map(|it| layers[it[0]..it[1]].iter().map(convert).collect())
            .collect(),
        split_points: pools
            .iter()
            .map(|&(at, split)| (split.to_owned(), segments_before(at + 1)))
            .collect(),
    }
}

/// Writes a checkpoint's segments. Names the segment that cannot be written.
pub fn write(checkpoint: &Checkpoint) -> anyhow::Result<(Vec<SegmentFile>, SplitPoints)> {
    let Pieces { layers, split_points } = cut(&checkpoint.fold()?);
    let mut shape = Shape::try_from(checkpoint.description().input)?;
    let mut files = Vec::with_capacity(layers.len());
    for (number, layers) in layers.iter().enumerate() {
        let file = write_segment(shape, layers).with_context(|| format!("segment {number}"))?;
        shape = file.output;
        files.push(file);
    }
    Ok((files, split_points))
}

fn convert(layer: &FoldedLayer) -> Layer {
    match layer {
        FoldedLayer::Convolution {
            inputs,
            outputs,
            weight,
            bias,
        } => Layer::Convolution {
            inputs: *inputs,
            outputs: *outputs,
            kernel: 3,
            stride: 1,
            padding: 1,
            weight: weight.clone(),
            bias: bias.clone(),
            relu: true,
        },
        FoldedLayer::Pool { .. } => Layer::MaxPool { kernel: 2, stride: 2 },
        FoldedLayer::Linear {
            inputs,
            outputs,
            weight,
            bias,
        } => Layer::Linear {
            inputs: *inputs,
            outputs: *outputs,
            weight: weight.clone(),
            bias: bias.clone(),
            relu: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convolution() -> FoldedLayer {
        FoldedLayer::Convolution {
            inputs: 1,
            outputs: 1,
            weight: vec![0.0; 9],
            bias: vec![0.0],
        }
    }

    fn pool(split: &str) -> FoldedLayer {
        FoldedLayer::Pool { split: split.into() }
    }

    fn check(layers: &[FoldedLayer], lengths: &[usize], segments_before_splits: &[usize]) {
        let pieces = cut(layers);
        assert_eq!(pieces.layers.iter().map(Vec::len).collect::<Vec<_>>(), lengths);
        assert_eq!(
            pieces.split_points.iter().map(|it| it.1).collect::<Vec<_>>(),
            segments_before_splits
        );
    }

    #[test]
    fn the_layer_before_a_split_point_is_a_segment_with_its_pool() {
        let linear = FoldedLayer::Linear {
            inputs: 1,
            outputs: 1,
            weight: vec![0.0],
            bias: vec![0.0],
        };
        check(
            &[
                convolution(),
                convolution(),
                pool("pool1"),
                convolution(),
                convolution(),
                pool("pool2"),
                linear,
            ],
            &[1, 2, 1, 2, 1],
            &[2, 4],
        );
    }

    #[test]
    fn boundaries_that_coincide_are_one() {
        check(
            &[
                convolution(),
                pool("pool1"),
                convolution(),
                pool("pool2"),
                convolution(),
            ],
            &[2, 2, 1],
            &[1, 2],
        );
    }
}
