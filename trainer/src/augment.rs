//! Batches for training: pictures shifted and mirrored by chance, the same chance for the same seed, epoch and picture.

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::Dataset;

/// Pixels of reflected border that crops are taken from.
const BORDER: usize = 4;

/// How one picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Rows and columns the crop starts below and right of the bordered picture's corner; [`BORDER`] means no shift.
    pub shift: [usize; 2],
    /// Whether left and right are swapped.
    pub mirrored: bool,
}

impl View {
    /// The picture as it is.
    pub const PLAIN: Self = Self {
        shift: [BORDER; 2],
        mirrored: false,
    };

    /// The view of picture `index` in `epoch`.
    pub fn random(seed: u64, epoch: u64, index: u64) -> Self {
        let bits = mix(mix(mix(seed) ^ epoch) ^ index);
        let span = 2 * BORDER as u64 + 1;
        Self {
            shift: [(bits >> 8) % span, (bits >> 32) % span].map(|shift| shift as usize),
            mirrored: bits & 1 == 1,
        }
    }
}

/// SplitMix64's output function (Steele, Lea and Flood 2014): every bit of the input reaches every bit of the output.
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The order of `count` pictures in `epoch`: a Fisher–Yates shuffle.
pub fn order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let chance = mix(mix(mix(seed ^ 0x5EED) ^ epoch) ^ last as u64);
        order.swap(last, (chance % (last as u64 + 1)) as usize);
    }
    order
}

/// Position of a border's pixel, reflected without repeating the edge.
fn reflect(position: usize, length: usize) -> usize {
    let at = position.abs_diff(BORDER).min(2 * length.saturating_sub(1));
    if position < BORDER || at < length {
        at.min(length - 1)
    } else {
        2 * (length - 1) - at
    }
}

/// Normalised pictures `[N, H, W, 3]`.
pub fn batch(data: &Dataset, pictures: &[(usize, View)], mean: [f32; 3], std: [f32; 3], device: &Device) -> Tensor<4> {
    let [height, width] = data.size();
    let table: [Vec<f32>; 3] = std::array::from_fn(|channel| {
        (0..=255_u8)
            .map(|value| (f32::from(value) / 255.0 - mean[channel]) / std[channel])
            .collect()
    });
    let mut values = Vec::with_capacity(pictures.len() * height * width * 3);
    for (index, view) in pictures {
        let pixels = data.pixels(*index);
        for row in 0..height {
            let from = reflect(row + view.shift[0], height) * width;
            for column in 0..width {
                let column = if view.mirrored { width - 1 - column } else { column };
                let at = (from + reflect(column + view.shift[1], width)) * 3;
                values.extend((0..3).map(|channel| table[channel][usize::from(pixels[at + channel])]));
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [pictures.len(), height, width, 3]), device)
}
