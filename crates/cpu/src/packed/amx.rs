//! Many tokens by AMX: a tile instruction multiplies 16 tokens with 16 rows over 64 weights.
//!
//! ```text
//! weights   w' = scale · (code - offset), a whole number of up to 13 bits, as two planes of bytes:
//!           w' = low + 2^SHIFT · high            panel[group][plane][quad][16 rows][4]: a tile as it lies
//! tokens    codes [16 tokens][64], as they lie
//! tiles     C[group][plane] += A · B             4 per block of 256 and two groups, exact in i32
//! vectors   s = low + (high << SHIFT); y = fma(d · d_x, s, y); the minimum's step     while the next tiles run
//! ```
//! The scale is inside the integers, so a tile leaves the registers once per block and not once per sub-block. Sums are
//! those of the format's scalar `dot`: all terms are whole numbers below its bound.
//!
//! Stable Rust has no intrinsics for tiles: instructions are written out. A thread's tiles are configured when a task
//! begins and released when it ends, so that nothing of them is left in a parked thread.
#![allow(clippy::needless_range_loop)] // one index for several arrays of vectors
use super::{
    GROUP, LINE, Scratch, Weights,
    formats::{Min, PER_SPAN, Packed, Q2K, Q3K, Q4K, Q5K, Q6K, QUADS, SUBS},
    int::{self, Int},
    kernel,
    x86::Vnni512,
};
use crate::dot::{Out, Tokens};
use std::{
    arch::{asm, x86_64::*},
    ops::Range,
};

/// Tokens from which tiles win over vectors.
pub const MANY: usize = 12;
/// Tokens and rows of a tile.
pub const SIDE: usize = 16;
/// Weights of a step: the bytes of a tile's row.
const STEP: usize = 64;
/// Weights of a block.
const BLOCK: usize = 256;
/// Groups at once.
const GROUPS: usize = 2;
/// Bytes of activations that all groups read again and again: they stay in the second level of cache.
const RESIDENT: usize = 5 << 18;
/// Bytes of a plane of a block.
const PLANE: usize = BLOCK * GROUP;
/// Bytes of a tile.
pub const TILE: usize = SIDE * LINE;

/// Proof of AMX for 8-bit integers, and of the system's permission to use it.
#[derive(Clone, Copy)]
pub struct Amx(pub(super) Vnni512);

impl Amx {
    /// Where the machine and the system have it.
    pub fn new() -> Option<Amx> {
        Vnni512::new().filter(|_| crate::isa::has_amx_int8()).map(Amx)
    }
}

/// How a format's weights become planes of bytes.
pub trait Planes: Packed {
    /// Number of planes.
    const PLANES: usize;
    /// Weight of the second plane: `2^SHIFT`.
    const SHIFT: u32;
    /// Whether planes hold unsigned bytes.
    const UNSIGNED: bool;

    /// Four codes of a row in each word, with that row's scale in both halves of the word.
    ///
    /// # Safety
    /// AVX-512 BW.
    unsafe fn planes(q: __m512i, scale: __m512i) -> [__m512i; 2];
}

/// The scale (6 bits) in two digits of 3: a code of up to 5 bits times a digit is a byte, so one product of 16-bit
/// halves makes two of bytes.
macro_rules! digits {
    ($($name:ident)*) => {$(
        impl Planes for $name {
            const PLANES: usize = 2;
            const SHIFT: u32 = 3;
            const UNSIGNED: bool = true;

            #[inline(always)]
            unsafe fn planes(q: __m512i, scale: __m512i) -> [__m512i; 2] {
                // SAFETY: the caller's promise.
                unsafe {
                    let digit = _mm512_set1_epi16(7);
                    let low = _mm512_and_si512(scale, digit);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<3>(scale), digit);
                    [_mm512_mullo_epi16(q, low), _mm512_mullo_epi16(q, high)]
                }
            }
        }
    )*};
}

digits!(Q4K Q5K);

/// A scale of 4 bits times a code of 2 is a byte.
impl Planes for Q2K {
    const PLANES: usize = 1;
    const SHIFT: u32 = 0;
    const UNSIGNED: bool = true;

    #[inline(always)]
    unsafe fn planes(q: __m512i, scale: __m512i) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm512_mullo_epi16(q, scale), _mm512_setzero_si512()] }
    }
}

/// A signed scale of up to 8 bits times a signed code: 7 bits below, the rest above.
macro_rules! signed_planes {
    ($($name:ident)*) => {$(
        impl Planes for $name {
            const PLANES: usize = 2;
            const SHIFT: u32 = 7;
            const UNSIGNED: bool = false;

            #[inline(always)]
            unsafe fn planes(q: __m512i, scale: __m512i) -> [__m512i; 2] {
                // SAFETY: the caller's promise.
                unsafe { signed(q, scale, $name::OFFSET as i16) }
            }
        }
    )*};
}

signed_planes!(Q3K Q6K);

/// `scale · (code - offset)` as seven bits below and the rest, signed, above.
#[inline(always)]
unsafe fn signed(q: __m512i, scale: __m512i, offset: i16) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let (even, seven) = (_mm512_set1_epi16(0xff), _mm512_set1_epi16(0x7f));
        let whole = |q| _mm512_mullo_epi16(_mm512_sub_epi16(q, _mm512_set1_epi16(offset)), scale);
        let (a, b) = (whole(_mm512_and_si512(q, even)), whole(_mm512_srli_epi16::<8>(q)));
        let join = |a, b| _mm512_or_si512(_mm512_and_si512(a, even), _mm512_slli_epi16::<8>(b));
        let low = join(_mm512_and_si512(a, seven), _mm512_and_si512(b, seven));
        [low, join(_mm512_srai_epi16::<7>(a), _mm512_srai_epi16::<7>(b))]
    }
}

/// Tile configuration.
#[repr(C, align(64))]
pub struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Bytes of a row and rows of each tile.
    pub const fn new(tiles: [(u16, u8); 8]) -> Config {
        let (mut bytes, mut rows) = ([0; 16], [0; 16]);
        let mut i = 0;
        while i < 8 {
            (bytes[i], rows[i]) = tiles[i];
            i += 1;
        }
        Config { palette: 1, start: 0, reserved: [0; 14], bytes, rows }
    }
}

/// All eight of 16 rows of 64 bytes.
static CONFIG: Config = Config::new([(STEP as u16, SIDE as u8); 8]);

/// Tiles of this thread, configured; released at the end.
pub struct Tiles;

impl Tiles {
    /// Tiles as `config` says.
    pub fn new(_: Amx, config: &'static Config) -> Tiles {
        // SAFETY: the token proves the instruction and the permission.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const *config, options(nostack, readonly)) };
        Tiles
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Zeroes the results (tiles 0 to 3).
#[inline(always)]
unsafe fn zero() {
    // SAFETY: configured tiles by the caller's promise.
    unsafe { asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem)) }
}

/// One step of 64 weights: the tile of codes at `x` times those at `w`, `w + plane`, …, onto results 0 to 3.
#[inline(always)]
unsafe fn multiply<P: Planes>(x: *const i8, ldx: usize, w: *const u8) {
    macro_rules! step {
        ($product:literal, two) => {
            asm!(
                "tileloadd tmm4, [{x} + {ldx}]",
                "tileloadd tmm5, [{w} + {line}]",
                "tileloadd tmm6, [{w} + {line} + 4096]",
                concat!($product, " tmm0, tmm4, tmm5"),
                "tileloadd tmm7, [{w} + {line} + 8192]",
                concat!($product, " tmm1, tmm4, tmm6"),
                "tileloadd tmm5, [{w} + {line} + 12288]",
                concat!($product, " tmm2, tmm4, tmm7"),
                concat!($product, " tmm3, tmm4, tmm5"),
                x = in(reg) x, ldx = in(reg) ldx, w = in(reg) w, line = in(reg) LINE,
                options(nostack, readonly),
            )
        };
        ($product:literal, one) => {
            asm!(
                "tileloadd tmm4, [{x} + {ldx}]",
                "tileloadd tmm5, [{w} + {line}]",
                "tileloadd tmm6, [{w} + {line} + 4096]",
                concat!($product, " tmm0, tmm4, tmm5"),
                concat!($product, " tmm1, tmm4, tmm6"),
                x = in(reg) x, ldx = in(reg) ldx, w = in(reg) w, line = in(reg) LINE,
                options(nostack, readonly),
            )
        };
    }
    // SAFETY: configured tiles; 16 rows of codes `ldx` apart and the planes by the caller's promise.
    unsafe {
        match (P::UNSIGNED, P::PLANES) {
            (true, 1) => step!("tdpbsud", one),
            (true, _) => step!("tdpbsud", two),
            (false, 1) => step!("tdpbssd", one),
            (false, _) => step!("tdpbssd", two),
        }
    }
}

/// Writes the results to `to`, tile by tile.
#[inline(always)]
unsafe fn store(to: *mut i32) {
    // SAFETY: configured tiles; room for four by the caller's promise.
    unsafe {
        asm!(
            "tilestored [{to} + {line}], tmm0",
            "tilestored [{to} + {line} + 1024], tmm1",
            "tilestored [{to} + {line} + 2048], tmm2",
            "tilestored [{to} + {line} + 3072], tmm3",
            to = in(reg) to, line = in(reg) LINE,
            options(nostack),
        );
    }
}

/// What the vector steps of a block need of its weights.
#[derive(Clone, Copy)]
struct Steps {
    d: [__m512; 2],
    mins: [__m512i; SUBS / 2],
}

/// Unpacks block `b` of a group to its planes.
#[inline(always)]
unsafe fn unpack<P: Planes>(s: Vnni512, group: *const u8, b: usize, planes: *mut u8) -> Steps {
    // SAFETY: the caller's promise: the block is there, the planes have room.
    unsafe {
        let (scales, words) = P::LAYOUT.at(b);
        let p = group.add(words);
        let factors = P::scales(s, p);
        for span in 0..P::SPANS {
            let q: [[__m512i; QUADS]; PER_SPAN] = P::span(s, p, span);
            for (k, q) in q.iter().enumerate().take(P::PER) {
                let sub = P::sub(span, k);
                let factor = factors[sub];
                let both = _mm512_mask_mov_epi16(_mm512_slli_epi32::<16>(factor), 0x5555_5555, factor);
                for (v, q) in q.iter().enumerate().take(P::SUB / 4) {
                    let parts = P::planes(*q, both);
                    let at = planes.add((sub * P::SUB / 4 + v) * LINE);
                    for (i, part) in parts.into_iter().enumerate().take(P::PLANES) {
                        _mm512_store_si512(at.add(i * PLANE).cast(), part);
                    }
                }
            }
        }
        Steps { d: kernel::halves::<P, Vnni512>(s, group.add(scales)), mins: P::mins(s, p) }
    }
}

/// What the vector steps read besides the weights.
struct Rest {
    /// Results of a tile of tokens: `[GROUPS · PLANES][16 tokens][16 rows]`.
    results: *const i32,
    /// Pairs of sums of the first token's block; elements to the next token.
    pairs: *const i32,
    pair_stride: usize,
    /// Scale of the first token's block; elements to the next token.
    d: *const f32,
    d_stride: usize,
    /// Chains `[tokens][GROUPS][16]`.
    chains: *mut f32,
}

/// The vector steps of token `t` of a tile.
#[inline(always)]
unsafe fn finish<P: Planes>(steps: &[Steps; GROUPS], r: &Rest, t: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let dx = _mm512_set1_ps(*r.d.add(t * r.d_stride));
        for (g, steps) in steps.iter().enumerate() {
            let at = r.results.add(g * P::PLANES * SIDE * SIDE + t * SIDE);
            let mut sum = _mm512_load_si512(at.cast());
            if P::PLANES == 2 {
                let high = _mm512_load_si512(at.add(SIDE * SIDE).cast());
                sum = _mm512_add_epi32(
                    sum,
                    if P::SHIFT == 3 { _mm512_slli_epi32::<3>(high) } else { _mm512_slli_epi32::<7>(high) },
                );
            }
            let chain = r.chains.add((t * GROUPS + g) * GROUP);
            let mut acc =
                _mm512_fmadd_ps(_mm512_mul_ps(steps.d[0], dx), _mm512_cvtepi32_ps(sum), _mm512_load_ps(chain));
            if P::MIN == Min::Sub {
                let pairs = r.pairs.add(t * r.pair_stride);
                let mut min = _mm512_setzero_si512();
                for i in 0..P::COUNT / 2 {
                    min = _mm512_dpwssd_epi32(min, steps.mins[i], _mm512_set1_epi32(*pairs.add(i)));
                }
                acc = _mm512_fnmadd_ps(_mm512_mul_ps(steps.d[1], dx), _mm512_cvtepi32_ps(min), acc);
            }
            _mm512_store_ps(chain, acc);
        }
    }
}

/// Sums of sub-blocks in pairs of 16 bits, in the order of [`Packed::mins`]: `[n][blocks][COUNT / 2]`.
#[inline(always)]
unsafe fn pairs<P: Planes>(tokens: Tokens<'_>, t0: usize, n: usize, to: *mut i32) {
    let blocks = tokens.inp / BLOCK;
    // SAFETY: the caller's promise: the sums of every block, room for their pairs.
    unsafe {
        // Of every four: 0 2 1 3.
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
        for i in 0..n * blocks {
            let sixteens = _mm256_loadu_si256(tokens.sums.as_ptr().add((t0 * blocks + i) * (BLOCK / 16)).cast());
            let to = to.add(i * P::COUNT / 2);
            if P::SUB == 16 {
                _mm256_storeu_si256(to.cast(), _mm256_shuffle_epi8(sixteens, order));
            } else {
                let sums = _mm256_cvtepi32_epi16(_mm256_madd_epi16(sixteens, _mm256_set1_epi16(1)));
                _mm_storeu_si128(to.cast(), _mm_shuffle_epi8(sums, _mm256_castsi256_si128(order)));
            }
        }
    }
}

/// Where tiles of codes come from.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub tokens: Tokens<'a>,
    /// First token of the pass; its codes.
    pub t0: usize,
    pub codes: *const i8,
    /// Codes of the last tile, if it is not full, with rows of zeros; number of full ones.
    pub tail: *const i8,
    pub whole: usize,
}

impl Reader<'_> {
    /// Codes `from ..` (a multiple of 32) of tile `tile` of the pass, and bytes from a token to the next.
    #[inline(always)]
    pub fn tile(&self, tile: usize, from: usize) -> (*const i8, usize) {
        let inp = self.tokens.inp;
        match &self.tokens.tiles {
            Some(tiles) => (tiles.of(self.t0 / SIDE + tile, from), STEP),
            None if tile < self.whole => (self.codes.wrapping_add(tile * SIDE * inp + from), inp),
            None => (self.tail.wrapping_add(from), inp),
        }
    }

    /// Asks for those codes, in the first level of cache.
    #[inline(always)]
    pub fn prefetch(&self, tile: usize, from: usize) {
        let (x, ldx) = self.tile(tile, from);
        for row in 0..SIDE {
            // SAFETY: a hint at any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add(row * ldx)) };
        }
    }
}

/// Asks for the lines that the results of `tokens` go to: tokens lie far apart.
#[inline(always)]
pub fn prefetch_results(s: Vnni512, out: Out, tokens: Range<usize>, groups: [usize; GROUPS]) {
    for t in tokens {
        for g in groups {
            s.prefetch_to_write(out.ptr.wrapping_add(t * out.stride + g * GROUP).cast());
        }
    }
}

/// The rows `range` for all tokens: tiles for many, vectors for few.
///
/// # Safety
/// As [`super::Kernel`].
pub unsafe fn run<P: Planes>(w: Weights, range: Range<usize>, tokens: Tokens<'_>, out: Out, scratch: &mut Scratch) {
    let token = Amx::new().expect("the kernel was asked for");
    // SAFETY: the token is the proof of the instructions; the rest is handed on.
    unsafe {
        if tokens.n < MANY {
            return super::vnni512::<P>(w, range, tokens, out, scratch);
        }
        let _tiles = Tiles::new(token, &CONFIG);
        many::<P>(token, w, range, tokens, out, scratch);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi1,bmi2")]
unsafe fn many<P: Planes>(
    Amx(s): Amx,
    w: Weights,
    range: Range<usize>,
    tokens: Tokens<'_>,
    out: Out,
    scratch: &mut Scratch,
) {
    let (inp, blocks) = (tokens.inp, tokens.inp / BLOCK);
    let together = (RESIDENT / inp).next_multiple_of(SIDE).max(4 * SIDE);
    let (groups, last) = (range.start / GROUP..range.end.div_ceil(GROUP), range.end.div_ceil(GROUP) - 1);
    let tiles = GROUPS * P::PLANES;
    let most = together.min(tokens.n.next_multiple_of(SIDE));
    // Planes, then two sets of results.
    let panel = scratch.panel.at_least(tiles * PLANE + 2 * 4 * TILE);
    let chains: *mut f32 = scratch.chains.at_least(most * GROUPS * LINE).cast();
    let sides: *mut i32 = scratch.sides.at_least(most * blocks * P::COUNT / 2 * 4).cast();
    let tail: *mut i8 = scratch.tail.at_least(SIDE * inp).cast();
    // SAFETY: the caller's promise: whole groups, all tokens; the scratch was sized above.
    unsafe {
        let results: *mut i32 = panel.add(tiles * PLANE).cast();
        for t0 in (0..tokens.n).step_by(together) {
            let n = together.min(tokens.n - t0);
            if P::MIN == Min::Sub {
                pairs::<P>(tokens, t0, n, sides);
            }
            // The last tile of tokens, if it is not full, from a copy with rows of zeros.
            let codes = tokens.q.as_ptr().add(t0 * inp);
            let (whole, rest) = (n / SIDE, n % SIDE);
            if rest > 0 && tokens.tiles.is_none() {
                std::ptr::copy_nonoverlapping(codes.add(whole * SIDE * inp), tail, rest * inp);
                std::ptr::write_bytes(tail.add(rest * inp), 0, (SIDE - rest) * inp);
            }
            for g in groups.clone().step_by(GROUPS) {
                let pair = [g, (g + 1).min(last)];
                std::slice::from_raw_parts_mut(chains, n * GROUPS * GROUP).fill(0.0);
                for b in 0..blocks {
                    let reader = Reader { tokens, t0, codes, tail, whole };
                    let mut steps =
                        [Steps { d: [_mm512_setzero_ps(); 2], mins: [_mm512_setzero_si512(); SUBS / 2] }; 2];
                    for (i, g) in pair.into_iter().enumerate() {
                        let planes = panel.add(i * P::PLANES * PLANE);
                        steps[i] = unpack::<P>(s, w.base.add(g * w.group_bytes), b, planes);
                    }
                    let rest_of = |tile: usize, turn: usize| Rest {
                        results: results.add(turn * 4 * TILE / 4),
                        pairs: sides.add((tile * SIDE * blocks + b) * P::COUNT / 2),
                        pair_stride: blocks * P::COUNT / 2,
                        d: tokens.d.as_ptr().add((t0 + tile * SIDE) * blocks + b),
                        d_stride: blocks,
                        chains: chains.add(tile * SIDE * GROUPS * GROUP),
                    };
                    let count = n.div_ceil(SIDE);
                    for tile in 0..count {
                        if b + 1 == blocks {
                            prefetch_results(s, out, t0 + tile * SIDE..t0 + n.min((tile + 1) * SIDE), pair);
                        }
                        let before = (tile > 0).then(|| rest_of(tile - 1, (tile - 1) % 2));
                        zero();
                        for k in 0..BLOCK / STEP {
                            let (x, ldx) = reader.tile(tile, b * BLOCK + k * STEP);
                            multiply::<P>(x, ldx, panel.add(k * TILE));
                            reader.prefetch(tile + 1, b * BLOCK + k * STEP);
                            if let Some(before) = &before {
                                for t in 0..SIDE / (BLOCK / STEP) {
                                    finish::<P>(&steps, before, k * (SIDE * STEP / BLOCK) + t);
                                }
                            }
                        }
                        store(results.add(tile % 2 * 4 * TILE / 4));
                    }
                    let left = rest_of(count - 1, (count - 1) % 2);
                    for t in 0..n - (count - 1) * SIDE {
                        finish::<P>(&steps, &left, t);
                    }
                }
                for t in 0..n {
                    for (i, g) in pair.into_iter().enumerate().take(groups.end - g) {
                        let v = _mm512_load_ps(chains.add((t * GROUPS + i) * GROUP));
                        int::store(s, v, g * GROUP, range.end, out.ptr.add((t0 + t) * out.stride));
                    }
                }
            }
        }
    }
}
