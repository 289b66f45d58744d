//! Requests with adapters beside requests without: what each gets is what it gets alone.
use crate::{AdapterId, Completion, Engine, EngineOptions, ErrorKind, KvType, Request, Source, TraceOptions};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

/// A golden model with two of its adapters, the second twice: by itself and half of it with the first.
fn open(options: &EngineOptions) -> (Engine, [Option<AdapterId>; 4]) {
    let mut e = Engine::open(&Source::Path(&goldens().join("llama")), options, &mut |_| {}).unwrap();
    let [a, b] = ["llama-dora", "llama-saved"].map(|n| goldens().join("lora").join(n));
    let before = e.plan().total_bytes();
    let ids = [
        None,
        Some(e.load_adapter("a", &[(&a, 1.0)]).unwrap()),
        Some(e.load_adapter("b", &[(&b, 1.0)]).unwrap()),
        Some(e.load_adapter("both", &[(&a, 0.5), (&b, 1.0)]).unwrap()),
    ];
    assert!(e.plan().total_bytes() > before && e.adapters() == ["a", "b", "both"] && e.adapter("b") == ids[2]);
    (e, ids)
}

fn options(kv_tokens: usize, max_prefixes: usize) -> EngineOptions {
    EngineOptions {
        ctx: Some(160),
        kv: KvType::F32,
        kv_tokens: Some(kv_tokens),
        max_prefixes,
        chunk: 24,
        ..EngineOptions::default()
    }
}

/// All begin alike, so that a prefix of another adapter would be found.
fn requests(ids: [Option<AdapterId>; 4]) -> Vec<Request> {
    let one = |i: usize| Request {
        prompt: (0..120).map(|t| 3 + (t * 7 % 50)).chain([3 + i as u32 / 4]).collect(),
        max_tokens: Some(30),
        ignore_eos: true,
        logprobs: Some(0),
        adapter: ids[i % 4],
        ..Request::default()
    };
    (0..8).map(one).collect()
}

fn bits(c: &Completion) -> Vec<(u32, u64)> {
    c.tokens.iter().zip(&c.logprobs).map(|(id, l)| (*id, l.0.to_bits())).collect()
}

fn alone(r: Request) -> Vec<(u32, u64)> {
    let (mut e, _) = open(&options(256, 0));
    bits(&e.generate(r, &mut |_| ControlFlow::Continue(())).unwrap())
}

fn together(e: &mut Engine, requests: &[Request]) -> Vec<Vec<(u32, u64)>> {
    let ids: Vec<_> = requests.iter().map(|r| e.submit(r.clone()).unwrap()).collect();
    let mut got: BTreeMap<_, Vec<(u32, u64)>> = BTreeMap::new();
    while e.step(&mut |id, event| match event {
        crate::Event::Token { id: token, logprob, .. } => {
            got.entry(id).or_default().push((token, logprob.unwrap_or_default().to_bits()));
        }
        crate::Event::Failed(e) => panic!("{e}"),
        _ => {}
    }) {}
    ids.iter().map(|id| got.remove(id).unwrap_or_default()).collect()
}

#[test]
fn adapters_side_by_side_move_no_bit() {
    // Many pages; few, so that some give way; prefixes, so that later ones find earlier ones' pages.
    let (_, ids) = open(&options(256, 0));
    let want: Vec<_> = requests(ids).into_iter().map(alone).collect();
    assert!((0..4).all(|i| (0..i).all(|j| want[i] != want[j])), "the adapters change nothing");
    for (kv_tokens, prefixes) in [(1024, 0), (320, 0), (1024, 8)] {
        let (mut e, ids) = open(&options(kv_tokens, prefixes));
        for round in 0..2 {
            let got = together(&mut e, &requests(ids));
            assert!(got == want, "{kv_tokens} tokens of cache, {prefixes} prefixes, round {round}");
        }
        let preempted = e.runner.scheduler.preemptions;
        assert!(kv_tokens > 320 || preempted > 0, "nobody gave way");
    }
}

#[test]
fn passes_take_the_adapter_in_use_and_chunks_move_no_bit() {
    let (mut e, ids) = open(&options(256, 0));
    let tokens: Vec<u32> = (0..40).map(|t| 3 + t % 50).collect();
    let mut trace = |id, chunk| {
        e.use_adapter(id).unwrap();
        let t = e.trace(&tokens, TraceOptions { chunk, ..TraceOptions::default() }).unwrap();
        t.logits.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    let all = ids.map(|id| trace(id, None));
    assert!((1..4).all(|i| all[i] != all[0]));
    for (id, want) in ids.into_iter().zip(&all) {
        assert!(trace(id, Some(1)) == *want && trace(id, Some(23)) == *want);
    }
}

#[test]
fn adapters_come_and_go_between_steps() {
    let (mut e, ids) = open(&options(256, 0));
    let path = goldens().join("lora/llama-dora");
    assert_eq!(*e.load_adapter("a", &[(&path, 1.0)]).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(*e.load_adapter("x", &[(&path, f32::NAN)]).unwrap_err().kind(), ErrorKind::Invalid);
    let other = goldens().join("lora/gpt2");
    assert_eq!(*e.load_adapter("x", &[(&other, 1.0)]).unwrap_err().kind(), ErrorKind::File);
    let [_, Some(a), ..] = ids else { unreachable!() };
    let request = requests(ids).remove(1);
    e.submit(request.clone()).unwrap();
    assert_eq!(*e.unload_adapter(a).unwrap_err().kind(), ErrorKind::Busy);
    while e.step(&mut |_, _| {}) {}
    let before = e.plan().adapters_bytes;
    e.unload_adapter(a).unwrap();
    assert!(e.plan().adapters_bytes < before);
    assert_eq!(*e.submit(request.clone()).unwrap_err().kind(), ErrorKind::Invalid);
    let again = e.load_adapter("a", &[(&path, 1.0)]).unwrap();
    assert!(again != a);
    let c =
        e.generate(Request { adapter: Some(again), ..request.clone() }, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(bits(&c) == alone(request));
}
