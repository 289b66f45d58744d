//! Mixture of experts: the router's choice, and all experts of a step, the shared one among them, as two lists of work.
//!
//! ```text
//! slots: (expert, row) pairs, ascending        gathered x [slots, dim] (or codes)
//! gate, up  -> h [slots, inner]                a job per chosen expert and for the shared one; h in codes
//! down      -> y [rows, dim]                   tasks by columns: each walks through the experts, ascending, and adds
//!                                              its tile of an expert's output to the rows while it is in cache
//! ```
//! So work is even however uneven the choice, and no expert's output goes to memory. Decode and prefill are the same:
//! an expert whose rows follow one another reads them in place.
use crate::{
    product::{Codes, Engine, Input, Job, Product, Ptr, Scratch as Memory, Weights, product},
    simd::Level,
    vmath,
};
use pondera_ops::{Act, Experts, GroupScore, Linear, Route, Score, Shared, W, math, reference};
use std::{ops::Range, slice};

/// Memory kept between steps.
#[derive(Default)]
pub struct Scratch {
    slots: Vec<Slot>,
    /// Per expert, its first slot; then where its next goes.
    next: Vec<usize>,
    groups: Vec<Group>,
    jobs: Vec<Job>,
    downs: Vec<Down>,
    /// Rows and codes (blocks of 32, others) of the experts whose rows do not follow one another.
    x: Vec<f32>,
    codes: [Codes; 2],
    /// First products in f32, where second ones want that.
    gate: Vec<f32>,
    up: Vec<f32>,
    hidden: [Codes; 2],
    shared_hidden: Codes,
}

/// A row of an expert.
#[derive(Clone, Copy, Default)]
struct Slot {
    row: usize,
    weight: f32,
    /// Copied beside the others of its expert.
    gathered: bool,
}

/// A chosen expert: `n` slots from `first` on.
#[derive(Clone, Copy)]
struct Group {
    expert: usize,
    first: usize,
    n: usize,
}

/// A second product, of the slots from `first` on or of all rows.
struct Down {
    product: Product,
    first: Option<usize>,
    n: usize,
}

/// What is to be computed.
pub struct Work<'a> {
    /// By whom.
    pub engine: &'a Engine,
    /// The experts to choose from.
    pub e: &'a Experts,
    /// The expert of all rows.
    pub shared: Option<Shared<'a>>,
    /// `[rows, dim]`.
    pub x: &'a Act,
    /// The codes of `x` in blocks of so many.
    pub codes: &'a dyn Fn(usize) -> Input,
}

/// The slot of [`Scratch::codes`] for a block.
fn kind(block: usize) -> usize {
    usize::from(block != 32)
}

/// The chosen experts' outputs for the rows of `x`, weighted and added in ascending id, then the shared one's, into `y`.
pub fn run(w: &Work<'_>, s: &mut Scratch, route: &Act, y: &Act) {
    choose(s, &route.data(), w.x.rows, route.cols / 2, w.e.up.groups.len());
    // SAFETY: all buffers hold all slots; every expert has its own.
    unsafe {
        let fused = gate_up(w, s);
        down(w, s, fused, y);
    }
}

/// Fills the slots from the router's result, ordered by expert, then row, and the groups.
fn choose(s: &mut Scratch, route: &[f32], rows: usize, k: usize, experts: usize) {
    let ids = |row: usize| &route[row * 2 * k..][..k];
    s.next.clear();
    s.next.resize(experts + 1, 0);
    for row in 0..rows {
        ids(row).iter().for_each(|&id| s.next[id as usize + 1] += 1);
    }
    s.groups.clear();
    for expert in 0..experts {
        let (first, n) = (s.next[expert], s.next[expert + 1]);
        if n > 0 {
            s.groups.push(Group { expert, first, n });
        }
        s.next[expert + 1] += first;
    }
    s.slots.clear();
    s.slots.resize(rows * k, Slot::default());
    for row in 0..rows {
        let weights = &route[row * 2 * k + k..][..k];
        for (&id, &weight) in ids(row).iter().zip(weights) {
            let next = &mut s.next[id as usize];
            s.slots[*next] = Slot { row, weight, gathered: false };
            *next += 1;
        }
    }
    for g in &s.groups {
        let slots = &mut s.slots[g.first..g.first + g.n];
        let gathered = slots[g.n - 1].row - slots[0].row != g.n - 1;
        slots.iter_mut().for_each(|s| s.gathered = gathered);
    }
}

fn grow(v: &mut Vec<f32>, n: usize) -> *mut f32 {
    if v.len() < n {
        v.resize(n, 0.0);
    }
    v.as_mut_ptr()
}

/// Bias of an expert, or null.
fn bias(b: &Option<W>, expert: usize, out: usize) -> *const f32 {
    b.as_ref().map_or(std::ptr::null(), |b| b.vector()[expert * out..][..out].as_ptr())
}

/// The blocks that weights want, of each kind, and whether any wants floats.
fn wanted(all: impl Iterator<Item = Weights>) -> ([Option<usize>; 2], bool) {
    all.fold(([None; 2], false), |(mut blocks, float), w| {
        w.block().inspect(|&b| blocks[kind(b)] = Some(b));
        (blocks, float || w.block().is_none())
    })
}

/// First products of all experts, with their nonlinearity: as codes of the block that is returned, or in f32 where second
/// products do not all want the same.
unsafe fn gate_up(w: &Work<'_>, s: &mut Scratch) -> Option<usize> {
    let (engine, e, x) = (w.engine, w.e, w.x);
    let (dim, inner, n) = (x.cols, e.up.out, s.slots.len());
    let weights = |w: &W, g: &Group| engine.weights(&w.groups[g.expert], false);
    let gates = e.gate.iter().flat_map(|gate| s.groups.iter().map(|g| weights(gate, g)));
    let (blocks, float) = wanted(gates.chain(s.groups.iter().map(|g| weights(&e.up, g))));
    let (down, down_float) = wanted(s.groups.iter().map(|g| weights(&e.down, g)));
    let fused = match down {
        [Some(b), None] | [None, Some(b)] if !down_float => Some(b),
        _ => None,
    };
    let whole = blocks.map(|block| block.map(w.codes));
    gather(engine, s, x, blocks, whole, float);

    let xs = x.data();
    let all = Input::Float { x: xs.as_ptr(), ld: dim, tiled: None };
    let wide = w.shared.map_or(0, |s| s.mlp.up.weight.out * x.rows);
    let (gate_y, up_y) = (grow(&mut s.gate, n * inner + wide), grow(&mut s.up, n * inner + wide));
    let hidden = fused.map(|block| s.hidden[kind(block)].make(n, inner, block, false));
    s.jobs.clear();
    if let Some(shared) = &w.shared {
        // Usually the longest, so first. Its place in the buffers is behind the slots'.
        let at = |y: *mut f32| y.wrapping_add(n * inner);
        let (mlp, product) =
            (shared.mlp, |l: &Linear, y| engine.weights_of(&l.weight, 0, x.rows).product(l, y, all, w.codes));
        let gate = mlp.gate.as_ref().map(|gate| product(gate, at(gate_y)));
        let mut job = Job::gated(mlp.act, gate, product(&mlp.up, at(up_y)), x.rows);
        let block = engine.weights(&mlp.down.weight.groups[0], false).block();
        job.codes = block.map(|block| s.shared_hidden.make(x.rows, mlp.up.weight.out, block, engine.tiled(x.rows)));
        s.jobs.push(job);
    }
    for g in &s.groups {
        let Slot { row, gathered, .. } = s.slots[g.first];
        let input = |w: Weights| match (w.block(), gathered) {
            (None, true) => Input::Float { x: s.x[g.first * dim..].as_ptr(), ld: dim, tiled: None },
            // SAFETY: the row is one of x.
            (None, false) => unsafe { all.skip(row, dim, dim) },
            (Some(block), true) => s.codes[kind(block)].input(g.first, dim, block),
            (Some(block), false) => {
                let codes = whole[kind(block)].expect("codes of every kind that is wanted");
                // SAFETY: codes of all rows of x.
                unsafe { codes.skip(row, dim, block) }
            }
        };
        let product = |w: &W, b: &Option<W>, y: *mut f32| {
            let (weights, y) = (engine.weights_of(w, g.expert, g.n), y.wrapping_add(g.first * inner));
            let bias = bias(b, g.expert, inner);
            Product { weights, out: inner, inp: dim, input: input(weights), y, ld: inner, bias }
        };
        let gate = e.gate.as_ref().map(|gate| product(gate, &e.gate_bias, gate_y));
        let mut job = Job::gated(e.act, gate, product(&e.up, &e.up_bias, up_y), g.n);
        job.codes = hidden.map(|h| h.skip(g.first));
        s.jobs.push(job);
    }
    // SAFETY: the caller's promise.
    unsafe { engine.run(&s.jobs) };
    fused
}

/// Copies the rows (or codes) of experts whose rows do not follow one another side by side.
fn gather(
    engine: &Engine,
    s: &mut Scratch,
    x: &Act,
    blocks: [Option<usize>; 2],
    whole: [Option<Input>; 2],
    float: bool,
) {
    if !s.slots.iter().any(|s| s.gathered) {
        return;
    }
    let (dim, n) = (x.cols, s.slots.len());
    let (xs, to) = (x.data(), Ptr(grow(&mut s.x, if float { n * dim } else { 0 })));
    let xs = &xs[..];
    for (kind, codes) in s.codes.iter_mut().enumerate() {
        let (Some(block), Some(from)) = (blocks[kind], whole[kind]) else { continue };
        let (out, from, slots) = (codes.make(n, dim, block, false), Ptr(&from as *const Input as *mut Input), &s.slots);
        engine.rows(n, dim / 16, &|i| {
            if slots[i].gathered {
                // SAFETY: codes of all rows of x; slot i is one task's alone.
                unsafe { out.copy(i, *from.get(), slots[i].row) };
            }
        });
    }
    if float {
        let slots = &s.slots;
        engine.rows(n, dim / 4, &|i| {
            if slots[i].gathered {
                // SAFETY: slot i is one task's alone.
                let to = unsafe { slice::from_raw_parts_mut(to.get().add(i * dim), dim) };
                to.copy_from_slice(&xs[slots[i].row * dim..][..dim]);
            }
        });
    }
}

/// Second products of all experts, weighted and added to `y` as they come.
unsafe fn down(w: &Work<'_>, s: &mut Scratch, fused: Option<usize>, y: &Act) {
    let (engine, e, rows) = (w.engine, w.e, w.x.rows);
    let (dim, inner, n) = (e.down.out, e.up.out, s.slots.len());
    let weights = |g: &Group| engine.weights(&e.down.groups[g.expert], false);
    let h: *const f32 = if e.gate.is_some() { s.gate.as_ptr() } else { s.up.as_ptr() };
    if fused.is_none() {
        let (blocks, _) = wanted(s.groups.iter().map(weights));
        let h = Ptr(h.cast_mut());
        for block in blocks.into_iter().flatten() {
            // SAFETY: h holds all slots.
            unsafe {
                engine.quantize(block, (n, false), inner, &mut s.hidden[kind(block)], &|i| h.get().add(i * inner))
            };
        }
    }
    s.downs.clear();
    for g in &s.groups {
        let weights = engine.weights_of(&e.down, g.expert, g.n);
        let input = match weights.block() {
            Some(block) => s.hidden[kind(block)].input(g.first, inner, block),
            None => Input::Float { x: h.wrapping_add(g.first * inner), ld: inner, tiled: None },
        };
        let bias = bias(&e.down_bias, g.expert, dim);
        let product = Product { weights, out: dim, inp: inner, input, y: std::ptr::null_mut(), ld: 0, bias };
        s.downs.push(Down { product, first: Some(g.first), n: g.n });
    }
    if let Some(shared) = &w.shared {
        let wide = shared.mlp.down.weight.inp;
        let gated = shared.mlp.gate.is_some();
        let h = if gated { s.gate.as_ptr() } else { s.up.as_ptr() };
        let float = Input::Float { x: h.wrapping_add(n * inner), ld: wide, tiled: None };
        let codes = |block| s.shared_hidden.input(0, wide, block);
        let l = &shared.mlp.down;
        let product = engine.weights_of(&l.weight, 0, rows).product(l, std::ptr::null_mut(), float, &codes);
        s.downs.push(Down { product, first: None, n: rows });
    }

    let gate = w.shared.and_then(|s| s.gate).map(|g| g.data());
    let gate = gate.as_ref().map(|g| &g[..]);
    let work = Downs { list: &s.downs, slots: &s.slots, gate, rows, dim, y: Ptr(y.data_mut().as_mut_ptr()) };
    let ns = s.downs.iter().map(|d| d.product.ns(d.n)).sum();
    let (unit, level) = (if rows == 1 { 32 } else { 64 }, engine.level);
    // SAFETY: tasks have columns of their own.
    engine.ranges(dim, unit, ns, &|columns, _, scratch| unsafe { work.columns(level, columns, scratch) });
}

/// Second products as tasks see them. Their pointers are valid: who makes it promises that.
struct Downs<'a> {
    list: &'a [Down],
    slots: &'a [Slot],
    /// `[rows]`: of the shared expert.
    gate: Option<&'a [f32]>,
    rows: usize,
    dim: usize,
    y: Ptr<f32>,
}
// SAFETY: see above.
unsafe impl Sync for Downs<'_> {}

impl Downs<'_> {
    /// These columns of every row.
    unsafe fn columns(&self, level: Level, columns: Range<usize>, scratch: &mut Memory) {
        let width = columns.len();
        // SAFETY: the caller's promise: nobody else uses these columns; rows are those of y.
        let at =
            |row: usize| unsafe { slice::from_raw_parts_mut(self.y.get().add(row * self.dim + columns.start), width) };
        (0..self.rows).for_each(|row| at(row).fill(0.0));
        for down in self.list {
            let (tile, memory) = scratch.tile(down.n * width);
            // SAFETY: the maker's promise; the tile holds the tokens.
            unsafe { product(level, &down.product.into_tile(tile, &columns), down.n, columns.clone(), memory) };
            for (t, out) in tile.chunks_exact_mut(width).enumerate() {
                // SAFETY: equal lengths.
                unsafe {
                    let Some(first) = down.first else {
                        self.gate.inspect(|g| vmath::gate_one(level, out, g[t]));
                        vmath::add(level, at(t), out);
                        continue;
                    };
                    let slot = self.slots[first + t];
                    vmath::fma(level, at(slot.row), out, slot.weight);
                }
            }
        }
    }
}

/// A thread's memory for choosing.
#[derive(Default)]
pub struct Choice {
    scores: Vec<f32>,
    choice: Vec<f32>,
    groups: Vec<f32>,
    best: Vec<(i32, usize)>,
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
            Score::SoftmaxOfChosen | Score::Near(_) => {}
        }
    }
    c.choice.clear();
    c.choice.extend_from_slice(&c.scores);
    if let Some(bias) = &r.bias {
        c.choice.iter_mut().zip(bias.vector()).for_each(|(c, b)| *c += b);
    }
    if let Some((groups, kept, kind)) = r.groups {
        mask_groups(c, groups, kept, kind);
    }
    top(&c.choice, r.top_k, &mut c.best);
    let (ids, weights) = y.split_at_mut(r.top_k);
    assert_eq!(c.best.len(), ids.len(), "at least top_k experts");
    for ((id, w), &(_, e)) in ids.iter_mut().zip(weights.iter_mut()).zip(&c.best) {
        (*id, *w) = (e as f32, c.scores[e]);
    }
    if r.score == Score::SoftmaxOfChosen {
        // SAFETY: any slice.
        unsafe { vmath::softmax(level, weights) };
    }
    if let Score::Near(bound) = r.score {
        reference::moe::near(bound, logits, ids, weights);
    }
    if let Some(eps) = r.renormalize {
        let sum = weights.iter().fold(0.0, |s, w| s + w) + eps;
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    if r.scale != 1.0 {
        weights.iter_mut().for_each(|w| *w *= r.scale);
    }
}

/// The `k` greatest of `x` with their indices, falling in the order of [`math::rank`]; ties go to the lower index.
fn top(x: &[f32], k: usize, best: &mut Vec<(i32, usize)>) {
    best.clear();
    for (i, &v) in x.iter().enumerate() {
        // A whole number that compares as the rank does.
        let bits = if v.is_nan() { i32::MAX } else { v.to_bits() as i32 };
        let key = bits ^ ((bits >> 31) as u32 >> 1) as i32;
        if best.len() == k {
            if best.last().is_none_or(|&(least, _)| key <= least) {
                continue;
            }
            best.pop();
        }
        // Few get this far, and few are passed: the list is short.
        let at = best.iter().rposition(|&(other, _)| other >= key).map_or(0, |at| at + 1);
        best.insert(at, (key, i));
    }
}

/// Experts outside of the `kept` best groups can no longer be chosen.
fn mask_groups(c: &mut Choice, groups: usize, kept: usize, kind: GroupScore) {
    let Choice { choice, groups: scores, best, .. } = c;
    let size = choice.len() / groups;
    scores.clear();
    for g in choice.chunks_exact(size) {
        scores.push(match kind {
            GroupScore::Max => math::max(g),
            GroupScore::TopTwo => {
                top(g, 2, best);
                best.iter().fold(0.0, |s, &(_, i)| s + g[i])
            }
        });
    }
    top(scores, kept, best);
    for (g, group) in choice.chunks_exact_mut(size).enumerate() {
        if !best.iter().any(|&(_, kept)| kept == g) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_a_sorted_beginning() {
        let special =
            [0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45, f32::MAX, f32::MIN];
        for n in [1, 2, 10, 64, 257] {
            for seed in 0..9 {
                let value = |i: usize| match (i * 2_654_435_761 + seed * 97) % 23 {
                    j if j < special.len() && seed % 3 == 0 => special[j],
                    j => j as f32 - 11.0,
                };
                let x: Vec<f32> = (0..n).map(value).collect();
                let mut want: Vec<usize> = (0..n).collect();
                want.sort_by(|&a, &b| math::rank(x[b], x[a]));
                let mut best = Vec::new();
                for k in [1, 2, 8, n] {
                    top(&x, k.min(n), &mut best);
                    let got: Vec<usize> = best.iter().map(|b| b.1).collect();
                    assert_eq!(got, want[..k.min(n)], "{x:?}");
                }
            }
        }
    }

    #[test]
    fn slots_are_ordered_by_expert_then_row() {
        // Rows of (ids, weights).
        let route = [[2.0, 0.0, 0.1, 0.2], [0.0, 3.0, 0.3, 0.4], [2.0, 3.0, 0.5, 0.6], [3.0, 2.0, 0.7, 0.8]].concat();
        let mut s = Scratch::default();
        choose(&mut s, &route, 4, 2, 5);
        let groups: Vec<_> = s.groups.iter().map(|g| (g.expert, g.first, g.n)).collect();
        assert_eq!(groups, [(0, 0, 2), (2, 2, 3), (3, 5, 3)]);
        let slots: Vec<_> = s.slots.iter().map(|s| (s.row, s.weight, s.gathered)).collect();
        let (near, far) = (false, true);
        let want = [(0, 0.2, near), (1, 0.3, near), (0, 0.1, far), (2, 0.5, far), (3, 0.8, far)];
        assert_eq!(slots[..5], want);
        assert_eq!(slots[5..], [(1, 0.4, near), (2, 0.6, near), (3, 0.7, near)]);
    }
}
