//! Tables from counted codes.

use super::{
    entropy::Neighbours,
    tables::{CONTEXTS, MAX_TABLES, Tables, cost},
};
use crate::Shape;

/// Rounds of moving histograms between tables; the assignment is stable well before.
const ROUNDS: usize = 30;

/// Counts of codes for each (channel, context), gathered from calibration features.
#[derive(Clone, Debug, PartialEq)]
pub struct Histograms {
    shape: Shape,
    symbols: usize,
    counts: Vec<u32>,
}

impl Histograms {
    /// Empty histograms for codes of `bits` bits (1 to 8) of features of one shape.
    pub fn new(shape: Shape, bits: u8) -> Self {
        let symbols = 1 << bits;
        Self {
            shape,
            symbols,
            counts: vec![0; shape.channels() * CONTEXTS * symbols],
        }
    }

    /// Counts the codes of one image, as [`FeatureCodec::quantize`](super::FeatureCodec::quantize) gave them.
    ///
    /// # Panics
    ///
    /// If `codes` are not of the shape and width that the histograms were made for.
    pub fn add(&mut self, codes: &[u8]) {
        assert_eq!(codes.len(), self.shape.values(), "codes of another shape");
        let (width, zeros) = (self.shape.width(), vec![0; self.shape.width()]);
        for (index, line) in codes.chunks_exact(width).enumerate() {
            let (channel, row) = (index / self.shape.height(), index % self.shape.height());
            let neighbours = Neighbours::of(&codes[..index * width], &zeros, self.shape, [channel, row]);
            let mut left = 0;
            for (column, &code) in line.iter().enumerate() {
                let context = neighbours.context(left, column);
                self.counts[(channel * CONTEXTS + context) * self.symbols + usize::from(code)] += 1;
                left = code;
            }
        }
    }

    /// Adds the counts of other histograms of the same shape and width.
    ///
    /// # Panics
    ///
    /// If they are of another shape or width.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(
            (self.shape, self.symbols),
            (other.shape, other.symbols),
            "histograms of another shape"
        );
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(to, from)| *to += from);
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
}

/// Clusters histograms into at most `tables` tables (1 to [`MAX_TABLES`]) that code them in the fewest bits.
///
/// k-means under the code length as distance (Banerjee et al., *Clustering with Bregman Divergences*, 2005), started from histograms
/// ordered by their mean code; deterministic.
pub fn calibrate(histograms: &Histograms, tables: usize) -> Tables {
    let rows: Vec<&[u32]> = histograms.counts.chunks_exact(histograms.symbols).collect();
    let mut used: Vec<usize> = (0..rows.len())
        .filter(|&it| rows[it].iter().any(|&count| count > 0))
        .collect();
    used.sort_by(|&a, &b| mean(rows[a]).total_cmp(&mean(rows[b])));
    let count = tables.clamp(1, MAX_TABLES).min(used.len().max(1));
    let mut map = vec![0; rows.len()];
    for (rank, &row) in used.iter().enumerate() {
        map[row] = (rank * count / used.len()) as u8;
    }
    let mut costs = costs(&rows, &used, &map, count, histograms.symbols);
    for _ in 0..ROUNDS {
        let best = |row: usize| {
            let bits = |table: &Vec<u8>| {
                rows[row]
                    .iter()
                    .zip(table)
                    .map(|(&n, &c)| u64::from(n) * u64::from(c))
                    .sum::<u64>()
            };
            costs
                .iter()
                .enumerate()
                .min_by_key(|(number, table)| (bits(table), *number))
                .map_or(0, |it| it.0 as u8)
        };
        let moved: Vec<u8> = used.iter().map(|&row| best(row)).collect();
        if used.iter().zip(&moved).all(|(&row, &table)| map[row] == table) {
            break;
        }
        used.iter().zip(&moved).for_each(|(&row, &table)| map[row] = table);
        costs = self::costs(&rows, &used, &map, count, histograms.symbols);
    }
    Tables {
        map,
        costs: costs.concat(),
    }
}

/// The cost bytes of every table, from the sum of the histograms that use it.
fn costs(rows: &[&[u32]], used: &[usize], map: &[u8], count: usize, symbols: usize) -> Vec<Vec<u8>> {
    // Half a count for what was never seen: the estimator of Krichevsky and Trofimov (1981).
    let mut sums = vec![vec![0.5; symbols]; count];
    for &row in used {
        let sum = &mut sums[usize::from(map[row])];
        sum.iter_mut()
            .zip(rows[row])
            .for_each(|(to, &from)| *to += f64::from(from));
    }
    let table = |sum: Vec<f64>| {
        let total: f64 = sum.iter().sum();
        sum.into_iter().map(|it| cost(it / total)).collect()
    };
    sums.into_iter().map(table).collect()
}

fn mean(counts: &[u32]) -> f64 {
    let sum: f64 = counts.iter().map(|&it| f64::from(it)).sum();
    counts
        .iter()
        .enumerate()
        .map(|(code, &it)| code as f64 * f64::from(it))
        .sum::<f64>()
        / sum
}
