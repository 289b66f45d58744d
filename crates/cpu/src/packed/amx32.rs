//! Many tokens by AMX for formats of blocks of 32: a tile instruction multiplies 16 tokens with 16 rows over one block.
//!
//! ```text
//! weights   codes less their offset, signed bytes      panel[block][group][quad][16 rows][4]: a tile as it lies
//! tokens    codes [16 tokens][32], as they lie
//! turn      2 blocks × 2 groups: C[block][group] = A[block] · B[block][group], exact in i32
//! vectors   per block: y = fma(d · d_x, C, y), the minimum's step     while the next turn's tiles run
//! ```
//! Every block has a scale of its own, so results leave the tiles every 32 weights: conversions and fmas are the bound,
//! about half of what the tiles could do.
//!
//! Does not own: the token and the configuration of tiles ([`super::amx`]).
#![allow(clippy::needless_range_loop)] // one index for several arrays of vectors
use super::{
    GROUP, LINE, Scratch, Weights,
    amx::{Amx, Config, MANY, Reader, SIDE, TILE, Tiles, prefetch_results},
    formats::{Min, Packed},
    int, kernel,
    x86::Vnni512,
};
use crate::dot::{Out, Tokens};
use std::{
    arch::{asm, x86_64::*},
    ops::Range,
};

/// Weights of a block.
const BLOCK: usize = 32;
/// Groups at once.
const GROUPS: usize = 2;
/// Blocks of a panel.
const CHUNK: usize = 8;
/// Blocks of a turn.
const TURN: usize = 2;
/// Bytes of a block's codes, sixteen rows.
const CODES: usize = BLOCK * GROUP;
/// Bytes of activations that all groups read again and again: they stay in the second level of cache.
const RESIDENT: usize = 5 << 18;

/// Results in tiles 0 to 3; activations in 4, 16 rows of 32 bytes; weights in 6 and 7, 8 rows of 64.
static CONFIG: Config = Config::new([(64, 16), (64, 16), (64, 16), (64, 16), (32, 16), (32, 16), (64, 8), (64, 8)]);

/// Block 0 or 1 of a turn: the codes at `x` times those of both groups at `w`, into results 0 and 1, or 2 and 3.
#[inline(always)]
unsafe fn multiply(second: bool, x: *const i8, ldx: usize, w: *const u8) {
    macro_rules! step {
        ($x:literal, $a:literal, $b:literal) => {
            asm!(
                concat!("tileloadd ", $x, ", [{x} + {ldx}]"),
                "tileloadd tmm6, [{w} + {line}]",
                "tileloadd tmm7, [{w} + {line} + 512]",
                concat!("tilezero ", $a),
                concat!("tdpbssd ", $a, ", ", $x, ", tmm6"),
                concat!("tilezero ", $b),
                concat!("tdpbssd ", $b, ", ", $x, ", tmm7"),
                x = in(reg) x, ldx = in(reg) ldx, w = in(reg) w, line = in(reg) LINE,
                options(nostack, readonly),
            )
        };
    }
    // SAFETY: configured tiles; 16 rows of codes `ldx` apart and two blocks of weights by the caller's promise.
    unsafe { if second { step!("tmm5", "tmm2", "tmm3") } else { step!("tmm4", "tmm0", "tmm1") } }
}

/// Writes results 0 and 1, or 2 and 3.
#[inline(always)]
unsafe fn store(second: bool, to: *mut i32) {
    macro_rules! step {
        ($a:literal, $b:literal) => {
            asm!(
                concat!("tilestored [{to} + {line}], ", $a),
                concat!("tilestored [{to} + {line} + 1024], ", $b),
                to = in(reg) to, line = in(reg) LINE,
                options(nostack),
            )
        };
    }
    // SAFETY: configured tiles; room for two by the caller's promise.
    unsafe { if second { step!("tmm2", "tmm3") } else { step!("tmm0", "tmm1") } }
}

/// What the vector steps of a turn read.
#[derive(Clone, Copy)]
struct Rest {
    /// Blocks: 1 or 2.
    blocks: usize,
    /// Tokens that are there.
    tokens: usize,
    /// `[blocks][GROUPS][16 tokens][16 rows]`.
    results: *const i32,
    /// Scales `[blocks][GROUPS][2][16 rows]`.
    scales: *const f32,
    /// Scales of the tokens and sums of their codes; `[tokens][stride]`, from the turn's first block on.
    d: *const f32,
    sums: *const f32,
    stride: usize,
    /// `[tokens][GROUPS][16 rows]`.
    chains: *mut f32,
}

/// The vector steps of token `t`.
#[inline(always)]
unsafe fn finish<P: Packed>(r: &Rest, t: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let chain = r.chains.add(t * GROUPS * GROUP);
        let mut acc = [_mm512_load_ps(chain), _mm512_load_ps(chain.add(GROUP))];
        for b in 0..r.blocks {
            let dx = _mm512_set1_ps(*r.d.add(t * r.stride + b));
            for g in 0..GROUPS {
                let sum = _mm512_load_si512(r.results.add((b * GROUPS + g) * SIDE * SIDE + t * SIDE).cast());
                let scales = r.scales.add((b * GROUPS + g) * 2 * GROUP);
                acc[g] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(scales), dx), _mm512_cvtepi32_ps(sum), acc[g]);
                if P::MIN == Min::Block {
                    let sum = _mm512_set1_ps(*r.sums.add(t * r.stride + b));
                    acc[g] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(scales.add(GROUP)), dx), sum, acc[g]);
                }
            }
        }
        _mm512_store_ps(chain, acc[0]);
        _mm512_store_ps(chain.add(GROUP), acc[1]);
    }
}

/// The vector steps of those of `tokens` that are there.
#[inline(always)]
unsafe fn finish_some<P: Packed>(r: &Rest, tokens: Range<usize>) {
    for t in tokens.start..tokens.end.min(r.tokens) {
        // SAFETY: handed on.
        unsafe { finish::<P>(r, t) };
    }
}

/// Unpacks block `b` of a group: codes, scales.
#[inline(always)]
unsafe fn unpack<P: Packed>(s: Vnni512, group: *const u8, b: usize, codes: *mut u8, scales_to: *mut f32) {
    // SAFETY: the caller's promise: the block is there, there is room.
    unsafe {
        let (scales, words) = P::LAYOUT.at(b);
        let [quads, ..] = P::span(s, group.add(words), 0);
        for (v, q) in quads.into_iter().enumerate() {
            let signed = _mm512_sub_epi8(q, _mm512_set1_epi8(P::OFFSET as i8));
            _mm512_store_si512(codes.add(v * LINE).cast(), signed);
        }
        let d = kernel::halves::<P, Vnni512>(s, group.add(scales));
        _mm512_store_ps(scales_to, d[0]);
        _mm512_store_ps(scales_to.add(GROUP), d[1]);
    }
}

/// The rows `range` for all tokens: tiles for many, vectors for few.
///
/// # Safety
/// As [`super::Kernel`].
pub unsafe fn run<P: Packed>(w: Weights, range: Range<usize>, tokens: Tokens<'_>, out: Out, scratch: &mut Scratch) {
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
unsafe fn many<P: Packed>(
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
    let most = together.min(tokens.n.next_multiple_of(SIDE));
    // Codes, scales, two turns of results.
    let panel = scratch.panel.at_least(GROUPS * CHUNK * (CODES + 2 * LINE) + 2 * TURN * GROUPS * TILE);
    let chains: *mut f32 = scratch.chains.at_least(most * GROUPS * LINE).cast();
    let sums: *mut f32 = scratch.sides.at_least(most * blocks * 4).cast();
    let tail: *mut i8 = scratch.tail.at_least(SIDE * inp).cast();
    // SAFETY: the caller's promise: whole groups, all tokens; the scratch was sized above.
    unsafe {
        let scales: *mut f32 = panel.add(GROUPS * CHUNK * CODES).cast();
        let results: *mut i32 = panel.add(GROUPS * CHUNK * (CODES + 2 * LINE)).cast();
        for t0 in (0..tokens.n).step_by(together) {
            let n = together.min(tokens.n - t0);
            if P::MIN == Min::Block {
                let sixteens = tokens.sums.as_ptr().add(t0 * inp / 16);
                for i in 0..n * blocks {
                    let sum = i32::from(*sixteens.add(2 * i)) + i32::from(*sixteens.add(2 * i + 1));
                    *sums.add(i) = sum as f32;
                }
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
                for from in (0..blocks).step_by(CHUNK) {
                    let some = CHUNK.min(blocks - from);
                    for b in 0..some {
                        for (i, g) in pair.into_iter().enumerate() {
                            let at = b * GROUPS + i;
                            let group = w.base.add(g * w.group_bytes);
                            unpack::<P>(s, group, from + b, panel.add(at * CODES), scales.add(at * 2 * GROUP));
                        }
                    }
                    let mut before: Option<Rest> = None;
                    let mut turn = 0;
                    let reader = Reader { tokens, t0, codes, tail, whole };
                    for tile in 0..n.div_ceil(SIDE) {
                        if from + some == blocks {
                            prefetch_results(s, out, t0 + tile * SIDE..t0 + n.min((tile + 1) * SIDE), pair);
                        }
                        for b in (0..some).step_by(TURN) {
                            let now = results.add(turn % 2 * TURN * GROUPS * TILE / 4);
                            let codes = panel.add(b * GROUPS * CODES);
                            // Results are stored and used half a turn and more after their products were begun.
                            let (x, ldx) = reader.tile(tile, (from + b) * BLOCK);
                            multiply(false, x, ldx, codes);
                            // A line holds the codes of two blocks.
                            reader.prefetch(tile + 1, (from + b) * BLOCK);
                            if let Some(r) = &before {
                                store(true, r.results.add(GROUPS * TILE / 4).cast_mut());
                                finish_some::<P>(r, 0..SIDE / 2);
                            }
                            if b + 1 < some {
                                let (x, ldx) = reader.tile(tile, (from + b + 1) * BLOCK);
                                multiply(true, x, ldx, codes.add(GROUPS * CODES));
                            }
                            store(false, now);
                            if let Some(r) = &before {
                                finish_some::<P>(r, SIDE / 2..SIDE);
                            }
                            let at = tile * SIDE * blocks + from + b;
                            before = Some(Rest {
                                blocks: TURN.min(some - b),
                                tokens: SIDE.min(n - tile * SIDE),
                                results: now,
                                scales: scales.add(b * GROUPS * 2 * GROUP),
                                d: tokens.d.as_ptr().add(t0 * blocks + at),
                                sums: sums.add(at),
                                stride: blocks,
                                chains: chains.add(tile * SIDE * GROUPS * GROUP),
                            });
                            turn += 1;
                        }
                    }
                    if let Some(r) = &before {
                        store(true, r.results.add(GROUPS * TILE / 4).cast_mut());
                        finish_some::<P>(r, 0..SIDE);
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
