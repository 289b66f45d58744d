//! Guessing ahead changes nothing but the number of steps: whoever guesses, however wrongly, alone or in company.
use super::*;
use crate::{ErrorKind, FinishReason, Guesses, Sampling, Speculation, draft::DraftParts};
use std::ops::ControlFlow::Continue;

/// Who guesses.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Lookup,
    /// The model itself.
    Twin,
    /// A model of the same shape with other weights.
    Stranger,
    LookupAndStranger,
}

const ALL: [Who; 4] = [Who::Lookup, Who::Twin, Who::Stranger, Who::LookupAndStranger];

fn stranger(name: &str) -> Rc<Model> {
    // States cannot go back, so no model that has some drafts.
    let name = if random(name).states().is_empty() { name } else { "llama" };
    Rc::new(Model::load(&config(name), &Source::Random { format: Format::F32, seed: 8 }).unwrap())
}

pub fn parts(model: &Rc<Model>) -> DraftParts {
    let (ops, _) = backend::open(1, None).unwrap();
    let positions_end = model.positions_end();
    DraftParts { net: Box::new(Shared(model.clone())), ops, trust: Box::new(|| Ok(())), positions_end }
}

/// A runner and what its requests are to ask for.
fn guessing(model: &Rc<Model>, name: &str, setup: Setup, who: Who, tokens: usize) -> (Runner, Speculation) {
    let mut r = runner(model, setup);
    match who {
        Who::Lookup => {}
        Who::Twin => r.set_draft(parts(model)),
        Who::Stranger | Who::LookupAndStranger => r.set_draft(parts(&stranger(name))),
    }
    let lookup = matches!(who, Who::Lookup | Who::LookupAndStranger);
    (r, Speculation { tokens, lookup, model: who != Who::Lookup })
}

/// Greedy and sampled, penalties and bias, stop strings and stop tokens, lengths at the borders of pages.
fn requests() -> Vec<Request> {
    let plain = |p, n, seed| sampled(prompt(p, seed as usize), n, seed);
    let repeat = [prompt(9, 1), prompt(9, 1), prompt(9, 1)].concat();
    let greedy = Sampling::default();
    let penal =
        Sampling { repetition_penalty: 1.2, frequency_penalty: 0.3, presence_penalty: 0.1, ..plain(1, 1, 3).sampling };
    let bias = Sampling { logit_bias: vec![(7, 4.0), (11, f32::NEG_INFINITY)], temperature: 0.4, ..greedy.clone() };
    vec![
        Request { sampling: greedy.clone(), ..plain(20, 60, 0) },
        Request { sampling: greedy, prompt: repeat.clone(), ..plain(1, 50, 0) },
        plain(63, 40, 1),
        plain(64, 3, 2),
        Request { prompt: repeat.clone(), ..plain(1, 70, 3) },
        Request { sampling: penal, prompt: repeat, ..plain(1, 60, 4) },
        Request { sampling: bias, ..plain(5, 40, 5) },
        Request { stop: vec!["ab".into(), "xyz".into(), "qq".into()], ignore_eos: false, ..plain(12, 60, 6) },
        Request { stop: vec!["never, never".into()], stop_tokens: vec![40, 41], ..plain(30, 60, 7) },
        plain(7, 1, 8),
        plain(126, 2, 9),
    ]
}

/// All of a completion that is promised; what is in the cache is a matter of company.
type Told = (String, Vec<(u32, u64)>, Vec<(u32, u64)>, FinishReason, crate::Usage);

fn told(c: &Completion) -> Told {
    let top = c.logprobs.iter().flat_map(|(_, top)| top).map(|l| (l.id, l.logprob.to_bits())).collect();
    (c.text.clone(), bits(c), top, c.finish_reason, crate::Usage { cached_tokens: 0, ..c.usage })
}

fn alone(model: &Rc<Model>, setup: Setup) -> Vec<Told> {
    let one = |r| told(&runner(model, setup).generate(r, &mut |_| Continue(())).unwrap());
    requests().into_iter().map(one).collect()
}

fn together(r: &mut Runner, speculation: Speculation) -> (Vec<Told>, Guesses) {
    for request in requests() {
        r.submit(Request { speculation: Some(speculation), ..request }).unwrap();
    }
    let outcomes: Vec<Completion> = drain(r).into_values().map(|c| c.unwrap()).collect();
    let sum = |f: fn(&Guesses) -> usize| outcomes.iter().map(|c| f(&c.guesses)).sum();
    let all = Guesses { drafted: sum(|g| g.drafted), accepted: sum(|g| g.accepted), steps: sum(|g| g.steps) };
    for c in &outcomes {
        // A step gives a token of its own and those that were foreseen; the last may be a foreseen one.
        let g = c.guesses;
        let own = c.tokens.len() - 1 - g.accepted;
        assert!(own <= g.steps && g.steps <= own + 1, "{g:?} for {} tokens", c.tokens.len());
    }
    (outcomes.iter().map(told).collect(), all)
}

#[test]
fn nothing_that_is_promised_depends_on_guesses() {
    for (name, _) in MODELS {
        let model = random(name);
        for kv in [KvType::F32, KvType::F16, KvType::Q8] {
            let base = Setup { kv, ..Setup::default() };
            let want = alone(&model, base);
            for who in ALL.into_iter().filter(|w| model.states().is_empty() || *w != Who::Twin) {
                let (mut r, s) = guessing(&model, name, base, who, 6);
                let (got, g) = together(&mut r, s);
                assert!(got == want, "{name} {kv:?} {who:?}");
                assert!(g.accepted <= g.drafted && g.drafted > 0, "{name} {who:?} {g:?}");
                match who {
                    Who::Twin => assert_eq!(g.accepted, g.drafted, "{name} {kv:?}: a twin is always right"),
                    Who::Stranger => assert!(g.acceptance() < 0.5, "{name} {g:?}"),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn company_few_pages_and_small_steps_change_nothing() {
    for name in ["llama", "mistral", "dynamic", "mixtral", "deepseek_v3", "mamba2", "qwen3_next"] {
        let model = random(name);
        let want = alone(&model, Setup::default());
        for who in ALL.into_iter().filter(|w| model.states().is_empty() || *w != Who::Twin) {
            // Few rows, so that guesses are cut; then few pages, so that sequences give way to one another.
            let rows = Setup { chunk: 7, max_rows: 9, max_sequences: 4, ..Setup::default() };
            let pages = Setup { ctx: 160, kv_tokens: 192, chunk: 33, ..Setup::default() };
            for (setup, preempts) in [(rows, false), (pages, true)] {
                let (mut r, s) = guessing(&model, name, setup, who, 5);
                let (got, _) = together(&mut r, s);
                assert!(got == want, "{name} {who:?} {setup:?}");
                assert_eq!(r.scheduler.preemptions > 0, preempts, "{name} {who:?}");
            }
        }
    }
}

/// Those who guess beside those who do not, and a step never has more rows than it may.
#[test]
fn guesses_take_only_the_rows_that_are_left() {
    struct Counting(Shared, Rc<std::cell::Cell<usize>>);
    impl Net for Counting {
        fn forward(&self, ops: &dyn Ops, batch: &Batch) -> Act {
            self.1.set(self.1.get().max(batch.len()));
            self.0.forward(ops, batch)
        }
        fn hidden(&self, ops: &dyn Ops, batch: &Batch) -> Act {
            self.0.hidden(ops, batch)
        }
        fn caches(&self) -> &[CacheSpec] {
            self.0.caches()
        }
        fn states(&self) -> &[pondera_ops::StateSpec] {
            self.0.states()
        }
        fn rope_epoch(&self, length: u32) -> u32 {
            self.0.rope_epoch(length)
        }
        fn copy_page(&self, ops: &dyn Ops, from: u32, to: u32) {
            self.0.copy_page(ops, from, to);
        }
        fn vocab_size(&self) -> usize {
            self.0.vocab_size()
        }
    }
    let (model, most) = (random("llama"), Rc::new(std::cell::Cell::new(0)));
    let setup = Setup { max_rows: 12, chunk: 8, ..Setup::default() };
    let want = alone(&model, setup);
    let mut r = runner_of(Box::new(Counting(Shared(model.clone()), most.clone())), setup, Box::new(|| Ok(())));
    r.set_draft(parts(&model));
    for (i, request) in requests().into_iter().enumerate() {
        let s = Speculation { tokens: 64, lookup: i % 3 == 0, model: true };
        r.submit(Request { speculation: (i % 4 != 3).then_some(s), ..request }).unwrap();
    }
    let got: Vec<Told> = drain(&mut r).into_values().map(|c| told(&c.unwrap())).collect();
    assert!(got == want);
    assert_eq!(most.get(), 12);
}

#[test]
fn a_twin_saves_nearly_all_steps_and_a_repeating_text_many() {
    let model = random("llama");
    let request = Request { sampling: Sampling::default(), ..sampled(prompt(20, 0), 120, 0) };
    let (mut r, s) = guessing(&model, "llama", Setup::default(), Who::Twin, 8);
    let c = r.generate(Request { speculation: Some(s), ..request.clone() }, &mut |_| Continue(())).unwrap();
    assert_eq!(c.guesses.accepted, c.guesses.drafted);
    assert!(c.guesses.steps < 120 / 5, "{:?}", c.guesses);
    // Each token is the one that follows it in a circle: the text repeats itself, and is looked up.
    let circle = Sampling {
        logit_bias: (0..96).map(|i| (i, if i == 9 { 0.0 } else { f32::NEG_INFINITY })).collect(),
        ..Default::default()
    };
    let (mut r, s) = guessing(&model, "llama", Setup::default(), Who::Lookup, 8);
    let c = r.generate(Request { sampling: circle, speculation: Some(s), ..request }, &mut |_| Continue(())).unwrap();
    assert_eq!((c.tokens.len(), c.tokens[0], c.finish_reason), (120, 9, FinishReason::Length));
    assert!(c.guesses.steps < 120 / 5, "{:?}", c.guesses);
}

/// The context's end, and a table of positions that ends with it, are never passed by a guess.
#[test]
fn guesses_end_with_the_context() {
    for name in ["llama", "gpt2"] {
        let model = random(name);
        for ctx in [65, 128, 512] {
            let setup = Setup { ctx, kv_tokens: ctx, ..Setup::default() };
            let request = Request { max_tokens: None, ..sampled(prompt(ctx - 30, 0), 1, 4) };
            let want = runner(&model, setup).generate(request.clone(), &mut |_| Continue(())).unwrap();
            assert_eq!(want.tokens.len(), 30);
            for who in ALL {
                let (mut r, s) = guessing(&model, name, setup, who, 64);
                let c = r.generate(Request { speculation: Some(s), ..request.clone() }, &mut |_| Continue(())).unwrap();
                assert_eq!(told(&c), told(&want), "{name} {ctx} {who:?}");
            }
        }
    }
}

/// Later turns share pages of earlier ones, in both caches: none of them holds a guess that was wrong.
#[test]
fn turns_of_a_conversation_change_nothing() {
    for name in ["llama", "mistral", "dynamic"] {
        let model = random(name);
        for who in ALL {
            let (mut plain, (mut r, s)) =
                (runner(&model, Setup::default()), guessing(&model, name, Setup::default(), who, 7));
            let mut said = prompt(30, 0);
            for turn in 0..4 {
                said.extend(prompt(20, turn));
                let request = sampled(said.clone(), 40, turn as u64);
                let want = plain.generate(request.clone(), &mut |_| Continue(())).unwrap();
                let c = r.generate(Request { speculation: Some(s), ..request }, &mut |_| Continue(())).unwrap();
                assert_eq!(told(&c), told(&want), "{name} {who:?} turn {turn}");
                said.extend(c.tokens);
            }
        }
    }
}

/// A token whose embedding is broken is guessed, sampled or neither: the error is the same, and comes at the same place.
#[test]
fn a_row_that_is_not_finite_fails_as_without_guesses() {
    let c = config("llama");
    let w = weights(&c, |name, i| match name {
        "model.embed_tokens.weight" if i / 32 == 5 => f32::NAN,
        _ => plausible(name, i),
    });
    let model = Rc::new(Model::load(&c, &Source::Files(&w)).unwrap());
    for at in 0..6 {
        // Sooner or later token 5 comes.
        let sampling = Sampling { logit_bias: vec![(5, 1.0)], ..sampled(vec![1], 1, at).sampling };
        let request = Request { sampling, ..sampled(vec![10, 11, 12, 10, 11, 12], 400, at) };
        let end = |r: &mut Runner, request: Request| {
            let id = r.submit(request).unwrap();
            let mut tokens = Vec::new();
            let mut failed = None;
            while r.step(&mut |of, e| match e {
                Event::Token { id: token, .. } if of == id => tokens.push(token),
                Event::Failed(e) => failed = Some((e.kind().clone(), e.to_string())),
                _ => {}
            }) {}
            (tokens, failed)
        };
        let want = end(&mut runner(&model, Setup::default()), request.clone());
        assert!(matches!(want.1, Some((ErrorKind::NonFinite { layer: None }, _))), "{want:?}");
        for who in ALL {
            let (mut r, s) = guessing(&model, "llama", Setup::default(), who, 6);
            let got = end(&mut r, Request { speculation: Some(s), ..request.clone() });
            assert_eq!(got, want, "{who:?} {at}");
        }
    }
}

#[test]
fn a_cancelled_guesser_frees_its_pages_in_both_caches() {
    let model = random("llama");
    let (mut r, s) = guessing(&model, "llama", Setup::default(), Who::Twin, 8);
    let ids: Vec<RequestId> = (0..3)
        .map(|i| r.submit(Request { speculation: Some(s), ..sampled(prompt(100, i), 100, 0) }).unwrap())
        .collect();
    for _ in 0..4 {
        r.step(&mut |_, _| {});
    }
    ids.iter().for_each(|id| r.cancel(*id));
    assert!(drain(&mut r).into_values().all(|c| c.unwrap().finish_reason == FinishReason::Cancelled));
}

/// A draft model that is narrower, knows fewer positions, or goes bad is only of less use.
#[test]
fn a_poor_draft_model_only_helps_less() {
    let model = random("llama");
    let want = alone(&model, Setup::default());
    let text = MODELS[0].1.replace("96", "94").replace("512", "40");
    let narrow = Config::from_json(text.as_bytes()).unwrap();
    let narrow = Rc::new(Model::load(&narrow, &Source::Random { format: Format::F32, seed: 1 }).unwrap());
    let s = Speculation { tokens: 8, lookup: false, model: true };
    let mut r = runner(&model, Setup::default());
    r.set_draft(DraftParts { positions_end: Some(40), ..parts(&narrow) });
    let (got, g) = together(&mut r, s);
    assert!(got == want && g.drafted > 0, "{g:?}");
    // Its file changes after a few passes.
    let left = std::cell::Cell::new(5);
    let trust = move || {
        left.set(left.get() - 1);
        if left.get() < 0 { Err(Error::invalid("cut")) } else { Ok(()) }
    };
    let mut r = runner(&model, Setup::default());
    r.set_draft(DraftParts { trust: Box::new(trust), ..parts(&model) });
    let (got, g) = together(&mut r, s);
    assert!(got == want);
    assert!(g.drafted > 0 && g.steps > 250, "{g:?}");
}

#[test]
fn bad_values_are_refused() {
    let mut r = runner(&random("llama"), Setup::default());
    let ask = |s| Request { speculation: Some(s), ..sampled(prompt(5, 0), 4, 0) };
    let model = Speculation { tokens: 4, lookup: false, model: true };
    for bad in [
        Speculation { tokens: 0, ..Speculation::default() },
        Speculation { tokens: 65, ..Speculation::default() },
        model,
    ] {
        let e = r.submit(ask(bad)).unwrap_err();
        assert!(*e.kind() == ErrorKind::Invalid && e.to_string().contains("speculation"), "{e}");
    }
    r.set_draft(parts(&random("llama")));
    assert!(r.submit(ask(model)).is_ok());
}
