//! IQ1_M: 256 weights, 1.75 bits each. Groups of 8 take a point (-1, 0, 1) of the grid of IQ1_S and a shift; groups of 16
//! share a 3-bit scale: `w = d · (2 sc + 1) · (point ± 1/8)`.
//!
//! ```text
//! byte 0               32                           48                       56
//!      | 32 × low 8    | 16 × 2 nibbles: 3 high bits | 4 × u16: 4 × 3 bits sc, |
//!      | bits of point | of point, top: shift is -1/8 | then 4 bits of d        |
//! ```
//! `d` is an f16 whose nibbles, lowest first, are the top nibbles of the four u16.
use crate::{
    Activation, Format, FormatInfo, block,
    float::{f16_to_f32, f32_to_f16},
    iq_grid,
};

const BLOCK: usize = 256;
const BYTES: usize = 56;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Iq1M,
    name: "IQ1_M",
    gguf_id: Some(29),
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
    let scales: [u16; 4] = std::array::from_fn(|i| block::u16_at(b, 48 + 2 * i));
    let d = f16_to_f32(scales.iter().rev().fold(0, |d, s| d << 4 | s >> 12));
    for (g, w) in w.chunks_exact_mut(8).enumerate() {
        let high = b[32 + g / 2] >> (4 * (g % 2));
        let scale = d * f32::from(2 * (scales[g / 8] >> (3 * (g / 2 % 4)) & 7) + 1);
        let shift = if high & 8 == 8 { -0.125 } else { 0.125 };
        let point = iq_grid::point1(iq_grid::IQ1[usize::from(b[g]) | usize::from(high & 7) << 8]);
        w.iter_mut().zip(point).for_each(|(w, p)| *w = scale * (p + shift));
    }
}

/// 7.2: root mean square of (2 sc + 1) · (point ± 1/8)
fn scales(b: &mut [u8; BYTES], s: f32) {
    let d = f32_to_f16(s / 7.2);
    for i in 0..4 {
        let high = &mut b[49 + 2 * i];
        *high = *high & 15 | ((d >> (4 * i) & 15) as u8) << 4;
    }
}
