//! A backend that computes nothing: it tells what a forward pass asks for. The mechanisms that it uses, its
//! multiplications, the weights it reads and the activations it holds, from the very code that a real backend runs.
//!
//! Does not own: what an operation means ([`crate::reference`]).
use crate::*;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashSet},
};

/// What was asked for since it was made.
#[derive(Default)]
pub struct Count {
    arena: Arena,
    caches: RefCell<Vec<CacheSpec>>,
    mechanisms: RefCell<BTreeSet<Mechanism>>,
    multiply_adds: Cell<u64>,
    weight_bytes: Cell<u64>,
    /// Weights that were read, by address; kept alive by the model.
    read: RefCell<HashSet<usize>>,
}

/// What a forward pass is made of, in the order in which people list it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are `name`'s
pub enum Mechanism {
    MultiHead,
    GroupedQuery,
    MultiQuery,
    Latent,
    Bidirectional,
    Local,
    Window,
    Chunks,
    Sparse,
    Sinks,
    ScoreSoftcap,
    QkNorm,
    OutputGate,
    PositionFactor,
    Rotary,
    PartialRotary,
    LengthDependentRotary,
    Alibi,
    LearntPositions,
    ShortConvolution,
    SelectiveScan,
    HeadScan,
    DeltaRule,
    LinearAttention,
    RmsNorm,
    LayerNorm,
    Gated,
    Ungated,
    SoftmaxExperts,
    SigmoidExperts,
    ExpertBias,
    ExpertGroups,
    SharedExpert,
    LogitSoftcap,
}

impl Mechanism {
    /// What people call it.
    pub fn name(self) -> &'static str {
        use Mechanism::*;
        match self {
            MultiHead => "multi-head attention",
            GroupedQuery => "grouped-query attention",
            MultiQuery => "multi-query attention",
            Latent => "latent attention (MLA)",
            Bidirectional => "bidirectional attention",
            Local => "local bidirectional attention",
            Window => "sliding window",
            Chunks => "chunked attention",
            Sparse => "sparse selection of keys",
            Sinks => "attention sinks",
            ScoreSoftcap => "score softcap",
            QkNorm => "query/key norm",
            OutputGate => "gated attention output",
            PositionFactor => "position-scaled queries",
            Rotary => "rotary positions",
            PartialRotary => "partly rotary heads",
            LengthDependentRotary => "length-dependent rotary",
            Alibi => "ALiBi",
            LearntPositions => "learnt positions",
            ShortConvolution => "short convolution",
            SelectiveScan => "selective scan (Mamba)",
            HeadScan => "scan by heads (Mamba 2)",
            DeltaRule => "gated delta rule",
            LinearAttention => "lightning attention",
            RmsNorm => "RMS norm",
            LayerNorm => "layer norm",
            Gated => "gated feed-forward",
            Ungated => "plain feed-forward",
            SoftmaxExperts => "experts by softmax",
            SigmoidExperts => "experts by sigmoid",
            ExpertBias => "balancing bias",
            ExpertGroups => "expert groups",
            SharedExpert => "shared expert",
            LogitSoftcap => "logit softcap",
        }
    }
}

impl Count {
    /// Nothing so far.
    pub fn new() -> Count {
        Count::default()
    }

    /// The mechanisms that were used.
    pub fn mechanisms(&self) -> Vec<Mechanism> {
        self.mechanisms.borrow().iter().copied().collect()
    }

    /// Multiplications, each with its addition, of matrices, attention and recurrences.
    pub fn multiply_adds(&self) -> u64 {
        self.multiply_adds.get()
    }

    /// Stored bytes of the weights that were multiplied with, each counted once; of experts those that a row chooses.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes.get()
    }

    /// Most bytes of activations that were held at a time.
    pub fn activation_bytes(&self) -> usize {
        self.arena.bytes()
    }

    fn saw(&self, m: Mechanism) {
        self.mechanisms.borrow_mut().insert(m);
    }

    fn saw_norm(&self, n: &Norm) {
        self.saw(match n {
            Norm::Rms { .. } => Mechanism::RmsNorm,
            Norm::Layer { .. } => Mechanism::LayerNorm,
        });
    }

    fn multiplied(&self, n: usize) {
        self.multiply_adds.set(self.multiply_adds.get().saturating_add(n as u64));
    }

    /// `groups` of the groups of `w` were multiplied with `rows` rows in all.
    fn weight(&self, w: &W, groups: usize, rows: usize) {
        self.multiplied(rows * w.out * w.inp);
        if self.read.borrow_mut().insert(std::sync::Arc::as_ptr(w) as usize) {
            let bytes: u64 = w.groups.iter().take(groups).map(|m| m.stored_bytes() as u64).sum();
            self.weight_bytes.set(self.weight_bytes.get().saturating_add(bytes));
        }
    }

    fn act(&self, act: &Act) -> Act {
        self.arena.alloc(act.rows, act.cols)
    }

    fn ffn(&self, gated: bool) {
        self.saw(if gated { Mechanism::Gated } else { Mechanism::Ungated });
    }
}

impl Ops for Count {
    fn kernels(&self) -> Vec<String> {
        Vec::new()
    }

    fn input(&self, rows: usize, cols: usize, _: &[f32]) -> Act {
        self.arena.alloc(rows, cols)
    }

    fn read(&self, x: &Act, out: &mut Vec<f32>) {
        out.resize(out.len() + x.rows * x.cols, 0.0);
    }

    fn greatest(&self, x: &Act, out: &mut Vec<(u32, f32)>) {
        out.resize(out.len() + x.rows, (0, 0.0));
    }

    fn reserve(&self, caches: &[CacheSpec], _: KvType, _: usize) {
        *self.caches.borrow_mut() = caches.to_vec();
    }

    fn copy_page(&self, _: usize, _: usize) {}

    fn reserve_states(&self, _: &[StateSpec], _: usize) {}

    fn held(&self) -> Held {
        Held::default()
    }

    fn lay_out(&self, _: Layout) {}

    fn settle(&self, _: Duration) -> Settled {
        Settled::default()
    }

    fn read_weights(&self) -> Option<f64> {
        None
    }

    fn embed(&self, table: &W, index: Index, _: f32, batch: &Batch) -> Act {
        if matches!(index, Index::Positions(_)) {
            self.saw(Mechanism::LearntPositions);
        }
        self.arena.alloc(batch.len(), table.inp)
    }

    fn linear(&self, l: &Linear, x: &Act) -> Act {
        assert_eq!(l.weight.inp, x.cols, "{}", l.weight.name);
        self.weight(&l.weight, 1, x.rows);
        self.arena.alloc(x.rows, l.weight.out)
    }

    fn linears(&self, ls: &[&Linear], x: &Act) -> Acts {
        ls.iter().map(|l| self.linear(l, x)).collect()
    }

    fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act {
        self.weight(w, w.groups.len(), x.rows * w.groups.len());
        self.arena.alloc(x.rows, w.groups.len() * if transpose { w.inp } else { w.out })
    }

    fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act {
        assert_eq!(x.cols % group.max(1), 0);
        self.saw_norm(n);
        self.act(x)
    }

    fn rotary(&self, rope: &Rope, batch: &Batch) -> Act {
        if !matches!(rope.frequencies, Frequencies::Fixed(_)) {
            self.saw(Mechanism::LengthDependentRotary);
        }
        self.arena.alloc(batch.len(), 2 * rope.pairs())
    }

    fn add_norm(&self, x: Act, y: &Act, n: &Norm) -> (Act, Act) {
        assert_eq!((x.rows, x.cols), (y.rows, y.cols));
        self.saw_norm(n);
        let h = self.act(&x);
        (x, h)
    }

    fn rope(&self, x: Act, norm: Option<&Norm>, table: &Act, layout: &RopeLayout) -> Act {
        let whole = table.cols == layout.head_dim;
        self.saw(if whole { Mechanism::Rotary } else { Mechanism::PartialRotary });
        if norm.is_some() {
            self.saw(Mechanism::QkNorm);
        }
        x
    }

    fn append(&self, _: CacheId, _: &Act, _: Option<&Act>, _: &Batch) {}

    fn attention(&self, a: &Attention, q: &Act, batch: &Batch) -> Act {
        let latent = self.caches.borrow().get(a.cache).is_some_and(|c| c.v_dim.is_none());
        self.saw(match a.kv_heads {
            _ if latent => Mechanism::Latent,
            n if n == a.heads => Mechanism::MultiHead,
            1 => Mechanism::MultiQuery,
            _ => Mechanism::GroupedQuery,
        });
        match a.mask {
            Mask::Causal => {}
            Mask::Window(_) => self.saw(Mechanism::Window),
            Mask::Chunk(_) => self.saw(Mechanism::Chunks),
            Mask::Full => self.saw(Mechanism::Bidirectional),
            Mask::Around(_) => self.saw(Mechanism::Local),
        }
        let marks = [
            (a.sinks.is_some(), Mechanism::Sinks),
            (a.softcap.is_some(), Mechanism::ScoreSoftcap),
            (a.slopes.is_some(), Mechanism::Alibi),
        ];
        marks.into_iter().filter(|m| m.0).for_each(|m| self.saw(m.1));
        for s in batch.sequences.iter().filter(|s| !s.rows.is_empty()) {
            let length = batch.positions[s.rows.end - 1] as usize + 1;
            let seen = |p: usize| a.mask.end(p, length) - a.mask.first(p);
            let seen: usize = s.rows.clone().map(|r| seen(batch.positions[r] as usize)).sum();
            self.multiplied(seen * a.heads * (a.qk_dim + a.v_dim));
        }
        self.arena.alloc(q.rows, a.heads * a.v_dim)
    }

    fn select(&self, i: &Indexer, q: &Act, _: &Act, batch: &Batch) -> Act {
        let seen: usize = batch.positions.iter().map(|p| *p as usize + 1).sum();
        self.multiplied(seen * i.heads * (i.dim + 1));
        self.arena.alloc(q.rows, i.columns(batch))
    }

    fn attention_over(&self, a: &Attention, q: &Act, selected: &Act, batch: &Batch) -> Act {
        self.saw(Mechanism::Sparse);
        let before = self.multiply_adds.get();
        let y = self.attention(a, q, batch);
        // At most so many positions of each query.
        let most = (q.rows * selected.cols * a.heads * (a.qk_dim + a.v_dim)) as u64;
        self.multiply_adds.set(self.multiply_adds.get().min(before.saturating_add(most)));
        y
    }

    fn conv(&self, c: &Conv, x: &Act, _: &Batch) -> Act {
        self.saw(Mechanism::ShortConvolution);
        self.multiplied(x.rows * x.cols * c.kernel);
        self.act(x)
    }

    fn scan(&self, s: &Scan, inputs: &[&Act], _: &Batch) -> Act {
        let (mechanism, like, depth) = match &s.kind {
            ScanKind::Selective { .. } => (Mechanism::SelectiveScan, 0, inputs[2].cols),
            ScanKind::Heads { groups, .. } => (Mechanism::HeadScan, 0, inputs[2].cols / groups),
            ScanKind::Delta { key_heads, .. } => (Mechanism::DeltaRule, 2, inputs[1].cols / key_heads),
            ScanKind::Linear { decay } => (Mechanism::LinearAttention, 2, inputs[1].cols / decay.vector().len()),
        };
        self.saw(mechanism);
        self.multiplied(2 * inputs[like].rows * inputs[like].cols * depth);
        self.act(inputs[like])
    }

    fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act {
        self.arena.alloc(x.rows, x.cols / group * (to - from))
    }

    fn concat_heads(&self, a: &Act, b: &Act, _: usize) -> Act {
        self.arena.alloc(a.rows, a.cols + b.cols)
    }

    fn select_rows(&self, x: &Act, rows: &[u32]) -> Act {
        self.arena.alloc(rows.len(), x.cols)
    }

    fn patch(&self, y: Act, rows: &[u32], _: &Patch<'_>) -> Act {
        assert!(rows.iter().all(|r| (*r as usize) < y.rows));
        y
    }

    fn add(&self, a: Act, b: &Act) -> Act {
        assert_eq!((a.rows, a.cols), (b.rows, b.cols));
        a
    }

    fn scale(&self, x: Act, _: f32) -> Act {
        x
    }

    fn softcap(&self, x: Act, _: f32) -> Act {
        self.saw(Mechanism::LogitSoftcap);
        x
    }

    fn sigmoid_mul(&self, x: Act, gate: &Act) -> Act {
        assert_eq!(x.cols % gate.cols, 0);
        self.saw(Mechanism::OutputGate);
        x
    }

    fn mul(&self, x: Act, factor: &Act) -> Act {
        assert_eq!(x.cols % factor.cols, 0);
        if factor.cols == 1 {
            self.saw(Mechanism::PositionFactor);
        }
        x
    }

    fn glu(&self, _: Activation, gate: Act, x: &Act) -> Act {
        assert_eq!((gate.rows, gate.cols), (x.rows, x.cols));
        gate
    }

    fn clamp(&self, x: Act, _: f32) -> Act {
        x
    }

    fn mlp(&self, m: &Mlp, x: &Act) -> Act {
        self.ffn(m.gate.is_some());
        let h = self.linear(&m.up, x);
        m.gate.iter().for_each(|g| drop(self.linear(g, x)));
        self.linear(&m.down, &h)
    }

    fn route(&self, r: &Route, logits: &Act) -> Act {
        self.saw(match r.score {
            Score::Sigmoid => Mechanism::SigmoidExperts,
            _ => Mechanism::SoftmaxExperts,
        });
        let marks = [(r.bias.is_some(), Mechanism::ExpertBias), (r.groups.is_some(), Mechanism::ExpertGroups)];
        marks.into_iter().filter(|m| m.0).for_each(|m| self.saw(m.1));
        self.arena.alloc(logits.rows, 2 * r.top_k)
    }

    fn experts(&self, e: &Experts, route: &Act, x: &Act, shared: Option<Shared<'_>>) -> Act {
        self.ffn(e.gate.is_some());
        let chosen = route.cols / 2;
        for w in e.gate.iter().chain([&e.up, &e.down]) {
            self.weight(w, chosen, x.rows * chosen);
        }
        if let Some(s) = shared {
            self.saw(Mechanism::SharedExpert);
            drop(self.mlp(s.mlp, x));
        }
        self.arena.alloc(x.rows, e.down.out)
    }

    fn observe(&self, _: Point, _: &Act) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_their_weights_are_counted_once() {
        let o = Count::new();
        let l = Linear { weight: Weight::from_f32("w", 3, 5, &[0.0; 15]), bias: None };
        let x = o.input(2, 5, &[0.0; 10]);
        let y = o.linear(&l, &x);
        o.linear(&l, &x);
        assert_eq!((y.rows, y.cols, o.multiply_adds(), o.weight_bytes()), (2, 3, 60, 60));
        o.norm(&Norm::Rms { weight: None, eps: 1e-6, one_plus: false }, &x, 5);
        assert_eq!(o.mechanisms(), [Mechanism::RmsNorm]);
    }
}
