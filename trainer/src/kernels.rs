//! The two inner loops of training on a CPU: 3×3 convolution and its weight gradient, on pictures laid out `[N, H, W, C]`.
//!
//! Both read the padded input in place: a position of the output is an offset (`base`) into it, a tap of the kernel another offset
//! to add. Nothing is unfolded, so the memory traffic of an im2col matrix, nine times the input, does not exist; each loop keeps a
//! block of sums in registers, 16 lanes wide.

// Register blocking needs pointers; every public function checks its slices before it makes any.
#![allow(unsafe_code)]

/// Values in a vector.
pub const LANES: usize = 16;
/// Taps of a 3×3 kernel.
pub const TAPS: usize = 9;
/// Readable values that must follow the last one used in an input of [`weight_gradient`].
pub const SLACK: usize = LANES;

/// Input channels that [`weight_gradient`] sums at a time.
const CHANNEL_BLOCK: usize = 8;

/// `outputs` rounded up to whole vectors.
pub fn padded(outputs: usize) -> usize {
    outputs.next_multiple_of(LANES)
}

/// Input channels rounded up as in the result of [`weight_gradient`].
pub fn padded_channels(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_BLOCK)
}

/// Sixteen `f32`. The functions are unsafe because they take pointers and need their processor's features.
trait Lane: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn add_to(self, to: *mut f32);
    unsafe fn store(self, to: *mut f32, count: usize);
}

#[derive(Clone, Copy)]
struct Portable([f32; LANES]);

impl Lane for Portable {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn add_product(mut self, a: Self, b: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] += a.0[lane] * b.0[lane];
        }
        self
    }
    #[inline(always)]
    unsafe fn add_to(self, to: *mut f32) {
        for lane in 0..LANES {
            unsafe { *to.add(lane) += self.0[lane] };
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, count: usize) {
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count) };
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    /// One AVX-512 register.
    #[derive(Clone, Copy)]
    pub struct Wide(__m512);

    impl super::Lane for Wide {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }
        #[inline(always)]
        unsafe fn add_to(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, _mm512_add_ps(self.0, _mm512_loadu_ps(to))) };
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32, count: usize) {
            let mask = (u32::MAX >> (32 - count)) as u16;
            unsafe { _mm512_mask_storeu_ps(to, mask, self.0) };
        }
    }
}

/// What both loops read: pictures with a border of zeros, `[N, H + 2, W + 2, C]`.
#[derive(Clone, Copy)]
pub struct Padded<'a> {
    /// The values, followed by at least [`SLACK`] more.
    pub values: &'a [f32],
    /// Channels.
    pub channels: usize,
    /// For each position of the output, where its upper left tap starts.
    pub bases: &'a [usize],
    /// What each tap adds to a base.
    pub taps: [usize; TAPS],
}

impl Padded<'_> {
    fn check(&self) {
        let furthest = self.bases.iter().max().copied().unwrap_or(0) + self.taps.iter().max().copied().unwrap_or(0);
        assert!(
            furthest + self.channels + SLACK <= self.values.len(),
            "the padded input is too short"
        );
    }
}

/// `y[p, o] = Σ input[p, tap, c] · weight[tap, c, o]`.
///
/// `weight` is `[9, C, padded(outputs)]`, `y` is `[positions, outputs]`.
///
/// # Panics
/// When a slice is too short.
pub fn convolve(input: Padded<'_>, weight: &[f32], outputs: usize, y: &mut [f32]) {
    input.check();
    assert!(weight.len() >= TAPS * input.channels * padded(outputs) && y.len() >= input.bases.len() * outputs);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        #[target_feature(enable = "avx512f")]
        unsafe fn run(input: Padded<'_>, weight: &[f32], outputs: usize, y: &mut [f32]) {
            unsafe { convolve_with::<wide::Wide>(input, weight, outputs, y) }
        }
        return unsafe { run(input, weight, outputs, y) };
    }
    unsafe { convolve_with::<Portable>(input, weight, outputs, y) }
}

#[inline(always)]
unsafe fn convolve_with<L: Lane>(input: Padded<'_>, weight: &[f32], outputs: usize, y: &mut [f32]) {
    let mut first = 0;
    while first < outputs {
        // As many positions as leave room in 32 registers beside the weights.
        let vectors = (outputs - first).div_ceil(LANES);
        match vectors {
            1 => unsafe { column::<L, 14, 1>(input, weight, outputs, first, y) },
            2 | 4 => unsafe { column::<L, 12, 2>(input, weight, outputs, first, y) },
            _ => unsafe { column::<L, 8, 3>(input, weight, outputs, first, y) },
        }
        first += LANES
            * match vectors {
                1 => 1,
                2 | 4 => 2,
                _ => 3,
            };
    }
}

/// All positions for the `VECTORS` vectors of outputs from `first` on, `POSITIONS` at a time.
#[inline(always)]
unsafe fn column<L: Lane, const POSITIONS: usize, const VECTORS: usize>(
    input: Padded<'_>,
    weight: &[f32],
    outputs: usize,
    first: usize,
    y: &mut [f32],
) {
    let stride = padded(outputs);
    for (block, bases) in input.bases.chunks(POSITIONS).enumerate() {
        // A last, shorter block computes its last position again instead of having a loop of its own.
        let starts: [*const f32; POSITIONS] =
            std::array::from_fn(|at| unsafe { input.values.as_ptr().add(bases[at.min(bases.len() - 1)]) });
        let mut sums = [[unsafe { L::splat(0.0) }; VECTORS]; POSITIONS];
        for (tap, offset) in input.taps.into_iter().enumerate() {
            let mut row = unsafe { weight.as_ptr().add(tap * input.channels * stride + first) };
            for channel in offset..offset + input.channels {
                let weights: [L; VECTORS] = std::array::from_fn(|vector| unsafe { L::load(row.add(vector * LANES)) });
                for (sums, start) in sums.iter_mut().zip(starts) {
                    let value = unsafe { L::splat(*start.add(channel)) };
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = unsafe { sum.add_product(value, weight) };
                    }
                }
                row = unsafe { row.add(stride) };
            }
        }
        for (at, sums) in sums.into_iter().enumerate().take(bases.len()) {
            let row = (block * POSITIONS + at) * outputs;
            for (vector, sum) in sums.into_iter().enumerate() {
                let output = first + vector * LANES;
                unsafe { sum.store(y.as_mut_ptr().add(row + output), LANES.min(outputs - output)) };
            }
        }
    }
}

/// `gradient[tap, c, o] += Σ_p input[p, tap, c] · dy[p, o]`.
///
/// `dy` is `[positions, outputs]` followed by [`SLACK`] values, `gradient` is `[9, padded_channels(C), padded(outputs)]`; its
/// entries beyond `C` and `outputs` mean nothing.
///
/// # Panics
/// When a slice is too short.
pub fn weight_gradient(input: Padded<'_>, dy: &[f32], outputs: usize, gradient: &mut [f32]) {
    input.check();
    assert!(dy.len() >= input.bases.len() * outputs + SLACK);
    assert!(gradient.len() >= TAPS * padded_channels(input.channels) * padded(outputs));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        #[target_feature(enable = "avx512f")]
        unsafe fn run(input: Padded<'_>, dy: &[f32], outputs: usize, gradient: &mut [f32]) {
            unsafe { weight_gradient_with::<wide::Wide>(input, dy, outputs, gradient) }
        }
        return unsafe { run(input, dy, outputs, gradient) };
    }
    unsafe { weight_gradient_with::<Portable>(input, dy, outputs, gradient) }
}

#[inline(always)]
unsafe fn weight_gradient_with<L: Lane>(input: Padded<'_>, dy: &[f32], outputs: usize, gradient: &mut [f32]) {
    let mut first = 0;
    while first < outputs {
        let vectors = (outputs - first).div_ceil(LANES);
        match vectors {
            1 => unsafe { outer::<L, 1>(input, dy, outputs, first, gradient) },
            2 | 4 => unsafe { outer::<L, 2>(input, dy, outputs, first, gradient) },
            _ => unsafe { outer::<L, 3>(input, dy, outputs, first, gradient) },
        }
        first += LANES
            * match vectors {
                1 => 1,
                2 | 4 => 2,
                _ => 3,
            };
    }
}

#[inline(always)]
unsafe fn outer<L: Lane, const VECTORS: usize>(
    input: Padded<'_>,
    dy: &[f32],
    outputs: usize,
    first: usize,
    gradient: &mut [f32],
) {
    let (stride, channels) = (padded(outputs), padded_channels(input.channels));
    for (tap, offset) in input.taps.into_iter().enumerate() {
        for block in (0..input.channels).step_by(CHANNEL_BLOCK) {
            let mut sums = [[unsafe { L::splat(0.0) }; VECTORS]; CHANNEL_BLOCK];
            let mut row = unsafe { dy.as_ptr().add(first) };
            for base in input.bases {
                let values = unsafe { input.values.as_ptr().add(base + offset + block) };
                let slopes: [L; VECTORS] = std::array::from_fn(|vector| unsafe { L::load(row.add(vector * LANES)) });
                for (channel, sums) in sums.iter_mut().enumerate() {
                    let value = unsafe { L::splat(*values.add(channel)) };
                    for (sum, slope) in sums.iter_mut().zip(slopes) {
                        *sum = unsafe { sum.add_product(value, slope) };
                    }
                }
                row = unsafe { row.add(outputs) };
            }
            for (channel, sums) in sums.into_iter().enumerate() {
                let start = (tap * channels + block + channel) * stride + first;
                for (vector, sum) in sums.into_iter().enumerate() {
                    unsafe { sum.add_to(gradient.as_mut_ptr().add(start + vector * LANES)) };
                }
            }
        }
    }
}
