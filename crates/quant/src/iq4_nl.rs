//! IQ4_NL: 32 weights of 4 bits that index 16 unequal levels, one scale: `w = d · LEVELS[q]`.
//!
//! ```text
//! byte 0    2                 18
//!      | d  | q0 … q15 low,    |
//!      | f16| q16 … q31 high   |
//! ```
use crate::{Activation, Format, FormatInfo, block, fit};

const BLOCK: usize = 32;
const BYTES: usize = 18;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq4Nl,
    name: "IQ4_NL",
    gguf_id: Some(20),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 69.1: root mean square of the levels
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 69.1)),
};

/// What the codes stand for; IQ4_XS has the same levels.
pub(crate) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The level of code `q`, 0 … 15.
pub(crate) fn level(q: i8) -> f32 {
    f32::from(LEVELS[usize::from(q as u8 & 15)])
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    *w = block::nibbles(&b[2..]).map(|q| d * level(q));
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    block::put_f16(b, 0, level_scale(w));
    let inverse = block::inverse(block::f16_at(b, 0));
    block::put_nibbles(&mut b[2..], &w.map(|w| code(w * inverse)));
}

/// The scale that fits the levels to `w` best.
pub(crate) fn level_scale(w: &[f32]) -> f32 {
    fit::level_scale(w, 127.0, |v| f32::from(LEVELS[usize::from(code(v))]))
}

/// The code whose level is nearest to `v`.
pub(crate) fn code(v: f32) -> u8 {
    const CELLS: [u8; 481] = fit::cells(&LEVELS);
    fit::nearest(&CELLS, -127.0, v)
}
