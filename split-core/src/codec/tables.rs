//! Static probability tables, compact enough to be downloaded with a head.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::predict::CONTEXTS;

/// Probabilities are multiples of 2⁻¹⁶.
pub(super) const PRECISION: usize = 16;

/// Steps per bit in which a table states the cost of a symbol.
const COST_STEPS: u32 = 16;

/// `2¹⁶ · 2^(−k/16)`, rounded; integers, so that every platform builds the same tables.
const FRACTIONS: [u32; COST_STEPS as usize] = [
    65536, 62757, 60097, 57549, 55109, 52772, 50535, 48393, 46341, 44376, 42495, 40693, 38968, 37316, 35734, 34219,
];

/// What predicts codes, and a probability table for each context that follows.
///
/// One table is `2^bits` bytes: byte `k` states that a code costs `k / 16` bits (so 0 to 15.9). The probabilities are
/// `2^(−k/16)`, normalised. On disk both parts are base64 strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// For each channel the [`PREDICTOR_BYTES`](super::PREDICTOR_BYTES) of its predictor: how many channels back each of its
    /// [`REFERENCES`](super::REFERENCES) is (0: no more), a weight for every neighbour as a signed multiple of 1/64, and the constant in 1/64 in
    /// two little-endian bytes. Or nothing: then all codes use the first table.
    #[serde(with = "base64_bytes")]
    pub predictors: Vec<u8>,
    /// The tables, one behind another. The last one serves its context and all that follow.
    #[serde(with = "base64_bytes")]
    pub costs: Vec<u8>,
}

impl Tables {
    /// One table for all codes, in which every code of `bits` bits (1 to 8) costs the same.
    ///
    /// What a codec starts with before anything is known of its features.
    pub fn uniform(bits: u8) -> Self {
        let cost = u32::from(bits) * COST_STEPS;
        Self {
            predictors: Vec::new(),
            costs: vec![cost as u8; 1 << bits],
        }
    }

    /// The cumulative frequencies of every table: `2^bits + 1` numbers each, from 0 to 2¹⁶.
    pub(super) fn cumulative(&self, bits: u8) -> Result<Vec<u32>, TableError> {
        let symbols = 1_usize << bits;
        let count = self.costs.len() / symbols;
        if count == 0 || count > CONTEXTS || !self.costs.len().is_multiple_of(symbols) {
            return Err(TableError::Costs {
                symbols,
                got: self.costs.len(),
            });
        }
        Ok(self.costs.chunks_exact(symbols).flat_map(cumulative).collect())
    }
}

/// Cumulative frequencies of one table, every code at least 1 of 2¹⁶.
fn cumulative(costs: &[u8]) -> Vec<u32> {
    let weights: Vec<u64> = costs.iter().map(|&cost| u64::from(weight(cost))).collect();
    let sum: u64 = weights.iter().sum();
    // At least 1 each, the rest in proportion; what rounding leaves over goes to the most likely code.
    let spare = (1 << PRECISION) - weights.len() as u64;
    let mut frequencies: Vec<u64> = weights.iter().map(|&it| 1 + it * spare / sum).collect();
    let left: u64 = (1 << PRECISION) - frequencies.iter().sum::<u64>();
    if let Some(likeliest) = (0..weights.len()).max_by_key(|&it| (weights[it], std::cmp::Reverse(it))) {
        frequencies[likeliest] += left;
    }
    let mut total = 0;
    std::iter::once(0)
        .chain(frequencies.into_iter().map(|it| {
            total += it;
            total as u32
        }))
        .collect()
}

/// `2³¹ · 2^(−cost/16)`, at least 1.
fn weight(cost: u8) -> u32 {
    let (whole, part) = (u32::from(cost) / COST_STEPS, u32::from(cost) % COST_STEPS);
    (FRACTIONS[part as usize] << 15) >> whole
}

/// The cost byte of a probability in `(0, 1]`.
pub(super) fn cost(probability: f64) -> u8 {
    (-probability.log2() * f64::from(COST_STEPS)).round().clamp(0.0, 255.0) as u8
}

/// Tables that do not fit their operating point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The costs are not a whole number of tables, 1 to one for each context.
    #[error("{got} cost bytes, expected 1 to {CONTEXTS} tables of {symbols}")]
    Costs {
        /// Codes of one table.
        symbols: usize,
        /// Bytes in the spec.
        got: usize,
    },
    /// Every channel must have a predictor, or none.
    #[error("predictors of {got} bytes, expected {expected} or none")]
    Predictors {
        /// Bytes of as many predictors as there are channels.
        expected: usize,
        /// Bytes in the spec.
        got: usize,
    },
    /// A predictor looks at a channel that is not there.
    #[error("channel {channel} is predicted from {back} channels back")]
    Reference {
        /// The channel.
        channel: usize,
        /// How far back.
        back: u8,
    },
}

mod base64_bytes {
    use super::{BASE64, Engine};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fill_the_range_and_leave_no_code_out() {
        for costs in [vec![0, 255], vec![255; 256], vec![16, 16], vec![3, 40, 255, 80]] {
            let table = cumulative(&costs);
            assert_eq!((table[0], table[costs.len()]), (0, 1 << PRECISION));
            assert!(table.windows(2).all(|it| it[0] < it[1]), "{costs:?}");
        }
    }

    #[test]
    fn a_cost_of_sixteen_is_one_bit() {
        assert_eq!(cumulative(&[16, 16]), [0, 1 << 15, 1 << 16]);
        assert_eq!((cost(0.5), cost(1.0), cost(1e-30)), (16, 0, 255));
    }
}
