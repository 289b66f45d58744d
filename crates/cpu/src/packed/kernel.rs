//! The two loops over packed weights: few tokens (decode, bound by bytes) and many (prefill, bound by operations).
//!
//! ```text
//! few    for blocks of two streams of groups:  unpack a span in registers, 1 to 4 tokens at it
//! many   for 2 vectors of rows, 256 weights:   unpack to a panel of bytes in L1 (8 kB), scales beside it
//!          for tiles of T tokens:              acc[2][T] += panel[quad] · broadcast x[t][quad]
//!                                              per sub-block: sum[2][T] += scale · acc
//!                                              per block: y[2][T] = fma(d · d_x, sum, y)
//! ```
//! AVX-512: 2 vectors × 6 tokens = 12 accumulators and 12 sums of 32 registers, 8 loads for 12 products: both ports
//! for products stay busy. A chain of one output runs over the blocks ascending in either loop, so they give the same bits.
#![allow(clippy::needless_range_loop)] // one index for several arrays of vectors
use super::{
    GROUP, LINE, Scratch, Weights,
    formats::{Join, Min, Packed, QUADS, SUBS},
    int::{F, Int, U},
};
use crate::{
    dot::{Out, Tokens},
    simd::Simd,
};
use std::ops::Range;

/// Tokens of a pass over the weights in the loop for few.
pub const FEW: usize = 4;
/// Weights of a panel's row.
const CHUNK: usize = 256;
/// Vectors of rows of a tile.
const ROWS: usize = 2;
/// Most tokens of a tile.
const TOKENS: usize = 6;
/// Bytes of activations that all pairs of groups read again and again: they stay in the second level of cache.
const RESIDENT: usize = 1 << 20;
/// Bytes ahead that lines are asked for in the first level of cache, and in the second.
const NEAR: usize = 1024;
const FAR: usize = 4096;

/// What a block's arithmetic needs of a token's codes besides themselves.
#[derive(Clone, Copy)]
struct Side {
    /// Where the integer sums of sub-blocks begin: the part of the codes' offset.
    start: [i32; SUBS],
    /// Sums of sub-blocks in pairs of 16 bits, in the order of [`Packed::mins`].
    pairs: [i32; SUBS / 2],
    /// The sum of the block.
    total: i32,
}

impl Side {
    const ZERO: Side = Side { start: [0; SUBS], pairs: [0; SUBS / 2], total: 0 };

    /// From the sums of 16 codes.
    #[inline(always)]
    unsafe fn fill<P: Packed, I: Int>(&mut self, sums: *const i16) {
        // SAFETY: the caller's promise: the sums of a block.
        let sixteen = |i: usize| i32::from(unsafe { *sums.add(i) });
        let sub = |j: usize| if P::SUB == 16 { sixteen(j) } else { sixteen(2 * j) + sixteen(2 * j + 1) };
        if offset::<P, I>() != 0 {
            for j in 0..P::COUNT {
                self.start[j] = -offset::<P, I>() * sub(j);
            }
        }
        match P::MIN {
            Min::None => {}
            Min::Block => self.total = sub(0),
            Min::Sub => {
                for i in 0..P::COUNT / 2 {
                    let j = i / 2 * 4 + i % 2;
                    self.pairs[i] = (sub(j) & 0xffff) | (sub(j + 2) << 16);
                }
            }
        }
    }
}

/// What is subtracted from codes as this set multiplies them.
#[inline(always)]
const fn offset<P: Packed, I: Int>() -> i32 {
    if P::SIGNED && !I::WIDE { 0 } else { P::OFFSET }
}

/// One step of a chain: `acc + d · dx · s`, and the minimum's.
#[inline(always)]
fn step<P: Packed, I: Int>(s: I, acc: F<I>, d: [F<I>; 2], dx: F<I>, sum: F<I>, min: F<I>) -> F<I> {
    let f = s.simd();
    let acc = f.fma(f.mul(d[0], dx), sum, acc);
    match P::MIN {
        Min::None => acc,
        Min::Block => f.fma(f.mul(d[1], dx), min, acc),
        Min::Sub => f.fma(f.neg(f.mul(d[1], dx)), min, acc),
    }
}

/// The product of four codes, as the format has them.
#[inline(always)]
fn dot<P: Packed, I: Int>(s: I, acc: U<I>, w: U<I>, x: U<I>) -> U<I> {
    if P::SIGNED && !I::WIDE { s.dot_signed(acc, w, x) } else { s.dot(acc, w, x) }
}

/// The half-precision scales at `p`.
#[inline(always)]
pub unsafe fn halves<P: Packed, I: Int>(s: I, p: *const u8) -> [F<I>; 2] {
    // SAFETY: the caller's promise: scales of a block, from the first lane on.
    unsafe {
        let d = s.simd().load_f16(p.cast());
        [d, if P::MIN == Min::None { d } else { s.simd().load_f16(p.add(2 * GROUP).cast()) }]
    }
}

/// The minimum's sum.
#[inline(always)]
fn min_sum<P: Packed, I: Int>(s: I, mins: &[U<I>; SUBS / 2], side: &Side) -> F<I> {
    match P::MIN {
        Min::None => s.simd().splat(0.0),
        Min::Block => s.simd().splat(side.total as f32),
        Min::Sub => {
            let mut t = s.splat(0);
            for (m, x) in mins.iter().zip(&side.pairs).take(P::COUNT / 2) {
                t = s.dot_pairs(t, *m, s.splat(*x));
            }
            s.float(t)
        }
    }
}

/// The integer sums of a block for `N` tokens as floats, and those of the minimum.
#[inline(always)]
unsafe fn sums<P: Packed, I: Int, const N: usize>(
    s: I,
    p: *const u8,
    x: [*const i8; N],
    side: &[Side; N],
) -> [[F<I>; 2]; N] {
    let f = s.simd();
    let zero = f.splat(0.0);
    let mut float_scales = [zero; SUBS];
    let mut scales = [s.splat(0); SUBS];
    // SAFETY: the caller's promise: a block of words and of codes.
    unsafe {
        if P::JOIN != Join::One {
            scales = P::scales(s, p);
            for j in 0..P::COUNT {
                float_scales[j] = s.float(scales[j]);
            }
        }
        let mut whole = [s.splat(0); N];
        let (mut part, mut first) = ([zero; N], [zero; N]);
        let lines = P::LAYOUT.words.div_ceil(P::SPANS);
        for span in 0..P::SPANS {
            for line in 0..lines {
                let at = p.wrapping_add((span * lines + line) * LINE);
                s.prefetch(at.wrapping_add(NEAR), at.wrapping_add(FAR));
            }
            let q = P::span(s, p, span);
            for (i, q) in q.iter().enumerate().take(P::PER) {
                let j = P::sub(span, i);
                for n in 0..N {
                    let mut acc = s.splat(if offset::<P, I>() != 0 { side[n].start[j] } else { 0 });
                    for (v, w) in q.iter().enumerate().take(P::SUB / 4) {
                        acc = dot::<P, I>(s, acc, *w, s.broadcast(x[n].add(j * P::SUB + 4 * v).cast()));
                    }
                    match P::JOIN {
                        Join::One => whole[n] = acc,
                        Join::Int => whole[n] = s.add(whole[n], s.mul(acc, scales[j])),
                        Join::Float(_) => part[n] = f.fma(s.float(acc), float_scales[j], part[n]),
                    }
                }
            }
            if matches!(P::JOIN, Join::Float(k) if (span + 1) * P::PER == k && k < P::COUNT) {
                (first, part) = (part, [zero; N]);
            }
        }
        let mins = P::mins(s, p);
        let mut out = [[zero; 2]; N];
        for n in 0..N {
            let sum = match P::JOIN {
                Join::One | Join::Int => s.float(whole[n]),
                Join::Float(k) if k < P::COUNT => f.add(first[n], part[n]),
                Join::Float(_) => part[n],
            };
            out[n] = [sum, min_sum::<P, I>(s, &mins, &side[n])];
        }
        out
    }
}

/// The rows of `range` (whole groups but for the matrix's end) for all tokens.
#[inline(always)]
pub unsafe fn run<P: Packed, I: Int>(
    s: I,
    w: Weights,
    range: Range<usize>,
    tokens: Tokens<'_>,
    out: Out,
    scratch: &mut Scratch,
) {
    debug_assert!(range.start.is_multiple_of(GROUP));
    // SAFETY: handed on.
    unsafe {
        if tokens.n <= FEW {
            let n = tokens.n;
            let groups = range.start / GROUP..range.end.div_ceil(GROUP);
            let (half, from) = (groups.len() / 2, groups.start);
            // Two streams, each ascending, so that what is asked for ahead is what comes.
            for i in 0..half {
                let two = [from + i, from + half + i];
                match n {
                    1 => few::<P, I, 2, 1>(s, w, two, range.end, tokens, out),
                    2 => few::<P, I, 2, 2>(s, w, two, range.end, tokens, out),
                    3 => few::<P, I, 2, 3>(s, w, two, range.end, tokens, out),
                    _ => few::<P, I, 2, 4>(s, w, two, range.end, tokens, out),
                }
            }
            if groups.len() % 2 == 1 {
                let one = [groups.end - 1];
                match n {
                    1 => few::<P, I, 1, 1>(s, w, one, range.end, tokens, out),
                    2 => few::<P, I, 1, 2>(s, w, one, range.end, tokens, out),
                    3 => few::<P, I, 1, 3>(s, w, one, range.end, tokens, out),
                    _ => few::<P, I, 1, 4>(s, w, one, range.end, tokens, out),
                }
            }
        } else {
            many::<P, I>(s, w, range, tokens, out, scratch);
        }
    }
}

/// `G` groups for `N` tokens.
#[inline(always)]
unsafe fn few<P: Packed, I: Int, const G: usize, const N: usize>(
    s: I,
    w: Weights,
    groups: [usize; G],
    end: usize,
    tokens: Tokens<'_>,
    out: Out,
) {
    let f = s.simd();
    let lanes = <I::S as Simd>::LANES;
    let l = P::LAYOUT;
    let blocks = tokens.inp / l.block;
    let mut acc = [[[f.splat(0.0); N]; 2]; G];
    let mut side = [Side::ZERO; N];
    // SAFETY: the caller's promise: whole groups, all tokens.
    unsafe {
        for b in 0..blocks {
            let mut x = [std::ptr::null::<i8>(); N];
            for n in 0..N {
                x[n] = tokens.q.as_ptr().add(n * tokens.inp + b * l.block);
                side[n].fill::<P, I>(tokens.sums.as_ptr().add((n * tokens.inp + b * l.block) / 16));
            }
            let (scales, words) = l.at(b);
            for (g, acc) in groups.iter().zip(&mut acc) {
                let base = w.base.add(g * w.group_bytes);
                for (part, acc) in acc.iter_mut().enumerate().take(GROUP / lanes) {
                    let d = halves::<P, I>(s, base.add(scales + part * 2 * lanes));
                    let sums = sums::<P, I, N>(s, base.add(words + part * 4 * lanes), x, &side);
                    for (n, acc) in acc.iter_mut().enumerate() {
                        let dx = f.splat(*tokens.d.as_ptr().add(n * blocks + b));
                        *acc = step::<P, I>(s, *acc, d, dx, sums[n][0], sums[n][1]);
                    }
                }
            }
        }
        for (g, acc) in groups.iter().zip(&acc) {
            for (part, acc) in acc.iter().enumerate().take(GROUP / lanes) {
                for (n, acc) in acc.iter().enumerate() {
                    store(s, *acc, g * GROUP + part * lanes, end, out.ptr.add(n * out.stride));
                }
            }
        }
    }
}

/// Stores a vector of outputs from row `o` on, up to `end`.
#[inline(always)]
pub unsafe fn store<I: Int>(s: I, v: F<I>, o: usize, end: usize, y: *mut f32) {
    let lanes = <I::S as Simd>::LANES;
    // SAFETY: the caller's promise: outputs below `end` of this token.
    unsafe {
        if o + lanes <= end {
            s.simd().store(y.add(o), v);
        } else if o < end {
            let mut edge = [0.0f32; GROUP];
            s.simd().store(edge.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(edge.as_ptr(), y.add(o), end - o);
        }
    }
}

/// Where the parts of a panel lie, in vectors of `I`.
struct Panel;

impl Panel {
    const SCALES: usize = ROWS * CHUNK / 4;
    const MINS: usize = Panel::SCALES + ROWS * SUBS;
    const HALVES: usize = Panel::MINS + ROWS * SUBS / 2;
    const ALL: usize = Panel::HALVES + ROWS * 2 * (CHUNK / 32);
}

/// Unpacks blocks `blocks` of two vectors of rows, which lie from `rows` on (scales, words), to a panel.
#[inline(always)]
unsafe fn unpack<P: Packed, I: Int>(s: I, rows: [(*const u8, *const u8); ROWS], blocks: Range<usize>, panel: *mut u8) {
    let size = 4 * <I::S as Simd>::LANES;
    let l = P::LAYOUT;
    // SAFETY: the caller's promise: the blocks are there, the panel has room.
    unsafe {
        let put = |at: usize, v: U<I>| s.store(panel.add(at * size), v);
        for (i, b) in blocks.enumerate() {
            let (scales, words) = l.at(b);
            for (r, (scale_base, word_base)) in rows.into_iter().enumerate() {
                let (scale_base, p) = (scale_base.add(scales), word_base.add(words));
                for span in 0..P::SPANS {
                    let q = P::span(s, p, span);
                    for (k, q) in q.iter().enumerate().take(P::PER) {
                        let quad = (i * P::COUNT + P::sub(span, k)) * (P::SUB / 4);
                        for (v, w) in q.iter().enumerate().take(P::SUB / 4) {
                            put((quad + v) * ROWS + r, *w);
                        }
                    }
                }
                if P::JOIN != Join::One {
                    let scales = P::scales(s, p);
                    for (j, v) in scales.into_iter().enumerate().take(P::COUNT) {
                        let v = if P::JOIN == Join::Int { v } else { s.simd().bits(s.float(v)) };
                        put(Panel::SCALES + j * ROWS + r, v);
                    }
                }
                if P::MIN == Min::Sub {
                    let mins = P::mins(s, p);
                    for (j, v) in mins.into_iter().enumerate().take(P::COUNT / 2) {
                        put(Panel::MINS + j * ROWS + r, v);
                    }
                }
                let d = halves::<P, I>(s, scale_base);
                for (j, d) in d.into_iter().enumerate() {
                    put(Panel::HALVES + (i * 2 + j) * ROWS + r, s.simd().bits(d));
                }
            }
        }
    }
}

/// A tile's operands besides the panel.
#[derive(Clone, Copy)]
struct Tile {
    /// Blocks of the panel.
    blocks: usize,
    /// Codes of the first token, at the panel's first weight; elements to the next token.
    x: *const i8,
    ldx: usize,
    /// Scales.
    d: *const f32,
    ldd: usize,
    /// Sums.
    sums: *const i16,
    /// Chains so far `[T][ROWS]` vectors.
    acc: *mut f32,
}

/// A panel times `T` tokens.
#[inline(always)]
unsafe fn tile<P: Packed, I: Int, const T: usize>(s: I, panel: *const u8, t: Tile) {
    let f = s.simd();
    let (zero, none) = (f.splat(0.0), s.splat(0));
    let lanes = <I::S as Simd>::LANES;
    let size = 4 * lanes;
    let mut side = [Side::ZERO; T];
    // SAFETY: the caller's promise: a panel, T tokens of its blocks, their chains.
    unsafe {
        let get = |at: usize| s.load(panel.add(at * size));
        for b in 0..t.blocks {
            let x = t.x.add(b * P::LAYOUT.block);
            for n in 0..T {
                side[n].fill::<P, I>(t.sums.add((n * t.ldx + b * P::LAYOUT.block) / 16));
            }
            let mut whole = [[none; ROWS]; T];
            let (mut part, mut first) = ([[zero; ROWS]; T], [[zero; ROWS]; T]);
            for j in 0..P::COUNT {
                let mut acc = [[none; ROWS]; T];
                if offset::<P, I>() != 0 {
                    for n in 0..T {
                        acc[n] = [s.splat(side[n].start[j]); ROWS];
                    }
                }
                for v in 0..P::SUB / 4 {
                    let quad = (b * P::COUNT + j) * (P::SUB / 4) + v;
                    let w = [get(quad * ROWS), get(quad * ROWS + 1)];
                    for n in 0..T {
                        let x = s.broadcast(x.add(n * t.ldx + j * P::SUB + 4 * v).cast());
                        for r in 0..ROWS {
                            acc[n][r] = dot::<P, I>(s, acc[n][r], w[r], x);
                        }
                    }
                }
                match P::JOIN {
                    Join::One => whole = acc,
                    Join::Int => {
                        let scale = [get(Panel::SCALES + j * ROWS), get(Panel::SCALES + j * ROWS + 1)];
                        for n in 0..T {
                            for r in 0..ROWS {
                                whole[n][r] = s.add(whole[n][r], s.mul(acc[n][r], scale[r]));
                            }
                        }
                    }
                    Join::Float(k) => {
                        let scale = [get(Panel::SCALES + j * ROWS), get(Panel::SCALES + j * ROWS + 1)];
                        for n in 0..T {
                            for r in 0..ROWS {
                                part[n][r] = f.fma(s.float(acc[n][r]), f.floats(scale[r]), part[n][r]);
                            }
                        }
                        if j + 1 == k && k < P::COUNT {
                            (first, part) = (part, [[zero; ROWS]; T]);
                        }
                    }
                }
            }
            let mut mins = [[none; SUBS / 2]; ROWS];
            let mut d = [[zero; 2]; ROWS];
            for r in 0..ROWS {
                if P::MIN == Min::Sub {
                    for (j, m) in mins[r].iter_mut().enumerate().take(P::COUNT / 2) {
                        *m = get(Panel::MINS + j * ROWS + r);
                    }
                }
                d[r] = [0, 1].map(|j| f.floats(s.load(panel.add((Panel::HALVES + (b * 2 + j) * ROWS + r) * size))));
            }
            for n in 0..T {
                let dx = f.splat(*t.d.add(n * t.ldd + b));
                for r in 0..ROWS {
                    let sum = match P::JOIN {
                        Join::One | Join::Int => s.float(whole[n][r]),
                        Join::Float(k) if k < P::COUNT => f.add(first[n][r], part[n][r]),
                        Join::Float(_) => part[n][r],
                    };
                    let chain = t.acc.add((n * ROWS + r) * lanes);
                    let min = min_sum::<P, I>(s, &mins[r], &side[n]);
                    f.store(chain, step::<P, I>(s, f.load(chain), d[r], dx, sum, min));
                }
            }
        }
    }
}

/// The rows of `range` for many tokens.
#[inline(always)]
unsafe fn many<P: Packed, I: Int>(
    s: I,
    w: Weights,
    range: Range<usize>,
    tokens: Tokens<'_>,
    out: Out,
    scratch: &mut Scratch,
) {
    let lanes = <I::S as Simd>::LANES;
    let l = P::LAYOUT;
    let (inp, blocks) = (tokens.inp, tokens.inp / l.block);
    let rows = ROWS * lanes;
    let together = (RESIDENT / inp).clamp(4 * TOKENS, 512).min(tokens.n);
    let panel = scratch.panel.at_least(Panel::ALL * 4 * lanes);
    let acc: *mut f32 = scratch.chains.at_least(together * rows * 4).cast();
    // SAFETY: the caller's promise: whole groups, all tokens.
    unsafe {
        for t0 in (0..tokens.n).step_by(together) {
            let n = together.min(tokens.n - t0);
            for o in (range.start..range.end).step_by(rows) {
                let mut bases = [(std::ptr::null(), std::ptr::null()); ROWS];
                for (r, base) in bases.iter_mut().enumerate() {
                    // Past the end the last vector is computed again and not stored.
                    let o = (o + r * lanes).min((range.end - 1) / lanes * lanes);
                    let group = w.base.add(o / GROUP * w.group_bytes);
                    *base = (group.add(o % GROUP * 2), group.add(o % GROUP * 4));
                }
                std::slice::from_raw_parts_mut(acc, n * rows).fill(0.0);
                for b in (0..blocks).step_by(CHUNK / l.block) {
                    let some = (CHUNK / l.block).min(blocks - b);
                    unpack::<P, I>(s, bases, b..b + some, panel);
                    let tiles = n.div_ceil(TOKENS);
                    for i in 0..tiles {
                        let (from, to) = (i * n / tiles, (i + 1) * n / tiles);
                        let t = t0 + from;
                        let operands = Tile {
                            blocks: some,
                            x: tokens.q.as_ptr().add(t * inp + b * l.block),
                            ldx: inp,
                            d: tokens.d.as_ptr().add(t * blocks + b),
                            ldd: blocks,
                            sums: tokens.sums.as_ptr().add((t * inp + b * l.block) / 16),
                            acc: acc.add(from * rows),
                        };
                        match to - from {
                            1 => tile::<P, I, 1>(s, panel, operands),
                            2 => tile::<P, I, 2>(s, panel, operands),
                            3 => tile::<P, I, 3>(s, panel, operands),
                            4 => tile::<P, I, 4>(s, panel, operands),
                            5 => tile::<P, I, 5>(s, panel, operands),
                            _ => tile::<P, I, 6>(s, panel, operands),
                        }
                    }
                }
                for t in 0..n {
                    for r in 0..ROWS {
                        let v = s.simd().load(acc.add((t * ROWS + r) * lanes));
                        store(s, v, o + r * lanes, range.end, out.ptr.add((t0 + t) * out.stride));
                    }
                }
            }
        }
    }
}

const _: () = assert!(QUADS * 4 == 32 && LINE == GROUP * 4);
