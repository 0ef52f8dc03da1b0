//! Where a network is cut into segments.
//!
//! A boundary lies at every split point and before the layer in front of it. Step 2 prunes only that layer, so two variants of one
//! parent differ in the segment of that layer and in those behind it, and share all before.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use split_graph::{Convolution, CutPoint, Graph, Op, Source, Window};
use split_runtime::{SegmentFile, write_segment};

/// Names of split points, and how many segments lie before each.
pub type SplitPoints = Vec<(String, usize)>;

/// A network in pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces {
    /// The segments, front to back.
    pub segments: Vec<Graph>,
    /// Where they can be cut.
    pub split_points: SplitPoints,
}

/// The split points of a network, unless others are asked for: for every size of map that is smaller than the input, the cut point with the
/// least to send, the first of several.
pub fn usual_splits(graph: &Graph) -> Vec<String> {
    let mut least: BTreeMap<std::cmp::Reverse<usize>, CutPoint> = BTreeMap::new();
    for point in graph.cut_points() {
        let positions = point.shape.positions();
        if positions < graph.input().positions() && !(positions == 1 && is_vector(graph, &point)) {
            let best = least
                .entry(std::cmp::Reverse(positions))
                .or_insert_with(|| point.clone());
            if point.shape.values() < best.shape.values() {
                *best = point;
            }
        }
    }
    let mut points: Vec<CutPoint> = least.into_values().collect();
    points.sort_by_key(|it| it.node);
    points.into_iter().map(|it| it.name).collect()
}

/// Whether the tensor comes from a layer of the classifier.
fn is_vector(graph: &Graph, point: &CutPoint) -> bool {
    let before = &graph.nodes()[..=point.node];
    before
        .iter()
        .any(|it| matches!(it.op, Op::Flatten | Op::GlobalAveragePool))
}

/// Cuts a network at these split points. Names the first that is none of its cut points.
pub fn cut(graph: &Graph, splits: &[String]) -> anyhow::Result<Pieces> {
    let mut at = Vec::new();
    for split in splits {
        match graph.cut_point(split) {
            Some(point) => at.push((split.clone(), point.node)),
            None => {
                let known: Vec<String> = graph.cut_points().into_iter().map(|it| it.name).collect();
                bail!("the network cannot be cut at `{split}`; it can at {}", known.join(", "));
            }
        }
    }
    at.sort_by_key(|it| it.1);
    let before = at.iter().filter_map(|it| before_last_layer(graph, it.1));
    let boundaries: BTreeSet<usize> = before.chain(at.iter().map(|it| it.1)).collect();
    let segments = graph
        .pieces(boundaries.iter().copied())
        .context("a boundary that is no cut point")?;
    let segments_before = |node: usize| boundaries.range(..=node).count();
    Ok(Pieces {
        segments,
        split_points: at
            .into_iter()
            .map(|(name, node)| (name, segments_before(node)))
            .collect(),
    })
}

/// The node before the layer whose channels cross at a cut point, where the network can be cut as well. `None` where the tensor there is made by
/// several layers, as a residual stream is, or by the first one.
pub fn before_last_layer(graph: &Graph, cut: usize) -> Option<usize> {
    let input = |node: usize| match graph.nodes()[node].inputs[..] {
        [Source::Node(it)] => Some(it),
        _ => None,
    };
    let mut node = cut;
    while graph.nodes()[node].op.is_pointwise()
        || matches!(
            graph.nodes()[node].op,
            Op::MaxPool(_) | Op::AveragePool { .. } | Op::GlobalAveragePool
        )
    {
        node = input(node)?;
    }
    let Op::Convolution(it) = &graph.nodes()[node].op else {
        return None;
    };
    let mut before = input(node)?;
    // The 1×1 convolution of a bottleneck becomes one with a convolution right before it.
    if is_point(it) {
        let linear = match &graph.nodes()[before].op {
            Op::BatchNorm(_) => input(before)?,
            _ => before,
        };
        if matches!(&graph.nodes()[linear].op, Op::Convolution(it) if it.groups == 1)
            && graph.consumers()[linear].len() == 1
        {
            before = input(linear)?;
        }
    }
    graph.split_at(before).map(|_| before)
}

fn is_point(it: &Convolution) -> bool {
    it.groups == 1 && it.window == Window::point()
}

/// Writes a network's segments. Names the segment that cannot be written.
pub fn write(graph: &Graph, splits: &[String]) -> anyhow::Result<(Vec<SegmentFile>, SplitPoints)> {
    let Pieces { segments, split_points } = cut(graph, splits)?;
    let write = |(number, it): (usize, &Graph)| write_segment(it).with_context(|| format!("segment {number}"));
    let files = segments.iter().enumerate().map(write).collect::<anyhow::Result<_>>()?;
    Ok((files, split_points))
}

#[cfg(test)]
mod tests {
    use split_graph::{Architecture, Bottleneck, sample};

    use super::*;

    fn network(architecture: Architecture, side: usize) -> Graph {
        sample::known(architecture, side, 3, 1).unwrap()
    }

    fn check(graph: &Graph, splits: &[&str], first_nodes: &[&str], segments_before_splits: &[usize]) {
        let splits: Vec<String> = splits.iter().map(|it| (*it).to_owned()).collect();
        let pieces = cut(graph, &splits).unwrap();
        let first: Vec<&str> = pieces.segments.iter().map(|it| it.nodes()[0].name.as_str()).collect();
        assert_eq!(first, first_nodes);
        let before: Vec<usize> = pieces.split_points.iter().map(|it| it.1).collect();
        assert_eq!(before, segments_before_splits);
    }

    #[test]
    fn the_layer_before_a_split_point_is_a_segment_with_its_pool() {
        let graph = network(Architecture::Vgg16, 32);
        check(
            &graph,
            &["pool1", "pool3"],
            &["features.0", "features.3", "features.7", "features.20", "features.24"],
            &[2, 4],
        );
    }

    #[test]
    fn boundaries_that_coincide_are_one() {
        let graph = network(Architecture::AlexNet, 16);
        check(
            &graph,
            &["pool1", "pool2"],
            &["features.0", "features.4", "features.8"],
            &[1, 2],
        );
    }

    #[test]
    fn a_bottleneck_begins_a_segment_that_its_parent_ends_with() {
        let graph = network(Architecture::ResNet18, 32);
        check(&graph, &["layer2.0"], &["conv1", "layer2.1.conv1"], &[1]);
        let cut = graph.cut_point("layer2.0").unwrap();
        let narrow = graph.with_bottleneck(cut.node, &Bottleneck::identity(128)).unwrap();
        check(
            &narrow,
            &["layer2.0"],
            &["conv1", "layer2.0.encode", "decode.layer2.0"],
            &[2],
        );
        let graph = network(Architecture::MobileNetV2, 32);
        check(
            &graph,
            &["features.2"],
            &["features.0.0", "features.2.conv.2", "features.3.conv.0.0"],
            &[2],
        );
        let cut = graph.cut_point("features.2").unwrap();
        let narrow = graph.with_bottleneck(cut.node, &Bottleneck::identity(24)).unwrap();
        check(
            &narrow,
            &["features.2"],
            &["features.0.0", "features.2.conv.2", "decode.features.2"],
            &[2],
        );
    }

    #[test]
    fn the_usual_split_points_send_least_at_each_size() {
        assert_eq!(
            usual_splits(&network(Architecture::Vgg16, 32)),
            ["pool1", "pool2", "pool3", "pool4", "pool5"]
        );
        assert_eq!(
            usual_splits(&network(Architecture::EfficientNetLite0, 224)),
            ["blocks.0", "blocks.1.0", "blocks.2.0", "blocks.3.0", "blocks.5.0"]
        );
        let error = cut(&network(Architecture::AlexNet, 16), &["pool9".into()]).unwrap_err();
        assert!(error.to_string().contains("pool1, "), "{error}");
    }
}
