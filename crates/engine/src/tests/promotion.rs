//! Weights move into the backend's own layout between steps: no bit of a result moves with them.
use super::*;
use crate::TraceOptions;
use std::time::Duration;

/// Rows of whole blocks of every format; experts, and a head that is tied.
const WIDE: [&str; 2] = [
    r#"{"model_type": "llama", "vocab_size": 4000, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": true}"#,
    r#"{"model_type": "mixtral", "vocab_size": 96, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "num_local_experts": 8,
        "num_experts_per_tok": 2}"#,
];

/// A model of its own each time: what a backend keeps beside a weight is not shared.
fn fresh(config: &str) -> Rc<Model> {
    let config = Config::from_json(config.as_bytes()).unwrap();
    Rc::new(Model::load(&config, &Source::Random { format: Format::Q4K, seed: 7 }).unwrap())
}

fn outcomes(r: &mut Runner) -> Vec<Vec<(u32, u64)>> {
    for (i, n) in [9, 64, 130].into_iter().enumerate() {
        r.submit(sampled(prompt(n, i), 24, i as u64)).unwrap();
    }
    drain(r).into_values().map(|c| bits(&c.unwrap())).collect()
}

#[test]
fn layouts_give_equal_bits_while_weights_move_and_afterwards() {
    let packs = matches!(Isa::detect(), Isa::Avx2 | Isa::Avx512 | Isa::Amx);
    for config in WIDE {
        let mut mapped = runner(&fresh(config), Setup::default());
        let want = outcomes(&mut mapped);
        let tokens = prompt(100, 3);
        let want_logits = mapped.trace(&tokens, TraceOptions::default()).unwrap().logits;
        assert_eq!(mapped.scheduler.ops.settle(Duration::from_secs(1)), Default::default(), "mapped stays mapped");
        for (layout, threads) in [(Layout::Auto, 1), (Layout::Auto, 2), (Layout::Packed, 2)] {
            let mut r = runner(&fresh(config), Setup { layout, threads, ..Setup::default() });
            assert!(outcomes(&mut r) == want, "{layout:?}, {threads} threads: while weights move");
            let settled = loop {
                let s = r.scheduler.ops.settle(Duration::from_millis(5));
                if s.left_bytes == 0 {
                    break s;
                }
            };
            assert_eq!(settled.packed_bytes > 0, packs, "{settled:?}");
            assert!(outcomes(&mut r) == want, "{layout:?}, {threads} threads: afterwards");
            let got = r.trace(&tokens, TraceOptions::default()).unwrap().logits;
            assert!(got.iter().map(|v| v.to_bits()).eq(want_logits.iter().map(|v| v.to_bits())), "{layout:?}: logits");
        }
    }
}
