//! Batches for training: pictures shifted and mirrored by chance, the same chance for the same seed, epoch and picture.

use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use crate::data::{DataError, Dataset};

/// Batches that are made ahead of their use.
const AHEAD: usize = 2;

/// Pixels of reflected border that crops of pictures of this size are taken from: 4 for those of 32 × 32, as is usual.
pub fn border([height, width]: [usize; 2]) -> usize {
    height.min(width).div_ceil(8)
}

/// How one picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Rows and columns by which the picture is moved up and left.
    pub shift: [isize; 2],
    /// Whether left and right are swapped.
    pub mirrored: bool,
}

impl View {
    /// The picture as it is.
    pub const PLAIN: Self = Self {
        shift: [0; 2],
        mirrored: false,
    };

    /// The view of picture `index` in `epoch`: shifted by up to `border` pixels either way, and mirrored half of the time if `flip`.
    pub fn random(seed: u64, epoch: u64, index: u64, border: usize, flip: bool) -> Self {
        let bits = mix(mix(mix(seed) ^ epoch) ^ index);
        let span = 2 * border as u64 + 1;
        Self {
            shift: [(bits >> 8) % span, (bits >> 32) % span].map(|shift| shift as isize - border as isize),
            mirrored: flip && bits & 1 == 1,
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

/// Position of a pixel at or beyond the picture's edge, reflected without repeating the edge.
fn reflect(position: isize, length: usize) -> usize {
    let last = length as isize - 1;
    let at = position.abs().min(2 * last);
    if at > last {
        (2 * last - at) as usize
    } else {
        at as usize
    }
}

/// What makes a network's input of a picture's bytes: subtracted from each channel in `[0, 1]`, and divided by thereafter.
pub type Normalization = ([f32; 3], [f32; 3]);

/// Calls `each` with every batch of pictures, normalised `[N, H, W, 3]`, in their order. They are read and made ahead by a thread of its own.
pub fn batches<E: From<DataError>>(
    data: &Dataset,
    batches: impl Iterator<Item = Vec<(usize, View)>> + Send,
    normalization: Normalization,
    mut each: impl FnMut(&[(usize, View)], Vec<f32>) -> Result<(), E>,
) -> Result<(), E> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for pictures in batches {
                let values = batch(data, &pictures, normalization);
                // Nobody receives after an error.
                if sender.send((pictures, values)).is_err() {
                    return;
                }
            }
        });
        for (pictures, values) in receiver {
            each(&pictures, values?)?;
        }
        Ok(())
    })
}

/// Normalised pictures `[N, H, W, 3]`.
pub fn batch(data: &Dataset, pictures: &[(usize, View)], (mean, std): Normalization) -> Result<Vec<f32>, DataError> {
    let [height, width] = data.size();
    let table: [Vec<f32>; 3] = std::array::from_fn(|channel| {
        (0..=255_u8)
            .map(|value| (f32::from(value) / 255.0 - mean[channel]) / std[channel])
            .collect()
    });
    let mut values = vec![0.0; pictures.len() * height * width * 3];
    let each = values.par_chunks_mut(height * width * 3).zip(pictures);
    each.try_for_each(|(values, (index, view))| {
        let pixels = data.pixels(*index)?;
        for (row, values) in values.chunks_exact_mut(width * 3).enumerate() {
            let from = reflect(row as isize + view.shift[0], height) * width;
            for (column, values) in values.chunks_exact_mut(3).enumerate() {
                let column = if view.mirrored { width - 1 - column } else { column };
                let at = (from + reflect(column as isize + view.shift[1], width)) * 3;
                for channel in 0..3 {
                    values[channel] = table[channel][usize::from(pixels[at + channel])];
                }
            }
        }
        Ok(())
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_reflect_the_picture_at_its_edges() {
        let places: Vec<usize> = (-3..8).map(|it| reflect(it, 5)).collect();
        assert_eq!(places, [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]);
        assert_eq!(reflect(-4, 1), 0);
    }

    #[test]
    fn without_flips_no_view_is_mirrored() {
        let views = |flip| (0..100).map(move |it| View::random(1, 2, it, 4, flip));
        assert!(views(false).all(|it| !it.mirrored));
        assert!(views(true).any(|it| it.mirrored) && views(true).any(|it| !it.mirrored));
        let shifts = |it: View| it.shift.iter().all(|shift| shift.unsigned_abs() <= 4);
        assert!(views(true).all(shifts) && views(true).any(|it| it.shift[0] == -4));
    }

    #[test]
    fn batches_are_those_made_one_by_one() {
        let data = Dataset::toy(10);
        let views = |at: usize| (at, View::random(1, 1, at as u64, 2, true));
        let all: Vec<Vec<_>> = vec![(0..4).map(views).collect(), (4..10).map(views).collect()];
        let normalization = ([0.5; 3], [0.25; 3]);
        let mut made = Vec::new();
        batches::<DataError>(&data, all.clone().into_iter(), normalization, |pictures, values| {
            made.push((pictures.to_vec(), values));
            Ok(())
        })
        .unwrap();
        assert_eq!(made.len(), 2);
        for ((pictures, values), expected) in made.into_iter().zip(all) {
            assert_eq!(pictures, expected);
            assert_eq!(values, batch(&data, &expected, normalization).unwrap());
        }
    }
}
