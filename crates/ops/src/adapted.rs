//! A decorator that lets rows of a batch take adapters: low-rank changes of weights (arXiv 2106.09685), with magnitudes
//! (DoRA, arXiv 2402.09353) or weights of their own in place of the base's.
//!
//! ```text
//! y = W x (+ bias)                       all rows at once
//! y = g · (W x) + B (A x) (+ bias)       the rows of an adapter; without g: W x (+ bias) + B (A x)
//! ```
//! `B` holds the adapter's scale, and with magnitudes `g`. Both small products are plain linears over f32 activations, in
//! the order of docs/numerics.md; what they give is added once. What a row gets depends on its adapter alone.
//!
//! Does not own: what adapters are made of (`pondera-arch`), who takes which (the engine).
use crate::*;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// What an adapter does to a group of a weight.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// A factor per output on what the base gives, `[out]`.
    pub gain: Option<W>,
    /// `[r, inp]` and `[out, r]`.
    pub low: Option<[W; 2]>,
    /// Joins the bias, `[out]`.
    pub bias: Option<W>,
}

impl Part {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.gain.is_none() && self.low.is_none() && self.bias.is_none()
    }
}

/// What an adapter does to a weight.
#[derive(Debug)]
pub struct Change {
    /// Which module it came from, for errors.
    pub module: String,
    /// The base's weight.
    pub base: W,
    /// In its place.
    pub replace: Option<W>,
    /// One per group; none where the weight is only replaced.
    pub parts: Vec<Part>,
    /// The parts as two stacks, for a weight whose groups are heads.
    pub heads: Option<[W; 2]>,
    /// Whether a forward pass ever asked for it.
    used: AtomicBool,
}

impl Change {
    /// Of `base`, for the errors from `module`.
    pub fn new(module: String, base: W, replace: Option<W>, parts: Vec<Part>, heads: Option<[W; 2]>) -> Change {
        Change { module, base, replace, parts, heads, used: AtomicBool::new(false) }
    }

    /// The matrix under it.
    fn weight(&self) -> &W {
        self.replace.as_ref().unwrap_or(&self.base)
    }

    fn part(&self, group: usize) -> Option<&Part> {
        self.parts.get(group).filter(|p| !p.is_empty())
    }

    /// Whether what comes of the base with its bias cannot just be added to.
    fn needs_bare(&self) -> bool {
        self.replace.is_some() || self.parts.iter().any(|p| p.gain.is_some())
    }
}

/// What a weight is to an operation: a tied embedding is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Rows are looked up.
    Table,
    /// It is multiplied with, or a vector.
    Product,
}

/// The changes that rows of one request take, by what they change.
#[derive(Debug, Default)]
pub struct Adapter {
    changes: HashMap<(usize, Role), Change>,
}

fn key(w: &W, role: Role) -> (usize, Role) {
    (Arc::as_ptr(w) as usize, role)
}

impl Adapter {
    /// Adds a change. One of the same weight and role gives way to it.
    pub fn insert(&mut self, role: Role, change: Change) {
        self.changes.insert(key(&change.base, role), change);
    }

    /// Whether it changes `w`.
    pub fn has(&self, w: &W, role: Role) -> bool {
        self.changes.contains_key(&key(w, role))
    }

    /// What it does to `w`.
    fn change(&self, w: &W, role: Role) -> Option<&Change> {
        let found = self.changes.get(&key(w, role))?;
        found.used.store(true, Relaxed);
        Some(found)
    }

    /// The vector in place of `w`.
    fn vector(&self, w: Option<&W>) -> Option<&W> {
        self.change(w?, Role::Product)?.replace.as_ref()
    }

    /// Modules of the changes that no forward pass asked for so far: nothing in the model can take them.
    pub fn unused(&self) -> Vec<&str> {
        // A weight may be inserted in a role that it has not.
        let used = |c: &Change| {
            let of = |role| self.changes.get(&key(&c.base, role)).is_some_and(|c| c.used.load(Relaxed));
            of(Role::Table) || of(Role::Product)
        };
        let mut unused: Vec<&str> = self.changes.values().filter(|c| !used(c)).map(|c| c.module.as_str()).collect();
        unused.sort_unstable();
        unused.dedup();
        unused
    }

    /// Bytes of its matrices and vectors.
    pub fn bytes(&self) -> u64 {
        let weight = |w: &W| w.groups.iter().map(|m| m.stored_bytes() as u64).sum::<u64>();
        let part = |p: &Part| {
            let low = p.low.iter().flatten();
            low.chain(&p.gain).chain(&p.bias).map(weight).sum::<u64>()
        };
        let all = |c: &Change| c.replace.iter().map(weight).sum::<u64>() + c.parts.iter().map(part).sum::<u64>();
        self.changes.values().map(all).sum()
    }

    /// The norm in place of `n`, if it is another.
    fn norm(&self, n: &Norm) -> Option<Norm> {
        let of = |w: &Option<W>| self.vector(w.as_ref()).cloned();
        match n {
            Norm::Rms { weight, eps, one_plus } => {
                let weight = Some(of(weight)?);
                Some(Norm::Rms { weight, eps: *eps, one_plus: *one_plus })
            }
            Norm::Layer { weight, bias, eps } => {
                let (w, b) = (of(weight), of(bias));
                (w.is_some() || b.is_some()).then(|| Norm::Layer {
                    weight: w.or_else(|| weight.clone()),
                    bias: b.or_else(|| bias.clone()),
                    eps: *eps,
                })
            }
        }
    }

    fn touches(&self, l: &Linear) -> bool {
        self.change(&l.weight, Role::Product).is_some() || self.vector(l.bias.as_ref()).is_some()
    }

    fn touches_mlp(&self, m: &Mlp) -> bool {
        // All are asked, so that each is known to be of use.
        [m.gate.as_ref(), Some(&m.up), Some(&m.down)].into_iter().flatten().filter(|l| self.touches(l)).count() > 0
    }

    fn touches_experts(&self, e: &Experts) -> bool {
        let weights = [e.gate.as_ref(), Some(&e.up), Some(&e.down)].into_iter().flatten();
        let biases = [&e.gate_bias, &e.up_bias, &e.down_bias].into_iter().flatten();
        weights.chain(biases).filter(|w| self.change(w, Role::Product).is_some()).count() > 0
    }
}

/// The rows of a step that take one adapter.
struct Use<'a> {
    adapter: &'a Adapter,
    /// Of the step.
    rows: Vec<u32>,
    /// Of those whose logits are wanted.
    wanted: Vec<u32>,
}

/// `inner` for a batch whose sequences may name adapters.
pub struct Adapted<'a> {
    inner: &'a dyn Ops,
    uses: Vec<Use<'a>>,
    /// Rows of the step, and how many are wanted.
    rows: [usize; 2],
}

impl<'a> Adapted<'a> {
    /// For `batch`, whose adapters `find` knows. None if no sequence takes one that is known.
    pub fn new(inner: &'a dyn Ops, batch: &Batch, find: impl Fn(u32) -> Option<&'a Adapter>) -> Option<Adapted<'a>> {
        let mut ids: Vec<u32> = batch.sequences.iter().filter_map(|s| s.adapter).collect();
        ids.sort_unstable();
        ids.dedup();
        let one = |id: u32| {
            let adapter = find(id)?;
            let mine = batch.sequences.iter().filter(|s| s.adapter == Some(id));
            let rows: Vec<u32> = mine.flat_map(|s| s.rows.start as u32..s.rows.end as u32).collect();
            let is_wanted = |i: &u32| rows.binary_search(&batch.logit_rows[*i as usize]).is_ok();
            let wanted = (0..batch.logit_rows.len() as u32).filter(is_wanted).collect();
            Some(Use { adapter, rows, wanted })
        };
        let uses: Vec<Use<'_>> = ids.into_iter().filter_map(one).collect();
        let rows = [batch.len(), batch.logit_rows.len()];
        (!uses.is_empty()).then_some(Adapted { inner, uses, rows })
    }

    /// Who changes something, with its rows of an activation of `n`: all of the step, or those that are wanted.
    fn of<T>(&self, n: usize, change: impl Fn(&'a Adapter) -> Option<T>) -> Vec<(&'a Adapter, T, &[u32])> {
        assert!(self.rows.contains(&n), "a step of {:?} rows has none of {n}", self.rows);
        let rows = |u: &'_ Use<'a>| if n == self.rows[0] { u.rows.len() } else { u.wanted.len() };
        let used = self.uses.iter().filter(|u| rows(u) > 0);
        used.filter_map(|u| {
            let found = change(u.adapter)?;
            Some((u.adapter, found, if n == self.rows[0] { &u.rows[..] } else { &u.wanted[..] }))
        })
        .collect()
    }

    /// Those rows of `x`.
    fn take(&self, x: &Act, rows: &[u32]) -> Act {
        if rows.len() == x.rows { x.clone() } else { self.inner.select_rows(x, rows) }
    }

    /// `y` with `x` in its rows `rows`.
    fn put(&self, y: Act, x: Act, rows: &[u32]) -> Act {
        if rows.len() == y.rows { x } else { self.inner.patch(y, rows, &Patch::Put(&x)) }
    }

    fn low(&self, [a, b]: &[W; 2], x: &Act) -> Act {
        let t = self.inner.linear(&bare(a), x);
        self.inner.linear(&bare(b), &t)
    }

    /// The rows of one adapter: what is made of `y`, all of it theirs, which the matrix under the change gave without a bias.
    fn finish(&self, y: Act, x: &Act, part: Option<&Part>, bias: Option<&W>) -> Act {
        let all: Vec<u32> = (0..y.rows as u32).collect();
        let add = |y: Act, p: Patch<'_>| self.inner.patch(y, &all, &p);
        let (gain, low, extra) =
            part.map_or((None, None, None), |p| (p.gain.as_ref(), p.low.as_ref(), p.bias.as_ref()));
        let low = low.map(|low| self.low(low, x));
        let mut y = y;
        if let Some(g) = gain {
            y = add(y, Patch::Mul(g));
            y = low.iter().fold(y, |y, u| add(y, Patch::Add(u)));
            y = bias.iter().fold(y, |y, b| add(y, Patch::Bias(b)));
        } else {
            y = bias.iter().fold(y, |y, b| add(y, Patch::Bias(b)));
            y = low.iter().fold(y, |y, u| add(y, Patch::Add(u)));
        }
        extra.iter().fold(y, |y, b| add(y, Patch::Bias(b)))
    }

    /// What the adapters make of `y`, the product of `l` with `x`, which has its bias unless `bared`.
    fn changed(&self, l: &Linear, x: &Act, mut y: Act, bared: bool) -> Act {
        let mine = self.of(x.rows, |a| a.touches(l).then_some(()));
        if bared {
            // Rows that no adapter takes out get their bias as the base gives it.
            let mut own: Vec<u32> = (0..x.rows as u32).collect();
            let apart = mine.iter().filter(|(a, ..)| is_apart(a, l)).flat_map(|m| m.2);
            apart.for_each(|r| own[*r as usize] = u32::MAX);
            own.retain(|r| *r != u32::MAX);
            if let Some(b) = l.bias.as_ref().filter(|_| !own.is_empty()) {
                y = self.inner.patch(y, &own, &Patch::Bias(b));
            }
        }
        for (a, (), rows) in mine {
            let change = a.change(&l.weight, Role::Product);
            let part = change.and_then(|c| c.part(0));
            let x = self.take(x, rows);
            if is_apart(a, l) {
                let under = match change.and_then(|c| c.replace.as_ref()) {
                    Some(w) => self.inner.linear(&bare(w), &x),
                    None => self.take(&y, rows),
                };
                let bias = a.vector(l.bias.as_ref()).or(l.bias.as_ref());
                let made = self.finish(under, &x, part, bias);
                y = self.put(y, made, rows);
                continue;
            }
            if let Some(low) = part.and_then(|p| p.low.as_ref()) {
                y = self.inner.patch(y, rows, &Patch::Add(&self.low(low, &x)));
            }
            if let Some(b) = part.and_then(|p| p.bias.as_ref()) {
                y = self.inner.patch(y, rows, &Patch::Bias(b));
            }
        }
        y
    }

    /// Whether the product of `l` is asked for without its bias.
    fn bares(&self, l: &Linear, rows: usize) -> bool {
        l.bias.is_some() && !self.of(rows, |a| is_apart(a, l).then_some(())).is_empty()
    }

    /// One expert's linear for the rows of one adapter.
    fn expert(&self, a: &Adapter, w: &W, bias: Option<&W>, id: usize, x: &Act) -> Act {
        let change = a.change(w, Role::Product);
        let under = change.map_or(w, |c| c.weight());
        let matrix = Weight::apart(under.name.clone(), under.groups[id].clone());
        let y = self.inner.linear(&Linear { weight: matrix, bias: None }, x);
        let bias = a.vector(bias).or(bias).map(|b| {
            let values = &b.vector()[id * w.out..][..w.out];
            Weight::from_f32(b.name.clone(), 1, w.out, values)
        });
        self.finish(y, x, change.and_then(|c| c.part(id)), bias.as_ref())
    }

    /// The rows of one adapter through their experts, added in ascending order of these.
    fn experts_of(&self, a: &Adapter, e: &Experts, route: &Act, x: &Act) -> Act {
        let (k, ops) = (route.cols / 2, self.inner);
        let mut routes = Vec::new();
        ops.read(route, &mut routes);
        let mut order: Vec<(u32, u32, f32)> = Vec::with_capacity(x.rows * k);
        for (r, row) in routes.chunks_exact(2 * k).enumerate() {
            order.extend((0..k).map(|i| (row[i] as u32, r as u32, row[k + i])));
        }
        order.sort_by_key(|(id, r, _)| (*id, *r));
        let mut y = ops.input(x.rows, e.down.out, &vec![0.0; x.rows * e.down.out]);
        for part in order.chunk_by(|a, b| a.0 == b.0) {
            let id = part[0].0 as usize;
            let rows: Vec<u32> = part.iter().map(|p| p.1).collect();
            let weights: Vec<f32> = part.iter().map(|p| p.2).collect();
            let x = self.take(x, &rows);
            let up = self.expert(a, &e.up, e.up_bias.as_ref(), id, &x);
            let h = match &e.gate {
                Some(w) => ops.glu(e.act, self.expert(a, w, e.gate_bias.as_ref(), id, &x), &up),
                None => self.activate(e.act, up),
            };
            let out = self.expert(a, &e.down, e.down_bias.as_ref(), id, &h);
            y = ops.patch(y, &rows, &Patch::AddTimes(&out, &weights));
        }
        y
    }

    /// `act(x)`: a gate of ones changes no bit.
    fn activate(&self, act: Activation, x: Act) -> Act {
        let ones = self.inner.input(x.rows, x.cols, &vec![1.0; x.rows * x.cols]);
        self.inner.glu(act, x, &ones)
    }
}

/// Without a bias.
fn bare(w: &W) -> Linear {
    Linear { weight: w.clone(), bias: None }
}

/// Whether the adapter's rows need the product of `l` without its bias, or another product.
fn is_apart(a: &Adapter, l: &Linear) -> bool {
    a.vector(l.bias.as_ref()).is_some() || a.change(&l.weight, Role::Product).is_some_and(Change::needs_bare)
}

impl Ops for Adapted<'_> {
    forward_plain!(inner);

    fn embed(&self, table: &W, index: Index, scale: f32, batch: &Batch) -> Act {
        let mut y = self.inner.embed(table, index, scale, batch);
        for (_, c, rows) in self.of(batch.len(), |a| a.change(table, Role::Table)) {
            if let Some(w) = &c.replace {
                let x = self.inner.embed(w, index, scale, batch);
                y = self.put(y, self.take(&x, rows), rows);
            }
            let Some(part) = c.part(0) else { continue };
            if let Some(g) = &part.gain {
                y = self.inner.patch(y, rows, &Patch::Mul(g));
            }
            if let Some([a, b]) = &part.low {
                let t = self.inner.embed(a, index, 1.0, batch);
                let u = self.inner.linear(&bare(b), &self.take(&t, rows));
                let u = if scale == 1.0 { u } else { self.inner.scale(u, scale) };
                y = self.inner.patch(y, rows, &Patch::Add(&u));
            }
        }
        y
    }

    fn linear(&self, l: &Linear, x: &Act) -> Act {
        let bared = self.bares(l, x.rows);
        let y = if bared { self.inner.linear(&bare(&l.weight), x) } else { self.inner.linear(l, x) };
        self.changed(l, x, y, bared)
    }

    fn linears(&self, ls: &[&Linear], x: &Act) -> Acts {
        if ls.iter().any(|l| self.bares(l, x.rows)) {
            return ls.iter().map(|l| self.linear(l, x)).collect();
        }
        let ys = self.inner.linears(ls, x);
        ls.iter().zip(ys).map(|(l, y)| self.changed(l, x, y, false)).collect()
    }

    fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act {
        let mut y = self.inner.linear_heads(w, x, transpose);
        for (_, c, rows) in self.of(x.rows, |a| a.change(w, Role::Product)) {
            let x = self.take(x, rows);
            if let Some(w) = &c.replace {
                y = self.put(y, self.inner.linear_heads(w, &x, transpose), rows);
            }
            if let Some([a, b]) = &c.heads {
                let (first, then) = if transpose { (b, a) } else { (a, b) };
                let u = self.inner.linear_heads(then, &self.inner.linear_heads(first, &x, transpose), transpose);
                y = self.inner.patch(y, rows, &Patch::Add(&u));
            }
        }
        y
    }

    fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act {
        let mut y = self.inner.norm(n, x, group);
        for (_, n, rows) in self.of(x.rows, |a| a.norm(n)) {
            y = self.put(y, self.inner.norm(&n, &self.take(x, rows), group), rows);
        }
        y
    }

    fn add_norm(&self, x: Act, y: &Act, n: &Norm) -> (Act, Act) {
        let (x, mut h) = self.inner.add_norm(x, y, n);
        for (_, n, rows) in self.of(x.rows, |a| a.norm(n)) {
            h = self.put(h, self.inner.norm(&n, &self.take(&x, rows), x.cols), rows);
        }
        (x, h)
    }

    fn rope(&self, x: Act, norm: Option<&Norm>, table: &Act, layout: &RopeLayout) -> Act {
        let mine = self.of(x.rows, |a| a.norm(norm?));
        if mine.is_empty() {
            return self.inner.rope(x, norm, table, layout);
        }
        let mut y = self.inner.rope(x.clone(), norm, table, layout);
        for (_, n, rows) in mine {
            let (x, table) = (self.take(&x, rows), self.take(table, rows));
            y = self.put(y, self.inner.rope(x, Some(&n), &table, layout), rows);
        }
        y
    }

    fn mlp(&self, m: &Mlp, x: &Act) -> Act {
        if self.of(x.rows, |a| a.touches_mlp(m).then_some(())).is_empty() {
            return self.inner.mlp(m, x);
        }
        let h = match &m.gate {
            Some(gate) => {
                let [gate, up] = [gate, &m.up].map(|l| self.linear(l, x));
                self.inner.glu(m.act, gate, &up)
            }
            None => self.activate(m.act, self.linear(&m.up, x)),
        };
        self.linear(&m.down, &h)
    }

    fn experts(&self, e: &Experts, route: &Act, x: &Act, shared: Option<Shared<'_>>) -> Act {
        let mine = self.of(x.rows, |a| a.touches_experts(e).then_some(()));
        let alike = |s: &Shared<'_>| self.of(x.rows, |a| a.touches_mlp(s.mlp).then_some(())).is_empty();
        if mine.is_empty() && shared.as_ref().is_none_or(alike) {
            return self.inner.experts(e, route, x, shared);
        }
        let all = mine.iter().any(|m| m.2.len() == x.rows);
        let mut y = match all {
            true => self.inner.input(x.rows, e.down.out, &vec![0.0; x.rows * e.down.out]),
            false => self.inner.experts(e, route, x, None),
        };
        for (a, (), rows) in mine {
            let made = self.experts_of(a, e, &self.take(route, rows), &self.take(x, rows));
            y = self.put(y, made, rows);
        }
        let Some(shared) = shared else { return y };
        let s = self.mlp(shared.mlp, x);
        let s = shared.gate.map_or(s.clone(), |gate| self.inner.sigmoid_mul(s, gate));
        self.inner.add(y, &s)
    }

    fn observe(&self, point: Point, x: &Act) {
        self.inner.observe(point, x);
    }
}
