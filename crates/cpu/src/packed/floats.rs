//! Packed weights that f32 activations are multiplied with: one FMA chain per output, k ascending.
//!
//! ```text
//! few    4 streams of groups (2 for several tokens): four vectors of weights decoded in registers, 1 to 4 tokens at them
//! many   for 128 weights, for 2 groups: decoded to a panel [k][32] of f32 in L1, then the tiles of crate::gemm for all
//!        tokens; chains [groups][tokens][32] wait in L2, the activations of those 128 weights too
//! ```
//! Chains wait four cycles for each product, so several streams run side by side; the bound of few tokens is bytes.
//!
//! Does not own: the tiles ([`crate::gemm`]), formats with int8 activations ([`super::formats`]).
#![allow(clippy::needless_range_loop)] // one index for several arrays of vectors
use super::{
    Fix, Floats, GROUP, LINE, Layout, Scratch, Weights,
    formats::word,
    int::{F, Int, store},
};
use crate::{
    dot::Out,
    gemm::{self, F32e, Fetch, Tile},
    simd::{E2M1_DOUBLED, Simd},
    tiled::{CHUNK, Tiled},
};
use std::ops::Range;

/// Rows of a panel.
const ROWS: usize = 2 * GROUP;
/// Bytes ahead that lines are asked for in the first level of cache, and in the second.
const NEAR: usize = 1024;
const FAR: usize = 4096;
/// Bytes of chains that wait between chunks of weights: they stay in the second level of cache.
const CHAINS: usize = 1 << 20;

/// A format that decodes to f32 before it is multiplied.
pub trait Decoded: 'static {
    /// Its bytes.
    const LAYOUT: Layout;
    /// Runs of weights of a block that have one scale.
    const SPANS: usize = 1;
    /// Quads of a span.
    const QUADS: usize = Self::LAYOUT.block / 4 / Self::SPANS;

    /// The scale of a span. `at` is where the block lies, from the first of the lanes on.
    ///
    /// # Safety
    /// The block is there.
    #[inline(always)]
    unsafe fn scale<I: Int>(s: I, _: At, _: usize) -> F<I> {
        s.simd().splat(1.0)
    }

    /// Quad `q` of span `span`: four successive weights of each row.
    ///
    /// # Safety
    /// As [`Decoded::scale`].
    unsafe fn quad<I: Int>(s: I, at: At, span: usize, q: usize, scale: F<I>) -> [F<I>; 4];
}

/// Where a block lies for a vector of rows.
#[derive(Clone, Copy)]
pub struct At {
    /// The group.
    group: *const u8,
    /// Its scales, of all rows.
    scales: *const u8,
    /// The first row.
    lane: usize,
    /// Its words, from the first row on.
    words: *const u8,
}

impl At {
    /// Where the block begins: at its scales, unless the words lie apart and all blocks' scales before them.
    #[inline(always)]
    fn start(self) -> *const u8 {
        self.scales.min(self.words)
    }

    /// The 16-bit scale `i` of the first row.
    #[inline(always)]
    fn half(self, i: usize) -> *const u16 {
        self.scales.wrapping_add(2 * (i * GROUP + self.lane)).cast()
    }
}

/// Words.
pub struct F32;

impl Decoded for F32 {
    const LAYOUT: Layout = Layout::new(4, 16, &[], 0, 4, Fix::Keep);

    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, _: usize, _: usize, _: F<I>) -> [F<I>; 4] {
        let mut w = [s.simd().splat(0.0); 4];
        for i in 0..4 {
            // SAFETY: the caller's promise.
            w[i] = s.simd().floats(unsafe { word(s, at.words, i) });
        }
        w
    }
}

/// Words of two weights.
pub struct BF16;

impl Decoded for BF16 {
    const LAYOUT: Layout = Layout::new(4, 8, &[], 0, 2, Fix::Keep);

    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, _: usize, _: usize, _: F<I>) -> [F<I>; 4] {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (word(s, at.words, 0), word(s, at.words, 1)) };
        let ((a, b), (c, d)) = (s.simd().split_bf16(a), s.simd().split_bf16(b));
        [a, b, c, d]
    }
}

/// Halves of sixteen rows side by side, as scales are: one instruction widens them.
pub struct F16;

impl Decoded for F16 {
    const LAYOUT: Layout = Layout::new(4, 8, &[0, 2, 4, 6], 0, 0, Fix::Keep);

    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, _: usize, _: usize, _: F<I>) -> [F<I>; 4] {
        let mut w = [s.simd().splat(0.0); 4];
        for i in 0..4 {
            // SAFETY: the caller's promise.
            w[i] = unsafe { s.simd().load_f16(at.half(i)) };
        }
        w
    }
}

/// Four weights of each row: `scale · table[nibble]`, the low nibbles of words 0 to 3 first, then the high ones.
#[inline(always)]
unsafe fn looked_up<I: Int>(s: I, words: *const u8, q: usize, table: &[f32; 16], scale: F<I>) -> [F<I>; 4] {
    // SAFETY: the caller's promise.
    let w = s.shr(unsafe { word(s, words, q % 4) }, 4 * (q / 4) as u32);
    let mut out = [scale; 4];
    for (i, out) in out.iter_mut().enumerate() {
        *out = s.simd().mul(scale, s.lookup(table, s.shr(w, 8 * i as u32)));
    }
    out
}

/// Integers as floats.
const fn table(levels: [i8; 16]) -> [f32; 16] {
    let mut out = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        out[i] = levels[i] as f32;
        i += 1;
    }
    out
}

static E2M1: [f32; 16] = table(E2M1_DOUBLED);
static LEVELS: [f32; 16] = table([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]);

/// Four words of nibbles; the scale is a byte, `2^(e - 128)` with doubled values.
pub struct Mxfp4;

impl Decoded for Mxfp4 {
    const LAYOUT: Layout = Layout { scale_byte: Some(0), ..Layout::new(32, 17, &[], 1, 4, Fix::Keep) };

    #[inline(always)]
    unsafe fn scale<I: Int>(s: I, at: At, _: usize) -> F<I> {
        let f = s.simd();
        // SAFETY: the caller's promise.
        let e = unsafe { s.load_u8(at.scales.add(at.lane)) };
        let normal = f.floats(s.shl(s.add(e, s.splat(-1)), 23));
        let small = f.floats(s.shl(s.add(e, s.splat(1)), 21));
        f.select(f.lt(s.float(e), f.splat(2.0)), small, normal)
    }
    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, _: usize, q: usize, scale: F<I>) -> [F<I>; 4] {
        // SAFETY: the caller's promise.
        unsafe { looked_up(s, at.words, q, &E2M1, scale) }
    }
}

/// Four words of nibbles, a half for the scale.
pub struct Iq4Nl;

impl Decoded for Iq4Nl {
    const LAYOUT: Layout = Layout::new(32, 18, &[0], 2, 4, Fix::Keep);

    #[inline(always)]
    unsafe fn scale<I: Int>(s: I, at: At, _: usize) -> F<I> {
        // SAFETY: the caller's promise.
        unsafe { s.simd().load_f16(at.half(0)) }
    }
    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, _: usize, q: usize, scale: F<I>) -> [F<I>; 4] {
        // SAFETY: the caller's promise.
        unsafe { looked_up(s, at.words, q, &LEVELS, scale) }
    }
}

/// A word of low nibbles of the scales, then four of codes per span; the high pairs of the scales lie as halves.
pub struct Iq4Xs;

impl Decoded for Iq4Xs {
    const LAYOUT: Layout = Layout::new(256, 136, &[0, 2], 4, 33, Fix::Keep);
    const SPANS: usize = 8;

    #[inline(always)]
    unsafe fn scale<I: Int>(s: I, at: At, span: usize) -> F<I> {
        // SAFETY: the caller's promise.
        let (d, high, low) = unsafe { (s.simd().load_f16(at.half(0)), s.load_u16(at.half(1)), word(s, at.words, 0)) };
        let low = s.and(s.shr(low, 4 * span as u32), s.splat(15));
        let high = s.and(s.shr(high, 2 * span as u32), s.splat(3));
        let whole = s.add(s.or(low, s.shl(high, 4)), s.splat(-32));
        s.simd().mul(d, s.float(whole))
    }
    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, span: usize, q: usize, scale: F<I>) -> [F<I>; 4] {
        // SAFETY: the caller's promise.
        unsafe { looked_up(s, at.words.add((1 + 4 * span) * LINE), q, &LEVELS, scale) }
    }
}

/// What scales of FP8 are stored times: a code is decoded as the half with the same bits, whose exponents begin 8 lower.
pub const FP8_SCALE: f32 = 256.0;

/// Quad `q` of a span of bytes of sixteen rows side by side: codes as halves, times the scale.
#[inline(always)]
unsafe fn e4m3<I: Int>(s: I, at: At, span: usize, q: usize, scale: F<I>) -> [F<I>; 4] {
    // Bytes lie closer than the words that `words` counts lanes in.
    let p = at.words.wrapping_sub(3 * at.lane).wrapping_add((32 * span + 4 * q) * GROUP);
    let mut w = [scale; 4];
    for i in 0..4 {
        // SAFETY: the caller's promise.
        w[i] = s.simd().mul(unsafe { s.load_e4m3(p.add(i * GROUP)) }, scale);
    }
    w
}

/// E4M3, 128 weights with a scale that all rows share.
pub struct Fp8Blocks;

impl Decoded for Fp8Blocks {
    const LAYOUT: Layout = Layout { shared: true, ..Layout::new(128, 128, &[], 0, 32, Fix::Keep) };
    const SPANS: usize = 4;

    #[inline(always)]
    unsafe fn scale<I: Int>(s: I, at: At, _: usize) -> F<I> {
        // SAFETY: the caller's promise.
        s.simd().floats(unsafe { s.broadcast(at.scales) })
    }
    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, span: usize, q: usize, scale: F<I>) -> [F<I>; 4] {
        // SAFETY: the caller's promise.
        unsafe { e4m3(s, at, span, q, scale) }
    }
}

/// E4M3 with a scale for each row.
pub struct Fp8Rows;

impl Decoded for Fp8Rows {
    const LAYOUT: Layout = Layout { prefix: LINE, ..Layout::new(128, 128, &[], 0, 32, Fix::Keep) };
    const SPANS: usize = 4;

    #[inline(always)]
    unsafe fn scale<I: Int>(s: I, at: At, _: usize) -> F<I> {
        // SAFETY: the caller's promise.
        unsafe { s.simd().load(at.group.add(4 * at.lane).cast()) }
    }
    #[inline(always)]
    unsafe fn quad<I: Int>(s: I, at: At, span: usize, q: usize, scale: F<I>) -> [F<I>; 4] {
        // SAFETY: the caller's promise.
        unsafe { e4m3(s, at, span, q, scale) }
    }
}

/// Block `b` of a group, for the rows from `lane` on.
#[inline(always)]
fn block<P: Decoded>(group: *const u8, b: usize, lane: usize) -> At {
    let (scales, words) = P::LAYOUT.at(b);
    At { group, scales: group.wrapping_add(scales), lane, words: group.wrapping_add(words + 4 * lane) }
}

/// The rows of `range` (whole groups but for the matrix's end) for all tokens.
///
/// # Safety
/// As [`super::FloatKernel`].
#[inline(always)]
pub unsafe fn run<P: Decoded, I: Int>(
    s: I,
    w: Weights,
    range: Range<usize>,
    x: Floats,
    out: Out,
    scratch: &mut Scratch,
) {
    debug_assert!(range.start.is_multiple_of(GROUP));
    // SAFETY: handed on.
    unsafe {
        // Eight lanes take a group in two halves, which are two chains.
        match (x.n, <I::S as Simd>::LANES) {
            (1, 16) => streams::<P, I, 4, 1>(s, w, range, x, out),
            (1, _) => streams::<P, I, 2, 1>(s, w, range, x, out),
            (2, 16) => streams::<P, I, 2, 2>(s, w, range, x, out),
            (3, 16) => streams::<P, I, 2, 3>(s, w, range, x, out),
            (4, 16) => streams::<P, I, 2, 4>(s, w, range, x, out),
            (2, _) => streams::<P, I, 1, 2>(s, w, range, x, out),
            (3, _) => streams::<P, I, 1, 3>(s, w, range, x, out),
            (4, _) => streams::<P, I, 1, 4>(s, w, range, x, out),
            _ => many::<P, I>(s, w, range, x, out, scratch),
        }
    }
}

/// `G` streams of groups, each ascending, for `N` tokens; groups that do not divide come one by one.
#[inline(always)]
unsafe fn streams<P: Decoded, I: Int, const G: usize, const N: usize>(
    s: I,
    w: Weights,
    range: Range<usize>,
    x: Floats,
    out: Out,
) {
    let groups = range.start / GROUP..range.end.div_ceil(GROUP);
    let each = groups.len() / G;
    // SAFETY: handed on.
    unsafe {
        for i in 0..each {
            let mut some = [0; G];
            for g in 0..G {
                some[g] = groups.start + g * each + i;
            }
            few::<P, I, G, N>(s, w, some, range.end, x, out);
        }
        for g in groups.start + G * each..groups.end {
            few::<P, I, 1, N>(s, w, [g], range.end, x, out);
        }
    }
}

/// `G` groups for `N` tokens.
#[inline(always)]
unsafe fn few<P: Decoded, I: Int, const G: usize, const N: usize>(
    s: I,
    w: Weights,
    groups: [usize; G],
    end: usize,
    x: Floats,
    out: Out,
) {
    let f = s.simd();
    let lanes = <I::S as Simd>::LANES;
    let parts = GROUP / lanes;
    let mut acc = [[[f.splat(0.0); N]; 2]; G];
    // SAFETY: the caller's promise: whole groups, all tokens.
    unsafe {
        let mut tokens = [x.x; N];
        for n in 0..N {
            tokens[n] = x.x.add(n * x.ld);
        }
        let mut bases = [w.base; G];
        for g in 0..G {
            bases[g] = w.base.add(groups[g] * w.group_bytes);
        }
        let lines = (P::LAYOUT.head() / P::LAYOUT.unit() + P::LAYOUT.body()).div_ceil(LINE).div_ceil(P::SPANS);
        for b in 0..x.inp / P::LAYOUT.block {
            for span in 0..s.opaque(P::SPANS) {
                let mut scales = [[f.splat(1.0); 2]; G];
                for g in 0..G {
                    for part in 0..parts {
                        scales[g][part] = P::scale(s, block::<P>(bases[g], b, part * lanes), span);
                    }
                }
                for q in 0..s.opaque(P::QUADS) {
                    let k = b * P::LAYOUT.block + 4 * (span * P::QUADS + q);
                    for g in 0..G {
                        for line in q * lines / P::QUADS..(q + 1) * lines / P::QUADS {
                            let at = bases[g].wrapping_add(P::LAYOUT.at(b).1 + (span * lines + line) * LINE);
                            s.prefetch(at.wrapping_add(NEAR), at.wrapping_add(FAR));
                        }
                        for part in 0..parts {
                            let at = block::<P>(bases[g], b, part * lanes);
                            let quad = P::quad(s, at, span, q, scales[g][part]);
                            for i in 0..4 {
                                for n in 0..N {
                                    let x = f.splat(*tokens[n].add(k + i));
                                    acc[g][part][n] = f.fma(quad[i], x, acc[g][part][n]);
                                }
                            }
                        }
                    }
                }
            }
        }
        for g in 0..G {
            for part in 0..parts {
                for n in 0..N {
                    let y = out.ptr.add(n * out.stride);
                    store(s, acc[g][part][n], groups[g] * GROUP + part * lanes, end, y);
                }
            }
        }
    }
}

/// Decodes weights `k .. k + CHUNK` (or to the end) of two groups to a panel `[k][32]`.
#[inline(always)]
unsafe fn unpack<P: Decoded, I: Int>(s: I, groups: [*const u8; 2], k: Range<usize>, panel: *mut f32) {
    let lanes = <I::S as Simd>::LANES;
    let l = P::LAYOUT;
    let step = 4 * P::QUADS;
    // SAFETY: the caller's promise: the weights are there, the panel has room.
    unsafe {
        for (g, group) in groups.into_iter().enumerate() {
            for part in 0..GROUP / lanes {
                for from in k.clone().step_by(step) {
                    let (at, span) = (block::<P>(group, from / l.block, part * lanes), from % l.block / step);
                    let scale = P::scale(s, at, span);
                    for q in 0..s.opaque(P::QUADS) {
                        let to = panel.add((from - k.start + 4 * q) * ROWS + g * GROUP + part * lanes);
                        let quad = P::quad(s, at, span, q, scale);
                        for (i, w) in quad.into_iter().enumerate() {
                            s.simd().store(to.add(i * ROWS), w);
                        }
                    }
                }
            }
        }
    }
}

/// The rows of `range` for many tokens.
#[inline(always)]
unsafe fn many<P: Decoded, I: Int>(s: I, w: Weights, range: Range<usize>, x: Floats, out: Out, scratch: &mut Scratch) {
    let lanes = <I::S as Simd>::LANES;
    if range.is_empty() {
        return;
    }
    let pairs = range.len().div_ceil(ROWS);
    let tiled = x.tiled.unwrap_or_else(|| Tiled::none(s.level(), x.n, x.inp));
    let together = (CHAINS / (4 * ROWS * pairs * tiled.width())).max(4).min(tiled.tiles());
    let panel: *mut f32 = scratch.panel.at_least(CHUNK * ROWS * 4).cast();
    let chains: *mut f32 = scratch.chains.at_least(together * tiled.width() * pairs * ROWS * 4).cast();
    let last = (range.end - 1) / GROUP;
    // SAFETY: the caller's promise: whole groups, all tokens.
    unsafe {
        let groups = |pair: usize| {
            // Past the end the last group is computed again and not stored.
            let first = range.start / GROUP + 2 * pair;
            [w.base.add(first.min(last) * w.group_bytes), w.base.add((first + 1).min(last) * w.group_bytes)]
        };
        for from in (0..tiled.tiles()).step_by(together) {
            let tiles = from..(from + together).min(tiled.tiles());
            let (t0, tokens) = (tiled.token(from), tiled.token(tiles.end) - tiled.token(from));
            for k in (0..x.inp).step_by(CHUNK) {
                let kn = CHUNK.min(x.inp - k);
                for pair in 0..pairs {
                    unpack::<P, I>(s, groups(pair), k..k + kn, panel);
                    // What is unpacked next is fetched meanwhile, some lines per tile.
                    let (next, at) = if pair + 1 < pairs { (pair + 1, k) } else { (0, k + kn) };
                    let next = groups(next).map(|g| block::<P>(g, at / P::LAYOUT.block, 0).start());
                    let lines = P::LAYOUT.group_bytes(CHUNK / P::LAYOUT.block).div_ceil(LINE);
                    let share = lines.div_ceil(tiles.len());
                    for (i, tile) in tiles.clone().enumerate() {
                        for line in (i * share..(i + 1) * share).take_while(|&l| l < lines) {
                            next.iter().for_each(|g| s.simd().prefetch_far(g.wrapping_add(line * LINE)));
                        }
                        let (xs, ldx, step) = tiled.operand(k, tile, x.x, x.ld);
                        let (first, end) = (tiled.token(tile), tiled.token(tile + 1));
                        if k + kn == x.inp {
                            // So are the lines that are written soon: tokens lie far apart.
                            for t in first..end {
                                let y = out.ptr.wrapping_add(t * out.stride + range.start + pair * ROWS);
                                (0..ROWS / GROUP).for_each(|i| s.prefetch_to_write(y.wrapping_add(i * GROUP).cast()));
                            }
                        }
                        let tile = Tile {
                            panel: panel.cast(),
                            ld: ROWS * 4,
                            kn,
                            x: xs,
                            ldx,
                            step,
                            y: chains.add((pair * tokens + first - t0) * ROWS),
                            ldy: ROWS,
                            first: k == 0,
                            fetch: Fetch::NONE,
                        };
                        gemm::strips::<F32e>(s.level(), 0..ROWS, tile, end - first, gemm::NOTHING);
                    }
                }
            }
            for t in 0..tokens {
                for pair in 0..pairs {
                    for i in (0..ROWS).step_by(lanes) {
                        let v = s.simd().load(chains.add((pair * tokens + t) * ROWS + i));
                        let o = range.start + pair * ROWS + i;
                        store(s, v, o, range.end, out.ptr.add((t0 + t) * out.stride));
                    }
                }
            }
        }
    }
}
