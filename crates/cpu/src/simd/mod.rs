//! One vector interface for all instruction sets: kernels are written once, generic over [`Simd`].
//!
//! A value of an implementing type is the proof that the CPU has the instructions: it can only be made where they
//! were detected. Bodies are `#[inline(always)]` and are called from the entry points that `kernel!` makes, which
//! carry `#[target_feature]`. No operation here can give other bits on another set: IEEE add, subtract, multiply,
//! divide, square root, fused multiply-add and round to even, exact widening, selection.
use crate::isa::Isa;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod kept;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
pub mod outer;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Lanes;

/// Most lanes of any set.
pub const MAX_LANES: usize = 16;

/// Vectors of [`Simd::LANES`] floats.
///
/// # Safety
/// A value must exist only where the CPU has the instructions that the methods use.
pub unsafe trait Simd: Copy + 'static {
    /// Floats in a vector: 4, 8 or 16.
    const LANES: usize;
    /// A vector of f32.
    type F: Copy;
    /// A vector of 32-bit words.
    type U: Copy;
    /// A choice per lane.
    type M: Copy;

    /// The same value in every lane.
    fn splat(self, v: f32) -> Self::F;
    /// `LANES` values, at any alignment.
    ///
    /// # Safety
    /// All loads and stores: the pointer is valid for `LANES` elements.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Writes `LANES` values.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// Half-precision values, widened.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load_f16(self, p: *const u16) -> Self::F;
    /// Rounds to half precision, ties to even.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn store_f16(self, p: *mut u16, v: Self::F);
    /// bfloat16 values, widened.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load_bf16(self, p: *const u16) -> Self::F;
    /// Signed bytes, widened.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load_i8(self, p: *const i8) -> Self::F;
    /// Values in ±127.4 as bytes, rounded to nearest, ties to even.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn store_i8(self, p: *mut i8, v: Self::F);
    /// Sums of 16 bytes each, of 4 · `LANES` bytes: `LANES / 4` of them.
    ///
    /// # Safety
    /// `q` is valid for reads of that many bytes, `out` for writes of that many sums.
    unsafe fn sums(self, q: *const i8, out: *mut i16) {
        for i in 0..Self::LANES / 4 {
            // SAFETY: the caller's promise.
            let part = unsafe { q.add(16 * i).cast::<[i8; 16]>().read_unaligned() };
            // SAFETY: as above.
            unsafe { *out.add(i) = part.iter().map(|&v| i16::from(v)).sum() };
        }
    }
    /// Four words of each of `LANES` rows, transposed: result `i` holds word `i` of every row.
    ///
    /// # Safety
    /// `rows` points to `LANES` pointers, each valid for 16 bytes at `offset`.
    unsafe fn tile(self, rows: *const *const u8, offset: usize) -> [Self::U; 4];
    /// Decodes an MXFP4 block of 17 bytes to 32 values.
    ///
    /// # Safety
    /// `p` is valid for reads of 17 bytes, `dst` for writes of 32 floats.
    unsafe fn mxfp4(self, p: *const u8, dst: *mut f32) {
        // SAFETY: the caller's promise.
        let (b, w) = unsafe { (std::slice::from_raw_parts(p, 17), std::slice::from_raw_parts_mut(dst, 32)) };
        let d = mxfp4_half_scale(b[0]);
        for i in 0..16 {
            w[i] = d * f32::from(E2M1_DOUBLED[usize::from(b[1 + i] & 15)]);
            w[16 + i] = d * f32::from(E2M1_DOUBLED[usize::from(b[1 + i] >> 4)]);
        }
    }
    /// Asks for the cache line at `p`; any address is fine.
    fn prefetch(self, p: *const u8);
    /// Asks for the cache line at `p` in the second level of cache.
    fn prefetch_far(self, p: *const u8) {
        self.prefetch(p);
    }

    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for whole `n` in -126 ..= 127; anything elsewhere.
    fn exp2i(self, n: Self::F) -> Self::F;
    /// `|a|`.
    fn abs(self, a: Self::F) -> Self::F;
    /// The magnitude of `a` with the sign of `b`.
    fn copysign(self, a: Self::F, b: Self::F) -> Self::F;
    /// `-a`.
    fn neg(self, a: Self::F) -> Self::F;
    /// `a < b`; false for NaN.
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    /// Whether `a` is no NaN.
    fn ordered(self, a: Self::F) -> Self::M;
    /// `m ? a : b`.
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;

    /// The bits of floats.
    fn bits(self, v: Self::F) -> Self::U;
    /// The greater of each pair, unsigned.
    fn umax(self, a: Self::U, b: Self::U) -> Self::U;
    /// The words as floats.
    fn floats(self, v: Self::U) -> Self::F;
    /// Words of two bfloat16: lower and upper halves, widened.
    fn split_bf16(self, v: Self::U) -> (Self::F, Self::F);
    /// Words of two halves: lower and upper, widened.
    fn split_f16(self, v: Self::U) -> (Self::F, Self::F);
    /// Words of four signed bytes, lowest first, widened.
    fn split_i8(self, v: Self::U) -> [Self::F; 4];
}

/// E2M1, doubled.
pub(crate) const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `2^(e - 128)`.
#[inline(always)]
pub(crate) fn mxfp4_half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// The set in use, with its proof.
#[derive(Clone, Copy)]
pub enum Level {
    /// [`Isa::Scalar`].
    Scalar(Lanes<8>),
    /// [`Isa::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// [`Isa::Avx512`].
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// [`Isa::Neon`].
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Level {
    /// The proof for `isa`, where the machine has it.
    pub fn new(isa: Isa) -> Option<Level> {
        match isa {
            Isa::Scalar => Some(Level::Scalar(Lanes)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::new().map(Level::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => Avx512::new().map(Level::Avx512),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::new().map(Level::Neon),
            _ => None,
        }
    }

    /// Floats in a vector.
    pub fn lanes(self) -> usize {
        match self {
            Level::Scalar(_) => <Lanes<8> as Simd>::LANES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => Avx512::LANES,
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => Neon::LANES,
        }
    }
}

/// Makes an entry point of a body that is generic over [`Simd`]: `name(level, args)` runs the body compiled for the
/// instructions of `level`. The body's own contract is the caller's duty.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident $(<$($g:ident : $bound:path),* ; $(const $c:ident),*>)?
     ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// The contract of the body: valid pointers and slices of matching lengths.
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name $(<$($g: $bound,)* $(const $c: usize),*>)? (level: $crate::simd::Level, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2 $(<$($g: $bound,)* $(const $c: usize),*>)? (s: $crate::simd::Avx2, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promise.
                unsafe { $body(s, $($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi1,bmi2")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512 $(<$($g: $bound,)* $(const $c: usize),*>)? (s: $crate::simd::Avx512, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promise.
                unsafe { $body(s, $($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn neon $(<$($g: $bound,)* $(const $c: usize),*>)? (s: $crate::simd::Neon, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promise.
                unsafe { $body(s, $($arg),*) }
            }
            // SAFETY: the level is the proof of the instructions; the rest is the caller's promise.
            unsafe {
                match level {
                    $crate::simd::Level::Scalar(s) => $body(s, $($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Level::Avx2(s) => avx2 $(::<$($g,)* $($c),*>)? (s, $($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Level::Avx512(s) => avx512 $(::<$($g,)* $($c),*>)? (s, $($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::simd::Level::Neon(s) => neon $(::<$($g,)* $($c),*>)? (s, $($arg),*),
                }
            }
        }
    };
}
pub(crate) use kernel;
