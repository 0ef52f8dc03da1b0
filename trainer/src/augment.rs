//! Batches for training: pictures cropped, mirrored, coloured and mixed by chance, the same chance for the same seed, epoch and picture.

use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use crate::data::{DataError, Dataset};
use crate::settings::Augmentation;

/// Batches that are made ahead of their use.
const AHEAD: usize = 2;
/// Shapes of zoomed crops: width over height, before the crop is brought to the picture's shape.
const SHAPES: [f32; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// Share of red, green and blue in a grey of the same brightness (ITU-R BT.601).
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// Pixels of reflected border that crops of pictures of this size are taken from: 4 for those of 32 × 32, as is usual.
pub fn border([height, width]: [usize; 2]) -> usize {
    height.min(width).div_ceil(8)
}

/// How one picture is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// First row and column that are seen, as shares of the picture's sides; beyond its edges it is reflected.
    pub start: [f32; 2],
    /// Rows and columns that are seen, as shares.
    pub extent: [f32; 2],
    /// Whether left and right are swapped.
    pub mirrored: bool,
    /// Factors of brightness, contrast and saturation.
    pub colour: [f32; 3],
}

impl View {
    /// The picture as it is.
    pub const PLAIN: Self = Self {
        start: [0.0; 2],
        extent: [1.0; 2],
        mirrored: false,
        colour: [1.0; 3],
    };

    /// The view of picture `index`, of this size, in `epoch`.
    pub fn random(how: &Augmentation, seed: u64, epoch: u64, index: u64, size: [usize; 2]) -> Self {
        let mut chance = Chance::of([seed, epoch, index]);
        let mirrored = !how.no_flip && chance.next() < 0.5;
        let (start, extent) = match how.zoom {
            // As much of the picture as a random share of its area, in a random shape (Szegedy et al. 2015).
            Some(least) => {
                let area = chance.between(least as f32, 1.0);
                let shape = chance.between(SHAPES[0].ln(), SHAPES[1].ln()).exp().sqrt();
                let extent = [area.sqrt() / shape, area.sqrt() * shape].map(|it| it.min(1.0));
                (extent.map(|it| chance.between(0.0, 1.0 - it)), extent)
            }
            None => {
                let border = border(size) as f32;
                let shift = |side: usize| chance.between(-border - 0.5, border + 0.5).round() / side as f32;
                (size.map(shift), [1.0; 2])
            }
        };
        let strength = how.colour as f32;
        let colour = std::array::from_fn(|_| chance.between(1.0 - strength, 1.0 + strength));
        Self {
            start,
            extent,
            mirrored,
            colour,
        }
    }
}

/// Random numbers.
struct Chance(u64);

impl Chance {
    fn of(of: [u64; 3]) -> Self {
        Self(of.into_iter().fold(0, |all, it| mix(all ^ it)))
    }

    /// At least 0 and below 1.
    fn next(&mut self) -> f32 {
        self.0 = mix(self.0);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    fn between(&mut self, least: f32, most: f32) -> f32 {
        least + (most - least) * self.next()
    }
}

/// How the pictures of a batch are mixed, each with the one as far from the batch's end as it is from its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mixture {
    /// Each is laid over the other (mixup: Zhang et al. 2018).
    Blend {
        /// Share of itself that is left.
        own: f32,
    },
    /// Each gets a rectangle of the other (CutMix: Yun et al. 2019).
    Paste {
        /// Rows, from and to.
        rows: [usize; 2],
        /// Columns, from and to.
        columns: [usize; 2],
    },
}

impl Mixture {
    /// The mixture of a batch, none for the share of them that stays as it is.
    pub fn random(how: &Augmentation, seed: u64, epoch: u64, batch: u64, [height, width]: [usize; 2]) -> Option<Self> {
        let mut chance = Chance::of([seed ^ 0x3117, epoch, batch]);
        let kind = f64::from(chance.next());
        // A share from 0 to 1, all as likely.
        let other = chance.next();
        if kind < how.mixup {
            return Some(Self::Blend { own: 1.0 - other });
        }
        let mut range = |side: usize| {
            let middle = chance.between(0.0, side as f32);
            let half = side as f32 * other.sqrt() / 2.0;
            [middle - half, middle + half].map(|it| it.round().clamp(0.0, side as f32) as usize)
        };
        (kind < how.mixup + how.cutmix).then(|| Self::Paste {
            rows: range(height),
            columns: range(width),
        })
    }

    /// The share of each picture, of this size, that is its own.
    pub fn own(self, [height, width]: [usize; 2]) -> f32 {
        match self {
            Self::Blend { own } => own,
            Self::Paste { rows, columns } => {
                let pasted = (rows[1] - rows[0]) * (columns[1] - columns[0]);
                1.0 - pasted as f32 / (height * width) as f32
            }
        }
    }

    /// Mixes pictures `[N, H, W, 3]`.
    fn apply(self, values: &mut [f32], [height, width]: [usize; 2]) {
        let each = height * width * 3;
        let count = values.len() / each.max(1);
        let (first, second) = values.split_at_mut(count / 2 * each);
        // The one in the middle of an odd number has nobody but itself.
        let pairs = first
            .par_chunks_exact_mut(each)
            .zip(second.par_chunks_exact_mut(each).rev());
        match self {
            Self::Blend { own } => pairs.for_each(|(a, b)| {
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a * own + *b * (1.0 - own), *b * own + *a * (1.0 - own));
                }
            }),
            Self::Paste { rows, columns } => pairs.for_each(|(a, b)| {
                for row in rows[0]..rows[1] {
                    let span = (row * width + columns[0]) * 3..(row * width + columns[1]) * 3;
                    a[span.clone()].swap_with_slice(&mut b[span]);
                }
            }),
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

/// Pictures that are learned from together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Places of the pictures in the data, and how each is shown.
    pub pictures: Vec<(usize, View)>,
    /// How they are mixed thereafter.
    pub mixture: Option<Mixture>,
}

impl Batch {
    /// One whose pictures are not mixed.
    pub fn plain(pictures: Vec<(usize, View)>) -> Self {
        let mixture = None;
        Self { pictures, mixture }
    }

    /// Its pictures, normalised `[N, H, W, 3]`.
    pub fn values(&self, data: &Dataset, (mean, std): Normalization) -> Result<Vec<f32>, DataError> {
        let [height, width] = data.size();
        let mut values = vec![0.0; self.pictures.len() * height * width * 3];
        let each = values.par_chunks_mut(height * width * 3).zip(&self.pictures);
        each.try_for_each(|(values, (index, view))| {
            let pixels = data.pixels(*index)?;
            sample(&pixels, [height, width], view, values);
            colour(values, view.colour);
            for pixel in values.chunks_exact_mut(3) {
                for channel in 0..3 {
                    pixel[channel] = (pixel[channel] - mean[channel]) / std[channel];
                }
            }
            Ok::<_, DataError>(())
        })?;
        if let Some(mixture) = self.mixture {
            mixture.apply(&mut values, [height, width]);
        }
        Ok(values)
    }
}

/// Calls `each` with every batch and its [`values`](Batch::values), in their order. They are read and made ahead by a thread of its own.
pub fn batches<E: From<DataError>>(
    data: &Dataset,
    batches: impl Iterator<Item = Batch> + Send,
    normalization: Normalization,
    mut each: impl FnMut(&Batch, Vec<f32>) -> Result<(), E>,
) -> Result<(), E> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for batch in batches {
                let values = batch.values(data, normalization);
                // Nobody receives after an error.
                if sender.send((batch, values)).is_err() {
                    return;
                }
            }
        });
        for (batch, values) in receiver {
            each(&batch, values?)?;
        }
        Ok(())
    })
}

/// Two neighbours along a side, and the share of the second.
type Between = (usize, usize, f32);

/// Where the places of a side of a view lie in the picture.
fn places(side: usize, start: f32, extent: f32, mirrored: bool) -> Vec<Between> {
    let place = |at: usize| {
        let at = if mirrored { side - 1 - at } else { at };
        let position = start * side as f32 + (at as f32 + 0.5) * extent - 0.5;
        let before = position.floor();
        let [first, second] = [before as isize, before as isize + 1].map(|it| reflect(it, side));
        (first, second, position - before)
    };
    (0..side).map(place).collect()
}

/// Values from 0 to 1 of what a view shows, between pixels in proportion to the distance.
fn sample(pixels: &[u8], [height, width]: [usize; 2], view: &View, values: &mut [f32]) {
    let rows = places(height, view.start[0], view.extent[0], false);
    let columns = places(width, view.start[1], view.extent[1], view.mirrored);
    for ((above, below, lower), values) in rows.into_iter().zip(values.chunks_exact_mut(width * 3)) {
        let [above, below] = [above, below].map(|it| &pixels[it * width * 3..][..width * 3]);
        for (&(left, right, righter), values) in columns.iter().zip(values.chunks_exact_mut(3)) {
            for channel in 0..3 {
                let across = |row: &[u8]| {
                    let [left, right] = [left, right].map(|it| f32::from(row[it * 3 + channel]));
                    left + (right - left) * righter
                };
                let (above, below) = (across(above), across(below));
                values[channel] = (above + (below - above) * lower) / 255.0;
            }
        }
    }
}

/// Changes brightness, contrast (about the picture's mean grey) and saturation (about each pixel's grey).
fn colour(values: &mut [f32], factors: [f32; 3]) {
    if factors == [1.0; 3] {
        return;
    }
    let [brightness, contrast, saturation] = factors;
    let grey = |pixel: &[f32]| -> f32 { pixel.iter().zip(GREY).map(|(value, share)| value * share).sum() };
    let sum: f32 = values.chunks_exact(3).map(grey).sum();
    let mean = sum / (values.len() / 3).max(1) as f32;
    for pixel in values.chunks_exact_mut(3) {
        let own = grey(pixel);
        for value in pixel {
            let saturated = own + (*value - own) * saturation;
            *value = ((mean + (saturated - mean) * contrast) * brightness).clamp(0.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [16, 16];

    fn how() -> Augmentation {
        Augmentation {
            zoom: Some(0.3),
            colour: 0.4,
            mixup: 0.25,
            cutmix: 0.25,
            no_flip: false,
        }
    }

    fn views(how: &Augmentation) -> Vec<View> {
        (0..200).map(|it| View::random(how, 1, 2, it, SIZE)).collect()
    }

    #[test]
    fn shifts_reflect_the_picture_at_its_edges() {
        let places: Vec<usize> = (-3..8).map(|it| reflect(it, 5)).collect();
        assert_eq!(places, [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]);
        assert_eq!(reflect(-4, 1), 0);
    }

    #[test]
    fn without_flips_no_view_is_mirrored() {
        let with = views(&Augmentation::default());
        let without = views(&Augmentation {
            no_flip: true,
            ..Augmentation::default()
        });
        assert!(without.iter().all(|it| !it.mirrored));
        assert!(with.iter().any(|it| it.mirrored) && with.iter().any(|it| !it.mirrored));
        let pixels = |it: &View| it.start.map(|it| it * 16.0);
        assert!(
            with.iter()
                .all(|it| pixels(it).iter().all(|at| at.fract() == 0.0 && at.abs() <= 2.0))
        );
        assert!(with.iter().any(|it| pixels(it)[0] == -2.0) && with.iter().any(|it| pixels(it)[1] == 2.0));
    }

    #[test]
    fn zoomed_views_lie_in_the_picture_and_show_enough_of_it() {
        for view in views(&how()) {
            for (start, extent) in view.start.into_iter().zip(view.extent) {
                assert!(start >= 0.0 && start + extent <= 1.0 + 1e-6, "{view:?}");
            }
            assert!(view.extent[0] * view.extent[1] > 0.25, "{view:?}");
            assert!(view.colour.iter().all(|it| (0.6..=1.4).contains(it)));
        }
        let areas: Vec<f32> = views(&how()).iter().map(|it| it.extent[0] * it.extent[1]).collect();
        assert!(areas.iter().any(|it| *it < 0.4) && areas.iter().any(|it| *it > 0.9));
    }

    #[test]
    fn the_plain_view_is_the_picture_and_a_shift_moves_it() {
        let data = Dataset::toy(1);
        let pixels = data.pixels(0).unwrap();
        let at = |row: usize, column: usize| f32::from(pixels[(row * 16 + column) * 3]) / 255.0;
        let seen = |view: View| {
            let batch = Batch::plain(vec![(0, view)]);
            batch.values(&data, ([0.0; 3], [1.0; 3])).unwrap()
        };
        let plain = seen(View::PLAIN);
        let expected: Vec<f32> = pixels.iter().map(|it| f32::from(*it) / 255.0).collect();
        assert_eq!(plain, expected);
        let moved = seen(View {
            start: [2.0 / 16.0, -1.0 / 16.0],
            mirrored: true,
            ..View::PLAIN
        });
        // Row 2 comes first; the last column, moved by one, too.
        assert_eq!(moved[0], at(2, 14));
        let larger = seen(View {
            start: [0.25; 2],
            extent: [0.5; 2],
            ..View::PLAIN
        });
        // The second row and column lie a quarter of a pixel behind row and column 4.
        let mixed = |row| at(row, 4) * 0.75 + at(row, 5) * 0.25;
        let expected = mixed(4) * 0.75 + mixed(5) * 0.25;
        assert!((larger[(16 + 1) * 3] - expected).abs() < 1e-6);
    }

    #[test]
    fn grey_pictures_have_no_colour_to_lose() {
        let mut values = vec![0.2, 0.2, 0.2, 0.6, 0.6, 0.6];
        colour(&mut values, [1.0, 1.0, 0.0]);
        assert!(
            values
                .iter()
                .zip([0.2, 0.2, 0.2, 0.6, 0.6, 0.6])
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        // Half of the contrast, then twice as bright.
        colour(&mut values, [2.0, 0.5, 1.0]);
        assert!(
            values
                .iter()
                .zip([0.6, 0.6, 0.6, 1.0, 1.0, 1.0])
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    }

    #[test]
    fn mixtures_keep_the_share_that_they_state() {
        let mixtures: Vec<_> = (0..400).map(|it| Mixture::random(&how(), 1, 2, it, SIZE)).collect();
        let count = |is: fn(&Mixture) -> bool| mixtures.iter().flatten().filter(|it| is(it)).count();
        let blended = count(|it| matches!(it, Mixture::Blend { .. }));
        let pasted = count(|it| matches!(it, Mixture::Paste { .. }));
        assert!(
            (70..130).contains(&blended) && (70..130).contains(&pasted),
            "{blended} {pasted}"
        );
        for mixture in mixtures.into_iter().flatten() {
            let each = 16 * 16 * 3;
            let mut values: Vec<f32> = (0..3 * each).map(|at| (at / each) as f32).collect();
            mixture.apply(&mut values, SIZE);
            let own = mixture.own(SIZE);
            let means: Vec<f32> = values
                .chunks_exact(each)
                .map(|it| it.iter().sum::<f32>() / each as f32)
                .collect();
            for (mean, expected) in means.iter().zip([2.0 * (1.0 - own), 1.0, 2.0 * own]) {
                assert!((mean - expected).abs() < 1e-4, "{mixture:?} {means:?}");
            }
        }
        assert_eq!(Mixture::random(&Augmentation::default(), 1, 2, 3, SIZE), None);
    }

    #[test]
    fn batches_are_those_made_one_by_one() {
        let data = Dataset::toy(10);
        let views = |at: usize| (at, View::random(&how(), 1, 1, at as u64, SIZE));
        let all = [
            Batch::plain((0..4).map(views).collect()),
            Batch {
                pictures: (4..10).map(views).collect(),
                mixture: Some(Mixture::Blend { own: 0.75 }),
            },
        ];
        let normalization = ([0.5; 3], [0.25; 3]);
        let mut made = Vec::new();
        batches::<DataError>(&data, all.clone().into_iter(), normalization, |batch, values| {
            made.push((batch.clone(), values));
            Ok(())
        })
        .unwrap();
        assert_eq!(made.len(), 2);
        for ((batch, values), expected) in made.into_iter().zip(&all) {
            assert_eq!(batch, *expected);
            assert_eq!(values, expected.values(&data, normalization).unwrap());
        }
        let [mixed, plain] =
            [all[1].clone(), Batch::plain(all[1].pictures.clone())].map(|it| it.values(&data, normalization).unwrap());
        let (last, expected) = (
            mixed.len() - 3 * 256,
            plain[0] * 0.75 + plain[plain.len() - 3 * 256] * 0.25,
        );
        assert!((mixed[0] - expected).abs() < 1e-6);
        assert!((mixed[last] - (plain[last] * 0.75 + plain[0] * 0.25)).abs() < 1e-6);
    }
}
