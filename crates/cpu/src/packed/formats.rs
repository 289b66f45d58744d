//! The formats as packed kernels see them: where a sub-block's codes, scales and minima come from, one `impl` each.
#![allow(clippy::needless_range_loop)] // one index for several arrays of vectors
use super::{
    Fix, Layout,
    int::{Int, U},
};

/// How the sums of sub-blocks join into the block's integer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// There is one sub-block, without a scale.
    One,
    /// In f32 by fma with the scale: exact while the sums of that many sub-blocks stay below 2^24; two such sums are then
    /// added, which rounds once, as the conversion of the whole sum does.
    Float(usize),
    /// In i32.
    Int,
}

/// What a minimum is multiplied with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Min {
    /// No minimum.
    None,
    /// One per block, added.
    Block,
    /// One per sub-block, in integers, subtracted.
    Sub,
}

/// Most sub-blocks of a block.
pub const SUBS: usize = 16;
/// Most sub-blocks of a span.
pub const PER_SPAN: usize = 4;
/// Most quads of a sub-block.
pub const QUADS: usize = 8;

/// A packed block format with int8 activations.
pub trait Packed: 'static {
    /// Its bytes.
    const LAYOUT: Layout;
    /// Weights of a sub-block: 16 or 32.
    const SUB: usize;
    /// Spans of a block: sub-blocks that are unpacked together since they share bytes.
    const SPANS: usize;
    /// What is subtracted from the codes as [`Packed::span`] gives them.
    const OFFSET: i32;
    /// Whether codes are signed bytes where [`Int::WIDE`] is false (then without offset).
    const SIGNED: bool = false;
    /// How sub-blocks join.
    const JOIN: Join;
    /// The minimum.
    const MIN: Min;

    /// Sub-blocks of a block.
    const COUNT: usize = Self::LAYOUT.block / Self::SUB;
    /// Sub-blocks of a span.
    const PER: usize = Self::COUNT / Self::SPANS;

    /// Which sub-block the `i`th of span `span` is.
    fn sub(span: usize, i: usize) -> usize {
        span * Self::PER + i
    }

    /// Codes of the sub-blocks of a span, as vectors of quads. `p` is the block's words (from the first of the lanes on).
    ///
    /// # Safety
    /// `p` is valid for the block's words.
    unsafe fn span<I: Int>(s: I, p: *const u8, span: usize) -> [[U<I>; QUADS]; PER_SPAN];

    /// Scales of the sub-blocks, whole numbers.
    ///
    /// # Safety
    /// As [`Packed::span`].
    #[inline(always)]
    unsafe fn scales<I: Int>(s: I, _: *const u8) -> [U<I>; SUBS] {
        [s.splat(0); SUBS]
    }

    /// Minima of the sub-blocks in pairs of 16 bits: 0 and 2, 1 and 3, 4 and 6, 5 and 7 ….
    ///
    /// # Safety
    /// As [`Packed::span`].
    #[inline(always)]
    unsafe fn mins<I: Int>(s: I, _: *const u8) -> [U<I>; SUBS / 2] {
        [s.splat(0); SUBS / 2]
    }
}

/// Vector `i` of words.
///
/// # Safety
/// It is there.
#[inline(always)]
pub unsafe fn word<I: Int>(s: I, p: *const u8, i: usize) -> U<I> {
    // SAFETY: the caller's promise.
    unsafe { s.load(p.add(i * super::LINE)) }
}

/// Byte `i` of each word, as a whole number.
#[inline(always)]
fn byte<I: Int>(s: I, v: U<I>, i: usize) -> U<I> {
    match i {
        0 => s.and(v, s.splat(255)),
        3 => s.shr(v, 24),
        _ => s.and(s.shr(v, 8 * i as u32), s.splat(255)),
    }
}

/// The even and the odd bytes of words as pairs of 16 bits.
#[inline(always)]
fn pairs<I: Int>(s: I, v: U<I>) -> [U<I>; 2] {
    let even = s.splat(0x00ff_00ff);
    [s.and(v, even), s.and(s.shr(v, 8), even)]
}

/// A byte in all bytes of a word.
pub const fn bytes(b: u8) -> i32 {
    i32::from_ne_bytes([b; 4])
}

/// Sub-scales and minima of Q4_K and Q5_K, words 0 to 2: bytes of scales 0–3, 4–7, minima 0–3, 4–7.
#[inline(always)]
unsafe fn six_bits<I: Int>(s: I, p: *const u8) -> ([U<I>; 2], [U<I>; 2]) {
    // SAFETY: the caller's promise.
    let (a, b, c) = unsafe { (word(s, p, 0), word(s, p, 1), word(s, p, 2)) };
    let (six, four, two) = (s.splat(bytes(63)), s.splat(bytes(15)), s.splat(bytes(0x30)));
    let scales = [s.and(a, six), s.or(s.and(c, four), s.and(s.shr(a, 2), two))];
    let mins = [s.and(b, six), s.or(s.and(s.shr(c, 4), four), s.and(s.shr(b, 2), two))];
    (scales, mins)
}

/// Scales of [`six_bits`] as whole numbers.
#[inline(always)]
unsafe fn six_bit_scales<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS] {
    // SAFETY: the caller's promise.
    let (scales, _) = unsafe { six_bits(s, p) };
    let mut all = [s.splat(0); SUBS];
    for (j, to) in all.iter_mut().enumerate().take(8) {
        *to = byte(s, scales[j / 4], j % 4);
    }
    all
}

/// Minima of [`six_bits`] in pairs.
#[inline(always)]
unsafe fn six_bit_mins<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS / 2] {
    // SAFETY: the caller's promise.
    let (_, mins) = unsafe { six_bits(s, p) };
    let mut all = [s.splat(0); SUBS / 2];
    for (i, v) in mins.into_iter().enumerate() {
        let [even, odd] = pairs(s, v);
        (all[2 * i], all[2 * i + 1]) = (even, odd);
    }
    all
}

/// Low and high nibbles of eight vectors.
#[inline(always)]
unsafe fn nibbles<I: Int>(s: I, p: *const u8, count: usize) -> [[U<I>; QUADS]; 2] {
    let nibble = s.splat(bytes(15));
    let mut q = [[s.splat(0); QUADS]; 2];
    for v in 0..count {
        // SAFETY: the caller's promise.
        let w = unsafe { word(s, p, v) };
        q[0][v] = s.and(w, nibble);
        q[1][v] = s.and(s.shr(w, 4), nibble);
    }
    q
}

/// Words: three of scales and minima, then per 64 weights eight of nibbles.
/// Four sub-blocks: 4 · 63 · 32 · 15 · 127 < 2^24.
pub struct Q4K;

impl Packed for Q4K {
    const LAYOUT: Layout = Layout::new(256, 144, &[0, 2], 4, 35, Fix::Keep);
    const SUB: usize = 32;
    const SPANS: usize = 4;
    const OFFSET: i32 = 0;
    const JOIN: Join = Join::Float(4);
    const MIN: Min = Min::Sub;

    #[inline(always)]
    unsafe fn span<I: Int>(s: I, p: *const u8, span: usize) -> [[U<I>; QUADS]; PER_SPAN] {
        // SAFETY: the caller's promise.
        let [low, high] = unsafe { nibbles(s, p.add((3 + 8 * span) * super::LINE), 8) };
        [low, high, low, high]
    }
    #[inline(always)]
    unsafe fn scales<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_scales(s, p) }
    }
    #[inline(always)]
    unsafe fn mins<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS / 2] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_mins(s, p) }
    }
}

/// Words: 32 of nibbles (16 per half of 128 weights), 16 of bit pairs (8 per half), four of scales.
/// A span is four sub-blocks, 32 weights apart, that share four words of pairs.
pub struct Q6K;

impl Packed for Q6K {
    const LAYOUT: Layout = Layout::new(256, 210, &[208], 0, 52, Fix::Keep);
    const SUB: usize = 16;
    const SPANS: usize = 4;
    const OFFSET: i32 = 32;
    const JOIN: Join = Join::Int;
    const MIN: Min = Min::None;

    #[inline(always)]
    fn sub(span: usize, i: usize) -> usize {
        run_of_halves(span, i)
    }
    #[inline(always)]
    unsafe fn span<I: Int>(s: I, p: *const u8, span: usize) -> [[U<I>; QUADS]; PER_SPAN] {
        let (half, odd) = (span / 2, span % 2);
        let (nibble, six) = (s.splat(bytes(15)), s.splat(bytes(63)));
        let mut q = [[s.splat(0); QUADS]; PER_SPAN];
        for v in 0..4 {
            // SAFETY: the caller's promise.
            let (a, b, h) = unsafe {
                let low = half * 16 + odd * 4 + v;
                (word(s, p, low), word(s, p, low + 8), word(s, p, 32 + half * 8 + odd * 4 + v))
            };
            q[0][v] = s.and(s.pick(nibble, a, s.shl(h, 4)), six);
            q[1][v] = s.and(s.pick(nibble, b, s.shl(h, 2)), six);
            q[2][v] = s.and(s.pick(nibble, s.shr(a, 4), h), six);
            q[3][v] = s.and(s.pick(nibble, s.shr(b, 4), s.shr(h, 2)), six);
        }
        q
    }
    #[inline(always)]
    unsafe fn scales<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS] {
        let mut all = [s.splat(0); SUBS];
        for (j, to) in all.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let w = unsafe { word(s, p, 48 + j / 4) };
            *to = s.sar(s.shl(w, 24 - 8 * (j % 4) as u32), 24);
        }
        all
    }
}

/// Words: three of scales and minima, eight of fifth bits (word `j` for sub-block `j`, bit `v` for quad `v`), 32 of
/// nibbles. |Σ| < 2^26.
pub struct Q5K;

impl Packed for Q5K {
    const LAYOUT: Layout = Layout::new(256, 176, &[0, 2], 4, 43, Fix::Planes(3));
    const SUB: usize = 32;
    const SPANS: usize = 4;
    const OFFSET: i32 = 0;
    const JOIN: Join = Join::Int;
    const MIN: Min = Min::Sub;

    #[inline(always)]
    unsafe fn span<I: Int>(s: I, p: *const u8, span: usize) -> [[U<I>; QUADS]; PER_SPAN] {
        // SAFETY: the caller's promise.
        let ([low, high], bits) = unsafe {
            let bits = [word(s, p, 3 + 2 * span), word(s, p, 4 + 2 * span)];
            (nibbles(s, p.add((11 + 8 * span) * super::LINE), 8), bits)
        };
        let (low, high) = (fifths(s, low, bits[0]), fifths(s, high, bits[1]));
        [low, high, low, high]
    }
    #[inline(always)]
    unsafe fn scales<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_scales(s, p) }
    }
    #[inline(always)]
    unsafe fn mins<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS / 2] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_mins(s, p) }
    }
}

/// Quads with their fifth bits, which are bit `v` of the bytes of `bits` for quad `v`.
#[inline(always)]
fn fifths<I: Int>(s: I, quads: [U<I>; QUADS], bits: U<I>) -> [U<I>; QUADS] {
    let mut q = quads;
    for (v, q) in q.iter_mut().enumerate() {
        let moved = if v < 4 { s.shl(bits, 4 - v as u32) } else { s.shr(bits, v as u32 - 4) };
        *q = s.or(*q, s.and(moved, s.splat(bytes(16))));
    }
    q
}

/// Sub-blocks of formats whose halves of 128 weights hold four runs of 32 in the same bytes.
const fn run_of_halves(span: usize, i: usize) -> usize {
    span / 2 * 8 + 2 * i + span % 2
}

/// The first of four words with bit pairs of a span, without what stands before them.
const fn word_of_halves(span: usize) -> usize {
    span / 2 * 8 + span % 2 * 4
}

/// Words: four of scales and minima (nibbles), 16 of bit pairs. |Σ| < 2^21.
pub struct Q2K;

impl Packed for Q2K {
    const LAYOUT: Layout = Layout::new(256, 84, &[80, 82], 0, 20, Fix::Keep);
    const SUB: usize = 16;
    const SPANS: usize = 4;
    const OFFSET: i32 = 0;
    const JOIN: Join = Join::Float(16);
    const MIN: Min = Min::Sub;

    #[inline(always)]
    fn sub(span: usize, i: usize) -> usize {
        run_of_halves(span, i)
    }
    #[inline(always)]
    unsafe fn span<I: Int>(s: I, p: *const u8, span: usize) -> [[U<I>; QUADS]; PER_SPAN] {
        let two = s.splat(bytes(3));
        let mut q = [[s.splat(0); QUADS]; PER_SPAN];
        for v in 0..4 {
            // SAFETY: the caller's promise.
            let w = unsafe { word(s, p, 4 + word_of_halves(span) + v) };
            for (i, q) in q.iter_mut().enumerate() {
                q[v] = s.and(s.shr(w, 2 * i as u32), two);
            }
        }
        q
    }
    #[inline(always)]
    unsafe fn scales<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS] {
        let mut all = [s.splat(0); SUBS];
        for (j, to) in all.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let w = unsafe { word(s, p, j / 4) };
            *to = s.and(s.shr(w, 8 * (j % 4) as u32), s.splat(15));
        }
        all
    }
    #[inline(always)]
    unsafe fn mins<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS / 2] {
        let mut all = [s.splat(0); SUBS / 2];
        for i in 0..4 {
            // SAFETY: the caller's promise.
            let w = unsafe { word(s, p, i) };
            let [even, odd] = pairs(s, s.and(s.shr(w, 4), s.splat(bytes(15))));
            (all[2 * i], all[2 * i + 1]) = (even, odd);
        }
        all
    }
}

/// Words: eight of third bits, 16 of bit pairs, three of scales. |Σ| < 2^22.
pub struct Q3K;

impl Packed for Q3K {
    const LAYOUT: Layout = Layout::new(256, 110, &[108], 0, 27, Fix::Keep);
    const SUB: usize = 16;
    const SPANS: usize = 4;
    const OFFSET: i32 = 4;
    const JOIN: Join = Join::Float(16);
    const MIN: Min = Min::None;

    #[inline(always)]
    fn sub(span: usize, i: usize) -> usize {
        run_of_halves(span, i)
    }
    #[inline(always)]
    unsafe fn span<I: Int>(s: I, p: *const u8, span: usize) -> [[U<I>; QUADS]; PER_SPAN] {
        let (two, four) = (s.splat(bytes(3)), s.splat(bytes(4)));
        let mut q = [[s.splat(0); QUADS]; PER_SPAN];
        for v in 0..4 {
            // SAFETY: the caller's promise.
            let (w, h) = unsafe { (word(s, p, 8 + word_of_halves(span) + v), word(s, p, span % 2 * 4 + v)) };
            // The half's four third bits at bits 0 to 3 of each byte.
            let h = s.shr(h, 4 * (span / 2) as u32);
            for (i, q) in q.iter_mut().enumerate() {
                let bit = if i < 2 { s.shl(h, 2 - i as u32) } else { s.shr(h, i as u32 - 2) };
                q[v] = s.or(s.and(s.shr(w, 2 * i as u32), two), s.and(bit, four));
            }
        }
        q
    }
    #[inline(always)]
    unsafe fn scales<I: Int>(s: I, p: *const u8) -> [U<I>; SUBS] {
        let mut all = [s.splat(0); SUBS];
        // SAFETY: the caller's promise.
        let (low, high) = unsafe { ([word(s, p, 24), word(s, p, 25)], word(s, p, 26)) };
        for (j, to) in all.iter_mut().enumerate() {
            let at = 8 * (j % 4) as u32;
            let low = s.and(s.shr(low[j / 4 % 2], at + 4 * (j / 8) as u32), s.splat(15));
            let high = s.and(s.shr(high, at + 2 * (j / 4) as u32), s.splat(3));
            *to = s.add(s.or(low, s.shl(high, 4)), s.splat(-32));
        }
        all
    }
}

/// Codes of one block of 32 as the only span: low nibbles first, then high ones.
#[inline(always)]
unsafe fn halves_of_32<I: Int>(s: I, p: *const u8) -> [U<I>; QUADS] {
    // SAFETY: the caller's promise.
    let [low, high] = unsafe { nibbles(s, p, 4) };
    let mut q = low;
    q[4..].copy_from_slice(&high[..4]);
    q
}

/// A format of blocks of 32: its layout, what is subtracted, its minimum, its codes.
macro_rules! legacy {
    ($(#[$meta:meta])* $name:ident, $layout:expr, $offset:expr, $signed:expr, $min:expr, $codes:path) => {
        $(#[$meta])*
        pub struct $name;

        impl Packed for $name {
            const LAYOUT: Layout = $layout;
            const SUB: usize = 32;
            const SPANS: usize = 1;
            const OFFSET: i32 = $offset;
            const SIGNED: bool = $signed;
            const JOIN: Join = Join::One;
            const MIN: Min = $min;

            #[inline(always)]
            unsafe fn span<I: Int>(s: I, p: *const u8, _: usize) -> [[U<I>; QUADS]; PER_SPAN] {
                // SAFETY: the caller's promise.
                [unsafe { $codes(s, p) }; PER_SPAN]
            }
        }
    };
}

/// Signed bytes; biased to unsigned ones where the products want them.
#[inline(always)]
unsafe fn eights<I: Int>(s: I, p: *const u8) -> [U<I>; QUADS] {
    let mut q = [s.splat(0); QUADS];
    for (v, q) in q.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let w = unsafe { word(s, p, v) };
        *q = if I::WIDE { s.xor(w, s.splat(bytes(0x80))) } else { w };
    }
    q
}

/// Nibbles from word 1 on, fifth bits in word 0 (bit `v` for quad `v`).
#[inline(always)]
unsafe fn fives<I: Int>(s: I, p: *const u8) -> [U<I>; QUADS] {
    // SAFETY: the caller's promise.
    unsafe { fifths(s, halves_of_32(s, p.add(super::LINE)), word(s, p, 0)) }
}

const fn legacy(bytes: usize, halves: &'static [usize], words: usize, fix: Fix) -> Layout {
    Layout::new(32, bytes, halves, bytes - 4 * words, words, fix)
}

legacy!(/// Eight words of signed bytes.
    Q8_0, legacy(34, &[0], 8, Fix::Keep), 128, true, Min::None, eights);
legacy!(/// Four words of nibbles.
    Q4_0, legacy(18, &[0], 4, Fix::Keep), 8, false, Min::None, halves_of_32);
legacy!(/// Four words of nibbles.
    Q4_1, legacy(20, &[0, 2], 4, Fix::Keep), 0, false, Min::Block, halves_of_32);
legacy!(/// A word of fifth bits, four of nibbles.
    Q5_0, legacy(22, &[0], 5, Fix::Spread), 16, false, Min::None, fives);
legacy!(/// A word of fifth bits, four of nibbles.
    Q5_1, legacy(24, &[0, 2], 5, Fix::Spread), 0, false, Min::Block, fives);
