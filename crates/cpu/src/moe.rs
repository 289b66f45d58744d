//! Mixture of experts: the router's choice, and all chosen experts of a step as two lists of jobs.
//!
//! ```text
//! slots: (expert, row) pairs, ascending        gathered x [slots, dim] (or codes)
//! gate, up  -> h [slots, inner]                one job per chosen expert
//! down      -> o [slots, dim]                  one job per chosen expert
//! y[row] = Σ weight · o[slot], slots ascending = experts ascending
//! ```
//! Decode and prefill are the same: an expert with one slot reads its row in place.
use crate::{
    product::{Codes, Engine, Input, Job, Product, Ptr, Weights},
    simd::Level,
    vmath,
};
use pondera_ops::{Act, Experts, GroupScore, Route, Score, W, math};

/// Memory kept between steps.
#[derive(Default)]
pub struct Scratch {
    slots: Vec<Slot>,
    /// Per row its slots, ascending.
    of_row: Vec<u32>,
    filled: Vec<u32>,
    groups: Vec<(usize, usize, usize)>,
    jobs: Vec<Job>,
    x: Vec<f32>,
    codes: Codes,
    gate: Vec<f32>,
    up: Vec<f32>,
    hidden: Codes,
    out: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Slot {
    expert: usize,
    row: usize,
    weight: f32,
}

/// The chosen experts' outputs for `x`, weighted and added in ascending id, into `y`. `codes` are those of `x` where the
/// weights want them.
pub fn run(
    engine: &Engine,
    s: &mut Scratch,
    e: &Experts,
    route: &Act,
    x: &Act,
    codes: &dyn Fn(usize) -> Input,
    y: &Act,
) {
    let (k, dim, inner) = (route.cols / 2, e.down.out, e.up.out);
    choose(s, &route.data(), x.rows, k);
    let n = s.slots.len();
    grow(&mut s.gate, n * inner);
    grow(&mut s.up, n * inner);
    grow(&mut s.out, n * dim);
    // SAFETY: all buffers hold all slots; every expert has its own.
    unsafe {
        gate_up(engine, s, e, x, codes);
        down(engine, s, e);
    }
    let (slots, of_row, out) = (&s.slots, &s.of_row, &s.out);
    let level = engine.level;
    let y_ptr = Ptr(y.data_mut().as_mut_ptr());
    engine.rows(x.rows, k * dim / 8, &|r| {
        // SAFETY: row r is this task's alone; lengths match.
        unsafe {
            let y = std::slice::from_raw_parts_mut(y_ptr.get().add(r * dim), dim);
            y.fill(0.0);
            for &slot in &of_row[r * k..][..k] {
                let slot = slot as usize;
                vmath::fma(level, y, &out[slot * dim..][..dim], slots[slot].weight);
            }
        }
    });
}

/// Fills the slots from the router's result, ordered by expert, then row.
fn choose(s: &mut Scratch, route: &[f32], rows: usize, k: usize) {
    s.slots.clear();
    for row in 0..rows {
        let (ids, weights) = route[row * 2 * k..][..2 * k].split_at(k);
        let slots = ids.iter().zip(weights).map(|(&id, &weight)| Slot { expert: id as usize, row, weight });
        s.slots.extend(slots);
    }
    s.slots.sort_unstable_by_key(|s| (s.expert, s.row));
    s.of_row.clear();
    s.of_row.resize(rows * k, 0);
    s.filled.clear();
    s.filled.resize(rows, 0);
    s.groups.clear();
    for (i, slot) in s.slots.iter().enumerate() {
        let filled = &mut s.filled[slot.row];
        s.of_row[slot.row * k + *filled as usize] = i as u32;
        *filled += 1;
        match s.groups.last_mut() {
            Some((expert, _, n)) if *expert == slot.expert => *n += 1,
            _ => s.groups.push((slot.expert, i, 1)),
        }
    }
}

fn grow(v: &mut Vec<f32>, n: usize) {
    if v.len() < n {
        v.resize(n, 0.0);
    }
}

/// Bias of an expert, or null.
fn bias(b: &Option<W>, expert: usize, out: usize) -> *const f32 {
    b.as_ref().map_or(std::ptr::null(), |b| b.vector()[expert * out..][..out].as_ptr())
}

/// First products of all experts, with their nonlinearity, into `gate` (or `up` without one).
unsafe fn gate_up(engine: &Engine, s: &mut Scratch, e: &Experts, x: &Act, codes: &dyn Fn(usize) -> Input) {
    let (dim, inner) = (x.cols, e.up.out);
    let matrices = || e.gate.iter().chain([&e.up]);
    let weights = |w: &W, expert: usize| engine.weights(&w.groups[expert], false);
    let wants = |w: &W| s.groups.iter().find_map(|g| weights(w, g.0).block());
    let block = matrices().find_map(wants);
    let float = s.groups.iter().any(|g| matrices().any(|w| weights(w, g.0).block().is_none()));
    let whole = block.map(codes);
    gather(s, x, block.zip(whole), float);
    let xs = x.data();
    s.jobs.clear();
    for &(expert, first, n) in &s.groups {
        let row = s.slots[first].row;
        let input = |w: Weights| match (w.block(), block, whole, n) {
            (None, .., 1) => Input::Float { x: xs[row * dim..].as_ptr(), ld: dim },
            (None, ..) => Input::Float { x: s.x[first * dim..].as_ptr(), ld: dim },
            (Some(_), Some(block), Some(Input::Codes { q, d, sums }), 1) => {
                // SAFETY: codes of all rows of x.
                unsafe {
                    Input::Codes {
                        q: q.add(row * dim),
                        d: d.add(row * (dim / block)),
                        sums: sums.add(row * (dim / 16)),
                    }
                }
            }
            (Some(block), ..) => s.codes.input(first, dim, block),
        };
        let product = |w: &W, b: &Option<W>, y: &[f32]| {
            let weights = engine.weights_of(w, expert, n);
            let y = y[first * inner..].as_ptr().cast_mut();
            Product { weights, out: inner, inp: dim, input: input(weights), y, ld: inner, bias: bias(b, expert, inner) }
        };
        let up = product(&e.up, &e.up_bias, &s.up);
        let mut job = Job::new(e.gate.as_ref().map_or(up, |g| product(g, &e.gate_bias, &s.gate)), n);
        job.second = e.gate.is_some().then_some(up);
        job.act = Some(e.act);
        s.jobs.push(job);
    }
    // SAFETY: the caller's promise.
    unsafe { engine.run(&mut s.jobs) }
}

/// Copies the rows (or codes) of experts with several slots side by side.
fn gather(s: &mut Scratch, x: &Act, codes: Option<(usize, Input)>, float: bool) {
    let (dim, n) = (x.cols, s.slots.len());
    let xs = x.data();
    if float {
        grow(&mut s.x, n * dim);
    }
    if let Some((block, _)) = codes {
        s.codes.resize(n, dim, block);
    }
    for &(_, first, count) in s.groups.iter().filter(|g| g.2 > 1) {
        for i in first..first + count {
            let row = s.slots[i].row;
            if float {
                s.x[i * dim..][..dim].copy_from_slice(&xs[row * dim..][..dim]);
            }
            if let Some((block, Input::Codes { q, d, sums })) = codes {
                let (blocks, sixteens) = (dim / block, dim / 16);
                // SAFETY: codes of all rows of x.
                unsafe {
                    let part = std::slice::from_raw_parts(q.add(row * dim), dim);
                    s.codes.q[i * dim..][..dim].copy_from_slice(part);
                    let part = std::slice::from_raw_parts(d.add(row * blocks), blocks);
                    s.codes.d[i * blocks..][..blocks].copy_from_slice(part);
                    let part = std::slice::from_raw_parts(sums.add(row * sixteens), sixteens);
                    s.codes.sums[i * sixteens..][..sixteens].copy_from_slice(part);
                }
            }
        }
    }
}

/// Second products of all experts into `out`.
unsafe fn down(engine: &Engine, s: &mut Scratch, e: &Experts) {
    let (dim, inner, n) = (e.down.out, e.up.out, s.slots.len());
    let h = if e.gate.is_some() { &s.gate } else { &s.up };
    let weights = |expert: usize| engine.weights(&e.down.groups[expert], false);
    if let Some(block) = s.groups.iter().find_map(|g| weights(g.0).block()) {
        // SAFETY: h holds all slots.
        unsafe { engine.quantize(block, h.as_ptr(), inner, n, inner, &mut s.hidden) };
    }
    s.jobs.clear();
    for &(expert, first, n) in &s.groups {
        let weights = engine.weights_of(&e.down, expert, n);
        let input = match weights.block() {
            Some(block) => s.hidden.input(first, inner, block),
            None => Input::Float { x: h[first * inner..].as_ptr(), ld: inner },
        };
        let y = s.out[first * dim..].as_ptr().cast_mut();
        let bias = bias(&e.down_bias, expert, dim);
        s.jobs.push(Job::new(Product { weights, out: dim, inp: inner, input, y, ld: dim, bias }, n));
    }
    // SAFETY: the caller's promise.
    unsafe { engine.run(&mut s.jobs) }
}

/// A thread's memory for choosing.
#[derive(Default)]
pub struct Choice {
    scores: Vec<f32>,
    choice: Vec<f32>,
    groups: Vec<f32>,
}

/// `reference::moe::route` of one row.
pub fn route(level: Level, r: &Route, logits: &[f32], y: &mut [f32], c: &mut Choice) {
    c.scores.clear();
    c.scores.extend_from_slice(logits);
    // SAFETY: any slices.
    unsafe {
        match r.score {
            Score::Softmax => vmath::softmax(level, &mut c.scores),
            Score::Sigmoid => vmath::sigmoids(level, &mut c.scores),
            Score::SoftmaxOfChosen => {}
        }
    }
    c.choice.clear();
    c.choice.extend_from_slice(&c.scores);
    if let Some(bias) = &r.bias {
        c.choice.iter_mut().zip(bias.vector()).for_each(|(c, b)| *c += b);
    }
    if let Some((groups, kept, kind)) = r.groups {
        mask_groups(&mut c.choice, groups, kept, kind, &mut c.groups);
    }
    let (ids, weights) = y.split_at_mut(r.top_k);
    let mut last = None;
    for (id, w) in ids.iter_mut().zip(weights.iter_mut()) {
        let e = next_best(&c.choice, last).expect("at least top_k experts");
        last = Some(e);
        (*id, *w) = (e as f32, c.scores[e]);
    }
    if r.score == Score::SoftmaxOfChosen {
        // SAFETY: any slice.
        unsafe { vmath::softmax(level, weights) };
    }
    if let Some(eps) = r.renormalize {
        let sum = weights.iter().fold(0.0, |s, w| s + w) + eps;
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    if r.scale != 1.0 {
        weights.iter_mut().for_each(|w| *w *= r.scale);
    }
}

/// The greatest of `x` that comes after `last` in falling order ([`math::rank`]); ties go to the lower index.
fn next_best(x: &[f32], last: Option<usize>) -> Option<usize> {
    let after = |i: usize| last.is_none_or(|l| math::rank(x[l], x[i]).then(i.cmp(&l)).is_gt());
    (0..x.len()).filter(|&i| after(i)).reduce(|best, i| if math::rank(x[i], x[best]).is_gt() { i } else { best })
}

/// Experts outside of the `kept` best groups can no longer be chosen.
fn mask_groups(choice: &mut [f32], groups: usize, kept: usize, kind: GroupScore, scores: &mut Vec<f32>) {
    let size = choice.len() / groups;
    scores.clear();
    scores.extend(choice.chunks_exact(size).map(|g| match kind {
        GroupScore::Max => math::max(g),
        GroupScore::TopTwo => {
            let first = next_best(g, None);
            let second = first.and_then(|f| next_best(g, Some(f)));
            first.into_iter().chain(second).fold(0.0, |s, i| s + g[i])
        }
    }));
    let mut last = None;
    for _ in 0..kept.min(scores.len()) {
        last = next_best(scores, last);
    }
    for (g, group) in choice.chunks_exact_mut(size).enumerate() {
        // Kept are those up to the last in falling order.
        let keep = last.is_some_and(|l| math::rank(scores[g], scores[l]).then(l.cmp(&g)).is_ge());
        if !keep {
            group.fill(f32::NEG_INFINITY);
        }
    }
}
