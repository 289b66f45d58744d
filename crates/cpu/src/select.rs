//! The choice of positions for sparse attention: scores by the tiles of a product, a page at a time, then the best.
//! Does not own: the attention over them ([`crate::attention`]).
use crate::{
    attention::page_columns,
    gemm::{self, F32e, Fetch, NOTHING, Tile},
    kv::Cache,
    product::{Engine, PerThread, Ptr},
    simd::{Simd, kernel},
};
use pondera_ops::{Act, Batch, Indexer, PAGE, reference::attend::choose};

/// A thread's own memory.
#[derive(Default)]
pub struct Buffers {
    keys: Vec<f32>,
    products: Vec<f32>,
    scores: Vec<f32>,
    positions: Vec<u32>,
}

/// What is chosen from, and by what.
pub struct Work<'a> {
    pub indexer: &'a Indexer,
    pub cache: &'a Cache,
    pub q: &'a Act,
    pub weights: &'a Act,
    pub batch: &'a Batch,
}

/// Chooses for every row of the queries into `y`.
pub fn run(engine: &Engine, threads: &PerThread<Buffers>, work: &Work<'_>, y: &Act) {
    let Work { indexer: i, cache, q, weights: w, batch } = *work;
    let (qs, ws, to) = (q.data(), w.data(), Ptr(y.data_mut().as_mut_ptr()));
    let (qs, ws, level, q_cols) = (&qs[..], &ws[..], engine.level, q.cols);
    let columns = y.cols;
    let seen: usize = batch.positions.iter().map(|p| *p as usize + 1).sum();
    for s in batch.sequences.iter().filter(|s| !s.rows.is_empty()) {
        let ns = seen * i.heads * i.dim / 14;
        engine.ranges(s.rows.len(), 1, ns, &|range, thread, _| {
            // SAFETY: the thread's own buffers; row r of y is one task's alone.
            let b = unsafe { threads.of(thread) };
            b.keys.resize(i.dim * PAGE, 0.0);
            b.products.resize(i.heads * PAGE, 0.0);
            for r in range.map(|r| s.rows.start + r) {
                let p = batch.positions[r] as usize;
                b.scores.clear();
                b.scores.resize((p / PAGE + 1) * PAGE, 0.0);
                for span in 0..=p / PAGE {
                    let page = s.pages[span] as usize;
                    // SAFETY: pages were written up to p; the buffers hold a page of keys, and of products for each head.
                    unsafe {
                        page_columns(level, cache, page, 0, i.dim, b.keys.as_mut_ptr());
                        let tile = Tile {
                            panel: b.keys.as_ptr().cast(),
                            ld: PAGE * 4,
                            kn: i.dim,
                            x: qs[r * q_cols..].as_ptr(),
                            ldx: i.dim,
                            step: 1,
                            y: b.products.as_mut_ptr(),
                            ldy: PAGE,
                            first: true,
                            fetch: Fetch::NONE,
                        };
                        gemm::strips::<F32e>(level, 0..PAGE, tile, i.heads, NOTHING);
                        let keys = cache.scales(page, 0).map(|s| s[0]);
                        let scores = &mut b.scores[span * PAGE..][..PAGE];
                        gather(level, scores, &b.products, &ws[r * i.heads..][..i.heads], keys, i.scale);
                    }
                }
                b.positions.clear();
                b.positions.extend(0..=p as u32);
                // SAFETY: row r.
                let y = unsafe { std::slice::from_raw_parts_mut(to.get().add(r * columns), columns) };
                choose(&b.scores, &mut b.positions, y);
            }
        });
    }
}

kernel!(
    /// `scores = Σ_h w_h · max(products_h · keys' scales · scale, 0)`, heads ascending.
    unsafe fn gather(scores: &mut [f32], products: &[f32], weights: &[f32], keys: Option<&[f32]>, scale: f32) = gather_body
);

#[inline(always)]
unsafe fn gather_body<S: Simd>(
    _: S,
    scores: &mut [f32],
    products: &[f32],
    weights: &[f32],
    keys: Option<&[f32]>,
    scale: f32,
) {
    let scores = &mut scores[..PAGE];
    for (row, w) in products.chunks_exact(PAGE).zip(weights) {
        for (t, (s, x)) in scores.iter_mut().zip(row).enumerate() {
            let x = keys.map_or(*x, |k| x * k[t]) * scale;
            *s = w.mul_add(if x < 0.0 { 0.0 } else { x }, *s);
        }
    }
}
