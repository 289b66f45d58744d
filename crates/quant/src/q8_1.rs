//! Q8_1: Q8_0 with the sum of its weights beside, `w = d · q`, `s = d · Σ q`. A type of intermediate results:
//! files hold it rarely, and `s` repeats what the codes say, so decoding ignores it.
//!
//! ```text
//! byte 0    2    4              36
//!      | d  | s  | q0 … q31, i8  |
//!      | f16| f16|               |
//! ```
use crate::{Activation, Format, FormatInfo, block};

const BLOCK: usize = 32;
const BYTES: usize = 36;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q8_1,
    name: "Q8_1",
    gguf_id: Some(9),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: None,
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, scales),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    *w = std::array::from_fn(|i| d * f32::from(b[4 + i] as i8));
}

/// 73.9: root mean square of -128 … 127.
fn scales(b: &mut [u8; BYTES], s: f32) {
    let sum: i16 = b[4..].iter().map(|&q| i16::from(q as i8)).sum();
    block::put_f16(b, 0, s / 73.9);
    block::put_f16(b, 2, s / 73.9 * f32::from(sum));
}
