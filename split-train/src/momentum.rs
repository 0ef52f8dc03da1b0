//! Stochastic gradient descent with Nesterov's momentum.

use crate::network::{Gradients, Network, Role};

/// The optimizer, and its memory of earlier steps.
#[derive(Clone, Debug, Default)]
pub struct Momentum {
    /// Share of the earlier steps that is kept, from 0 to 1.
    pub momentum: f32,
    /// Pulls every weight of a convolution or a linear layer towards zero; not batch norm's, nor biases.
    pub weight_decay: f32,
    /// Pulls every scale of batch norm towards zero, by the same amount whatever its size, so that channels that matter little fall to zero (Liu et al.
    /// 2017, *Learning efficient convolutional networks through network slimming*).
    pub sparsity: f32,
    velocity: Vec<Vec<f32>>,
}

impl Momentum {
    /// One without memory, nor sparsity.
    pub fn new(momentum: f32, weight_decay: f32) -> Self {
        Self {
            momentum,
            weight_decay,
            ..Self::default()
        }
    }

    /// The same, which pulls batch norm's scales towards zero.
    pub fn with_sparsity(self, sparsity: f32) -> Self {
        Self { sparsity, ..self }
    }

    /// The memory: for each parameter, in the order of [`Network::parameters_mut`], as many values; none before it first learns.
    pub fn velocity(&self) -> &[Vec<f32>] {
        &self.velocity
    }

    /// Goes on with the memory of an optimizer of the same network; none forgets everything, as must be after filters were removed.
    pub fn remember(&mut self, velocity: Vec<Vec<f32>>) {
        self.velocity = velocity;
    }

    /// Takes one step: as PyTorch does it, velocity ← momentum · velocity + gradient; weight ← weight − rate · (gradient + momentum · velocity).
    pub fn step(&mut self, network: &mut Network, gradients: &Gradients, rate: f32) {
        let Self {
            momentum,
            weight_decay,
            sparsity,
            ..
        } = *self;
        let parameters = network.parameters_mut();
        self.velocity.resize_with(parameters.len(), Vec::new);
        let all = parameters
            .into_iter()
            .zip(&gradients.parameters)
            .zip(&mut self.velocity);
        for (((values, role), gradient), velocity) in all {
            if gradient.is_empty() {
                continue;
            }
            velocity.resize(values.len(), 0.0);
            // In proportion to the values, and by their sign.
            let [by_value, by_sign] = match role {
                Role::Weight => [weight_decay, 0.0],
                Role::Scale => [0.0, sparsity],
                Role::Shift => [0.0, 0.0],
            };
            for ((value, slope), velocity) in values.iter_mut().zip(gradient).zip(velocity) {
                let slope = slope + by_value * *value + by_sign * sign(*value);
                *velocity = momentum * *velocity + slope;
                *value -= rate * (slope + momentum * *velocity);
            }
        }
    }
}

/// −1, 0 or 1.
fn sign(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { value.signum() }
}
