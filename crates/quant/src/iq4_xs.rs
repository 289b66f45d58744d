//! IQ4_XS: 256 weights of 4 bits in 8 sub-blocks of 32, levels as IQ4_NL, 6-bit scales: `w = d · (sc - 32) · LEVELS[q]`.
//!
//! ```text
//! byte 0     2            4           8                              136
//!      | d   | high pairs | low       | 8 × 16 bytes: in each, low    |
//!      | f16 | u16        | nibbles   | nibbles 16 codes, then high   |
//! ```
//! Scale `j`: low four bits in nibble `j % 2` of byte `4 + j / 2`, high two in bit pair `j` of the u16.
use crate::{
    Activation, Format, FormatInfo, block, fit,
    iq4_nl::{code, level, level_scale},
};

const BLOCK: usize = 256;
const BYTES: usize = 136;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq4Xs,
    name: "IQ4_XS",
    gguf_id: Some(23),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 1277.0: root mean square of (-32 … 31) · levels
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 1277.0)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let (d, high) = (block::f16_at(b, 0), block::u16_at(b, 2));
    for (j, (w, qs)) in w.chunks_exact_mut(32).zip(b[8..].chunks_exact(16)).enumerate() {
        let low = b[4 + j / 2] >> (4 * (j % 2)) & 15;
        let scale = d * f32::from((low | ((high >> (2 * j) & 3) << 4) as u8) as i8 - 32);
        w.iter_mut().zip(block::nibbles(qs)).for_each(|(w, q)| *w = scale * level(q));
    }
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let fits: [f32; 8] = std::array::from_fn(|j| level_scale(&w[32 * j..32 * j + 32]));
    b.fill(0);
    block::put_f16(b, 0, block::extreme(&fits) / -32.0);
    let d = block::f16_at(b, 0);
    let mut high = 0;
    for (j, (scale, w)) in fits.into_iter().zip(w.as_chunks::<32>().0).enumerate() {
        let sc = fit::signed_code(scale * block::inverse(d), 32);
        let stored = (sc + 32) as u8;
        b[4 + j / 2] |= (stored & 15) << (4 * (j % 2));
        high |= u16::from(stored >> 4) << (2 * j);
        let inverse = block::inverse(d * f32::from(sc));
        let q = w.map(|w| code(w * inverse));
        block::put_nibbles(&mut b[8 + 16 * j..24 + 16 * j], &q);
    }
    b[2..4].copy_from_slice(&high.to_le_bytes());
}
