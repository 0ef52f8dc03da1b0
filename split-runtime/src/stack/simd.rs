//! Four floats at a time: WebAssembly's 128-bit vectors, and plain arrays elsewhere, where only tests use them.

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod vector {
    use std::arch::wasm32::*;

    /// Four floats.
    #[derive(Clone, Copy, Debug)]
    pub struct F32x4(v128);

    impl F32x4 {
        #[inline(always)]
        pub fn splat(value: f32) -> Self {
            Self(f32x4_splat(value))
        }

        #[inline(always)]
        #[allow(unsafe_code)]
        pub fn load(from: &[f32; 4]) -> Self {
            // SAFETY: the reference covers the 16 bytes that are read, and the instruction takes any alignment.
            Self(unsafe { v128_load(from.as_ptr().cast()) })
        }

        #[inline(always)]
        #[allow(unsafe_code)]
        pub fn store(self, to: &mut [f32; 4]) {
            // SAFETY: as in `load`.
            unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
        }

        #[inline(always)]
        pub fn add(self, other: Self) -> Self {
            Self(f32x4_add(self.0, other.0))
        }

        #[inline(always)]
        pub fn sub(self, other: Self) -> Self {
            Self(f32x4_sub(self.0, other.0))
        }

        #[inline(always)]
        pub fn max(self, other: Self) -> Self {
            Self(f32x4_pmax(self.0, other.0))
        }

        /// `self + a · b`, fused where the binary may use relaxed SIMD.
        #[inline(always)]
        pub fn add_product(self, a: Self, b: Self) -> Self {
            #[cfg(target_feature = "relaxed-simd")]
            return Self(f32x4_relaxed_madd(a.0, b.0, self.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            return Self(f32x4_add(self.0, f32x4_mul(a.0, b.0)));
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod vector {
    /// Four floats.
    #[derive(Clone, Copy, Debug)]
    pub struct F32x4([f32; 4]);

    impl F32x4 {
        pub fn splat(value: f32) -> Self {
            Self([value; 4])
        }

        pub fn load(from: &[f32; 4]) -> Self {
            Self(*from)
        }

        pub fn store(self, to: &mut [f32; 4]) {
            *to = self.0;
        }

        pub fn add(self, other: Self) -> Self {
            self.zip(other, |a, b| a + b)
        }

        pub fn sub(self, other: Self) -> Self {
            self.zip(other, |a, b| a - b)
        }

        pub fn max(self, other: Self) -> Self {
            self.zip(other, f32::max)
        }

        /// `self + a · b`.
        pub fn add_product(self, a: Self, b: Self) -> Self {
            self.add(a.zip(b, |a, b| a * b))
        }

        fn zip(self, other: Self, op: impl Fn(f32, f32) -> f32) -> Self {
            Self(std::array::from_fn(|it| op(self.0[it], other.0[it])))
        }
    }
}

pub use vector::F32x4;

/// Channels that are computed together.
pub const BLOCK: usize = 8;

/// Positions that are computed together.
pub const GROUP: usize = 4;

/// Sums of a block of channels at one position.
pub type Sums = [F32x4; 2];

/// A block of weights or biases.
pub type Block = [f32; BLOCK];

/// Both halves of a block.
#[inline(always)]
pub fn load(block: &Block) -> Sums {
    let [a, b, c, d, e, f, g, h] = *block;
    [F32x4::load(&[a, b, c, d]), F32x4::load(&[e, f, g, h])]
}

/// Writes a block of channels.
#[inline(always)]
pub fn store(sums: Sums, to: &mut Block) {
    let (halves, _) = to.as_chunks_mut::<4>();
    if let [low, high] = halves {
        sums[0].store(low);
        sums[1].store(high);
    }
}

/// Adds, for a block of output channels at a group of positions, the products of weights and inputs: the kernel that all the time goes into.
///
/// `weights[i]` belongs to the `i`-th value of every position's `inputs`. Eight sums fill the sixteen registers that a browser
/// has on x86, with the weights and a broadcast input, and hide the four cycles that a fused multiply–add takes.
#[inline(always)]
pub fn multiply(weights: &[Block], inputs: [&[f32]; GROUP], sums: &mut [Sums; GROUP]) {
    let [a, b, c, d] = inputs;
    let [mut sa, mut sb, mut sc, mut sd] = *sums;
    for ((((weight, a), b), c), d) in weights.iter().zip(a).zip(b).zip(c).zip(d) {
        let weight = load(weight);
        for (sum, input) in [(&mut sa, a), (&mut sb, b), (&mut sc, c), (&mut sd, d)] {
            let input = F32x4::splat(*input);
            sum[0] = sum[0].add_product(weight[0], input);
            sum[1] = sum[1].add_product(weight[1], input);
        }
    }
    *sums = [sa, sb, sc, sd];
}

/// Adds the bias and cuts negative values off.
#[inline(always)]
pub fn finish([low, high]: Sums, bias: Sums, relu: bool) -> Sums {
    let sums = [low.add(bias[0]), high.add(bias[1])];
    if relu {
        sums.map(|it| it.max(F32x4::splat(0.0)))
    } else {
        sums
    }
}
