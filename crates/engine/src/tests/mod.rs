//! The engine's promises on tiny random models: equality by bits, limits, failures that stay with their request.
mod adapters;
mod allocations;
mod bits;
mod grammar;
mod plan;
mod promotion;
mod requests;
mod sharing;
mod simulate;
mod speculation;
mod trouble;

use crate::{
    Completion, Error, Event, Isa, KvType, Layout, Request, RequestId, Result, backend, net,
    net::{Net, Stream, Vocabulary},
    runner::{Parts, Runner},
    scheduler::Limits,
};
use pondera_arch::{Config, Model, Source};
use pondera_ops::{Act, Batch, CacheSpec, Ops, PAGE, StateSpec};
use pondera_quant::{Bytes, Format, TensorView};
use pondera_weights::Weights;
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

/// Tiny shapes of every mechanism that a cache or batch can get wrong: grouped queries, windows, experts, latents, sinks,
/// length-dependent rotary frequencies, learnt positions, recurrent states alone and beside a cache.
pub const MODELS: &[(&str, &str)] = &[
    (
        "llama",
        r#"{"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}"#,
    ),
    (
        "dynamic",
        r#"{"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48,
        "rope_scaling": {"type": "dynamic", "factor": 4.0}}"#,
    ),
    (
        "mistral",
        r#"{"model_type": "mistral", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "max_position_embeddings": 512,
        "sliding_window": 20}"#,
    ),
    (
        "mixtral",
        r#"{"model_type": "mixtral", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "num_local_experts": 4, "num_experts_per_tok": 2}"#,
    ),
    (
        "deepseek_v3",
        r#"{"model_type": "deepseek_v3", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
        "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "n_shared_experts": 1, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
        "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "max_position_embeddings": 512}"#,
    ),
    (
        "gemma2",
        r#"{"model_type": "gemma2", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "query_pre_attn_scalar": 8, "sliding_window": 24, "max_position_embeddings": 512}"#,
    ),
    (
        "mamba2",
        r#"{"model_type": "mamba2", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8,
        "head_dim": 8, "state_size": 6, "n_groups": 2, "conv_kernel": 3, "expand": 2, "max_position_embeddings": 512}"#,
    ),
    (
        "qwen3_next",
        r#"{"model_type": "qwen3_next", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 40, "head_dim": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "linear_conv_kernel_dim": 3,
        "linear_key_head_dim": 6, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"], "moe_intermediate_size": 12,
        "num_experts": 6, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 12, "norm_topk_prob": true,
        "max_position_embeddings": 512}"#,
    ),
    (
        "gpt2",
        r#"{"model_type": "gpt2", "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}"#,
    ),
];

pub fn config(name: &str) -> Config {
    let (_, text) = MODELS.iter().find(|(n, _)| *n == name).unwrap();
    Config::from_json(text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub fn random(name: &str) -> Rc<Model> {
    let source = Source::Random { format: Format::F32, seed: 7 };
    Rc::new(Model::load(&config(name), &source).unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// The files of a model of `config` with values from `value(name, i)`.
pub fn tensors(config: &Config, value: impl Fn(&str, usize) -> f32) -> Vec<(String, TensorView)> {
    let described = Model::load(config, &Source::Describe).unwrap();
    let list = described.description().tensors.iter();
    list.map(|t| {
        let [_, out, inp] = t.shape;
        let data: Vec<u8> = (0..out * inp).flat_map(|i| value(&t.name, i).to_le_bytes()).collect();
        let shape = if out == 1 { vec![inp] } else { vec![out, inp] };
        (t.name.clone(), TensorView { format: Format::F32, shape, bytes: Bytes::from(data) })
    })
    .collect()
}

/// Values of about the size that training leaves: 1 for norms, small ones elsewhere.
pub fn plausible(name: &str, i: usize) -> f32 {
    if name.contains("norm") {
        return 1.0;
    }
    let seed = name.bytes().fold(i as u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    (crate::math::uniform(seed, 0) as f32 - 0.5) * 0.6
}

/// Shares one model among several runners.
struct Shared(Rc<Model>);

impl Net for Shared {
    fn forward(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        self.0.forward(ops, batch)
    }
    fn hidden(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        self.0.hidden(ops, batch)
    }
    fn caches(&self) -> &[CacheSpec] {
        self.0.caches()
    }
    fn states(&self) -> &[StateSpec] {
        self.0.states()
    }
    fn rope_epoch(&self, length: u32) -> u32 {
        self.0.rope_epoch(length)
    }
    fn copy_page(&self, ops: &dyn Ops, from: u32, to: u32) {
        ops.copy_page(from as usize, to as usize);
    }
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }
}

/// Token `i` is the letter `a + i % 26`, then a space for every seventh; token 95 ends a sequence.
pub struct Letters;

pub fn letter(id: u32) -> String {
    let mut s = String::new();
    push_letter(id, &mut s);
    s
}

fn push_letter(id: u32, out: &mut String) {
    out.push(char::from(b'a' + (id % 26) as u8));
    if id.is_multiple_of(7) {
        out.push(' ');
    }
}

impl Vocabulary for Letters {
    fn stream(&self, _: bool, _: Arc<[u32]>) -> Box<dyn Stream> {
        Box::new(Letters)
    }
    fn ends(&self) -> &[u32] {
        &[95]
    }
}

impl Stream for Letters {
    fn push(&mut self, id: u32, out: &mut String) {
        push_letter(id, out);
    }
    fn finish(&mut self, _: &mut String) {}
}

/// How a runner is set up; what a test does not name does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub ctx: usize,
    pub kv_tokens: usize,
    pub chunk: usize,
    pub max_rows: usize,
    pub max_sequences: usize,
    pub max_prefixes: usize,
    pub max_snapshots: usize,
    pub trials: usize,
    pub step_time: Option<std::time::Duration>,
    pub kv: KvType,
    pub threads: usize,
    pub isa: Isa,
    pub layout: Layout,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            ctx: 512,
            kv_tokens: 2048,
            chunk: 512,
            max_rows: 512,
            max_sequences: 16,
            max_prefixes: 4,
            max_snapshots: 8,
            trials: 16,
            step_time: None,
            kv: KvType::F32,
            threads: 1,
            isa: Isa::detect(),
            layout: Layout::Mapped,
        }
    }
}

pub fn runner(model: &Rc<Model>, s: Setup) -> Runner {
    runner_of(Box::new(Shared(model.clone())), s, Box::new(|| Ok(())))
}

pub fn runner_of(net: Box<dyn net::Net>, s: Setup, trust: Box<dyn Fn() -> Result<()>>) -> Runner {
    let (ops, _) = backend::open(s.threads, Some(s.isa)).unwrap();
    ops.lay_out(s.layout);
    let limits = Limits {
        ctx: s.ctx,
        chunk: s.chunk,
        max_rows: s.max_rows,
        max_sequences: s.max_sequences,
        max_prefixes: s.max_prefixes,
        states: crate::states::StateCounts { trials: s.trials, snapshots: s.max_snapshots },
        step_time: s.step_time,
    };
    let words: Option<Box<dyn Vocabulary>> = Some(Box::new(Letters));
    Runner::new(Parts { net, ops, words, trust, limits, kv: s.kv, kv_tokens: s.kv_tokens, max_waiting: 100 })
}

/// `n` ids that look like nothing in particular.
pub fn prompt(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|k| ((7 * k * k + 3 * k + 11 * seed) % 90 + 3) as u32).collect()
}

/// What became of a request.
pub type Outcome = std::result::Result<Completion, Error>;

/// Runs to the end and collects every request's outcome. Each must end exactly once, and every page come back.
pub fn drain(r: &mut Runner) -> BTreeMap<RequestId, Outcome> {
    let ended = drain_and_keep(r);
    assert_no_page_is_lost(r);
    ended
}

/// [`drain`], with the prefixes that it leaves.
pub fn drain_and_keep(r: &mut Runner) -> BTreeMap<RequestId, Outcome> {
    let mut open: BTreeMap<RequestId, Completion> = BTreeMap::new();
    let mut ended: BTreeMap<RequestId, Outcome> = BTreeMap::new();
    let empty = || Completion {
        text: String::new(),
        tokens: vec![],
        logprobs: vec![],
        finish_reason: crate::FinishReason::Cancelled,
        usage: Default::default(),
        timings: Default::default(),
        guesses: Default::default(),
    };
    for _ in 0..10_000 {
        let more = r.step(&mut |id, event| {
            assert!(!ended.contains_key(&id), "{id:?} goes on after its end");
            let c = open.entry(id).or_insert_with(empty);
            match event {
                Event::Prefill { done, total } => assert!(done < total),
                Event::Token { id, text, logprob, top } => {
                    c.tokens.push(id);
                    c.text.push_str(text);
                    c.logprobs.extend(logprob.map(|p| (p, top.to_vec())));
                }
                Event::Finished { reason, text, usage, timings, guesses } => {
                    c.text.push_str(text);
                    (c.finish_reason, c.usage, c.timings, c.guesses) = (reason, usage, timings, guesses);
                    ended.insert(id, Ok(c.clone()));
                }
                Event::Failed(e) => {
                    ended.insert(id, Err(e.clone()));
                }
            }
        });
        if !more {
            return ended;
        }
    }
    panic!("the engine does not come to an end");
}

/// Every page is free, or belongs to a prefix that gives way.
fn assert_no_page_is_lost(r: &mut Runner) {
    let s = &mut r.scheduler;
    s.prefixes.make_free(s.pages.count(), &mut s.pages);
    assert_eq!(s.pages.free(), s.pages.count(), "pages are lost");
    assert!(s.slots.all_are_back(&mut s.prefixes), "slots of states are lost");
    assert!(s.drafter.as_mut().is_none_or(|d| d.all_pages_are_back()), "pages of the draft model are lost");
}

pub fn sampled(tokens: Vec<u32>, n: usize, seed: u64) -> Request {
    let sampling = crate::Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, seed, ..Default::default() };
    Request { prompt: tokens, sampling, max_tokens: Some(n), ignore_eos: true, logprobs: Some(2), ..Default::default() }
}

/// Tokens and log probabilities by their bits.
pub fn bits(c: &Completion) -> Vec<(u32, u64)> {
    c.tokens.iter().zip(&c.logprobs).map(|(t, (p, _))| (*t, p.to_bits())).collect()
}

pub fn weights(config: &Config, value: impl Fn(&str, usize) -> f32) -> Weights {
    Weights::from_tensors(tensors(config, value)).unwrap()
}

#[test]
fn pages_are_as_long_as_the_tests_assume() {
    assert_eq!(PAGE, 64);
}
