//! Attention of one query head, span by span (rule 4 of docs/numerics.md).
use super::{cache::Cache, row};
use crate::{Attention, Indexer, PAGE, Sequence, math};

/// Head `h` of the query `q` at position `p` of sequence `s`, whose last position of the step is `last`, into `y`.
///
/// Spans of [`PAGE`] positions are aligned to absolute positions. Within a span: scores (one FMA chain each, then times
/// the key's scale, then times the attention's), their maximum, exponentials, their sum by lanes of the position within
/// the span, the weighted values as one chain per column with positions ascending (a weight is multiplied with its
/// value's scale first). Spans combine ascending, the sink joins last. ALiBi's slope times how far the key is behind the
/// query is taken from the scaled score by one fused multiply-add, before the bound.
#[allow(clippy::too_many_arguments)]
pub fn head(
    a: &Attention,
    h: usize,
    q: &[f32],
    cache: &Cache,
    s: &Sequence,
    p: usize,
    last: usize,
    chosen: Option<&[f32]>,
    y: &mut [f32],
) {
    let kv_head = h / (a.heads / a.kv_heads);
    let (first, end) = (a.mask.first(p), a.mask.end(p, last + 1));
    let slope = a.slopes.as_ref().map(|s| s.vector()[h]);
    let mut state = Softmax { max: f32::NEG_INFINITY, sum: 0.0 };
    let mut values = vec![0.0; a.v_dim];
    y.fill(0.0);
    for span in first / PAGE..=(end - 1) / PAGE {
        let (from, to) = (first.max(span * PAGE), end.min((span + 1) * PAGE));
        let looks = |t: usize| chosen.is_none_or(|c| c.contains(&(t as f32)));
        if !(from..to).any(looks) {
            continue;
        }
        let mut weights = [0.0f32; PAGE];
        let mut max = f32::NEG_INFINITY;
        for t in (from..to).filter(|t| looks(*t)) {
            let (key, factor) = cache.key(s, t, kv_head);
            let score = math::chain(key, q) * factor * a.scale;
            let score = slope.map_or(score, |m| m.mul_add(t as f32 - p as f32, score));
            let score = a.softcap.map_or(score, |cap| row::softcap(score, cap));
            weights[t % PAGE] = score;
            if score > max || score.is_nan() {
                max = score;
            }
        }
        // Positions outside of the mask keep weight 0, which adds nothing to the sum; their values are not read.
        for t in (from..to).filter(|t| looks(*t)) {
            weights[t % PAGE] = math::exp(weights[t % PAGE] - max);
        }
        values.fill(0.0);
        for t in from..to {
            let (value, factor) = cache.value(s, t, kv_head);
            let w = weights[t % PAGE] * factor;
            for (o, v) in values.iter_mut().zip(value) {
                *o = w.mul_add(*v, *o);
            }
        }
        state.join(max, math::sum(&weights), &values, y);
    }
    if let Some(sinks) = &a.sinks {
        state.join(sinks.vector()[h], 1.0, &[], y);
    }
    let inverse = 1.0 / state.sum;
    y.iter_mut().for_each(|v| *v *= inverse);
}

/// The positions that the query `q` at position `p` chooses, into `y` (see [`crate::Ops::select`]). A score is a chain
/// over heads, each the chain of its query with the key, times the key's scale, times the indexer's.
pub fn select(i: &Indexer, q: &[f32], weights: &[f32], cache: &Cache, s: &Sequence, p: usize, y: &mut [f32]) {
    let score = |t: usize| {
        let (key, factor) = cache.key(s, t, 0);
        let heads = q.chunks_exact(i.dim).zip(weights);
        heads.fold(0.0f32, |sum, (q, w)| {
            let x = math::chain(key, q) * factor * i.scale;
            w.mul_add(if x < 0.0 { 0.0 } else { x }, sum)
        })
    };
    let scores: Vec<f32> = (0..=p).map(score).collect();
    choose(&scores, &mut (0..=p as u32).collect(), y);
}

/// The positions of the greatest `scores`, ascending, then -1; `positions` are all of them and are put into another order.
pub fn choose(scores: &[f32], positions: &mut Vec<u32>, y: &mut [f32]) {
    let better = |a: &u32, b: &u32| math::rank(scores[*b as usize], scores[*a as usize]).then(a.cmp(b));
    if positions.len() > y.len() {
        positions.select_nth_unstable_by(y.len(), better);
        positions.truncate(y.len());
    }
    positions.sort_unstable();
    y.fill(-1.0);
    y.iter_mut().zip(positions).for_each(|(y, t)| *y = *t as f32);
}

/// A softmax under way: maximum and sum of exponentials so far.
struct Softmax {
    max: f32,
    sum: f32,
}

impl Softmax {
    /// Joins a span (`values`, unnormalised) or, with no values, a sink, to what `y` holds.
    fn join(&mut self, max: f32, sum: f32, values: &[f32], y: &mut [f32]) {
        let top = if max > self.max || max.is_nan() { max } else { self.max };
        let (old, new) = (math::exp(self.max - top), math::exp(max - top));
        self.max = top;
        self.sum = sum.mul_add(new, self.sum * old);
        for (i, y) in y.iter_mut().enumerate() {
            *y = values.get(i).map_or(*y * old, |v| v.mul_add(new, *y * old));
        }
    }
}
