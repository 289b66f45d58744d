//! Q8_0: 32 weights `d · q`, q in -128..=127. Block: `f16 d | i8 q[32]`, 34 bytes.
//!
//! `vpmaddubsw` wants one unsigned operand: `|q| · sign(x, q)` has the same products, and since |x| ≤ 127 a pair is at
//! most 2 · 128 · 127 = 32512: it cannot saturate. Bound: bytes; per 34 bytes five vector operations.
use super::tile::{self, Block};
use std::arch::x86_64::*;

pub struct Q8_0;

impl Block for Q8_0 {
    const SIZE: usize = 32;
    const BYTES: usize = 34;
    const MIN: bool = false;

    #[inline(always)]
    unsafe fn dots<const T: usize>(
        w: *const u8,
        x: [*const i8; T],
        _: [*const i16; T],
    ) -> ([__m256i; T], [__m256i; T]) {
        // SAFETY: AVX2 and valid pointers by the trait's contract.
        unsafe {
            let q = _mm256_loadu_si256(w.add(2).cast());
            let magnitude = _mm256_abs_epi8(q);
            let one = _mm256_set1_epi16(1);
            let mut dots = [_mm256_setzero_si256(); T];
            for t in 0..T {
                let x = _mm256_sign_epi8(_mm256_loadu_si256(x[t].cast()), q);
                dots[t] = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, x), one);
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
