//! A network as burn tensors: what training changes and runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

use crate::block::Moments;
use crate::checkpoint::{Checkpoint, CheckpointError, NamedTensor};
use crate::network::{Description, KERNEL, LayerSpec};
use crate::operator::{Normalization, fused_block};
use crate::quantize::Quantizer;

/// Share of a new batch's moments in the running ones; PyTorch's default.
const MOMENTUM: f32 = 0.1;

/// One convolution with its batch norm, and whether a pool follows.
#[derive(Clone, Debug)]
pub struct Block {
    /// `[O, I, 3, 3]`.
    pub weight: Tensor<4>,
    /// Batch norm's scale, `[O]`.
    pub scale: Tensor<1>,
    /// Batch norm's shift, `[O]`.
    pub shift: Tensor<1>,
    /// Running moments; the variance is the unbiased one, as in PyTorch.
    pub moments: Arc<Moments>,
    /// Whether a max pool follows.
    pub pool: bool,
    position: usize,
}

/// A network on a device, without autodiff.
#[derive(Clone, Debug)]
pub struct Network {
    description: Description,
    /// The convolutions in order.
    pub blocks: Vec<Block>,
    /// Classifier's weight, `[classes, inputs]`.
    pub classifier: Tensor<2>,
    /// Classifier's bias, `[classes]`.
    pub bias: Tensor<1>,
}

/// The trainable parameters of one step, lifted to autodiff: those of the blocks from `first` on, and the classifier.
pub struct Lifted {
    first: usize,
    /// Weight, scale and shift of each trainable block.
    pub blocks: Vec<(Tensor<4>, Tensor<1>, Tensor<1>)>,
    /// The classifier's weight and bias.
    pub classifier: (Tensor<2>, Tensor<1>),
    slots: Vec<Arc<Mutex<Option<Moments>>>>,
}

/// What a training pass gives.
pub struct Pass {
    /// `[N, classes]`.
    pub logits: Tensor<2>,
    /// The features before quantisation, `[N, H, W, C]`, where there is a quantiser.
    pub features: Option<Tensor<4>>,
}

/// `f32` values of a tensor.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().iter::<f32>().collect()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

impl Network {
    /// Puts a checkpoint on a device.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: &Device) -> Result<Self, CheckpointError> {
        let description = checkpoint.description().clone();
        let layers = description.layers()?;
        let mut blocks: Vec<Block> = Vec::new();
        for layer in layers {
            match layer {
                LayerSpec::Convolution {
                    position,
                    inputs,
                    outputs,
                    ..
                } => {
                    let norm = |part: &str| {
                        let name = format!("features.{}.{part}", position + 1);
                        checkpoint.tensor(&name).map(|tensor| tensor.values.clone())
                    };
                    let weight = checkpoint
                        .tensor(&format!("features.{position}.weight"))?
                        .values
                        .clone();
                    blocks.push(Block {
                        weight: tensor(weight, [outputs, inputs, KERNEL, KERNEL], device),
                        scale: tensor(norm("weight")?, [outputs], device),
                        shift: tensor(norm("bias")?, [outputs], device),
                        moments: Arc::new(Moments {
                            mean: norm("running_mean")?,
                            variance: norm("running_var")?,
                        }),
                        pool: false,
                        position,
                    });
                }
                LayerSpec::Pool { .. } => {
                    if let Some(block) = blocks.last_mut() {
                        block.pool = true;
                    }
                }
                LayerSpec::Linear { .. } => {}
            }
        }
        let weight = checkpoint.tensor("classifier.weight")?;
        let shape = [weight.shape[0], weight.shape[1]];
        Ok(Self {
            description,
            blocks,
            classifier: tensor(weight.values.clone(), shape, device),
            bias: tensor(checkpoint.tensor("classifier.bias")?.values.clone(), [shape[0]], device),
        })
    }

    /// The same as a checkpoint.
    pub fn to_checkpoint(&self) -> Result<Checkpoint, CheckpointError> {
        let mut tensors = BTreeMap::new();
        let mut put = |name: String, shape: Vec<usize>, values: Vec<f32>| {
            tensors.insert(name, NamedTensor { shape, values });
        };
        for block in &self.blocks {
            let norm = |part: &str| format!("features.{}.{part}", block.position + 1);
            put(
                format!("features.{}.weight", block.position),
                block.weight.dims().to_vec(),
                values(&block.weight),
            );
            let outputs = vec![block.moments.mean.len()];
            put(norm("weight"), outputs.clone(), values(&block.scale));
            put(norm("bias"), outputs.clone(), values(&block.shift));
            put(norm("running_mean"), outputs.clone(), block.moments.mean.clone());
            put(norm("running_var"), outputs, block.moments.variance.clone());
        }
        put(
            "classifier.weight".to_owned(),
            self.classifier.dims().to_vec(),
            values(&self.classifier),
        );
        put(
            "classifier.bias".to_owned(),
            self.bias.dims().to_vec(),
            values(&self.bias),
        );
        Checkpoint::new(self.description.clone(), tensors)
    }

    /// What network this is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Records the quantiser that the network is trained with.
    pub fn set_quantizer(&mut self, quantizer: Option<crate::network::FeatureQuantizer>) {
        self.description.quantizer = quantizer;
    }

    /// Runs blocks `range` with running moments, without gradients; `[N, H, W, C]` to the same.
    pub fn run_blocks(&self, input: Tensor<4>, range: std::ops::Range<usize>) -> Tensor<4> {
        self.blocks[range].iter().fold(input, |input, block| {
            let fixed = Normalization::Fixed(block.moments.clone());
            fused_block(
                input,
                block.weight.clone(),
                block.scale.clone(),
                block.shift.clone(),
                fixed,
                block.pool,
            )
        })
    }

    /// Class logits `[N, classes]` of pictures `[N, H, W, C]`, batch norm in evaluation mode; through the quantiser after the
    /// block it names, if there is one.
    pub fn evaluate(&self, input: Tensor<4>, from: usize, quantizer: Option<&Quantizer>) -> Tensor<2> {
        let cut = quantizer.map_or(from, |quantizer| quantizer.block + 1);
        let mut features = self.run_blocks(input, from..cut);
        if let Some(quantizer) = quantizer {
            features = quantizer.apply(features);
        }
        let features = self.run_blocks(features, cut..self.blocks.len());
        classify(features, self.classifier.clone(), self.bias.clone())
    }

    /// Lifts the parameters from block `first` on to autodiff.
    pub fn lift(&self, first: usize) -> Lifted {
        let blocks = self.blocks[first..].iter();
        Lifted {
            first,
            slots: blocks.clone().map(|_| Arc::default()).collect(),
            blocks: blocks
                .map(|it| (leaf(&it.weight), leaf(&it.scale), leaf(&it.shift)))
                .collect(),
            classifier: (leaf(&self.classifier), leaf(&self.bias)),
        }
    }

    /// Training pass from the input of block `lifted.first` on, batch norm by the batch's moments.
    pub fn train(&self, input: Tensor<4>, lifted: &Lifted, quantizer: Option<&Quantizer>) -> Pass {
        let mut flow = Tensor::from_inner(input);
        let mut features = None;
        for (at, (weight, scale, shift)) in lifted.blocks.iter().enumerate() {
            let block = lifted.first + at;
            let batch = Normalization::Batch(lifted.slots[at].clone());
            flow = fused_block(
                flow,
                weight.clone(),
                scale.clone(),
                shift.clone(),
                batch,
                self.blocks[block].pool,
            );
            if let Some(quantizer) = quantizer.filter(|quantizer| quantizer.block == block) {
                features = Some(flow.clone());
                flow = quantizer.apply_straight_through(flow);
            }
        }
        let (weight, bias) = &lifted.classifier;
        Pass {
            logits: classify(flow, weight.clone(), bias.clone()),
            features,
        }
    }

    /// Moves the running moments towards those of the batch that a pass has seen.
    pub fn update_moments(&mut self, lifted: &Lifted, batch: usize) {
        let mut area = self.description.input[1] * self.description.input[2];
        for (at, block) in self.blocks.iter_mut().enumerate() {
            let slot = at.checked_sub(lifted.first).and_then(|at| lifted.slots.get(at));
            let seen = slot.and_then(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
            if let Some(seen) = seen {
                let count = (batch * area) as f32;
                let running = Arc::make_mut(&mut block.moments);
                blend(&mut running.mean, &seen.mean, 1.0);
                blend(&mut running.variance, &seen.variance, count / (count - 1.0).max(1.0));
            }
            if block.pool {
                area /= 4;
            }
        }
    }

    /// Keeps the filters `kept` of block `index`, and what later layers read of them.
    pub fn keep_filters(&mut self, index: usize, kept: &[usize]) -> Result<(), CheckpointError> {
        let checkpoint = crate::prune::keep_filters(&self.to_checkpoint()?, index, kept)?;
        *self = Self::from_checkpoint(&checkpoint, &self.bias.device())?;
        Ok(())
    }
}

fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor.clone()).require_grad()
}

fn blend(running: &mut [f32], seen: &[f32], factor: f32) {
    running
        .iter_mut()
        .zip(seen)
        .for_each(|(running, seen)| *running += MOMENTUM * (seen * factor - *running));
}

/// The classifier on `[N, H, W, C]`, flattened as `[C, H, W]`.
fn classify(features: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let flat: Tensor<2> = features.permute([0, 3, 1, 2]).flatten(1, 3);
    flat.matmul(weight.transpose()) + bias.unsqueeze()
}
