//! The integer kernels for AVX-512 with VNNI: the formats' own arithmetic, 64 products to an instruction.
//!
//! ```text
//! Q8_0, Q4_0  blocks of 32:   vpdpbusd           u8 × i8, four to an i32 lane; 256 bits, a scale per block
//! K formats   blocks of 256:  vpmaddubsw         u8 × i8, pairs in i16 (no sum saturates: see each format's file)
//!                             vpdpwssd           × the sub-block's scale, added to the i32 lanes; 512 bits
//! ```
//! Both dot products wrap and the bounds in the formats' files keep every total within i32, so sums are exact and equal
//! to those of the 256-bit kernels; layouts are told there too. Loops: [`super::tile`].
use super::{
    q4_0::Q4_0,
    q4_k::{self, Q4K},
    q5_k::Q5K,
    q6_k::Q6K,
    q8_0::Q8_0,
    tile::Block,
};
use std::{arch::x86_64::*, marker::PhantomData};

/// Format `F` by these instructions.
pub struct Vnni<F>(PhantomData<F>);

/// What an implementation has in common with the 256-bit one.
macro_rules! block {
    ($format:ty, fn dots($w:ident, $x:ident, $s:ident) $body:block) => {
        impl Block for Vnni<$format> {
            const SIZE: usize = <$format as Block>::SIZE;
            const BYTES: usize = <$format as Block>::BYTES;
            const MIN: bool = <$format as Block>::MIN;

            #[inline(always)]
            unsafe fn dots<const T: usize>(
                $w: *const u8,
                $x: [*const i8; T],
                $s: [*const i16; T],
            ) -> ([__m256i; T], [__m256i; T]) {
                // SAFETY: AVX-512 F, BW, VL, VNNI and valid pointers by the contract of the type and of the trait.
                unsafe { $body }
            }

            #[inline(always)]
            unsafe fn scales(w: *const u8) -> u32 {
                // SAFETY: handed on.
                unsafe { <$format as Block>::scales(w) }
            }
        }
    };
}

/// The same 32 bytes in both halves.
#[inline(always)]
unsafe fn twice(p: *const u8) -> __m512i {
    // SAFETY: the caller has AVX-512 and 32 readable bytes.
    unsafe { _mm512_broadcast_i64x4(_mm256_loadu_si256(p.cast())) }
}

/// `low` in every i16 lane of the lower half, `high` in the upper.
#[inline(always)]
unsafe fn halves(low: i16, high: i16) -> __m512i {
    // SAFETY: the caller has AVX-512.
    unsafe { _mm512_inserti64x4::<1>(_mm512_set1_epi16(low), _mm256_set1_epi16(high)) }
}

/// `acc + Σ scale · q · x` over the 64 codes at `x`.
#[inline(always)]
unsafe fn scaled(acc: __m512i, q: __m512i, x: *const i8, scale: __m512i) -> __m512i {
    // SAFETY: the caller has AVX-512 BW and VNNI, and 64 readable codes.
    unsafe { _mm512_dpwssd_epi32(acc, _mm512_maddubs_epi16(q, _mm512_loadu_si512(x.cast())), scale) }
}

/// The upper half added to the lower.
#[inline(always)]
unsafe fn folded<const T: usize>(v: [__m512i; T]) -> [__m256i; T] {
    // SAFETY: the caller has AVX-512.
    unsafe {
        let mut sums = [_mm256_setzero_si256(); T];
        for t in 0..T {
            sums[t] = _mm256_add_epi32(_mm512_castsi512_si256(v[t]), _mm512_extracti64x4_epi64::<1>(v[t]));
        }
        sums
    }
}

block!(Q8_0, fn dots(w, x, _s) {
    let q = _mm256_loadu_si256(w.add(2).cast());
    let magnitude = _mm256_abs_epi8(q);
    let zero = _mm256_setzero_si256();
    let mut dots = [zero; T];
    for t in 0..T {
        let x = _mm256_sign_epi8(_mm256_loadu_si256(x[t].cast()), q);
        dots[t] = _mm256_dpbusd_epi32(zero, magnitude, x);
    }
    (dots, [zero; T])
});

block!(Q4_0, fn dots(w, x, s) {
    let packed = _mm_loadu_si128(w.add(2).cast());
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
    let q = _mm256_and_si256(both, _mm256_set1_epi8(15));
    let zero = _mm256_setzero_si256();
    let mut dots = [zero; T];
    for t in 0..T {
        // In one lane only: the total counts.
        let sum = i32::from(*s[t]) + i32::from(*s[t].add(1));
        let start = _mm256_zextsi128_si256(_mm_cvtsi32_si128(-8 * sum));
        dots[t] = _mm256_dpbusd_epi32(start, q, _mm256_loadu_si256(x[t].cast()));
    }
    (dots, [zero; T])
});

/// Scales of the sub-blocks `2j` (lower half) and `2j + 1` (upper) out of eight i16.
#[inline(always)]
unsafe fn pair(scales: __m512i, j: i16) -> __m512i {
    // SAFETY: the caller has AVX-512 BW.
    unsafe { _mm512_permutexvar_epi16(halves(2 * j, 2 * j + 1), scales) }
}

block!(Q4K, fn dots(w, x, s) {
    let both = q4_k::scales_and_mins(w.add(4));
    let scales = _mm512_castsi256_si512(both);
    let (nibble, down) = (_mm512_set1_epi8(15), halves(0, 4));
    let mut dots = [_mm512_setzero_si512(); T];
    for j in 0..4 {
        let q = _mm512_and_si512(_mm512_srlv_epi16(twice(w.add(16 + 32 * j)), down), nibble);
        let scale = pair(scales, j as i16);
        for t in 0..T {
            dots[t] = scaled(dots[t], q, x[t].add(64 * j), scale);
        }
    }
    (folded(dots), q4_k::minimum_sums(_mm256_extracti128_si256::<1>(both), s))
});

block!(Q5K, fn dots(w, x, s) {
    let both = q4_k::scales_and_mins(w.add(4));
    let scales = _mm512_castsi256_si512(both);
    let (nibble, down, fifth) = (_mm512_set1_epi8(15), halves(0, 4), _mm512_set1_epi8(16));
    let bits = twice(w.add(16));
    let mut dots = [_mm512_setzero_si512(); T];
    for j in 0..4 {
        let q = _mm512_and_si512(_mm512_srlv_epi16(twice(w.add(48 + 32 * j)), down), nibble);
        let bit = _mm512_inserti64x4::<1>(_mm512_set1_epi8(1 << (2 * j)), _mm256_set1_epi8((2u8 << (2 * j)) as i8));
        let q = _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(bits, bit), q, fifth);
        let scale = pair(scales, j as i16);
        for t in 0..T {
            dots[t] = scaled(dots[t], q, x[t].add(64 * j), scale);
        }
    }
    (folded(dots), q4_k::minimum_sums(_mm256_extracti128_si256::<1>(both), s))
});

/// One in each of four i16 lanes.
const ONES: i64 = 0x0001_0001_0001_0001;

block!(Q6K, fn dots(w, x, s) {
    let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(192).cast()));
    let scales = _mm512_castsi256_si512(wide);
    // Four sub-blocks of 16 to a vector, a quarter each.
    let quarters = _mm512_add_epi16(halves(0, 2), _mm512_set_epi64(ONES, ONES, 0, 0, ONES, ONES, 0, 0));
    let (nibble, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let (up, down) = (halves(4, 2), halves(0, 2));
    let mut dots = [_mm512_setzero_si512(); T];
    for half in 0..2 {
        let ql = _mm512_loadu_si512(w.add(64 * half).cast());
        let qh = twice(w.add(128 + 32 * half));
        let q = [
            _mm512_or_si512(_mm512_and_si512(ql, nibble), _mm512_and_si512(_mm512_sllv_epi16(qh, up), two)),
            _mm512_or_si512(
                _mm512_and_si512(_mm512_srli_epi16::<4>(ql), nibble),
                _mm512_and_si512(_mm512_srlv_epi16(qh, down), two),
            ),
        ];
        for (i, q) in q.into_iter().enumerate() {
            let j = 2 * half + i; // 64 elements: sub-blocks 4j to 4j + 3
            let places = _mm512_add_epi16(quarters, _mm512_set1_epi16(4 * j as i16));
            let scale = _mm512_permutexvar_epi16(places, scales);
            for t in 0..T {
                dots[t] = scaled(dots[t], q, x[t].add(64 * j), scale);
            }
        }
    }
    let mut sums = folded(dots);
    for t in 0..T {
        let offset = _mm256_slli_epi32::<5>(_mm256_madd_epi16(wide, _mm256_loadu_si256(s[t].cast())));
        sums[t] = _mm256_sub_epi32(sums[t], offset);
    }
    (sums, [_mm256_setzero_si256(); T])
});
