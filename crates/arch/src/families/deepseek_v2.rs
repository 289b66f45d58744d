//! DeepSeek-V2: latent attention, experts chosen by softmax from the best groups, experts that all share
//! (arXiv 2405.04434).
use super::{Family, deepseek_routing_keys};
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, Decoder, Mla, MlaConfig, Mlp, Moe, MoeConfig, Rotary, RotaryDims, SharedExpert, attention_mscale, gated,
        is_sparse,
    },
};
use pondera_ops::{GroupScore, Route};
use serde_json::{Map, Value};

pub(super) const FAMILY: Family = Family {
    model_type: "deepseek_v2",
    title: "DeepSeek-V2",
    gguf: Some(("deepseek2", |keys| !is_v3(keys))),
    defaults: r#"{"vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false, "first_k_dense_replace": 0,
        "kv_lora_rank": 512, "num_experts": 64, "n_shared_experts": 2, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "routed_scaling_factor": 1.0, "topk_method": "greedy", "v_head_dim": 128,
        "moe_intermediate_size": 1407, "moe_layer_freq": 1, "scoring_func": "softmax", "norm_topk_prob": false}"#,
    gguf_keys: Some(gguf_keys),
    load,
    ..Family::BASE
};

/// GGUF has one architecture for V2 and V3 and tells them apart by the router: 2 is sigmoid.
pub(super) fn is_v3(keys: &Map<String, Value>) -> bool {
    keys.get("expert_gating_func").and_then(Value::as_u64) == Some(2)
}

/// Converters that absorb the latent call its width the width of keys; the heads' own stand under `_mla`.
pub(super) fn gguf_keys(keys: &mut Map<String, Value>) {
    let size = |keys: &Map<String, Value>, k: &str| keys.get(k).and_then(Value::as_u64);
    let rope = size(keys, "rope_dimension_count").unwrap_or(0);
    let key = size(keys, "key_length_mla").or(size(keys, "head_dim"));
    let value = size(keys, "value_length_mla").or(size(keys, "v_head_dim"));
    if let Some(key) = key {
        keys.insert("qk_nope_head_dim".into(), key.saturating_sub(rope).into());
    }
    if let Some(value) = value {
        keys.insert("v_head_dim".into(), value.into());
    }
    keys.insert("qk_rope_head_dim".into(), rope.into());
    keys.entry("q_lora_rank").or_insert(Value::Null);
    deepseek_routing_keys(keys);
    // 0 and absence are how files before the key existed say softmax.
    match size(keys, "expert_gating_func") {
        None | Some(0 | 1) => keys.insert("scoring_func".into(), "softmax".into()),
        Some(2) => keys.insert("scoring_func".into(), "sigmoid".into()),
        Some(other) => keys.insert("scoring_func".into(), format!("expert_gating_func {other}").into()),
    };
    if size(keys, "n_group").is_some_and(|n| n > 1) {
        keys.insert("topk_method".into(), "group_limited_greedy".into());
    }
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let (act, bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    if p.has(("", &format!("blk.{}.exp_probs_b.bias", c.count("first_k_dense_replace")?))) {
        // Some converted files of V3 do not say how its router scores.
        return Err(c.bad(
            "deepseek2.expert_gating_func",
            "absent or softmax, but the file has a bias for sigmoid scores (exp_probs_b)",
        ));
    }
    c.only("scoring_func", &["softmax"])?;
    let mut mla = MlaConfig { q_lora_rank: q_lora_rank(c, Some(1536))?, ..MlaConfig::read(c, 1e-6)? };
    mla.scale = (f64::from(mla.scale) * attention_mscale(c)?) as f32;
    let dims = RotaryDims::whole(mla.qk_rope_head_dim, true);
    let rotary = Rotary::load(p, c, dims, "full_attention")?;

    let (count, top_k) = c.experts_needed()?;
    let groups = match c.text("topk_method")? {
        Some("group_limited_greedy") => Some((c.size("n_group")?, c.size("topk_group")?, GroupScore::Max)),
        Some("greedy") | None => None,
        Some(other) => return Err(c.unknown("topk_method", other, &["greedy", "group_limited_greedy"])),
    };
    c.check_groups(count, top_k, groups)?;
    // The reference reads norm_topk_prob and does not use it: weights are never renormalised in V2.
    let moe = MoeConfig::read(c, "moe_intermediate_size")?;
    let route = Route { groups, renormalize: None, scale: c.positive("routed_scaling_factor")?, ..moe.route };
    let moe = MoeConfig { route, ..moe };

    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| Mla::load(p, &mla, rotary),
        |p, layer| {
            if !is_sparse(c, layer)? {
                return Ok(Box::new(Mlp(gated(p, hidden, c.size("intermediate_size")?, bias, act)?)) as Box<dyn Block>);
            }
            let shared = SharedExpert::counted(c, p, bias)?;
            Ok(Box::new(Moe { shared, ..Moe::load(p, &moe, layer, hidden)? }))
        },
    )?;
    Ok(Box::new(decoder))
}

/// `q_lora_rank`: null says that queries have no latent, absence says `default`.
pub(super) fn q_lora_rank(c: &Config, default: Option<usize>) -> Result<Option<usize>> {
    match c.keys().contains_key("q_lora_rank") {
        true => c.size_opt("q_lora_rank"),
        false => Ok(default),
    }
}
