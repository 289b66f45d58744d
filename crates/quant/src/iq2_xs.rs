//! IQ2_XS: 256 weights, 2.31 bits each. Groups of 8 take a point of a grid of 512 and 7 stored sign bits; groups of 16
//! share a 4-bit scale: `w = d · (sc + 1/2) / 4 · ± point`.
//!
//! ```text
//! byte 0     2                             66              74
//!      | d   | 32 × u16: point low 9 bits, | 16 nibbles sc, |
//!      | f16 | sign bits high 7            | low first      |
//! ```
use crate::{Activation, Format, FormatInfo, block, iq_grid};

const BLOCK: usize = 256;
const BYTES: usize = 74;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq2Xs,
    name: "IQ2_XS",
    gguf_id: Some(17),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: None,
    // 55.8: root mean square of (sc + 1/2) / 4 · point
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 55.8)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    for (g, w) in w.chunks_exact_mut(8).enumerate() {
        let code = block::u16_at(b, 2 + 2 * g);
        let sc = b[66 + g / 4] >> (4 * (g / 2 % 2)) & 15;
        let point = iq_grid::point2(iq_grid::IQ2_XS[usize::from(code & 511)]);
        iq_grid::signed(d * (0.5 + f32::from(sc)) * 0.25, &point, iq_grid::even_signs((code >> 9) as u8), w);
    }
}
