//! The suite that every backend runs: its results beside those of [`Reference`], operation by operation, over formats,
//! shapes, tails, batch mixtures, masks and cache types. Seeded; each case names what it was.
//!
//! A CPU backend runs it with [`exact`]: equal bits (any NaN equals any NaN). A GPU with a bound of its own.
use crate::*;
use pondera_quant::{Activation as Operand, Bytes, FORMATS, Format, Matrix, Packed};
use sequences::{PAGES, attention, batch, convolution, copied_page, scan, selection};
use std::{ops::Range, sync::Arc};

mod sequences;

/// Whether a backend's number (second) passes for the reference's.
pub type Same = fn(f32, f32) -> bool;

/// Equal bits; NaN has many, all the same here.
pub fn exact(want: f32, got: f32) -> bool {
    want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan()
}

/// What was compared.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Results compared (each a whole activation).
    pub checks: usize,
    /// What differed, one line each; no more than the first 50.
    pub failures: Vec<String>,
}

/// A backend to be compared.
pub struct Candidate<'a> {
    /// For the failures.
    pub name: String,
    /// Gives a new one; several are made.
    pub make: &'a dyn Fn() -> Box<dyn Ops>,
}

/// A part of the suite by name.
type Section = (&'static str, fn(&mut Suite));

/// Runs everything on all candidates; what the reference computes is computed once for all.
pub fn run(candidates: &[Candidate<'_>], same: Same, seed: u64) -> Report {
    let mut s =
        Suite { reference: Reference::new(), backends: vec![], same, random: Random(seed), report: Report::default() };
    let sections: [Section; 18] = [
        ("linear", linear),
        ("layouts", layouts),
        ("broken rows", broken_rows),
        ("linears", linears),
        ("heads", heads),
        ("norm", norm),
        ("sum and norm", add_norm),
        ("rotation", rotation),
        ("pointwise", pointwise),
        ("patch", patch),
        ("mlp", mlp),
        ("route", route),
        ("experts", experts),
        ("attention", attention),
        ("copied page", copied_page),
        ("selection", selection),
        ("convolution", convolution),
        ("scan", scan),
    ];
    for (_, section) in sections {
        s.reference = Reference::new();
        s.backends = candidates.iter().map(|c| (c.name.clone(), (c.make)())).collect();
        section(&mut s);
    }
    s.report
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In ±1, about.
    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

struct Suite {
    reference: Reference,
    backends: Vec<(String, Box<dyn Ops>)>,
    same: Same,
    random: Random,
    report: Report,
}

impl Suite {
    /// Compares what `f` gives on all.
    fn check(&mut self, name: &str, f: impl Fn(&dyn Ops) -> Act) {
        let (mut want, mut got) = (Vec::new(), Vec::new());
        let x = f(&self.reference);
        self.reference.read(&x, &mut want);
        for (backend, ops) in &self.backends {
            got.clear();
            let y = f(&**ops);
            ops.read(&y, &mut got);
            self.report.checks += 1;
            let shape = (x.rows, x.cols) == (y.rows, y.cols) && want.len() == got.len();
            let differs = want.iter().zip(&got).position(|(w, g)| !(self.same)(*w, *g));
            let failure = match differs {
                _ if !shape => {
                    format!("{backend}: {name}: [{}, {}], expected [{}, {}]", y.rows, y.cols, x.rows, x.cols)
                }
                Some(i) => {
                    let (row, col) = (i / x.cols, i % x.cols);
                    format!("{backend}: {name}: row {row} column {col}: {:e}, expected {:e}", got[i], want[i])
                }
                None => continue,
            };
            if self.report.failures.len() < 50 {
                self.report.failures.push(failure);
            }
        }
    }

    fn reserve(&self, caches: &[CacheSpec], kv: KvType) {
        self.reference.reserve(caches, kv, PAGES);
        self.backends.iter().for_each(|(_, b)| b.reserve(caches, kv, PAGES));
    }

    fn weight(&mut self, format: Format, groups: usize, out: usize, inp: usize) -> W {
        let m = (0..groups).map(|_| rows(&mut self.random, format, out, inp, 0, 0)).collect();
        Weight::new(format.info().name, m).expect("equal shapes")
    }

    fn vector(&mut self, n: usize) -> W {
        Weight::from_f32("vector", 1, n, &self.random.values(n))
    }

    fn matrix(&mut self, out: usize, inp: usize) -> W {
        Weight::from_f32("matrix", out, inp, &self.random.values(out * inp))
    }
}

/// A random matrix whose bytes start at `offset` and whose rows are `gap` bytes longer than their elements.
fn rows(random: &mut Random, format: Format, out: usize, inp: usize, offset: usize, gap: usize) -> Matrix {
    let row = format.row_bytes(inp).expect("whole blocks");
    let stride = row + gap;
    let mut bytes = vec![0xa5u8; offset + out * stride];
    for o in 0..out {
        (format.info().random)(&mut || random.next(), 0.05, &mut bytes[offset + o * stride..][..row]);
    }
    let end = bytes.len();
    let bytes = Bytes::from(bytes).slice(offset..end).expect("within");
    Matrix::Rows { format, out, inp, bytes, stride }
}

/// The smallest row a format can have as an operand.
fn unit(format: Format) -> usize {
    match format.info().activation {
        Operand::F32 => format.info().block,
        Operand::Q8 { block } => block.max(format.info().block),
    }
}

/// Formats that weights come in.
fn formats() -> impl Iterator<Item = Format> {
    FORMATS.iter().map(|f| f.format)
}

/// One of each kind of path.
const SOME: [Format; 6] = [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4K, Format::Mxfp4];

fn linear(s: &mut Suite) {
    for format in formats() {
        let u = unit(format);
        let shapes: &[(usize, usize)] = if u == 1 {
            &[(1, 1), (3, 5), (16, 16), (33, 17), (70, 131), (129, 64), (65, 300)]
        } else {
            &[(1, 1), (5, 2), (33, 1), (70, 3)]
        };
        for (i, &(out, inp)) in shapes.iter().enumerate() {
            let inp = inp * u;
            let w = s.weight(format, 1, out, inp);
            let bias = (i % 2 == 1).then(|| s.vector(out));
            let l = Linear { weight: w, bias };
            for n in [1, 2, 3, 4, 7, 13] {
                let x = s.random.values(n * inp);
                s.check(&format!("linear {} [{out}, {inp}] x {n}", format.info().name), |o| {
                    o.linear(&l, &o.input(n, inp, &x))
                });
            }
        }
    }
    // Enough work for several threads, tokens beyond one pass, odd sizes.
    for (format, out, inp, n) in [
        (Format::F32, 301, 517, 101),
        (Format::BF16, 515, 1030, 3),
        (Format::F16, 1111, 1000, 1),
        (Format::BF16, 1111, 1000, 1),
        (Format::F32, 1111, 1001, 1),
        (Format::Mxfp4, 300, 1024, 9),
        (Format::Q8_0, 777, 1024, 1),
        (Format::Q4K, 513, 1024, 11),
        (Format::Q6K, 700, 1024, 2),
        (Format::F8E4M3, 400, 200, 5),
    ] {
        let l = Linear { weight: s.weight(format, 1, out, inp), bias: Some(s.vector(out)) };
        let x = s.random.values(n * inp);
        s.check(&format!("large linear {} [{out}, {inp}] x {n}", format.info().name), |o| {
            o.linear(&l, &o.input(n, inp, &x))
        });
    }
}

/// A packed weight: values that depend on their place alone.
struct Pattern {
    out: usize,
    inp: usize,
}

impl Packed for Pattern {
    fn name(&self) -> &'static str {
        "pattern"
    }
    fn out(&self) -> usize {
        self.out
    }
    fn inp(&self) -> usize {
        self.inp
    }
    fn bytes(&self) -> usize {
        self.out * self.inp
    }
    fn decode_rows(&self, rows: Range<usize>, dst: &mut [f32]) {
        for (o, row) in rows.zip(dst.chunks_exact_mut(self.inp)) {
            row.iter_mut().enumerate().for_each(|(i, v)| *v = ((o * 31 + i * 17) % 101) as f32 * 0.01 - 0.5);
        }
    }
}

fn layouts(s: &mut Suite) {
    let mut all: Vec<(String, Matrix)> = Vec::new();
    for format in SOME {
        let (u, name) = (unit(format), format.info().name);
        for (out, inp) in [(7, 3 * u), (50, 2 * u), (37, 96 * u.div_ceil(96))] {
            let inp = inp.next_multiple_of(u);
            all.push((format!("{name} unaligned, gaps"), rows(&mut s.random, format, out, inp, 3, 5)));
            let m = rows(&mut s.random, format, 2 * out, inp, 1, 0);
            all.push((format!("{name} every other row"), m.rows(1, 2, out).expect("within")));
        }
    }
    for format in [Format::F32, Format::F16, Format::BF16, Format::F8E4M3, Format::F64] {
        for (out, inp) in [(7, 13), (64, 40), (300, 65), (33, 129)] {
            let size = format.info().bytes;
            let mut bytes = vec![0u8; out * inp * size];
            (format.info().random)(&mut || s.random.next(), 0.05, &mut bytes);
            let bytes = Bytes::from(bytes);
            let strided = |bytes: &Bytes, out, inp, out_stride, inp_stride| Matrix::Strided {
                format,
                out,
                inp,
                bytes: bytes.clone(),
                out_stride,
                inp_stride,
            };
            let name = format.info().name;
            all.push((format!("{name} transposed"), strided(&bytes, out, inp, 1, out)));
            all.push((format!("{name} plain strides"), strided(&bytes, out, inp, inp, 1)));
            // Gate and up interleaved along the outputs of a transposed matrix.
            let half = bytes.slice(size..bytes.len()).expect("within");
            all.push((format!("{name} interleaved"), strided(&half, out / 2, inp, 2, out)));
        }
    }
    for (out, inp) in [(5, 7), (70, 40)] {
        let m = Matrix::packed(Arc::new(Pattern { out, inp }));
        all.push(("packed, every third".into(), m.rows(1, 3, out / 3).expect("within")));
        all.push(("packed".into(), m));
    }
    for (name, m) in all {
        let (out, inp) = (m.out(), m.inp());
        let l = Linear { weight: Weight::new(name.as_str(), vec![m]).expect("a matrix"), bias: None };
        for n in [1, 3, 8] {
            let x = s.random.values(n * inp);
            s.check(&format!("{name} [{out}, {inp}] x {n}"), |o| o.linear(&l, &o.input(n, inp, &x)));
        }
    }
}

/// Infinities, NaN, denormals and zeros stay in their rows and come out the same.
fn broken_rows(s: &mut Suite) {
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, -0.0, f32::MAX, 1e30];
    for format in SOME {
        let inp = unit(format) * 2;
        let l = Linear { weight: s.weight(format, 1, 40, inp), bias: None };
        let mut x = s.random.values(values.len() * inp);
        for (r, v) in values.iter().enumerate() {
            x[r * inp + (r * 11) % inp] = *v;
        }
        x[4 * inp..5 * inp].fill(-0.0);
        let n = values.len();
        s.check(&format!("broken rows {}", format.info().name), |o| o.linear(&l, &o.input(n, inp, &x)));
        let norm = Norm::Rms { weight: None, eps: 1e-6, one_plus: false };
        s.check("broken rows norm", |o| o.norm(&norm, &o.input(n, inp, &x), inp));
        s.check("broken rows softcap", |o| o.softcap(o.input(n, inp, &x), 30.0));
    }
}

fn linears(s: &mut Suite) {
    let inp = 256;
    let ls: Vec<Linear> = SOME
        .into_iter()
        .enumerate()
        .map(|(i, f)| Linear {
            weight: s.weight(f, 1, 20 + 13 * i, inp),
            bias: (i % 2 == 0).then(|| s.vector(20 + 13 * i)),
        })
        .collect();
    for n in [1, 5] {
        let x = s.random.values(n * inp);
        for group in [&ls[0..4], &ls[2..6], &ls[3..4], &ls[1..3]] {
            for i in 0..group.len() {
                let refs: Vec<&Linear> = group.iter().collect();
                s.check(&format!("linears, output {i} x {n}"), |o| o.linears(&refs, &o.input(n, inp, &x)).remove(i));
            }
        }
        // The same input again: what was prepared for it must not be stale.
        for l in &ls[3..5] {
            s.check("linear twice, changed in between", |o| {
                let a = o.input(n, inp, &x);
                let first = o.linear(l, &a);
                let second = o.linear(l, &o.scale(a, 0.5));
                o.add(first, &second)
            });
        }
    }
}

fn heads(s: &mut Suite) {
    for format in SOME.into_iter().chain([Format::F8E4M3, Format::Q4_0, Format::Q5K]) {
        let (u, name) = (unit(format), format.info().name);
        for (groups, out, inp) in [(1, 7, 1), (3, 33, 2), (4, 64, 1)] {
            let inp = if u == 1 { inp * 48 } else { inp * u };
            let w = s.weight(format, groups, out, inp);
            for n in [1, 2, 9] {
                let x = s.random.values(n * groups * inp);
                s.check(&format!("heads {name} [{groups}, {out}, {inp}] x {n}"), |o| {
                    o.linear_heads(&w, &o.input(n, groups * inp, &x), false)
                });
                let x = s.random.values(n * groups * out);
                s.check(&format!("heads transposed {name} [{groups}, {out}, {inp}] x {n}"), |o| {
                    o.linear_heads(&w, &o.input(n, groups * out, &x), true)
                });
            }
        }
    }
}

fn norm(s: &mut Suite) {
    for (rows, groups, group) in [(1, 1, 1), (3, 1, 7), (2, 4, 16), (5, 3, 33), (300, 1, 100), (2, 1, 1000)] {
        let x = s.random.values(rows * groups * group);
        let (w, b) = (s.vector(group), s.vector(group));
        // Vectors of two groups take turns.
        let (long, long_bias) = (s.vector(2 * group), s.vector(2 * group));
        let turns = [
            Norm::Rms { weight: Some(long.clone()), eps: 1e-6, one_plus: true },
            Norm::Layer { weight: Some(long), bias: Some(long_bias), eps: 1e-5 },
        ];
        for n in turns.iter().filter(|_| groups % 2 == 0) {
            s.check(&format!("norm in turns {groups} x {group}"), |o| {
                o.norm(n, &o.input(rows, groups * group, &x), group)
            });
        }
        for weight in [None, Some(w)] {
            for one_plus in [false, true] {
                let n = Norm::Rms { weight: weight.clone(), eps: 1e-6, one_plus };
                s.check(&format!("rms norm {groups} x {group}, {one_plus}"), |o| {
                    o.norm(&n, &o.input(rows, groups * group, &x), group)
                });
            }
            for bias in [None, Some(b.clone())] {
                let n = Norm::Layer { weight: weight.clone(), bias, eps: 1e-5 };
                s.check(&format!("layer norm {groups} x {group}"), |o| {
                    o.norm(&n, &o.input(rows, groups * group, &x), group)
                });
            }
        }
    }
}

/// The sum, its norm, and what quantized and float weights make of the norm: whatever a backend prepares for one of
/// them on the way must not be seen by another.
fn add_norm(s: &mut Suite) {
    for (rows, cols) in [(0, 256), (1, 256), (3, 512), (70, 768)] {
        let (x, y) = (s.random.values(rows * cols), s.random.values(rows * cols));
        let n = Norm::Rms { weight: Some(s.vector(cols)), eps: 1e-6, one_plus: false };
        let sum = |o: &dyn Ops| o.add_norm(o.input(rows, cols, &x), &o.input(rows, cols, &y), &n);
        s.check("add and norm: sum", |o| sum(o).0);
        s.check("add and norm: norm", |o| sum(o).1);
        s.check("add and norm, kept", |o| {
            let a = o.input(rows, cols, &x);
            o.add(o.add_norm(a.clone(), &a, &n).0, &a)
        });
        for format in SOME.into_iter().chain(SOME) {
            let l = Linear { weight: s.weight(format, 1, 40, cols), bias: None };
            s.check(&format!("add and norm, {}", format.info().name), |o| o.linear(&l, &sum(o).1));
            s.check(&format!("norm, {}", format.info().name), |o| {
                let (x, h) = sum(o);
                let before = o.linear(&l, &o.norm(&n, &o.scale(x, 3.0), cols));
                o.add(before, &o.linear(&l, &h))
            });
        }
    }
}

fn rotation(s: &mut Suite) {
    let b = batch(&[(0, 3), (100, 1), (5000, 6)], &mut s.random);
    let ropes = [
        Frequencies::Fixed(default_frequencies(10000.0, 24)),
        Frequencies::Fixed(default_frequencies(500_000.0, 64)),
        Frequencies::Dynamic { theta: 10000.0, dims: 40, max_position: 64, factor: 2.0 },
        Frequencies::Long { short: default_frequencies(1e4, 16), long: default_frequencies(1e6, 16), original: 50 },
    ];
    for frequencies in ropes {
        let rope = Rope { frequencies, scale: 1.1 };
        s.check("rotary", |o| o.rotary(&rope, &b));
        let dims = 2 * rope.pairs();
        for (head_dim, offset, heads) in [(dims, 0, 3), (dims + 9, 5, 2), (dims + 64, 64, 1)] {
            for interleaved in [false, true] {
                let layout = RopeLayout { head_dim, offset, interleaved };
                let x = s.random.values(b.len() * heads * head_dim);
                s.check(&format!("rope {dims} of {head_dim} at {offset}, {interleaved}"), |o| {
                    let table = o.rotary(&rope, &b);
                    o.rope(o.input(b.len(), heads * head_dim, &x), None, &table, &layout)
                });
                let n = Norm::Rms { weight: Some(s.vector(head_dim)), eps: 1e-6, one_plus: interleaved };
                s.check(&format!("norm and rope {dims} of {head_dim} at {offset}, {interleaved}"), |o| {
                    let table = o.rotary(&rope, &b);
                    o.rope(o.input(b.len(), heads * head_dim, &x), Some(&n), &table, &layout)
                });
            }
        }
    }
}

fn pointwise(s: &mut Suite) {
    for (rows, cols) in [(1, 1), (3, 7), (2, 64), (9, 150), (40, 1200)] {
        let (x, z) = (s.random.values(rows * cols), s.random.values(rows * cols));
        let x: Vec<f32> = x.iter().map(|v| v * 40.0).collect();
        s.check("add", |o| o.add(o.input(rows, cols, &x), &o.input(rows, cols, &z)));
        s.check("add, kept", |o| {
            let a = o.input(rows, cols, &x);
            let sum = o.add(a.clone(), &o.input(rows, cols, &z));
            o.add(sum, &a)
        });
        s.check("scale", |o| o.scale(o.input(rows, cols, &x), 0.37));
        for limit in [0.5, 20.0] {
            s.check("clamp", |o| o.clamp(o.input(rows, cols, &x), limit));
        }
        for act in NONLINEAR.into_iter().chain([XIELU]) {
            s.check(&format!("glu {act:?}"), |o| o.glu(act, o.input(rows, cols, &x), &o.input(rows, cols, &z)));
        }
        s.check("softcap", |o| o.softcap(o.input(rows, cols, &x), 30.0));
        let widths = [1, 2, cols].into_iter().filter(|w| cols % w == 0);
        for width in widths.collect::<Vec<_>>() {
            let gate = s.random.values(rows * cols / width);
            s.check(&format!("gate over {width}"), |o| {
                o.sigmoid_mul(o.input(rows, cols, &x), &o.input(rows, cols / width, &gate))
            });
            s.check(&format!("factor over {width}"), |o| {
                o.mul(o.input(rows, cols, &x), &o.input(rows, cols / width, &gate))
            });
        }
        s.check("columns", |o| o.columns(&o.input(rows, cols, &x), cols, cols / 3, cols));
        s.check("select", |o| {
            let picked: Vec<u32> = (0..rows as u32).rev().chain([0]).collect();
            o.select_rows(&o.input(rows, cols, &x), &picked)
        });
        s.check("concat", |o| o.concat_heads(&o.input(rows, cols, &x), &o.input(rows, cols, &z), 1));
    }
    for (rows, cols, odd) in [(1, 1, 0), (3, 17, 5), (2, 1000, 999), (4, 5000, 1500), (1, 70_000, 69_999)] {
        let mut x = s.random.values(rows * cols);
        let row = |o: &dyn Ops, x: &[f32]| {
            let mut found = Vec::new();
            o.greatest(&o.input(rows, cols, x), &mut found);
            let plain = |(at, v): (u32, f32)| [if v.is_nan() { 0.0 } else { at as f32 }, v];
            o.input(rows, 2, &found.into_iter().flat_map(plain).collect::<Vec<_>>())
        };
        s.check("greatest", |o| row(o, &x));
        x[odd] = 2.0;
        x[odd / 2] = 2.0;
        s.check("greatest, two", |o| row(o, &x));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[odd] = bad;
            s.check("greatest, not finite", |o| row(o, &x));
        }
        s.check("greatest, all alike", |o| row(o, &vec![-0.0; rows * cols]));
    }
    let (x, z) = (s.random.values(3 * 24), s.random.values(3 * 12));
    s.check("columns of heads", |o| o.columns(&o.input(3, 24, &x), 8, 2, 7));
    s.check("concat heads", |o| o.concat_heads(&o.input(3, 24, &x), &o.input(3, 12, &z), 4));
    let b = batch(&[(0, 5), (9, 2)], &mut s.random);
    for format in formats() {
        let table = s.weight(format, 1, 64, unit(format) * 2);
        s.check("embed tokens", |o| o.embed(&table, Index::Tokens, 1.0, &b));
        s.check("embed a row", |o| o.embed(&table, Index::Row(3), 1.0, &b));
        s.check("embed positions", |o| o.embed(&table, Index::Positions(2), 3.5, &b));
    }
}

const NONLINEAR: [Activation; 6] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::Relu,
    Activation::Relu2,
    Activation::ClampedSwiglu { alpha: 1.702, limit: 0.5 },
];

/// Bounds that both sides of its branches and of its exponential meet.
const XIELU: Activation = Activation::Xielu { positive: 0.8, negative: 0.7, beta: 0.5, eps: -1e-6 };

/// Some rows of an activation, changed in every way.
fn patch(s: &mut Suite) {
    for (n, cols) in [(1, 1), (3, 7), (5, 64), (9, 333)] {
        let rows: Vec<u32> = (0..n as u32).filter(|r| n == 1 || r % 3 != 1).collect();
        let (y, x) = (s.random.values(n * cols), s.random.values(rows.len() * cols));
        let (g, factors) = (s.vector(cols), s.random.values(rows.len()));
        let all: Vec<u32> = (0..n as u32).collect();
        for kind in 0..5 {
            s.check(&format!("patch {kind} of {n}x{cols}"), |o| {
                let (y, x) = (o.input(n, cols, &y), o.input(rows.len(), cols, &x));
                let patch = match kind {
                    0 => Patch::Put(&x),
                    1 => Patch::Add(&x),
                    2 => Patch::AddTimes(&x, &factors),
                    3 => Patch::Mul(&g),
                    _ => Patch::Bias(&g),
                };
                let changed = o.patch(y.clone(), &rows, &patch);
                // What was given stays as it was.
                let both = o.concat_heads(&y, &changed, 1);
                o.patch(both, &all[..0], &Patch::Put(&x))
            });
        }
    }
}

fn mlp(s: &mut Suite) {
    for (i, act) in NONLINEAR.into_iter().chain([XIELU]).enumerate() {
        for gated in [true, false] {
            if !gated && matches!(act, Activation::ClampedSwiglu { .. }) {
                continue;
            }
            let format = SOME[(i + usize::from(gated)) % SOME.len()];
            let (dim, inner) = (256, 256 * (1 + i % 2));
            let mut linear =
                |out, inp| Linear { weight: s.weight(format, 1, out, inp), bias: gated.then(|| s.vector(out)) };
            let m =
                Mlp { gate: gated.then(|| linear(inner, dim)), up: linear(inner, dim), down: linear(dim, inner), act };
            for n in [0, 1, 2, 10, 70] {
                let x = s.random.values(n * dim);
                s.check(&format!("mlp {act:?} {} x {n}", format.info().name), |o| o.mlp(&m, &o.input(n, dim, &x)));
            }
        }
    }
}

fn route(s: &mut Suite) {
    for (experts, top_k) in [(4, 1), (8, 2), (64, 6), (33, 5), (256, 8)] {
        let mut logits = s.random.values(9 * experts);
        logits[experts..2 * experts].fill(0.25); // ties
        logits[2 * experts + 1] = f32::NAN;
        logits[3 * experts..4 * experts].iter_mut().for_each(|v| *v *= 60.0);
        let groups = [None, Some((4, 2, GroupScore::Max)), Some((4, 3, GroupScore::TopTwo))];
        for (i, groups) in groups.into_iter().enumerate().filter(|(i, _)| *i == 0 || experts % 4 == 0) {
            for score in [Score::Softmax, Score::Sigmoid, Score::SoftmaxOfChosen, Score::Near(0.3)] {
                let bias = (i % 2 == 0).then(|| s.vector(experts));
                let renormalize = (score != Score::SoftmaxOfChosen).then_some(1e-20);
                let r = Route { top_k, score, bias, groups, renormalize, scale: if i == 0 { 1.0 } else { 2.5 } };
                s.check(&format!("route {experts} {top_k} {score:?} {groups:?}"), |o| {
                    o.route(&r, &o.input(9, experts, &logits))
                });
            }
        }
    }
}

fn experts(s: &mut Suite) {
    let (count, dim, inner) = (6, 256, 256);
    for (i, format) in SOME.into_iter().enumerate() {
        for gated in [true, false] {
            let act = if gated { NONLINEAR[(i * 5) % 6] } else { NONLINEAR[i % 5] };
            let mut bias = |n| gated.then(|| s.matrix(count, n));
            let (gate_bias, up_bias, down_bias) = (bias(inner), bias(inner), bias(dim));
            let e = Experts {
                gate: gated.then(|| s.weight(format, count, inner, dim)),
                up: s.weight(format, count, inner, dim),
                down: s.weight(SOME[(i + 1) % SOME.len()], count, dim, inner),
                gate_bias: gate_bias.filter(|_| gated),
                up_bias,
                down_bias,
                act,
            };
            // Of another width and type than the others.
            let other = SOME[(i + 2) % SOME.len()];
            let mut linear = |out, inp| Linear { weight: s.weight(other, 1, out, inp), bias: None };
            let shared = Mlp {
                gate: gated.then(|| linear(2 * inner, dim)),
                up: linear(2 * inner, dim),
                down: linear(dim, 2 * inner),
                act,
            };
            for (n, k) in [(0, 1), (1, 1), (1, 3), (2, 2), (7, 2), (13, 3), (90, 2)] {
                let x = s.random.values(n * dim);
                let mut route = Vec::new();
                for _ in 0..n {
                    let mut ids: Vec<usize> = (0..count).collect();
                    (1..count).rev().for_each(|i| ids.swap(i, s.random.below(i + 1)));
                    route.extend(ids[..k].iter().map(|&i| i as f32));
                    route.extend(s.random.values(k));
                }
                s.check(&format!("experts {} {n} rows, {k} each", format.info().name), |o| {
                    o.experts(&e, &o.input(n, 2 * k, &route), &o.input(n, dim, &x), None)
                });
                let gate = s.random.values(n);
                for gate in [None, Some(gate)] {
                    s.check(&format!("experts {} {n} rows, {k} each, one shared", format.info().name), |o| {
                        let gate = gate.as_ref().map(|g| o.input(n, 1, g));
                        let shared = Shared { mlp: &shared, gate: gate.as_ref() };
                        o.experts(&e, &o.input(n, 2 * k, &route), &o.input(n, dim, &x), Some(shared))
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_conforms_to_itself() {
        let make = || Box::new(Reference::new()) as Box<dyn Ops>;
        let report = run(&[Candidate { name: "reference".into(), make: &make }], exact, 7);
        assert!(report.failures.is_empty(), "{:#?}", report.failures);
        assert!(report.checks > 1000, "{}", report.checks);
    }

    #[test]
    fn one_wrong_bit_is_seen() {
        assert!(!exact(1.0, f32::from_bits(1.0f32.to_bits() + 1)));
        assert!(!exact(0.0, -0.0));
        assert!(exact(f32::NAN, -f32::NAN));
    }
}
