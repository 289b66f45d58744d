//! Mixture of experts for one row: the router's choice and the weighted sum.
use super::{product::Product, row};
use crate::{Experts, GroupScore, Route, Score, W, math};

/// Softmax over `x`, in place.
fn softmax(x: &mut [f32]) {
    let max = math::max(x);
    x.iter_mut().for_each(|v| *v = math::exp(*v - max));
    let inverse = 1.0 / math::sum(x);
    x.iter_mut().for_each(|v| *v *= inverse);
}

/// Ids of the `k` greatest of `x`, falling ([`math::rank`]); ties go to the lower id.
fn top(x: &[f32], k: usize) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..x.len()).collect();
    ids.sort_by(|&a, &b| math::rank(x[b], x[a]));
    ids.truncate(k);
    ids
}

/// Chooses experts by `logits`; writes `top_k` ids, then `top_k` weights, to `y`.
pub fn route(r: &Route, logits: &[f32], y: &mut [f32]) {
    let mut scores = logits.to_vec();
    match r.score {
        Score::Softmax => softmax(&mut scores),
        Score::Sigmoid => scores.iter_mut().for_each(|v| *v = math::sigmoid(*v)),
        Score::SoftmaxOfChosen | Score::Near(_) => {}
    }
    let mut choice = scores.clone();
    if let Some(bias) = &r.bias {
        choice.iter_mut().zip(bias.vector()).for_each(|(c, b)| *c += b);
    }
    if let Some((groups, kept, kind)) = r.groups {
        mask_groups(&mut choice, groups, kept, kind);
    }
    let chosen = top(&choice, r.top_k);
    let (ids, weights) = y.split_at_mut(r.top_k);
    for ((id, w), e) in ids.iter_mut().zip(weights.iter_mut()).zip(chosen) {
        (*id, *w) = (e as f32, scores[e]);
    }
    if r.score == Score::SoftmaxOfChosen {
        softmax(weights);
    }
    if let Score::Near(bound) = r.score {
        near(bound, logits, ids, weights);
    }
    if let Some(eps) = r.renormalize {
        // Added in order of falling score, which depends on nothing but the row.
        let sum = weights.iter().fold(0.0, |s, w| s + w) + eps;
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    if r.scale != 1.0 {
        weights.iter_mut().for_each(|w| *w *= r.scale);
    }
}

/// Weights by [`Score::Near`] of the experts `ids`, which are in order of falling logit.
pub fn near(bound: f32, logits: &[f32], ids: &[f32], weights: &mut [f32]) {
    for (i, w) in weights.iter_mut().enumerate() {
        let m = logits[ids[i] as usize];
        let far = |s: f32| (m - s) / s.abs().max(m) > bound;
        let before = |e: usize| ids[..i].iter().any(|id| *id as usize == e);
        let sum = logits.iter().enumerate().filter(|(e, s)| !before(*e) && !far(**s));
        *w = 1.0 / sum.fold(0.0, |sum, (_, s)| sum + math::exp(s - m));
    }
}

/// Experts outside of the `kept` best groups can no longer be chosen.
fn mask_groups(choice: &mut [f32], groups: usize, kept: usize, kind: GroupScore) {
    let size = choice.len() / groups;
    let score = |g: &[f32]| match kind {
        GroupScore::Max => math::max(g),
        GroupScore::TopTwo => top(g, 2).iter().fold(0.0, |s, &i| s + g[i]),
    };
    let scores: Vec<f32> = choice.chunks_exact(size).map(score).collect();
    let best = top(&scores, kept);
    for (g, group) in choice.chunks_exact_mut(size).enumerate() {
        if !best.contains(&g) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

/// The chosen experts' outputs for `x`, weighted and added in ascending id, into `y`.
pub fn experts(e: &Experts, route: &[f32], x: &[f32], y: &mut [f32]) {
    let (ids, weights) = route.split_at(route.len() / 2);
    let mut order: Vec<(usize, f32)> = ids.iter().map(|&i| i as usize).zip(weights.iter().copied()).collect();
    order.sort_by_key(|&(id, _)| id);
    y.fill(0.0);
    let mut out = vec![0.0; e.down.out];
    for (id, weight) in order {
        let up = linear(&e.up, e.up_bias.as_ref(), id, x);
        let h: Vec<f32> = match &e.gate {
            Some(gate) => {
                let gate = linear(gate, e.gate_bias.as_ref(), id, x);
                gate.iter().zip(&up).map(|(g, u)| row::glu(e.act, *g, *u)).collect()
            }
            None => up.iter().map(|u| row::activation(e.act, *u)).collect(),
        };
        out.copy_from_slice(&linear(&e.down, e.down_bias.as_ref(), id, &h));
        for (y, o) in y.iter_mut().zip(&out) {
            *y = weight.mul_add(*o, *y);
        }
    }
}

fn linear(w: &W, bias: Option<&W>, expert: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; w.out];
    Product::new(&w.groups[expert]).row(x, &mut y);
    if let Some(b) = bias {
        y.iter_mut().zip(&b.vector()[expert * w.out..]).for_each(|(y, b)| *y += b);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_of_a_nan_does_not_change_the_choice() {
        for nan in [f32::NAN.abs(), -f32::NAN.abs()] {
            assert_eq!(top(&[0.5, f32::INFINITY, nan, -1.0, -nan], 4), [2, 4, 1, 0]);
        }
    }
}
