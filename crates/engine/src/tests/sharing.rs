//! Beginnings that running requests share, turns of tenants, and requests whose time is over.
use super::*;
use crate::{ErrorKind, FinishReason};
use std::{
    cell::Cell,
    ops::ControlFlow::Continue,
    time::{Duration, Instant},
};

fn asked(start: usize, seed: usize, n: usize) -> Request {
    sampled([prompt(start, 0), prompt(9, seed + 1)].concat(), n, seed as u64)
}

fn alone(model: &Rc<Model>, setup: Setup, request: Request) -> Completion {
    runner(model, Setup { max_prefixes: 0, ..setup }).generate(request, &mut |_| Continue(())).unwrap()
}

#[test]
fn a_beginning_is_shared_while_the_first_still_runs() {
    for (name, _) in MODELS.iter().filter(|(n, _)| *n != "dynamic") {
        let model = random(name);
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            let setup = Setup { kv, chunk: 50, max_prefixes: 0, ..Setup::default() };
            let mut r = runner(&model, setup);
            let first = r.submit(asked(200, 0, 30)).unwrap();
            while r.scheduler.running.first().is_none_or(|s| s.generated() == 0) {
                r.step(&mut |_, _| {});
            }
            let others: Vec<_> = (1..5).map(|i| r.submit(asked(200, i, 10)).unwrap()).collect();
            let got = drain(&mut r);
            assert!(got.contains_key(&first));
            let states = !model.states().is_empty();
            for (i, id) in others.into_iter().enumerate() {
                let c = got[&id].as_ref().unwrap();
                assert_eq!(bits(c), bits(&alone(&model, setup, asked(200, i + 1, 10))), "{name} {kv:?} {i}");
                // All that is alike, the last page's part too. States have no snapshot where the first two part (its own is
                // at its prompt's end, 192), but all begin there.
                let want = if states { 192 } else { 200 };
                assert!(c.usage.cached_tokens >= want, "{name} {kv:?} {i}: {}", c.usage.cached_tokens);
            }
        }
    }
}

/// Many at once of whose beginning nothing is there: the first computes it, the others wait for that and not longer.
#[test]
fn what_is_about_to_be_computed_is_waited_for() {
    for name in ["llama", "deepseek_v3", "qwen3_next", "mamba2"] {
        let model = random(name);
        let setup = Setup { chunk: 40, max_rows: 90, ..Setup::default() };
        let mut r = runner(&model, setup);
        // Where they part is far before the first one's end: states are kept there because the others wait for it.
        let long = |seed: usize| sampled([prompt(140, 0), prompt(150, seed + 1)].concat(), 6, seed as u64);
        let ids: Vec<_> = (0..6).map(|i| r.submit(long(i)).unwrap()).collect();
        let got = drain(&mut r);
        let least = if model.states().is_empty() { 140 } else { 128 };
        for (i, id) in ids.into_iter().enumerate() {
            let c = got[&id].as_ref().unwrap();
            assert_eq!(bits(c), bits(&alone(&model, setup, long(i))), "{name} {i}");
            let cached = c.usage.cached_tokens;
            assert!(if i == 0 { cached == 0 } else { cached >= least }, "{name} {i}: {cached}");
        }
    }
}

#[test]
fn who_waits_goes_on_when_the_first_is_cancelled() {
    let model = random("llama");
    let setup = Setup { chunk: 40, max_prefixes: 0, ..Setup::default() };
    let mut r = runner(&model, setup);
    let ids: Vec<_> = (0..3).map(|i| r.submit(asked(300, i, 8)).unwrap()).collect();
    for _ in 0..3 {
        r.step(&mut |_, _| {});
    }
    assert_eq!((r.scheduler.running.len(), r.scheduler.waiting.len()), (1, 2));
    r.cancel(ids[0]);
    let got = drain(&mut r);
    assert_eq!(got[&ids[0]].as_ref().unwrap().finish_reason, FinishReason::Cancelled);
    for i in 1..3 {
        assert_eq!(bits(got[&ids[i]].as_ref().unwrap()), bits(&alone(&model, setup, asked(300, i, 8))));
    }
    assert!(got[&ids[2]].as_ref().unwrap().usage.cached_tokens >= 300);
}

/// Nobody waits for, or finds, what another tenant computes.
#[test]
fn running_requests_share_within_a_tenant() {
    let mut r = runner(&random("llama"), Setup { chunk: 40, ..Setup::default() });
    let ids: Vec<_> = (0..3).map(|i| r.submit(Request { tenant: i, ..asked(300, 0, 8) }).unwrap()).collect();
    r.step(&mut |_, _| {});
    assert_eq!(r.scheduler.running.len(), 3);
    let got = drain(&mut r);
    assert!(ids.iter().all(|id| got[id].as_ref().unwrap().usage.cached_tokens == 0));
}

#[test]
fn a_tenant_with_many_requests_does_not_keep_out_another() {
    let mut r = runner(&random("llama"), Setup { max_sequences: 1, ..Setup::default() });
    let ask = |r: &mut Runner, tenant, i| r.submit(Request { tenant, ..sampled(prompt(5, i), 2, 0) }).unwrap();
    let many: Vec<_> = (0..50).map(|i| ask(&mut r, 1, i)).collect();
    r.step(&mut |_, _| {});
    let few: Vec<_> = (0..2).map(|i| ask(&mut r, 2, i)).collect();
    let mut order = Vec::new();
    while r.step(&mut |id, e| order.extend(matches!(e, Event::Finished { .. }).then_some(id))) {}
    let at = |id| order.iter().position(|o| *o == id).unwrap();
    // The one that runs, one of the others, then the newcomer's; and so on.
    assert_eq!((at(many[0]), at(many[1]), at(few[0]), at(many[2]), at(few[1])), (0, 1, 2, 3, 4));
}

#[test]
fn a_request_whose_time_is_over_fails_at_the_next_step_and_frees_what_it_held() {
    let mut r = runner(&random("llama"), Setup { max_sequences: 2, max_prefixes: 0, ..Setup::default() });
    let (start, passed) = (Instant::now(), Rc::new(Cell::new(Duration::ZERO)));
    let told = passed.clone();
    r.scheduler.clock = Box::new(move || start + told.get());
    let ask = |s: u64, i| Request { deadline: Some(start + Duration::from_secs(s)), ..sampled(prompt(70, i), 300, 0) };
    let ids: Vec<_> = [(5, 0), (50, 1), (7, 2)].into_iter().map(|(s, i)| r.submit(ask(s, i)).unwrap()).collect();
    r.step(&mut |_, _| {});
    let held = r.scheduler.pages.free();
    passed.set(Duration::from_secs(5));
    let mut late = Vec::new();
    r.step(&mut |id, e| late.extend(matches!(e, Event::Failed(e) if *e.kind() == ErrorKind::Late).then_some(id)));
    assert_eq!(late, [ids[0]]);
    assert_eq!(r.scheduler.pages.free(), held, "the one that waited has its pages");
    passed.set(Duration::from_secs(8));
    let got = drain(&mut r);
    assert_eq!(*got[&ids[2]].as_ref().unwrap_err().kind(), ErrorKind::Late);
    assert_eq!(got[&ids[1]].as_ref().unwrap().finish_reason, FinishReason::Length);
}

/// 2,000 tokens that sixteen share, fifteen of whom come once the first has its first token: they compute their own ends
/// alone. `--nocapture` shows their times to a first token beside the first one's.
#[test]
fn sixteen_share_two_thousand_tokens() {
    let text = r#"{"model_type": "llama", "vocab_size": 96, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 4096}"#;
    let source = Source::Random { format: Format::F32, seed: 7 };
    let model = Rc::new(Model::load(&Config::from_json(text.as_bytes()).unwrap(), &source).unwrap());
    let setup = Setup { ctx: 2100, kv_tokens: 8192, kv: KvType::F16, ..Setup::default() };
    let mut r = runner(&model, Setup { step_time: Some(Duration::from_millis(150)), ..setup });
    let ask = |seed: usize| sampled([prompt(2000, 0), prompt(10, seed + 1)].concat(), 16, seed as u64);
    let first = r.submit(ask(0)).unwrap();
    while r.scheduler.running.first().is_none_or(|s| s.generated() == 0) {
        r.step(&mut |_, _| {});
    }
    let others: Vec<_> = (1..16).map(|i| r.submit(ask(i)).unwrap()).collect();
    let got = drain(&mut r);
    let ttft = |id| got[id].as_ref().map(|c| c.timings.queue_s + c.timings.prefill_s).unwrap();
    let shares: Vec<f64> = others.iter().map(|id| ttft(id) / ttft(&first)).collect();
    println!("first {:.3} s, others of it {shares:.3?}", ttft(&first));
    assert!(others.iter().all(|id| got[id].as_ref().unwrap().usage.cached_tokens >= 2000));
    let c = got[&others[14]].as_ref().unwrap();
    assert_eq!(bits(c), bits(&alone(&model, setup, ask(15))));
}
