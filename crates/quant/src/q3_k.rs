//! Q3_K: 256 weights of 3 bits in 16 sub-blocks of 16, each with a 6-bit scale: `w = d · (sc - 32) · (q - 4)`.
//!
//! ```text
//! byte 0           32            96              108   110
//!      | third bits | low codes   | scales        | d   |
//!      |            | (as Q2_K)   | 12 bytes      | f16 |
//! ```
//! Third bit of weight `32 k + i`: bit `k` of byte `i`. Scale `j`: low four bits in nibble `j / 8` (0 low, 1 high) of
//! scale byte `j % 8`; high two bits in bit pair `j / 4` of scale byte `8 + j % 4`.
use crate::{Activation, Format, FormatInfo, block, fit};

const BLOCK: usize = 256;
const BYTES: usize = 110;

pub(crate) const INFO: FormatInfo = FormatInfo {
    format: Format::Q3K,
    name: "Q3_K",
    gguf_id: Some(11),
    safetensors: None,
    block: BLOCK,
    bytes: BYTES,
    activation: Activation::Q8 { block: BLOCK },
    decode: |src, dst| block::decode(src, dst, decode),
    dot: Some(|src, x, acc| block::dot(src, x, acc, dot)),
    encode: Some(|src, dst| block::encode(src, dst, encode)),
    // 43.34: root mean square of (-32 … 31) · (-4 … 3)
    random: |next, std, dst| block::random::<BYTES>(next, std, dst, |b, s| block::put_f16(b, 108, s / 43.34)),
};

/// Signed codes -4 … 3.
fn codes(b: &[u8; BYTES]) -> [i8; BLOCK] {
    let mut q = block::pairs(&b[32..96]);
    for (k, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        q.iter_mut().zip(&b[..32]).for_each(|(q, b)| *q += 4 * ((b >> k) & 1) as i8 - 4);
    }
    q
}

/// Scale of sub-block `j`, -32 … 31.
fn scale(b: &[u8; BYTES], j: usize) -> i8 {
    let low = b[96 + j % 8] >> (4 * (j / 8)) & 15;
    let high = b[104 + j % 4] >> (2 * (j / 4)) & 3;
    (low | high << 4) as i8 - 32
}

fn decode(b: &[u8; BYTES], w: &mut [f32; BLOCK]) {
    let (d, codes) = (block::f16_at(b, 108), codes(b));
    for (j, (w, q)) in w.chunks_exact_mut(16).zip(codes.chunks_exact(16)).enumerate() {
        let scale = d * f32::from(scale(b, j));
        w.iter_mut().zip(q).for_each(|(w, &q)| *w = scale * f32::from(q));
    }
}

/// |Σ| ≤ 256 · 32 · 4 · 127 < 2^22.
fn dot(b: &[u8; BYTES], x: block::Q8Block<'_, BLOCK>, acc: f32) -> f32 {
    let codes = codes(b);
    let subs = codes.chunks_exact(16).zip(x.q.chunks_exact(16)).enumerate();
    let isum: i32 = subs.map(|(j, (q, xq))| i32::from(scale(b, j)) * block::isum(q, xq)).sum();
    (block::f16_at(b, 108) * x.d).mul_add(isum as f32, acc)
}

fn encode(w: &[f32; BLOCK], b: &mut [u8; BYTES]) {
    let fits: [f32; 16] = std::array::from_fn(|j| fit::symmetric(&w[16 * j..16 * j + 16], 4));
    b.fill(0);
    block::put_f16(b, 108, block::extreme(&fits) / -32.0);
    let d = block::f16_at(b, 108);
    let mut low = [0; BLOCK];
    for (j, scale) in fits.into_iter().enumerate() {
        let sc = fit::signed_code(scale * block::inverse(d), 32);
        let stored = (sc + 32) as u8;
        b[96 + j % 8] |= (stored & 15) << (4 * (j / 8));
        b[104 + j % 4] |= (stored >> 4) << (2 * (j / 4));
        let inverse = block::inverse(d * f32::from(sc));
        for i in 16 * j..16 * j + 16 {
            let q = (fit::signed_code(w[i] * inverse, 4) + 4) as u8;
            low[i] = q & 3;
            b[i % 32] |= (q >> 2) << (i / 32);
        }
    }
    block::put_pairs(&mut b[32..96], &low);
}
