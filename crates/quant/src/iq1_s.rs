//! IQ1_S: 256 weights, 1.56 bits each. Groups of 8 take a point (-1, 0, 1) of a grid of 2048; groups of 32 share a 3-bit
//! scale and a shift: `w = d · (2 sc + 1) · (point ± 1/8)`.
//!
//! ```text
//! byte 0     2               34                                       50
//!      | d   | 32 × low 8    | 8 × u16: 4 × 3 high bits of points,     |
//!      | f16 | bits of point | then sc (3 bits), top bit: shift is -1/8 |
//! ```
use crate::{Activation, Format, FormatInfo, block, iq_grid};

const BLOCK: usize = 256;
const BYTES: usize = 50;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq1S,
    name: "IQ1_S",
    gguf_id: Some(19),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: None,
    // 7.2: root mean square of (2 sc + 1) · (point ± 1/8)
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 0, s / 7.2)),
};

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 0);
    for (g, w) in w.chunks_exact_mut(8).enumerate() {
        let head = block::u16_at(b, 34 + g / 4 * 2);
        let scale = d * f32::from(2 * (head >> 12 & 7) + 1);
        let shift = if head >> 15 == 1 { -0.125 } else { 0.125 };
        let index = usize::from(b[2 + g]) | usize::from(head >> (3 * (g % 4)) & 7) << 8;
        let point = iq_grid::point1(iq_grid::IQ1[index]);
        w.iter_mut().zip(point).for_each(|(w, p)| *w = scale * (p + shift));
    }
}
