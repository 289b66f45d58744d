//! Q4_0: 32 weights of 4 bits and one scale, `w = d · (q - 8)`.
//!
//! ```text
//! byte 0    2                 18
//!      | d  | q0 … q15 low,    |
//!      | f16| q16 … q31 high   |
//! ```
use crate::{Activation, Format, FormatInfo, block};

const BLOCK: usize = 32;
const BYTES: usize = 18;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q4_0,
    name: "Q4_0",
    gguf_id: Some(2),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 4.637: root mean square of -8 … 7
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 4.637)),
};

/// Signed codes -8 … 7.
fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    block::nibbles(&b[2..]).map(|q| q - 8)
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    *w = codes(b).map(|q| d * f32::from(q));
}

/// |Σ| ≤ 32 · 8 · 127 < 2^15.
fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    (block::f16_at(b, 0) * x.d).mul_add(block::isum(&codes(b), x.q) as f32, acc)
}

/// The element of greatest magnitude gets code -8, so that the scale takes its sign and the full range is used.
fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let d = block::extreme(w) / -8.0;
    let inverse = block::inverse(d);
    block::put_f16(b, 0, d);
    let q = w.map(|w| (w * inverse + 8.5).clamp(0.0, 15.0) as u8);
    block::put_nibbles(&mut b[2..], &q);
}
