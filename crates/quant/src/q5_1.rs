//! Q5_1: 32 weights of 5 bits, a scale and a minimum, `w = d · q + m`.
//!
//! ```text
//! byte 0    2    4                8                 24
//!      | d  | m  | fifth bits,    | q0 … q15 low,    |
//!      | f16| f16| q0 lowest, u32 | q16 … q31 high   |
//! ```
use crate::{Activation, Format, FormatInfo, block};

const BLOCK: usize = 32;
const BYTES: usize = 24;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q5_1,
    name: "Q5_1",
    gguf_id: Some(7),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, scales),
};

fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    block::fives(&b[8..], block::u32_at(b, 4))
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let (d, m) = (block::f16_at(b, 0), block::f16_at(b, 2));
    *w = codes(b).map(|q| d * f32::from(q) + m);
}

/// |Σ q·x| ≤ 32 · 31 · 127 < 2^17.
fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    let (d, m) = (block::f16_at(b, 0), block::f16_at(b, 2));
    let acc = (d * x.d).mul_add(block::isum(&codes(b), x.q) as f32, acc);
    (m * x.d).mul_add(block::xsum(x.sums) as f32, acc)
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let (min, max) = block::range(w);
    let d = (max - min) / 31.0;
    let inverse = block::inverse(d);
    block::put_f16(b, 0, d);
    block::put_f16(b, 2, min);
    let q = w.map(|w| ((w - min) * inverse + 0.5).clamp(0.0, 31.0) as u8);
    block::put_fives(&mut b[4..], &q);
}

/// Codes 0 … 31 have mean 15.5 and standard deviation 9.233.
fn scales(b: &mut [u8; BYTES], s: f32) {
    block::put_f16(b, 0, s / 9.233);
    block::put_f16(b, 2, s / 9.233 * -15.5);
}
