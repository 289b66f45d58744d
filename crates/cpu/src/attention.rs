//! Attention over spans of a page each (rule 4 of docs/numerics.md), several queries at a time.
//!
//! A piece of work is a run of tokens of one sequence, one key/value head and some of the query heads that share it:
//! ```text
//! per span   scores [queries][PAGE]   = chains over k_dim of the page's keys  [k_dim][PAGE]
//!            weights, their maximum and sum (sixteen lanes by position)
//!            values [queries][v_dim]  = chains over positions of the rows     [PAGE][v_dim]
//!            joined to what the earlier spans gave
//! ```
//! Both products are the tiles of [`crate::gemm`] over the cache's own memory. Queries that see the same positions
//! of a span go together; masked positions are never read as values. Latent rows (MLA) are transposed once per span
//! and piece for the scores of all heads. Does not own: the cache's layout ([`crate::kv`]).
use crate::{
    gemm::{self, Code, Elem, F16e, F32e, Fetch, I8e, Pack, STRIP, Tile},
    kv::Cache,
    product::{Engine, PerThread, Ptr},
    simd::{Level, Simd, kernel},
    vmath,
};
use pondera_ops::{Act, Attention, Batch, KvType, PAGE, Sequence};
use std::ops::Range;

/// Queries of a piece, about.
const QUERIES: usize = 32;

/// Memory kept between steps.
pub struct Scratch {
    pieces: Vec<Piece>,
    threads: PerThread<Buffers>,
}

impl Scratch {
    /// For a pool of this many threads.
    pub fn new(threads: usize) -> Scratch {
        Scratch { pieces: Vec::new(), threads: PerThread::new(threads) }
    }
}

/// A piece of work: rows of a sequence, a key/value head, a part of its group of query heads.
#[derive(Clone, Copy)]
struct Piece {
    sequence: usize,
    rows: (usize, usize),
    kv_head: usize,
    heads: (usize, usize),
}

/// A thread's own memory.
#[derive(Default)]
struct Buffers {
    q: Vec<f32>,
    scores: Vec<f32>,
    values: Vec<f32>,
    y: Vec<f32>,
    keys: Vec<f32>,
    /// Maximum and sum so far, per query.
    state: Vec<(f32, f32)>,
    /// Maximum and sum of the span, per query.
    spans: Vec<(f32, f32)>,
}

/// What the pieces share.
struct Work<'a> {
    level: Level,
    a: &'a Attention,
    sinks: Option<&'a [f32]>,
    cache: &'a Cache,
    batch: &'a Batch,
    q: &'a [f32],
    q_cols: usize,
    y: Ptr<f32>,
}

/// Attends from `q` into `y`.
pub fn run(engine: &Engine, scratch: &mut Scratch, a: &Attention, cache: &Cache, q: &Act, batch: &Batch, y: &Act) {
    let group = a.heads / a.kv_heads;
    let ns = plan(engine, a, batch, group, &mut scratch.pieces);
    let q_data = q.data();
    let work = Work {
        level: engine.level,
        a,
        sinks: a.sinks.as_ref().map(|s| s.vector()),
        cache,
        batch,
        q: &q_data,
        q_cols: q.cols,
        y: Ptr(y.data_mut().as_mut_ptr()),
    };
    let (pieces, threads) = (&scratch.pieces, &scratch.threads);
    let task = |thread: usize, i: usize| {
        // SAFETY: the thread's own buffers; pieces write disjoint rows and heads.
        unsafe {
            let buffers = threads.of(thread);
            match cache.kv {
                KvType::F32 => piece::<F32e>(&work, &pieces[i], buffers),
                KvType::F16 => piece::<F16e>(&work, &pieces[i], buffers),
                KvType::Q8 => piece::<I8e>(&work, &pieces[i], buffers),
            }
        }
    };
    if ns < crate::product::INLINE_NS {
        (0..pieces.len()).for_each(|i| task(0, i));
    } else {
        engine.pool.run(pieces.len(), &task);
    }
}

/// Cuts the work into pieces, the longest first; returns its rough time.
fn plan(engine: &Engine, a: &Attention, batch: &Batch, group: usize, pieces: &mut Vec<Piece>) -> usize {
    pieces.clear();
    let seen = |r: usize| {
        let p = batch.positions[r] as usize;
        p + 1 - a.mask.first(p)
    };
    let rows = batch.sequences.iter().flat_map(|s| s.rows.clone());
    let ns = rows.map(seen).sum::<usize>() * a.heads * (a.qk_dim + a.v_dim) / 14;
    // Heads of a group go together, unless there would be too few pieces for the threads.
    let mut heads = group.min(QUERIES);
    if ns >= crate::product::INLINE_NS {
        while heads > 1 && batch.len() * a.kv_heads * group.div_ceil(heads) < engine.pool.threads() {
            heads = heads.div_ceil(2);
        }
    }
    let tokens = (QUERIES / heads).max(1);
    for (sequence, s) in batch.sequences.iter().enumerate() {
        let mut end = s.rows.end;
        while end > s.rows.start {
            let rows = (s.rows.start.max(end.saturating_sub(tokens)), end);
            for kv_head in 0..a.kv_heads {
                for h in (0..group).step_by(heads) {
                    pieces.push(Piece { sequence, rows, kv_head, heads: (h, group.min(h + heads)) });
                }
            }
            end = rows.0;
        }
    }
    ns
}

/// The visible positions of a span, relative to its start, for a query at `p`.
fn visible(a: &Attention, p: usize, span: usize) -> Option<(usize, usize)> {
    let first = a.mask.first(p);
    let start = span * PAGE;
    (span >= first / PAGE && span <= p / PAGE).then(|| (first.max(start) - start, (p + 1).min(start + PAGE) - start))
}

unsafe fn piece<E: Elem>(w: &Work<'_>, piece: &Piece, b: &mut Buffers) {
    let (a, cache) = (w.a, w.cache);
    let s = &w.batch.sequences[piece.sequence];
    let heads = piece.heads.1 - piece.heads.0;
    let (rows, k_dim) = (piece.rows.0..piece.rows.1, cache.spec.k_dim.min(a.qk_dim));
    let n = rows.len() * heads;
    let pad = a.v_dim.next_multiple_of(STRIP);
    let group = a.heads / a.kv_heads;
    let head = piece.kv_head * group + piece.heads.0;
    grow(&mut b.q, n * k_dim);
    grow(&mut b.scores, n * PAGE);
    grow(&mut b.values, n * pad);
    grow(&mut b.y, n * pad);
    b.y[..n * pad].fill(0.0);
    b.state.clear();
    b.state.resize(n, (f32::NEG_INFINITY, 0.0));
    for (i, q) in b.q[..n * k_dim].chunks_exact_mut(k_dim.max(1)).enumerate() {
        let (r, h) = (rows.start + i / heads, head + i % heads);
        q.copy_from_slice(&w.q[r * w.q_cols + h * a.qk_dim..][..k_dim]);
    }
    let position = |r: usize| w.batch.positions[r] as usize;
    for span in a.mask.first(position(rows.start)) / PAGE..=position(rows.end - 1) / PAGE {
        let mut transposed = false;
        let mut r = rows.start;
        while r < rows.end {
            let range = visible(a, position(r), span);
            let same = (r..rows.end).take_while(|&t| visible(a, position(t), span) == range).count();
            if let Some((from, to)) = range {
                let queries = (r - rows.start) * heads..(r - rows.start + same) * heads;
                // SAFETY: the page was written up to the last visible position; buffers hold all queries.
                unsafe {
                    if cache.spec.v_dim.is_none() && !transposed {
                        transpose::<E>(w, s, span, piece.kv_head, k_dim, b);
                        transposed = true;
                    }
                    span_of::<E>(w, s, span, piece.kv_head, k_dim, queries, from..to, b);
                }
            }
            r += same;
        }
    }
    for i in 0..n {
        let (r, h) = (rows.start + i / heads, head + i % heads);
        let y = &mut b.y[i * pad..][..a.v_dim];
        let (mut max, mut sum) = b.state[i];
        // SAFETY: matching lengths; row r, head h of y is this piece's.
        unsafe {
            if let Some(sinks) = w.sinks {
                let (old, new) = factors(w.level, &mut max, sinks[h]);
                sum = 1.0f32.mul_add(new, sum * old);
                vmath::scale(w.level, y, old);
            }
            vmath::scale(w.level, y, 1.0 / sum);
            let out = w.y.get().add((r * a.heads + h) * a.v_dim);
            std::ptr::copy_nonoverlapping(y.as_ptr(), out, a.v_dim);
        }
    }
}

fn grow(v: &mut Vec<f32>, n: usize) {
    if v.len() < n {
        v.resize(n, 0.0);
    }
}

/// The factors on what was there and on what joins, and the new maximum.
fn factors(level: Level, max: &mut f32, joins: f32) -> (f32, f32) {
    let top = if joins > *max || joins.is_nan() { joins } else { *max };
    // SAFETY: plain numbers.
    let (old, new) = unsafe { (vmath::exp_one(level, *max - top), vmath::exp_one(level, joins - top)) };
    *max = top;
    (old, new)
}

/// Latent rows of a span to `[k_dim][PAGE]`.
unsafe fn transpose<E: Elem>(w: &Work<'_>, s: &Sequence, span: usize, head: usize, k_dim: usize, b: &mut Buffers) {
    grow(&mut b.keys, k_dim * PAGE);
    let stride = w.cache.row_pad() * E::SIZE;
    let base = w.cache.rows(s.pages[span] as usize, head);
    let pointers: [*const u8; PAGE] = std::array::from_fn(|i| base.wrapping_add(i * stride));
    let pack =
        Pack { rows: pointers.as_ptr(), groups: PAGE / w.level.lanes(), k0: 0, kn: k_dim, dst: b.keys.as_mut_ptr() };
    let code = match w.cache.kv {
        KvType::F32 => Code::F32,
        KvType::F16 => Code::F16,
        KvType::Q8 => Code::I8,
    };
    // SAFETY: a page holds PAGE rows of at least k_dim elements.
    unsafe { gemm::pack_rows(w.level, code, &pack) }
}

/// One span for queries that all see its positions `seen`.
#[allow(clippy::too_many_arguments)]
unsafe fn span_of<E: Elem>(
    w: &Work<'_>,
    s: &Sequence,
    span: usize,
    head: usize,
    k_dim: usize,
    queries: Range<usize>,
    seen: Range<usize>,
    b: &mut Buffers,
) {
    let (a, level, n) = (w.a, w.level, queries.len());
    let page = s.pages[span] as usize;
    let pad = a.v_dim.next_multiple_of(STRIP);
    let columns = seen.start / STRIP * STRIP..seen.end.next_multiple_of(STRIP);
    let scores = &mut b.scores[queries.start * PAGE..queries.end * PAGE];
    let mut tile = Tile {
        panel: b.keys.as_ptr().cast(),
        ld: PAGE * 4,
        kn: k_dim,
        x: b.q[queries.start * k_dim..].as_ptr(),
        ldx: k_dim,
        step: 1,
        y: scores.as_mut_ptr(),
        ldy: PAGE,
        first: true,
        fetch: Fetch::NONE,
    };
    // SAFETY: the panel has k_dim rows of PAGE keys; the buffers hold these queries.
    unsafe {
        if w.cache.spec.v_dim.is_none() {
            gemm::strips::<F32e>(level, columns, tile, n);
        } else {
            tile.panel = w.cache.keys(page, head);
            tile.ld = PAGE * E::SIZE;
            gemm::strips::<E>(level, columns, tile, n);
        }
    }
    let scales = w.cache.scales(page, head);
    b.spans.clear();
    for weights in scores.chunks_exact_mut(PAGE) {
        // SAFETY: PAGE weights, PAGE scales.
        b.spans.push(unsafe { softmax(level, weights, &seen, a.scale, a.softcap, scales) });
    }
    // SAFETY: rows of at least `pad` elements, of which the visible ones are read; the buffers hold these queries.
    unsafe {
        let ld = w.cache.row_pad() * E::SIZE;
        let tile = Tile {
            panel: w.cache.rows(page, head).add(seen.start * ld),
            ld,
            kn: seen.len(),
            x: scores.as_ptr().add(seen.start),
            ldx: PAGE,
            step: 1,
            y: b.values[queries.start * pad..].as_mut_ptr(),
            ldy: pad,
            first: true,
            fetch: Fetch::NONE,
        };
        gemm::strips::<E>(level, 0..pad, tile, n);
        for (q, &(max, sum)) in queries.zip(&b.spans) {
            let (top, before) = &mut b.state[q];
            let (old, new) = factors(level, top, max);
            *before = sum.mul_add(new, *before * old);
            vmath::join(level, &mut b.y[q * pad..][..a.v_dim], &b.values[q * pad..][..a.v_dim], old, new);
        }
    }
}

kernel!(
    /// Scores to unnormalised weights over the positions `seen` (0 elsewhere); their maximum and sum. Scales of keys are
    /// multiplied into the scores, those of values into the weights.
    unsafe fn softmax(
        weights: &mut [f32],
        seen: &Range<usize>,
        scale: f32,
        cap: Option<f32>,
        scales: Option<[&[f32]; 2]>,
    ) -> (f32, f32) = softmax_body
);

#[inline(always)]
unsafe fn softmax_body<S: Simd>(
    s: S,
    w: &mut [f32],
    seen: &Range<usize>,
    scale: f32,
    cap: Option<f32>,
    scales: Option<[&[f32]; 2]>,
) -> (f32, f32) {
    // SAFETY: PAGE is a whole number of vectors, and w and the scales hold PAGE.
    unsafe {
        let w = &mut w[..PAGE];
        for i in (0..PAGE).step_by(S::LANES) {
            let v = s.load(w.as_ptr().add(i));
            let v = match scales {
                Some([keys, _]) => s.mul(v, s.load(keys.as_ptr().add(i))),
                None => v,
            };
            let v = s.mul(v, s.splat(scale));
            let v = match cap {
                Some(cap) => vmath::softcap(s, v, cap),
                None => v,
            };
            s.store(w.as_mut_ptr().add(i), v);
        }
        // Their exponential is 0 (or the row is broken anyway: then all that is visible is NaN).
        w[..seen.start].fill(f32::NEG_INFINITY);
        w[seen.end..].fill(f32::NEG_INFINITY);
        let mut top = s.splat(f32::NEG_INFINITY);
        for i in (0..PAGE).step_by(S::LANES) {
            let v = s.load(w.as_ptr().add(i));
            top = s.select(s.lt(top, v), v, top);
            top = s.select(s.ordered(v), top, v);
        }
        let mut lanes = [f32::NEG_INFINITY; crate::simd::MAX_LANES];
        s.store(lanes.as_mut_ptr(), top);
        let max = lanes.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m || v.is_nan() { v } else { m });
        for i in (0..PAGE).step_by(S::LANES) {
            let v = s.sub(s.load(w.as_ptr().add(i)), s.splat(max));
            s.store(w.as_mut_ptr().add(i), vmath::exp(s, v));
        }
        let sum = vmath::lanes::<S, false>(s, w, 0.0);
        if let Some([_, values]) = scales {
            for i in (0..PAGE).step_by(S::LANES) {
                let v = s.mul(s.load(w.as_ptr().add(i)), s.load(values.as_ptr().add(i)));
                s.store(w.as_mut_ptr().add(i), v);
            }
        }
        (max, sum)
    }
}
