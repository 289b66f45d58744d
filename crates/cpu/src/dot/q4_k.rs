//! Q4_K: 256 weights in 8 sub-blocks of 32: `d · sc[j] · q - dmin · m[j]`, q in 0..=15, sc and m of 6 bits.
//!
//! ```text
//! f16 d | f16 dmin | 12 bytes: 8 × 6-bit sc, 8 × 6-bit m | 128 bytes: per 64 elements 32 bytes,
//!                                                          low nibbles the first 32, high nibbles the next
//! ```
//! The whole of `Σ_j sc[j] Σ q x` stays in integers: a pair is at most 2 · 15 · 127 = 3810, times 63 in `vpmaddwd`, and
//! 256 · 63 · 15 · 127 < 2³¹. Bound: bytes (144 per block of 256).
use super::tile::Block;
use std::arch::x86_64::*;

pub struct Q4K;

/// The 8 scales (low half) and 8 minima (high half) of a Q4_K or Q5_K block as i16, from its 12 packed bytes.
///
/// Bytes 0–3 hold sc 0–3, bytes 4–7 m 0–3 (6 bits each; the two upper bits belong to sc and m 4–7), bytes 8–11 the low
/// nibbles of sc 4–7 and, as high nibbles, of m 4–7.
#[inline(always)]
pub unsafe fn scales_and_mins(p: *const u8) -> __m256i {
    // SAFETY: the caller has AVX2 and 12 readable bytes.
    unsafe {
        let word = |i: usize| p.cast::<u32>().add(i).read_unaligned();
        let (a, b, c) = (word(0), word(1), word(2));
        let sc = (u64::from((c & 0x0f0f_0f0f) | ((a >> 2) & 0x3030_3030)) << 32) | u64::from(a & 0x3f3f_3f3f);
        let m = (u64::from(((c >> 4) & 0x0f0f_0f0f) | ((b >> 2) & 0x3030_3030)) << 32) | u64::from(b & 0x3f3f_3f3f);
        _mm256_cvtepu8_epi16(_mm_set_epi64x(m as i64, sc as i64))
    }
}

/// Scale `j` (0..8) of those in both halves of `scales`, in every i16 lane.
#[inline(always)]
pub unsafe fn splat(scales: __m256i, j: usize) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_shuffle_epi8(scales, _mm256_set1_epi16(((2 * j) | ((2 * j + 1) << 8)) as i16)) }
}

/// `Σ_j m[j] Σ x` per token: the sums of 16 codes times the minimum of their sub-block of 32.
#[inline(always)]
pub unsafe fn minimum_sums<const T: usize>(mins: __m128i, s: [*const i16; T]) -> [__m256i; T] {
    // SAFETY: the caller has AVX2 and 16 sums per token.
    unsafe {
        let twice = _mm256_set_m128i(_mm_unpackhi_epi16(mins, mins), _mm_unpacklo_epi16(mins, mins));
        let mut sums = [_mm256_setzero_si256(); T];
        for t in 0..T {
            sums[t] = _mm256_madd_epi16(twice, _mm256_loadu_si256(s[t].cast()));
        }
        sums
    }
}

impl Block for Q4K {
    const SIZE: usize = 256;
    const BYTES: usize = 144;
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
            let nibble = _mm256_set1_epi8(15);
            let mut dots = [_mm256_setzero_si256(); T];
            for j in 0..4 {
                let packed = _mm256_loadu_si256(w.add(16 + 32 * j).cast());
                let low = _mm256_and_si256(packed, nibble);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibble);
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
