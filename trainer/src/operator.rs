//! [`crate::block`] as an operation of burn's CPU backend, with its gradient.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

use crate::block::{self, Moments, Norm, Saved, Sizes};

/// How a block normalises.
#[derive(Clone, Debug)]
pub enum Normalization {
    /// By the batch's own moments, which are left in the slot.
    Batch(Arc<Mutex<Option<Moments>>>),
    /// By moments given.
    Fixed(Arc<Moments>),
}

impl Normalization {
    fn fixed(&self) -> Option<&Moments> {
        match self {
            Self::Batch(_) => None,
            Self::Fixed(moments) => Some(moments),
        }
    }
}

/// Backends with the fused block.
#[backend_extension(Flex, Autodiff)]
pub trait BlockBackend: Backend {
    /// See [`fused_block`].
    fn fused_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        normalization: Normalization,
        pool: bool,
    ) -> FloatTensor<Self>;
}

/// Convolution, batch norm, ReLU and perhaps pool of `input` `[N, H, W, I]`; `weight` is `[O, I, 3, 3]`, `scale` and `shift` `[O]`.
///
/// Only for tensors of the `flex` device, with autodiff or without.
pub fn fused_block(
    input: Tensor<4>,
    weight: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    normalization: Normalization,
    pool: bool,
) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as BlockBackend>::fused_block(
        input.into_dispatch(),
        weight.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        normalization,
        pool,
    ))
}

/// The operation's inputs as they are read again for the gradient. Cloning shares the values.
#[derive(Clone, Debug)]
struct Inputs {
    sizes: Sizes,
    input: FlexTensor,
    weight: FlexTensor,
    scale: FlexTensor,
    shift: FlexTensor,
    normalization: Normalization,
}

impl Inputs {
    fn new(tensors: [FlexTensor; 4], normalization: Normalization, pool: bool) -> Self {
        let [input, weight, scale, shift] = tensors.map(|tensor| tensor.to_contiguous());
        let shape = input.shape();
        let sizes = Sizes {
            batch: shape[0],
            height: shape[1],
            width: shape[2],
            inputs: shape[3],
            outputs: weight.shape()[0],
            pool,
        };
        Self {
            sizes,
            input,
            weight,
            scale,
            shift,
            normalization,
        }
    }

    fn norm(&self) -> Norm<'_> {
        Norm {
            scale: values(&self.scale),
            shift: values(&self.shift),
            fixed: self.normalization.fixed(),
        }
    }

    fn forward(&self) -> (FlexTensor, Saved) {
        let (output, saved) = block::forward(self.sizes, values(&self.input), values(&self.weight), self.norm());
        if let Normalization::Batch(slot) = &self.normalization {
            let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *slot = Some(saved.moments.clone());
        }
        let [height, width] = self.sizes.output();
        (
            tensor(output, &[self.sizes.batch, height, width, self.sizes.outputs]),
            saved,
        )
    }
}

/// The values of a contiguous tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

impl BlockBackend for Flex {
    fn fused_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        normalization: Normalization,
        pool: bool,
    ) -> FloatTensor<Self> {
        Inputs::new([input, weight, scale, shift], normalization, pool)
            .forward()
            .0
    }
}

#[derive(Debug)]
struct FusedBlock;

impl Backward<Flex, 4> for FusedBlock {
    type State = (Inputs, Arc<Saved>);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [input_node, weight_node, scale_node, shift_node] = ops.parents;
        let slope = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (inputs, saved) = ops.state;
        let gradients = block::backward(
            inputs.sizes,
            values(&inputs.input),
            values(&inputs.weight),
            inputs.norm(),
            &saved,
            values(&slope),
            input_node.is_some(),
        );
        let shape = |tensor: &FlexTensor| tensor.shape().to_vec();
        for (node, gradient, of) in [
            (input_node, gradients.input, &inputs.input),
            (weight_node, gradients.weight, &inputs.weight),
            (scale_node, gradients.scale, &inputs.scale),
            (shift_node, gradients.shift, &inputs.shift),
        ] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(gradient, &shape(of)));
            }
        }
    }
}

impl<C: CheckpointStrategy> BlockBackend for Autodiff<Flex, C> {
    fn fused_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        normalization: Normalization,
        pool: bool,
    ) -> FloatTensor<Self> {
        let prepared = FusedBlock
            .prepare::<C>([input.node(), weight.node(), scale.node(), shift.node()])
            .compute_bound()
            .stateful();
        let tensors = [input, weight, scale, shift].map(|tensor| tensor.into_primitive());
        let inputs = Inputs::new(tensors, normalization, pool);
        let (output, saved) = inputs.forward();
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((inputs, Arc::new(saved)), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}
