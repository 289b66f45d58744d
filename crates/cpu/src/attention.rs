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
    gemm::{self, Code, Elem, F16e, F32e, Fetch, I8e, NOTHING, Pack, STRIP, Tile},
    kv::Cache,
    product::{Engine, PerThread, Ptr},
    simd::{Level, MAX_LANES, Simd, kernel},
    vmath,
};
use pondera_ops::{Act, Attention, Batch, KvType, PAGE, Sequence};
use std::ops::Range;

/// Queries of a piece, about.
const QUERIES: usize = 64;

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
    /// Maximum and sum per query: so far, and of the span.
    state: [Vec<f32>; 2],
    span: [Vec<f32>; 2],
}

/// What the pieces share.
struct Work<'a> {
    level: Level,
    a: &'a Attention,
    sinks: Option<&'a [f32]>,
    slopes: Option<&'a [f32]>,
    cache: &'a Cache,
    batch: &'a Batch,
    /// Positions that each row looks at, and how many a row has room for.
    selected: Option<(&'a [f32], usize)>,
    q: &'a [f32],
    q_cols: usize,
    y: Ptr<f32>,
}

/// Attends from `q` into `y`.
///
/// `selected` has for each row the positions that it looks at, ascending, then -1; none: all that the mask lets it see.
#[allow(clippy::too_many_arguments)]
pub fn run(
    engine: &Engine,
    scratch: &mut Scratch,
    a: &Attention,
    cache: &Cache,
    q: &Act,
    selected: Option<(&[f32], usize)>,
    batch: &Batch,
    y: &Act,
) {
    let group = a.heads / a.kv_heads;
    let ns = plan(engine, a, batch, group, &mut scratch.pieces);
    let q_data = q.data();
    let work = Work {
        level: engine.level,
        a,
        sinks: a.sinks.as_ref().map(|s| s.vector()),
        slopes: a.slopes.as_ref().map(|s| s.vector()),
        cache,
        batch,
        selected,
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
    let seen = |s: &Sequence, r: usize| {
        let p = batch.positions[r] as usize;
        a.mask.end(p, length(batch, s)) - a.mask.first(p)
    };
    let rows = batch.sequences.iter().flat_map(|s| s.rows.clone().map(move |r| seen(s, r)));
    let ns = rows.sum::<usize>() * a.heads * (a.qk_dim + a.v_dim) / 14;
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

/// Positions of a sequence after the step.
fn length(batch: &Batch, s: &Sequence) -> usize {
    batch.positions[s.rows.end - 1] as usize + 1
}

/// The visible positions of a span, relative to its start, for a query at `p` of a sequence of `length`.
fn visible(a: &Attention, p: usize, length: usize, span: usize) -> Option<(usize, usize)> {
    let (first, end) = (a.mask.first(p), a.mask.end(p, length));
    let start = span * PAGE;
    (first < start + PAGE && start < end).then(|| (first.max(start) - start, end.min(start + PAGE) - start))
}

impl Work<'_> {
    /// A bit for each position of a span that row `r` looks at.
    fn looks(&self, r: usize, span: usize) -> u64 {
        let Some((selected, cols)) = self.selected else { return u64::MAX };
        let row = &selected[r * cols..][..cols];
        let row = &row[..row.partition_point(|t| *t >= 0.0)];
        let (from, to) = ((span * PAGE) as f32, ((span + 1) * PAGE) as f32);
        let inside = &row[row.partition_point(|t| *t < from)..];
        inside.iter().take_while(|t| **t < to).fold(0, |bits, t| bits | 1 << (*t as usize % PAGE))
    }
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
    for (v, first) in b.state.iter_mut().zip([f32::NEG_INFINITY, 0.0]) {
        v.clear();
        v.resize(n, first);
    }
    b.span.iter_mut().for_each(|v| grow(v, n));
    for (i, q) in b.q[..n * k_dim].chunks_exact_mut(k_dim.max(1)).enumerate() {
        let (r, h) = (rows.start + i / heads, head + i % heads);
        q.copy_from_slice(&w.q[r * w.q_cols + h * a.qk_dim..][..k_dim]);
    }
    let position = |r: usize| w.batch.positions[r] as usize;
    let length = length(w.batch, s);
    let last = (a.mask.end(position(rows.end - 1), length) - 1) / PAGE;
    for span in a.mask.first(position(rows.start)) / PAGE..=last {
        let mut transposed = false;
        // The next span's keys are asked for once, unless nobody looks at them.
        let mut next =
            (span < last && rows.clone().any(|r| w.looks(r, span + 1) != 0)).then(|| s.pages[span + 1] as usize);
        let mut r = rows.start;
        while r < rows.end {
            let seen = |t: usize| visible(a, position(t), length, span).filter(|_| w.looks(t, span) != 0);
            let range = seen(r);
            let same = (r..rows.end).take_while(|&t| seen(t) == range).count();
            if let Some((from, to)) = range {
                let queries = (r - rows.start) * heads..(r - rows.start + same) * heads;
                // SAFETY: the page was written up to the last visible position; buffers hold all queries.
                unsafe {
                    if cache.spec.v_dim.is_none() && !transposed {
                        transpose(w, s, span, piece.kv_head, k_dim, b);
                        transposed = true;
                    }
                    let place = |i: usize| (rows.start + i / heads, head + i % heads);
                    span_of::<E>(w, s, span, next.take(), piece.kv_head, k_dim, queries, from..to, &place, b);
                }
            }
            r += same;
        }
    }
    for i in 0..n {
        let (r, h) = (rows.start + i / heads, head + i % heads);
        let y = &mut b.y[i * pad..][..a.v_dim];
        let [mut max, mut sum] = b.state.each_ref().map(|v| v[i]);
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
unsafe fn transpose(w: &Work<'_>, s: &Sequence, span: usize, head: usize, k_dim: usize, b: &mut Buffers) {
    grow(&mut b.keys, k_dim * PAGE);
    // SAFETY: the caller's promise; the buffer has just grown.
    unsafe { page_columns(w.level, w.cache, s.pages[span] as usize, head, k_dim, b.keys.as_mut_ptr()) }
}

/// The rows of a page of a cache without values, as `[k_dim][PAGE]` f32 without their scales, to `to`.
///
/// # Safety
/// The page was written; `to` has room for `k_dim · PAGE` values.
pub unsafe fn page_columns(level: Level, cache: &Cache, page: usize, head: usize, k_dim: usize, to: *mut f32) {
    let stride = cache.row_pad() * cache.kv.bytes();
    let base = cache.rows(page, head);
    let pointers: [*const u8; PAGE] = std::array::from_fn(|i| base.wrapping_add(i * stride));
    let pack = Pack { rows: pointers.as_ptr(), groups: PAGE / level.lanes(), k0: 0, kn: k_dim, dst: to };
    let code = match cache.kv {
        KvType::F32 => Code::F32,
        KvType::F16 => Code::F16,
        KvType::Q8 => Code::I8,
    };
    // SAFETY: a page holds PAGE rows of at least k_dim elements.
    unsafe { gemm::pack_rows(level, code, &pack) }
}

/// One span for queries that all see its positions `seen`; `place` gives a query's row and head, `next` is the page whose keys
/// are asked for meanwhile.
#[allow(clippy::too_many_arguments)]
unsafe fn span_of<E: Elem>(
    w: &Work<'_>,
    s: &Sequence,
    span: usize,
    next: Option<usize>,
    head: usize,
    k_dim: usize,
    queries: Range<usize>,
    seen: Range<usize>,
    place: &dyn Fn(usize) -> (usize, usize),
    b: &mut Buffers,
) {
    let (a, level, n) = (w.a, w.level, queries.len());
    let page = s.pages[span] as usize;
    let pad = a.v_dim.next_multiple_of(STRIP);
    let columns = seen.start / STRIP * STRIP..seen.end.next_multiple_of(STRIP);
    // Values are asked for while scores are computed, the next span's keys while values are summed.
    let next = next.map_or(NOTHING, |page| w.cache.keys_ahead(page, head));
    let values = w.cache.rows_ahead(page, head, seen.clone());
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
            gemm::strips::<F32e>(level, columns, tile, n, NOTHING);
        } else {
            tile.panel = w.cache.keys(page, head);
            tile.ld = PAGE * E::SIZE;
            gemm::strips::<E>(level, columns, tile, n, values);
        }
    }
    let mut scales = w.cache.scales(page, head);
    let mut scale = a.scale;
    if let Some(slopes) = w.slopes {
        for (i, scores) in queries.clone().zip(scores.chunks_exact_mut(PAGE)) {
            let (r, h) = place(i);
            let behind = (span * PAGE) as f32 - w.batch.positions[r] as f32;
            // SAFETY: PAGE weights, PAGE scales.
            unsafe { slope(level, scores, scales.map(|s| s[0]), scale, slopes[h], behind) };
        }
    }
    if w.selected.is_some() {
        for (i, scores) in queries.clone().zip(scores.chunks_exact_mut(PAGE)) {
            let looks = w.looks(place(i).0, span);
            for (t, s) in scores.iter_mut().enumerate() {
                let factor = scales.map_or(1.0, |s| s[0][t]);
                // The exponential of what is not looked at is 0, as that of masked positions is.
                *s = if looks >> t & 1 == 1 { *s * factor * scale } else { f32::NEG_INFINITY };
            }
        }
    }
    if w.slopes.is_some() || w.selected.is_some() {
        // Both factors are in the scores now.
        scale = 1.0;
        scales = scales.map(|[_, values]| [&[1.0; PAGE][..], values]);
    }
    // SAFETY: PAGE weights a query, PAGE scales.
    unsafe { softmaxes(level, scores, &seen, scale, a.softcap, scales, &mut b.span) };
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
        gemm::strips::<E>(level, 0..pad, tile, n, next);
        let at = queries.start * pad;
        let join = Join {
            state: b.state.each_mut().map(|v| &mut v[queries.clone()]),
            span: b.span.each_ref().map(|v| &v[..n]),
            y: &mut b.y[at..],
            values: &b.values[at..],
            pad,
            v_dim: a.v_dim,
        };
        joins(level, join);
    }
}

/// What spans give to queries that have seen others.
struct Join<'a> {
    /// Maximum and sum of each query so far, and of the span.
    state: [&'a mut [f32]; 2],
    span: [&'a [f32]; 2],
    /// `[queries][pad]`, of which `v_dim` count.
    y: &'a mut [f32],
    values: &'a [f32],
    pad: usize,
    v_dim: usize,
}

kernel!(
    /// The step of `reference::attend` that joins a span, for all queries.
    unsafe fn joins(j: Join<'_>) = joins_body
);

#[inline(always)]
unsafe fn joins_body<S: Simd>(s: S, j: Join<'_>) {
    let n = j.span[0].len();
    let [max, sum] = j.state;
    for from in (0..n).step_by(S::LANES) {
        let count = S::LANES.min(n - from);
        // Queries beyond the last are zeros that go nowhere.
        let load = |x: &[f32]| {
            let mut some = [0.0; MAX_LANES];
            some[..count].copy_from_slice(&x[from..from + count]);
            some
        };
        let (before, joins, sums, joined) = (load(max), load(j.span[0]), load(sum), load(j.span[1]));
        let (mut tops, mut olds, mut news, mut all) =
            ([0.0f32; MAX_LANES], [0.0f32; MAX_LANES], [0.0f32; MAX_LANES], [0.0f32; MAX_LANES]);
        // SAFETY: the arrays hold MAX_LANES values.
        unsafe {
            let (m, x) = (s.load(before.as_ptr()), s.load(joins.as_ptr()));
            let top = s.select(s.lt(m, x), x, m);
            let top = s.select(s.ordered(x), top, x);
            let (old, new) = (vmath::exp(s, s.sub(m, top)), vmath::exp(s, s.sub(x, top)));
            s.store(tops.as_mut_ptr(), top);
            s.store(olds.as_mut_ptr(), old);
            s.store(news.as_mut_ptr(), new);
            let both = s.fma(s.load(joined.as_ptr()), new, s.mul(s.load(sums.as_ptr()), old));
            s.store(all.as_mut_ptr(), both);
        }
        max[from..from + count].copy_from_slice(&tops[..count]);
        sum[from..from + count].copy_from_slice(&all[..count]);
        for i in 0..count {
            let at = (from + i) * j.pad;
            let (y, values) = (&mut j.y[at..at + j.v_dim], &j.values[at..at + j.v_dim]);
            // SAFETY: equal lengths.
            unsafe { vmath::join_body(s, y, values, olds[i], news[i]) };
        }
    }
}

kernel!(
    /// `scores · keys' scales · scale + slope · how far each key is from the query`, of which the first is `behind` away.
    unsafe fn slope(scores: &mut [f32], keys: Option<&[f32]>, scale: f32, slope: f32, behind: f32) = slope_body
);

#[inline(always)]
unsafe fn slope_body<S: Simd>(_: S, scores: &mut [f32], keys: Option<&[f32]>, scale: f32, slope: f32, behind: f32) {
    if let Some(keys) = keys {
        scores.iter_mut().zip(keys).for_each(|(w, k)| *w *= k);
    }
    for (i, w) in scores[..PAGE].iter_mut().enumerate() {
        *w = slope.mul_add(behind + i as f32, *w * scale);
    }
}

kernel!(
    /// Scores `[queries][PAGE]` to unnormalised weights over the positions `seen` (0 elsewhere), their maximum and sum to
    /// `spans`. Scales of keys are multiplied into the scores, those of values into the weights.
    unsafe fn softmaxes(
        scores: &mut [f32],
        seen: &Range<usize>,
        scale: f32,
        cap: Option<f32>,
        scales: Option<[&[f32]; 2]>,
        spans: &mut [Vec<f32>; 2],
    ) = softmaxes_body
);

#[inline(always)]
unsafe fn softmaxes_body<S: Simd>(
    s: S,
    scores: &mut [f32],
    seen: &Range<usize>,
    scale: f32,
    cap: Option<f32>,
    scales: Option<[&[f32]; 2]>,
    spans: &mut [Vec<f32>; 2],
) {
    let scaled = Scaled { seen, scale, cap, keys: scales.map(|[keys, _]| keys) };
    // As many queries at once as a vector has lanes: the folding of lanes then goes over vectors.
    for (i, some) in scores.chunks_mut(S::LANES * PAGE).enumerate() {
        let n = some.len() / PAGE;
        let mut lanes = [[0.0f32; MAX_LANES]; MAX_LANES];
        let mut out = [0.0f32; MAX_LANES];
        // SAFETY: whole rows of PAGE, a whole number of vectors, as are the scales'.
        unsafe {
            for (w, lanes) in some.chunks_exact_mut(PAGE).zip(&mut lanes) {
                match *seen == (0..PAGE) {
                    true => scale_row::<S, true>(s, w, &scaled, lanes),
                    false => scale_row::<S, false>(s, w, &scaled, lanes),
                }
            }
            s.store(out.as_mut_ptr(), fold::<S, true>(s, &lanes));
            spans[0][i * S::LANES..][..n].copy_from_slice(&out[..n]);
            for ((w, lanes), max) in some.chunks_exact_mut(PAGE).zip(&mut lanes).zip(out) {
                weigh_row(s, w, max, scales.map(|[_, values]| values), lanes);
            }
            s.store(out.as_mut_ptr(), fold::<S, false>(s, &lanes));
            spans[1][i * S::LANES..][..n].copy_from_slice(&out[..n]);
        }
    }
}

/// The greater, or a NaN.
#[inline(always)]
fn greater<S: Simd>(s: S, a: S::F, b: S::F) -> S::F {
    let top = s.select(s.lt(a, b), b, a);
    s.select(s.ordered(b), top, b)
}

const _: () = assert!(MAX_LANES == pondera_ops::math::LANES && PAGE.is_multiple_of(MAX_LANES));

/// Each row's lanes folded in halves, to the greatest or to their sum: lane `r` of the result is row `r`'s.
#[inline(always)]
unsafe fn fold<S: Simd, const GREATEST: bool>(s: S, rows: &[[f32; MAX_LANES]; MAX_LANES]) -> S::F {
    let mut pointers = [std::ptr::null::<u8>(); MAX_LANES];
    for (p, row) in pointers.iter_mut().zip(rows) {
        *p = row.as_ptr().cast();
    }
    let mut lanes = [s.splat(0.0); MAX_LANES];
    for (quarter, lanes) in lanes.chunks_exact_mut(4).enumerate() {
        // SAFETY: four floats of each row.
        let words = unsafe { s.tile(pointers.as_ptr(), quarter * 16) };
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = s.floats(word);
        }
    }
    let mut half = MAX_LANES / 2;
    while half > 0 {
        for i in 0..half {
            let (a, b) = (lanes[i], lanes[i + half]);
            lanes[i] = if GREATEST { greater(s, a, b) } else { s.add(a, b) };
        }
        half /= 2;
    }
    lanes[0]
}

/// How products become scores.
struct Scaled<'a> {
    seen: &'a Range<usize>,
    scale: f32,
    cap: Option<f32>,
    keys: Option<&'a [f32]>,
}

/// A row's products to scores, and their greatest by lane; `ALL`: all positions are seen.
#[inline(always)]
unsafe fn scale_row<S: Simd, const ALL: bool>(s: S, w: &mut [f32], how: &Scaled<'_>, lanes: &mut [f32; MAX_LANES]) {
    let mut tops = [s.splat(f32::NEG_INFINITY); 4];
    let (w, scale) = (&mut w[..PAGE], s.splat(how.scale));
    // SAFETY: PAGE is a whole number of vectors, and w and the scales hold PAGE.
    unsafe {
        for i in 0..PAGE / S::LANES {
            let at = i * S::LANES;
            let v = s.load(w.as_ptr().add(at));
            let v = match how.keys {
                Some(keys) => s.mul(v, s.load(keys.as_ptr().add(at))),
                None => v,
            };
            let v = s.mul(v, scale);
            let v = match how.cap {
                Some(cap) => vmath::softcap(s, v, cap),
                None => v,
            };
            s.store(w.as_mut_ptr().add(at), v);
            if ALL {
                let top = &mut tops[i % (MAX_LANES / S::LANES)];
                *top = greater(s, *top, v);
            }
        }
        if !ALL {
            // Their exponential is 0 (or the row is broken anyway: then all that is visible is NaN).
            w[..how.seen.start].fill(f32::NEG_INFINITY);
            w[how.seen.end..].fill(f32::NEG_INFINITY);
            for i in 0..PAGE / S::LANES {
                let top = &mut tops[i % (MAX_LANES / S::LANES)];
                *top = greater(s, *top, s.load(w.as_ptr().add(i * S::LANES)));
            }
        }
        for (v, top) in tops.iter().enumerate().take(MAX_LANES / S::LANES) {
            s.store(lanes.as_mut_ptr().add(v * S::LANES), *top);
        }
    }
}

/// A row's scores to weights, times the values' scales, and by lane the sums of what they were before.
#[inline(always)]
unsafe fn weigh_row<S: Simd>(s: S, w: &mut [f32], max: f32, values: Option<&[f32]>, lanes: &mut [f32; MAX_LANES]) {
    let mut sums = [s.splat(0.0); 4];
    let (w, max) = (&mut w[..PAGE], s.splat(max));
    // SAFETY: as in `scale_row`.
    unsafe {
        for i in 0..PAGE / S::LANES {
            let at = i * S::LANES;
            let v = vmath::exp(s, s.sub(s.load(w.as_ptr().add(at)), max));
            let sum = &mut sums[i % (MAX_LANES / S::LANES)];
            *sum = s.add(*sum, v);
            let v = match values {
                Some(values) => s.mul(v, s.load(values.as_ptr().add(at))),
                None => v,
            };
            s.store(w.as_mut_ptr().add(at), v);
        }
        for (v, sum) in sums.iter().enumerate().take(MAX_LANES / S::LANES) {
            s.store(lanes.as_mut_ptr().add(v * S::LANES), *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Lanes;

    /// Scores of some queries, among them a NaN, infinities and a row that is all the same.
    fn scores(queries: usize) -> Vec<f32> {
        let mut seed = 7u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 20) as f32 - 8.0
        };
        let mut all: Vec<f32> = (0..queries * PAGE).map(|_| next()).collect();
        all[PAGE + 5] = f32::NAN;
        all[2 * PAGE + 63] = f32::INFINITY;
        all[3 * PAGE] = f32::NEG_INFINITY;
        all[4 * PAGE..5 * PAGE].fill(-0.0);
        all
    }

    #[test]
    fn lanes_change_no_bit_of_weights() {
        let (keys, values) = (scores(9)[6 * PAGE..7 * PAGE].to_vec(), scores(9)[8 * PAGE..].to_vec());
        for queries in [5, 16, 37] {
            for seen in [0..PAGE, 3..PAGE, 0..1, 17..50] {
                for scales in [None, Some([&keys[..], &values[..]])] {
                    let cap = (queries == 16).then_some(3.0);
                    let run = |lanes: usize| {
                        let (mut w, mut spans) = (scores(queries), [vec![0.0; queries], vec![0.0; queries]]);
                        // SAFETY: whole rows of a page, and as many spans.
                        unsafe {
                            match lanes {
                                4 => softmaxes_body(Lanes::<4>, &mut w, &seen, 0.7, cap, scales, &mut spans),
                                8 => softmaxes_body(Lanes::<8>, &mut w, &seen, 0.7, cap, scales, &mut spans),
                                _ => softmaxes_body(Lanes::<16>, &mut w, &seen, 0.7, cap, scales, &mut spans),
                            }
                        }
                        let bits = |v: &[f32]| -> Vec<u32> {
                            v.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect()
                        };
                        (bits(&w), spans.map(|s| bits(&s)))
                    };
                    let want = run(8);
                    assert!(run(4) == want && run(16) == want, "{queries} queries, {seen:?}");
                    let sum: f32 = want.0[..PAGE].iter().map(|b| f32::from_bits(*b)).sum();
                    let whole = f32::from_bits(want.1[1][0]);
                    assert!(scales.is_some() || (sum - whole).abs() < 1e-4 * whole, "weights of the first are {sum}");
                }
            }
        }
    }
}
