//! Q5_K: 256 weights in 8 sub-blocks of 32: `d · sc[j] · q - dmin · m[j]`, q in 0..=31, sc and m of 6 bits.
//!
//! ```text
//! f16 d | f16 dmin | 12 bytes of sc and m as in Q4_K | 32 bytes: bit j of byte l is the fifth bit of element l of
//!                                                       sub-block j | 128 bytes of low nibbles as in Q4_K
//! ```
//! A pair is at most 2 · 31 · 127 = 7874; 256 · 63 · 31 · 127 < 2³¹. Bound: bytes (176 per block of 256).
use super::q4_k::{minimum_sums, scales_and_mins, splat};
use super::tile::Block;
use std::arch::x86_64::*;

pub struct Q5K;

impl Block for Q5K {
    const SIZE: usize = 256;
    const BYTES: usize = 176;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn dots<const T: usize>(
        w: *const u8,
        x: [*const i8; T],
        s: [*const i16; T],
    ) -> ([__m256i; T], [__m256i; T]) {
        // SAFETY: AVX2 and valid pointers by the trait's contract.
        unsafe {
            let both = scales_and_mins(w.add(4));
            let scales = _mm256_broadcastsi128_si256(_mm256_castsi256_si128(both));
            let (nibble, fifth) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
            // Bits of sub-block 2j and 2j+1 at bit 4 and 5, moved down by two each round.
            let mut bits = _mm256_loadu_si256(w.add(16).cast());
            let mut dots = [_mm256_setzero_si256(); T];
            for j in 0..4 {
                let packed = _mm256_loadu_si256(w.add(48 + 32 * j).cast());
                let first = _mm256_and_si256(_mm256_slli_epi16::<4>(bits), fifth);
                let second = _mm256_and_si256(_mm256_slli_epi16::<3>(bits), fifth);
                let low = _mm256_or_si256(_mm256_and_si256(packed, nibble), first);
                let high = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble), second);
                bits = _mm256_srli_epi16::<2>(bits);
                let (sl, sh) = (splat(scales, 2 * j), splat(scales, 2 * j + 1));
                for t in 0..T {
                    let xl = _mm256_loadu_si256(x[t].add(64 * j).cast());
                    let xh = _mm256_loadu_si256(x[t].add(64 * j + 32).cast());
                    let a = _mm256_madd_epi16(_mm256_maddubs_epi16(low, xl), sl);
                    let b = _mm256_madd_epi16(_mm256_maddubs_epi16(high, xh), sh);
                    dots[t] = _mm256_add_epi32(dots[t], _mm256_add_epi32(a, b));
                }
            }
            (dots, minimum_sums(_mm256_extracti128_si256::<1>(both), s))
        }
    }

    #[inline(always)]
    unsafe fn scales(w: *const u8) -> u32 {
        // SAFETY: as above.
        unsafe { w.cast::<u32>().read_unaligned() }
    }
}
