//! GGUF metadata to the same keys that a `config.json` has. The one place that names GGUF's keys.
use super::json::fill;
use crate::{Error, Family, Result, error::shortened, families};
use pondera_weights::Gguf;
use serde_json::{Map, Value, json};

/// How a value is read and written.
#[derive(Clone, Copy)]
enum Kind {
    Size,
    Number,
    Flag,
    /// A size, or an array of one value and, for layers that lack what the key counts, 0.
    Uniform,
    Text,
}
use Kind::*;

/// Our key, GGUF's key behind `<architecture>.`, its type.
const KEYS: &[(&str, &str, Kind)] = &[
    ("hidden_size", "embedding_length", Size),
    ("num_hidden_layers", "block_count", Size),
    ("max_position_embeddings", "context_length", Size),
    ("vocab_size", "vocab_size", Size),
    ("intermediate_size", "feed_forward_length", Uniform),
    ("num_attention_heads", "attention.head_count", Uniform),
    ("num_key_value_heads", "attention.head_count_kv", Uniform),
    ("head_dim", "attention.key_length", Size),
    ("v_head_dim", "attention.value_length", Size),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon", Number),
    ("layer_norm_eps", "attention.layer_norm_epsilon", Number),
    ("sliding_window", "attention.sliding_window", Size),
    ("attn_logit_softcapping", "attn_logit_softcapping", Number),
    ("final_logit_softcapping", "final_logit_softcapping", Number),
    ("gguf_attention_scale", "attention.scale", Number),
    ("num_experts", "expert_count", Size),
    ("num_experts_per_tok", "expert_used_count", Size),
    ("moe_intermediate_size", "expert_feed_forward_length", Size),
    ("shared_expert_intermediate_size", "expert_shared_feed_forward_length", Size),
    ("n_shared_experts", "expert_shared_count", Size),
    ("routed_scaling_factor", "expert_weights_scale", Number),
    ("norm_topk_prob", "expert_weights_norm", Flag),
    ("expert_gating_func", "expert_gating_func", Size),
    ("n_group", "expert_group_count", Size),
    ("topk_group", "expert_group_used_count", Size),
    ("first_k_dense_replace", "leading_dense_block_count", Size),
    ("decoder_sparse_step", "interleave_moe_layer_step", Size),
    ("num_nextn_predict_layers", "nextn_predict_layers", Size),
    ("q_lora_rank", "attention.q_lora_rank", Size),
    ("kv_lora_rank", "attention.kv_lora_rank", Size),
    ("key_length_mla", "attention.key_length_mla", Size),
    ("value_length_mla", "attention.value_length_mla", Size),
    ("rope_dimension_count", "rope.dimension_count", Size),
    ("swiglu_limit", "swiglu_clamp_exp", Number),
    ("full_attention_interval", "full_attention_interval", Size),
    ("mamba_d_conv", "ssm.conv_kernel", Size),
    ("mamba_d_ssm", "ssm.inner_size", Size),
    ("mamba_d_state", "ssm.state_size", Size),
    ("mamba_dt_rank", "ssm.time_step_rank", Size),
    ("mamba_n_groups", "ssm.group_count", Size),
    ("gguf_rope_finetuned", "rope.scaling.finetuned", Flag),
    ("gguf_dt_b_c_rms", "ssm.dt_b_c_rms", Flag),
    ("conv_L_cache", "shortconv.l_cache", Size),
    ("moe_latent_size", "moe_latent_size", Size),
];

/// Behind a key of kind [`Kind::Uniform`]: which layers have it, where some lack it.
const LAYERS: &str = " of layers";

/// The same for what lies in `rope_parameters`.
const ROPE: &[(&str, &str, Kind)] = &[
    ("rope_theta", "rope.freq_base", Number),
    ("rope_type", "rope.scaling.type", Text),
    ("factor", "rope.scaling.factor", Number),
    ("original_max_position_embeddings", "rope.scaling.original_context_length", Size),
    ("gguf_linear_factor", "rope.scale_linear", Number),
    ("gguf_attn_factor", "rope.scaling.attn_factor", Number),
    ("attention_factor", "rope.scaling.yarn_attn_factor", Number),
    ("gguf_log_multiplier", "rope.scaling.yarn_log_multiplier", Number),
    ("beta_fast", "rope.scaling.yarn_beta_fast", Number),
    ("beta_slow", "rope.scaling.yarn_beta_slow", Number),
];

/// Mechanisms that few families have: our key, GGUF's key, the values at which they do nothing. Where a family does not
/// say that it reads the key ([`Family::gguf_reads`]), any other value is refused, not passed over.
const FOREIGN: &[(&str, &str, &[f64])] = &[
    ("temperature_scale", "attention.temperature_scale", &[0.0]),
    ("clip_qkv", "attention.clamp_kqv", &[0.0]),
    ("max_alibi_bias", "attention.max_alibi_bias", &[0.0]),
    ("embedding_multiplier", "embedding_scale", &[0.0, 1.0]),
    ("residual_multiplier", "residual_scale", &[0.0, 1.0]),
    ("logit_scale", "logit_scale", &[0.0, 1.0]),
];

pub(super) fn translate(m: &Gguf) -> Result<(&'static Family, Map<String, Value>)> {
    let arch = m
        .str("general.architecture")
        .map_err(read_error)?
        .ok_or_else(|| Error::config("general.architecture", "absent: the file does not say which family it is"))?;
    if !families::knows_gguf(arch) {
        return Err(unknown(arch));
    }
    let mut keys = Map::new();
    read(m, arch, KEYS, &mut keys)?;
    let mut rope = Map::new();
    read(m, arch, ROPE, &mut rope)?;
    finish_rope(&mut rope);
    keys.insert("rope_parameters".into(), rope.into());

    for required in ["hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"] {
        if !keys.contains_key(required) {
            let key = KEYS.iter().find(|k| k.0 == required).map_or(required, |k| k.1);
            return Err(Error::config(&format!("{arch}.{key}"), "absent"));
        }
    }
    // Every family here has norms, and an epsilon cannot be guessed.
    if !keys.contains_key("rms_norm_eps") && !keys.contains_key("layer_norm_eps") {
        return Err(Error::config(&format!("{arch}.attention.layer_norm_rms_epsilon"), "absent"));
    }
    if !keys.contains_key("vocab_size") {
        let n = m.array("tokenizer.ggml.tokens").map_err(read_error)?.map(|a| a.len());
        let n =
            n.ok_or_else(|| Error::config("tokenizer.ggml.tokens", "absent: the size of the vocabulary is not known"))?;
        keys.insert("vocab_size".into(), n.into());
    }
    // Layers that predict further tokens are counted among the blocks.
    let extra = keys.get("num_nextn_predict_layers").and_then(Value::as_u64).unwrap_or(0);
    if let Some(n) = keys.get("num_hidden_layers").and_then(Value::as_u64).filter(|n| extra > 0 && *n > extra) {
        keys.insert("num_hidden_layers".into(), (n - extra).into());
    }
    let heads = keys["num_attention_heads"].clone();
    keys.entry("num_key_value_heads").or_insert(heads);

    let family = families::find_gguf(arch, &keys).ok_or_else(|| unknown(arch))?;
    foreign(m, arch, family, &mut keys)?;
    if let Some(key) = keys.keys().find(|k| k.ends_with(LAYERS)).filter(|_| !family.gguf_reads.contains(&"layers")) {
        let ours = key.trim_end_matches(LAYERS);
        let theirs = KEYS.iter().find(|k| k.0 == ours).map_or(ours, |k| k.1);
        return Err(per_layer(&format!("{arch}.{theirs}")));
    }
    keys.insert("model_type".into(), family.model_type.into());
    if let Some(adapt) = family.gguf_keys {
        adapt(&mut keys);
    }
    fill(&mut keys, family)?;
    Ok((family, keys))
}

/// Reads the values in [`FOREIGN`] that are not neutral, for families that know them.
fn foreign(m: &Gguf, arch: &str, family: &Family, keys: &mut Map<String, Value>) -> Result<()> {
    for (ours, theirs, neutral) in FOREIGN {
        let key = format!("{arch}.{theirs}");
        let Some(v) = m.f64(&key).map_err(read_error)?.filter(|v| !neutral.contains(v)) else { continue };
        if !family.gguf_reads.contains(ours) {
            return Err(Error::unsupported(&key, format!("{v} is not implemented for this architecture")));
        }
        keys.insert((*ours).to_string(), v.into());
    }
    let key = format!("{arch}.attention.causal");
    if m.bool(&key).map_err(read_error)? == Some(false) && !family.gguf_reads.contains(&"bidirectional") {
        return Err(Error::unsupported(&key, "attention that sees later tokens is not implemented"));
    }
    Ok(())
}

fn unknown(arch: &str) -> Error {
    let near = families::nearest(arch).unwrap_or_default();
    let what = format!("{} is not a known architecture", shortened(arch));
    Error::unsupported("general.architecture", what)
        .hint(format!("the nearest known family is {near}; `pondera models --families` lists all"))
}

fn read(m: &Gguf, arch: &str, table: &[(&str, &str, Kind)], keys: &mut Map<String, Value>) -> Result<()> {
    for (ours, theirs, kind) in table {
        let key = format!("{arch}.{theirs}");
        let value = match kind {
            Size => m.u64(&key).map_err(read_error)?.map(Value::from),
            Number => m.f64(&key).map_err(read_error)?.map(Value::from),
            Flag => m.bool(&key).map_err(read_error)?.map(Value::from),
            Text => m.str(&key).map_err(read_error)?.map(Value::from),
            Uniform => match uniform(m, &key)? {
                Some((n, layers)) => {
                    if let Some(layers) = layers {
                        keys.insert(format!("{ours}{LAYERS}"), layers);
                    }
                    Some(n)
                }
                None => None,
            },
        };
        if let Some(v) = value {
            keys.insert((*ours).to_string(), v);
        }
    }
    Ok(())
}

fn read_error(e: pondera_weights::Error) -> Error {
    Error::config(e.item().unwrap_or("metadata"), e.to_string())
}

fn per_layer(key: &str) -> Error {
    Error::unsupported(key, "different values per layer are not implemented for this architecture")
}

/// The one value of a list that some layers may lack, and which layers have it, where some do and others not.
fn uniform(m: &Gguf, key: &str) -> Result<Option<(Value, Option<Value>)>> {
    let Some(list) = m.u64s(key).map_err(read_error)? else { return Ok(None) };
    let value = list.iter().copied().find(|n| *n > 0).unwrap_or(0);
    if list.is_empty() || list.iter().any(|n| *n > 0 && *n != value) {
        return Err(per_layer(key));
    }
    let some = value > 0 && list.contains(&0);
    Ok(Some((value.into(), some.then(|| list.iter().map(|n| *n > 0).collect()))))
}

/// GGUF's rope keys to the reference's: the same factors under other names.
fn finish_rope(rope: &mut Map<String, Value>) {
    if let Some(old) = rope.remove("gguf_linear_factor") {
        rope.entry("factor").or_insert(old);
    }
    let factor = rope.get("factor").and_then(Value::as_f64).filter(|f| *f != 0.0 && *f != 1.0);
    let kind = match rope.get("rope_type").and_then(Value::as_str) {
        // A factor without a type is linear.
        None => if factor.is_some() { "linear" } else { "default" }.to_string(),
        Some("none") => "default".to_string(),
        Some(kind) => kind.to_string(),
    };
    rope.insert("rope_type".into(), kind.into());
    let number = |v: Option<Value>| v.and_then(|v| v.as_f64());
    // The converter writes a tenth of `mscale_all_dim`; the published models have `mscale` equal to it.
    if let Some(log) = number(rope.remove("gguf_log_multiplier")).filter(|l| *l != 0.0) {
        rope.insert("mscale".into(), json!(log * 10.0));
        rope.insert("mscale_all_dim".into(), json!(log * 10.0));
    }
    // Multiplies the factor that YaRN finds by itself.
    if let (Some(f), Some(factor)) = (number(rope.remove("gguf_attn_factor")), number(rope.get("factor").cloned()))
        && f != 1.0
    {
        rope.insert("attention_factor".into(), json!(f * (1.0 + 0.1 * factor.max(1.0).ln())));
    }
}
