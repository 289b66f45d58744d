//! Completions that must follow a grammar.
use super::*;
use crate::{Engine, EngineOptions, FinishReason, Sampling, Speculation};
use pondera_text::{Compiler, Grammar};
use serde_json::{Value, json};
use std::{ops::ControlFlow, path::Path, sync::Arc};

fn pebble() -> Engine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/pebble/pebble.gguf");
    let options = EngineOptions { threads: 1, ..EngineOptions::default() };
    Engine::open(&crate::Source::Path(&path), &options, &mut |_| {}).unwrap()
}

fn ask(engine: &mut Engine, grammar: Option<&Arc<Grammar>>, more: Request) -> Completion {
    let prompt = engine.tokenizer().unwrap().unwrap().encode("Tell me about a fox: ", &Default::default()).unwrap();
    let request = Request { prompt, grammar: grammar.cloned(), ..more };
    engine.generate(request, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn every_completion_is_of_its_schema() {
    let mut engine = pebble();
    let compiler = Compiler::new(engine.tokenizer().unwrap().unwrap(), engine.model().vocab_size()).unwrap();
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["name", "age", "friends"], "properties": {
        "name": { "enum": ["Rex", "Foxy", "Ünal \"the\" fox"] },
        "age": { "type": "integer", "minimum": 1, "maximum": 30 },
        "friends": { "type": "array", "items": { "type": "string", "maxLength": 8 }, "minItems": 2, "maxItems": 3 },
    }});
    let grammar = Arc::new(compiler.json_schema(&schema).unwrap());
    for seed in 0..12 {
        let sampling = Sampling { temperature: seed as f32 * 0.2, seed, ..Sampling::default() };
        let base = Request { sampling, max_tokens: Some(300), logprobs: Some(0), ..Request::default() };
        let c = ask(&mut engine, Some(&grammar), base.clone());
        assert_eq!(c.finish_reason, FinishReason::Stop, "{}", c.text);
        let v: Value = serde_json::from_str(&c.text).unwrap_or_else(|e| panic!("{e}: {}", c.text));
        assert!(["Rex", "Foxy", "Ünal \"the\" fox"].contains(&v["name"].as_str().unwrap()), "{v}");
        assert!((1..=30).contains(&v["age"].as_i64().unwrap()), "{v}");
        let friends = v["friends"].as_array().unwrap();
        assert!(
            (2..=3).contains(&friends.len()) && friends.iter().all(|f| f.as_str().unwrap().chars().count() <= 8),
            "{v}"
        );
        // Guesses change nothing, and neither does an end that nobody asks for.
        let guess = Speculation { tokens: 5, lookup: true, ..Default::default() };
        let guessed = ask(&mut engine, Some(&grammar), Request { speculation: Some(guess), ignore_eos: true, ..base });
        assert_eq!(bits(&guessed), bits(&c));
    }
}

/// Grammars whose steps are dear hold up their own requests alone, and change nothing.
#[test]
fn dear_grammars_hold_up_themselves_alone() {
    let mut engine = pebble();
    let compiler = Compiler::new(engine.tokenizer().unwrap().unwrap(), engine.model().vocab_size()).unwrap();
    let digits = Arc::new(compiler.regex("([0-9]{3} ){6}").unwrap());
    let base = |seed| Request {
        prompt: vec![5, 6, 7],
        max_tokens: Some(15),
        logprobs: Some(0),
        sampling: Sampling { temperature: 0.8, seed, ..Sampling::default() },
        ..Request::default()
    };
    let bound = |seed, tokens| Request {
        grammar: Some(digits.clone()),
        max_tokens: Some(60),
        speculation: (tokens > 0).then_some(Speculation { tokens, lookup: true, ..Default::default() }),
        ..base(seed)
    };
    let mut alone = |r: Request| bits(&engine.generate(r, &mut |_| ControlFlow::Continue(())).unwrap());
    let want: Vec<_> = [base(0), bound(1, 0), bound(2, 4), base(3)].map(&mut alone).into();
    crate::guided::DELAY_US.store(30_000, std::sync::atomic::Ordering::Relaxed);
    let ids: Vec<RequestId> = [base(0), bound(1, 0), bound(2, 4), base(3)].map(|r| engine.submit(r).unwrap()).into();
    let mut got: BTreeMap<RequestId, Vec<(u32, u64)>> = BTreeMap::new();
    let mut order = Vec::new();
    while engine.step(&mut |id, e| match e {
        Event::Token { id: token, logprob, .. } => {
            got.entry(id).or_default().push((token, logprob.unwrap().to_bits()));
        }
        Event::Finished { .. } => order.push(id),
        Event::Failed(e) => panic!("{e}"),
        Event::Prefill { .. } => {}
    }) {}
    crate::guided::DELAY_US.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(ids.iter().map(|id| got[id].clone()).collect::<Vec<_>>(), want);
    // Those that wait for nothing have long ended.
    assert!(order[..2].iter().all(|id| [ids[0], ids[3]].contains(id)), "{order:?}");
}

#[test]
fn a_grammar_binds_its_own_request_alone() {
    let mut engine = pebble();
    let compiler = Compiler::new(engine.tokenizer().unwrap().unwrap(), engine.model().vocab_size()).unwrap();
    let base = Request { max_tokens: Some(20), ..Request::default() };
    let free = ask(&mut engine, None, base.clone());
    let digits = Arc::new(compiler.regex("[0-9]{4}-[0-9]{2}").unwrap());
    let bound = ask(&mut engine, Some(&digits), base.clone());
    assert!(bound.text.len() == 7 && bound.text.as_bytes()[4] == b'-', "{:?}", bound.text);
    assert_eq!(ask(&mut engine, None, base.clone()).text, free.text);
    // What it allows and the bias forbids cannot be chosen: an error of that request.
    let all = (0..engine.model().vocab_size() as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    let sampling = Sampling { logit_bias: all, ..Sampling::default() };
    let request = Request { prompt: vec![5], grammar: Some(digits), sampling, ..base.clone() };
    assert!(engine.generate(request, &mut |_| ControlFlow::Continue(())).is_err());
    assert_eq!(ask(&mut engine, None, base).text, free.text);
}

#[test]
fn dear_and_broken_grammars_are_refused() {
    let engine = pebble();
    let compiler = Compiler::new(engine.tokenizer().unwrap().unwrap(), engine.model().vocab_size()).unwrap();
    let start = std::time::Instant::now();
    for schema in
        [json!({ "type": "nothing" }), json!({ "type": "string", "pattern": "(" }), json!({ "$ref": "#/nowhere" })]
    {
        assert!(compiler.json_schema(&schema).is_err(), "{schema}");
    }
    assert!(compiler.json_schema(&json!({ "description": "x".repeat(2 << 20) })).is_err());
    // What is only dear is bounded in every step.
    let dear = json!({ "type": "string", "pattern": "((a{1,500}){1,500}){1,500}" });
    if let Ok(grammar) = compiler.json_schema(&dear) {
        let _ = grammar.begin().allowed();
    }
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
