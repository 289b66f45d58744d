//! IQ2_S: 256 weights, 2.56 bits each. Groups of 8 take a point of a grid of 1024 and 8 sign bits; groups of 16 share a
//! 4-bit scale: `w = d · (sc + 1/2) / 4 · ± point`.
//!
//! ```text
//! byte 0     2               34           66                74              82
//!      | d   | 32 × low 8    | 32 × signs | 8 × 4 high pairs | 16 nibbles sc, |
//!      | f16 | bits of point |            | of points        | low first      |
//! ```
use crate::{Activation, Format, FormatInfo, block, iq_grid};

const BLOCK: usize = 256;
const BYTES: usize = 82;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq2S,
    name: "IQ2_S",
    gguf_id: Some(22),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: None,
    // 56.3: root mean square of (sc + 1/2) / 4 · point
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 56.3)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    for (g, w) in w.chunks_exact_mut(8).enumerate() {
        let high = b[66 + g / 4] >> (2 * (g % 4)) & 3;
        let sc = b[74 + g / 4] >> (4 * (g / 2 % 2)) & 15;
        let point = iq_grid::point2(iq_grid::IQ2_S[usize::from(b[2 + g]) | usize::from(high) << 8]);
        iq_grid::signed(d * (0.5 + f32::from(sc)) * 0.25, &point, b[34 + g], w);
    }
}
