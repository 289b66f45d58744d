//! Q5_0: 32 weights of 5 bits and one scale, `w = d · (q - 16)`.
//!
//! ```text
//! byte 0    2                6                 22
//!      | d  | fifth bits,    | q0 … q15 low,    |
//!      | f16| q0 lowest, u32 | q16 … q31 high   |
//! ```
use crate::{Activation, Format, FormatInfo, block};

const BLOCK: usize = 32;
const BYTES: usize = 22;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q5_0,
    name: "Q5_0",
    gguf_id: Some(6),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 9.238: root mean square of -16 … 15
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 9.238)),
};

/// Signed codes -16 … 15.
fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    block::fives(&b[6..], block::u32_at(b, 2)).map(|q| q - 16)
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    *w = codes(b).map(|q| d * f32::from(q));
}

/// |Σ| ≤ 32 · 16 · 127 < 2^17.
fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    (block::f16_at(b, 0) * x.d).mul_add(block::isum(&codes(b), x.q) as f32, acc)
}

/// The element of greatest magnitude gets code -16, as in Q4_0.
fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let d = block::extreme(w) / -16.0;
    let inverse = block::inverse(d);
    block::put_f16(b, 0, d);
    let q = w.map(|w| (w * inverse + 16.5).clamp(0.0, 31.0) as u8);
    block::put_fives(&mut b[2..], &q);
}
