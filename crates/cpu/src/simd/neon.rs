//! Four lanes: NEON, which every 64-bit ARM has.
use super::Simd;
use crate::isa::Isa;
use pondera_ops::math;
use std::arch::aarch64::*;

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: the token proves the instructions; pointers are valid by the method's contract.
        unsafe { $e }
    };
}

/// Proof of [`Isa::Neon`].
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// Where the machine has it.
    pub fn new() -> Option<Neon> {
        Isa::Neon.supported().then_some(Neon(()))
    }

    /// The halves in the lower 16 bits of each word (the upper are zero), widened exactly: shifted into place the
    /// exponent is 112 too small, which a multiplication repairs for denormals too; infinities and NaN apart.
    #[inline(always)]
    fn widen_f16(self, h: uint32x4_t) -> float32x4_t {
        proven!({
            let magnitude = vandq_u32(h, vdupq_n_u32(0x7fff));
            let shifted = vreinterpretq_f32_u32(vshlq_n_u32::<13>(magnitude));
            let v = vreinterpretq_u32_f32(vmulq_f32(shifted, vdupq_n_f32(f32::from_bits(0x7780_0000))));
            let special = vcgtq_u32(magnitude, vdupq_n_u32(0x7bff));
            let v = vorrq_u32(v, vandq_u32(special, vdupq_n_u32(0x7f80_0000)));
            let sign = vshlq_n_u32::<16>(vandq_u32(h, vdupq_n_u32(0x8000)));
            vreinterpretq_f32_u32(vorrq_u32(v, sign))
        })
    }
}

// SAFETY: a token is only made where the instructions were detected.
unsafe impl Simd for Neon {
    const LANES: usize = 4;
    type F = float32x4_t;
    type U = uint32x4_t;
    type M = uint32x4_t;

    #[inline(always)]
    fn splat(self, v: f32) -> float32x4_t {
        proven!(vdupq_n_f32(v))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        proven!(vld1q_f32(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: float32x4_t) {
        proven!(vst1q_f32(p, v))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> float32x4_t {
        self.widen_f16(proven!(vmovl_u16(vld1_u16(p))))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: float32x4_t) {
        let mut w = [0.0; 4];
        proven!(vst1q_f32(w.as_mut_ptr(), v));
        proven!(p.cast::<[u16; 4]>().write_unaligned(w.map(math::f32_to_f16)))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> float32x4_t {
        proven!(vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> float32x4_t {
        let w = proven!(p.cast::<[i8; 4]>().read_unaligned()).map(f32::from);
        proven!(vld1q_f32(w.as_ptr()))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: float32x4_t) {
        let mut w = [0.0; 4];
        proven!(vst1q_f32(w.as_mut_ptr(), vrndnq_f32(v)));
        proven!(p.cast::<[i8; 4]>().write_unaligned(w.map(|v| v as i8)))
    }
    #[inline(always)]
    unsafe fn tile(self, rows: *const *const u8, offset: usize) -> [uint32x4_t; 4] {
        proven!({
            macro_rules! at {
                ($r:literal) => {
                    vreinterpretq_u32_u8(vld1q_u8((*rows.add($r)).add(offset)))
                };
            }
            let (a, b, c, d) = (at!(0), at!(1), at!(2), at!(3));
            let (ab0, ab1) = (vreinterpretq_u64_u32(vtrn1q_u32(a, b)), vreinterpretq_u64_u32(vtrn2q_u32(a, b)));
            let (cd0, cd1) = (vreinterpretq_u64_u32(vtrn1q_u32(c, d)), vreinterpretq_u64_u32(vtrn2q_u32(c, d)));
            [
                vreinterpretq_u32_u64(vtrn1q_u64(ab0, cd0)),
                vreinterpretq_u32_u64(vtrn1q_u64(ab1, cd1)),
                vreinterpretq_u32_u64(vtrn2q_u64(ab0, cd0)),
                vreinterpretq_u32_u64(vtrn2q_u64(ab1, cd1)),
            ]
        })
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a hint; no address faults.
        unsafe { std::arch::asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly)) }
    }
    #[inline(always)]
    fn prefetch_far(self, p: *const u8) {
        // SAFETY: a hint; no address faults.
        unsafe { std::arch::asm!("prfm pldl2keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly)) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        proven!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        proven!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn exp2i(self, n: float32x4_t) -> float32x4_t {
        proven!({
            let i = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(i))
        })
    }
    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        proven!(vabsq_f32(a))
    }
    #[inline(always)]
    fn copysign(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vbslq_f32(vdupq_n_u32(0x8000_0000), b, a))
    }
    #[inline(always)]
    fn neg(self, a: float32x4_t) -> float32x4_t {
        proven!(vnegq_f32(a))
    }
    #[inline(always)]
    fn lt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        proven!(vcltq_f32(a, b))
    }
    #[inline(always)]
    fn ordered(self, a: float32x4_t) -> uint32x4_t {
        proven!(vceqq_f32(a, a))
    }
    #[inline(always)]
    fn select(self, m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vbslq_f32(m, a, b))
    }

    #[inline(always)]
    fn bits(self, v: float32x4_t) -> uint32x4_t {
        proven!(vreinterpretq_u32_f32(v))
    }
    #[inline(always)]
    fn umax(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vmaxq_u32(a, b))
    }
    #[inline(always)]
    fn floats(self, v: uint32x4_t) -> float32x4_t {
        proven!(vreinterpretq_f32_u32(v))
    }
    #[inline(always)]
    fn split_bf16(self, v: uint32x4_t) -> (float32x4_t, float32x4_t) {
        proven!((
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(v)),
            vreinterpretq_f32_u32(vandq_u32(v, vdupq_n_u32(0xffff_0000))),
        ))
    }
    #[inline(always)]
    fn split_f16(self, v: uint32x4_t) -> (float32x4_t, float32x4_t) {
        let (low, high) = proven!((vandq_u32(v, vdupq_n_u32(0xffff)), vshrq_n_u32::<16>(v)));
        (self.widen_f16(low), self.widen_f16(high))
    }
    #[inline(always)]
    fn split_i8(self, v: uint32x4_t) -> [float32x4_t; 4] {
        proven!({
            let v = vreinterpretq_s32_u32(v);
            [
                vcvtq_f32_s32(vshrq_n_s32::<24>(vshlq_n_s32::<24>(v))),
                vcvtq_f32_s32(vshrq_n_s32::<24>(vshlq_n_s32::<16>(v))),
                vcvtq_f32_s32(vshrq_n_s32::<24>(vshlq_n_s32::<8>(v))),
                vcvtq_f32_s32(vshrq_n_s32::<24>(v)),
            ]
        })
    }
}
