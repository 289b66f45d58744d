//! Q2_K: 256 weights of 2 bits in 16 sub-blocks of 16, each with a 4-bit scale and minimum:
//! `w = d · sc · q - dmin · m`.
//!
//! ```text
//! byte 0                 16                 80    82     84
//!      | sub-block j:     | codes            | d   | dmin |
//!      | sc low, m high   | (see below)      | f16 | f16  |
//! ```
//! Codes: each half of 128 weights has 32 bytes; byte `i` holds its weights `i`, `32 + i`, `64 + i`, `96 + i`
//! in bit pairs from the lowest.
use crate::{Activation, Format, FormatInfo, block, fit};

const BLOCK: usize = 256;
const BYTES: usize = 84;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q2K,
    name: "Q2_K",
    gguf_id: Some(10),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, scales),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let (d, dmin) = (block::f16_at(b, 80), block::f16_at(b, 82));
    let codes = block::pairs(&b[16..80]);
    for (j, (w, q)) in w.chunks_exact_mut(16).zip(codes.chunks_exact(16)).enumerate() {
        let (scale, min) = (d * f32::from(b[j] & 15), dmin * f32::from(b[j] >> 4));
        w.iter_mut().zip(q).for_each(|(w, &q)| *w = scale * f32::from(q) - min);
    }
}

/// |Σ sc·q·x| ≤ 256 · 15 · 3 · 127 < 2^21.
fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    let (d, dmin) = (block::f16_at(b, 80), block::f16_at(b, 82));
    let codes = block::pairs(&b[16..80]);
    let (mut isum, mut msum) = (0, 0);
    for (j, (q, xq)) in codes.chunks_exact(16).zip(x.q.chunks_exact(16)).enumerate() {
        isum += i32::from(b[j] & 15) * block::isum(q, xq);
        msum += i32::from(b[j] >> 4) * i32::from(x.sums[j]);
    }
    let acc = (d * x.d).mul_add(isum as f32, acc);
    (-(dmin * x.d)).mul_add(msum as f32, acc)
}

/// With `dmin = 1.5 d` the mean is zero and the standard deviation 13.87 d.
fn scales(b: &mut [u8; BYTES], s: f32) {
    block::put_f16(b, 80, s / 13.87);
    block::put_f16(b, 82, s / 13.87 * 1.5);
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let fits: [(f32, f32); 16] = std::array::from_fn(|j| fit::with_minimum(&w[16 * j..16 * j + 16], 3));
    let (d, dmin) = (fit::greatest(fits.map(|f| f.0)) / 15.0, fit::greatest(fits.map(|f| f.1)) / 15.0);
    block::put_f16(b, 80, d);
    block::put_f16(b, 82, dmin);
    let (d, dmin) = (block::f16_at(b, 80), block::f16_at(b, 82));
    let mut q = [0; BLOCK];
    for (j, (scale, min)) in fits.into_iter().enumerate() {
        let (sc, m) = (fit::code(scale * block::inverse(d), 15), fit::code(min * block::inverse(dmin), 15));
        b[j] = sc | m << 4;
        let (inverse, min) = (block::inverse(d * f32::from(sc)), dmin * f32::from(m));
        (16 * j..16 * j + 16).for_each(|i| q[i] = fit::code((w[i] + min) * inverse, 3));
    }
    block::put_pairs(&mut b[16..80], &q);
}
