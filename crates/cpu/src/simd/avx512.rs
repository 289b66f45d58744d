//! Sixteen lanes: AVX-512 F, BW, VL and DQ.
use super::{E2M1_DOUBLED, Simd, mxfp4_half_scale};
use crate::isa::Isa;
use std::arch::x86_64::*;

/// Proof of [`Isa::Avx512`].
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// Where the machine has it.
    pub fn new() -> Option<Avx512> {
        Isa::Avx512.supported().then_some(Avx512(()))
    }
}

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: the token proves the instructions; pointers are valid by the method's contract.
        unsafe { $e }
    };
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

// SAFETY: a token is only made where the instructions were detected.
unsafe impl Simd for Avx512 {
    const LANES: usize = 16;
    type F = __m512;
    type U = __m512i;
    type M = __mmask16;

    #[inline(always)]
    fn splat(self, v: f32) -> __m512 {
        proven!(_mm512_set1_ps(v))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        proven!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        proven!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast())))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: __m512) {
        proven!(_mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512 {
        proven!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: __m512) {
        proven!(_mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))))
    }
    #[inline(always)]
    unsafe fn sums(self, q: *const i8, out: *mut i16) {
        proven!({
            // Bytes moved up by 128 add up without signs, eight at a time.
            let v = _mm512_xor_si512(_mm512_loadu_si512(q.cast()), _mm512_set1_epi8(-128));
            let s = _mm512_sad_epu8(v, _mm512_setzero_si512());
            let s = _mm512_add_epi64(s, _mm512_shuffle_epi32::<0x4e>(s));
            let s = _mm512_sub_epi64(s, _mm512_set1_epi64(16 * 128));
            _mm_storel_epi64(out.cast(), _mm512_cvtepi64_epi16(_mm512_maskz_compress_epi64(0x55, s)));
        })
    }
    #[inline(always)]
    unsafe fn tile(self, rows: *const *const u8, offset: usize) -> [__m512i; 4] {
        proven!({
            // Lane r % 4 of quarter r / 4 is row r: a 4x4 transposition in each quarter.
            macro_rules! at {
                ($r:expr) => {
                    _mm_loadu_ps((*rows.add($r)).add(offset).cast())
                };
            }
            macro_rules! four {
                ($r:literal) => {{
                    let v = _mm512_castps128_ps512(at!($r));
                    let v = _mm512_insertf32x4::<1>(v, at!($r + 4));
                    let v = _mm512_insertf32x4::<2>(v, at!($r + 8));
                    _mm512_insertf32x4::<3>(v, at!($r + 12))
                }};
            }
            let (a, b, c, d) = (four!(0), four!(1), four!(2), four!(3));
            let (ab0, ab1) = (_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(a, b)));
            let (cd0, cd1) = (_mm512_castps_pd(_mm512_unpacklo_ps(c, d)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d)));
            [
                _mm512_castpd_si512(_mm512_unpacklo_pd(ab0, cd0)),
                _mm512_castpd_si512(_mm512_unpackhi_pd(ab0, cd0)),
                _mm512_castpd_si512(_mm512_unpacklo_pd(ab1, cd1)),
                _mm512_castpd_si512(_mm512_unpackhi_pd(ab1, cd1)),
            ]
        })
    }
    #[inline(always)]
    unsafe fn mxfp4(self, p: *const u8, dst: *mut f32) {
        proven!({
            let d = _mm512_set1_ps(mxfp4_half_scale(*p));
            let codes = _mm_loadu_si128(p.add(1).cast());
            let table = _mm_loadu_si128(E2M1_DOUBLED.as_ptr().cast());
            let nibble = _mm_set1_epi8(15);
            let low = _mm_shuffle_epi8(table, _mm_and_si128(codes, nibble));
            let high = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(codes), nibble));
            _mm512_storeu_ps(dst, _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low))));
            _mm512_storeu_ps(dst.add(16), _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high))));
        })
    }
    #[inline(always)]
    fn prefetch_far(self, p: *const u8) {
        proven!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<NEAREST>(a))
    }
    #[inline(always)]
    fn exp2i(self, n: __m512) -> __m512 {
        proven!({
            let i = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(i))
        })
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        proven!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn copysign(self, a: __m512, b: __m512) -> __m512 {
        proven!({
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        })
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        proven!(_mm512_xor_ps(_mm512_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        proven!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn ordered(self, a: __m512) -> __mmask16 {
        proven!(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a))
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mask_blend_ps(m, b, a))
    }

    #[inline(always)]
    fn bits(self, v: __m512) -> __m512i {
        proven!(_mm512_castps_si512(v))
    }
    #[inline(always)]
    fn umax(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_max_epu32(a, b))
    }
    #[inline(always)]
    fn floats(self, v: __m512i) -> __m512 {
        proven!(_mm512_castsi512_ps(v))
    }
    #[inline(always)]
    fn split_bf16(self, v: __m512i) -> (__m512, __m512) {
        proven!({
            let high = _mm512_and_si512(v, _mm512_set1_epi32(0xffff_0000u32 as i32));
            (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(v)), _mm512_castsi512_ps(high))
        })
    }
    #[inline(always)]
    fn split_f16(self, v: __m512i) -> (__m512, __m512) {
        proven!((
            _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)),
            _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(v))),
        ))
    }
    #[inline(always)]
    fn split_i8(self, v: __m512i) -> [__m512; 4] {
        proven!({
            let (a, b) = (_mm512_slli_epi32::<24>(v), _mm512_slli_epi32::<16>(v));
            let c = _mm512_slli_epi32::<8>(v);
            // Not mapped: closures do not inherit the instructions.
            [
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(a)),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(b)),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(c)),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(v)),
            ]
        })
    }
}
