//! [`Int`] for AVX-512 with VNNI, AVX-VNNI and AVX2.
use super::int::Int;
use crate::simd::{Avx2, Avx512, Level};
use std::arch::{asm, x86_64::*};

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: the token proves the instructions; pointers are valid by the method's contract.
        unsafe { $e }
    };
}

/// See [`Int::opaque`].
#[inline(always)]
fn opaque(mut n: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) n, options(pure, nomem, nostack, preserves_flags)) };
    n
}

/// Proof of AVX-512 with VNNI.
#[derive(Clone, Copy)]
pub struct Vnni512(Avx512);

impl Vnni512 {
    /// Where the machine has it.
    pub fn new() -> Option<Vnni512> {
        Avx512::new().filter(|_| crate::isa::has_avx512_vnni()).map(Vnni512)
    }
}

// SAFETY: a token is only made where the instructions were detected.
unsafe impl Int for Vnni512 {
    type S = Avx512;
    const WIDE: bool = true;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u8) -> __m512i {
        proven!(_mm512_loadu_si512(p.cast()))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8, v: __m512i) {
        proven!(_mm512_storeu_si512(p.cast(), v))
    }
    #[inline(always)]
    unsafe fn broadcast(self, p: *const u8) -> __m512i {
        proven!(_mm512_set1_epi32(p.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    fn splat(self, v: i32) -> __m512i {
        proven!(_mm512_set1_epi32(v))
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn pick(self, m: __m512i, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_ternarylogic_epi32::<0xca>(m, a, b))
    }
    #[inline(always)]
    fn shl(self, v: __m512i, n: u32) -> __m512i {
        proven!(_mm512_sllv_epi32(v, _mm512_set1_epi32(n as i32)))
    }
    #[inline(always)]
    fn shr(self, v: __m512i, n: u32) -> __m512i {
        proven!(_mm512_srlv_epi32(v, _mm512_set1_epi32(n as i32)))
    }
    #[inline(always)]
    fn sar(self, v: __m512i, n: u32) -> __m512i {
        proven!(_mm512_srav_epi32(v, _mm512_set1_epi32(n as i32)))
    }
    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn dot(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        proven!(_mm512_dpbusd_epi32(acc, w, x))
    }
    #[inline(always)]
    fn dot_signed(self, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        proven!({
            let biased = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
            let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), x);
            _mm512_sub_epi32(_mm512_dpbusd_epi32(acc, biased, x), _mm512_slli_epi32::<7>(sum))
        })
    }
    #[inline(always)]
    fn dot_pairs(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_dpwssd_epi32(acc, a, b))
    }
    #[inline(always)]
    fn float(self, v: __m512i) -> __m512 {
        proven!(_mm512_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn opaque(self, n: usize) -> usize {
        opaque(n)
    }
    #[inline(always)]
    fn prefetch(self, near: *const u8, far: *const u8) {
        proven!({
            _mm_prefetch::<_MM_HINT_T0>(near.cast());
            _mm_prefetch::<_MM_HINT_T1>(far.cast());
        })
    }
    #[inline(always)]
    fn prefetch_to_write(self, p: *const u8) {
        proven!(_mm_prefetch::<_MM_HINT_ET0>(p.cast()))
    }
    #[inline(always)]
    fn level(self) -> Level {
        Level::Avx512(self.0)
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> __m512i {
        proven!(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const u8) -> __m512 {
        proven!({
            // Sign, four bits of exponent and three of mantissa move up; the exponent's first bit is a copy of the sign.
            let v = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())));
            _mm512_cvtph_ps(_mm256_and_si256(v, _mm256_set1_epi16(0xbf80u16 as i16)))
        })
    }
    #[inline(always)]
    unsafe fn load_u16(self, p: *const u16) -> __m512i {
        proven!(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], at: __m512i) -> __m512 {
        proven!(_mm512_permutexvar_ps(at, _mm512_loadu_ps(table.as_ptr())))
    }
}

/// The operations that AVX-VNNI and AVX2 share.
macro_rules! ymm {
    () => {
        type S = Avx2;

        #[inline(always)]
        fn simd(self) -> Avx2 {
            self.0
        }
        #[inline(always)]
        unsafe fn load(self, p: *const u8) -> __m256i {
            proven!(_mm256_loadu_si256(p.cast()))
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut u8, v: __m256i) {
            proven!(_mm256_storeu_si256(p.cast(), v))
        }
        #[inline(always)]
        unsafe fn broadcast(self, p: *const u8) -> __m256i {
            proven!(_mm256_set1_epi32(p.cast::<i32>().read_unaligned()))
        }
        #[inline(always)]
        fn splat(self, v: i32) -> __m256i {
            proven!(_mm256_set1_epi32(v))
        }
        #[inline(always)]
        fn and(self, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_and_si256(a, b))
        }
        #[inline(always)]
        fn or(self, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_or_si256(a, b))
        }
        #[inline(always)]
        fn xor(self, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_xor_si256(a, b))
        }
        #[inline(always)]
        fn pick(self, m: __m256i, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_or_si256(_mm256_and_si256(m, a), _mm256_andnot_si256(m, b)))
        }
        #[inline(always)]
        fn shl(self, v: __m256i, n: u32) -> __m256i {
            proven!(_mm256_sllv_epi32(v, _mm256_set1_epi32(n as i32)))
        }
        #[inline(always)]
        fn shr(self, v: __m256i, n: u32) -> __m256i {
            proven!(_mm256_srlv_epi32(v, _mm256_set1_epi32(n as i32)))
        }
        #[inline(always)]
        fn sar(self, v: __m256i, n: u32) -> __m256i {
            proven!(_mm256_srav_epi32(v, _mm256_set1_epi32(n as i32)))
        }
        #[inline(always)]
        fn add(self, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_add_epi32(a, b))
        }
        #[inline(always)]
        fn mul(self, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_mullo_epi32(a, b))
        }
        #[inline(always)]
        fn float(self, v: __m256i) -> __m256 {
            proven!(_mm256_cvtepi32_ps(v))
        }
        #[inline(always)]
        fn opaque(self, n: usize) -> usize {
            opaque(n)
        }
        #[inline(always)]
        fn prefetch(self, near: *const u8, far: *const u8) {
            proven!({
                _mm_prefetch::<_MM_HINT_T0>(near.cast());
                _mm_prefetch::<_MM_HINT_T1>(far.cast());
            })
        }
        #[inline(always)]
        fn prefetch_to_write(self, p: *const u8) {
            proven!(_mm_prefetch::<_MM_HINT_ET0>(p.cast()))
        }
        #[inline(always)]
        fn level(self) -> Level {
            Level::Avx2(self.0)
        }
        #[inline(always)]
        unsafe fn load_u8(self, p: *const u8) -> __m256i {
            proven!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())))
        }
        #[inline(always)]
        unsafe fn load_e4m3(self, p: *const u8) -> __m256 {
            proven!({
                let v = _mm_slli_epi16::<7>(_mm_cvtepi8_epi16(_mm_loadl_epi64(p.cast())));
                _mm256_cvtph_ps(_mm_and_si128(v, _mm_set1_epi16(0xbf80u16 as i16)))
            })
        }
        #[inline(always)]
        unsafe fn load_u16(self, p: *const u16) -> __m256i {
            proven!(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))
        }
        #[inline(always)]
        fn lookup(self, table: &[f32; 16], at: __m256i) -> __m256 {
            proven!({
                let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), at);
                let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(8)), at);
                _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(at)))
            })
        }
    };
}

/// Proof of AVX-VNNI.
#[derive(Clone, Copy)]
pub struct Vnni256(Avx2);

impl Vnni256 {
    /// Where the machine has it.
    pub fn new() -> Option<Vnni256> {
        Avx2::new().filter(|_| crate::isa::has_avx_vnni()).map(Vnni256)
    }
}

// SAFETY: a token is only made where the instructions were detected.
unsafe impl Int for Vnni256 {
    const WIDE: bool = true;
    ymm!();

    #[inline(always)]
    fn dot(self, acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        proven!(_mm256_dpbusd_avx_epi32(acc, w, x))
    }
    #[inline(always)]
    fn dot_signed(self, acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        proven!(_mm256_dpbusd_avx_epi32(acc, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w)))
    }
    #[inline(always)]
    fn dot_pairs(self, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_dpwssd_avx_epi32(acc, a, b))
    }
}

/// Proof of AVX2.
#[derive(Clone, Copy)]
pub struct Plain256(Avx2);

impl Plain256 {
    /// Where the machine has it.
    pub fn new() -> Option<Plain256> {
        Avx2::new().map(Plain256)
    }
}

// SAFETY: a token is only made where the instructions were detected.
unsafe impl Int for Plain256 {
    const WIDE: bool = false;
    ymm!();

    /// A pair is at most 2 · 127 · 127 < 2^15.
    #[inline(always)]
    fn dot(self, acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))))
    }
    /// A pair is at most 2 · 128 · 127 < 2^15.
    #[inline(always)]
    fn dot_signed(self, acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        proven!({
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn dot_pairs(self, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(acc, _mm256_madd_epi16(a, b)))
    }
}
