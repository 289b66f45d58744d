//! The loops that every 256-bit integer kernel shares: four results at a time, either four rows for one token
//! (decode) or one row for four tokens (prefill: a block is unpacked once for the four).
//!
//! ```text
//! block b:  codes ──unpack──> u8 × i8 products ──> i32 lanes ─┐ × 4 results
//!                                                  hsum4 <────┘──> 4 × i32 ──> f32 ──> one fma per result
//! ```
//! Integer sums are exact, so their order is free; the FMA chain over blocks is the format's own.
use super::{Out, Rows, Tokens};
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows that stay in cache while all tokens pass by: 32 rows of 4096 4-bit weights are 74 kB.
const CHUNK: usize = 32;

/// A format's integer arithmetic on one block of [`Block::SIZE`] elements.
pub trait Block {
    /// Elements per block of weights, which is also the block of the activations.
    const SIZE: usize;
    /// Bytes per block of weights.
    const BYTES: usize;
    /// Whether blocks have a minimum: a second integer sum and a second scale.
    const MIN: bool;

    /// Products of the block at `w` with the codes `x[t]` and sums `s[t]` of `T` tokens: per token the i32 lanes
    /// whose total is the integer sum, and those of the minimum (zero without one).
    ///
    /// # Safety
    /// AVX2, or what the implementing type names; the pointers are valid for a block.
    unsafe fn dots<const T: usize>(w: *const u8, x: [*const i8; T], s: [*const i16; T])
    -> ([__m256i; T], [__m256i; T]);

    /// The block's two half-precision scales as bits: `d` low, the minimum's (or 0) high. The minimum enters negated.
    ///
    /// # Safety
    /// The pointer is valid for a block.
    unsafe fn scales(w: *const u8) -> u32;
}

/// Totals of the lanes of four vectors.
#[inline(always)]
unsafe fn hsum4(v: [__m256i; 4]) -> __m128i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let a = _mm256_hadd_epi32(v[0], v[1]);
        let b = _mm256_hadd_epi32(v[2], v[3]);
        let c = _mm256_hadd_epi32(a, b);
        _mm_add_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256::<1>(c))
    }
}

/// The half-precision bits at `p`, as the low half of a word.
///
/// # Safety
/// Two bytes are readable at `p`.
#[inline(always)]
pub unsafe fn half(p: *const u8) -> u32 {
    // SAFETY: as promised by the caller.
    u32::from(unsafe { p.cast::<u16>().read_unaligned() })
}

/// Four pairs of halves as two vectors: the low ones, the high ones.
#[inline(always)]
unsafe fn widen(pairs: [u32; 4]) -> (__m128, __m128) {
    // SAFETY: the caller has AVX2 and F16C.
    unsafe {
        let bits = _mm_setr_epi32(pairs[0] as i32, pairs[1] as i32, pairs[2] as i32, pairs[3] as i32);
        let eight = _mm256_cvtph_ps(bits);
        let (a, b) = (_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        (_mm_shuffle_ps::<0b10_00_10_00>(a, b), _mm_shuffle_ps::<0b11_01_11_01>(a, b))
    }
}

/// One step of four chains: `acc + d · dots (- m · mins)`.
#[inline(always)]
unsafe fn step<F: Block>(acc: __m128, dots: [__m256i; 4], mins: [__m256i; 4], d: __m128, m: __m128) -> __m128 {
    // SAFETY: the caller has AVX2 and FMA.
    unsafe {
        let acc = _mm_fmadd_ps(d, _mm_cvtepi32_ps(hsum4(dots)), acc);
        if F::MIN { _mm_fnmadd_ps(m, _mm_cvtepi32_ps(hsum4(mins)), acc) } else { acc }
    }
}

/// The kernel of format `F` (see [`super::Kernel`]).
///
/// # Safety
/// AVX2, FMA and F16C, and what [`super::Kernel`] asks.
pub unsafe fn run<F: Block>(rows: Rows<'_>, range: Range<usize>, tokens: Tokens<'_>, out: Out) {
    // SAFETY: handed on.
    unsafe { run_avx2::<F>(rows, range, tokens, out) }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_avx2<F: Block>(rows: Rows<'_>, range: Range<usize>, tokens: Tokens<'_>, out: Out) {
    // SAFETY: handed on.
    unsafe { all::<F>(rows, range, tokens, out) }
}

/// [`run`], for formats of [`super::vnni`].
///
/// # Safety
/// AVX-512 F, BW, VL and VNNI beside what [`run`] asks.
pub unsafe fn run_vnni<F: Block>(rows: Rows<'_>, range: Range<usize>, tokens: Tokens<'_>, out: Out) {
    // SAFETY: handed on.
    unsafe { run_avx512_vnni::<F>(rows, range, tokens, out) }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn run_avx512_vnni<F: Block>(rows: Rows<'_>, range: Range<usize>, tokens: Tokens<'_>, out: Out) {
    // SAFETY: handed on.
    unsafe { all::<F>(rows, range, tokens, out) }
}

#[inline(always)]
unsafe fn all<F: Block>(rows: Rows<'_>, range: Range<usize>, tokens: Tokens<'_>, out: Out) {
    debug_assert!(rows.inp == tokens.inp && rows.inp.is_multiple_of(F::SIZE));
    let mut from = range.start;
    while from < range.end {
        let to = (from + CHUNK).min(range.end);
        let whole = tokens.n - tokens.n % 4;
        // SAFETY: rows and tokens are within bounds by the caller's promise.
        unsafe {
            for t in (0..whole).step_by(4) {
                for o in from..to {
                    four_tokens::<F>(rows, o, tokens, t, out);
                }
            }
            for t in whole..tokens.n {
                for o in (from..to).step_by(4) {
                    four_rows::<F>(rows, o, (to - o).min(4), tokens, t, out);
                }
            }
        }
        from = to;
    }
}

/// Row `o` for tokens `t .. t + 4`.
#[inline(always)]
unsafe fn four_tokens<F: Block>(rows: Rows<'_>, o: usize, tokens: Tokens<'_>, t: usize, out: Out) {
    // SAFETY: the row, the tokens and their blocks exist by the caller's promise.
    unsafe {
        let blocks = rows.inp / F::SIZE;
        let w = rows.bytes.as_ptr().add(o * rows.stride);
        let q: [*const i8; 4] = std::array::from_fn(|i| tokens.q.as_ptr().add((t + i) * tokens.inp));
        let s: [*const i16; 4] = std::array::from_fn(|i| tokens.sums.as_ptr().add((t + i) * (tokens.inp / 16)));
        let d: [*const f32; 4] = std::array::from_fn(|i| tokens.d.as_ptr().add((t + i) * blocks));
        let mut acc = _mm_setzero_ps();
        for b in 0..blocks {
            let w = w.add(b * F::BYTES);
            let (dots, mins) = F::dots(w, q.map(|q| q.add(b * F::SIZE)), s.map(|s| s.add(b * (F::SIZE / 16))));
            let (scale, min) = widen([F::scales(w); 4]);
            let x = _mm_setr_ps(*d[0].add(b), *d[1].add(b), *d[2].add(b), *d[3].add(b));
            acc = step::<F>(acc, dots, mins, _mm_mul_ps(scale, x), _mm_mul_ps(min, x));
        }
        let mut y = [0.0f32; 4];
        _mm_storeu_ps(y.as_mut_ptr(), acc);
        for (i, y) in y.iter().enumerate() {
            *out.ptr.add((t + i) * out.stride + o) = *y;
        }
    }
}

/// Rows `o .. o + count` (at most four) for token `t`.
#[inline(always)]
unsafe fn four_rows<F: Block>(rows: Rows<'_>, o: usize, count: usize, tokens: Tokens<'_>, t: usize, out: Out) {
    // SAFETY: the rows, the token and their blocks exist by the caller's promise.
    unsafe {
        let blocks = rows.inp / F::SIZE;
        // Past the end the last row is computed again and not stored.
        let w: [*const u8; 4] = std::array::from_fn(|i| rows.bytes.as_ptr().add((o + i.min(count - 1)) * rows.stride));
        let q = tokens.q.as_ptr().add(t * tokens.inp);
        let s = tokens.sums.as_ptr().add(t * (tokens.inp / 16));
        let d = tokens.d.as_ptr().add(t * blocks);
        let ahead = 4 * rows.stride;
        let mut acc = _mm_setzero_ps();
        for b in 0..blocks {
            let w = w.map(|w| w.add(b * F::BYTES));
            let (x, s) = ([q.add(b * F::SIZE)], [s.add(b * (F::SIZE / 16))]);
            // Loops, not `map`: a closure would not inherit the instruction set.
            let (mut dots, mut mins) = ([_mm256_setzero_si256(); 4], [_mm256_setzero_si256(); 4]);
            let mut pairs = [0; 4];
            for i in 0..4 {
                // The same block of the next four rows: a row is too short for the machine to see its stream.
                for line in (0..F::BYTES).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(w[i].wrapping_add(ahead + line).cast());
                }
                let (dot, minimum) = F::dots::<1>(w[i], x, s);
                (dots[i], mins[i]) = (dot[0], minimum[0]);
                pairs[i] = F::scales(w[i]);
            }
            let x = _mm_set1_ps(*d.add(b));
            let (scale, min) = widen(pairs);
            acc = step::<F>(acc, dots, mins, _mm_mul_ps(scale, x), _mm_mul_ps(min, x));
        }
        let mut y = [0.0f32; 4];
        _mm_storeu_ps(y.as_mut_ptr(), acc);
        std::ptr::copy_nonoverlapping(y.as_ptr(), out.ptr.add(t * out.stride + o), count);
    }
}
