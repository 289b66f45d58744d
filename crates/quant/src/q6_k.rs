//! Q6_K: 256 weights of 6 bits in 16 sub-blocks of 16, each with an 8-bit scale: `w = d · sc · (q - 32)`.
//!
//! ```text
//! byte 0            128           192          208   210
//!      | low nibbles | high pairs  | 16 scales  | d   |
//!      |             |             | i8         | f16 |
//! ```
//! Each half of 128 weights has 64 low bytes and 32 high bytes. Low nibbles: byte `i` holds weights `i` (low) and
//! `64 + i` (high). High pairs: byte `i` holds weights `i`, `32 + i`, `64 + i`, `96 + i` from the lowest bits.
use crate::{Activation, Format, FormatInfo, block, fit};

const BLOCK: usize = 256;
const BYTES: usize = 210;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q6K,
    name: "Q6_K",
    gguf_id: Some(14),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 1366: root mean square of (-128 … 127) · (-32 … 31)
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 208, s / 1366.0)),
};

/// Signed codes -32 … 31, in order.
fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    let mut q = block::pairs(&b[128..192]);
    for (run, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = &b[run / 4 * 64 + run % 2 * 32..][..32];
        q.iter_mut().zip(low).for_each(|(q, b)| *q = (((b >> (run % 4 / 2 * 4)) & 15) as i8 | *q << 4) - 32);
    }
    q
}

fn scale(b: &[u8; BYTES], j: usize) -> i8 {
    b[192 + j] as i8
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let (d, codes) = (block::f16_at(b, 208), codes(b));
    for (j, (w, q)) in w.chunks_exact_mut(16).zip(codes.chunks_exact(16)).enumerate() {
        let scale = d * f32::from(scale(b, j));
        w.iter_mut().zip(q).for_each(|(w, &q)| *w = scale * f32::from(q));
    }
}

/// |Σ| ≤ 256 · 128 · 32 · 127 < 2^27.
fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    let codes = codes(b);
    let subs = codes.chunks_exact(16).zip(x.q.chunks_exact(16)).enumerate();
    let isum: i32 = subs.map(|(j, (q, xq))| i32::from(scale(b, j)) * block::isum(q, xq)).sum();
    (block::f16_at(b, 208) * x.d).mul_add(isum as f32, acc)
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let fits: [f32; 16] = std::array::from_fn(|j| fit::symmetric(&w[16 * j..16 * j + 16], 32));
    b.fill(0);
    block::put_f16(b, 208, block::extreme(&fits) / -128.0);
    let d = block::f16_at(b, 208);
    let mut high = [0; BLOCK];
    for (j, scale) in fits.into_iter().enumerate() {
        let sc = fit::signed_code(scale * block::inverse(d), 128);
        b[192 + j] = sc as u8;
        let inverse = block::inverse(d * f32::from(sc));
        for i in 16 * j..16 * j + 16 {
            let q = (fit::signed_code(w[i] * inverse, 32) + 32) as u8;
            b[i / 128 * 64 + i % 64] |= (q & 15) << (i % 128 / 64 * 4);
            high[i] = q >> 4;
        }
    }
    block::put_pairs(&mut b[128..192], &high);
}
