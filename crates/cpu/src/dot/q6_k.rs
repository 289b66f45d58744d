//! Q6_K: 256 weights in 16 sub-blocks of 16: `d · sc[j] · (q - 32)`, q in 0..=63, sc a signed byte.
//!
//! ```text
//! 128 bytes ql | 64 bytes qh | i8 sc[16] | f16 d.  Per half of 128 elements, with 64 bytes of ql and 32 of qh:
//! element   0..32: low nibble of ql[l],       bits 0–1 of qh[l]
//! element  32..64: low nibble of ql[l + 32],  bits 2–3
//! element  64..96: high nibble of ql[l],      bits 4–5
//! element 96..128: high nibble of ql[l + 32], bits 6–7
//! ```
//! `Σ sc (q - 32) x = Σ sc Σ q x - 32 Σ sc Σ x`. A pair is at most 2 · 63 · 127 = 16002, times 128 in `vpmaddwd`;
//! 256 · 128 · 63 · 127 < 2³¹. Bound: bytes (210 per block of 256).
use super::tile::{self, Block};
use std::arch::x86_64::*;

pub struct Q6K;

impl Block for Q6K {
    const SIZE: usize = 256;
    const BYTES: usize = 210;
    const MIN: bool = false;

    #[inline(always)]
    unsafe fn dots<const T: usize>(
        w: *const u8,
        x: [*const i8; T],
        s: [*const i16; T],
    ) -> ([__m256i; T], [__m256i; T]) {
        // SAFETY: AVX2 and valid pointers by the trait's contract.
        unsafe {
            let sc = _mm_loadu_si128(w.add(192).cast());
            // Even scales in the low half, odd ones in the high: one shuffle then spreads a pair over its 32 products.
            let even_odd = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            let pairs = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(sc, even_odd));
            let (nibble, two) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
            let mut dots = [_mm256_setzero_si256(); T];
            for half in 0..2 {
                let a = _mm256_loadu_si256(w.add(64 * half).cast());
                let b = _mm256_loadu_si256(w.add(64 * half + 32).cast());
                let h = _mm256_loadu_si256(w.add(128 + 32 * half).cast());
                let q = [
                    _mm256_or_si256(_mm256_and_si256(a, nibble), _mm256_and_si256(_mm256_slli_epi16::<4>(h), two)),
                    _mm256_or_si256(_mm256_and_si256(b, nibble), _mm256_and_si256(_mm256_slli_epi16::<2>(h), two)),
                    _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16::<4>(a), nibble), _mm256_and_si256(h, two)),
                    _mm256_or_si256(
                        _mm256_and_si256(_mm256_srli_epi16::<4>(b), nibble),
                        _mm256_and_si256(_mm256_srli_epi16::<2>(h), two),
                    ),
                ];
                for (i, q) in q.into_iter().enumerate() {
                    let j = 4 * half + i; // 32 elements: sub-blocks 2j and 2j + 1
                    let scale = _mm256_shuffle_epi8(pairs, _mm256_set1_epi16(((2 * j) | ((2 * j + 1) << 8)) as i16));
                    for t in 0..T {
                        let x = _mm256_loadu_si256(x[t].add(32 * j).cast());
                        dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(_mm256_maddubs_epi16(q, x), scale));
                    }
                }
            }
            let wide = _mm256_cvtepi8_epi16(sc);
            for t in 0..T {
                let offset = _mm256_slli_epi32::<5>(_mm256_madd_epi16(wide, _mm256_loadu_si256(s[t].cast())));
                dots[t] = _mm256_sub_epi32(dots[t], offset);
            }
            (dots, [_mm256_setzero_si256(); T])
        }
    }

    #[inline(always)]
    unsafe fn scales(w: *const u8) -> u32 {
        // SAFETY: as above.
        unsafe { tile::half(w.add(208)) }
    }
}
