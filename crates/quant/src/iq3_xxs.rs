//! IQ3_XXS: 256 weights, 3.06 bits each. Groups of 4 take a point of a grid of 256, groups of 8 have 7 stored sign bits,
//! groups of 32 share a 4-bit scale: `w = d · (sc + 1/2) / 2 · ± point`.
//!
//! ```text
//! byte 0     2                  66                                    98
//!      | d   | 64 point indices | 8 × u32: 4 × 7 sign bits, sc top     |
//!      | f16 |                  | signs lowest first, 4 bits           |
//! ```
use crate::{Activation, Format, FormatInfo, block, iq_grid};

const BLOCK: usize = 256;
const BYTES: usize = 98;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq3Xxs,
    name: "IQ3_XXS",
    gguf_id: Some(18),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: None,
    // 142.4: root mean square of (sc + 1/2) / 2 · point
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 142.4)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    for (g, w) in w.chunks_exact_mut(4).enumerate() {
        let tail = block::u32_at(b, 66 + g / 8 * 4);
        let signs = iq_grid::even_signs((tail >> (7 * (g % 8 / 2))) as u8) >> (4 * (g % 2));
        let point = iq_grid::point3(iq_grid::IQ3_XXS[usize::from(b[2 + g])]);
        iq_grid::signed(d * (0.5 + (tail >> 28) as f32) * 0.5, &point, signs, w);
    }
}
