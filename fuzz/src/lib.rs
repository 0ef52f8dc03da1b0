//! What the fuzz targets share: a codec made from fuzzed parts.

use arbitrary::Arbitrary;
use split_core::{
    Shape,
    codec::{CONTEXTS, FeatureCodec, FeatureCodecSpec, PREDICTOR_BYTES, REFERENCES, Tables},
};

/// A codec of at most 8×6×6 features; most of its specs are valid, so that the fuzzer spends its time behind the checks.
#[derive(Arbitrary, Debug)]
pub struct CodecInput {
    bits: u8,
    sides: [u8; 3],
    dead: u8,
    costs: Vec<u8>,
    predictors: Vec<u8>,
}

impl CodecInput {
    /// None where the parts make no valid spec.
    pub fn codec(&self) -> Option<FeatureCodec> {
        let bits = self.bits % 8 + 1;
        let [channels, height, width] = self.sides.map(|it| usize::from(it % 6) + 1);
        let shape = Shape::new(channels, height, width).ok()?;
        let symbols = 1 << bits;
        let count = (self.costs.len() / symbols).clamp(1, CONTEXTS);
        let mut costs = self.costs.clone();
        costs.resize(count * symbols, 9);
        let mut predictors = self.predictors.clone();
        predictors.resize(if predictors.is_empty() { 0 } else { channels * PREDICTOR_BYTES }, 0);
        for (channel, predictor) in predictors.chunks_exact_mut(PREDICTOR_BYTES).enumerate() {
            // References to channels that are there.
            predictor[..REFERENCES].iter_mut().for_each(|it| *it %= channel as u8 + 1);
        }
        let steps = (0..channels).map(|it| if self.dead >> (it % 8) & 1 == 1 { 0.0 } else { 0.25 }).collect();
        FeatureCodec::new(shape, &FeatureCodecSpec { bits, steps, tables: Tables { predictors, costs } }).ok()
    }
}
