//! Joins segments into one graph and runs it.

#[cfg(test)]
mod tests;

use std::{sync::LazyLock, time::Duration};

use fearless_simd::Level;
use split_core::Shape;
use split_graph::Graph;
use split_kernels::Stack;
use tract_core::internal::*;
use tract_nnef::ast::{ProtoModel, parse::parse_document};
use tract_nnef::internal::Nnef;

use crate::archive::{ArchiveError, files, gunzip};
use crate::read::{Reader, read_tensor};

/// A head, a tail or a whole network, optimised and ready to run.
///
/// A clone shares the weights and the plan, and runs independently: make one per thread.
#[derive(Clone, Debug)]
pub struct Network {
    input: Shape,
    output: Shape,
    pub(crate) engine: Engine,
}

#[derive(Clone, Debug)]
pub(crate) enum Engine {
    /// The network of no segments.
    Identity,
    /// The fast path, for networks of layers that follow one another.
    Stack(Stack),
    /// Any other network.
    Tract(TypedSimpleState),
}

/// Why segments could not be made into a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The segment's container is damaged.
    #[error("segment {segment}: {source}")]
    Archive {
        /// Position in the list, from 0.
        segment: usize,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// The container is sound, what is inside is not a network.
    #[error("segment {segment} is not a network: {reason}")]
    Graph {
        /// Position in the list, from 0.
        segment: usize,
        /// What the engine says.
        reason: String,
    },
    /// The segment does not continue the one before it.
    #[error("segment {segment} takes {expected}, what comes before it gives {got}")]
    Mismatch {
        /// Position in the list, from 0.
        segment: usize,
        /// Shape that the segment takes, with its batch axis.
        expected: String,
        /// Shape that the segments before it give.
        got: Shape,
    },
    /// The joined graph cannot be prepared.
    #[error("the segments do not make a network that can run: {0}")]
    Optimize(String),
}

/// Why a network could not run.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The input's length is not that of so many images.
    #[error("{batch} × {shape} takes {expected} values, got {got}", expected = .batch.saturating_mul(.shape.values()))]
    Length {
        /// Images asked for.
        batch: usize,
        /// Shape of one.
        shape: Shape,
        /// Values given.
        got: usize,
    },
    /// The engine failed, which a loaded network should never do.
    #[error("the inference engine failed: {0}")]
    Engine(String),
}

impl Network {
    /// Joins segments that follow one another and optimises the whole. No segments give the identity.
    ///
    /// Damaged bytes are refused: gzip's checksum is always verified and nothing unpacks to more than
    /// [`MAX_UNPACKED_BYTES`](crate::MAX_UNPACKED_BYTES). Whoever downloads a segment checks its SHA-256 first, so the graph inside is
    /// as trustworthy as the manifest that names it.
    pub fn load<'a>(input: Shape, segments: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, LoadError> {
        Self::load_with(input, segments, |graph| Some(Stack::new(Level::new(), graph)))
    }

    /// As [`load`](Self::load), and prepared for several images at once as far as that takes less time, which is measured.
    ///
    /// `now` is the time since some fixed moment.
    pub fn load_for_batches<'a>(
        input: Shape,
        segments: impl IntoIterator<Item = &'a [u8]>,
        now: impl Fn() -> Duration,
    ) -> Result<Self, LoadError> {
        Self::load_with(input, segments, |graph| {
            Some(Stack::for_batches(Level::new(), graph, now))
        })
    }

    /// As [`load`](Self::load), on vectors no wider than a browser has: times of such networks compare as they do in browsers.
    pub fn load_as_in_browsers<'a>(
        input: Shape,
        segments: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, LoadError> {
        Self::load_with(input, segments, |graph| Some(Stack::new(narrow(Level::new()), graph)))
    }

    /// Whether several images take less time together than one after the other.
    pub fn gains_from_batches(&self) -> bool {
        matches!(&self.engine, Engine::Stack(stack) if stack.batch().is_some())
    }

    /// `prepare` makes the fast path of a network; without it tract runs it.
    pub(crate) fn load_with<'a>(
        input: Shape,
        segments: impl IntoIterator<Item = &'a [u8]>,
        prepare: impl FnOnce(Graph) -> Option<Stack>,
    ) -> Result<Self, LoadError> {
        let segments: Vec<&[u8]> = segments.into_iter().collect();
        if segments.is_empty() {
            return Ok(Self {
                input,
                output: input,
                engine: Engine::Identity,
            });
        }
        let graph = match read_segments(input, segments.iter().copied()) {
            Ok(graph) => Some(graph),
            // tract may know more, or say what is wrong.
            Err(LoadError::Graph { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some((output, stack)) = graph.and_then(|it| Some((it.output(), prepare(it)?))) {
            return Ok(Self {
                input,
                output,
                engine: Engine::Stack(stack),
            });
        }
        let joined = Joined::of(input, &segments)?;
        Ok(Self {
            input,
            output: joined.shape,
            engine: Engine::Tract(joined.optimize().map_err(optimize)?),
        })
    }

    /// Prepares a whole network with its weights as they are, 32 bits wide, rather than rounded as in segments.
    pub fn of(network: &Graph) -> Result<Self, LoadError> {
        let folded = network.folded().map_err(|it| LoadError::Optimize(it.to_string()))?;
        Ok(Self {
            input: network.input(),
            output: network.output(),
            engine: Engine::Stack(Stack::new(Level::new(), folded)),
        })
    }

    /// Shape of one input, without the batch axis.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Shape of one output, without the batch axis. A vector is `[O, 1, 1]`.
    pub fn output(&self) -> Shape {
        self.output
    }

    /// Runs `batch` images, one after another in `input`, and writes their outputs one after another to `output`.
    ///
    /// Where batches were not prepared for or gain nothing, and for networks that tract runs, images go one by one: an image's output is then the same, bit
    /// for bit, whatever else is in its batch. Otherwise it is the same but for rounding.
    pub fn run(&mut self, batch: usize, input: &[f32], output: &mut Vec<f32>) -> Result<(), RunError> {
        let values = self.input.values();
        if batch.checked_mul(values) != Some(input.len()) {
            return Err(RunError::Length {
                batch,
                shape: self.input,
                got: input.len(),
            });
        }
        output.clear();
        match &mut self.engine {
            Engine::Identity => output.extend_from_slice(input),
            Engine::Stack(stack) => stack.run(input, output),
            Engine::Tract(state) => {
                for image in input.chunks_exact(values) {
                    run_one(state, self.input, image, output).map_err(|it| RunError::Engine(format!("{it:#}")))?;
                }
            }
        }
        Ok(())
    }
}

/// The network that neighbouring segments make, the first of which takes `input`; a linear layer comes back as the convolution that it is
/// written as.
///
/// Fails where [`Network::load`] would, and for anything that [`write_segment`](crate::write_segment) does not write.
pub fn read_segments<'a>(input: Shape, segments: impl IntoIterator<Item = &'a [u8]>) -> Result<Graph, LoadError> {
    let mut reader = Reader::new(input);
    for (segment, bytes) in segments.into_iter().enumerate() {
        let archive = |source| LoadError::Archive { segment, source };
        let tar = gunzip(bytes).map_err(archive)?;
        let files = files(&tar).map_err(archive)?;
        reader.append(segment, &files).ok_or_else(|| LoadError::Graph {
            segment,
            reason: "it is not as segments are written, or takes another shape".into(),
        })?;
    }
    reader.finish().map_err(|it| LoadError::Optimize(it.to_string()))
}

fn run_one(state: &mut TypedSimpleState, shape: Shape, image: &[f32], output: &mut Vec<f32>) -> TractResult<()> {
    let [c, h, w] = shape.into();
    let tensor = Tensor::from_shape(&[1, c, h, w], image)?;
    let results = state.run(tvec!(tensor.into_tvalue()))?;
    output.extend_from_slice(results[0].try_as_plain_ram()?.as_slice::<f32>()?);
    Ok(())
}

/// The level whose vectors have 128 bits.
fn narrow(level: Level) -> Level {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(narrow) = level.as_sse4_2() {
        return Level::Sse4_2(narrow);
    }
    level
}

fn optimize(error: TractError) -> LoadError {
    LoadError::Optimize(format!("{error:#}"))
}

/// tract's graph so far. Segments are joined before anything is optimised, so the seams leave no trace in the plan.
struct Joined {
    model: TypedModel,
    last: OutletId,
    shape: Shape,
}

impl Joined {
    fn of(input: Shape, segments: &[&[u8]]) -> Result<Self, LoadError> {
        let mut model = TypedModel::default();
        let [c, h, w] = input.into();
        let source = model.add_source("input", f32::fact([1, c, h, w])).map_err(optimize)?;
        let mut joined = Self {
            model,
            last: source,
            shape: input,
        };
        for (segment, bytes) in segments.iter().enumerate() {
            joined.append(segment, bytes)?;
        }
        Ok(joined)
    }

    fn append(&mut self, segment: usize, bytes: &[u8]) -> Result<(), LoadError> {
        let graph = |it: TractError| LoadError::Graph {
            segment,
            reason: format!("{it:#}"),
        };
        let archive = |source| LoadError::Archive { segment, source };
        let tar = gunzip(bytes).map_err(archive)?;
        let part = model(&files(&tar).map_err(archive)?).map_err(graph)?;
        let expected = part.input_fact(0).map_err(graph)?.shape.clone();
        let [c, h, w]: [usize; 3] = self.shape.into();
        if part.inputs.len() != 1 || expected.rank() != 4 || expected[1..] != [c.into(), h.into(), w.into()] {
            let expected = format!("{expected:?}");
            return Err(LoadError::Mismatch {
                segment,
                expected,
                got: self.shape,
            });
        }
        self.last = self.copy(segment, &part).map_err(graph)?;
        self.shape = self.last_shape().map_err(graph)?;
        Ok(())
    }

    /// Copies the nodes of `part`, its input being the end of the graph so far. Returns the new end.
    fn copy(&mut self, segment: usize, part: &TypedModel) -> TractResult<OutletId> {
        let source = part.input_outlets()?[0];
        let mut mapped = HashMap::from([(source, self.last)]);
        for id in part.eval_order()?.into_iter().filter(|id| *id != source.node) {
            let node = part.node(id);
            let inputs = node
                .inputs
                .iter()
                .map(|it| mapped.get(it).copied().context("a value is used before it is made"))
                .collect::<TractResult<TVec<_>>>()?;
            let name = format!("segment{segment}.{}", node.name);
            // tract folds only up to a few megabytes; a larger weight would be widened and packed anew in every run.
            let outlets = match self.constant(node, &inputs)? {
                Some(values) => {
                    let add =
                        |(slot, it): (_, TValue)| self.model.add_const(format!("{name}.{slot}"), it.into_arc_tensor());
                    values.into_iter().enumerate().map(add).collect::<TractResult<_>>()?
                }
                None => self.model.wire_node(name, node.op.clone(), &inputs)?,
            };
            mapped.extend(
                outlets
                    .into_iter()
                    .enumerate()
                    .map(|(slot, it)| (OutletId::new(id, slot), it)),
            );
        }
        mapped
            .get(&part.output_outlets()?[0])
            .copied()
            .context("the graph has no output")
    }

    /// What a node makes of constants, if those are all it takes.
    fn constant(&self, node: &TypedNode, inputs: &[OutletId]) -> TractResult<Option<TVec<TValue>>> {
        let known = |it: &OutletId| Ok(self.model.outlet_fact(*it)?.konst.clone().map(IntoTValue::into_tvalue));
        match inputs.iter().map(known).collect::<TractResult<Option<TVec<_>>>>()? {
            Some(constants) if !constants.is_empty() => node.op.eval_out_of_plan(constants),
            _ => Ok(None),
        }
    }

    fn last_shape(&self) -> TractResult<Shape> {
        let fact = self.model.outlet_fact(self.last)?;
        ensure!(
            fact.datum_type == f32::datum_type(),
            "the output is {:?}, not f32",
            fact.datum_type
        );
        match fact.shape.as_concrete() {
            Some(&[1, c, h, w]) => Ok(Shape::new(c, h, w)?),
            _ => bail!("the output is {:?}, not [1, C, H, W]", fact.shape),
        }
    }

    fn optimize(mut self) -> TractResult<TypedSimpleState> {
        self.model.select_output_outlets(&[self.last])?;
        self.model.into_optimized()?.into_runnable()?.spawn()
    }
}

/// tract's graph of a segment. Of what tract reads, graph and tensors only: no archives within the archive, whose graphs could be anything.
fn model(files: &HashMap<String, &[u8]>) -> TractResult<TypedModel> {
    let text = files.get("graph.nnef").context("there is no graph.nnef")?;
    let tensors = files.iter().filter_map(|(name, bytes)| {
        let name = name.strip_suffix(".dat")?;
        let tensor = read_tensor(bytes)
            .with_context(|| format!("{name}.dat is damaged or holds no floats"))
            .and_then(|(shape, values)| Tensor::from_shape(&shape, &values));
        Some(tensor.map(|it| (name.into(), Arc::new(it))))
    });
    let segment = ProtoModel {
        doc: parse_document(std::str::from_utf8(text)?)?,
        tensors: tensors.collect::<TractResult<_>>()?,
        quantization: None,
        resources: HashMap::new(),
    };
    READER.model_for_proto_model(&segment)
}

/// Made once, since tract parses NNEF's standard operators for it, which takes longer than a head.
static READER: LazyLock<Nnef> = LazyLock::new(Nnef::default);
