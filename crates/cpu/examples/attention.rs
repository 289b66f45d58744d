//! Speed of attention: `attention [--heads H] [--kv-heads G] [--dim D] [--values V | --latent V] [--layers L]
//! [--length N] [--rows R] [--kv f32|f16|q8] [--threads T] [--rounds N]`.
//!
//! Each round attends from the last R of N positions in each of L layers, whose caches are more than what the processor
//! keeps: prints medians (best in parentheses) of the time of a step, GB/s of keys and values, and Gop/s.
use pondera_cpu::{Cpu, Options, default_threads};
use pondera_ops::{Attention, Batch, CacheSpec, KvType, Mask, Ops};
use std::time::Instant;

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

fn number(name: &str, or: usize) -> usize {
    option(name).and_then(|v| v.parse().ok()).unwrap_or(or)
}

/// Numbers in -1 … 1 that do not repeat soon.
fn values(n: usize, seed: &mut u64) -> Vec<f32> {
    let mut next = || {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn main() {
    let (heads, kv_heads, dim) = (number("--heads", 32), number("--kv-heads", 8), number("--dim", 64));
    let latent = option("--latent").is_some();
    let v_dim = if latent { number("--latent", dim) } else { number("--values", dim) };
    let (layers, length, rows) = (number("--layers", 16), number("--length", 8192), number("--rows", 1));
    let kv = match option("--kv").as_deref() {
        Some("f32") => KvType::F32,
        Some("q8") => KvType::Q8,
        _ => KvType::F16,
    };
    let options = Options { threads: number("--threads", default_threads()), ..Options::default() };
    let cpu = Cpu::new(options).expect("threads of this machine");
    let spec = CacheSpec { kv_heads, k_dim: dim, v_dim: (!latent).then_some(v_dim), window: None };
    cpu.reserve(&vec![spec; layers], kv, length.div_ceil(pondera_ops::PAGE));
    let mut seed = 1;
    for from in (0..length).step_by(512) {
        let n = 512.min(length - from);
        let batch = Batch::single(&vec![0; n], from as u32);
        let k = cpu.input(n, kv_heads * dim, &values(n * kv_heads * dim, &mut seed));
        let v = (!latent).then(|| cpu.input(n, kv_heads * v_dim, &values(n * kv_heads * v_dim, &mut seed)));
        (0..layers).for_each(|cache| cpu.append(cache, &k, v.as_ref(), &batch));
    }
    let batch = Batch::single(&vec![0; rows], (length - rows) as u32);
    let q = cpu.input(rows, heads * dim, &values(rows * heads * dim, &mut seed));
    let attend = |cache| {
        let a = Attention {
            cache,
            heads,
            kv_heads,
            qk_dim: dim,
            v_dim,
            scale: (dim as f32).powf(-0.5),
            mask: Mask::Causal,
            softcap: None,
            sinks: None,
            slopes: None,
        };
        cpu.attention(&a, &q, &batch);
    };
    attend(0);
    let mut times: Vec<f64> = (0..number("--rounds", 15))
        .map(|_| {
            let start = Instant::now();
            (0..layers).for_each(attend);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (median, best) = (times[times.len() / 2], times[0]);
    let seen: usize = (length - rows + 1..=length).sum();
    let bytes = cpu.held().caches as f64;
    let ops = (2 * seen * heads * (dim + v_dim) * layers) as f64;
    println!(
        "{heads}/{kv_heads} heads of {dim}, {v_dim}; {length} positions, {rows} rows, {kv:?}: {:.2} ms ({:.2}), \
         {:.1} GB/s ({:.1}), {:.0} Gop/s ({:.0})",
        median * 1e3,
        best * 1e3,
        bytes / median / 1e9,
        bytes / best / 1e9,
        ops / median / 1e9,
        ops / best / 1e9,
    );
}
