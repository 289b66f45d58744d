//! The scalar backend: the specification of every operation, written to be read.
//!
//! One loop per formula, in the order of docs/numerics.md. Fast backends equal it to the bit; formats without
//! a fast kernel run through its functions.

pub mod attend;
pub mod cache;
pub mod moe;
pub mod product;
pub mod recur;
pub mod row;

use crate::*;
use cache::Cache;
use std::cell::RefCell;

/// The scalar backend.
#[derive(Default)]
pub struct Reference {
    arena: Arena,
    caches: RefCell<Vec<Cache>>,
    /// Per state and slot its values; empty until written.
    states: RefCell<Vec<Vec<Vec<f32>>>>,
}

impl Reference {
    /// A backend without caches; see [`Ops::reserve`].
    pub fn new() -> Reference {
        Reference::default()
    }

    /// A new activation whose row `r` is written by `f(row of x, row of y)`.
    fn map(&self, x: &Act, cols: usize, mut f: impl FnMut(&[f32], &mut [f32])) -> Act {
        let y = self.arena.alloc(x.rows, cols);
        for (x, y) in x.data().chunks_exact(x.cols.max(1)).zip(y.data_mut().chunks_exact_mut(cols.max(1))) {
            f(x, y);
        }
        y
    }

    /// `x` with every value replaced, in place where nobody else holds it.
    fn each(&self, x: Act, mut f: impl FnMut(usize, &mut f32)) -> Act {
        let y = self.arena.owned(x);
        y.data_mut().iter_mut().enumerate().for_each(|(i, v)| f(i, v));
        y
    }
}

impl Reference {
    fn attend(&self, a: &Attention, q: &Act, selected: Option<&Act>, batch: &Batch) -> Act {
        let cache = &self.caches.borrow()[a.cache];
        let chosen = selected.map(|s| (s.data(), s.cols));
        let y = self.arena.alloc(q.rows, a.heads * a.v_dim);
        let (qs, mut ys) = (q.data(), y.data_mut());
        for s in &batch.sequences {
            for r in s.rows.clone() {
                for h in 0..a.heads {
                    let q = &qs[r * q.cols + h * a.qk_dim..][..a.qk_dim];
                    let y = &mut ys[(r * a.heads + h) * a.v_dim..][..a.v_dim];
                    let last = batch.positions[s.rows.end - 1] as usize;
                    let chosen = chosen.as_ref().map(|(data, cols)| &data[r * cols..][..*cols]);
                    attend::head(a, h, q, cache, s, batch.positions[r] as usize, last, chosen, y);
                }
            }
        }
        drop(ys);
        y
    }

    fn recur(&self, state: StateId, work: &recur::Work<'_>, rows: usize, batch: &Batch) -> Act {
        let states = &mut self.states.borrow_mut()[state];
        let (y, cols) = (self.arena.alloc(rows, work.cols()), work.cols());
        let (mut ys, mut scratch) = (y.data_mut(), vec![0.0; work.scratch()]);
        for s in &batch.sequences {
            let start = s.state.map_or_else(|| vec![0.0; work.state_len()], |slot| states[slot as usize].clone());
            for (_, slot) in &s.keep {
                states[*slot as usize].resize(work.state_len(), 0.0);
            }
            for i in 0..work.parts() {
                let (part, columns) = (work.state(i), work.columns(i));
                let put = |r: usize, y: &[f32]| ys[r * cols..][columns.clone()].copy_from_slice(y);
                let keep = |slot: u32, s: &[f32]| states[slot as usize][part.clone()].copy_from_slice(s);
                work.run(i, s, &mut start[part.clone()].to_vec(), &mut scratch, put, keep);
            }
        }
        drop(ys);
        y
    }
}

/// The values of all, for as long as they are borrowed.
pub fn inputs<'a>(data: &'a [std::cell::Ref<'_, Vec<f32>>], acts: &[&Act]) -> Vec<recur::Input<'a>> {
    data.iter().zip(acts).map(|(d, a)| recur::Input { data: d, cols: a.cols }).collect()
}

impl Ops for Reference {
    fn kernels(&self) -> Vec<String> {
        vec!["the scalar specification".into()]
    }

    fn input(&self, rows: usize, cols: usize, data: &[f32]) -> Act {
        let y = self.arena.alloc(rows, cols);
        y.data_mut().copy_from_slice(data);
        y
    }

    fn read(&self, x: &Act, out: &mut Vec<f32>) {
        out.extend_from_slice(&x.data());
    }

    fn greatest(&self, x: &Act, out: &mut Vec<(u32, f32)>) {
        out.extend(x.data().chunks_exact(x.cols).map(row::greatest));
    }

    fn reserve(&self, caches: &[CacheSpec], kv: KvType, pages: usize) {
        *self.caches.borrow_mut() = caches.iter().map(|c| Cache::new(*c, kv, pages)).collect();
    }

    fn copy_page(&self, from: usize, to: usize) {
        self.caches.borrow_mut().iter_mut().for_each(|c| c.copy_page(from, to));
    }

    fn reserve_states(&self, states: &[StateSpec], slots: usize) {
        *self.states.borrow_mut() = states.iter().map(|_| vec![Vec::new(); slots]).collect();
    }

    fn held(&self) -> Held {
        let bytes = |values: &Vec<f32>| size_of_val(&values[..]) as u64;
        let caches = self.caches.borrow().iter().flat_map(|c| c.pages()).map(bytes).sum();
        Held { caches, states: self.states.borrow().iter().flatten().map(bytes).sum() }
    }

    fn lay_out(&self, _: Layout) {}

    fn settle(&self, _: std::time::Duration) -> Settled {
        Settled::default()
    }

    fn read_weights(&self) -> Option<f64> {
        None
    }

    fn embed(&self, table: &W, index: Index, scale: f32, batch: &Batch) -> Act {
        let y = self.arena.alloc(batch.len(), table.inp);
        for (r, y) in y.data_mut().chunks_exact_mut(table.inp).enumerate() {
            row::embed(table, row::index(index, batch, r), scale, y);
        }
        y
    }

    fn linear(&self, l: &Linear, x: &Act) -> Act {
        let mut product = product::Product::new(&l.weight.groups[0]);
        let y = self.map(x, l.weight.out, |x, y| product.row(x, y));
        match &l.bias {
            None => y,
            Some(b) => self.each(y, |i, v| *v += b.vector()[i % l.weight.out]),
        }
    }

    fn linears(&self, ls: &[&Linear], x: &Act) -> Acts {
        ls.iter().map(|l| self.linear(l, x)).collect()
    }

    fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act {
        let (inp, out) = if transpose { (w.out, w.inp) } else { (w.inp, w.out) };
        let y = self.arena.alloc(x.rows, w.groups.len() * out);
        let (xs, mut ys) = (x.data(), y.data_mut());
        for (g, m) in w.groups.iter().enumerate() {
            let mut product = product::Product::new(m);
            for (x, y) in xs.chunks_exact(x.cols).zip(ys.chunks_exact_mut(y.cols)) {
                let (x, y) = (&x[g * inp..][..inp], &mut y[g * out..][..out]);
                if transpose { product.row_transposed(x, y) } else { product.row(x, y) }
            }
        }
        drop(ys);
        y
    }

    fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act {
        self.map(x, x.cols, |x, y| {
            for (g, (x, y)) in x.chunks_exact(group).zip(y.chunks_exact_mut(group)).enumerate() {
                row::norm(n, g, x, y);
            }
        })
    }

    fn rotary(&self, rope: &Rope, batch: &Batch) -> Act {
        let pairs = rope.pairs();
        let y = self.arena.alloc(batch.len(), 2 * pairs);
        let mut data = y.data_mut();
        for s in &batch.sequences {
            let frequencies = rope.at_length(s.rope_length);
            for r in s.rows.clone() {
                row::rotary(&frequencies, rope.scale, batch.positions[r], &mut data[r * 2 * pairs..][..2 * pairs]);
            }
        }
        drop(data);
        y
    }

    fn add_norm(&self, x: Act, y: &Act, n: &Norm) -> (Act, Act) {
        let x = self.add(x, y);
        let h = self.norm(n, &x, x.cols);
        (x, h)
    }

    fn rope(&self, x: Act, norm: Option<&Norm>, table: &Act, layout: &RopeLayout) -> Act {
        let y = match norm {
            Some(n) => self.norm(n, &x, layout.head_dim),
            None => self.arena.owned(x),
        };
        for (x, t) in y.data_mut().chunks_exact_mut(y.cols).zip(table.data().chunks_exact(table.cols)) {
            for head in x.chunks_exact_mut(layout.head_dim) {
                row::rope(&mut head[layout.offset..], t, layout.interleaved);
            }
        }
        y
    }

    fn append(&self, cache: CacheId, k: &Act, v: Option<&Act>, batch: &Batch) {
        let cache = &mut self.caches.borrow_mut()[cache];
        let (ks, vs) = (k.data(), v.map(|v| v.data()));
        for s in &batch.sequences {
            for r in s.rows.clone() {
                let k = &ks[r * k.cols..][..k.cols];
                let v = vs.as_ref().zip(v).map(|(vs, v)| &vs[r * v.cols..][..v.cols]);
                cache.write(s, batch.positions[r] as usize, k, v);
            }
        }
    }

    fn select(&self, i: &Indexer, q: &Act, weights: &Act, batch: &Batch) -> Act {
        let cache = &self.caches.borrow()[i.cache];
        let columns = i.columns(batch);
        let y = self.arena.alloc(q.rows, columns);
        let (qs, ws, mut ys) = (q.data(), weights.data(), y.data_mut());
        for s in &batch.sequences {
            for r in s.rows.clone() {
                let (q, w) = (&qs[r * q.cols..][..q.cols], &ws[r * i.heads..][..i.heads]);
                attend::select(i, q, w, cache, s, batch.positions[r] as usize, &mut ys[r * columns..][..columns]);
            }
        }
        drop(ys);
        y
    }

    fn attention(&self, a: &Attention, q: &Act, batch: &Batch) -> Act {
        self.attend(a, q, None, batch)
    }

    fn attention_over(&self, a: &Attention, q: &Act, selected: &Act, batch: &Batch) -> Act {
        assert!(a.softcap.is_none() && a.slopes.is_none(), "sparse attention has neither cap nor slopes");
        self.attend(a, q, Some(selected), batch)
    }

    fn conv(&self, c: &Conv, x: &Act, batch: &Batch) -> Act {
        let data = x.data();
        let work = recur::Work::Conv(c, [recur::Input { data: &data, cols: x.cols }]);
        self.recur(c.state, &work, x.rows, batch)
    }

    fn scan(&self, s: &Scan, acts: &[&Act], batch: &Batch) -> Act {
        let data: Vec<_> = acts.iter().map(|a| a.data()).collect();
        self.recur(s.state, &recur::Work::new(&s.kind, &inputs(&data, acts)), acts[0].rows, batch)
    }

    fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act {
        self.map(x, x.cols / group * (to - from), |x, y| {
            for (x, y) in x.chunks_exact(group).zip(y.chunks_exact_mut(to - from)) {
                y.copy_from_slice(&x[from..to]);
            }
        })
    }

    fn concat_heads(&self, a: &Act, b: &Act, heads: usize) -> Act {
        let (ca, cb) = (a.cols / heads, b.cols / heads);
        let y = self.arena.alloc(a.rows, a.cols + b.cols);
        for (i, y) in y.data_mut().chunks_exact_mut(ca + cb).enumerate() {
            y[..ca].copy_from_slice(&a.data()[i * ca..][..ca]);
            y[ca..].copy_from_slice(&b.data()[i * cb..][..cb]);
        }
        y
    }

    fn select_rows(&self, x: &Act, rows: &[u32]) -> Act {
        let y = self.arena.alloc(rows.len(), x.cols);
        for (r, y) in rows.iter().zip(y.data_mut().chunks_exact_mut(x.cols)) {
            y.copy_from_slice(&x.data()[*r as usize * x.cols..][..x.cols]);
        }
        y
    }

    fn patch(&self, y: Act, rows: &[u32], patch: &Patch<'_>) -> Act {
        let y = self.arena.owned(y);
        for (i, r) in rows.iter().enumerate() {
            row::patch(patch, i, &mut y.data_mut()[*r as usize * y.cols..][..y.cols]);
        }
        y
    }

    fn add(&self, a: Act, b: &Act) -> Act {
        assert_eq!((a.rows, a.cols), (b.rows, b.cols));
        let a = self.arena.owned(a);
        a.data_mut().iter_mut().zip(b.data().iter()).for_each(|(a, b)| *a += b);
        a
    }

    fn scale(&self, x: Act, factor: f32) -> Act {
        self.each(x, |_, v| *v *= factor)
    }

    fn softcap(&self, x: Act, cap: f32) -> Act {
        self.each(x, |_, v| *v = row::softcap(*v, cap))
    }

    fn sigmoid_mul(&self, x: Act, gate: &Act) -> Act {
        let (width, gates) = (x.cols / gate.cols, gate.data());
        self.each(x, |i, v| *v *= math::sigmoid(gates[i / width]))
    }

    fn mul(&self, x: Act, factor: &Act) -> Act {
        let (width, factors) = (x.cols / factor.cols, factor.data());
        self.each(x, |i, v| *v *= factors[i / width])
    }

    fn glu(&self, act: Activation, gate: Act, x: &Act) -> Act {
        assert_eq!((gate.rows, gate.cols), (x.rows, x.cols));
        let xs = x.data();
        self.each(gate, |i, g| *g = row::glu(act, *g, xs[i]))
    }

    fn clamp(&self, x: Act, limit: f32) -> Act {
        self.each(x, |_, v| *v = row::clamp(*v, limit))
    }

    fn mlp(&self, m: &Mlp, x: &Act) -> Act {
        let up = self.linear(&m.up, x);
        let h = match &m.gate {
            Some(g) => {
                let gate = self.linear(g, x);
                self.each(gate, |i, g| *g = row::glu(m.act, *g, up.data()[i]))
            }
            None => self.each(up, |_, u| *u = row::activation(m.act, *u)),
        };
        self.linear(&m.down, &h)
    }

    fn route(&self, r: &Route, logits: &Act) -> Act {
        self.map(logits, 2 * r.top_k, |x, y| moe::route(r, x, y))
    }

    fn experts(&self, e: &Experts, route: &Act, x: &Act, shared: Option<Shared<'_>>) -> Act {
        let y = self.arena.alloc(x.rows, e.down.out);
        let (xs, routes) = (x.data(), route.data());
        for (r, y) in y.data_mut().chunks_exact_mut(e.down.out).enumerate() {
            moe::experts(e, &routes[r * route.cols..][..route.cols], &xs[r * x.cols..][..x.cols], y);
        }
        let Some(shared) = shared else { return y };
        let s = self.mlp(shared.mlp, x);
        let s = match shared.gate {
            Some(gate) => self.sigmoid_mul(s, gate),
            None => s,
        };
        self.add(y, &s)
    }

    fn observe(&self, _: Point, _: &Act) {}
}
