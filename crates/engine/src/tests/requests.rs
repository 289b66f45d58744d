//! What a request may ask and how it ends.
use super::*;
use crate::{ErrorKind, FinishReason, Sampling};
use std::ops::ControlFlow::{Break, Continue};

fn greedy(prompt: Vec<u32>, n: usize) -> Request {
    Request { prompt, max_tokens: Some(n), ignore_eos: true, ..Default::default() }
}

fn run(r: Request) -> Completion {
    runner(&random("llama"), Setup::default()).generate(r, &mut |_| Continue(())).unwrap()
}

#[test]
fn a_stop_string_across_tokens_ends_the_text_before_it() {
    let whole = run(greedy(prompt(5, 0), 24));
    assert_eq!(whole.text, whole.tokens.iter().map(|t| letter(*t)).collect::<String>());
    assert_eq!(whole.finish_reason, FinishReason::Length);
    let at = whole.text.len() / 2;
    let stop = &whole.text[at..at + 4];
    let cut = run(Request { stop: vec!["never".into(), stop.into()], ..greedy(prompt(5, 0), 24) });
    assert_eq!(cut.text, whole.text.split(stop).next().unwrap());
    assert_eq!(cut.finish_reason, FinishReason::StopString(1));
    assert!(cut.tokens.len() < 24 && whole.tokens.starts_with(&cut.tokens));
    assert_eq!(cut.usage.completion_tokens, cut.tokens.len());
    // A stop string that never comes holds nothing back at the end.
    let last = &whole.text[whole.text.len() - 3..];
    let held = run(Request { stop: vec![format!("{last}!")], ..greedy(prompt(5, 0), 24) });
    assert_eq!((held.text, held.finish_reason), (whole.text, FinishReason::Length));
}

#[test]
fn ends_and_limits() {
    let whole = run(greedy(prompt(5, 0), 24));
    let third = whole.tokens[2];
    let first = whole.tokens.iter().position(|t| *t == third).unwrap();
    let ended = run(Request { stop_tokens: vec![third], ..greedy(prompt(5, 0), 24) });
    assert_eq!((ended.tokens.len(), ended.finish_reason), (first + 1, FinishReason::Stop));
    assert_eq!(ended.text, whole.tokens[..first].iter().map(|t| letter(*t)).collect::<String>(), "it has no text");
    // The vocabulary's own end counts unless it is ignored.
    let bias = Sampling { logit_bias: vec![(95, 1e4)], ..Default::default() };
    let biased = Request { sampling: bias, ..greedy(prompt(5, 0), 4) };
    assert_eq!(run(biased.clone()).tokens, [95; 4]);
    let ended = run(Request { ignore_eos: false, ..biased });
    assert_eq!((ended.tokens, ended.text.as_str(), ended.finish_reason), (vec![95], "", FinishReason::Stop));
}

#[test]
fn the_context_is_never_cut_silently() {
    let mut r = runner(&random("llama"), Setup { ctx: 80, kv_tokens: 80, ..Setup::default() });
    for (n, over) in [(80, 1), (100, 21)] {
        let e = r.submit(greedy(prompt(n, 0), 1)).unwrap_err();
        assert_eq!(*e.kind(), ErrorKind::Context { tokens: n + 1, limit: 80 });
        assert!(e.to_string().contains(&format!("{over} tokens do not fit")), "{e}");
    }
    let c = r.generate(Request { max_tokens: None, ..greedy(prompt(70, 0), 1) }, &mut |_| Continue(())).unwrap();
    assert_eq!((c.tokens.len(), c.finish_reason), (10, FinishReason::Length));
    let c = r.generate(greedy(prompt(79, 0), 50), &mut |_| Continue(())).unwrap();
    assert_eq!((c.tokens.len(), c.finish_reason), (1, FinishReason::Length));
}

#[test]
fn a_table_of_positions_ends_the_context() {
    let model = random("gpt2");
    assert_eq!((model.positions_end(), model.max_positions()), (Some(512), 512));
    let mut r = runner(&model, Setup { ctx: 512, ..Setup::default() });
    let c = r.generate(greedy(prompt(505, 0), 50), &mut |_| Continue(())).unwrap();
    assert_eq!((c.tokens.len(), c.finish_reason), (7, FinishReason::Length));
    assert_eq!(random("llama").positions_end(), None);
}

#[test]
fn bad_values_are_refused_by_name() {
    let mut r = runner(&random("llama"), Setup::default());
    let base = greedy(prompt(5, 0), 4);
    let with = |f: &dyn Fn(&mut Request)| {
        let mut r = base.clone();
        f(&mut r);
        r
    };
    let cases: Vec<(&str, Request)> = vec![
        ("empty", with(&|r| r.prompt.clear())),
        ("token 96", with(&|r| r.prompt.push(96))),
        ("max_tokens", with(&|r| r.max_tokens = Some(0))),
        ("temperature", with(&|r| r.sampling.temperature = -1.0)),
        ("temperature", with(&|r| r.sampling.temperature = f32::NAN)),
        ("top_p", with(&|r| r.sampling.top_p = 1.5)),
        ("min_p", with(&|r| r.sampling.min_p = -0.1)),
        ("typical_p", with(&|r| r.sampling.typical_p = 2.0)),
        ("repetition_penalty", with(&|r| r.sampling.repetition_penalty = 0.0)),
        ("frequency_penalty", with(&|r| r.sampling.frequency_penalty = f32::INFINITY)),
        ("logit_bias", with(&|r| r.sampling.logit_bias = vec![(96, 1.0)])),
        ("logit_bias", with(&|r| r.sampling.logit_bias = vec![(0, f32::NAN)])),
        ("stop", with(&|r| r.stop = vec![String::new()])),
        ("stop", with(&|r| r.stop = vec!["x".into(); 65])),
        ("logprobs", with(&|r| r.logprobs = Some(1000))),
    ];
    for (word, request) in cases {
        let e = r.submit(request).unwrap_err();
        assert_eq!(*e.kind(), ErrorKind::Invalid, "{e}");
        assert!(e.to_string().contains(word), "{word}: {e}");
    }
    assert!(r.is_idle());
    for _ in 0..100 {
        r.submit(base.clone()).unwrap();
    }
    assert_eq!(*r.submit(base.clone()).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(drain(&mut r).len(), 100);
}

#[test]
fn a_cancelled_request_ends_once_and_frees_its_pages() {
    let mut r = runner(&random("llama"), Setup { max_sequences: 2, chunk: 16, ..Setup::default() });
    let ids: Vec<RequestId> = (0..4).map(|i| r.submit(greedy(prompt(100, i), 30)).unwrap()).collect();
    for _ in 0..2 {
        r.step(&mut |_, _| {});
    }
    r.cancel(ids[0]); // while it prefills
    r.cancel(ids[3]); // while it waits
    let outcomes = drain(&mut r);
    let reasons: Vec<FinishReason> = outcomes.values().map(|c| c.as_ref().unwrap().finish_reason).collect();
    use FinishReason::{Cancelled, Length};
    assert_eq!(reasons, [Cancelled, Length, Length, Cancelled]);
    r.cancel(ids[1]); // long gone
    assert!(!r.step(&mut |_, _| {}));
    // A caller that breaks off gets what there is.
    let mut seen = 0;
    let c = r.generate(greedy(prompt(5, 0), 30), &mut |e| {
        seen += usize::from(matches!(e, Event::Token { .. }));
        if seen == 3 { Break(()) } else { Continue(()) }
    });
    let c = c.unwrap();
    assert_eq!((c.tokens.len(), c.finish_reason), (3, Cancelled));
}

#[test]
fn long_prompts_do_not_stall_those_who_decode() {
    let mut r = runner(&random("llama"), Setup { chunk: 8, max_rows: 9, ..Setup::default() });
    let quick = r.submit(greedy(prompt(3, 0), 60)).unwrap();
    r.step(&mut |_, _| {});
    r.submit(greedy(prompt(200, 1), 2)).unwrap();
    for _ in 0..20 {
        let mut tokens = 0;
        r.step(&mut |id, e| tokens += usize::from(id == quick && matches!(e, Event::Token { .. })));
        assert_eq!(tokens, 1, "every step gives the decoding request its token");
    }
}

#[test]
fn times_and_counts_are_told() {
    let mut r = runner(&random("llama"), Setup::default());
    let c = r.generate(greedy(prompt(50, 0), 10), &mut |_| Continue(())).unwrap();
    assert_eq!((c.usage.prompt_tokens, c.usage.completion_tokens), (50, 10));
    let t = c.timings;
    assert!(t.prefill_s > 0.0 && t.decode_s > 0.0 && t.queue_s >= 0.0);
    assert!((t.prefill_tps - 50.0 / t.prefill_s).abs() < 1e-6 * t.prefill_tps);
    assert!((t.decode_tps - 9.0 / t.decode_s).abs() < 1e-6 * t.decode_tps);
}
