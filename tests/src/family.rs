//! Series of well-known networks with random weights. They answer nothing useful, and take as long as trained ones.

use std::{cmp::Reverse, fs, path::Path};

use anyhow::{Context, Result};
use split_core::{
    Manifest,
    codec::{FeatureCodecSpec, Tables},
    manifest::{Codec, CodecFile, OperatingPoint, Segment, Split, Unpruned, Variant},
};
use split_graph::{Architecture, Graph, sample};
use split_runtime::write_segment;

use crate::made_up;

/// The networks that the benchmarks measure.
pub const NETWORKS: [&str; 3] = ["tf_efficientnet_lite0", "mobilenet_v2", "resnet18"];

/// Side of a picture in pixels.
const SIDE: usize = 224;
/// Classes.
const CLASSES: usize = 10;
/// Bits of a feature on the wire.
const BITS: u8 = 4;
/// Split points: how many times smaller the features' sides are than the picture's.
const STRIDES: [usize; 3] = [4, 8, 16];
/// The pruned variant computes at most this share of the unpruned network.
const PRUNED: f64 = 1.0 / 3.0;
/// Pruned layers keep a multiple of so many channels.
const MULTIPLE: usize = 8;

/// A network, unpruned and pruned.
pub struct Family {
    /// Name of the network.
    pub name: String,
    /// The variants.
    pub variants: Vec<Pieces>,
}

/// A variant cut at every split point.
pub struct Pieces {
    /// Name of the variant.
    pub name: String,
    /// One more than there are split points.
    pub pieces: Vec<Graph>,
}

impl Family {
    /// Makes a network known by name.
    pub fn of(network: &str) -> Result<Self> {
        let architecture = Architecture::of(network).with_context(|| format!("no network is called {network}"))?;
        let whole = sample::known(architecture, SIDE, CLASSES, 1)?.folded()?;
        let pruned = pruned(&whole)?;
        let variants = [("unpruned", whole), ("pruned", pruned)];
        let variants = variants.map(|(name, graph)| {
            Ok(Pieces {
                name: name.into(),
                pieces: cut(&graph)?,
            })
        });
        Ok(Self {
            name: network.into(),
            variants: variants.into_iter().collect::<Result<_>>()?,
        })
    }

    /// Names of the split points.
    pub fn splits() -> Vec<String> {
        STRIDES.map(|it| format!("stride{it}")).into()
    }

    /// Writes a series with an operating point for every variant and split point, and for every variant run whole.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("segments"))?;
        fs::create_dir_all(folder.join("codecs"))?;
        let (mut variants, mut points) = (Vec::new(), Vec::new());
        for Pieces { name, pieces } in &self.variants {
            let files = pieces.iter().map(write_segment).collect::<Result<Vec<_>, _>>()?;
            let segments: Vec<Segment> = files.iter().map(Segment::from).collect();
            for (segment, file) in segments.iter().zip(&files) {
                fs::write(folder.join(segment.path()), &file.bytes)?;
            }
            for (split, file) in Self::splits().into_iter().zip(&files) {
                let (codec, json) = CodecFile::of(&FeatureCodecSpec {
                    bits: BITS,
                    steps: vec![0.25; file.output.channels()],
                    centres: vec![],
                    tables: Tables::uniform(BITS),
                });
                fs::write(folder.join(codec.file().path()), json)?;
                points.push(point(name, Split::At(split), Codec::Features(codec)));
            }
            points.push(point(name, Split::Output, Codec::None));
            variants.push(Variant {
                name: name.clone(),
                parent: None,
                input: None,
                widths: vec![1],
                accuracy: 10.0,
                segments,
                cuts: (1..=STRIDES.len()).map(Some).collect(),
            });
        }
        let manifest = self.manifest(variants, points)?;
        let path = folder.join("manifest.json");
        fs::write(&path, manifest.to_json()?).with_context(|| format!("cannot write {}", path.display()))
    }

    fn manifest(&self, variants: Vec<Variant>, operating_points: Vec<OperatingPoint>) -> Result<Manifest> {
        Ok(Manifest {
            unpruned: Unpruned {
                accuracy: 10.0,
                macs: variants[0].segments.iter().map(|it| it.macs).sum(),
                widths: vec![1],
            },
            split_points: Self::splits(),
            variants,
            operating_points,
            ..made_up::manifest(&self.name, (0..CLASSES).map(|it| format!("class {it}")), SIDE)?
        })
    }
}

/// Cuts where a split point sends the fewest channels, behind the last layer that has them.
fn cut(graph: &Graph) -> Result<Vec<Graph>> {
    let points = graph.cut_points();
    let nodes = STRIDES.map(|stride| {
        let here = points.iter().filter(|it| it.shape.height() == SIDE / stride);
        here.min_by_key(|it| (it.shape.channels(), Reverse(it.node)))
            .map(|it| it.node)
            .with_context(|| format!("no split point at stride {stride}"))
    });
    let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
    graph.pieces(nodes).context("the network cannot be cut there")
}

/// Keeps the same share of every layer's channels: the largest that leaves few enough multiply–accumulates.
fn pruned(graph: &Graph) -> Result<Graph> {
    let channels = graph.channel_groups();
    let kept = |percent: usize| {
        let mut kept = vec![true; channels.units()];
        for group in channels.groups() {
            let share = (group.units.len() * percent / 100).next_multiple_of(MULTIPLE);
            for unit in group.units.iter().skip(share) {
                kept[*unit] = false;
            }
        }
        kept
    };
    let most = graph.macs() as f64 * PRUNED;
    let few = |it: &Vec<bool>| graph.macs_with(&channels, graph.nodes().len(), |unit| it[unit]) as f64 <= most;
    let kept = (1..100).rev().map(kept).find(few).context("nothing to prune")?;
    Ok(graph.with_units(&channels, |unit| kept[unit])?)
}

fn point(variant: &str, split: Split, codec: Codec) -> OperatingPoint {
    let sent = if split == Split::Output { 0.0 } else { 1000.0 };
    OperatingPoint {
        variant: variant.into(),
        split,
        codec,
        accuracy: 10.0,
        mean_message_bytes: sent,
        p95_message_bytes: sent,
    }
}
