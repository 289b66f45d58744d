//! TQ1_0: 256 ternary weights, five to a byte, one scale: `w = d · (t - 1)`.
//!
//! ```text
//! byte 0                48               52    54
//!      | trits 0 … 239  | trits 240 … 255 | d   |
//!      | five a byte    | four a byte     | f16 |
//! ```
//! A byte holds its trits as a fraction: `256 · 0.t0 t1 t2 …` in base 3, rounded up; digit `n` is the integer part of three
//! times the fraction left after multiplying by 3^n (mod 256). The bytes come in runs of 32, 16 and 4; digit `n` of byte
//! `i` of a run of `R` is element `n · R + i` of the run.
use crate::{Activation, Format, FormatInfo, block, fit};

const BLOCK: usize = 256;
const BYTES: usize = 54;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Tq1_0,
    name: "TQ1_0",
    gguf_id: Some(34),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::F32,
    decode: |src, dst| block::decode(src, dst, decode),
    dot: None,
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 0.816: root mean square of -1, 0, 1
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 52, s / 0.816)),
};

/// Digit `n` of a byte, less one.
fn trit(byte: u8, n: u32) -> f32 {
    let fraction = byte.wrapping_mul(3u8.pow(n));
    f32::from(((u16::from(fraction) * 3) >> 8) as u8) - 1.0
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let d = block::f16_at(b, 52);
    let (mut at, mut from) = (0, 0);
    for (run, digits) in [(32, 5), (16, 5), (4, 4)] {
        for n in 0..digits {
            for i in 0..run {
                w[at] = d * trit(b[from + i], n);
                at += 1;
            }
        }
        from += run;
    }
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    block::put_f16(b, 52, ternary_scale(w));
    let inverse = block::inverse(block::f16_at(b, 52));
    let (mut at, mut from) = (0, 0);
    for (run, digits) in [(32, 5), (16, 5), (4, 4)] {
        for i in 0..run {
            let trits = (0..5).map(|n| if n < digits { ternary_code(w[at + n * run + i] * inverse) } else { 0 });
            let value = trits.fold(0u16, |v, t| 3 * v + u16::from(t));
            b[from + i] = (value * 256).div_ceil(243) as u8;
        }
        at += run * digits;
        from += run;
    }
}

/// The scale that fits -1, 0, 1 best; exact for weights that are ternary already.
pub(crate) fn ternary_scale(w: &[f32]) -> f32 {
    let magnitudes = w.iter().map(|w| w.abs());
    let (greatest, mut best, mut gain) = (magnitudes.clone().fold(0.0, f32::max), 0.0, 0.0);
    for step in 1..=16 {
        // Elements beyond the threshold become ±1; their mean magnitude is the best scale for them.
        let threshold = greatest * step as f32 / 17.0;
        let (n, sum) = magnitudes.clone().filter(|m| *m > threshold).fold((0.0, 0.0), |(n, sum), m| (n + 1.0, sum + m));
        if n > 0.0 && sum * sum / n > gain {
            (best, gain) = (sum / n, sum * sum / n);
        }
    }
    best
}

/// 0, 1 or 2 for the nearest of -1, 0, 1.
pub(crate) fn ternary_code(v: f32) -> u8 {
    (fit::round(v.clamp(-1.0, 1.0)) + 1.0) as u8
}
