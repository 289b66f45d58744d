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
use crate::{Activation, Format, FormatInfo, block};

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
    encode: None,
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
