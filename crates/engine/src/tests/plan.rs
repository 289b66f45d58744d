//! What a plan says that caches and states take is what they take, for every family.
use super::*;
use crate::{Engine, EngineOptions};
use std::path::Path;

#[test]
fn every_family_takes_what_was_planned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let mut seen = 0;
    for folder in std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()) {
        if !folder.join("config.json").exists() {
            continue;
        }
        for kv in [KvType::F16, KvType::Q8] {
            let (ctx, pages) = (Some(20), Some(40));
            let options = EngineOptions {
                threads: 1,
                kv,
                ctx,
                kv_tokens: pages,
                max_sequences: 1,
                max_prefixes: 0,
                ..Default::default()
            };
            let name = folder.display();
            let mut e = Engine::open(&crate::Source::Path(&folder), &options, &mut |_| {})
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let request = Request { prompt: vec![5; 8], ignore_eos: true, ..Default::default() };
            if e.generate(request, &mut |_| std::ops::ControlFlow::Continue(())).is_err() {
                assert!(e.plan().kv_bytes == 0 || name.to_string().contains("bert"), "{name}");
                continue;
            }
            let held = e.runner.scheduler.ops.held();
            // One sequence, and nobody guesses.
            let states = held.states * (1 + crate::states::TRIALS as u64);
            assert_eq!((held.caches, states), (e.plan().kv_bytes, e.plan().states_bytes), "{name} {kv:?}");
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen}");
}
