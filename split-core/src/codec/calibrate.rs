//! Predictors and tables from codes.

use super::{
    predict::{Block, CONTEXTS, CROSS, OWN, Offset, Predictor, Predictors, REFERENCES, UNIT, WEIGHTS},
    tables::{TableError, Tables, cost},
};
use crate::Shape;

/// Places at which a channel's predictor is fitted; it has [`WEIGHTS`] and a constant to learn.
const SAMPLES: usize = 20_000;
/// Added to the variance of every neighbour, so that those that say nothing get no weight.
const RIDGE: f64 = 1e-3;
/// Furthest reference: the distance is one byte.
const FURTHEST: usize = 255;

/// Counts of codes for each context.
#[derive(Clone, Debug)]
pub struct Histograms {
    shape: Shape,
    predictors: Predictors,
    symbols: usize,
    counts: Vec<u32>,
}

impl Histograms {
    /// Empty histograms for codes of `bits` bits (1 to 8) under the contexts of these tables.
    pub fn new(shape: Shape, bits: u8, tables: &Tables) -> Result<Self, TableError> {
        Ok(Self::under(
            shape,
            bits,
            Predictors::parse(shape, bits, &tables.predictors)?,
        ))
    }

    fn under(shape: Shape, bits: u8, predictors: Predictors) -> Self {
        let symbols = 1 << bits;
        Self {
            shape,
            predictors,
            symbols,
            counts: vec![0; CONTEXTS * symbols],
        }
    }

    /// Counts the codes of one image, as [`FeatureCodec::quantize`](super::FeatureCodec::quantize) gave them.
    ///
    /// # Panics
    ///
    /// If `codes` are not of the shape and width that the histograms were made for.
    pub fn add(&mut self, codes: &[u8]) {
        assert_eq!(codes.len(), self.shape.values(), "codes of another shape");
        let width = self.shape.width();
        let mut block = Block::default();
        for (index, line) in codes.chunks_exact(width).enumerate() {
            let place = [index / self.shape.height(), index % self.shape.height()];
            let counted = self
                .predictors
                .row(&mut block, &codes[..index * width], place, |column, context| {
                    self.counts[context * self.symbols + usize::from(line[column])] += 1;
                    Some(line[column])
                });
            debug_assert!(counted.is_some());
        }
    }

    /// Empirical conditional entropy of all counted codes under the codec's contexts, in bits: what an ideal coder with ideal tables would spend.
    pub fn entropy_bits(&self) -> f64 {
        let entropy = |counts: &[u32]| {
            let sum: f64 = counts.iter().map(|&it| f64::from(it)).sum();
            let term = |&it: &u32| {
                if it == 0 {
                    0.0
                } else {
                    -f64::from(it) * (f64::from(it) / sum).log2()
                }
            };
            counts.iter().map(term).sum::<f64>()
        };
        self.counts.chunks_exact(self.symbols).map(entropy).sum()
    }

    /// A table for each context up to the last one seen.
    fn costs(&self) -> Vec<u8> {
        let table = |counts: &[u32]| {
            // Half a count for what was never seen: the estimator of Krichevsky and Trofimov (1981).
            let counts: Vec<f64> = counts.iter().map(|&it| f64::from(it) + 0.5).collect();
            let sum: f64 = counts.iter().sum();
            counts.into_iter().map(|it| cost(it / sum)).collect::<Vec<u8>>()
        };
        let seen = self.counts.iter().rposition(|&it| it > 0);
        let tables = seen.map_or(1, |it| it / self.symbols + 1);
        let counts = self.counts.chunks_exact(self.symbols);
        counts.take(tables).flat_map(table).collect()
    }
}

/// Fits predictors and tables to the codes of calibration images, one image behind another, so that they cost the fewest bits.
///
/// Every channel is predicted by least squares from its own neighbours and from those channels before it that correlate most with it. Deterministic.
///
/// # Panics
///
/// If `codes` are not whole images of this shape, of `bits` bits (1 to 8).
pub fn calibrate(shape: Shape, bits: u8, codes: &[u8]) -> Tables {
    let images: Vec<&[u8]> = codes.chunks(shape.values()).collect();
    let samples = Samples::of(shape, &images);
    let predictors = Predictors::new(shape, bits, (0..shape.channels()).map(|it| samples.fit(it)).collect());
    let mut histograms = Histograms::under(shape, bits, predictors);
    images.iter().for_each(|it| histograms.add(it));
    Tables {
        predictors: histograms.predictors.to_bytes(),
        costs: histograms.costs(),
    }
}

/// Places spread over images and positions.
struct Samples<'a> {
    shape: Shape,
    images: &'a [&'a [u8]],
    /// Image and position.
    places: Vec<[usize; 2]>,
    channels: Vec<Channel>,
}

/// A channel's codes at the sampled places.
struct Channel {
    codes: Vec<f64>,
    mean: f64,
    /// Standard deviation, at least a little.
    deviation: f64,
}

impl Channel {
    fn new(codes: Vec<f64>) -> Self {
        let mean = codes.iter().sum::<f64>() / codes.len().max(1) as f64;
        let variance = mean_product(&codes, &codes) - mean * mean;
        Self {
            codes,
            mean,
            deviation: variance.max(1e-9).sqrt(),
        }
    }
}

fn mean_product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len().max(1) as f64
}

impl<'a> Samples<'a> {
    fn of(shape: Shape, images: &'a [&'a [u8]]) -> Self {
        let positions = shape.positions();
        let all = images.len() * positions;
        // Odd, so that it comes to every position of maps whose sides are powers of two.
        let step = (all / SAMPLES) | 1;
        let places: Vec<[usize; 2]> = (0..all)
            .step_by(step)
            .map(|it| [it / positions, it % positions])
            .collect();
        let channels = (0..shape.channels()).map(|channel| {
            let code = |&[image, position]: &[usize; 2]| f64::from(images[image][channel * positions + position]);
            Channel::new(places.iter().map(code).collect())
        });
        Self {
            shape,
            images,
            channels: channels.collect(),
            places,
        }
    }

    fn fit(&self, channel: usize) -> Predictor {
        let references = self.references(channel);
        let used = OWN.len() + references.len() * CROSS.len();
        let size = used + 1;
        let mut matrix = vec![0.0; size * size];
        let mut right = vec![0.0; size];
        let mut values = vec![1.0; size];
        for (&place, code) in self.places.iter().zip(&self.channels[channel].codes) {
            self.neighbours(channel, &references, place, &mut values);
            for (row, &value) in values.iter().enumerate().filter(|it| *it.1 != 0.0) {
                right[row] += value * code;
                let sums = &mut matrix[row * size..][..=row];
                sums.iter_mut().zip(&values).for_each(|(sum, it)| *sum += value * it);
            }
        }
        let ridge = RIDGE * self.places.len().max(1) as f64;
        (0..size).for_each(|it| matrix[it * size + it] += ridge);
        solve(&mut matrix, &mut right);
        let scaled = |it: f64| (it * f64::from(UNIT)).round();
        let mut weights = [0; WEIGHTS];
        for (weight, it) in weights.iter_mut().zip(&right[..used]) {
            *weight = scaled(*it) as i8;
        }
        Predictor {
            references,
            weights,
            constant: scaled(right[used]) as i16,
        }
    }

    /// The channels before this one that correlate most with it, at the same place.
    fn references(&self, channel: usize) -> Vec<usize> {
        let first = channel.saturating_sub(FURTHEST);
        let own = &self.channels[channel];
        // Up to a factor that is the same for all of them.
        let correlation = |other: usize| {
            let other = &self.channels[other];
            (mean_product(&own.codes, &other.codes) - own.mean * other.mean).abs() / other.deviation
        };
        let mut ranked: Vec<(f64, usize)> = (first..channel).map(|it| (correlation(it), it)).collect();
        ranked.retain(|it| it.0 > 0.0);
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().take(REFERENCES).map(|it| it.1).collect()
    }

    /// Writes the neighbours of a place in the order of a predictor's weights.
    fn neighbours(&self, channel: usize, references: &[usize], [image, position]: [usize; 2], values: &mut [f64]) {
        let [_, height, width]: [usize; 3] = self.shape.into();
        let (y, x) = (position / width, position % width);
        let at = |channel: usize, [down, right]: Offset| {
            let row = y.checked_add_signed(down).filter(|&it| it < height);
            let column = x.checked_add_signed(right).filter(|&it| it < width);
            let code = row
                .zip(column)
                .map(|(row, column)| self.images[image][channel * self.shape.positions() + row * width + column]);
            f64::from(code.unwrap_or(0))
        };
        let own = OWN.map(|it| at(channel, it));
        let cross = references
            .iter()
            .flat_map(|&reference| CROSS.map(|it| at(reference, it)));
        for (value, it) in values.iter_mut().zip(own.into_iter().chain(cross)) {
            *value = it;
        }
    }
}

/// Solves a symmetric positive definite system in place by Cholesky's decomposition; of `matrix` the lower half is read.
fn solve(matrix: &mut [f64], right: &mut [f64]) {
    let size = right.len();
    let dot = |matrix: &[f64], a: usize, b: usize, count: usize| -> f64 {
        let (a, b) = (&matrix[a * size..][..count], &matrix[b * size..][..count]);
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    };
    for row in 0..size {
        for column in 0..row {
            let rest = matrix[row * size + column] - dot(matrix, row, column, column);
            matrix[row * size + column] = rest / matrix[column * size + column];
        }
        let rest = matrix[row * size + row] - dot(matrix, row, row, row);
        matrix[row * size + row] = rest.max(f64::MIN_POSITIVE).sqrt();
        let known: f64 = (0..row).map(|it| matrix[row * size + it] * right[it]).sum();
        right[row] = (right[row] - known) / matrix[row * size + row];
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|it| matrix[it * size + row] * right[it]).sum();
        right[row] = (right[row] - known) / matrix[row * size + row];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let mut matrix = vec![4.0, 0.0, 0.0, 2.0, 5.0, 0.0, -2.0, 1.0, 6.0];
        // [[4, 2, −2], [2, 5, 1], [−2, 1, 6]] · [1, −2, 3]
        let mut right = vec![-6.0, -5.0, 14.0];
        solve(&mut matrix, &mut right);
        for (got, expected) in right.iter().zip([1.0, -2.0, 3.0]) {
            assert!((got - expected).abs() < 1e-12, "{right:?}");
        }
    }

    #[test]
    fn a_copy_of_another_channel_is_predicted_from_it() {
        let shape = Shape::new(4, 4, 4).unwrap();
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 % 8
        };
        let mut codes = Vec::new();
        for _ in 0..200 {
            let start = codes.len();
            codes.extend((0..48).map(|_| noise()));
            codes.extend_from_within(start + 16..start + 32);
        }
        let tables = calibrate(shape, 3, &codes);
        let mut histograms = Histograms::new(shape, 3, &tables).unwrap();
        codes.chunks(64).for_each(|it| histograms.add(it));
        let bits = histograms.entropy_bits() / 200.0;
        assert!(
            (144.0 * 0.97..144.0 * 1.02).contains(&bits),
            "{bits} bits for three channels of 16 codes of 3"
        );
    }
}
