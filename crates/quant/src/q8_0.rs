//! Q8_0: 32 weights of 8 bits and one scale, `w = d · q`.
//!
//! ```text
//! byte 0    2              34
//!      | d  | q0 … q31, i8  |
//!      | f16|               |
//! ```
use crate::{Activation, Format, FormatInfo, block};

const BLOCK: usize = 32;
const BYTES: usize = 34;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q8_0,
    name: "Q8_0",
    gguf_id: Some(8),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 73.9: root mean square of -128 … 127
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 73.9)),
};

fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    std::array::from_fn(|i| b[2 + i] as i8)
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    *w = codes(b).map(|q| d * f32::from(q));
}

/// |Σ| ≤ 32 · 128 · 127 < 2^19.
fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    (block::f16_at(b, 0) * x.d).mul_add(block::isum(&codes(b), x.q) as f32, acc)
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let d = block::extreme(w).abs() / 127.0;
    let inverse = block::inverse(d);
    block::put_f16(b, 0, d);
    for (b, w) in b[2..].iter_mut().zip(w) {
        *b = (w * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
    }
}
