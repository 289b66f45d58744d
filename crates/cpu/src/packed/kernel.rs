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
    GROUP, LINE, Line, Lines, Scratch, Weights,
    formats::{Join, Min, Packed, QUADS, SUBS},
    int::{F, Int, U, store},
    x86::{Plain256, Vnni256, Vnni512},
};
use crate::{
    dot::{Out, Tokens},
    simd::{
        Simd, kept,
        outer::{self, Into},
    },
};
use std::ops::Range;

/// Tokens of a pass over the weights in the loop for few.
pub const FEW: usize = 4;
/// Weights of a panel's row.
const CHUNK: usize = 256;
/// Vectors of rows of a tile.
const ROWS: usize = 2;
/// Bytes of activations that all pairs of groups read again and again: they stay in the second level of cache.
const RESIDENT: usize = 1 << 20;
/// Bytes ahead that lines are asked for in the first level of cache; see [`Tiles::NEAR`].
const NEAR: usize = 1024;

/// Bytes ahead that lines are asked for in the second level: blocks with several spans are not read in order, so beyond a
/// large one.
const fn far<P: Packed>() -> usize {
    if P::LAYOUT.body() > 3072 { 4096 } else { 3072 }
}

/// What products need of the codes of tokens besides themselves, made once per task from the sums of 16 codes.
#[derive(Clone, Copy)]
struct Sides {
    /// Where the integer sums of sub-blocks begin: the part of the codes' offset. `[tokens][inp / SUB]`.
    starts: *const i32,
    /// Sums of sub-blocks in pairs of 16 bits, in the order of [`Packed::mins`], `[tokens][inp / SUB / 2]`; or the sums of
    /// blocks as floats, `[tokens][inp / SUB]`.
    mins: *const i32,
}

impl Sides {
    /// Of `n` tokens from `t0` on.
    #[inline(always)]
    unsafe fn new<P: Packed, I: Int>(tokens: Tokens<'_>, t0: usize, n: usize, lines: &mut Lines) -> Sides {
        let subs = n * tokens.inp / P::SUB;
        let starts: *mut i32 = lines.at_least(2 * subs * 4).cast();
        let sixteens = tokens.sums[t0 * tokens.inp / 16..][..n * tokens.inp / 16].as_ptr();
        let offset = offset::<P, I>();
        // SAFETY: the sums of every sub-block; room for two words of each.
        unsafe {
            let mins = starts.add(subs);
            let sub = |j: usize| {
                let first = sixteens.add(j * P::SUB / 16);
                i32::from(*first) + if P::SUB == 16 { 0 } else { i32::from(*first.add(1)) }
            };
            if offset != 0 {
                for j in 0..subs {
                    *starts.add(j) = -offset * sub(j);
                }
            }
            match P::MIN {
                Min::None => {}
                Min::Block => {
                    for j in 0..subs {
                        *mins.add(j) = (sub(j) as f32).to_bits() as i32;
                    }
                }
                Min::Sub => {
                    for i in 0..subs / 4 {
                        let pair = |j: usize| (sub(4 * i + j) & 0xffff) | (sub(4 * i + j + 2) << 16);
                        (*mins.add(2 * i), *mins.add(2 * i + 1)) = (pair(0), pair(1));
                    }
                }
            }
            Sides { starts, mins }
        }
    }

    /// From block `b` of token `t` on.
    #[inline(always)]
    fn at<P: Packed>(self, t: usize, b: usize, inp: usize) -> Sides {
        let j = (t * inp + b * P::LAYOUT.block) / P::SUB;
        let min = if P::MIN == Min::Sub { j / 2 } else { j };
        Sides { starts: self.starts.wrapping_add(j), mins: self.mins.wrapping_add(min) }
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
    step_min::<P, I>(s, f.fma(f.mul(d[0], dx), sum, acc), d[1], dx, min)
}

/// The minimum's part of a step.
#[inline(always)]
fn step_min<P: Packed, I: Int>(s: I, acc: F<I>, m: F<I>, dx: F<I>, min: F<I>) -> F<I> {
    let f = s.simd();
    match P::MIN {
        Min::None => acc,
        Min::Block => f.fma(f.mul(m, dx), min, acc),
        Min::Sub => f.fma(f.neg(f.mul(m, dx)), min, acc),
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
unsafe fn min_sum<P: Packed, I: Int>(s: I, mins: &[U<I>; SUBS / 2], side: Sides) -> F<I> {
    // SAFETY: the caller's promise: the words of a block.
    unsafe {
        match P::MIN {
            Min::None => s.simd().splat(0.0),
            Min::Block => s.simd().floats(s.broadcast(side.mins.cast())),
            Min::Sub => {
                let mut t = s.splat(0);
                for (i, m) in mins.iter().enumerate().take(P::COUNT / 2) {
                    t = s.dot_pairs(t, *m, s.broadcast(side.mins.add(i).cast()));
                }
                s.float(t)
            }
        }
    }
}

/// Where the sum of sub-block `j` begins.
#[inline(always)]
unsafe fn start<P: Packed, I: Int>(s: I, side: Sides, j: usize) -> U<I> {
    // SAFETY: the caller's promise: the words of a block.
    if offset::<P, I>() == 0 { s.splat(0) } else { unsafe { s.broadcast(side.starts.add(j).cast()) } }
}

/// The integer sums of a block for `N` tokens as floats, and those of the minimum.
#[inline(always)]
unsafe fn sums<P: Packed, I: Int, T: Tiles<I>, const N: usize>(
    s: I,
    p: *const u8,
    x: [*const i8; N],
    side: [Sides; N],
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
            let q = P::span(s, p, span);
            for (i, q) in q.iter().enumerate().take(P::PER) {
                // A few at a time: a burst of them fills the buffers that loads wait for.
                for line in span * lines + i * lines / P::PER..span * lines + (i + 1) * lines / P::PER {
                    let at = p.wrapping_add(line * LINE);
                    s.prefetch(at.wrapping_add(T::NEAR), at.wrapping_add(far::<P>()));
                }
                let j = P::sub(span, i);
                for n in 0..N {
                    let mut acc = start::<P, I>(s, side[n], j);
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
            out[n] = [sum, min_sum::<P, I>(s, &mins, side[n])];
        }
        out
    }
}

/// The rows of `range` (whole groups but for the matrix's end) for all tokens.
#[inline(always)]
pub unsafe fn run<P: Packed, I: Int, T: Tiles<I>>(
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
            let sides = Sides::new::<P, I>(tokens, 0, n, &mut scratch.sides);
            // Two streams, each ascending, so that what is asked for ahead is what comes.
            for i in 0..half {
                let two = [from + i, from + half + i];
                match n {
                    1 => few::<P, I, T, 2, 1>(s, w, two, range.end, tokens, sides, out),
                    2 => few::<P, I, T, 2, 2>(s, w, two, range.end, tokens, sides, out),
                    3 => few::<P, I, T, 2, 3>(s, w, two, range.end, tokens, sides, out),
                    _ => few::<P, I, T, 2, 4>(s, w, two, range.end, tokens, sides, out),
                }
            }
            if groups.len() % 2 == 1 {
                let one = [groups.end - 1];
                match n {
                    1 => few::<P, I, T, 1, 1>(s, w, one, range.end, tokens, sides, out),
                    2 => few::<P, I, T, 1, 2>(s, w, one, range.end, tokens, sides, out),
                    3 => few::<P, I, T, 1, 3>(s, w, one, range.end, tokens, sides, out),
                    _ => few::<P, I, T, 1, 4>(s, w, one, range.end, tokens, sides, out),
                }
            }
        } else {
            many::<P, I, T>(s, w, range, tokens, out, scratch);
        }
    }
}

/// `G` groups for `N` tokens.
#[inline(always)]
unsafe fn few<P: Packed, I: Int, T: Tiles<I>, const G: usize, const N: usize>(
    s: I,
    w: Weights,
    groups: [usize; G],
    end: usize,
    tokens: Tokens<'_>,
    sides: Sides,
    out: Out,
) {
    let f = s.simd();
    let lanes = <I::S as Simd>::LANES;
    let l = P::LAYOUT;
    let blocks = tokens.inp / l.block;
    let mut acc = [[[f.splat(0.0); N]; 2]; G];
    let mut side = [sides; N];
    // SAFETY: the caller's promise: whole groups, all tokens.
    unsafe {
        for b in 0..blocks {
            let mut x = [std::ptr::null::<i8>(); N];
            for n in 0..N {
                x[n] = tokens.q.as_ptr().add(n * tokens.inp + b * l.block);
                side[n] = sides.at::<P>(n, b, tokens.inp);
            }
            let (scales, words) = l.at(b);
            for (g, acc) in groups.iter().zip(&mut acc) {
                let base = w.base.add(g * w.group_bytes);
                for (part, acc) in acc.iter_mut().enumerate().take(GROUP / lanes) {
                    let d = halves::<P, I>(s, base.add(scales + part * 2 * lanes));
                    let sums = sums::<P, I, T, N>(s, base.add(words + part * 4 * lanes), x, side);
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

/// Where the parts of a panel lie, in vectors of `I`.
struct Panel;

impl Panel {
    const SCALES: usize = ROWS * CHUNK / 4;
    const MINS: usize = Panel::SCALES + ROWS * SUBS;
    const HALVES: usize = Panel::MINS + ROWS * SUBS / 2;
    const ALL: usize = Panel::HALVES + ROWS * 2 * (CHUNK / 32);
}

/// Unpacks blocks `blocks` of two vectors of rows, which lie from `rows` on (scales, words), to a panel; scales of
/// sub-blocks as words where `whole`, else as [`Packed::JOIN`] takes them.
#[inline(always)]
unsafe fn unpack<P: Packed, I: Int>(
    s: I,
    whole: bool,
    rows: [(*const u8, *const u8); ROWS],
    blocks: Range<usize>,
    panel: *mut u8,
) {
    let size = 4 * <I::S as Simd>::LANES;
    let l = P::LAYOUT;
    // SAFETY: the caller's promise: the blocks are there, the panel has room.
    unsafe {
        let put = |at: usize, v: U<I>| s.store(panel.add(at * size), v);
        for (i, b) in blocks.enumerate() {
            let (scales, words) = l.at(b);
            for (r, (scale_base, word_base)) in rows.into_iter().enumerate() {
                let (scale_base, p) = (scale_base.add(scales), word_base.add(words));
                let lines = P::LAYOUT.words.div_ceil(P::SPANS);
                for span in 0..P::SPANS {
                    for line in 0..lines {
                        let at = p.wrapping_add((span * lines + line) * LINE);
                        s.prefetch(at.wrapping_add(NEAR), at.wrapping_add(far::<P>()));
                    }
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
                        let v = if whole || P::JOIN == Join::Int { v } else { s.simd().bits(s.float(v)) };
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
pub struct Tile {
    /// Blocks of the panel.
    blocks: usize,
    /// Codes of the first token, at the panel's first weight; elements to the next token.
    x: *const i8,
    ldx: usize,
    /// Scales.
    d: *const f32,
    ldd: usize,
    /// What else the block's arithmetic needs.
    side: Sides,
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
    // SAFETY: the caller's promise: a panel, T tokens of its blocks, their chains.
    unsafe {
        let get = |at: usize| s.load(panel.add(at * size));
        for b in 0..t.blocks {
            let x = t.x.add(b * P::LAYOUT.block);
            let mut whole = [[none; ROWS]; T];
            let (mut part, mut first) = ([[zero; ROWS]; T], [[zero; ROWS]; T]);
            for j in 0..P::COUNT {
                let mut acc = [[none; ROWS]; T];
                for n in 0..T {
                    acc[n] = [start::<P, I>(s, t.side.at::<P>(n, b, t.ldx), j); ROWS];
                }
                for v in 0..s.opaque(P::SUB / 4) {
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
                for (i, d) in d[r].iter_mut().enumerate() {
                    *d = f.load(panel.add((Panel::HALVES + (b * 2 + i) * ROWS + r) * size).cast());
                }
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
                    let min = min_sum::<P, I>(s, &mins[r], t.side.at::<P>(n, b, t.ldx));
                    f.store(chain, step::<P, I>(s, f.load(chain), d[r], dx, sum, min));
                }
            }
        }
    }
}

/// How a set makes tiles: as many accumulators as its registers hold.
pub trait Tiles<I: Int>: 'static {
    /// Whether scales of sub-blocks are words whatever [`Packed::JOIN`] says: all their sums are exact.
    const WORDS: bool = false;

    /// Bytes ahead that lines are asked for in the first level of cache where few tokens wait for them.
    const NEAR: usize = NEAR;

    /// Most tokens of a tile.
    fn tokens<P: Packed>() -> usize;

    /// The tile of `n` tokens.
    ///
    /// # Safety
    /// As [`tile`].
    unsafe fn tile<P: Packed>(s: I, n: usize, panel: *const u8, t: Tile);
}

/// By the loop as it stands here.
pub struct Plain;

macro_rules! tiles {
    ($set:ty: $($n:literal)* | $most:literal) => {
        impl Tiles<$set> for Plain {
            #[inline(always)]
            fn tokens<P: Packed>() -> usize {
                $most
            }

            #[inline(always)]
            unsafe fn tile<P: Packed>(s: $set, n: usize, panel: *const u8, t: Tile) {
                // SAFETY: handed on.
                unsafe {
                    match n {
                        $($n => tile::<P, $set, $n>(s, panel, t),)*
                        _ => tile::<P, $set, $most>(s, panel, t),
                    }
                }
            }
        }
    };
}

tiles!(Vnni256: 1 2 3 4 5 | 6);
tiles!(Plain256: 1 2 3 | 4);

/// By the loop of [`outer`] where sub-blocks are long.
pub struct Wide;

impl Tiles<Vnni512> for Wide {
    /// Where much is done between short sub-blocks it should stay in registers, so tiles are smaller.
    #[inline(always)]
    fn tokens<P: Packed>() -> usize {
        if P::JOIN == Join::Int || P::SUB == 16 { 6 } else { outer::TOKENS }
    }

    #[inline(always)]
    unsafe fn tile<P: Packed>(s: Vnni512, n: usize, panel: *const u8, t: Tile) {
        // SAFETY: handed on.
        unsafe {
            if Self::tokens::<P>() == outer::TOKENS {
                return wide_tile::<P>(s, n, panel, t);
            }
            match n {
                1 => tile::<P, Vnni512, 1>(s, panel, t),
                2 => tile::<P, Vnni512, 2>(s, panel, t),
                3 => tile::<P, Vnni512, 3>(s, panel, t),
                4 => tile::<P, Vnni512, 4>(s, panel, t),
                5 => tile::<P, Vnni512, 5>(s, panel, t),
                _ => tile::<P, Vnni512, 6>(s, panel, t),
            }
        }
    }
}

/// By the loop of [`kept`], for sub-blocks of 32.
pub struct Kept;

impl Tiles<Vnni512> for Kept {
    const WORDS: bool = true;
    /// On Zen 4 a third more than 1024 where memory is quick (docs/log.md).
    const NEAR: usize = 1536;

    #[inline(always)]
    fn tokens<P: Packed>() -> usize {
        kept::TOKENS
    }

    #[inline(always)]
    unsafe fn tile<P: Packed>(s: Vnni512, n: usize, panel: *const u8, t: Tile) {
        // SAFETY: handed on.
        unsafe { kept_tile::<P>(s, n, panel, t) }
    }
}

/// [`tile`] for `tokens` tokens by the loop whose sums stay in registers.
#[inline(always)]
unsafe fn kept_tile<P: Packed>(s: Vnni512, tokens: usize, panel: *const u8, t: Tile) {
    let f = s.simd();
    let lds = t.ldx / P::SUB * 4;
    // SAFETY: the caller's promise: a panel, all tokens of its blocks, their chains.
    unsafe {
        let get = |at: usize| panel.add(at * LINE);
        let starts =
            |b| if offset::<P, Vnni512>() == 0 { std::ptr::null() } else { t.side.at::<P>(0, b, t.ldx).starts };
        let operands = |b: usize, subs: usize| kept::Operands {
            w: get(b * P::COUNT * (P::SUB / 4) * ROWS),
            x: t.x.add(b * P::LAYOUT.block),
            ldx: t.ldx,
            subs,
            start: starts(b),
            dx: t.d.add(b),
            lds,
            scales: get(if P::JOIN == Join::One { Panel::HALVES } else { Panel::SCALES }),
        };
        if P::JOIN == Join::One {
            // A block is a sub-block, so scales and starts have the same step.
            return if P::MIN == Min::Block {
                let o = kept::Operands { start: t.side.at::<P>(0, 0, t.ldx).mins, ..operands(0, t.blocks) };
                kept::chains::<true>(f, tokens, o, t.acc.cast())
            } else {
                kept::chains::<false>(f, tokens, operands(0, t.blocks), t.acc.cast())
            };
        }
        let mut sums = [Line([0; LINE]); ROWS * kept::TOKENS];
        let sums: *mut u8 = sums.as_mut_ptr().cast();
        for b in 0..t.blocks {
            kept::words(f, tokens, operands(b, P::COUNT), sums);
            for r in 0..ROWS {
                let mut mins = [s.splat(0); SUBS / 2];
                if P::MIN == Min::Sub {
                    for (i, m) in mins.iter_mut().enumerate().take(P::COUNT / 2) {
                        *m = s.load(get(Panel::MINS + i * ROWS + r));
                    }
                }
                let half = |i: usize| f.load(get(Panel::HALVES + (b * 2 + i) * ROWS + r).cast());
                let d = [half(0), half(1)];
                for n in 0..tokens {
                    let dx = f.splat(*t.d.add(n * t.ldd + b));
                    let sum = s.float(s.load(sums.add((n * ROWS + r) * LINE)));
                    let chain = t.acc.add((n * ROWS + r) * GROUP);
                    let min = min_sum::<P, Vnni512>(s, &mins, t.side.at::<P>(n, b, t.ldx));
                    f.store(chain, step::<P, Vnni512>(s, f.load(chain), d, dx, sum, min));
                }
            }
        }
    }
}

/// [`tile`] for `tokens` tokens by the loop that is written out; sums of blocks pass through memory in L1.
#[inline(always)]
unsafe fn wide_tile<P: Packed>(s: Vnni512, tokens: usize, panel: *const u8, t: Tile) {
    const VECTORS: usize = ROWS * outer::TOKENS;
    let f = s.simd();
    let mut sums = [Line([0; LINE]); 2 * VECTORS];
    let sums: *mut u8 = sums.as_mut_ptr().cast();
    // SAFETY: the caller's promise: a panel, all tokens of its blocks, their chains.
    unsafe {
        let get = |at: usize| panel.add(at * LINE);
        for b in 0..t.blocks {
            if P::JOIN != Join::One {
                sums.write_bytes(0, ROWS * tokens * LINE);
                sums.add(VECTORS * LINE).write_bytes(0, ROWS * tokens * LINE);
            }
            let halves = get(Panel::HALVES + b * 2 * ROWS);
            for j in 0..P::COUNT {
                let (into, scales, to) = match P::JOIN {
                    Join::One => (Into::Chains(t.d.add(b)), halves, t.acc.cast()),
                    Join::Int => (Into::ScaledWords, get(Panel::SCALES + j * ROWS), sums),
                    Join::Float(k) => {
                        (Into::ScaledFloats, get(Panel::SCALES + j * ROWS), sums.add(j / k * VECTORS * LINE))
                    }
                };
                let o = outer::Operands {
                    w: get((b * P::COUNT + j) * (P::SUB / 4) * ROWS),
                    x: t.x.add(b * P::LAYOUT.block + j * P::SUB).cast(),
                    ldx: t.ldx,
                    steps: P::SUB / 4,
                };
                let starts = t.side.at::<P>(0, b, t.ldx).starts.wrapping_add(j);
                let starts = if offset::<P, Vnni512>() == 0 { std::ptr::null() } else { starts };
                // From a token to the next: sums of sub-blocks, and scales, which formats of one sub-block have as many of.
                let lds = t.ldx / P::SUB * 4;
                outer::dot(f, tokens, o, outer::Sums { into, start: starts, lds, scales, to });
            }
            for n in 0..tokens {
                if P::JOIN == Join::One && P::MIN == Min::None {
                    break;
                }
                let dx = f.splat(*t.d.add(n * t.ldd + b));
                let side = t.side.at::<P>(n, b, t.ldx);
                for r in 0..ROWS {
                    let at = sums.add((n * ROWS + r) * LINE);
                    let mut mins = [s.splat(0); SUBS / 2];
                    if P::MIN == Min::Sub {
                        for (i, m) in mins.iter_mut().enumerate().take(P::COUNT / 2) {
                            *m = s.load(get(Panel::MINS + i * ROWS + r));
                        }
                    }
                    let d = [f.load(halves.add(r * LINE).cast()), f.load(halves.add((ROWS + r) * LINE).cast())];
                    let chain = t.acc.add((n * ROWS + r) * GROUP);
                    let min = min_sum::<P, Vnni512>(s, &mins, side);
                    let acc = f.load(chain);
                    let acc = match P::JOIN {
                        Join::One => step_min::<P, Vnni512>(s, acc, d[1], dx, min),
                        join => {
                            let sum = match join {
                                Join::Int => s.float(s.load(at)),
                                Join::Float(k) if k < P::COUNT => {
                                    f.add(f.load(at.cast()), f.load(at.add(VECTORS * LINE).cast()))
                                }
                                _ => f.load(at.cast()),
                            };
                            step::<P, Vnni512>(s, acc, d, dx, sum, min)
                        }
                    };
                    f.store(chain, acc);
                }
            }
        }
    }
}

/// The lines of the words that are unpacked next, from two rows of vectors.
struct Next {
    from: [*const u8; ROWS],
    scales: [*const u8; ROWS],
    lines: usize,
}

impl Next {
    /// From block `b` on, or where there are no more, of the next rows, which lie `step` bytes on.
    #[inline(always)]
    fn new<P: Packed>(bases: [(*const u8, *const u8); ROWS], b: usize, blocks: usize, step: usize) -> Next {
        let l = P::LAYOUT;
        let (b, step) = if b < blocks { (b, 0) } else { (0, step) };
        let last = (b + CHUNK / l.block).min(blocks) - 1;
        let ((scales, words), end) = (l.at(b), l.at(last).1 + l.body());
        Next {
            from: bases.map(|(_, base)| base.wrapping_add(step + words)),
            scales: bases.map(|(base, _)| base.wrapping_add(step + scales)),
            lines: (end - words).div_ceil(LINE) + 1,
        }
    }

    /// Asks for line `i` of each row; narrow vectors share their lines.
    #[inline(always)]
    fn fetch<I: Int>(&self, s: I, i: usize) {
        let rows = if <I::S as Simd>::LANES == GROUP { ROWS } else { 1 };
        for (from, scales) in self.from.iter().zip(self.scales).take(rows) {
            let at = if i + 1 == self.lines { scales } else { from.wrapping_add(i * LINE) };
            s.simd().prefetch(at);
        }
    }
}

/// The rows of `range` for many tokens.
#[inline(always)]
pub unsafe fn many<P: Packed, I: Int, T: Tiles<I>>(
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
    // Passes of nearly equal size, whole tiles.
    let passes = tokens.n.div_ceil((RESIDENT / inp).clamp(4 * T::tokens::<P>(), 768));
    let together = tokens.n.div_ceil(passes).next_multiple_of(T::tokens::<P>()).min(tokens.n);
    let panel = scratch.panel.at_least(Panel::ALL * 4 * lanes);
    let acc: *mut f32 = scratch.chains.at_least(together * rows * 4).cast();
    // SAFETY: the caller's promise: whole groups, all tokens.
    unsafe {
        for t0 in (0..tokens.n).step_by(together) {
            let n = together.min(tokens.n - t0);
            let sides = Sides::new::<P, I>(tokens, t0, n, &mut scratch.sides);
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
                    unpack::<P, I>(s, T::WORDS, bases, b..b + some, panel);
                    let tiles = n.div_ceil(T::tokens::<P>());
                    // What is unpacked next is fetched meanwhile, by the time that three quarters of the tiles are done.
                    let next = Next::new::<P>(bases, b + some, blocks, ROWS * lanes / GROUP * w.group_bytes);
                    let spread = tiles - tiles / 4;
                    for i in 0..tiles {
                        (i * next.lines / spread..next.lines.min((i + 1) * next.lines / spread))
                            .for_each(|l| next.fetch(s, l));
                        let (from, to) = (i * n / tiles, (i + 1) * n / tiles);
                        let t = t0 + from;
                        if b + some == blocks {
                            // What is written soon is fetched meanwhile: tokens lie far apart.
                            for t in t..t0 + to {
                                for line in 0..rows.div_ceil(GROUP) {
                                    let y = out.ptr.wrapping_add(t * out.stride + o + line * GROUP);
                                    s.prefetch_to_write(y.cast());
                                }
                            }
                        }
                        let operands = Tile {
                            blocks: some,
                            x: tokens.q.as_ptr().add(t * inp + b * l.block),
                            ldx: inp,
                            d: tokens.d.as_ptr().add(t * blocks + b),
                            ldd: blocks,
                            side: sides.at::<P>(from, b, inp),
                            acc: acc.add(from * rows),
                        };
                        T::tile::<P>(s, to - from, panel, operands);
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
