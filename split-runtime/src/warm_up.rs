//! Lets a JavaScript engine optimise the kernels before the first head.

use split_core::Shape;
use split_graph::{Activation, Convolution, Graph, Node, Op, Source, Window};

use crate::{LoadError, Network};

/// After this many runs of a network of some million products, V8 compiles every kernel again.
const RUNS: usize = 2;

/// Runs each kernel for a few milliseconds. Call it while the first head is being downloaded.
///
/// Browsers compile WebAssembly twice: at once, to slow code, and what has run for a while again, on another thread, to code several times
/// faster. Without this, the first runs of the first head are slow.
///
/// Fails only through a fault of this crate.
pub fn warm_up() -> Result<(), LoadError> {
    let failed = |it: &dyn std::error::Error| LoadError::Optimize(it.to_string());
    let input = Shape::new(3, 64, 64).map_err(|it| failed(&it))?;
    let graph = Graph::new(input, nodes()).map_err(|it| failed(&it))?;
    let mut network = Network::of(&graph)?;
    let image = vec![1.0; input.values()];
    let mut output = Vec::new();
    for _ in 0..RUNS {
        network.run(1, &image, &mut output).map_err(|it| failed(&it))?;
    }
    Ok(())
}

/// A stem, an inverted bottleneck and a convolution.
fn nodes() -> Vec<Node> {
    let convolution = |inputs: usize, outputs: usize, groups: usize, kernel: usize, stride: usize| {
        let convolution = Convolution {
            inputs,
            outputs,
            groups,
            window: Window::square(kernel, stride, kernel / 2),
            weight: vec![0.01; outputs * (inputs / groups) * kernel * kernel],
            bias: None,
        };
        [Op::Convolution(convolution), Op::Activation(Activation::Relu6)]
    };
    let layers = [
        convolution(3, 16, 1, 3, 2),
        convolution(16, 64, 1, 1, 1),
        convolution(64, 64, 64, 3, 1),
        convolution(64, 16, 1, 1, 1),
        convolution(16, 16, 1, 3, 1),
    ];
    let source = |at: usize| at.checked_sub(1).map_or(Source::Input, Source::Node);
    let nodes = layers.into_iter().flatten().enumerate();
    nodes
        .map(|(at, op)| Node::new(at.to_string(), op, source(at)))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_network_that_warms_up_runs() {
        super::warm_up().unwrap();
    }
}
