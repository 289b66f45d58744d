//! Q8_K: 256 weights of 8 bits and one f32 scale, `w = d · q`, with sums by sixteens beside. A type of intermediate
//! results: files hold it rarely, and the sums repeat what the codes say, so decoding ignores them.
//!
//! ```text
//! byte 0    4               260                  292
//!      | d  | q0 … q255, i8  | 16 sums of 16, i16 |
//!      | f32|                |                    |
//! ```
use crate::{Activation, Format, FormatInfo, block};

const BLOCK: usize = 256;
const BYTES: usize = 292;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q8K,
    name: "Q8_K",
    gguf_id: Some(15),
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
    let d = f32::from_bits(block::u32_at(b, 0));
    *w = std::array::from_fn(|i| d * f32::from(b[4 + i] as i8));
}

/// 73.9: root mean square of -128 … 127.
fn scales(b: &mut [u8; BYTES], s: f32) {
    b[..4].copy_from_slice(&(s / 73.9).to_le_bytes());
    for j in 0..16 {
        let sum: i16 = b[4 + 16 * j..][..16].iter().map(|&q| i16::from(q as i8)).sum();
        b[260 + 2 * j..][..2].copy_from_slice(&sum.to_le_bytes());
    }
}
