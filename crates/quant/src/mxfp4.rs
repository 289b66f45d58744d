//! MXFP4 (OCP microscaling): 32 weights E2M1 and one power-of-two scale: `w = 2^(e - 127) · E2M1[q]`.
//!
//! ```text
//! byte 0     1                 17
//!      | e   | q0 … q15 low,    |
//!      | E8M0| q16 … q31 high   |
//! ```
//! GGUF's order of codes; gpt-oss safetensors keep pairs of neighbours in a byte and the scales apart (`packed`).
use crate::{Activation, Format, FormatInfo, block, fit, float::E2M1_DOUBLED};

const BLOCK: usize = 32;
const BYTES: usize = 17;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Mxfp4,
    name: "MXFP4",
    gguf_id: Some(39),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    random,
};

/// 2^(e - 128): half the scale, as the table holds doubled values. 255 is no NaN in GGUF files.
pub(crate) fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = half_scale(b[0]);
    *w = block::nibbles(&b[1..]).map(|q| d * f32::from(E2M1_DOUBLED[usize::from(q as u8)]));
}

/// 2.926: root mean square of E2M1. Scales are powers of two, so the two around the wanted one are mixed such that the
/// mean square is right.
fn random(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    let wanted = (std / 2.926).clamp(1e-30, 1e30);
    let low = wanted.log2().floor();
    let share = ((wanted / low.exp2()).powi(2) - 1.0) / 3.0;
    for b in dst.as_chunks_mut::<BYTES>().0 {
        let above = i32::from(block::unit(next()) < share);
        b[0] = (low as i32 + above + 127) as u8;
        b[1..9].copy_from_slice(&next().to_le_bytes());
        b[9..].copy_from_slice(&next().to_le_bytes());
    }
}

/// Of the power of two that just holds the greatest magnitude and its neighbours, the one with the least error.
fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let greatest = block::extreme(w).abs();
    let error = |e: u8| {
        let scale = 2.0 * half_scale(e);
        w.iter()
            .map(|&w| (f32::from(E2M1_DOUBLED[usize::from(fit::e2m1_code(w / scale))]) * scale / 2.0 - w).powi(2))
            .sum::<f32>()
    };
    let middle = if greatest > 0.0 { (greatest.log2().floor() - 2.0 + 127.0).clamp(2.0, 252.0) as u8 } else { 2 };
    let e = (middle - 1..=middle + 1).min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(middle);
    let scale = 2.0 * half_scale(e);
    b[0] = e;
    block::put_nibbles(&mut b[1..], &w.map(|w| fit::e2m1_code(w / scale)));
}
