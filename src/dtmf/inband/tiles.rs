//! Turning square tiles of 32-bit words about: row by row in memory, lane by lane in registers. Moves only, so every way
//! of doing it gives the same bits. Left to itself the compiler gathers word by word, which costs more than all the
//! arithmetic of a turn.
#![allow(unsafe_code)]

/// A way of turning tiles of `N` rows of `N` words.
pub(super) trait Tiles<const N: usize> {
    /// Word `w` of row `r` becomes word `r` of row `w`.
    fn turn(rows: &[&[u32; N]; N], out: &mut [[u32; N]; N]);
}

/// Word by word.
pub(super) struct Plain;

impl<const N: usize> Tiles<N> for Plain {
    #[inline(always)]
    fn turn(rows: &[&[u32; N]; N], out: &mut [[u32; N]; N]) {
        for (w, column) in out.iter_mut().enumerate() {
            for (r, row) in rows.iter().enumerate() {
                column[r] = row[w];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Tiles;

    /// 8 × 8 by AVX2. To be used from kernels compiled for it only.
    pub(in crate::dtmf::inband) struct Avx2;
    /// 16 × 16 by AVX-512 F. To be used from kernels compiled for it only.
    pub(in crate::dtmf::inband) struct Avx512;

    impl Tiles<8> for Avx2 {
        #[inline(always)]
        fn turn(rows: &[&[u32; 8]; 8], out: &mut [[u32; 8]; 8]) {
            // SAFETY: the kernels that name this type run only where AVX2 was found.
            unsafe { eight(rows, out) }
        }
    }

    impl Tiles<16> for Avx512 {
        #[inline(always)]
        fn turn(rows: &[&[u32; 16]; 16], out: &mut [[u32; 16]; 16]) {
            // SAFETY: the kernels that name this type run only where AVX-512 F was found.
            unsafe { sixteen(rows, out) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn eight(rows: &[&[u32; 8]; 8], out: &mut [[u32; 8]; 8]) {
        let mut r = [_mm256_setzero_si256(); 8];
        for n in 0..8 {
            // SAFETY: each row holds the 32 bytes that are loaded.
            r[n] = unsafe { _mm256_loadu_si256(rows[n].as_ptr().cast()) };
        }
        let mut a = r;
        for n in 0..4 {
            a[2 * n] = _mm256_unpacklo_epi32(r[2 * n], r[2 * n + 1]);
            a[2 * n + 1] = _mm256_unpackhi_epi32(r[2 * n], r[2 * n + 1]);
        }
        // b[4g + k] holds word k (and k + 4) of the rows 4g…4g + 3.
        let mut b = a;
        for g in 0..2 {
            b[4 * g] = _mm256_unpacklo_epi64(a[4 * g], a[4 * g + 2]);
            b[4 * g + 1] = _mm256_unpackhi_epi64(a[4 * g], a[4 * g + 2]);
            b[4 * g + 2] = _mm256_unpacklo_epi64(a[4 * g + 1], a[4 * g + 3]);
            b[4 * g + 3] = _mm256_unpackhi_epi64(a[4 * g + 1], a[4 * g + 3]);
        }
        for k in 0..4 {
            let low = _mm256_permute2x128_si256::<0x20>(b[k], b[4 + k]);
            let high = _mm256_permute2x128_si256::<0x31>(b[k], b[4 + k]);
            // SAFETY: each row of `out` has room for 32 bytes.
            unsafe {
                _mm256_storeu_si256(out[k].as_mut_ptr().cast(), low);
                _mm256_storeu_si256(out[k + 4].as_mut_ptr().cast(), high);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn sixteen(rows: &[&[u32; 16]; 16], out: &mut [[u32; 16]; 16]) {
        let mut r = [_mm512_setzero_si512(); 16];
        for n in 0..16 {
            // SAFETY: each row holds the 64 bytes that are loaded.
            r[n] = unsafe { _mm512_loadu_si512(rows[n].as_ptr().cast()) };
        }
        let mut a = r;
        for n in 0..8 {
            a[2 * n] = _mm512_unpacklo_epi32(r[2 * n], r[2 * n + 1]);
            a[2 * n + 1] = _mm512_unpackhi_epi32(r[2 * n], r[2 * n + 1]);
        }
        // b[4g + k] holds the words k, k + 4, k + 8, k + 12 of the rows 4g…4g + 3, a quarter each.
        let mut b = a;
        for g in 0..4 {
            b[4 * g] = _mm512_unpacklo_epi64(a[4 * g], a[4 * g + 2]);
            b[4 * g + 1] = _mm512_unpackhi_epi64(a[4 * g], a[4 * g + 2]);
            b[4 * g + 2] = _mm512_unpacklo_epi64(a[4 * g + 1], a[4 * g + 3]);
            b[4 * g + 3] = _mm512_unpackhi_epi64(a[4 * g + 1], a[4 * g + 3]);
        }
        for k in 0..4 {
            // Quarters 0 and 2, then 1 and 3, of the first two and the last two groups of rows.
            let even =
                [_mm512_shuffle_i32x4::<0x88>(b[k], b[4 + k]), _mm512_shuffle_i32x4::<0x88>(b[8 + k], b[12 + k])];
            let odd = [_mm512_shuffle_i32x4::<0xdd>(b[k], b[4 + k]), _mm512_shuffle_i32x4::<0xdd>(b[8 + k], b[12 + k])];
            let columns = [
                _mm512_shuffle_i32x4::<0x88>(even[0], even[1]),
                _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]),
                _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]),
                _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]),
            ];
            for (quarter, column) in columns.into_iter().enumerate() {
                // SAFETY: each row of `out` has room for 64 bytes.
                unsafe { _mm512_storeu_si512(out[4 * quarter + k].as_mut_ptr().cast(), column) };
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::{Plain, Tiles};
        use super::*;
        use crate::dtmf::inband::lanes::Width;

        fn tile<const N: usize>() -> [[u32; N]; N] {
            std::array::from_fn(|r| std::array::from_fn(|w| (r * 100 + w) as u32))
        }

        /// The tile turned by `T`, and word by word.
        fn both<T: Tiles<N>, const N: usize>() -> [[[u32; N]; N]; 2] {
            let tile = tile::<N>();
            let (mut fast, mut plain) = ([[0; N]; N], [[0; N]; N]);
            let rows = std::array::from_fn(|n| &tile[n]);
            T::turn(&rows, &mut fast);
            Plain::turn(&rows, &mut plain);
            [fast, plain]
        }

        #[test]
        fn every_way_of_turning_a_tile_does_the_same() {
            let here = Width::all();
            if here.contains(&Width::Avx2) {
                let [fast, plain] = both::<Avx2, 8>();
                assert_eq!(fast, plain);
            } else {
                eprintln!("skipped: this processor has no AVX2");
            }
            if here.contains(&Width::Avx512) {
                let [fast, plain] = both::<Avx512, 16>();
                assert_eq!(fast, plain);
            } else {
                eprintln!("skipped: this processor has no AVX-512");
            }
        }
    }
}
