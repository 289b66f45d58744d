//! NVFP4 as GGUF keeps it: 64 weights E2M1 in 4 sub-blocks of 16, each with an unsigned E4M3 scale: `w = s · E2M1[q]`.
//! The scale of the whole tensor is a tensor of its own and belongs to the model's graph.
//!
//! ```text
//! byte 0             4                                 36
//!      | 4 scales    | 4 × 8 bytes: in each, low        |
//!      | UE4M3       | nibbles 8 codes, then high ones  |
//! ```
use crate::{
    Activation, Format, FormatInfo, block, fit,
    float::{E2M1_DOUBLED, e4m3_to_f32, f32_to_e4m3},
};

const BLOCK: usize = 64;
const BYTES: usize = 36;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Nvfp4,
    name: "NVFP4",
    gguf_id: Some(40),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, scales),
};

/// The scale of a sub-block. The sign bit says nothing; 0x7f (NaN in E4M3) is 0, 0xff its largest exponent.
pub(crate) fn scale(s: u8) -> f32 {
    match s {
        0x7f => 0.0,
        0xff => 480.0,
        s => e4m3_to_f32(s & 0x7f),
    }
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    for (j, (w, qs)) in w.chunks_exact_mut(16).zip(b[4..].chunks_exact(8)).enumerate() {
        let half = scale(b[j]) * 0.5; // the table holds doubled values
        for (i, w) in w.iter_mut().enumerate() {
            *w = half * f32::from(E2M1_DOUBLED[usize::from(qs[i % 8] >> (i / 8 * 4) & 15)]);
        }
    }
}

/// 2.926: root mean square of E2M1. Small scales are coarse (multiples of 2^-9): never less than one step.
fn scales(b: &mut [u8; BYTES], s: f32) {
    b[..4].fill(f32_to_e4m3(s / 2.926).max(1));
}

/// Of the scale that maps the greatest magnitude to 6 and its neighbours, the one with the least error.
fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    for (j, w) in w.as_chunks::<16>().0.iter().enumerate() {
        let error = |s: u8| {
            let inverse = block::inverse(scale(s));
            let value = |w: f32| f32::from(E2M1_DOUBLED[usize::from(fit::e2m1_code(w * inverse))]) * 0.5 * scale(s);
            w.iter().map(|&w| (value(w) - w).powi(2)).sum::<f32>()
        };
        let middle = f32_to_e4m3(block::extreme(w).abs() / 6.0);
        let candidates = middle.saturating_sub(2)..=(middle + 4).min(0x7e);
        let s = candidates.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(middle);
        b[j] = s;
        let inverse = block::inverse(scale(s));
        let q = w.map(|w| fit::e2m1_code(w * inverse));
        (0..8).for_each(|i| b[4 + 8 * j + i] = q[i] | q[8 + i] << 4);
    }
}
