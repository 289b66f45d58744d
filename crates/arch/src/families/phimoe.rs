//! Phi-3.5-MoE: layer norms, biases everywhere where the configuration says so, two experts of which each is weighted
//! against those near it (arXiv 2404.14219, 2409.12136).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Branch, Decoder, Embedding, ExpertNames, Gqa, GqaConfig, Head, Moe, MoeConfig, Rotary, RotaryDims, layers,
    },
};
use pondera_ops::{Frequencies, Rope, Route, Score, default_frequencies};
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_type: "phimoe",
    title: "Phi-3.5-MoE",
    defaults: r#"{"vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 6400, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "sliding_window": null, "num_experts_per_tok": 2,
        "num_experts": 16, "router_jitter_noise": 0.01, "attention_bias": false, "lm_head_bias": false,
        "rope_theta": 1000000.0}"#,
    load,
    ..Family::BASE
};

/// LongRoPE whose factor on cosines and sines is in the configuration. The reference divides the frequencies by
/// `short_factor` at every length; its factor may change with the length, which is not implemented.
fn rotary(c: &Config, p: &Params<'_>, dims: RotaryDims) -> Result<Rotary> {
    let keys = c.get("rope_parameters").and_then(Value::as_object);
    let text = |key: &str| keys.and_then(|k| k.get(key)).and_then(Value::as_str);
    match text("rope_type") {
        None | Some("default") => return Rotary::load(p, c, dims, "full_attention"),
        Some("longrope" | "su") => {}
        Some(kind) => return Err(c.unknown("rope_parameters.rope_type", kind, &["default", "longrope"])),
    }
    let finite = |v: &Value| v.as_f64().filter(|n| n.is_finite() && *n > 0.0);
    let number = |key: &str| {
        let found = keys.and_then(|k| k.get(key)).and_then(finite);
        found.ok_or_else(|| c.bad(&format!("rope_parameters.{key}"), "expected a positive number"))
    };
    let (scale, long) = (number("short_mscale")?, number("long_mscale")?);
    if scale != long {
        return Err(c.unknown("rope_parameters.long_mscale", &long.to_string(), &[&scale.to_string()]));
    }
    let plain = default_frequencies(number("rope_theta")?, dims.dims);
    let factors = keys.and_then(|k| k.get("short_factor")).and_then(Value::as_array);
    let factors = factors.and_then(|list| list.iter().map(finite).collect::<Option<Vec<f64>>>());
    let factors = factors
        .filter(|f| f.len() == plain.len())
        .ok_or_else(|| c.bad("rope_parameters.short_factor", format!("expected {} positive numbers", plain.len())))?;
    let frequencies = Frequencies::Fixed(plain.iter().zip(factors).map(|(w, f)| w / f).collect());
    Ok(Rotary::of(p, Rope { frequencies, scale: scale as f32 }, dims))
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, window: c.size_opt("sliding_window")?, ..GqaConfig::read(c)? };
    let rotary = rotary(c, p, RotaryDims::whole(gqa.head_dim, false))?;
    let moe = MoeConfig { router: "gate|router", ..MoeConfig::read(c, "intermediate_size")? };
    if moe.route.top_k != 2 {
        return Err(c.unknown("num_experts_per_tok", &moe.route.top_k.to_string(), &["2"]));
    }
    let near = 2.0 * c.number("router_jitter_noise")? as f32;
    let route = Route { score: Score::Near(near), renormalize: None, ..moe.route };
    let moe = MoeConfig { names: ExpertNames::NUMBERED, route, ..moe };
    let body = p.body();
    let tokens = body.weight(("embed_tokens", ""), c.vocab_size()?, hidden)?;
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("layers", i);
        let mixer = Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, Some(rotary))?;
        let ffn = Moe::load(&l.at(("block_sparse_moe|mlp", "")), &moe, i, hidden)?;
        Ok(vec![
            Branch::pre_norm(l.layer_norm(("input_layernorm", ""), hidden, eps)?, mixer),
            Branch::pre_norm(l.layer_norm(("post_attention_layernorm", ""), hidden, eps)?, ffn),
        ])
    })?;
    let norm = body.layer_norm(("norm", ""), hidden, eps)?;
    let head = Head::load(p, norm, &tokens, c.flag("tie_word_embeddings")?)?.with_bias(p, c.flag("lm_head_bias")?)?;
    Ok(Box::new(Decoder { embedding: Embedding::new(tokens), layers, head }))
}
