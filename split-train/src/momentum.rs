//! Stochastic gradient descent with Nesterov's momentum.

use crate::network::{Gradients, Network};

/// The optimizer, and its memory of earlier steps.
#[derive(Clone, Debug, Default)]
pub struct Momentum {
    /// Share of the earlier steps that is kept, from 0 to 1.
    pub momentum: f32,
    /// Pulls every weight of a convolution or a linear layer towards zero; not batch norm's, nor biases.
    pub weight_decay: f32,
    velocity: Vec<Vec<f32>>,
}

impl Momentum {
    /// One without memory.
    pub fn new(momentum: f32, weight_decay: f32) -> Self {
        Self {
            momentum,
            weight_decay,
            velocity: Vec::new(),
        }
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
        let parameters = network.parameters_mut();
        self.velocity.resize_with(parameters.len(), Vec::new);
        let all = parameters
            .into_iter()
            .zip(&gradients.parameters)
            .zip(&mut self.velocity);
        for (((values, decays), gradient), velocity) in all {
            if gradient.is_empty() {
                continue;
            }
            velocity.resize(values.len(), 0.0);
            let (momentum, decay) = (self.momentum, if decays { self.weight_decay } else { 0.0 });
            for ((value, slope), velocity) in values.iter_mut().zip(gradient).zip(velocity) {
                let slope = slope + decay * *value;
                *velocity = momentum * *velocity + slope;
                *value -= rate * (slope + momentum * *velocity);
            }
        }
    }
}
