//! Runs networks as they are served, on all threads: whatever does not learn.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use split_core::Shape;
use split_graph::Graph;
use split_runtime::Network;

/// A network for every thread.
pub struct Inference {
    networks: Vec<Mutex<Network>>,
    input: Shape,
    output: Shape,
}

impl Inference {
    /// Prepares a network, batch norm by its running moments.
    pub fn new(graph: &Graph) -> anyhow::Result<Self> {
        let network = Network::of(graph)?;
        Ok(Self {
            networks: vec![network; rayon::current_num_threads().max(1)]
                .into_iter()
                .map(Mutex::new)
                .collect(),
            input: graph.input(),
            output: graph.output(),
        })
    }

    /// Outputs `[N, H, W, C]` of images `[N, H, W, C]`.
    pub fn run(&self, images: &[f32]) -> anyhow::Result<Vec<f32>> {
        let each = self.output.values();
        let count = images.len() / self.input.values();
        let mut outputs = vec![0.0; count * each];
        let share = count.div_ceil(self.networks.len()).max(1);
        let parts = outputs
            .par_chunks_mut(share * each)
            .zip(images.par_chunks(share * self.input.values()))
            .zip(&self.networks);
        parts.try_for_each(|((outputs, images), network)| {
            let mut network = network.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut planes, mut made) = (vec![0.0; self.input.values()], Vec::new());
            let all = outputs.chunks_exact_mut(each).zip(images.chunks_exact(planes.len()));
            for (output, image) in all {
                to_planes(image, self.input.channels(), &mut planes);
                network.run(1, &planes, &mut made)?;
                // The way back is the same with positions for channels.
                to_planes(&made, self.output.positions(), output);
            }
            anyhow::Ok(())
        })?;
        Ok(outputs)
    }
}

/// `[positions, C]` to `[C, positions]`.
pub fn to_planes(image: &[f32], channels: usize, planes: &mut [f32]) {
    let positions = image.len() / channels;
    for (position, pixel) in image.chunks_exact(channels).enumerate() {
        for (channel, value) in pixel.iter().enumerate() {
            planes[channel * positions + position] = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use split_graph::sample::{self, Noise};
    use split_train::Network;

    use super::*;

    #[test]
    fn networks_answer_as_they_do_in_training() {
        for seed in 0..40 {
            let graph = sample::network(seed).unwrap();
            let images = Noise::new(seed).values(5 * graph.input().values());
            let expected = Network::new(&graph).evaluate(&images, &mut ());
            let got = Inference::new(&graph).unwrap().run(&images).unwrap();
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(&expected) {
                let close = (got - expected).abs() <= 1e-3 * (1.0 + expected.abs());
                assert!(close, "network {seed}: {got} is not {expected}");
            }
        }
    }
}
