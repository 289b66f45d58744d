//! Q4_0: 32 weights `d · (q - 8)`, q in 0..=15. Block: `f16 d | 16 bytes`, low nibbles are elements 0..16, high ones
//! 16..32; 18 bytes.
//!
//! `Σ (q - 8) x = Σ q x - 8 Σ x`, both exact; Σ x comes with the activations. A pair is at most 2 · 15 · 127 = 3810.
use super::tile::{self, Block};
use std::arch::x86_64::*;

pub struct Q4_0;

impl Block for Q4_0 {
    const SIZE: usize = 32;
    const BYTES: usize = 18;
    const MIN: bool = false;

    #[inline(always)]
    unsafe fn dots<const T: usize>(
        w: *const u8,
        x: [*const i8; T],
        s: [*const i16; T],
    ) -> ([__m256i; T], [__m256i; T]) {
        // SAFETY: AVX2 and valid pointers by the trait's contract.
        unsafe {
            let packed = _mm_loadu_si128(w.add(2).cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
            let q = _mm256_and_si256(both, _mm256_set1_epi8(15));
            let one = _mm256_set1_epi16(1);
            let mut dots = [_mm256_setzero_si256(); T];
            for t in 0..T {
                let products = _mm256_madd_epi16(_mm256_maddubs_epi16(q, _mm256_loadu_si256(x[t].cast())), one);
                let sum = i32::from(*s[t]) + i32::from(*s[t].add(1));
                // In one lane only: the total counts.
                dots[t] = _mm256_sub_epi32(products, _mm256_zextsi128_si256(_mm_cvtsi32_si128(8 * sum)));
            }
            (dots, [_mm256_setzero_si256(); T])
        }
    }

    #[inline(always)]
    unsafe fn scales(w: *const u8) -> u32 {
        // SAFETY: as above.
        unsafe { tile::half(w) }
    }
}
