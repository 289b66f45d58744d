//! After warm-up a decode step allocates nothing (a page's first touch apart).
use pondera_cpu::{Cpu, Isa, Options};
use pondera_ops::*;
use pondera_quant::{Bytes, Format, Matrix};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn weight(format: Format, groups: usize, out: usize, inp: usize) -> W {
    let stride = format.row_bytes(inp).expect("whole blocks");
    let mut state = 3u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 31)
    };
    let groups = (0..groups).map(|_| {
        let mut bytes = vec![0; out * stride];
        (format.info().random)(&mut next, 0.05, &mut bytes);
        Matrix::Rows { format, out, inp, bytes: Bytes::from(bytes), stride }
    });
    Weight::new(format.info().name, groups.collect()).expect("equal shapes")
}

/// A layer with everything that allocates somewhere: attention, a block, experts.
struct Layer {
    table: W,
    norm: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    rope: Rope,
    attention: Attention,
    o: Linear,
    mlp: Mlp,
    router: Linear,
    route: Route,
    experts: Experts,
}

const DIM: usize = 512;

impl Layer {
    fn new(format: Format) -> Layer {
        let linear = |out, inp| Linear { weight: weight(format, 1, out, inp), bias: None };
        Layer {
            table: weight(format, 1, 32, DIM),
            norm: Norm::Rms { weight: Some(weight(Format::F32, 1, 1, DIM)), eps: 1e-6, one_plus: false },
            q: linear(DIM, DIM),
            k: linear(256, DIM),
            v: linear(256, DIM),
            rope: Rope { frequencies: Frequencies::Fixed(default_frequencies(1e4, 64)), scale: 1.0 },
            attention: Attention {
                cache: 0,
                heads: 8,
                kv_heads: 4,
                qk_dim: 64,
                v_dim: 64,
                scale: 0.125,
                mask: Mask::Causal,
                softcap: None,
                sinks: None,
            },
            o: linear(DIM, DIM),
            mlp: Mlp {
                gate: Some(linear(1024, DIM)),
                up: linear(1024, DIM),
                down: linear(DIM, 1024),
                act: Activation::Silu,
            },
            router: linear(16, DIM),
            route: Route {
                top_k: 4,
                score: Score::Sigmoid,
                bias: Some(weight(Format::F32, 1, 1, 16)),
                groups: Some((4, 2, GroupScore::TopTwo)),
                renormalize: Some(1e-20),
                scale: 2.5,
            },
            experts: Experts {
                gate: Some(weight(format, 16, 256, DIM)),
                up: weight(format, 16, 256, DIM),
                down: weight(format, 16, DIM, 256),
                gate_bias: None,
                up_bias: None,
                down_bias: None,
                act: Activation::Silu,
            },
        }
    }

    fn step(&self, o: &dyn Ops, b: &Batch, out: &mut Vec<f32>) {
        let rows = b.len();
        let x = o.embed(&self.table, Index::Tokens, 1.0, b);
        let table = o.rotary(&self.rope, b);
        let h = o.norm(&self.norm, &x, DIM);
        let mut qkv = o.linears(&[&self.q, &self.k, &self.v], &h).into_iter();
        let (q, k, v) = (qkv.next().unwrap(), qkv.next().unwrap(), qkv.next().unwrap());
        let layout = RopeLayout { head_dim: 64, offset: 0, interleaved: false };
        let (q, k) = (o.rope(q, &table, &layout), o.rope(k, &table, &layout));
        o.append(0, &k, Some(&v), b);
        let y = o.linear(&self.o, &o.attention(&self.attention, &q, b));
        let x = o.add(x, &y);
        let h = o.norm(&self.norm, &x, DIM);
        let x = o.add(x, &o.mlp(&self.mlp, &h));
        let route = o.route(&self.route, &o.linear(&self.router, &x));
        let x = o.add(o.experts(&self.experts, &route, &x), &x);
        let x = o.softcap(o.select_rows(&x, &[rows as u32 - 1]), 30.0);
        out.clear();
        o.read(&x, out);
    }
}

#[test]
fn a_decode_step_allocates_nothing() {
    for format in [Format::BF16, Format::Q8_0, Format::Q4K] {
        for threads in [1, 3] {
            let cpu = Cpu::new(Options { isa: Isa::detect(), threads }).expect("detected");
            let layer = Layer::new(format);
            cpu.reserve(&[CacheSpec { kv_heads: 4, k_dim: 64, v_dim: Some(64), window: None }], KvType::F16, 4);
            let mut out = Vec::new();
            let prompt: Vec<u32> = (0..20).collect();
            layer.step(&cpu, &Batch::single(&prompt, 0), &mut out);
            let steps: Vec<Batch> = (20..40).map(|p| Batch::single(&[p % 32], p)).collect();
            steps[..8].iter().for_each(|b| layer.step(&cpu, b, &mut out));
            let before = ALLOCATIONS.load(SeqCst);
            steps[8..].iter().for_each(|b| layer.step(&cpu, b, &mut out));
            assert_eq!(ALLOCATIONS.load(SeqCst) - before, 0, "{format:?}, {threads} threads");
            assert!(out.iter().all(|v| v.is_finite()));
        }
    }
}
