//! Mechanisms broken on purpose: every golden must notice. A golden on which a broken mechanism makes no difference
//! would let a wrong family pass, so each that a family has is broken on each of its goldens.
use pondera_arch::{Config, Model, Source};
use pondera_ops::*;
use pondera_quant::TensorView;
use pondera_weights::Weights;
use std::{cell::Cell, fs, path::Path, time::Duration};

/// Of the largest logit: what the goldens' own test allows.
const TOLERANCE: f32 = 1e-4;

/// The enum and the list of all that it has.
macro_rules! mutations {
    ($($name:ident),* $(,)?) => {
        /// How a mechanism is broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Mutation {
            $($name,)*
        }

        use Mutation::*;

        const ALL: &[Mutation] = &[$($name),*];
    };
}

mutations!(
    RopeExponent,
    RopePairs,
    RopeFactorDropped,
    WindowOffByOne,
    ChunkOffByOne,
    ScoreScale,
    ScoreSoftcapDropped,
    SinksDropped,
    SlopesDropped,
    SelectionOffByOne,
    SelectionDropped,
    QkNormDropped,
    NormEpsilon,
    NormPlusOne,
    RouteBiasDropped,
    RouteGroupsDropped,
    RouteScaleDropped,
    RouteRenormalized,
    RouteScore,
    SharedExpertDropped,
    SharedGateDropped,
    ConvActivationDropped,
    ConvBiasDropped,
    ScanSkipDropped,
    ScanStepBiasDropped,
    ScanRates,
    StateNotReset,
    GateDropped,
    FactorDropped,
    ClampDropped,
    ScaleDropped,
    SoftcapDropped,
    Activation,
    EmbeddingScaleDropped,
    PositionsOffByOne,
    BiasDropped,
);

/// Where a broken mechanism rightly makes no difference: golden, mutation, why.
const NO_DIFFERENCE: &[(&str, Mutation, &str)] = &[
    ("beam", RouteScaleDropped, "a norm follows the experts"),
    ("beam", RouteRenormalized, "a norm follows the experts"),
    ("beam", ScaleDropped, "every reader of the stream normalises it"),
    ("beam-rotary", RouteScaleDropped, "a norm follows the experts"),
    ("beam-rotary", RouteRenormalized, "a norm follows the experts"),
    ("beam-rotary", ScaleDropped, "every reader of the stream normalises it"),
    ("deepseek_v32", ScaleDropped, "a positive factor of all scores changes no order"),
    ("flex_olmo", RouteRenormalized, "a norm follows the experts"),
    ("llama4_text-gguf", ChunkOffByOne, "such files say no chunk: it is 8192"),
];

/// Computes with one mechanism broken.
struct Mutant<'a> {
    inner: &'a dyn Ops,
    mutation: Mutation,
    /// Whether the mechanism was there to break.
    applied: Cell<bool>,
}

impl Mutant<'_> {
    fn is(&self, m: Mutation) -> bool {
        self.mutation == m
    }

    /// Says that this mutation is at work where `there` is.
    fn breaks(&self, m: Mutation, there: bool) -> bool {
        let now = self.is(m) && there;
        self.applied.set(self.applied.get() || now);
        now
    }

    fn linear_of(&self, l: &Linear) -> Linear {
        let mut l = l.clone();
        if self.breaks(BiasDropped, l.bias.is_some()) {
            l.bias = None;
        }
        l
    }

    fn norm_of(&self, n: &Norm) -> Norm {
        let mut n = n.clone();
        match &mut n {
            Norm::Rms { eps, one_plus, weight } => {
                if self.breaks(NormPlusOne, weight.is_some()) {
                    *one_plus = !*one_plus;
                }
                if self.breaks(NormEpsilon, true) {
                    *eps += 0.01;
                }
            }
            Norm::Layer { eps, .. } => {
                if self.breaks(NormEpsilon, true) {
                    *eps += 0.01;
                }
            }
        }
        n
    }

    fn act_of(&self, a: pondera_ops::Activation) -> pondera_ops::Activation {
        use pondera_ops::Activation::*;
        if !self.breaks(Mutation::Activation, true) {
            return a;
        }
        match a {
            Silu => GeluTanh,
            GeluTanh | GeluErf => Silu,
            Relu => Relu2,
            Relu2 => Relu,
            ClampedSwiglu { alpha, limit } => ClampedSwiglu { alpha, limit: limit * 4.0 },
            Xielu { positive, negative, beta, eps } => Xielu { positive: positive * 1.5, negative, beta, eps },
        }
    }

    fn mlp_of(&self, m: &Mlp) -> Mlp {
        Mlp {
            gate: m.gate.as_ref().map(|g| self.linear_of(g)),
            up: self.linear_of(&m.up),
            down: self.linear_of(&m.down),
            act: self.act_of(m.act),
        }
    }
}

/// A vector of `n` zeros.
fn zeros(w: &W) -> W {
    Weight::from_f32("zeros", 1, w.vector().len(), &vec![0.0; w.vector().len()])
}

fn times(w: &W, factor: f32) -> W {
    let v: Vec<f32> = w.vector().iter().map(|v| v * factor).collect();
    Weight::from_f32("scaled", 1, v.len(), &v)
}

impl Ops for Mutant<'_> {
    fn kernels(&self) -> Vec<String> {
        self.inner.kernels()
    }

    fn input(&self, rows: usize, cols: usize, data: &[f32]) -> Act {
        self.inner.input(rows, cols, data)
    }

    fn read(&self, x: &Act, out: &mut Vec<f32>) {
        self.inner.read(x, out)
    }

    fn greatest(&self, x: &Act, out: &mut Vec<(u32, f32)>) {
        self.inner.greatest(x, out)
    }

    fn reserve(&self, caches: &[CacheSpec], kv: KvType, pages: usize) {
        self.inner.reserve(caches, kv, pages)
    }

    fn copy_page(&self, from: usize, to: usize) {
        self.inner.copy_page(from, to)
    }

    fn reserve_states(&self, states: &[StateSpec], slots: usize) {
        self.inner.reserve_states(states, slots)
    }

    fn held(&self) -> pondera_ops::Held {
        self.inner.held()
    }

    fn lay_out(&self, layout: Layout) {
        self.inner.lay_out(layout)
    }

    fn settle(&self, budget: Duration) -> Settled {
        self.inner.settle(budget)
    }

    fn read_weights(&self) -> Option<f64> {
        self.inner.read_weights()
    }

    fn embed(&self, table: &W, index: Index, scale: f32, batch: &Batch) -> Act {
        let scale = if self.breaks(EmbeddingScaleDropped, scale != 1.0) { 1.0 } else { scale };
        let index = match index {
            Index::Positions(n) if self.breaks(PositionsOffByOne, true) => Index::Positions(n + 1),
            index => index,
        };
        self.inner.embed(table, index, scale, batch)
    }

    fn linear(&self, l: &Linear, x: &Act) -> Act {
        self.inner.linear(&self.linear_of(l), x)
    }

    fn linears(&self, ls: &[&Linear], x: &Act) -> Acts {
        ls.iter().map(|l| self.linear(l, x)).collect()
    }

    fn linear_heads(&self, w: &W, x: &Act, transpose: bool) -> Act {
        self.inner.linear_heads(w, x, transpose)
    }

    fn norm(&self, n: &Norm, x: &Act, group: usize) -> Act {
        self.inner.norm(&self.norm_of(n), x, group)
    }

    fn rotary(&self, rope: &Rope, batch: &Batch) -> Act {
        let mut rope = rope.clone();
        if self.breaks(RopeExponent, true) {
            let slower = |all: &mut Vec<f64>| all.iter_mut().for_each(|f| *f = f.powf(1.1));
            match &mut rope.frequencies {
                Frequencies::Fixed(f) => slower(f),
                Frequencies::Dynamic { theta, .. } => *theta = theta.powf(1.1),
                Frequencies::Long { short, long, .. } => {
                    slower(short);
                    slower(long);
                }
            }
        }
        if self.breaks(RopeFactorDropped, rope.scale != 1.0) {
            rope.scale = 1.0;
        }
        self.inner.rotary(&rope, batch)
    }

    fn add_norm(&self, x: Act, y: &Act, n: &Norm) -> (Act, Act) {
        self.inner.add_norm(x, y, &self.norm_of(n))
    }

    fn rope(&self, x: Act, norm: Option<&Norm>, table: &Act, layout: &RopeLayout) -> Act {
        let interleaved = layout.interleaved != self.breaks(RopePairs, table.cols > 2);
        let norm = norm.filter(|_| !self.breaks(QkNormDropped, true)).map(|n| self.norm_of(n));
        self.inner.rope(x, norm.as_ref(), table, &RopeLayout { interleaved, ..*layout })
    }

    fn append(&self, cache: CacheId, k: &Act, v: Option<&Act>, batch: &Batch) {
        self.inner.append(cache, k, v, batch)
    }

    fn attention(&self, a: &Attention, q: &Act, batch: &Batch) -> Act {
        let mut a = a.clone();
        a.mask = match a.mask {
            Mask::Window(w) if self.breaks(WindowOffByOne, true) => Mask::Window(w + 1),
            Mask::Around(w) if self.breaks(WindowOffByOne, true) => Mask::Around(w + 1),
            Mask::Chunk(c) if self.breaks(ChunkOffByOne, true) => Mask::Chunk(c + 1),
            mask => mask,
        };
        if self.breaks(ScoreScale, true) {
            a.scale *= 1.1;
        }
        if self.breaks(ScoreSoftcapDropped, a.softcap.is_some()) {
            a.softcap = None;
        }
        if self.breaks(SinksDropped, a.sinks.is_some()) {
            a.sinks = None;
        }
        if self.breaks(SlopesDropped, a.slopes.is_some()) {
            a.slopes = None;
        }
        self.inner.attention(&a, q, batch)
    }

    fn select(&self, i: &Indexer, q: &Act, weights: &Act, batch: &Batch) -> Act {
        let mut i = *i;
        if self.breaks(SelectionOffByOne, true) {
            i.top_k += 1;
        }
        self.inner.select(&i, q, weights, batch)
    }

    fn attention_over(&self, a: &Attention, q: &Act, selected: &Act, batch: &Batch) -> Act {
        if self.breaks(SelectionDropped, true) {
            return self.inner.attention(a, q, batch);
        }
        let mut a = a.clone();
        if self.breaks(ScoreScale, true) {
            a.scale *= 1.1;
        }
        self.inner.attention_over(&a, q, selected, batch)
    }

    fn conv(&self, c: &Conv, x: &Act, batch: &Batch) -> Act {
        let mut c = c.clone();
        if self.breaks(ConvActivationDropped, c.act.is_some()) {
            c.act = None;
        }
        if self.breaks(ConvBiasDropped, c.bias.is_some()) {
            c.bias = None;
        }
        self.inner.conv(&c, x, batch)
    }

    fn scan(&self, s: &Scan, inputs: &[&Act], batch: &Batch) -> Act {
        let mut s = s.clone();
        match &mut s.kind {
            ScanKind::Selective { rates, step_bias, d } | ScanKind::Heads { rates, step_bias, d, .. } => {
                if self.breaks(ScanSkipDropped, true) {
                    *d = zeros(d);
                }
                if self.breaks(ScanStepBiasDropped, true) {
                    *step_bias = zeros(step_bias);
                }
                if self.breaks(ScanRates, true) {
                    *rates = times(rates, 1.2);
                }
            }
            ScanKind::Delta { rates, step_bias, .. } => {
                if self.breaks(ScanStepBiasDropped, true) {
                    *step_bias = zeros(step_bias);
                }
                if self.breaks(ScanRates, true) {
                    *rates = times(rates, 1.2);
                }
            }
            ScanKind::Linear { decay } => {
                if self.breaks(ScanRates, true) {
                    *decay = times(decay, 0.9);
                }
            }
        }
        self.inner.scan(&s, inputs, batch)
    }

    fn columns(&self, x: &Act, group: usize, from: usize, to: usize) -> Act {
        self.inner.columns(x, group, from, to)
    }

    fn concat_heads(&self, a: &Act, b: &Act, heads: usize) -> Act {
        self.inner.concat_heads(a, b, heads)
    }

    fn select_rows(&self, x: &Act, rows: &[u32]) -> Act {
        self.inner.select_rows(x, rows)
    }

    fn patch(&self, y: Act, rows: &[u32], patch: &Patch<'_>) -> Act {
        self.inner.patch(y, rows, patch)
    }

    fn add(&self, a: Act, b: &Act) -> Act {
        self.inner.add(a, b)
    }

    fn scale(&self, x: Act, factor: f32) -> Act {
        if self.breaks(ScaleDropped, factor != 1.0) { x } else { self.inner.scale(x, factor) }
    }

    fn softcap(&self, x: Act, cap: f32) -> Act {
        if self.breaks(SoftcapDropped, true) { x } else { self.inner.softcap(x, cap) }
    }

    fn sigmoid_mul(&self, x: Act, gate: &Act) -> Act {
        if self.breaks(GateDropped, true) { x } else { self.inner.sigmoid_mul(x, gate) }
    }

    fn mul(&self, x: Act, factor: &Act) -> Act {
        if self.breaks(FactorDropped, true) { x } else { self.inner.mul(x, factor) }
    }

    fn glu(&self, act: pondera_ops::Activation, gate: Act, x: &Act) -> Act {
        self.inner.glu(self.act_of(act), gate, x)
    }

    fn clamp(&self, x: Act, limit: f32) -> Act {
        if self.breaks(ClampDropped, true) { x } else { self.inner.clamp(x, limit) }
    }

    fn mlp(&self, m: &Mlp, x: &Act) -> Act {
        self.inner.mlp(&self.mlp_of(m), x)
    }

    fn route(&self, r: &Route, logits: &Act) -> Act {
        let mut r = r.clone();
        if self.breaks(RouteBiasDropped, r.bias.is_some()) {
            r.bias = None;
        }
        if self.breaks(RouteGroupsDropped, r.groups.is_some()) {
            r.groups = None;
        }
        if self.breaks(RouteScaleDropped, r.scale != 1.0) {
            r.scale = 1.0;
        }
        if self.breaks(RouteRenormalized, r.top_k > 1 && r.score != Score::SoftmaxOfChosen) {
            r.renormalize = if r.renormalize.is_some() { None } else { Some(0.0) };
        }
        if self.breaks(RouteScore, true) {
            r.score = if r.score == Score::Sigmoid { Score::Softmax } else { Score::Sigmoid };
        }
        self.inner.route(&r, logits)
    }

    fn experts(&self, e: &Experts, route: &Act, x: &Act, shared: Option<Shared<'_>>) -> Act {
        let mut e = e.clone();
        e.act = self.act_of(e.act);
        let mlp = shared.map(|s| self.mlp_of(s.mlp));
        let shared = shared.filter(|_| !self.breaks(SharedExpertDropped, true));
        let shared = shared
            .zip(mlp.as_ref())
            .map(|(s, mlp)| Shared { mlp, gate: s.gate.filter(|_| !self.breaks(SharedGateDropped, true)) });
        self.inner.experts(&e, route, x, shared)
    }

    fn observe(&self, point: Point, x: &Act) {
        self.inner.observe(point, x)
    }
}

fn decode(t: &TensorView) -> Vec<f32> {
    let mut v = vec![0.0; t.shape.iter().product()];
    (t.format.info().decode)(t.bytes.as_slice(), &mut v);
    v
}

/// The greatest difference between two lists of logits, of the largest.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let scale = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY }).fold(0.0, f32::max) / scale
}

#[test]
fn every_golden_notices_every_broken_mechanism() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let (mut unseen, mut broken) = (Vec::new(), 0);
    for entry in fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = fs::read(folder.join("config.json")) else { continue };
        let golden = folder.file_name().unwrap().to_string_lossy().into_owned();
        let weights = Weights::open(&folder).unwrap();
        let model = Model::load(&Config::from_json(&text).unwrap(), &Source::Files(&weights)).unwrap();
        let reference = Weights::open(folder.join("reference.safetensors")).unwrap();
        let want = decode(&reference.get("logits").unwrap());
        let ids = reference.get("input_ids").unwrap();
        let ids: Vec<u32> =
            ids.bytes.as_slice().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        for &mutation in ALL {
            let inner = Reference::new();
            inner.reserve(model.caches(), KvType::F32, 1);
            inner.reserve_states(model.states(), 1);
            let mutant = Mutant { inner: &inner, mutation, applied: Cell::new(false) };
            let mut batch = Batch::single(&ids, 0);
            if mutant.breaks(StateNotReset, !model.states().is_empty()) {
                // Another sequence was here before.
                drop(model.forward(&inner, &batch));
                batch.sequences[0].state = Some(0);
            }
            let mut logits = Vec::new();
            mutant.read(&model.forward(&mutant, &batch), &mut logits);
            if !mutant.applied.get() {
                assert!(distance(&logits, &want) < TOLERANCE, "{golden}: {mutation:?} changed what it should not");
                continue;
            }
            broken += 1;
            let known = NO_DIFFERENCE.iter().any(|(g, m, _)| *g == golden && *m == mutation);
            let seen = distance(&logits, &want) > 2.0 * TOLERANCE;
            if seen == known {
                unseen.push(format!("{golden}: {mutation:?} {}", if seen { "is noticed" } else { "is not noticed" }));
            }
        }
    }
    assert!(unseen.is_empty(), "{} of {broken}:\n{}", unseen.len(), unseen.join("\n"));
}
