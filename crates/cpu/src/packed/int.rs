//! Integer vectors for packed kernels: one interface for all sets.
//!
//! Lanes are 32-bit words, a row each. Every operation is exact: no implementation saturates on the operands that it
//! allows, so the choice of set changes no bit.
use super::GROUP;
use crate::simd::{Level, Simd};

/// A vector of words of `I`.
pub type U<I> = <<I as Int>::S as Simd>::U;
/// A vector of floats of `I`.
pub type F<I> = <<I as Int>::S as Simd>::F;

/// Integer operations beside those of [`Simd`].
///
/// # Safety
/// A value must exist only where the CPU has the instructions that the methods use.
pub unsafe trait Int: Copy + 'static {
    /// The float side.
    type S: Simd;
    /// Whether [`Int::dot`] takes codes of 8 bits; else of 7, and [`Int::dot_signed`] takes the others.
    const WIDE: bool;

    /// The float side.
    fn simd(self) -> Self::S;
    /// A vector of words at any alignment.
    ///
    /// # Safety
    /// `p` is valid for a vector.
    unsafe fn load(self, p: *const u8) -> U<Self>;
    /// Writes a vector.
    ///
    /// # Safety
    /// `p` is valid for a vector.
    unsafe fn store(self, p: *mut u8, v: U<Self>);
    /// The word at `p` in every lane.
    ///
    /// # Safety
    /// `p` is valid for a word.
    unsafe fn broadcast(self, p: *const u8) -> U<Self>;
    /// `v` in every lane.
    fn splat(self, v: i32) -> U<Self>;
    /// `a & b`.
    fn and(self, a: U<Self>, b: U<Self>) -> U<Self>;
    /// `a | b`.
    fn or(self, a: U<Self>, b: U<Self>) -> U<Self>;
    /// `a ^ b`.
    fn xor(self, a: U<Self>, b: U<Self>) -> U<Self>;
    /// `m ? a : b`, bit by bit.
    fn pick(self, m: U<Self>, a: U<Self>, b: U<Self>) -> U<Self>;
    /// Words shifted left by `n`, a constant after inlining.
    fn shl(self, v: U<Self>, n: u32) -> U<Self>;
    /// Words shifted right by `n`, zeros in.
    fn shr(self, v: U<Self>, n: u32) -> U<Self>;
    /// Words shifted right by `n`, the sign in.
    fn sar(self, v: U<Self>, n: u32) -> U<Self>;
    /// `a + b`.
    fn add(self, a: U<Self>, b: U<Self>) -> U<Self>;
    /// `a · b`, low words.
    fn mul(self, a: U<Self>, b: U<Self>) -> U<Self>;
    /// `acc` plus the four products of unsigned bytes of `w` and signed bytes (not -128) of `x`.
    fn dot(self, acc: U<Self>, w: U<Self>, x: U<Self>) -> U<Self>;
    /// The same for signed bytes of `w`.
    fn dot_signed(self, acc: U<Self>, w: U<Self>, x: U<Self>) -> U<Self>;
    /// `acc` plus the two products of signed 16-bit halves.
    fn dot_pairs(self, acc: U<Self>, a: U<Self>, b: U<Self>) -> U<Self>;
    /// Words as floats, rounded once.
    fn float(self, v: U<Self>) -> F<Self>;
    /// `n`, unknown to the compiler: a loop that runs so often is not unrolled, so that its loads are not gathered at the
    /// top and spilled.
    fn opaque(self, n: usize) -> usize;
    /// Asks for the line at `near` in the first level of cache and for that at `far` in the second.
    fn prefetch(self, near: *const u8, far: *const u8);
    /// Asks for the line at `p`, to be written.
    fn prefetch_to_write(self, p: *const u8);
    /// The float side as a [`Level`].
    fn level(self) -> Level;
    /// Bytes, widened to words.
    ///
    /// # Safety
    /// `p` is valid for as many bytes as there are lanes.
    unsafe fn load_u8(self, p: *const u8) -> U<Self>;
    /// E4M3 codes (no NaN) as 2^-8 of their values.
    ///
    /// # Safety
    /// `p` is valid for as many bytes as there are lanes.
    unsafe fn load_e4m3(self, p: *const u8) -> F<Self>;
    /// 16-bit words, widened.
    ///
    /// # Safety
    /// `p` is valid for as many as there are lanes.
    unsafe fn load_u16(self, p: *const u16) -> U<Self>;
    /// The entries that the low four bits of each word name.
    fn lookup(self, table: &[f32; 16], at: U<Self>) -> F<Self>;
}

/// Stores a vector of outputs from row `o` on, up to `end`.
///
/// # Safety
/// `y` is valid for writes of those outputs below `end`.
#[inline(always)]
pub unsafe fn store<I: Int>(s: I, v: F<I>, o: usize, end: usize, y: *mut f32) {
    let lanes = <I::S as Simd>::LANES;
    // SAFETY: the caller's promise: outputs below `end` of this token.
    unsafe {
        if o + lanes <= end {
            s.simd().store(y.add(o), v);
        } else if o < end {
            let mut edge = [0.0f32; GROUP];
            s.simd().store(edge.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(edge.as_ptr(), y.add(o), end - o);
        }
    }
}
