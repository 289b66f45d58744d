//! [`pondera_ops::Ops`] for [`Cpu`]: each operation as kernels over rows, heads or outputs, shared out to threads.
//! What an operation means stands in `pondera_ops::reference`.
use crate::{
    Cpu, attention,
    kv::Cache,
    moe,
    product::{Input, Job, Product, Ptr, Weights},
    rows::{self, NormRow},
    vmath,
};
use pondera_ops::{reference::row, *};
use std::{slice, time::Duration};

impl Cpu {
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
            let data = x.data();
            // SAFETY: the rows of x.
            unsafe { self.engine.quantize(block, data.as_ptr(), x.cols, x.rows, x.cols, &mut slot.codes) };
            slot.stamp = (x.stamp(), block);
        }
        slot.codes.input(0, x.cols, block)
    }

    /// A product of `x`, into `y`.
    fn product(&self, l: &Linear, x: &Act, y: Ptr<f32>) -> Product {
        self.product_with(self.engine.weights_of(&l.weight, 0, x.rows), l, x, y)
    }

    /// A product of `x` with the weights of `l` as they lie, into `y`.
    fn product_with(&self, weights: Weights, l: &Linear, x: &Act, y: Ptr<f32>) -> Product {
        let (out, inp) = (l.weight.out, l.weight.inp);
        assert_eq!(inp, x.cols, "{}: expected {inp} columns, got {}", l.weight.name, x.cols);
        let input = match weights.block() {
            Some(block) => self.codes(x, block),
            None => Input::Float { x: x.data().as_ptr(), ld: inp },
        };
        let bias = l.bias.as_ref().map_or(std::ptr::null(), |b| b.vector()[..out].as_ptr());
        Product { weights, out, inp, input, y: y.get(), ld: out, bias }
    }

    /// The product of a plain linear: one job, or two while its weight is packed up to some row.
    fn push_linear(&self, jobs: &mut Vec<Job>, l: &Linear, x: &Act, y: Ptr<f32>) {
        let (w, e) = (&l.weight, &self.engine);
        let rows = e.promoter.packed_rows(e, w, x.rows);
        if (1..w.out).contains(&rows)
            && let Some(head) = e.promoter.head(e, w, 0)
            && let Some(tail) = e.weights(&w.groups[0], false).skip(rows)
        {
            let head = Product { out: rows, ..self.product_with(head, l, x, y) };
            let mut rest = Product { out: w.out - rows, ..self.product_with(tail, l, x, y) };
            // SAFETY: within the outputs and, where there is one, the bias.
            unsafe {
                rest.y = rest.y.add(rows);
                if !rest.bias.is_null() {
                    rest.bias = rest.bias.add(rows);
                }
            }
            jobs.extend([head, rest].map(|p| Job::new(p, x.rows)));
        } else {
            jobs.push(Job::new(self.product(l, x, y), x.rows));
        }
    }

    /// Runs the jobs that `fill` makes.
    fn jobs(&self, fill: impl FnOnce(&mut Vec<Job>)) {
        let mut jobs = self.jobs.borrow_mut();
        jobs.clear();
        fill(&mut jobs);
        // SAFETY: inputs live until the end of the operation, outputs are activations just made.
        unsafe { self.engine.run(&mut jobs) };
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
    fn input(&self, rows: usize, cols: usize, data: &[f32]) -> Act {
        let y = self.arena.alloc(rows, cols);
        y.data_mut().copy_from_slice(data);
        y
    }

    fn read(&self, x: &Act, out: &mut Vec<f32>) {
        out.extend_from_slice(&x.data());
    }

    fn reserve(&self, caches: &[CacheSpec], kv: KvType, pages: usize) {
        *self.caches.borrow_mut() = caches.iter().map(|c| Cache::new(*c, kv, pages)).collect();
    }

    fn lay_out(&self, layout: Layout) {
        self.engine.promoter.lay_out(layout);
    }

    fn settle(&self, budget: Duration) -> Settled {
        self.engine.promoter.settle(&self.engine, budget)
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
        self.jobs(|jobs| self.push_linear(jobs, l, x, p));
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
        let data = x.data();
        let mut codes = self.head_codes.borrow_mut();
        self.jobs(|jobs| {
            for (g, m) in w.groups.iter().enumerate() {
                let weights = match transpose {
                    true => self.engine.weights(m, true),
                    false => self.engine.weights_of(w, g, x.rows),
                };
                let x_g = data[g * inp..].as_ptr();
                let input = match weights.block() {
                    Some(block) => {
                        if codes.len() <= g {
                            codes.resize_with(g + 1, Default::default);
                        }
                        // SAFETY: columns g · inp .. of every row.
                        unsafe { self.engine.quantize(block, x_g, x.cols, x.rows, inp, &mut codes[g]) };
                        codes[g].input(0, inp, block)
                    }
                    None => Input::Float { x: x_g, ld: x.cols },
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
        let (y, p) = self.make(x.rows, x.cols);
        let (data, n, cols, level) = (x.data(), NormRow::new(n), x.cols, self.engine.level);
        let data = &data[..];
        self.engine.rows(x.rows, cols / 4, &|r| {
            // SAFETY: row r is one task's alone; groups have equal lengths.
            unsafe {
                let y = row_of(p, r, cols);
                for (x, y) in data[r * cols..][..cols].chunks_exact(group).zip(y.chunks_exact_mut(group)) {
                    rows::norm(level, &n, x, y);
                }
            }
        });
        y
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

    fn rope(&self, x: Act, table: &Act, layout: &RopeLayout) -> Act {
        let (t, level, cols) = (table.data(), self.engine.level, table.cols);
        let t = &t[..];
        // SAFETY: the table has a row per row of x.
        self.each(x, 500, &|r, x| unsafe { rows::rope(level, x, &t[r * cols..][..cols], layout) })
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
        let y = self.arena.alloc(q.rows, a.heads * a.v_dim);
        let caches = self.caches.borrow();
        attention::run(&self.engine, &mut self.attending.borrow_mut(), a, &caches[a.cache], q, batch, &y);
        y
    }

    fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act {
        let y = self.arena.alloc(x.rows, x.cols / group * (to - from));
        let (xs, mut ys) = (x.data(), y.data_mut());
        for (x, y) in xs.chunks_exact(group).zip(ys.chunks_exact_mut((to - from).max(1))) {
            y.copy_from_slice(&x[from..to]);
        }
        drop(ys);
        y
    }

    fn concat_heads(&self, a: &Act, b: &Act, heads: usize) -> Act {
        let (ca, cb) = (a.cols / heads, b.cols / heads);
        let y = self.arena.alloc(a.rows, a.cols + b.cols);
        let (da, db, mut ys) = (a.data(), b.data(), y.data_mut());
        for (i, y) in ys.chunks_exact_mut((ca + cb).max(1)).enumerate() {
            y[..ca].copy_from_slice(&da[i * ca..][..ca]);
            y[ca..].copy_from_slice(&db[i * cb..][..cb]);
        }
        drop(ys);
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

    fn mlp(&self, m: &Mlp, x: &Act) -> Act {
        let (up, up_p) = self.make(x.rows, m.up.weight.out);
        let gate = m.gate.as_ref().map(|g| (g, self.make(x.rows, g.weight.out)));
        self.jobs(|jobs| {
            let up = self.product(&m.up, x, up_p);
            let mut job = Job::new(gate.as_ref().map_or(up, |(g, (_, p))| self.product(g, x, *p)), x.rows);
            job.second = gate.is_some().then_some(up);
            job.act = Some(m.act);
            jobs.push(job);
        });
        self.linear(&m.down, gate.as_ref().map_or(&up, |(_, (h, _))| h))
    }

    fn route(&self, r: &Route, logits: &Act) -> Act {
        let y = self.arena.alloc(logits.rows, 2 * r.top_k);
        let (xs, mut ys) = (logits.data(), y.data_mut());
        let choice = &mut self.choice.borrow_mut();
        for (x, y) in xs.chunks_exact(logits.cols.max(1)).zip(ys.chunks_exact_mut(2 * r.top_k)) {
            moe::route(self.engine.level, r, x, y, choice);
        }
        drop(ys);
        y
    }

    fn experts(&self, e: &Experts, route: &Act, x: &Act) -> Act {
        let y = self.arena.alloc(x.rows, e.down.out);
        let codes = |block: usize| self.codes(x, block);
        moe::run(&self.engine, &mut self.experts.borrow_mut(), e, route, x, &codes, &y);
        y
    }

    fn observe(&self, _: Point, _: &Act) {}
}
