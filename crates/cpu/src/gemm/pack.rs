//! Rows of weights to panels: widened to f32 and transposed in registers.
//!
//! Does not own: which rows and how many ([`super`]).
use super::{Code, Elem};
use crate::simd::{Level, MAX_LANES, Simd, kernel};
use pondera_quant::float;

/// What [`pack_rows`] needs: `R = groups · LANES` rows to a panel `[kn][R]`.
pub struct Pack {
    /// `R` pointers to row starts.
    pub rows: *const *const u8,
    /// Vectors of rows.
    pub groups: usize,
    /// First k; a multiple of 32 for block formats.
    pub k0: usize,
    /// Number of k.
    pub kn: usize,
    /// `[kn][R]`.
    pub dst: *mut f32,
}

/// A format that packs by 32-bit words.
trait Words {
    const SIZE: usize;
    /// Stores one transposed word: the rows' values of `4 / SIZE` successive k.
    unsafe fn emit<S: Simd>(s: S, w: S::U, dst: *mut f32, r: usize);
    /// One element.
    unsafe fn one(p: *const u8) -> f32;
}

struct WordsF32;
struct WordsF16;
struct WordsBf16;
struct WordsI8;

impl Words for WordsF32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn emit<S: Simd>(s: S, w: S::U, dst: *mut f32, _: usize) {
        // SAFETY: the caller's promise.
        unsafe { s.store(dst, s.floats(w)) }
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<f32>().read_unaligned() }
    }
}

impl Words for WordsF16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn emit<S: Simd>(s: S, w: S::U, dst: *mut f32, r: usize) {
        let (low, high) = s.split_f16(w);
        // SAFETY: the caller's promise.
        unsafe {
            s.store(dst, low);
            s.store(dst.add(r), high);
        }
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        float::f16_to_f32(unsafe { p.cast::<u16>().read_unaligned() })
    }
}

impl Words for WordsBf16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn emit<S: Simd>(s: S, w: S::U, dst: *mut f32, r: usize) {
        let (low, high) = s.split_bf16(w);
        // SAFETY: the caller's promise.
        unsafe {
            s.store(dst, low);
            s.store(dst.add(r), high);
        }
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        float::bf16_to_f32(unsafe { p.cast::<u16>().read_unaligned() })
    }
}

impl Words for WordsI8 {
    const SIZE: usize = 1;
    #[inline(always)]
    unsafe fn emit<S: Simd>(s: S, w: S::U, dst: *mut f32, r: usize) {
        for (i, v) in s.split_i8(w).into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { s.store(dst.add(i * r), v) }
        }
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        f32::from(unsafe { p.cast::<i8>().read() })
    }
}

#[inline(always)]
unsafe fn pack_words<S: Simd, W: Words>(s: S, p: &Pack) {
    let r = p.groups * S::LANES;
    let quad = 16 / W::SIZE; // k in 16 bytes
    let mut k = 0;
    // SAFETY: the caller's promise: R rows, `kn` elements each from `k0` on.
    unsafe {
        // Eight rows at a time, whole cache lines of each: rows at power-of-two strides share a cache set, which holds
        // eight lines on most machines.
        let lines = p.kn / (4 * quad);
        for g in 0..p.groups {
            let rows = p.rows.add(g * S::LANES);
            for line in 0..lines {
                let k = line * 4 * quad;
                for q in 0..4 {
                    let words = s.tile(rows, (p.k0 + k) * W::SIZE + q * 16);
                    for (i, w) in words.into_iter().enumerate() {
                        let at = k + q * quad + i * quad / 4;
                        W::emit(s, w, p.dst.add(at * r + g * S::LANES), r);
                    }
                }
            }
        }
        k += lines * 4 * quad;
        while k + quad <= p.kn {
            for g in 0..p.groups {
                let words = s.tile(p.rows.add(g * S::LANES), (p.k0 + k) * W::SIZE);
                for (i, w) in words.into_iter().enumerate() {
                    W::emit(s, w, p.dst.add((k + i * quad / 4) * r + g * S::LANES), r);
                }
            }
            k += quad;
        }
        while k < p.kn {
            for i in 0..r {
                *p.dst.add(k * r + i) = W::one((*p.rows.add(i)).add((p.k0 + k) * W::SIZE));
            }
            k += 1;
        }
    }
}

#[inline(always)]
unsafe fn pack_mxfp4<S: Simd>(s: S, p: &Pack) {
    let r = p.groups * S::LANES;
    let mut block = [[0.0f32; 32]; MAX_LANES];
    let mut pointers = [std::ptr::null::<u8>(); MAX_LANES];
    // SAFETY: the caller's promise: R rows of whole blocks.
    unsafe {
        for b in 0..p.kn / 32 {
            let offset = (p.k0 / 32 + b) * 17;
            for g in 0..p.groups {
                for i in 0..S::LANES {
                    let row = *p.rows.add(g * S::LANES + i);
                    s.mxfp4(row.add(offset), block[i].as_mut_ptr());
                    pointers[i] = block[i].as_ptr().cast();
                }
                for q in 0..8 {
                    for (i, w) in s.tile(pointers.as_ptr(), q * 16).into_iter().enumerate() {
                        s.store(p.dst.add((b * 32 + q * 4 + i) * r + g * S::LANES), s.floats(w));
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn pack_f32<S: Simd>(s: S, p: &Pack) {
    // SAFETY: the caller's promise.
    unsafe { pack_words::<S, WordsF32>(s, p) }
}
#[inline(always)]
unsafe fn pack_f16<S: Simd>(s: S, p: &Pack) {
    // SAFETY: the caller's promise.
    unsafe { pack_words::<S, WordsF16>(s, p) }
}
#[inline(always)]
unsafe fn pack_bf16<S: Simd>(s: S, p: &Pack) {
    // SAFETY: the caller's promise.
    unsafe { pack_words::<S, WordsBf16>(s, p) }
}

#[inline(always)]
unsafe fn pack_i8<S: Simd>(s: S, p: &Pack) {
    // SAFETY: the caller's promise.
    unsafe { pack_words::<S, WordsI8>(s, p) }
}

kernel!(/// Packs rows of signed bytes.
    unsafe fn rows_i8(p: &Pack) = pack_i8);
kernel!(/// Packs f32 rows.
    unsafe fn rows_f32(p: &Pack) = pack_f32);
kernel!(/// Packs half-precision rows.
    unsafe fn rows_f16(p: &Pack) = pack_f16);
kernel!(/// Packs bfloat16 rows.
    unsafe fn rows_bf16(p: &Pack) = pack_bf16);
kernel!(/// Packs MXFP4 rows.
    unsafe fn rows_mxfp4(p: &Pack) = pack_mxfp4);

/// Packs rows of `code`.
///
/// # Safety
/// All rows are valid for reads of `kn` elements from `k0` on, `dst` for writes of the panel.
pub unsafe fn pack_rows(level: Level, code: Code, p: &Pack) {
    // SAFETY: the caller's promise.
    unsafe {
        match code {
            Code::F32 => rows_f32(level, p),
            Code::F16 => rows_f16(level, p),
            Code::BF16 => rows_bf16(level, p),
            Code::Mxfp4 => rows_mxfp4(level, p),
            Code::I8 => rows_i8(level, p),
        }
    }
}

/// Widens `n` elements that lie side by side.
#[inline(always)]
unsafe fn widen_body<S: Simd, E: Elem>(s: S, src: *const u8, n: usize, dst: *mut f32) {
    let mut i = 0;
    // SAFETY: the caller's promise: n elements in both.
    unsafe {
        while i + S::LANES <= n {
            s.store(dst.add(i), E::load(s, src.add(i * E::SIZE)));
            i += S::LANES;
        }
        if i < n {
            let (mut from, mut to) = ([0u8; MAX_LANES * 4], [0.0f32; MAX_LANES]);
            std::ptr::copy_nonoverlapping(src.add(i * E::SIZE), from.as_mut_ptr(), (n - i) * E::SIZE);
            s.store(to.as_mut_ptr(), E::load(s, from.as_ptr()));
            std::ptr::copy_nonoverlapping(to.as_ptr(), dst.add(i), n - i);
        }
    }
}

kernel!(/// Widens elements that lie side by side.
    pub unsafe fn widen<E: Elem; >(src: *const u8, n: usize, dst: *mut f32) = widen_body::<_, E>);
