//! Q4_K: 256 weights of 4 bits in 8 sub-blocks of 32, each with a 6-bit scale and minimum:
//! `w = d · sc · q - dmin · m`.
//!
//! ```text
//! byte 0     2      4               16                          144
//!      | d   | dmin | sc and m      | 4 × 32 bytes: sub-block 2k  |
//!      | f16 | f16  | 12 bytes      | low, 2k + 1 high            |
//! ```
//! Scales and minima `j < 4`: low six bits of bytes `j` and `4 + j`. For `j ≥ 4` the low four bits are the low (scale)
//! and high (minimum) nibble of byte `4 + j`, the high two are the top bits of bytes `j - 4` and `j`.
use crate::{Activation, Format, FormatInfo, block, fit};

const BLOCK: usize = 256;
const BYTES: usize = 144;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q4K,
    name: "Q4_K",
    gguf_id: Some(12),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, scales),
};

/// Scale and minimum of sub-block `j` of the twelve bytes `s`, each 0 … 63. Q5_K packs them the same way.
pub(crate) fn scale_min(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
    }
}

/// Codes 0 … 15, in order.
fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    block::nibbles_by_32(&b[16..])
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    decode_subs(b, 4, &codes(b), w);
}

/// Shared with Q5_K: scales at byte `at`, codes unpacked.
pub(crate) fn decode_subs<const N: usize>(b: &[u8; N], at: usize, codes: &[i8; BLOCK], w: &mut [f32; BLOCK]) {
    let (d, dmin) = (block::f16_at(b, 0), block::f16_at(b, 2));
    for (j, (w, q)) in w.chunks_exact_mut(32).zip(codes.chunks_exact(32)).enumerate() {
        let (sc, m) = scale_min(&b[at..], j);
        let (scale, min) = (d * f32::from(sc), dmin * f32::from(m));
        w.iter_mut().zip(q).for_each(|(w, &q)| *w = scale * f32::from(q) - min);
    }
}

fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    dot_subs(b, 4, &codes(b), x, acc)
}

/// Shared with Q5_K. |Σ sc·q·x| ≤ 256 · 63 · 31 · 127 < 2^26, |Σ m·x| ≤ 256 · 63 · 127 < 2^21.
pub(crate) fn dot_subs<const N: usize>(
    b: &[u8; N],
    at: usize,
    codes: &[i8; BLOCK],
    x: block::Q8Block<'_, BLOCK>,
    acc: f32,
) -> f32 {
    let (d, dmin) = (block::f16_at(b, 0), block::f16_at(b, 2));
    let (mut isum, mut msum) = (0, 0);
    for (j, (q, xq)) in codes.chunks_exact(32).zip(x.q.chunks_exact(32)).enumerate() {
        let (sc, m) = scale_min(&b[at..], j);
        isum += i32::from(sc) * block::isum(q, xq);
        msum += i32::from(m) * block::xsum(&x.sums[2 * j..2 * j + 2]);
    }
    let acc = (d * x.d).mul_add(isum as f32, acc);
    (-(dmin * x.d)).mul_add(msum as f32, acc)
}

/// With `dmin = 7.5 d` the mean is zero and the standard deviation 258.3 d.
fn scales(b: &mut [u8; BYTES], s: f32) {
    block::put_f16(b, 0, s / 258.3);
    block::put_f16(b, 2, s / 258.3 * 7.5);
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let q = encode_subs(w, b, 15);
    block::put_nibbles_by_32(&mut b[16..], &q);
}

/// Shared with Q5_K: writes scales and minima, gives the codes, at most `top`.
pub(crate) fn encode_subs<const N: usize>(w: &[f32; BLOCK], b: &mut [u8; N], top: u8) -> [u8; BLOCK] {
    let fits: [(f32, f32); 8] = std::array::from_fn(|j| fit::with_minimum(&w[32 * j..32 * j + 32], top));
    block::put_f16(b, 0, fit::greatest(fits.map(|f| f.0)) / 63.0);
    block::put_f16(b, 2, fit::greatest(fits.map(|f| f.1)) / 63.0);
    let (d, dmin) = (block::f16_at(b, 0), block::f16_at(b, 2));
    let mut q = [0; BLOCK];
    let s = &mut b[4..16];
    s.fill(0);
    for (j, (scale, min)) in fits.into_iter().enumerate() {
        let (sc, m) = (fit::code(scale * block::inverse(d), 63), fit::code(min * block::inverse(dmin), 63));
        put_scale_min(s, j, sc, m);
        let (inverse, min) = (block::inverse(d * f32::from(sc)), dmin * f32::from(m));
        (32 * j..32 * j + 32).for_each(|i| q[i] = fit::code((w[i] + min) * inverse, top));
    }
    q
}

/// Writes what [`scale_min`] reads; the bytes were zero, `j` ascends.
fn put_scale_min(s: &mut [u8], j: usize, sc: u8, m: u8) {
    if j < 4 {
        (s[j], s[j + 4]) = (sc, m);
    } else {
        s[j + 4] = sc & 15 | m << 4;
        s[j - 4] |= sc >> 4 << 6;
        s[j] |= m >> 4 << 6;
    }
}
