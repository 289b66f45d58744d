//! [`pondera_ops::Ops`] for [`Cpu`]: each operation as kernels over rows, heads or outputs, shared out to threads.
//! What an operation means stands in `pondera_ops::reference`.
use crate::{
    Cpu, attention,
    kv::Cache,
    moe,
    product::{CodesOut, Input, Job, Product, Ptr, Weights},
    rows::{self, NormRow},
    scan, select,
    simd::Level,
    tiled::{self, Tiled},
    vmath,
};
use arrayvec::ArrayVec;
use pondera_ops::{
    reference::{
        recur::{self, Work},
        row,
    },
    *,
};
use std::{slice, sync::Arc, time::Duration};

impl Cpu {
    fn attend(&self, a: &Attention, q: &Act, selected: Option<&Act>, batch: &Batch) -> Act {
        let y = self.arena.alloc(q.rows, a.heads * a.v_dim);
        let caches = self.caches.borrow();
        self.engine.ran("attention by tiles of a span", caches[a.cache].kv.name());
        let selected = selected.map(|s| (s.data(), s.cols));
        let selected = selected.as_ref().map(|(data, cols)| (&data[..], *cols));
        let scratch = &mut self.attending.borrow_mut();
        attention::run(&self.engine, scratch, a, &caches[a.cache], q, selected, batch, &y);
        y
    }

    /// An activation for a kernel to write, and where.
    fn make(&self, rows: usize, cols: usize) -> (Act, Ptr<f32>) {
        let y = self.arena.alloc(rows, cols);
        let p = Ptr(y.data_mut().as_mut_ptr());
        (y, p)
    }

    /// `x` with each row (`cost` thousandths of a nanosecond per element) changed by `f(row, values)`, in place where
    /// nobody else holds it.
    fn each(&self, x: Act, cost: usize, f: &(dyn Fn(usize, &mut [f32]) + Sync)) -> Act {
        let y = self.arena.owned(x);
        let (p, cols) = (Ptr(y.data_mut().as_mut_ptr()), y.cols);
        // SAFETY: row r is one task's alone.
        self.engine.rows(y.rows, cols * cost / 1000, &|r| f(r, unsafe { row_of(p, r, cols) }));
        y
    }

    /// The codes of `x` in blocks of `block`, made once per activation.
    fn codes(&self, x: &Act, block: usize) -> Input {
        let slot = &mut self.codes.borrow_mut()[usize::from(block != 32)];
        if slot.stamp != (x.stamp(), block) {
            let (data, cols) = (x.data(), x.cols);
            let data = &data[..];
            // SAFETY: the rows of x.
            unsafe {
                let rows = (x.rows, self.engine.tiled(x.rows));
                self.engine.quantize(block, rows, cols, &mut slot.codes, &|r| data[r * cols..].as_ptr())
            };
            slot.stamp = (x.stamp(), block);
            let (normed, _) = self.normed.get();
            if normed == x.stamp() {
                self.normed.set((normed, block));
            }
        }
        slot.codes.input(0, x.cols, block)
    }

    /// `x` as tiles read it, made once per activation.
    fn tiled(&self, x: &Act) -> Option<Tiled> {
        let (stamp, tiled, buffer) = &mut *self.tiled.borrow_mut();
        if *stamp != x.stamp() {
            let each = |tiles: usize, f: &(dyn Fn(usize) + Sync)| self.engine.rows(tiles, 6 * x.cols, f);
            // SAFETY: the rows of x; products with what the buffer held before are done.
            *tiled = unsafe { buffer.fill(self.engine.isa, (x.data().as_ptr(), x.cols), x.rows, x.cols, &each) };
            *stamp = x.stamp();
        }
        *tiled
    }

    /// Where the codes of a norm's result `h` go at once, if those of the last were wanted.
    fn foreseen(&self, h: &Act) -> Option<CodesOut> {
        let (_, block) = self.normed.get();
        self.normed.set((h.stamp(), block));
        let whole = block != 0 && h.cols.is_multiple_of(block);
        whole.then(|| {
            let slot = &mut self.codes.borrow_mut()[usize::from(block != 32)];
            slot.stamp = (h.stamp(), block);
            slot.codes.make(h.rows, h.cols, block, self.engine.tiled(h.rows))
        })
    }

    /// The norm of each row, after `y` (if there is one) was added to it in place: all that happens to a row happens
    /// while it is in cache, its quantization too where that is foreseen.
    fn normalise(&self, n: &Norm, x: &Act, y: Option<&Act>) -> Act {
        let (h, to) = self.make(x.rows, x.cols);
        let (n, cols, level) = (NormRow::new(n), x.cols, self.engine.level);
        let codes = self.foreseen(&h);
        let added = y.map(|y| y.data());
        let added = added.as_ref().map(|y| &y[..]);
        let from = Ptr(match y {
            Some(_) => x.data_mut().as_mut_ptr(),
            None => x.data().as_ptr().cast_mut(),
        });
        self.engine.rows(x.rows, cols / 3, &|r| {
            // SAFETY: row r of each is one task's alone; x is written only where it is the caller's own.
            unsafe {
                if let Some(added) = added {
                    vmath::add(level, row_of(from, r, cols), &added[r * cols..][..cols]);
                }
                rows::norm(level, &n, from.get().add(r * cols), to.get().add(r * cols), cols);
                if let Some(codes) = &codes {
                    codes.put(level, r, 0, row_of(to, r, cols));
                }
            }
        });
        h
    }

    /// A product of `x`, into `y`.
    fn product(&self, l: &Linear, x: &Act, y: Ptr<f32>) -> Product {
        self.product_with(self.engine.weights_of(&l.weight, 0, x.rows), l, x, y)
    }

    /// A product of `x` with the weights of `l` as they lie, into `y`.
    fn product_with(&self, weights: Weights, l: &Linear, x: &Act, y: Ptr<f32>) -> Product {
        assert_eq!(l.weight.inp, x.cols, "{}: expected {} columns, got {}", l.weight.name, l.weight.inp, x.cols);
        let codes = |block| self.codes(x, block);
        let many = matches!(weights, Weights::PackedFloat { .. }) && x.rows >= tiled::MANY;
        let tiled = if many { self.tiled(x) } else { None };
        weights.product(l, y.get(), Input::Float { x: x.data().as_ptr(), ld: x.cols, tiled }, &codes)
    }

    /// A copy made of `x` row by row: `f(row of x, row of the copy)`.
    fn map(&self, x: &Act, cols: usize, f: &(dyn Fn(&[f32], &mut [f32]) + Sync)) -> Act {
        let (y, p) = self.make(x.rows, cols);
        let (data, from) = (x.data(), x.cols);
        let data = &data[..];
        // SAFETY: row r is one task's alone.
        self.engine.rows(x.rows, cols / 8, &|r| f(&data[r * from..][..from], unsafe { row_of(p, r, cols) }));
        y
    }

    /// The product of a plain linear: one job, or two while its weight is packed up to some row.
    fn push_linear(&self, jobs: &mut Vec<Job>, l: &Linear, n: usize, product: &dyn Fn(Weights) -> Product) {
        let (w, e) = (&l.weight, &self.engine);
        let rows = e.promoter.packed_rows(e, w, n);
        if (1..w.out).contains(&rows)
            && let Some(head) = e.promoter.head(e, w, 0)
            && let Some(tail) = e.weights(&w.groups[0], false).skip(rows)
        {
            let head = Product { out: rows, ..product(head) };
            let mut rest = Product { out: w.out - rows, ..product(tail) };
            // SAFETY: within the outputs and, where there is one, the bias.
            unsafe {
                rest.y = rest.y.add(rows);
                if !rest.bias.is_null() {
                    rest.bias = rest.bias.add(rows);
                }
            }
            jobs.extend([head, rest].map(|p| Job::new(p, n)));
        } else {
            jobs.push(Job::new(product(e.weights_of(w, 0, n)), n));
        }
    }

    /// Runs the jobs that `fill` makes.
    fn jobs(&self, fill: impl FnOnce(&mut Vec<Job>)) {
        let mut jobs = self.jobs.borrow_mut();
        jobs.clear();
        fill(&mut jobs);
        // SAFETY: inputs live until the end of the operation, outputs are activations just made.
        unsafe { self.engine.run(&jobs) };
    }
}

/// Row `r` of `cols` values.
///
/// # Safety
/// The row is there and nobody else uses it.
unsafe fn row_of<'a>(p: Ptr<f32>, r: usize, cols: usize) -> &'a mut [f32] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(p.get().add(r * cols), cols) }
}

impl Ops for Cpu {
    fn kernels(&self) -> Vec<String> {
        self.engine.kernels()
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
        /// Columns of a task.
        const PART: usize = 1 << 14;
        let (data, level, parts) = (x.data(), self.engine.level, x.cols.div_ceil(PART));
        let data = &data[..];
        let (cols, found) = (x.cols, &mut *self.greatest.borrow_mut());
        found.clear();
        found.resize(x.rows * parts, (0, 0.0));
        let p = Ptr(found.as_mut_ptr());
        self.engine.rows(x.rows * parts, PART.min(x.cols) / 8, &|i| {
            let from = i % parts * PART;
            let part = &data[i / parts * cols..][from..(from + PART).min(cols)];
            // SAFETY: place i is one task's alone.
            unsafe {
                let (at, v) = vmath::greatest(level, part);
                *p.get().add(i) = (from as u32 + at, v);
            }
        });
        // The first of the greatest; a NaN stays.
        let better = |a: (u32, f32), b: (u32, f32)| if b.1 > a.1 || b.1.is_nan() { b } else { a };
        out.extend(found.chunks_exact(parts).map(|parts| parts[1..].iter().fold(parts[0], |a, &b| better(a, b))));
    }

    fn reserve(&self, caches: &[CacheSpec], kv: KvType, pages: usize) {
        let memory = Arc::default();
        *self.caches.borrow_mut() = caches.iter().map(|c| Cache::new(*c, kv, pages, &memory)).collect();
    }

    fn copy_page(&self, from: usize, to: usize) {
        self.caches.borrow_mut().iter_mut().for_each(|c| c.copy_page(from, to));
    }

    fn reserve_states(&self, states: &[StateSpec], slots: usize) {
        self.states.borrow_mut().reserve(states, slots);
    }

    fn held(&self) -> Held {
        let caches = self.caches.borrow().iter().map(Cache::held).sum();
        Held { caches, states: self.states.borrow().held() }
    }

    fn lay_out(&self, layout: Layout) {
        self.engine.promoter.lay_out(layout);
    }

    fn settle(&self, budget: Duration) -> Settled {
        self.engine.promoter.settle(&self.engine, budget)
    }

    fn read_weights(&self) -> Option<f64> {
        self.engine.promoter.read_speed(&self.engine)
    }

    fn embed(&self, table: &W, index: Index, scale: f32, batch: &Batch) -> Act {
        self.engine.promoter.reading(table, batch.len());
        let (y, p) = self.make(batch.len(), table.inp);
        self.engine.rows(batch.len(), table.inp, &|r| {
            // SAFETY: row r is one task's alone.
            row::embed(table, row::index(index, batch, r), scale, unsafe { row_of(p, r, table.inp) });
        });
        y
    }

    fn linear(&self, l: &Linear, x: &Act) -> Act {
        let (y, p) = self.make(x.rows, l.weight.out);
        self.jobs(|jobs| self.push_linear(jobs, l, x.rows, &|w| self.product_with(w, l, x, p)));
        y
    }

    fn linears(&self, ls: &[&Linear], x: &Act) -> Acts {
        let mut ys = Acts::new();
        self.jobs(|jobs| {
            for l in ls {
                let (y, p) = self.make(x.rows, l.weight.out);
                jobs.push(Job::new(self.product(l, x, p), x.rows));
                ys.push(y);
            }
        });
        ys
    }

    fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act {
        let (inp, out) = if transpose { (w.out, w.inp) } else { (w.inp, w.out) };
        let groups = w.groups.len();
        assert_eq!(x.cols, groups * inp, "{}: expected {groups} groups of {inp} columns, got {}", w.name, x.cols);
        let (y, p) = self.make(x.rows, groups * out);
        let (data, cols, rows) = (x.data(), x.cols, x.rows);
        let data = &data[..];
        let codes = &mut *self.head_codes.borrow_mut();
        // Groups are parts of one tensor: where one wants codes, all do, in the same block.
        let block = w.groups.first().and_then(|m| self.engine.weights(m, transpose).block());
        if let Some(block) = block {
            // One list of rows, group by group.
            let row = |r: usize| data[r % rows * cols + r / rows * inp..].as_ptr();
            // SAFETY: columns g · inp .. of every row.
            unsafe { self.engine.quantize(block, (groups * rows, false), inp, codes, &row) };
        }
        self.jobs(|jobs| {
            for (g, m) in w.groups.iter().enumerate() {
                let weights = match transpose {
                    true => self.engine.weights(m, true),
                    false => self.engine.weights_of(w, g, x.rows),
                };
                assert_eq!(weights.block(), block, "{}: groups of several types", w.name);
                let input = match block {
                    Some(block) => codes.input(g * rows, inp, block),
                    None => Input::Float { x: data.as_ptr().wrapping_add(g * inp), ld: cols, tiled: None },
                };
                // SAFETY: column g · out of the first row.
                let y = unsafe { p.get().add(g * out) };
                let product = Product { weights, out, inp, input, y, ld: groups * out, bias: std::ptr::null() };
                jobs.push(Job::new(product, x.rows));
            }
        });
        y
    }

    fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act {
        if group == x.cols {
            return self.normalise(n, x, None);
        }
        let (n, level) = (NormRow::new(n), self.engine.level);
        self.map(x, x.cols, &|x, y| {
            for (g, (x, y)) in x.chunks_exact(group).zip(y.chunks_exact_mut(group)).enumerate() {
                // SAFETY: groups have equal lengths.
                unsafe { rows::norm(level, &n.of(g, group), x.as_ptr(), y.as_mut_ptr(), group) };
            }
        })
    }

    fn add_norm(&self, x: Act, y: &Act, n: &Norm) -> (Act, Act) {
        assert_eq!((x.rows, x.cols), (y.rows, y.cols));
        let x = self.arena.owned(x);
        let h = self.normalise(n, &x, Some(y));
        (x, h)
    }

    fn rotary(&self, rope: &Rope, batch: &Batch) -> Act {
        let pairs = rope.pairs();
        let (y, p) = self.make(batch.len(), 2 * pairs);
        for s in &batch.sequences {
            let frequencies = rope.at_length(s.rope_length);
            self.engine.rows(s.rows.len(), pairs * 60, &|r| {
                let r = s.rows.start + r;
                // SAFETY: row r is one task's alone.
                row::rotary(&frequencies, rope.scale, batch.positions[r], unsafe { row_of(p, r, 2 * pairs) });
            });
        }
        y
    }

    fn rope(&self, x: Act, norm: Option<&Norm>, table: &Act, layout: &RopeLayout) -> Act {
        let (t, level, cols, dim) = (table.data(), self.engine.level, table.cols, layout.head_dim);
        let (t, norm) = (&t[..], norm.map(NormRow::new));
        self.each(x, 500, &|r, x| {
            if let Some(n) = &norm {
                let heads = x.chunks_exact_mut(dim).map(|head| head.as_mut_ptr());
                // SAFETY: whole heads.
                heads.enumerate().for_each(|(g, head)| unsafe { rows::norm(level, &n.of(g, dim), head, head, dim) });
            }
            // SAFETY: the table has a row per row of x.
            unsafe { rows::rope(level, x, &t[r * cols..][..cols], layout) };
        })
    }

    fn append(&self, cache: CacheId, k: &Act, v: Option<&Act>, batch: &Batch) {
        let cache = &mut self.caches.borrow_mut()[cache];
        let (ks, vs) = (k.data(), v.map(|v| v.data()));
        for s in &batch.sequences {
            let place = |r: usize| {
                let p = batch.positions[s.rows.start + r] as usize;
                (s.pages[p / PAGE] as usize, p % PAGE)
            };
            let k = &ks[s.rows.start * k.cols..s.rows.end * k.cols];
            let v = vs.as_ref().zip(v).map(|(vs, v)| &vs[s.rows.start * v.cols..s.rows.end * v.cols]);
            cache.write(&self.engine, s.rows.len(), &place, k, v);
        }
    }

    fn attention(&self, a: &Attention, q: &Act, batch: &Batch) -> Act {
        self.attend(a, q, None, batch)
    }

    fn select(&self, i: &Indexer, q: &Act, weights: &Act, batch: &Batch) -> Act {
        let y = self.arena.alloc(q.rows, i.columns(batch));
        let caches = self.caches.borrow();
        self.engine.ran("choice of positions by tiles of a page", caches[i.cache].kv.name());
        let work = select::Work { indexer: i, cache: &caches[i.cache], q, weights, batch };
        select::run(&self.engine, &self.selecting, &work, &y);
        y
    }

    fn attention_over(&self, a: &Attention, q: &Act, selected: &Act, batch: &Batch) -> Act {
        assert!(a.softcap.is_none() && a.slopes.is_none(), "sparse attention has neither cap nor slopes");
        self.attend(a, q, Some(selected), batch)
    }

    fn conv(&self, c: &Conv, x: &Act, batch: &Batch) -> Act {
        let (y, to) = self.make(x.rows, x.cols);
        let data = x.data();
        self.engine.ran("recurrence, a call per chunk", "convolution");
        let work = Work::Conv(c, [recur::Input { data: &data, cols: x.cols }]);
        scan::run(&self.engine, &mut self.states.borrow_mut(), c.state, &work, batch, to);
        y
    }

    fn scan(&self, s: &Scan, acts: &[&Act], batch: &Batch) -> Act {
        let data: ArrayVec<_, 5> = acts.iter().map(|a| a.data()).collect();
        let inputs = data.iter().zip(acts).map(|(d, a)| recur::Input { data: d, cols: a.cols });
        let inputs: ArrayVec<_, 5> = inputs.collect();
        let work = Work::new(&s.kind, &inputs);
        self.engine.ran("recurrence, a call per chunk", s.kind.name());
        let (y, to) = self.make(acts[0].rows, work.cols());
        scan::run(&self.engine, &mut self.states.borrow_mut(), s.state, &work, batch, to);
        y
    }

    fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act {
        self.map(x, x.cols / group * (to - from), &|x, y| {
            for (x, y) in x.chunks_exact(group).zip(y.chunks_exact_mut((to - from).max(1))) {
                y.copy_from_slice(&x[from..to]);
            }
        })
    }

    fn concat_heads(&self, a: &Act, b: &Act, heads: usize) -> Act {
        let (ca, cb) = (a.cols / heads, b.cols / heads);
        let (y, p) = self.make(a.rows, a.cols + b.cols);
        let (da, db, cols) = (a.data(), b.data(), y.cols);
        let (da, db) = (&da[..], &db[..]);
        self.engine.rows(a.rows, cols / 8, &|r| {
            // SAFETY: row r is one task's alone.
            let y = unsafe { row_of(p, r, cols) };
            for (y, i) in y.chunks_exact_mut((ca + cb).max(1)).zip(r * heads..) {
                y[..ca].copy_from_slice(&da[i * ca..][..ca]);
                y[ca..].copy_from_slice(&db[i * cb..][..cb]);
            }
        });
        y
    }

    fn select_rows(&self, x: &Act, rows: &[u32]) -> Act {
        let y = self.arena.alloc(rows.len(), x.cols);
        let xs = x.data();
        for (r, y) in rows.iter().zip(y.data_mut().chunks_exact_mut(x.cols.max(1))) {
            y.copy_from_slice(&xs[*r as usize * x.cols..][..x.cols]);
        }
        y
    }

    fn patch(&self, y: Act, rows: &[u32], patch: &Patch<'_>) -> Act {
        type Change = unsafe fn(Level, usize, &mut [f32], &[f32], &[f32]);
        assert!(rows.is_sorted_by(|a, b| a < b) && rows.last().is_none_or(|r| (*r as usize) < y.rows));
        let y = self.arena.owned(y);
        let (to, cols, level) = (Ptr(y.data_mut().as_mut_ptr()), y.cols, self.engine.level);
        let data = match patch {
            Patch::Put(x) | Patch::Add(x) | Patch::AddTimes(x, _) => Some(x.data()),
            Patch::Mul(_) | Patch::Bias(_) => None,
        };
        let data = data.as_ref().map_or(&[][..], |d| &d[..]);
        let (change, x, step, factors): (Change, &[f32], usize, &[f32]) = match patch {
            Patch::Put(_) => (|_, _, y, x, _| y.copy_from_slice(x), data, cols, &[]),
            // SAFETY: equal lengths.
            Patch::Add(_) => (|level, _, y, x, _| unsafe { vmath::add(level, y, x) }, data, cols, &[]),
            // SAFETY: equal lengths.
            Patch::AddTimes(_, f) => (|level, i, y, x, f| unsafe { vmath::fma(level, y, x, f[i]) }, data, cols, f),
            // SAFETY: equal lengths.
            Patch::Mul(g) => (|level, _, y, x, _| unsafe { vmath::mul(level, y, x) }, g.vector(), 0, &[]),
            // SAFETY: equal lengths.
            Patch::Bias(b) => (|level, _, y, x, _| unsafe { vmath::add(level, y, x) }, b.vector(), 0, &[]),
        };
        self.engine.rows(rows.len(), cols / 6, &|i| {
            // SAFETY: rows differ, so each is one task's alone; lengths are equal.
            unsafe { change(level, i, row_of(to, rows[i] as usize, cols), &x[i * step..][..cols], factors) }
        });
        y
    }

    fn add(&self, a: Act, b: &Act) -> Act {
        assert_eq!((a.rows, a.cols), (b.rows, b.cols));
        let (data, cols, level) = (b.data(), b.cols, self.engine.level);
        let data = &data[..];
        // SAFETY: equal lengths.
        self.each(a, 150, &|r, a| unsafe { vmath::add(level, a, &data[r * cols..][..cols]) })
    }

    fn scale(&self, x: Act, factor: f32) -> Act {
        let level = self.engine.level;
        // SAFETY: any slice.
        self.each(x, 100, &|_, x| unsafe { vmath::scale(level, x, factor) })
    }

    fn softcap(&self, x: Act, cap: f32) -> Act {
        let level = self.engine.level;
        // SAFETY: any slice.
        self.each(x, 1500, &|_, x| unsafe { vmath::softcaps(level, x, cap) })
    }

    fn sigmoid_mul(&self, x: Act, gate: &Act) -> Act {
        let (width, gates, cols, level) = (x.cols / gate.cols, gate.data(), gate.cols, self.engine.level);
        let gates = &gates[..];
        self.each(x, 1500, &|r, x| {
            let gates = &gates[r * cols..][..cols];
            // SAFETY: equal lengths.
            unsafe {
                if width == 1 {
                    vmath::gate(level, x, gates);
                } else {
                    x.chunks_exact_mut(width).zip(gates).for_each(|(x, g)| vmath::gate_one(level, x, *g));
                }
            }
        })
    }

    fn mul(&self, x: Act, factor: &Act) -> Act {
        let (width, factors, cols, level) = (x.cols / factor.cols, factor.data(), factor.cols, self.engine.level);
        let factors = &factors[..];
        self.each(x, 150, &|r, x| {
            let factors = &factors[r * cols..][..cols];
            // SAFETY: equal lengths.
            unsafe {
                if width == 1 {
                    vmath::mul(level, x, factors);
                } else {
                    x.chunks_exact_mut(width).zip(factors).for_each(|(x, f)| vmath::scale(level, x, *f));
                }
            }
        })
    }

    fn glu(&self, act: Activation, gate: Act, x: &Act) -> Act {
        assert_eq!((gate.rows, gate.cols), (x.rows, x.cols));
        let (xs, cols, level) = (x.data(), x.cols, self.engine.level);
        let xs = &xs[..];
        // SAFETY: equal lengths.
        self.each(gate, 1500, &|r, g| unsafe { vmath::glu(level, act, g, &xs[r * cols..][..cols]) })
    }

    fn clamp(&self, x: Act, limit: f32) -> Act {
        self.each(x, 150, &|_, x| x.iter_mut().for_each(|v| *v = row::clamp(*v, limit)))
    }

    fn mlp(&self, m: &Mlp, x: &Act) -> Act {
        let inner = m.up.weight.out;
        if let Some(block) = self.engine.weights(&m.down.weight.groups[0], false).block() {
            // What lies between goes from the task that computes it into codes: nobody else reads it.
            let codes = &mut *self.hidden.borrow_mut();
            self.jobs(|jobs| {
                let nowhere = Ptr(std::ptr::null_mut());
                let gate = m.gate.as_ref().map(|g| self.product(g, x, nowhere));
                let mut job = Job::gated(m.act, gate, self.product(&m.up, x, nowhere), x.rows);
                job.codes = Some(codes.make(x.rows, inner, block, self.engine.tiled(x.rows)));
                jobs.push(job);
            });
            let (y, p) = self.make(x.rows, m.down.weight.out);
            let none = Input::Float { x: std::ptr::null(), ld: 0, tiled: None };
            let down = |w: Weights| w.product(&m.down, p.get(), none, &|block| codes.input(0, inner, block));
            self.jobs(|jobs| self.push_linear(jobs, &m.down, x.rows, &down));
            return y;
        }
        let (up, up_p) = self.make(x.rows, inner);
        let gate = m.gate.as_ref().map(|g| (g, self.make(x.rows, inner)));
        self.jobs(|jobs| {
            let first = gate.as_ref().map(|(g, (_, p))| self.product(g, x, *p));
            jobs.push(Job::gated(m.act, first, self.product(&m.up, x, up_p), x.rows));
        });
        self.linear(&m.down, gate.as_ref().map_or(&up, |(_, (h, _))| h))
    }

    fn route(&self, r: &Route, logits: &Act) -> Act {
        let (y, p) = self.make(logits.rows, 2 * r.top_k);
        let (data, cols, to, level) = (logits.data(), logits.cols, y.cols, self.engine.level);
        let (data, choices) = (&data[..], &self.choices);
        self.engine.ranges(logits.rows, 1, logits.rows * cols * 6, &|rows, thread, _| {
            // SAFETY: one task at a time has this thread's memory; rows are one task's alone.
            unsafe {
                let choice = choices.of(thread);
                rows.for_each(|t| moe::route(level, r, &data[t * cols..][..cols], row_of(p, t, to), choice));
            }
        });
        y
    }

    fn experts(&self, e: &Experts, route: &Act, x: &Act, shared: Option<Shared<'_>>) -> Act {
        let y = self.arena.alloc(x.rows, e.down.out);
        let codes = |block: usize| self.codes(x, block);
        let work = moe::Work { engine: &self.engine, e, shared, x, codes: &codes };
        self.engine.ran("experts, rows grouped by expert", e.up.groups[0].format_name());
        moe::run(&work, &mut self.experts.borrow_mut(), route, &y);
        y
    }

    fn observe(&self, _: Point, _: &Act) {}
}
