//! IQ2_XXS: 256 weights, 2.06 bits each. Groups of 8 take a point of a grid of 256 and 7 stored sign bits; groups of 32
//! share a 4-bit scale: `w = d · (sc + 1/2) / 4 · ± point`.
//!
//! ```text
//! byte 0     2                                                     66
//!      | d   | 8 × (4 point indices | u32: 4 × 7 sign bits, sc top) |
//!      | f16 |      4 bytes         | signs lowest first, 4 bits    |
//! ```
use crate::{Activation, Format, FormatInfo, block, iq_grid};

const BLOCK: usize = 256;
const BYTES: usize = 66;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq2Xxs,
    name: "IQ2_XXS",
    gguf_id: Some(16),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: None,
    // 53.3: root mean square of (sc + 1/2) / 4 · point
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 53.3)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    for (w, part) in w.chunks_exact_mut(32).zip(b[2..].as_chunks::<8>().0) {
        let tail = block::u32_at(part, 4);
        let scale = d * (0.5 + (tail >> 28) as f32) * 0.25;
        for (l, w) in w.chunks_exact_mut(8).enumerate() {
            let point = iq_grid::point2(iq_grid::IQ2_XXS[usize::from(part[l])]);
            iq_grid::signed(scale, &point, iq_grid::even_signs((tail >> (7 * l)) as u8), w);
        }
    }
}
