//! Q1_0: 128 weights of one bit and one scale: `w = d` where the bit is set, else `-d`.
//!
//! ```text
//! byte 0     2                           18
//!      | d   | bit i of byte j: weight    |
//!      | f16 | 8 j + i                    |
//! ```
use crate::{Activation, Format, FormatInfo, block};

const BLOCK: usize = 128;
const BYTES: usize = 18;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q1_0,
    name: "Q1_0",
    gguf_id: Some(41),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    *w = std::array::from_fn(|i| if b[2 + i / 8] >> (i % 8) & 1 == 1 { d } else { -d });
}

/// The mean magnitude is the scale with the least squared error.
fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    block::put_f16(b, 0, w.iter().map(|w| w.abs()).sum::<f32>() / BLOCK as f32);
    b[2..].fill(0);
    w.iter().enumerate().for_each(|(i, w)| b[2 + i / 8] |= u8::from(*w >= 0.0) << (i % 8));
}
