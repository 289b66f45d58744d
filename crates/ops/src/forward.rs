//! Forwarding for decorators: every method but `observe`, so that none is silently bypassed.

/// Implements all of [`crate::Ops`] but `observe` by calling the field `$inner`, a `&dyn Ops`.
macro_rules! forward_ops {
    ($inner:ident) => {
        forward_plain!($inner);
        forward_weighted!($inner);
    };
}

/// The operations that read weights which adapters change.
macro_rules! forward_weighted {
    ($inner:ident) => {
        fn embed(&self, table: &W, index: Index, scale: f32, batch: &Batch) -> Act {
            self.$inner.embed(table, index, scale, batch)
        }
        fn linear(&self, l: &Linear, x: &Act) -> Act {
            self.$inner.linear(l, x)
        }
        fn linears(&self, ls: &[&Linear], x: &Act) -> Acts {
            self.$inner.linears(ls, x)
        }
        fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act {
            self.$inner.linear_heads(w, x, transpose)
        }
        fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act {
            self.$inner.norm(n, x, group)
        }
        fn add_norm(&self, x: Act, y: &Act, n: &Norm) -> (Act, Act) {
            self.$inner.add_norm(x, y, n)
        }
        fn rope(&self, x: Act, norm: Option<&Norm>, table: &Act, layout: &RopeLayout) -> Act {
            self.$inner.rope(x, norm, table, layout)
        }
        fn mlp(&self, m: &Mlp, x: &Act) -> Act {
            self.$inner.mlp(m, x)
        }
        fn experts(&self, e: &Experts, route: &Act, x: &Act, shared: Option<Shared<'_>>) -> Act {
            self.$inner.experts(e, route, x, shared)
        }
    };
}

/// The others.
macro_rules! forward_plain {
    ($inner:ident) => {
        fn kernels(&self) -> Vec<String> {
            self.$inner.kernels()
        }
        fn input(&self, rows: usize, cols: usize, data: &[f32]) -> Act {
            self.$inner.input(rows, cols, data)
        }
        fn read(&self, x: &Act, out: &mut Vec<f32>) {
            self.$inner.read(x, out)
        }
        fn greatest(&self, x: &Act, out: &mut Vec<(u32, f32)>) {
            self.$inner.greatest(x, out)
        }
        fn reserve(&self, caches: &[CacheSpec], kv: KvType, pages: usize) {
            self.$inner.reserve(caches, kv, pages)
        }
        fn copy_page(&self, from: usize, to: usize) {
            self.$inner.copy_page(from, to)
        }
        fn reserve_states(&self, states: &[StateSpec], slots: usize) {
            self.$inner.reserve_states(states, slots)
        }
        fn held(&self) -> Held {
            self.$inner.held()
        }
        fn lay_out(&self, layout: Layout) {
            self.$inner.lay_out(layout)
        }
        fn settle(&self, budget: std::time::Duration) -> Settled {
            self.$inner.settle(budget)
        }
        fn read_weights(&self) -> Option<f64> {
            self.$inner.read_weights()
        }
        fn rotary(&self, rope: &Rope, batch: &Batch) -> Act {
            self.$inner.rotary(rope, batch)
        }
        fn append(&self, cache: CacheId, k: &Act, v: Option<&Act>, batch: &Batch) {
            self.$inner.append(cache, k, v, batch)
        }
        fn attention(&self, a: &Attention, q: &Act, batch: &Batch) -> Act {
            self.$inner.attention(a, q, batch)
        }
        fn select(&self, i: &Indexer, q: &Act, weights: &Act, batch: &Batch) -> Act {
            self.$inner.select(i, q, weights, batch)
        }
        fn attention_over(&self, a: &Attention, q: &Act, selected: &Act, batch: &Batch) -> Act {
            self.$inner.attention_over(a, q, selected, batch)
        }
        fn conv(&self, c: &Conv, x: &Act, batch: &Batch) -> Act {
            self.$inner.conv(c, x, batch)
        }
        fn scan(&self, s: &Scan, inputs: &[&Act], batch: &Batch) -> Act {
            self.$inner.scan(s, inputs, batch)
        }
        fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act {
            self.$inner.columns(x, group, from, to)
        }
        fn concat_heads(&self, a: &Act, b: &Act, heads: usize) -> Act {
            self.$inner.concat_heads(a, b, heads)
        }
        fn select_rows(&self, x: &Act, rows: &[u32]) -> Act {
            self.$inner.select_rows(x, rows)
        }
        fn patch(&self, y: Act, rows: &[u32], patch: &Patch<'_>) -> Act {
            self.$inner.patch(y, rows, patch)
        }
        fn add(&self, a: Act, b: &Act) -> Act {
            self.$inner.add(a, b)
        }
        fn scale(&self, x: Act, factor: f32) -> Act {
            self.$inner.scale(x, factor)
        }
        fn softcap(&self, x: Act, cap: f32) -> Act {
            self.$inner.softcap(x, cap)
        }
        fn sigmoid_mul(&self, x: Act, gate: &Act) -> Act {
            self.$inner.sigmoid_mul(x, gate)
        }
        fn mul(&self, x: Act, factor: &Act) -> Act {
            self.$inner.mul(x, factor)
        }
        fn glu(&self, act: Activation, gate: Act, x: &Act) -> Act {
            self.$inner.glu(act, gate, x)
        }
        fn clamp(&self, x: Act, limit: f32) -> Act {
            self.$inner.clamp(x, limit)
        }
        fn route(&self, r: &Route, logits: &Act) -> Act {
            self.$inner.route(r, logits)
        }
    };
}
