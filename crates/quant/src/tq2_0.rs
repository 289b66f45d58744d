//! TQ2_0: 256 ternary weights in bit pairs, one scale: `w = d · (q - 1)`.
//!
//! ```text
//! byte 0                 64    66
//!      | codes, as Q2_K  | d   |
//!      |                 | f16 |
//! ```
use crate::{
    Activation, Format, FormatInfo, block,
    tq1_0::{ternary_code, ternary_scale},
};

const BLOCK: usize = 256;
const BYTES: usize = 66;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Tq2_0,
    name: "TQ2_0",
    gguf_id: Some(35),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 1.2247: root mean square of -1, 0, 1, 2 (the code 3 is not forbidden)
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 64, s / 1.2247)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 64);
    *w = block::pairs(&b[..64]).map(|q| d * f32::from(q - 1));
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    block::put_f16(b, 64, ternary_scale(w));
    let inverse = block::inverse(block::f16_at(b, 64));
    block::put_pairs(&mut b[..64], &w.map(|w| ternary_code(w * inverse)));
}
