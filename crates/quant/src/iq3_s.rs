//! IQ3_S: 256 weights, 3.44 bits each. Groups of 4 take a point of a grid of 512, every weight has its sign bit, groups
//! of 32 share a 4-bit scale: `w = d · (2 sc + 1) · ± point`.
//!
//! ```text
//! byte 0     2               66                74              106            110
//!      | d   | 64 × low 8    | 8 × 8 ninth bits | 32 × 8 signs  | 8 nibbles sc, |
//!      | f16 | bits of point | of points        |               | low first     |
//! ```
use crate::{Activation, Format, FormatInfo, block, iq_grid};

const BLOCK: usize = 256;
const BYTES: usize = 110;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq3S,
    name: "IQ3_S",
    gguf_id: Some(21),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: None,
    // 140.1: root mean square of (2 sc + 1) · point
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 140.1)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    for (g, w) in w.chunks_exact_mut(4).enumerate() {
        let ninth = b[66 + g / 8] >> (g % 8) & 1;
        let sc = b[106 + g / 16] >> (4 * (g / 8 % 2)) & 15;
        let point = iq_grid::point3_odd(iq_grid::IQ3_S[usize::from(b[2 + g]) | usize::from(ninth) << 8]);
        iq_grid::signed(d * f32::from(1 + 2 * sc), &point, b[74 + g / 2] >> (4 * (g % 2)), w);
    }
}
