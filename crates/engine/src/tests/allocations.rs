//! A decode step allocates nothing after warm-up, whatever its sampling.
use super::*;
use crate::{Engine, EngineOptions, Sampling};
use std::{path::Path, time::Duration};

fn requests() -> Vec<Request> {
    let base = Request { prompt: prompt(5, 0), max_tokens: Some(100), ignore_eos: true, ..Default::default() };
    let warm = Sampling { temperature: 0.8, top_p: 0.9, min_p: 0.01, typical_p: 0.95, ..Default::default() };
    let penal = Sampling { repetition_penalty: 1.1, frequency_penalty: 0.1, top_k: 40, ..warm.clone() };
    vec![
        base.clone(),
        Request { sampling: warm, stop: vec!["never comes".into()], ..base.clone() },
        Request { sampling: penal, logprobs: Some(5), ..base },
    ]
}

#[test]
fn a_decode_step_allocates_nothing_after_warm_up() {
    for (name, _) in MODELS.iter().filter(|(n, _)| *n != "dynamic") {
        let mut r = runner(&random(name), Setup::default());
        for request in requests() {
            r.submit(request).unwrap();
        }
        // Warm up past a page's border, so that the second page of each sequence is there.
        for _ in 0..70 {
            assert!(r.step(&mut |_, _| {}));
        }
        let mut tokens = 0;
        let seen = allocation_counter::measure(|| {
            for _ in 0..20 {
                r.step(&mut |_, e| tokens += usize::from(matches!(e, Event::Token { .. })));
            }
        });
        assert_eq!(tokens, 60);
        assert_eq!(seen.count_total, 0, "{name}: {} allocations in 20 steps", seen.count_total);
        assert_eq!(drain(&mut r).len(), 3);
    }
}

/// Guessing too, once every width of a step has come: by lookup, and by a draft model.
#[test]
fn a_step_of_guesses_allocates_nothing_after_warm_up() {
    for model in [false, true] {
        let mut r = runner(&random("llama"), Setup::default());
        r.set_draft(super::speculation::parts(&random("llama")));
        let s = crate::Speculation { tokens: 4, lookup: !model, model };
        for request in requests() {
            let prompt = prompt(5, 0).repeat(3);
            r.submit(Request { prompt, max_tokens: Some(400), speculation: Some(s), ..request }).unwrap();
        }
        // Behind a page's border, with room for what is measured before the next.
        for _ in 0..64 {
            assert!(r.step(&mut |_, _| {}));
        }
        let mut tokens = 0;
        let seen = allocation_counter::measure(|| {
            for _ in 0..8 {
                r.step(&mut |_, e| tokens += usize::from(matches!(e, Event::Token { .. })));
            }
        });
        assert!(tokens > 24, "{tokens}");
        assert_eq!(seen.count_total, 0, "model {model}: {} allocations in 8 steps", seen.count_total);
    }
}

/// Text included, once the weights lie where they stay.
#[test]
fn the_model_in_the_box_allocates_nothing_per_token() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/pebble/pebble.gguf");
    let options = EngineOptions { threads: 1, max_prefixes: 0, ..EngineOptions::default() };
    let mut engine = Engine::open(&crate::Source::Path(&path), &options, &mut |_| {}).unwrap();
    engine
        .submit(Request { prompt: vec![5, 6, 7], max_tokens: Some(120), ignore_eos: true, ..Default::default() })
        .unwrap();
    for _ in 0..70 {
        assert!(engine.step(&mut |_, _| {}));
    }
    while engine.settle(Duration::from_millis(100)).left_bytes > 0 {}
    let mut bytes = 0;
    let seen = allocation_counter::measure(|| {
        for _ in 0..40 {
            engine.step(&mut |_, e| {
                if let Event::Token { text, .. } = e {
                    bytes += text.len();
                }
            });
        }
    });
    assert!(bytes > 40, "{bytes} bytes of text");
    assert_eq!(seen.count_total, 0, "{} allocations in 40 steps", seen.count_total);
}
