//! LFM2 with experts by sigmoid, all but in the first layers (arXiv 2511.23404).
use super::{
    Family, always,
    lfm2::{gguf_keys, load, mlp},
};
use crate::{
    Config, Params, Result,
    blocks::{Block, ExpertNames, Mlp, Moe, experts},
};
use pondera_ops::{Activation, Route, Score};

pub(super) const FAMILY: Family = Family {
    model_type: "lfm2_moe",
    title: "LFM2-MoE",
    gguf: Some(("lfm2moe", always)),
    defaults: r#"{"vocab_size": 65536, "hidden_size": 2048, "intermediate_size": 7168, "moe_intermediate_size": 1792,
        "num_hidden_layers": 32, "tie_word_embeddings": true, "max_position_embeddings": 128000, "norm_eps": 1e-5,
        "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 1e6, "conv_bias": false, "conv_L_cache": 3,
        "num_dense_layers": 2, "num_experts_per_tok": 4, "num_experts": 32, "use_expert_bias": true,
        "routed_scaling_factor": 1.0, "norm_topk_prob": true}"#,
    gguf_keys: Some(|keys| {
        gguf_keys(keys);
        if let Some(n) = keys.remove("first_k_dense_replace") {
            keys.insert("num_dense_layers".into(), n);
        }
    }),
    gguf_reads: &["layers"],
    load: |c, p| load(c, p, |p, layer| ffn(c, p, layer)),
    ..Family::BASE
};

fn ffn(c: &Config, p: &Params<'_>, layer: usize) -> Result<Box<dyn Block>> {
    let hidden = c.hidden_size()?;
    if layer < c.count("num_dense_layers")? {
        return Ok(Box::new(Mlp(mlp(p, hidden, c.size("intermediate_size")?)?)));
    }
    let (count, top_k) = c.experts_needed()?;
    let bias_name = ("expert_bias", "exp_probs_b.bias");
    let biased = if p.is_gguf() { p.has(bias_name) } else { c.flag("use_expert_bias")? };
    let route = Route {
        top_k,
        score: Score::Sigmoid,
        bias: biased.then(|| p.vector(bias_name, count)).transpose()?,
        groups: None,
        renormalize: c.flag("norm_topk_prob")?.then_some(1e-6),
        scale: c.positive("routed_scaling_factor")?,
    };
    let names = ExpertNames { each: ["w1|gate_proj", "w3|up_proj", "w2|down_proj"] };
    let inner = c.size("moe_intermediate_size")?;
    Ok(Box::new(Moe {
        layer,
        router: p.linear(("gate", "ffn_gate_inp"), count, hidden, false)?,
        route,
        experts: experts(p, names, (count, top_k), inner, hidden, Activation::Silu)?,
        shared: None,
    }))
}
