//! Llama 4: chunks of positions in layers that rotate, none and queries that grow with the position in the others, norms
//! without weights after the rotation, experts whose weights act on what goes in (the model card of Llama 4).
use super::{Family, always};
use crate::{
    Config, Graph, Params, PositionFactor, Result,
    blocks::{
        Block, Decoder, Gqa, GqaConfig, InputScaled, Mlp, Moe, MoeConfig, QkNorm, Rotary, RotaryDims, SharedExpert,
        gated,
    },
    params::Layout::Transposed,
};
use pondera_ops::{Mask, Norm, Route, Score};
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_type: "llama4_text",
    title: "Llama 4",
    gguf: Some(("llama4", always)),
    defaults: r#"{"vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
        "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
        "num_experts_per_tok": 1, "num_experts": 16, "interleave_moe_layer_step": 1, "use_qk_norm": true,
        "no_rope_layer_interval": 4, "attention_chunk_size": 8192, "attn_temperature_tuning": true,
        "floor_scale": 8192, "attn_scale": 0.1, "attention_bias": false, "rope_theta": 500000.0}"#,
    // Chunks, growth and norms are not in the files: they are those of the published models, of which the one with 128
    // experts has no norms.
    gguf_keys: Some(|keys| {
        let moved = [
            ("intermediate_size_mlp", "intermediate_size"),
            ("intermediate_size", "moe_intermediate_size"),
            ("interleave_moe_layer_step", "decoder_sparse_step"),
        ];
        for (ours, theirs) in moved {
            if let Some(v) = keys.get(theirs).cloned() {
                keys.insert(ours.into(), v);
            }
        }
        let normed = keys.get("num_experts").and_then(Value::as_u64) != Some(128);
        keys.insert("use_qk_norm".into(), normed.into());
    }),
    load,
    ..Family::BASE
};

/// The growth of queries in layers that do not rotate; early configurations say 4 for yes.
fn growth(c: &Config, p: &Params<'_>) -> Result<Option<usize>> {
    let wanted = match c.get("attn_temperature_tuning") {
        Some(Value::Number(n)) => n.as_f64() != Some(0.0),
        _ => c.flag("attn_temperature_tuning")?,
    };
    if !wanted {
        return Ok(None);
    }
    let (beta, floor) = (c.number("attn_scale")?, f64::from(c.positive("floor_scale")?));
    Ok(Some(p.position_factor(PositionFactor::Log { beta, floor, ahead: 1.0 })))
}

/// Layers with experts: those listed, or every so many.
fn sparse_layers(c: &Config) -> Result<Vec<bool>> {
    let (layers, listed) = (c.num_hidden_layers()?, c.sizes("moe_layers")?);
    let step = c.count("interleave_moe_layer_step")?;
    let every = |i: usize| step > 0 && (i + 1).is_multiple_of(step);
    let given = c.get("moe_layers").is_some();
    Ok((0..layers).map(|i| if given { listed.contains(&i) } else { every(i) }).collect())
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    let (act, normed, chunk) =
        (c.activation("hidden_act")?, c.flag("use_qk_norm")?, c.size_opt("attention_chunk_size")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let (rotated, sparse, growth) = (c.rotated_layers()?, sparse_layers(c)?, growth(c, p)?);
    let types = c.words_of_layers("layer_types", &["full_attention", "chunked_attention"])?;
    let chunked = |i: usize| types.as_ref().map_or(rotated[i], |types| types[i] == "chunked_attention");
    // GGUF's converter leaves rows as they are.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, true), "full_attention")?;
    let norm = Norm::Rms { weight: None, eps, one_plus: false };
    let moe = MoeConfig { router: "router", layout: Transposed, ..MoeConfig::read(c, "intermediate_size")? };
    let route = Route { score: Score::Sigmoid, renormalize: None, ..moe.route };
    let moe = MoeConfig { route, ..moe };
    let decoder = Decoder::pre_norm_at(
        c,
        p,
        ("self_attn", "feed_forward"),
        |p, i| {
            let gqa = GqaConfig { window: chunk.filter(|_| chunked(i)), ..gqa };
            let mut attention = Gqa::load(p, &gqa, hidden, Some(rotary).filter(|_| rotated[i]))?;
            attention.attention.mask = gqa.window.map_or(Mask::Causal, Mask::Chunk);
            attention.temperature = growth.filter(|_| !rotated[i]);
            let norms = [norm.clone(), norm.clone()];
            attention.qk_norm = (normed && rotated[i]).then_some(QkNorm { norms, whole: false, after: true });
            Ok(attention)
        },
        |p, i| {
            if !sparse[i] {
                let inner = c.size("intermediate_size_mlp")?;
                return Ok(Box::new(Mlp(gated(p, hidden, inner, false, act)?)) as Box<dyn Block>);
            }
            let shared = SharedExpert::load(p, "shared_expert", (hidden, moe.inner), false, act)?;
            let moe = Moe { shared: Some(shared), ..Moe::load(p, &moe, i, hidden)? };
            Ok(Box::new(InputScaled::new(moe)))
        },
    )?;
    Ok(Box::new(decoder))
}
