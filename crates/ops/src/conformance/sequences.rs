//! Operations that look along a sequence: attention, choices of positions, convolutions, scans.
use super::{Random, Suite};
use crate::*;

/// Sequences with these (first position, rows), pages scattered.
pub(super) fn batch(parts: &[(usize, usize)], random: &mut Random) -> Batch {
    let mut b = Batch::default();
    let mut pages: Vec<u32> = (0..PAGES as u32).collect();
    (1..pages.len()).rev().for_each(|i| pages.swap(i, random.below(i + 1)));
    let mut pages = pages.into_iter();
    for &(start, n) in parts {
        let first = b.tokens.len();
        b.tokens.extend((0..n).map(|_| random.below(40) as u32));
        b.positions.extend((start..start + n).map(|p| p as u32));
        b.sequences.push(Sequence {
            rows: first..first + n,
            pages: pages.by_ref().take((start + n).div_ceil(PAGE)).collect(),
            rope_length: (start + n) as u32,
            ..Sequence::default()
        });
    }
    b.logit_rows = (0..b.len() as u32).collect();
    b
}

/// The next rows of the sequences of `full`, whose pages they keep: `step` rows of each, from `at` on.
fn part(full: &Batch, at: &mut [usize], step: &[usize]) -> Batch {
    let mut b = Batch::default();
    for (q, &n) in step.iter().enumerate().filter(|(_, n)| **n > 0) {
        let first = b.tokens.len();
        b.tokens.resize(first + n, 0);
        b.positions.extend((at[q]..at[q] + n).map(|p| p as u32));
        at[q] += n;
        let pages = full.sequences[q].pages[..at[q].div_ceil(PAGE)].to_vec();
        b.sequences.push(Sequence { rows: first..first + n, pages, ..Sequence::default() });
    }
    b
}

/// Pages of the caches here.
pub(super) const PAGES: usize = 40;

/// Shapes: heads, kv heads, key width, value width (none: latent, this many columns).
type Shape = (usize, usize, usize, Result<usize, usize>);

pub(super) fn attention(s: &mut Suite) {
    let shapes: [Shape; 7] = [
        (4, 2, 16, Ok(16)),
        (3, 3, 7, Ok(5)),
        (8, 1, 64, Ok(64)),
        (6, 2, 80, Ok(96)),
        (5, 1, 48, Err(32)),
        (40, 1, 72, Err(64)),
        (2, 2, 33, Err(33)),
    ];
    let masks = [Mask::Causal, Mask::Window(1), Mask::Window(40), Mask::Window(64), Mask::Chunk(48), Mask::Window(130)];
    for (i, shape) in shapes.into_iter().enumerate() {
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            for mask in [Mask::Full, Mask::Around(0), Mask::Around(5), Mask::Around(70)] {
                encode(s, shape, kv, mask, i % 3);
            }
        }
    }
    for (i, shape) in shapes.into_iter().enumerate() {
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            // All masks on the first shapes, some on the rest.
            for (j, mask) in masks.into_iter().enumerate().filter(|(j, _)| i < 2 || (i + j) % 3 == 0) {
                let variant = (i + j) % 3;
                attend(s, shape, kv, mask, variant);
                attend(s, shape, kv, mask, variant + 3);
            }
        }
    }
}

/// Sequences in a mixture of prefill, chunks and decode; every step is compared.
fn attend(s: &mut Suite, (heads, kv_heads, qk_dim, v): Shape, kv: KvType, mask: Mask, variant: usize) {
    let (v_dim, stored) = v.map_or_else(|v| (v, None), |v| (v, Some(v)));
    let spec = CacheSpec { kv_heads, k_dim: qk_dim, v_dim: stored, window: None };
    s.reserve(&[spec, spec], kv);
    let a = Attention {
        cache: 1,
        heads,
        kv_heads,
        qk_dim,
        v_dim,
        scale: 0.3,
        mask,
        softcap: (variant % 3 == 1).then_some(5.0),
        sinks: (variant % 3 == 2).then(|| s.vector(heads)),
        slopes: (variant >= 3).then(|| s.vector(heads)),
    };
    // A step: per sequence how many rows it gets.
    let steps: [&[usize]; 7] = [&[5, 70], &[1, 1], &[60, 30], &[1, 0], &[0, 100], &[3, 1], &[1, 1]];
    let full = batch(&[(0, 500), (0, 500)], &mut s.random);
    let mut at = [0usize; 2];
    for (i, step) in steps.into_iter().enumerate() {
        let b = part(&full, &mut at, step);
        let n = b.len();
        let mut q: Vec<f32> = s.random.values(n * heads * qk_dim).iter().map(|v| v * 6.0).collect();
        if i + 1 == steps.len() {
            // What is broken in one head stays there, and comes out the same.
            let last = q.len() - 1;
            (q[0], q[last]) = (f32::NAN, f32::INFINITY);
        }
        let k = s.random.values(n * kv_heads * qk_dim);
        let vs = stored.map(|v| s.random.values(n * kv_heads * v));
        s.check(&format!("attention {heads}/{kv_heads} {qk_dim} {v:?} {kv:?} {mask:?} {variant} step {i}"), |o| {
            let vs = vs.as_ref().map(|v| o.input(n, v.len() / n, v));
            o.append(1, &o.input(n, kv_heads * qk_dim, &k), vs.as_ref(), &b);
            o.attention(&a, &o.input(n, heads * qk_dim, &q), &b)
        });
    }
}

/// Whole sequences that see later tokens too.
fn encode(s: &mut Suite, (heads, kv_heads, qk_dim, v): Shape, kv: KvType, mask: Mask, variant: usize) {
    let (v_dim, stored) = v.map_or_else(|v| (v, None), |v| (v, Some(v)));
    s.reserve(&[CacheSpec { kv_heads, k_dim: qk_dim, v_dim: stored, window: None }], kv);
    let a = Attention {
        cache: 0,
        heads,
        kv_heads,
        qk_dim,
        v_dim,
        scale: 0.3,
        mask,
        softcap: (variant == 1).then_some(5.0),
        sinks: (variant == 2).then(|| s.vector(heads)),
        slopes: None,
    };
    let b = batch(&[(0, 1), (0, 75), (0, 30), (0, 128)], &mut s.random);
    let n = b.len();
    let (q, k) = (s.random.values(n * heads * qk_dim), s.random.values(n * kv_heads * qk_dim));
    let vs = stored.map(|v| s.random.values(n * kv_heads * v));
    s.check(&format!("attention {heads}/{kv_heads} {qk_dim} {v:?} {kv:?} {mask:?} {variant}"), |o| {
        let vs = vs.as_ref().map(|v| o.input(n, v.len() / n, v));
        o.append(0, &o.input(n, kv_heads * qk_dim, &k), vs.as_ref(), &b);
        o.attention(&a, &o.input(n, heads * qk_dim, &q), &b)
    });
}

/// A page that two sequences share until one of them writes on: copied, in all caches, and nothing of the copy is the
/// original's any more.
pub(super) fn copied_page(s: &mut Suite) {
    let shapes: [Shape; 4] = [(4, 2, 16, Ok(16)), (3, 3, 7, Ok(5)), (5, 1, 48, Err(32)), (2, 2, 33, Err(33))];
    for (heads, kv_heads, qk_dim, v) in shapes {
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            let (v_dim, stored) = v.map_or_else(|v| (v, None), |v| (v, Some(v)));
            let spec = CacheSpec { kv_heads, k_dim: qk_dim, v_dim: stored, window: None };
            s.reserve(&[spec, spec], kv);
            let a = |cache| Attention {
                cache,
                heads,
                kv_heads,
                qk_dim,
                v_dim,
                scale: 0.3,
                mask: Mask::Causal,
                softcap: None,
                sinks: None,
                slopes: None,
            };
            // The second page is part full when it is copied; then each sequence has rows of its own.
            let begun = PAGE + PAGE / 3;
            let (own, twin) = (vec![3, 7], vec![3, 9]);
            let steps = [
                vec![(own.clone(), 0, begun)],
                vec![(own.clone(), begun, 2), (twin.clone(), begun, 3)],
                vec![(own, begun + 2, 1)],
                vec![(twin, begun + 3, 1)],
            ];
            for (i, step) in steps.iter().enumerate() {
                let b = on_pages(step);
                let n = b.len();
                let q = s.random.values(n * heads * qk_dim);
                let k = [(); 2].map(|()| s.random.values(n * kv_heads * qk_dim));
                let vs = stored.map(|v| [(); 2].map(|()| s.random.values(n * kv_heads * v)));
                for cache in 0..2 {
                    s.check(
                        &format!("copied page {heads}/{kv_heads} {qk_dim} {v:?} {kv:?} step {i} cache {cache}"),
                        |o| {
                            if (i, cache) == (1, 0) {
                                o.copy_page(7, 9);
                            }
                            let vs = vs.as_ref().map(|v| o.input(n, v[cache].len() / n, &v[cache]));
                            o.append(cache, &o.input(n, kv_heads * qk_dim, &k[cache]), vs.as_ref(), &b);
                            o.attention(&a(cache), &o.input(n, heads * qk_dim, &q), &b)
                        },
                    );
                }
            }
        }
    }
}

/// Sequences on these pages, each with its first position and its rows.
fn on_pages(parts: &[(Vec<u32>, usize, usize)]) -> Batch {
    let mut b = Batch::default();
    for (pages, start, n) in parts {
        let first = b.tokens.len();
        b.tokens.resize(first + n, 0);
        b.positions.extend((*start..start + n).map(|p| p as u32));
        b.sequences.push(Sequence { rows: first..first + n, pages: pages.clone(), ..Sequence::default() });
    }
    b
}

/// The best positions, and attention to them alone; scores with ties.
pub(super) fn selection(s: &mut Suite) {
    for (heads, dim, top_k) in [(1, 1, 3), (4, 16, 1), (5, 33, 40), (16, 64, 100), (3, 8, 400)] {
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            let latent = |k_dim| CacheSpec { kv_heads: 1, k_dim, v_dim: None, window: None };
            s.reserve(&[latent(dim), latent(24)], kv);
            let i = Indexer { cache: 0, heads, dim, scale: 0.2, top_k };
            let a = Attention {
                cache: 1,
                heads: 3,
                kv_heads: 1,
                qk_dim: 24,
                v_dim: 16,
                scale: 0.3,
                mask: Mask::Causal,
                softcap: None,
                sinks: None,
                slopes: None,
            };
            let full = batch(&[(0, 200), (0, 200)], &mut s.random);
            let mut at = [0; 2];
            for step in [[130, 5], [1, 70], [20, 1], [1, 1]] {
                let b = part(&full, &mut at, &step);
                let n = b.len();
                let round = |v: Vec<f32>| v.into_iter().map(|v| (v * 4.0).round() / 4.0).collect::<Vec<_>>();
                let (q, w) = (round(s.random.values(n * heads * dim)), round(s.random.values(n * heads)));
                let (k, aq, ak) = (round(s.random.values(n * dim)), s.random.values(n * 72), s.random.values(n * 24));
                let choice = |o: &dyn Ops| {
                    o.append(0, &o.input(n, dim, &k), None, &b);
                    o.select(&i, &o.input(n, heads * dim, &q), &o.input(n, heads, &w), &b)
                };
                s.check(&format!("select {heads} {dim} {top_k} {kv:?}"), choice);
                s.check(&format!("attention over {heads} {dim} {top_k} {kv:?}"), |o| {
                    let chosen = choice(o);
                    o.append(1, &o.input(n, 24, &ak), None, &b);
                    o.attention_over(&a, &o.input(n, 72, &aq), &chosen, &b)
                });
            }
        }
    }
}

/// Slots of states in the tests.
const SLOTS: usize = 8;

/// An operation over its inputs.
type Operation<'a> = &'a dyn Fn(&dyn Ops, &[Act], &Batch) -> Act;

/// Steps of two sequences: one that begins, goes on in its slot, then from a copy that was kept on the way; one beside it.
fn stateful(s: &mut Suite, name: &str, values: usize, widths: &[usize], run: Operation<'_>) {
    let states = [StateSpec { values: 3 }, StateSpec { values }];
    s.reference.reserve_states(&states, SLOTS);
    s.backends.iter().for_each(|(_, b)| b.reserve_states(&states, SLOTS));
    // Of each sequence: rows, where from, where to after which rows.
    type Part<'a> = (usize, Option<u32>, &'a [(u32, u32)]);
    let steps: [&[Part<'_>]; 5] = [
        &[(9, None, &[(2, 4), (5, 5), (8, 1)]), (1, None, &[(0, 2)])],
        &[(1, Some(1), &[(0, 1)]), (1, Some(2), &[(0, 2)])],
        &[(70, Some(2), &[(69, 2)])],
        &[(3, Some(4), &[(2, 1)]), (2, Some(5), &[(0, 6), (1, 7), (1, 3)])],
        &[(1, Some(3), &[]), (4, Some(1), &[(3, 1)])],
    ];
    for (i, step) in steps.into_iter().enumerate() {
        let mut b = Batch::default();
        for (n, state, keep) in step {
            let first = b.tokens.len();
            b.tokens.resize(first + n, 0);
            b.positions.extend(0..*n as u32);
            b.sequences.push(Sequence {
                rows: first..first + n,
                state: *state,
                keep: keep.to_vec(),
                ..Sequence::default()
            });
        }
        let n = b.len();
        let inputs: Vec<Vec<f32>> = widths.iter().map(|w| s.random.values(n * w)).collect();
        s.check(&format!("{name} step {i}"), |o| {
            let acts: Vec<Act> = inputs.iter().zip(widths).map(|(x, w)| o.input(n, *w, x)).collect();
            run(o, &acts, &b)
        });
    }
}

pub(super) fn convolution(s: &mut Suite) {
    for (channels, kernel) in [(1, 1), (5, 4), (64, 3), (130, 2), (1000, 4)] {
        for (act, biased) in [(None, false), (Some(Activation::Silu), true), (Some(Activation::GeluTanh), false)] {
            let (weight, bias) = (s.vector(channels * kernel), biased.then(|| s.vector(channels)));
            let c = Conv { state: 1, weight, bias, kernel, act };
            stateful(
                s,
                &format!("conv {channels} {kernel} {act:?}"),
                channels * (kernel - 1),
                &[channels],
                &|o, x, b| o.conv(&c, &x[0], b),
            );
        }
    }
}

pub(super) fn scan(s: &mut Suite) {
    let rates = |s: &mut Suite, n: usize| {
        let v: Vec<f32> = s.random.values(n).iter().map(|v| -v.abs() - 0.01).collect();
        Weight::from_f32("rates", 1, n, &v)
    };
    let go = |s: &mut Suite, name: String, values: usize, widths: &[usize], kind: ScanKind| {
        let scan = Scan { state: 1, kind };
        stateful(s, &name, values, widths, &|o, x, b| o.scan(&scan, &x.iter().collect::<Vec<_>>(), b));
    };
    for (channels, n) in [(1, 1), (7, 5), (64, 16), (200, 16)] {
        let kind =
            ScanKind::Selective { rates: rates(s, channels * n), step_bias: s.vector(channels), d: s.vector(channels) };
        go(s, format!("selective {channels} {n}"), channels * n, &[channels, channels, n, n], kind);
    }
    for (heads, dim, groups, n) in [(1, 1, 1, 1), (4, 7, 2, 5), (6, 64, 1, 16), (12, 33, 3, 40)] {
        for limit in [(0.0, f32::INFINITY), (0.2, 0.9)] {
            let (step_bias, d) = (s.vector(heads), s.vector(heads));
            let kind = ScanKind::Heads { rates: rates(s, heads), step_bias, d, groups, limit };
            let widths = [heads * dim, heads, groups * n, groups * n];
            go(s, format!("heads {heads} {dim} {groups} {n} {limit:?}"), heads * dim * n, &widths, kind);
        }
    }
    for (key_heads, heads, dk, dv) in [(1, 1, 1, 1), (2, 4, 6, 8), (2, 2, 33, 20), (4, 8, 64, 64)] {
        for (each, beta_scale) in [(false, 1.0), (true, 2.0)] {
            let decays = if each { heads * dk } else { heads };
            let (rates, step_bias) = (rates(s, heads), s.vector(decays));
            let kind = ScanKind::Delta { rates, step_bias, key_heads, heads, beta_scale };
            let widths = [key_heads * dk, key_heads * dk, heads * dv, decays, heads];
            go(s, format!("delta {key_heads} {heads} {dk} {dv} {each}"), heads * dk * dv, &widths, kind);
        }
    }
    for (heads, dim) in [(1, 1), (3, 7), (4, 64)] {
        let decay: Vec<f32> = (0..heads).map(|h| 0.9 - 0.1 * h as f32).collect();
        let kind = ScanKind::Linear { decay: Weight::from_f32("decay", 1, heads, &decay) };
        go(s, format!("linear {heads} {dim}"), heads * dim * dim, &[heads * dim; 3], kind);
    }
}
