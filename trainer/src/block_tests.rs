//! The fused block against burn's own operations.

use std::sync::Arc;

use burn::tensor::{
    Device, Tensor, TensorData,
    activation::relu,
    module,
    ops::{ConvOptions, MaxPoolOptions},
};

use crate::block::Moments;
use crate::model::values;
use crate::network::BATCH_NORM_EPSILON;
use crate::operator::{Normalization, fused_block};

fn noise<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let count = shape.iter().product::<usize>() as u64;
    let unit = |at| crate::augment::mix(seed << 32 ^ at) as f32 / u64::MAX as f32 - 0.5;
    Tensor::from_data(
        TensorData::new((0..count).map(unit).collect::<Vec<f32>>(), shape),
        device,
    )
}

/// The same from burn's own operations, `[N, C, H, W]` inside.
fn plain(
    input: Tensor<4>,
    weight: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    fixed: Option<&Moments>,
    pool: bool,
) -> Tensor<4> {
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let y = module::conv2d(input.permute([0, 3, 1, 2]), weight, None, options);
    let channels = scale.dims()[0];
    let wide = |tensor: Tensor<1>| tensor.reshape([1, channels, 1, 1]);
    let (mean, variance) = match fixed {
        Some(moments) => [&moments.mean, &moments.variance]
            .map(|it| wide(Tensor::from_data(TensorData::new(it.clone(), [channels]), &y.device())))
            .into(),
        None => {
            let mean = y.clone().mean_dim(0).mean_dim(2).mean_dim(3);
            let centred = y.clone() - mean.clone();
            (mean, (centred.clone() * centred).mean_dim(0).mean_dim(2).mean_dim(3))
        }
    };
    let normal = (y - mean) / (variance + f64::from(BATCH_NORM_EPSILON)).sqrt();
    let z = relu(normal * wide(scale) + wide(shift));
    let z = if pool {
        module::max_pool2d(z, MaxPoolOptions::new([2, 2]))
    } else {
        z
    };
    z.permute([0, 2, 3, 1])
}

fn close(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let greatest = b.iter().fold(1e-3_f32, |greatest, value| greatest.max(value.abs()));
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() <= 2e-4 * greatest,
            "{what}[{at}]: {a} against {b}, of at most {greatest}"
        );
    }
}

fn check(shape: [usize; 4], outputs: usize, pool: bool, fixed: bool) {
    let device = Device::flex().autodiff();
    let moments = Moments {
        mean: vec![0.05; outputs],
        variance: vec![0.3; outputs],
    };
    let run = |fused: bool| {
        let leaf = |tensor: Tensor<4>| tensor.require_grad();
        let input = leaf(noise(shape, 1, &device));
        let weight = leaf(noise([outputs, shape[3], 3, 3], 2, &device));
        let scale = (noise([outputs], 3, &device) + 1.0).require_grad();
        let shift = noise([outputs], 4, &device).require_grad();
        let arguments = (input.clone(), weight.clone(), scale.clone(), shift.clone());
        let (a, b, c, d) = arguments;
        let z = match fused {
            true if fixed => fused_block(a, b, c, d, Normalization::Fixed(Arc::new(moments.clone())), pool),
            true => fused_block(a, b, c, d, Normalization::Batch(Arc::default()), pool),
            false => plain(a, b, c, d, fixed.then_some(&moments), pool),
        };
        let gradients = (z.clone() * noise(z.dims(), 5, &device)).sum().backward();
        let of4 = |tensor: &Tensor<4>| values(&tensor.grad(&gradients).unwrap());
        let of1 = |tensor: &Tensor<1>| values(&tensor.grad(&gradients).unwrap());
        [values(&z.inner()), of4(&input), of4(&weight), of1(&scale), of1(&shift)]
    };
    let names = [
        "output",
        "input gradient",
        "weight gradient",
        "scale gradient",
        "shift gradient",
    ];
    for ((name, a), b) in names.into_iter().zip(run(true)).zip(run(false)) {
        close(name, &a, &b);
    }
}

#[test]
fn fused_block_equals_burns_operations() {
    check([3, 8, 8, 3], 20, false, false);
    check([2, 6, 4, 17], 48, true, false);
    check([5, 2, 2, 40], 70, true, false);
    check([2, 7, 5, 5], 9, true, true);
    check([130, 2, 2, 8], 33, false, true);
}
