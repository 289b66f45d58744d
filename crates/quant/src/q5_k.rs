//! Q5_K: 256 weights of 5 bits in 8 sub-blocks of 32, each with a 6-bit scale and minimum:
//! `w = d · sc · q - dmin · m`.
//!
//! ```text
//! byte 0     2      4               16            48                       176
//!      | d   | dmin | sc and m      | fifth bits  | low codes               |
//!      | f16 | f16  | as Q4_K       | 32 bytes    | as Q4_K, 4 × 32 bytes   |
//! ```
//! Fifth bit of weight `32 j + i`: bit `j` of byte `i`.
use crate::{Activation, Format, FormatInfo, block, q4_k};

const BLOCK: usize = 256;
const BYTES: usize = 176;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q5K,
    name: "Q5_K",
    gguf_id: Some(13),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, scales),
};

/// Codes 0 … 31, in order.
fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    let mut q = block::nibbles_by_32(&b[48..]);
    for (j, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        q.iter_mut().zip(&b[16..48]).for_each(|(q, b)| *q |= (((b >> j) & 1) << 4) as i8);
    }
    q
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    q4_k::decode_subs(b, 4, &codes(b), w);
}

fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    q4_k::dot_subs(b, 4, &codes(b), x, acc)
}

/// With `dmin = 15.5 d` the mean is zero and the standard deviation 526.9 d.
fn scales(b: &mut [u8; BYTES], s: f32) {
    block::put_f16(b, 0, s / 526.9);
    block::put_f16(b, 2, s / 526.9 * 15.5);
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let q = q4_k::encode_subs(w, b, 31);
    b[16..48].fill(0);
    q.iter().enumerate().for_each(|(i, q)| b[16 + i % 32] |= (q >> 4) << (i / 32));
    block::put_nibbles_by_32(&mut b[48..], &q);
}
