//! A layer with everything that keeps memory somewhere.
#![allow(dead_code)] // each test program uses a part of it

use pondera_ops::*;
use pondera_quant::{Bytes, Format, Matrix};

/// What keeps a matrix's bytes.
pub type Keep<'a> = &'a mut dyn FnMut(Vec<u8>) -> Bytes;

/// A weight of random values, the same at every call.
pub fn weight(format: Format, groups: usize, out: usize, inp: usize, keep: Keep<'_>) -> W {
    let stride = format.row_bytes(inp).expect("whole blocks");
    let mut state = 3u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 31)
    };
    let groups = (0..groups).map(|_| {
        let mut bytes = vec![0; out * stride];
        (format.info().random)(&mut next, 0.05, &mut bytes);
        Matrix::Rows { format, out, inp, bytes: keep(bytes), stride }
    });
    Weight::new(format.info().name, groups.collect()).expect("equal shapes")
}

/// A layer with everything that allocates somewhere: attention, a block, experts.
pub struct Layer {
    table: W,
    norm: Norm,
    head_norm: Norm,
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

fn linear(weight: &mut dyn FnMut(Format, usize, usize, usize) -> W, format: Format, out: usize, inp: usize) -> Linear {
    Linear { weight: weight(format, 1, out, inp), bias: None }
}

impl Layer {
    /// Matrices of `format`, all of whose bytes `keep` keeps.
    pub fn new(format: Format, keep: Keep<'_>) -> Layer {
        let mut weight = |format, groups, out, inp| weight(format, groups, out, inp, keep);
        Layer {
            table: weight(format, 1, 32, DIM),
            norm: Norm::Rms { weight: Some(weight(Format::F32, 1, 1, DIM)), eps: 1e-6, one_plus: false },
            head_norm: Norm::Rms { weight: None, eps: 1e-6, one_plus: false },
            q: linear(&mut weight, format, DIM, DIM),
            k: linear(&mut weight, format, 256, DIM),
            v: linear(&mut weight, format, 256, DIM),
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
                slopes: None,
            },
            o: linear(&mut weight, format, DIM, DIM),
            mlp: Mlp {
                gate: Some(linear(&mut weight, format, 1024, DIM)),
                up: linear(&mut weight, format, 1024, DIM),
                down: linear(&mut weight, format, DIM, 1024),
                act: Activation::Silu,
            },
            router: linear(&mut weight, format, 16, DIM),
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

    /// Room for 256 positions.
    pub fn reserve(&self, o: &dyn Ops) {
        o.reserve(&[CacheSpec { kv_heads: 4, k_dim: 64, v_dim: Some(64), window: None }], KvType::F16, 4);
    }

    /// Its output for the last row.
    pub fn step(&self, o: &dyn Ops, b: &Batch, out: &mut Vec<f32>) {
        let rows = b.len();
        let x = o.embed(&self.table, Index::Tokens, 1.0, b);
        let table = o.rotary(&self.rope, b);
        let h = o.norm(&self.norm, &x, DIM);
        let mut qkv = o.linears(&[&self.q, &self.k, &self.v], &h).into_iter();
        let (q, k, v) = (qkv.next().unwrap(), qkv.next().unwrap(), qkv.next().unwrap());
        let layout = RopeLayout { head_dim: 64, offset: 0, interleaved: false };
        let (q, k) = (o.rope(q, Some(&self.head_norm), &table, &layout), o.rope(k, None, &table, &layout));
        o.append(0, &k, Some(&v), b);
        let y = o.linear(&self.o, &o.attention(&self.attention, &q, b));
        let (x, h) = o.add_norm(x, &y, &self.norm);
        let x = o.add(x, &o.mlp(&self.mlp, &h));
        let route = o.route(&self.route, &o.linear(&self.router, &x));
        let x = o.add(o.experts(&self.experts, &route, &x, Some(Shared { mlp: &self.mlp, gate: None })), &x);
        let x = o.softcap(o.select_rows(&x, &[rows as u32 - 1]), 30.0);
        out.clear();
        o.read(&x, out);
    }
}
