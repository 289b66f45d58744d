//! Eight lanes: AVX2, FMA and F16C.
use super::{E2M1_DOUBLED, Simd, mxfp4_half_scale};
use crate::isa::Isa;
use std::arch::x86_64::*;

/// Proof of [`Isa::Avx2`].
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// Where the machine has it.
    pub fn new() -> Option<Avx2> {
        Isa::Avx2.supported().then_some(Avx2(()))
    }
}

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: the token proves the instructions; pointers are valid by the method's contract.
        unsafe { $e }
    };
}

// SAFETY: a token is only made where the instructions were detected.
unsafe impl Simd for Avx2 {
    const LANES: usize = 8;
    type F = __m256;
    type U = __m256i;
    type M = __m256;

    #[inline(always)]
    fn splat(self, v: f32) -> __m256 {
        proven!(_mm256_set1_ps(v))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        proven!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        proven!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m256 {
        proven!(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: __m256) {
        proven!(_mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m256 {
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m256 {
        proven!(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: __m256) {
        proven!({
            let i = _mm256_cvtps_epi32(v);
            let w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256::<1>(i));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(w, w));
        })
    }
    #[inline(always)]
    unsafe fn sums(self, q: *const i8, out: *mut i16) {
        proven!({
            // Bytes moved up by 128 add up without signs, eight at a time.
            let v = _mm256_xor_si256(_mm256_loadu_si256(q.cast()), _mm256_set1_epi8(-128));
            let s = _mm256_sad_epu8(v, _mm256_setzero_si256());
            let s = _mm256_add_epi64(s, _mm256_shuffle_epi32::<0x4e>(s));
            *out = _mm256_extract_epi16::<0>(s) as i16 - 16 * 128;
            *out.add(1) = _mm256_extract_epi16::<8>(s) as i16 - 16 * 128;
        })
    }
    #[inline(always)]
    unsafe fn tile(self, rows: *const *const u8, offset: usize) -> [__m256i; 4] {
        proven!({
            // Lane r % 4 of half r / 4 is row r: a 4x4 transposition in each half.
            macro_rules! pair {
                ($r:literal) => {{
                    let low = _mm_loadu_ps((*rows.add($r)).add(offset).cast());
                    let high = _mm_loadu_ps((*rows.add($r + 4)).add(offset).cast());
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
                }};
            }
            let (a, b, c, d) = (pair!(0), pair!(1), pair!(2), pair!(3));
            let (ab0, ab1) = (_mm256_castps_pd(_mm256_unpacklo_ps(a, b)), _mm256_castps_pd(_mm256_unpackhi_ps(a, b)));
            let (cd0, cd1) = (_mm256_castps_pd(_mm256_unpacklo_ps(c, d)), _mm256_castps_pd(_mm256_unpackhi_ps(c, d)));
            [
                _mm256_castpd_si256(_mm256_unpacklo_pd(ab0, cd0)),
                _mm256_castpd_si256(_mm256_unpackhi_pd(ab0, cd0)),
                _mm256_castpd_si256(_mm256_unpacklo_pd(ab1, cd1)),
                _mm256_castpd_si256(_mm256_unpackhi_pd(ab1, cd1)),
            ]
        })
    }
    #[inline(always)]
    unsafe fn mxfp4(self, p: *const u8, dst: *mut f32) {
        proven!({
            let d = _mm256_set1_ps(mxfp4_half_scale(*p));
            let codes = _mm_loadu_si128(p.add(1).cast());
            let table = _mm_loadu_si128(E2M1_DOUBLED.as_ptr().cast());
            let nibble = _mm_set1_epi8(15);
            let low = _mm_shuffle_epi8(table, _mm_and_si128(codes, nibble));
            let high = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(codes), nibble));
            let (low2, high2) = (_mm_srli_si128::<8>(low), _mm_srli_si128::<8>(high));
            _mm256_storeu_ps(dst, _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low))));
            _mm256_storeu_ps(dst.add(8), _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low2))));
            _mm256_storeu_ps(dst.add(16), _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high))));
            _mm256_storeu_ps(dst.add(24), _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high2))));
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
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        proven!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn exp2i(self, n: __m256) -> __m256 {
        proven!({
            let i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(i))
        })
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        proven!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn copysign(self, a: __m256, b: __m256) -> __m256 {
        proven!({
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        })
    }
    #[inline(always)]
    fn neg(self, a: __m256) -> __m256 {
        proven!(_mm256_xor_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn ordered(self, a: __m256) -> __m256 {
        proven!(_mm256_cmp_ps::<_CMP_ORD_Q>(a, a))
    }
    #[inline(always)]
    fn select(self, m: __m256, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_blendv_ps(b, a, m))
    }

    #[inline(always)]
    fn bits(self, v: __m256) -> __m256i {
        proven!(_mm256_castps_si256(v))
    }
    #[inline(always)]
    fn umax(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_max_epu32(a, b))
    }
    #[inline(always)]
    fn floats(self, v: __m256i) -> __m256 {
        proven!(_mm256_castsi256_ps(v))
    }
    #[inline(always)]
    fn split_bf16(self, v: __m256i) -> (__m256, __m256) {
        proven!({
            let high = _mm256_and_si256(v, _mm256_set1_epi32(0xffff_0000u32 as i32));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(v)), _mm256_castsi256_ps(high))
        })
    }
    #[inline(always)]
    fn split_f16(self, v: __m256i) -> (__m256, __m256) {
        proven!({
            let low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
            // [low 0-3, high 0-3 | low 4-7, high 4-7], then the halves in order.
            let packed =
                _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, _mm256_srli_epi32::<16>(v)));
            (_mm256_cvtph_ps(_mm256_castsi256_si128(packed)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(packed)))
        })
    }
    #[inline(always)]
    fn split_i8(self, v: __m256i) -> [__m256; 4] {
        proven!({
            let (a, b) = (_mm256_slli_epi32::<24>(v), _mm256_slli_epi32::<16>(v));
            let c = _mm256_slli_epi32::<8>(v);
            // Not mapped: closures do not inherit the instructions.
            [
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(a)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(b)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(c)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(v)),
            ]
        })
    }
}
