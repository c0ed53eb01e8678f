//! `N` floats side by side, one line (or one frequency) each: as a plain array, or as a register of an instruction set
//! ([`Width`]). Only additions, subtractions, multiplications, comparisons and choices, each rounded by itself: nothing is
//! contracted or reordered, so every width gives each lane the same bits. The kernels are written once over [`Lanes`].
#![allow(unsafe_code)]
// Lane by lane is what these loops say.
#![allow(clippy::needless_range_loop)]

use std::ops::{Add, Mul, Sub};
use std::sync::LazyLock;

/// The instruction sets the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// What every processor of the architecture has.
    Portable,
    /// x86-64 with AVX2: 8 lanes a register.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL: 16 lanes a register.
    Avx512,
    /// AArch64's NEON: 4 lanes a register.
    Neon,
}

impl Width {
    /// Every set this machine has, the widest last.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Width::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                all.push(Width::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                all.push(Width::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            all.push(Width::Neon);
        }
        all
    }

    /// The widest this machine has; found out once.
    pub fn widest() -> Self {
        static WIDEST: LazyLock<Width> = LazyLock::new(|| Width::all().pop().unwrap_or(Width::Portable));
        *WIDEST
    }

    /// This width where the machine has it, else what every machine has.
    pub(super) fn checked(self) -> Self {
        if self == Self::widest() || Self::all().contains(&self) { self } else { Width::Portable }
    }
}

/// `N` values and what the kernels do with them.
pub(super) trait Lanes<const N: usize>:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// One value in every lane.
    fn all(value: f32) -> Self;
    /// From the values' bits.
    fn load(bits: &[u32; N]) -> Self;
    /// The values' bits.
    fn store(self, bits: &mut [u32; N]);
    /// The two 16-bit integers each word holds, the lower first.
    fn halves(words: &[u32; N]) -> (Self, Self);
    /// `a > b ? a : b`.
    fn max(self, other: Self) -> Self;
    /// `a < b ? a : b`.
    fn min(self, other: Self) -> Self;
    /// 0 where the magnitude is below `least`.
    fn flushed(self, least: Self) -> Self;
    /// `bit` where `self ≥ other` and `also ≥ than`, else 0, added to `bits` by or.
    fn mark(self, other: Self, also: Self, than: Self, bit: u32, bits: &mut [u32; N]);

    /// Times one value.
    #[inline(always)]
    fn times(self, factor: f32) -> Self {
        self * Self::all(factor)
    }
}

/// A plain array.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(super) struct F<const N: usize>(pub(super) [f32; N]);

impl<const N: usize> F<N> {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = [0.0; N];
        for lane in 0..N {
            out[lane] = f(self.0[lane], other.0[lane]);
        }
        F(out)
    }
}

impl<const N: usize> Add for F<N> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
}

impl<const N: usize> Sub for F<N> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
}

impl<const N: usize> Mul for F<N> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
}

impl<const N: usize> Lanes<N> for F<N> {
    #[inline(always)]
    fn all(value: f32) -> Self {
        F([value; N])
    }

    #[inline(always)]
    fn load(bits: &[u32; N]) -> Self {
        let mut out = [0.0; N];
        for lane in 0..N {
            out[lane] = f32::from_bits(bits[lane]);
        }
        F(out)
    }

    #[inline(always)]
    fn store(self, bits: &mut [u32; N]) {
        for lane in 0..N {
            bits[lane] = self.0[lane].to_bits();
        }
    }

    #[inline(always)]
    fn halves(words: &[u32; N]) -> (Self, Self) {
        let (mut lower, mut upper) = ([0.0; N], [0.0; N]);
        for lane in 0..N {
            lower[lane] = ((words[lane] << 16) as i32 >> 16) as f32;
            upper[lane] = (words[lane] as i32 >> 16) as f32;
        }
        (F(lower), F(upper))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn flushed(self, least: Self) -> Self {
        self.with(least, |a, least| if a.abs() < least { 0.0 } else { a })
    }

    #[inline(always)]
    fn mark(self, other: Self, also: Self, than: Self, bit: u32, bits: &mut [u32; N]) {
        for lane in 0..N {
            let both = self.0[lane] >= other.0[lane] && also.0[lane] >= than.0[lane];
            bits[lane] |= if both { bit } else { 0 };
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{F8, F16};

/// Registers. Their methods are used from kernels compiled for their instruction set only (`screen`, `bank`), into which
/// they are inlined; that makes each `unsafe` here sound.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Add, Lanes, Mul, Sub};

    /// A register of AVX2.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(in crate::dtmf::inband) struct F8(__m256);

    /// A register of AVX-512.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(in crate::dtmf::inband) struct F16(__m512);

    macro_rules! operator {
        ($type:ident, $trait:ident, $method:ident, $operation:ident) => {
            impl $trait for $type {
                type Output = Self;
                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    // SAFETY: the caller is compiled for the register's instruction set.
                    Self(unsafe { $operation(self.0, other.0) })
                }
            }
        };
    }

    operator!(F8, Add, add, _mm256_add_ps);
    operator!(F8, Sub, sub, _mm256_sub_ps);
    operator!(F8, Mul, mul, _mm256_mul_ps);
    operator!(F16, Add, add, _mm512_add_ps);
    operator!(F16, Sub, sub, _mm512_sub_ps);
    operator!(F16, Mul, mul, _mm512_mul_ps);

    impl Lanes<8> for F8 {
        #[inline(always)]
        fn all(value: f32) -> Self {
            // SAFETY: the caller is compiled for AVX2.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        fn load(bits: &[u32; 8]) -> Self {
            // SAFETY: as above; the array holds the 32 bytes that are loaded.
            Self(unsafe { _mm256_loadu_ps(bits.as_ptr().cast()) })
        }

        #[inline(always)]
        fn store(self, bits: &mut [u32; 8]) {
            // SAFETY: as above; the array has room for the 32 bytes that are stored.
            unsafe { _mm256_storeu_ps(bits.as_mut_ptr().cast(), self.0) };
        }

        #[inline(always)]
        fn halves(words: &[u32; 8]) -> (Self, Self) {
            // SAFETY: as above; the array holds the 32 bytes that are loaded.
            unsafe {
                let words = _mm256_loadu_si256(words.as_ptr().cast());
                let lower = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(words));
                let upper = _mm256_srai_epi32::<16>(words);
                (Self(_mm256_cvtepi32_ps(lower)), Self(_mm256_cvtepi32_ps(upper)))
            }
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: the caller is compiled for AVX2.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: the caller is compiled for AVX2.
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn flushed(self, least: Self) -> Self {
            // SAFETY: the caller is compiled for AVX2.
            unsafe {
                let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0);
                Self(_mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(magnitude, least.0), self.0))
            }
        }

        #[inline(always)]
        fn mark(self, other: Self, also: Self, than: Self, bit: u32, bits: &mut [u32; 8]) {
            // SAFETY: the caller is compiled for AVX2; the array holds 32 bytes.
            unsafe {
                let first = _mm256_cmp_ps::<_CMP_GE_OQ>(self.0, other.0);
                let second = _mm256_cmp_ps::<_CMP_GE_OQ>(also.0, than.0);
                let both = _mm256_castps_si256(_mm256_and_ps(first, second));
                let marks = _mm256_and_si256(both, _mm256_set1_epi32(bit as i32));
                let before = _mm256_loadu_si256(bits.as_ptr().cast());
                _mm256_storeu_si256(bits.as_mut_ptr().cast(), _mm256_or_si256(before, marks));
            }
        }
    }

    impl Lanes<16> for F16 {
        #[inline(always)]
        fn all(value: f32) -> Self {
            // SAFETY: the caller is compiled for AVX-512.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(bits: &[u32; 16]) -> Self {
            // SAFETY: as above; the array holds the 64 bytes that are loaded.
            Self(unsafe { _mm512_loadu_ps(bits.as_ptr().cast()) })
        }

        #[inline(always)]
        fn store(self, bits: &mut [u32; 16]) {
            // SAFETY: as above; the array has room for the 64 bytes that are stored.
            unsafe { _mm512_storeu_ps(bits.as_mut_ptr().cast(), self.0) };
        }

        #[inline(always)]
        fn halves(words: &[u32; 16]) -> (Self, Self) {
            // SAFETY: as above; the array holds the 64 bytes that are loaded.
            unsafe {
                let words = _mm512_loadu_si512(words.as_ptr().cast());
                let lower = _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(words));
                let upper = _mm512_srai_epi32::<16>(words);
                (Self(_mm512_cvtepi32_ps(lower)), Self(_mm512_cvtepi32_ps(upper)))
            }
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: the caller is compiled for AVX-512.
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: the caller is compiled for AVX-512.
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn flushed(self, least: Self) -> Self {
            // SAFETY: the caller is compiled for AVX-512.
            unsafe {
                let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(self.0), least.0);
                Self(_mm512_maskz_mov_ps(!small, self.0))
            }
        }

        #[inline(always)]
        fn mark(self, other: Self, also: Self, than: Self, bit: u32, bits: &mut [u32; 16]) {
            // SAFETY: the caller is compiled for AVX-512; the array holds 64 bytes.
            unsafe {
                let first = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, other.0);
                let both = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(first, also.0, than.0);
                let before = _mm512_loadu_si512(bits.as_ptr().cast());
                let marked = _mm512_mask_or_epi32(before, both, before, _mm512_set1_epi32(bit as i32));
                _mm512_storeu_si512(bits.as_mut_ptr().cast(), marked);
            }
        }
    }
}
