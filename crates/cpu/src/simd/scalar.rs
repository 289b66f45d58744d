//! Vectors of plain floats: the same bodies on any machine, and the check that a lane count changes nothing.
use super::Simd;
use pondera_ops::math;
use std::array::from_fn;

/// `N` lanes of plain code.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<const N: usize>;

// SAFETY: needs no instructions beyond the target's own.
unsafe impl<const N: usize> Simd for Lanes<N> {
    const LANES: usize = N;
    type F = [f32; N];
    type U = [u32; N];
    type M = [bool; N];

    #[inline(always)]
    fn splat(self, v: f32) -> [f32; N] {
        [v; N]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; N] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: [f32; N]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; N]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> [f32; N] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u16; N]>().read_unaligned() }.map(math::f16_to_f32)
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: [f32; N]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u16; N]>().write_unaligned(v.map(math::f32_to_f16)) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> [f32; N] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u16; N]>().read_unaligned() }.map(|h| f32::from_bits(u32::from(h) << 16))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> [f32; N] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[i8; N]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: [f32; N]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[i8; N]>().write_unaligned(v.map(|v| v.round_ties_even() as i8)) }
    }
    #[inline(always)]
    unsafe fn tile(self, rows: *const *const u8, offset: usize) -> [[u32; N]; 4] {
        // SAFETY: the caller's promise.
        let row: [[u32; 4]; N] =
            from_fn(|r| unsafe { (*rows.add(r)).add(offset).cast::<[u32; 4]>().read_unaligned() }.map(u32::from_le));
        from_fn(|w| from_fn(|r| row[r][w]))
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn round(self, a: [f32; N]) -> [f32; N] {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn exp2i(self, n: [f32; N]) -> [f32; N] {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn abs(self, a: [f32; N]) -> [f32; N] {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn copysign(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i].copysign(b[i]))
    }
    #[inline(always)]
    fn neg(self, a: [f32; N]) -> [f32; N] {
        a.map(|v| -v)
    }
    #[inline(always)]
    fn lt(self, a: [f32; N], b: [f32; N]) -> [bool; N] {
        from_fn(|i| a[i] < b[i])
    }
    #[inline(always)]
    fn ordered(self, a: [f32; N]) -> [bool; N] {
        a.map(|v| !v.is_nan())
    }
    #[inline(always)]
    fn select(self, m: [bool; N], a: [f32; N], b: [f32; N]) -> [f32; N] {
        from_fn(|i| if m[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn bits(self, v: [f32; N]) -> [u32; N] {
        v.map(f32::to_bits)
    }
    #[inline(always)]
    fn umax(self, a: [u32; N], b: [u32; N]) -> [u32; N] {
        from_fn(|i| a[i].max(b[i]))
    }
    #[inline(always)]
    fn floats(self, v: [u32; N]) -> [f32; N] {
        v.map(f32::from_bits)
    }
    #[inline(always)]
    fn split_bf16(self, v: [u32; N]) -> ([f32; N], [f32; N]) {
        (v.map(|w| f32::from_bits(w << 16)), v.map(|w| f32::from_bits(w & 0xffff_0000)))
    }
    #[inline(always)]
    fn split_f16(self, v: [u32; N]) -> ([f32; N], [f32; N]) {
        (v.map(|w| math::f16_to_f32(w as u16)), v.map(|w| math::f16_to_f32((w >> 16) as u16)))
    }
    #[inline(always)]
    fn split_i8(self, v: [u32; N]) -> [[f32; N]; 4] {
        from_fn(|i| v.map(|w| f32::from(w.to_le_bytes()[i] as i8)))
    }
}
