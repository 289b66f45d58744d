//! Equality by bits: nothing that shares a step with a request, and no size, moves its results.
use super::*;
use crate::{Score, TraceOptions, scheduler::PROMPT_ROWS_MIN};

/// Prompts whose lengths lie before, at and past the borders of pages.
fn requests() -> Vec<Request> {
    [(1, 40), (63, 12), (64, 3), (130, 20), (7, 70), (90, 33), (60, 30), (61, 30), (62, 30)]
        .into_iter()
        .enumerate()
        .map(|(i, (n, more))| sampled(prompt(n, i), more, i as u64))
        .collect()
}

fn alone(model: &Rc<Model>, setup: Setup) -> Vec<Vec<(u32, u64)>> {
    let one = |r| bits(&runner(model, setup).generate(r, &mut |_| std::ops::ControlFlow::Continue(())).unwrap());
    requests().into_iter().map(one).collect()
}

fn together(model: &Rc<Model>, setup: Setup) -> (Vec<Vec<(u32, u64)>>, u64) {
    let mut r = runner(model, setup);
    for request in requests() {
        r.submit(request).unwrap();
    }
    let outcomes = drain(&mut r);
    (outcomes.into_values().map(|c| bits(&c.unwrap())).collect(), r.scheduler.preemptions)
}

#[test]
fn company_chunks_and_preemption_move_no_bit() {
    for (name, _) in MODELS {
        let model = random(name);
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            let base = Setup { kv, ..Setup::default() };
            let want = alone(&model, base);
            let (got, none) = together(&model, base);
            assert_eq!((got == want, none), (true, 0), "{name} {kv:?}: together");
            let (got, _) = together(&model, Setup { chunk: 7, max_rows: 16, max_sequences: 4, ..base });
            assert!(got == want, "{name} {kv:?}: chunks of 7, 16 rows a step, 4 sequences");
            let (got, often) = together(&model, Setup { ctx: 160, kv_tokens: 192, chunk: 33, ..base });
            assert!(often > 0, "{name}: three pages were enough for all");
            assert!(got == want, "{name} {kv:?}: {often} preemptions");
        }
    }
}

#[test]
fn chunks_and_threads_and_instruction_sets_move_no_bit_of_a_trace() {
    let all = TraceOptions { chunk: None, hidden: true, experts: true };
    for (name, _) in MODELS {
        let model = random(name);
        let tokens = prompt(135, 1);
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            let base = Setup { kv, ..Setup::default() };
            let want = runner(&model, base).trace(&tokens, all).unwrap();
            assert_eq!(want.logits.len(), 135 * want.vocab_size);
            assert_eq!((want.hidden.len(), want.hidden_size), (3, 32), "{name}");
            assert!(want.hidden.iter().all(|h| h.len() == 135 * 32));
            let same = |setup: Setup, chunk: Option<usize>| {
                let got = runner(&model, setup).trace(&tokens, TraceOptions { chunk, ..all }).unwrap();
                let equal = |a: &[f32], b: &[f32]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
                equal(&got.logits, &want.logits)
                    && got.hidden.iter().zip(&want.hidden).all(|(a, b)| equal(a, b))
                    && got.experts == want.experts
            };
            for chunk in [1, 7, 64, 1000] {
                assert!(same(base, Some(chunk)), "{name} {kv:?}: chunk {chunk}");
            }
            for threads in [2, 3] {
                assert!(same(Setup { threads, ..base }, None), "{name} {kv:?}: {threads} threads");
            }
            for isa in Isa::ALL.into_iter().filter(|i| i.supported()) {
                assert!(same(Setup { isa, ..base }, Some(50)), "{name} {kv:?}: {isa}");
            }
        }
    }
}

#[test]
fn a_trace_names_the_experts_of_each_layer() {
    let t = |name| {
        let all = TraceOptions { chunk: Some(4), hidden: false, experts: true };
        runner(&random(name), Setup::default()).trace(&prompt(10, 0), all).unwrap()
    };
    let layers = |name| t(name).experts.iter().map(|r| (r.layer, r.top_k, r.ids.len())).collect::<Vec<_>>();
    assert_eq!(layers("mixtral"), [(0, 2, 20), (1, 2, 20)]);
    assert_eq!(layers("deepseek_v3"), [(1, 2, 20)]);
    assert!(t("mixtral").experts.iter().all(|r| r.ids.iter().all(|id| *id < 4)));
    assert!(t("llama").experts.is_empty() && t("llama").hidden.is_empty());
}

/// Every generated token is what a computation of the whole sequence up to it gives: also where rotary
/// frequencies depend on the length, and the sequence grows past the length that they were made for.
#[test]
fn generation_equals_full_recomputation_at_each_length() {
    for (name, _) in MODELS {
        let model = random(name);
        let mut r = runner(&model, Setup { chunk: 20, ..Setup::default() });
        let request = Request { logprobs: Some(1), ..sampled(prompt(40, 2), 30, 5) };
        let c = r.generate(request.clone(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        let mut whole = request.prompt;
        for (token, (logprob, top)) in c.tokens.iter().zip(&c.logprobs) {
            let t = r.trace(&whole, TraceOptions::default()).unwrap();
            let row = &t.logits[(whole.len() - 1) * t.vocab_size..];
            let want = f64::from(row[*token as usize]) - crate::log_sum_exp(row);
            assert!((want - logprob).abs() < 1e-12, "{name} at {}: {want} {logprob}", whole.len());
            assert_eq!(top[0].id, crate::math::greatest(row).0);
            whole.push(*token);
        }
    }
}

#[test]
fn scores_follow_the_logits() {
    let model = random("llama");
    let tokens = prompt(150, 3);
    let score = |setup: Setup| {
        let mut out = Vec::new();
        runner(&model, setup).score(&tokens, &mut out).unwrap();
        out
    };
    let want = score(Setup::default());
    let bits = |s: &[Score]| s.iter().map(|s| (s.nll.to_bits(), s.greedy)).collect::<Vec<_>>();
    assert_eq!(want.len(), 149);
    for chunk in [1, 7, 64] {
        assert_eq!(bits(&score(Setup { chunk, ..Setup::default() })), bits(&want));
    }
    let t = runner(&model, Setup::default()).trace(&tokens, TraceOptions::default()).unwrap();
    for (i, s) in want.iter().enumerate() {
        let row = &t.logits[i * t.vocab_size..][..t.vocab_size];
        let sum: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
        let nll = sum.ln() - f64::from(row[tokens[i + 1] as usize]);
        assert!((nll - s.nll).abs() < 1e-9 && s.nll > 0.0);
    }
}

/// Logits that come chunk by chunk are those of a trace; a pass that is left half way gives its pages back.
#[test]
fn streamed_logits_are_those_of_a_trace() {
    let model = random("llama");
    let tokens = prompt(150, 3);
    let mut r = runner(&model, Setup { chunk: 7, ctx: 192, kv_tokens: 192, ..Setup::default() });
    let want = r.trace(&tokens, TraceOptions::default()).unwrap().logits;
    let vocab = want.len() / 150;
    for _ in 0..3 {
        let mut pass = r.logits(&tokens).unwrap();
        let first = pass.next_rows().unwrap().unwrap();
        assert!(first.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(first.len(), 7 * vocab);
    }
    let mut got = Vec::new();
    let mut pass = r.logits(&tokens).unwrap();
    while let Some(rows) = pass.next_rows().unwrap() {
        got.extend_from_slice(rows);
    }
    assert!(pass.next_rows().unwrap().is_none());
    assert!(got.iter().map(|v| v.to_bits()).eq(want.iter().map(|v| v.to_bits())));
}

/// Tracing while others run takes their pages and gives them back; their results do not move.
#[test]
fn a_trace_between_steps_disturbs_nobody() {
    let model = random("llama");
    let want = alone(&model, Setup::default());
    let mut r = runner(&model, Setup { ctx: 256, kv_tokens: 256, ..Setup::default() });
    for request in requests() {
        r.submit(request).unwrap();
    }
    let mut got = BTreeMap::<RequestId, Vec<u32>>::new();
    let mut steps = 0;
    while r.step(&mut |id, e| {
        if let Event::Token { id: t, .. } = e {
            got.entry(id).or_default().push(t);
        }
    }) {
        steps += 1;
        if steps % 9 == 0 {
            r.trace(&prompt(200, 4), TraceOptions::default()).unwrap();
        }
    }
    let want: Vec<Vec<u32>> = want.iter().map(|w| w.iter().map(|(t, _)| *t).collect()).collect();
    assert_eq!(got.into_values().collect::<Vec<_>>(), want);
    // A longer one than the cache holds makes the cache larger.
    let t = r.trace(&prompt(400, 4), TraceOptions::default()).unwrap();
    assert_eq!(t.logits.len(), 400 * t.vocab_size);
}

/// The turns of a conversation: each begins with all that was said before, and gives what it gives in a new engine.
#[test]
fn prefixes_of_earlier_requests_move_no_bit() {
    let go_on = &mut |_: &Event<'_>| std::ops::ControlFlow::Continue(());
    for (name, _) in MODELS {
        let model = random(name);
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            let setup = Setup { kv, chunk: 50, ..Setup::default() };
            let mut r = runner(&model, setup);
            let mut said = prompt(30, 0);
            let mut reused = Vec::new();
            for turn in 0..4 {
                said.extend(prompt(40, turn));
                let request = sampled(said.clone(), 15, turn as u64);
                let c = r.generate(request.clone(), go_on).unwrap();
                let fresh = runner(&model, Setup { max_prefixes: 0, ..setup }).generate(request, go_on).unwrap();
                assert_eq!(bits(&c), bits(&fresh), "{name} {kv:?} turn {turn}");
                reused.push(c.usage.cached_tokens);
                said.extend(c.tokens);
            }
            match *name {
                // Every length past 48 has frequencies of its own.
                "dynamic" => assert_eq!(reused, [0; 4]),
                // 84, 139 and 194 tokens are cached when the first three turns end.
                _ => assert_eq!(reused, [0, 64, 128, 192], "{name}"),
            }
            // The same prompt again computes at least its last token; another beginning shares nothing.
            let again = r.generate(sampled(said[..64].to_vec(), 2, 0), go_on).unwrap();
            // Of a page that ends past it a copy; states have none in the middle of a page.
            let part = if *name == "dynamic" || !model.states().is_empty() { 0 } else { 63 };
            assert_eq!(again.usage.cached_tokens, part, "{name}");
            let other = r.generate(sampled(prompt(100, 9), 2, 0), go_on).unwrap();
            assert_eq!(other.usage.cached_tokens, 0);
        }
    }
}

/// Two that run at once share a beginning and go different ways; a third is cut short of room and forgets it.
#[test]
fn a_shared_prefix_is_never_written() {
    let model = random("llama");
    let setup = Setup { ctx: 256, kv_tokens: 256, ..Setup::default() };
    let mut r = runner(&model, setup);
    let start = prompt(64, 0);
    r.submit(sampled(prompt(70, 0), 5, 0)).unwrap();
    while r.step(&mut |_, _| {}) {}
    let with = |seed: usize| sampled([start.clone(), prompt(30, seed)].concat(), 20, seed as u64);
    let ids: Vec<RequestId> = (1..5).map(|seed| r.submit(with(seed)).unwrap()).collect();
    let got = drain(&mut r);
    for (seed, id) in (1..5).zip(ids) {
        let alone = drain_alone(&model, setup, with(seed));
        let c = got[&id].as_ref().unwrap();
        assert_eq!(bits(c), bits(&alone), "{seed}");
        assert_eq!(c.usage.cached_tokens, 64);
    }
}

fn drain_alone(model: &Rc<Model>, setup: Setup, request: Request) -> Completion {
    runner(model, setup).generate(request, &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
}

/// What a third request has in common with two before it is computed once: the second marks where they part.
#[test]
fn states_are_kept_where_sequences_part() {
    for name in ["qwen3_next", "mamba2"] {
        let model = random(name);
        let setup = Setup { chunk: 50, ..Setup::default() };
        let mut r = runner(&model, setup);
        let system = prompt(150, 0);
        let mut reused = Vec::new();
        for seed in 1..5 {
            let request = sampled([system.clone(), prompt(100, seed)].concat(), 5, seed as u64);
            let id = r.submit(request.clone()).unwrap();
            let c = drain_and_keep(&mut r).remove(&id).unwrap().unwrap();
            assert_eq!(bits(&c), bits(&drain_alone(&model, setup, request)), "{name} {seed}");
            reused.push(c.usage.cached_tokens);
        }
        assert_eq!(reused, [0, 0, 128, 128], "{name}");
    }
}

/// Conversations that begin alike, cut short, give way and guess, over as many snapshots as there are or too few.
#[test]
fn snapshots_move_no_bit() {
    for name in ["qwen3_next", "mamba2"] {
        let model = random(name);
        for max_snapshots in [0, 1, 2, 5, 40] {
            let (max_prefixes, ctx) = (6, 300);
            let setup = Setup {
                ctx,
                kv_tokens: 700,
                chunk: 90,
                max_sequences: 3,
                max_prefixes,
                max_snapshots,
                ..Setup::default()
            };
            let mut r = runner(&model, setup);
            let mut asked = BTreeMap::new();
            let mut reused = 0;
            for round in 0..40 {
                let (of, cut) = (round * 7 % 3, 64 + round * 37 % 120);
                let mut tokens = prompt(cut, of);
                tokens.extend(prompt(3 + round * 11 % 40, round));
                let mut request = sampled(tokens, 1 + round * 5 % 90, round as u64);
                request.sampling.temperature = 0.02;
                request.speculation =
                    (round % 2 == 1).then_some(crate::Speculation { lookup: true, tokens: 7, ..Default::default() });
                let id = r.submit(request.clone()).unwrap();
                asked.insert(id, Request { speculation: None, ..request });
                for _ in 0..round % 5 {
                    r.step(&mut |_, _| {});
                }
                if round % 4 == 3 {
                    r.cancel(id);
                    asked.remove(&id);
                    continue;
                }
                if round % 3 == 0 {
                    let ended = drain_and_keep(&mut r);
                    for (id, c) in ended {
                        let (Some(request), Ok(c)) = (asked.remove(&id), c) else { continue };
                        let alone = drain_alone(&model, Setup { max_prefixes: 0, ..setup }, request);
                        // What was said before the drain is not in it.
                        let tail = &bits(&alone)[alone.tokens.len() - c.tokens.len()..];
                        assert_eq!(bits(&c), tail, "{name} {max_snapshots} {round}");
                        reused += c.usage.cached_tokens;
                    }
                }
            }
            drain(&mut r);
            assert_eq!(reused > 0, max_snapshots > 0, "{name} {max_snapshots}");
        }
    }
}

/// As many guesses as there are while the snapshot that all of them begin at is taken from its prefix.
#[test]
fn a_snapshot_that_gives_way_leaves_slots_for_all() {
    let model = random("qwen3_next");
    let period: Vec<u32> = (0..100).map(|i| 10 + i % 8).collect();
    let setup = Setup { max_sequences: 5, max_prefixes: 1, max_snapshots: 2, ..Setup::default() };
    let mut r = runner(&model, setup);
    r.submit(sampled(period.clone(), 35, 0)).unwrap();
    drain_and_keep(&mut r);
    let guess = crate::Speculation { tokens: 6, lookup: true, ..Default::default() };
    let mut asked: Vec<Request> = (0..4).map(|i| sampled(period[..65].to_vec(), 20, i)).collect();
    asked.iter_mut().for_each(|q| q.speculation = Some(guess));
    asked.push(sampled(prompt(100, 3), 20, 9));
    let ids: Vec<_> = asked.iter().map(|q| r.submit(q.clone()).unwrap()).collect();
    let got = drain(&mut r);
    for (request, id) in asked.into_iter().zip(ids) {
        let alone = drain_alone(&model, Setup { max_prefixes: 0, ..setup }, Request { speculation: None, ..request });
        assert_eq!(bits(got[&id].as_ref().unwrap()), bits(&alone));
    }
}

/// The last page of a long answer is where its next turn begins, however few snapshots there are.
#[test]
fn a_long_answer_keeps_its_last_page() {
    let model = random("qwen3_next");
    for max_snapshots in [1, 2, 3] {
        let mut r = runner(&model, Setup { max_prefixes: 1, max_snapshots, ..Setup::default() });
        let id = r.submit(sampled(prompt(100, 0), 200, 0)).unwrap();
        let c = drain_and_keep(&mut r).remove(&id).unwrap().unwrap();
        let id = r.submit(sampled([prompt(100, 0), c.tokens].concat(), 2, 0)).unwrap();
        assert_eq!(drain(&mut r)[&id].as_ref().unwrap().usage.cached_tokens, 256, "{max_snapshots}");
    }
}

/// A prompt beside somebody who decodes comes in small parts, and changes nothing.
#[test]
fn long_prompts_do_not_stall_those_who_decode() {
    let model = random("llama");
    for step_time in [None, Some(std::time::Duration::ZERO)] {
        let setup = Setup { step_time, ..Setup::default() };
        let (short, long) = (sampled(prompt(5, 0), 100, 0), sampled(prompt(300, 1), 5, 1));
        let mut r = runner(&model, setup);
        r.submit(short.clone()).unwrap();
        r.step(&mut |_, _| {});
        let id = r.submit(long.clone()).unwrap();
        let (mut parts, mut tokens) = (0, BTreeMap::<RequestId, Vec<u32>>::new());
        while r.step(&mut |of, e| match e {
            Event::Prefill { .. } if of == id => parts += 1,
            Event::Token { id, .. } => tokens.entry(of).or_default().push(id),
            _ => {}
        }) {}
        // As few as a step may have: none fit in no time.
        assert_eq!(parts, if step_time.is_some() { 300usize.div_ceil(PROMPT_ROWS_MIN) - 1 } else { 0 });
        assert_eq!(tokens[&id], drain_alone(&model, Setup::default(), long).tokens);
    }
}

/// Nobody's beginning is found by another tenant.
#[test]
fn prefixes_are_shared_within_a_tenant() {
    let model = random("llama");
    let mut r = runner(&model, Setup::default());
    let mut ask = |tenant: u64| {
        let id = r.submit(Request { tenant, ..sampled(prompt(100, 0), 2, 0) }).unwrap();
        drain_and_keep(&mut r)[&id].as_ref().unwrap().usage.cached_tokens
    };
    assert_eq!([ask(1), ask(2), ask(1), ask(2), ask(0)], [0, 0, 64, 64, 0]);
}
