//! `config.json` of either style to one set of keys: nested text configurations lifted, other names for the same
//! key replaced, both styles of rope parameters merged, the family's defaults filled in.
use super::{family_of, shown};
use crate::{Error, Family, Result, families};
use serde_json::{Map, Value};

/// Other names that configurations have for a key, and the one used here.
const ALIASES: &[(&str, &str)] = &[
    ("n_embd", "hidden_size"),
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("n_positions", "max_position_embeddings"),
    ("n_inner", "intermediate_size"),
    ("num_local_experts", "num_experts"),
    ("n_routed_experts", "num_experts"),
    ("activation_function", "hidden_act"),
    ("layer_norm_epsilon", "layer_norm_eps"),
    ("norm_epsilon", "layer_norm_eps"),
    ("n_embed", "hidden_size"),
    ("d_model", "hidden_size"),
    ("n_heads", "num_attention_heads"),
    ("n_layers", "num_hidden_layers"),
    ("max_seq_len", "max_position_embeddings"),
    ("num_kv_heads", "num_key_value_heads"),
    ("ffn_dim", "intermediate_size"),
    ("ffn_hidden_size", "intermediate_size"),
    ("activation", "hidden_act"),
    ("rotary_pct", "partial_rotary_factor"),
    ("rotary_emb_base", "rope_theta"),
    ("moe_num_experts", "num_experts"),
    ("moe_k", "num_experts_per_tok"),
    ("moe_topk", "num_experts_per_tok"),
    ("moe_num_shared_experts", "n_shared_experts"),
    ("num_shared_experts", "n_shared_experts"),
    ("router_scaling_factor", "routed_scaling_factor"),
    ("num_mtp_layers", "num_nextn_predict_layers"),
    ("state_size", "mamba_d_state"),
    ("ssm_state_size", "mamba_d_state"),
    ("conv_kernel", "mamba_d_conv"),
    ("expand", "mamba_expand"),
    ("n_groups", "mamba_n_groups"),
    ("time_step_rank", "mamba_dt_rank"),
    ("use_conv_bias", "mamba_conv_bias"),
    ("layers_block_type", "layer_types"),
    ("tie_embedding", "tie_word_embeddings"),
];

/// How [`parse`] spells a number that JSON does not have: `{SPECIAL: "Infinity"}`, as transformers 5 writes it.
pub(super) const SPECIAL: &str = "__float__";

/// Parses JSON, and the `Infinity` and `NaN` that Python writes where JSON has no such numbers.
pub(super) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    let strict = |text: &[u8]| serde_json::from_slice(text);
    strict(text).or_else(|e| spelled(text).map_or(Err(e), |t| strict(&t)))
}

/// The text with bare words for numbers as objects; none where it has none.
fn spelled(text: &[u8]) -> Option<Vec<u8>> {
    const WORDS: &[&str] = &["-Infinity", "Infinity", "NaN"];
    let (mut out, mut rest, mut quoted, mut found) = (Vec::with_capacity(text.len()), text, false, false);
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(word) = WORDS.iter().find(|w| !quoted && rest.starts_with(w.as_bytes())) {
            out.extend(format!("{{\"{SPECIAL}\":\"{word}\"}}").bytes());
            rest = &rest[word.len()..];
            found = true;
            continue;
        }
        out.push(byte);
        rest = after;
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                out.extend(rest.first());
                rest = rest.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    found.then_some(out)
}

/// Where multimodal configurations keep the language model's keys.
const NESTED: &[&str] = &["text_config", "llm_config", "language_config"];

pub(super) fn normalize(value: &Value) -> Result<(&'static Family, Map<String, Value>)> {
    let Value::Object(top) = value else {
        return Err(Error::config("config.json", format!("expected an object, got {}", shown(value))));
    };
    let mut keys = top.clone();
    let mut model_type = text(&keys, "model_type")?;
    for name in NESTED {
        if let Some(Value::Object(inner)) = keys.remove(*name) {
            // The outer type decides where it is a family of its own; multimodal wrappers name none.
            if families::find(&model_type).is_none() {
                model_type = text(&inner, "model_type").unwrap_or(model_type);
            }
            keys.extend(inner);
        }
    }
    let family = family_of(&model_type)?;
    keys.insert("model_type".into(), family.model_type.into());
    rename(&mut keys);
    // Null is the reference's default, not a model without a rope.
    if keys.get("rope_parameters").is_some_and(Value::is_null) {
        keys.remove("rope_parameters");
    }
    if let Some(adapt) = family.json_keys {
        adapt(&mut keys);
    }
    // Before the ropes are merged, for a family's default rope parameters give way to either style.
    fill(&mut keys, family)?;
    merge_rope(&mut keys)?;
    Ok((family, keys))
}

fn text(keys: &Map<String, Value>, key: &str) -> Result<String> {
    match keys.get(key) {
        Some(Value::String(s)) => Ok(s.clone()),
        Some(v) => Err(Error::config(key, format!("expected a string, got {}", shown(v)))),
        None => Err(Error::config(key, "absent: the configuration does not say which family it is")
            .hint("a config.json of a language model has a model_type")),
    }
}

fn rename(keys: &mut Map<String, Value>) {
    for (other, name) in ALIASES {
        if let Some(v) = keys.remove(*other).filter(|v| !v.is_null()) {
            keys.entry(*name).or_insert(v);
        }
    }
}

/// `rope_scaling` and `rope_theta` (transformers 4) into `rope_parameters` (transformers 5). Parameters per layer
/// type are objects within it; they take the outer defaults too.
fn merge_rope(keys: &mut Map<String, Value>) -> Result<()> {
    let full = |v: &Value| !v.is_null() && v.as_object().is_none_or(|o| !o.is_empty());
    let scaling = keys.remove("rope_scaling").filter(full);
    let current = keys.remove("rope_parameters").filter(full);
    let mut rope = match scaling.or(current) {
        None => Map::new(),
        Some(Value::Object(o)) => o,
        Some(v) => return Err(Error::config("rope_parameters", format!("expected an object, got {}", shown(&v)))),
    };
    let theta = keys.get("rope_theta").filter(|v| !v.is_null()).cloned();
    let partial = keys.get("partial_rotary_factor").filter(|v| !v.is_null()).cloned();
    let settle = |o: &mut Map<String, Value>| {
        if let Some(t) = &theta {
            o.entry("rope_theta").or_insert(t.clone());
        }
        if let Some(p) = &partial {
            o.entry("partial_rotary_factor").or_insert(p.clone());
        }
        let kind = o.remove("type");
        o.entry("rope_type").or_insert(kind.unwrap_or_else(|| "default".into()));
    };
    if rope.values().any(Value::is_object) {
        rope.values_mut().filter_map(Value::as_object_mut).for_each(settle);
    } else {
        settle(&mut rope);
    }
    keys.insert("rope_parameters".into(), rope.into());
    Ok(())
}

/// The family's defaults for what is absent.
pub(super) fn fill(keys: &mut Map<String, Value>, family: &Family) -> Result<()> {
    for (key, value) in family.defaults()? {
        keys.entry(key).or_insert(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn infinity_is_a_number_where_python_wrote_it() {
        let cases = [
            (r#"{"limit": [0.0, Infinity]}"#, json!({"limit": [0.0, {SPECIAL: "Infinity"}]})),
            (r#"{"a": -Infinity, "b": NaN}"#, json!({"a": {SPECIAL: "-Infinity"}, "b": {SPECIAL: "NaN"}})),
            (r#"{"a \" NaN": "Infinity", "b": NaN}"#, json!({"a \" NaN": "Infinity", "b": {SPECIAL: "NaN"}})),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text.as_bytes()).unwrap(), want, "{text}");
        }
        for broken in ["{", "Infinit", r#""NaN"#, "[NaN", "NaN\\"] {
            assert!(parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
