//! What the block formats share: walking blocks, fields at byte offsets, random blocks. No format is known here.
use crate::{
    Q8,
    float::{f16_to_f32, f32_to_f16},
};

/// Decodes `src`, blocks of `BYTES` bytes, to `dst`, `N` elements a block.
pub(crate) fn decode<const BYTES: usize, const N: usize>(
    src: &[u8],
    dst: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; N]),
) {
    debug_assert!(src.len().is_multiple_of(BYTES) && dst.len() == src.len() / BYTES * N);
    for (b, w) in src.as_chunks().0.iter().zip(dst.as_chunks_mut().0) {
        block(b, w);
    }
}

/// Encodes `src`, `N` elements a block, to blocks of `BYTES` bytes.
pub(crate) fn encode<const N: usize, const BYTES: usize>(
    src: &[f32],
    dst: &mut [u8],
    block: impl Fn(&[f32; N], &mut [u8; BYTES]),
) {
    debug_assert!(src.len().is_multiple_of(N) && dst.len() == src.len() / N * BYTES);
    for (w, b) in src.as_chunks().0.iter().zip(dst.as_chunks_mut().0) {
        block(w, b);
    }
}

/// A block of quantized activations: `N` codes, their scale, their sums by sixteens.
pub(crate) struct Q8Block<'a, const N: usize> {
    pub q: &'a [i8; N],
    pub d: f32,
    pub sums: &'a [i16],
}

/// Continues `acc` over the blocks of a row in ascending order.
pub(crate) fn dot<const BYTES: usize, const N: usize>(
    src: &[u8],
    x: Q8<'_>,
    acc: f32,
    block: impl Fn(&[u8; BYTES], Q8Block<'_, N>, f32) -> f32,
) -> f32 {
    assert!(x.block == N && x.q.len() == src.len() / BYTES * N, "activations quantized for another block");
    let activations = x.q.as_chunks().0.iter().zip(x.d).zip(x.sums.chunks_exact(N / 16));
    src.as_chunks()
        .0
        .iter()
        .zip(activations)
        .fold(acc, |acc, (b, ((q, &d), sums))| block(b, Q8Block { q, d, sums }, acc))
}

/// Σ w·x, exact: the callers show that it fits.
pub(crate) fn isum(w: &[i8], x: &[i8]) -> i32 {
    w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum()
}

/// Σ of sums by sixteens.
pub(crate) fn xsum(sums: &[i16]) -> i32 {
    sums.iter().map(|&s| i32::from(s)).sum()
}

/// The f16 at byte `at`.
pub(crate) fn f16_at<const BYTES: usize>(b: &[u8; BYTES], at: usize) -> f32 {
    f16_to_f32(u16_at(b, at))
}

/// The little-endian u16 at byte `at`.
pub(crate) fn u16_at<const BYTES: usize>(b: &[u8; BYTES], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

/// The little-endian u32 at byte `at`.
pub(crate) fn u32_at<const BYTES: usize>(b: &[u8; BYTES], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Writes `v` as f16 at byte `at`.
pub(crate) fn put_f16(b: &mut [u8], at: usize, v: f32) {
    b[at..at + 2].copy_from_slice(&f32_to_f16(v).to_le_bytes());
}

/// Sixteen bytes of nibbles as 32 codes: low nibbles first, then high ones.
pub(crate) fn nibbles(qs: &[u8]) -> [i8; 32] {
    std::array::from_fn(|i| (if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 }) as i8)
}

/// Random bytes in every block; `scales(block, s)` then writes its scales, where `s` is `std` varied by a fifth.
pub(crate) fn random<const BYTES: usize>(
    next: &mut dyn FnMut() -> u64,
    std: f32,
    dst: &mut [u8],
    scales: impl Fn(&mut [u8; BYTES], f32),
) {
    for b in dst.as_chunks_mut::<BYTES>().0 {
        for part in b.chunks_mut(8) {
            part.copy_from_slice(&next().to_le_bytes()[..part.len()]);
        }
        scales(b, std * (0.8 + 0.4 * unit(next())));
    }
}

/// The top 24 bits of a random word as a number in [0, 1).
pub(crate) fn unit(word: u64) -> f32 {
    (word >> 40) as f32 / (1u32 << 24) as f32
}

/// A bell-shaped number of mean 0 and standard deviation 1 (the sum of four uniform ones).
pub(crate) fn bell(word: u64) -> f32 {
    let sum: u32 = (0..4).map(|i| (word >> (16 * i)) as u32 & 0xffff).sum();
    (sum as f32 / 65536.0 - 2.0) * 3f32.sqrt()
}

/// 32 codes of 5 bits: nibbles as [`nibbles`], fifth bits from `high`, the first lowest.
pub(crate) fn fives(qs: &[u8], high: u32) -> [i8; 32] {
    let low = nibbles(qs);
    std::array::from_fn(|i| low[i] | ((high >> i & 1) << 4) as i8)
}

/// 64 bytes of bit pairs as 256 codes: each 32 bytes hold 128 codes, byte `i` those at `i`, `32 + i`, `64 + i`, `96 + i`.
pub(crate) fn pairs(qs: &[u8]) -> [i8; 256] {
    let mut q = [0; 256];
    for (run, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let from = &qs[run / 4 * 32..][..32];
        q.iter_mut().zip(from).for_each(|(q, b)| *q = ((b >> (run % 4 * 2)) & 3) as i8);
    }
    q
}

/// 128 bytes of nibbles as 256 codes: each 32 bytes hold 64 codes, low nibbles first.
pub(crate) fn nibbles_by_32(qs: &[u8]) -> [i8; 256] {
    let mut q = [0; 256];
    for (run, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let from = &qs[run / 2 * 32..][..32];
        q.iter_mut().zip(from).for_each(|(q, b)| *q = ((b >> (run % 2 * 4)) & 15) as i8);
    }
    q
}

/// Writes 32 codes as [`nibbles`] reads them.
pub(crate) fn put_nibbles(qs: &mut [u8], q: &[u8; 32]) {
    for (i, b) in qs.iter_mut().enumerate().take(16) {
        *b = q[i] & 15 | q[16 + i] << 4;
    }
}

/// Writes 32 codes of 5 bits: four bytes of fifth bits, then nibbles.
pub(crate) fn put_fives(b: &mut [u8], q: &[u8; 32]) {
    let high = (0..32).fold(0u32, |high, i| high | u32::from(q[i] >> 4 & 1) << i);
    b[..4].copy_from_slice(&high.to_le_bytes());
    put_nibbles(&mut b[4..], q);
}

/// The element of greatest magnitude, with its sign; the first of equals.
pub(crate) fn extreme(w: &[f32]) -> f32 {
    w.iter().fold(0.0, |e: f32, &w| if w.abs() > e.abs() { w } else { e })
}

/// Least and greatest element.
pub(crate) fn range(w: &[f32]) -> (f32, f32) {
    w.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &w| (min.min(w), max.max(w)))
}

/// 1 / d, or 0 for a block of zeros.
pub(crate) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Writes 256 codes as [`pairs`] reads them.
pub(crate) fn put_pairs(qs: &mut [u8], q: &[u8; 256]) {
    qs.fill(0);
    for (i, q) in q.iter().enumerate() {
        qs[i / 128 * 32 + i % 32] |= (q & 3) << (i % 128 / 32 * 2);
    }
}

/// Writes 256 codes as [`nibbles_by_32`] reads them.
pub(crate) fn put_nibbles_by_32(qs: &mut [u8], q: &[u8; 256]) {
    qs.fill(0);
    for (i, q) in q.iter().enumerate() {
        qs[i / 64 * 32 + i % 32] |= (q & 15) << (i % 64 / 32 * 4);
    }
}
