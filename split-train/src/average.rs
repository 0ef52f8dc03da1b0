//! The mean of a network's weights over its last steps.

use crate::network::Network;

/// An exponential moving average of weights and of batch norm's running moments. It generalises better than the weights of any one step (Izmailov et
/// al. 2018, *Averaging weights leads to wider optima and better generalization*).
#[derive(Clone, Debug, Default)]
pub struct Average {
    values: Vec<Vec<f32>>,
    steps: u64,
}

impl Average {
    /// Continues from the mean that was saved after this many steps. Without values, it starts from the network's own at the first step.
    pub fn new(values: Vec<Vec<f32>>, steps: u64) -> Self {
        Self { values, steps }
    }

    /// The mean: for each of [`Network::state_mut`], as many values; none before the first step.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Adds the network's weights after a step. The mean covers about the last `span` steps, or all steps while there are fewer.
    pub fn add(&mut self, network: &mut Network, span: f64) {
        let state = network.state_mut();
        self.steps += 1;
        if self.values.len() != state.len() {
            self.values = state.into_iter().map(|it| it.clone()).collect();
            return;
        }
        let share = (1.0 / span.min(self.steps as f64).max(1.0)) as f32;
        for (mean, now) in self.values.iter_mut().zip(state) {
            for (mean, now) in mean.iter_mut().zip(now.iter()) {
                *mean += share * (now - *mean);
            }
        }
    }

    /// Exchanges the mean and the network's own values: a second time, all is as before. Does nothing before the first step.
    pub fn swap(&mut self, network: &mut Network) {
        for (mean, now) in self.values.iter_mut().zip(network.state_mut()) {
            std::mem::swap(mean, now);
        }
    }
}
