//! MiMo-V2-Flash: values narrower than keys, twice the key/value heads and sinks in layers with windows, rotary on a third
//! of each head with a base per kind of layer, DeepSeek-V3's experts.
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Block, Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Scaled, deepseek_ffn},
};

pub(super) const FAMILY: Family = Family {
    model_type: "mimo_v2_flash",
    title: "MiMo-V2-Flash",
    defaults: r#"{"vocab_size": 152576, "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 48,
        "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
        "attention_bias": false, "moe_intermediate_size": 2048, "num_experts_per_tok": 8, "num_experts": 256,
        "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "norm_topk_prob": true,
        "first_k_dense_replace": 1, "sliding_window": 129, "attention_value_scale": 0.707,
        "partial_rotary_factor": 0.334, "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 5000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}"#,
    load,
    ..Family::BASE
};

/// Attention of a layer, with a window or without.
fn attention(c: &Config, p: &Params<'_>, window: Option<usize>) -> Result<Gqa> {
    let mut gqa = GqaConfig { qkv_bias: c.flag("attention_bias")?, window, ..GqaConfig::read(c)? };
    gqa.v_head_dim = Some(c.size("v_head_dim")?);
    let layer_type = if window.is_some() { "sliding_attention" } else { "full_attention" };
    let dims = RotaryDims::partial_of(c, gqa.head_dim, false, layer_type)?;
    let rotary = Rotary::load(p, c, dims, layer_type)?;
    if window.is_none() {
        return Gqa::load(p, &gqa, c.hidden_size()?, Some(rotary));
    }
    gqa.kv_heads *= 2;
    let sinks = p.vector(("attention_sink_bias|sinks", ""), gqa.heads)?;
    Ok(Gqa::load(p, &gqa, c.hidden_size()?, Some(rotary))?.with_sinks(sinks))
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    // Published configurations count the positions before the query's own.
    let window = match c.size_opt("sliding_window_size")? {
        Some(n) => Some(n + 1),
        None => c.size_opt("sliding_window")?,
    };
    let windows = c.windows(window, |layer| layer != 0 && (layer + 1) % 6 != 0)?;
    let (heads, kv_heads, _) = c.heads()?;
    if heads % (2 * kv_heads) != 0 && windows.iter().any(Option::is_some) {
        return Err(c.bad("num_key_value_heads", format!("expected half a divisor of num_attention_heads = {heads}")));
    }
    let scale = c.positive_opt("attention_value_scale")?.unwrap_or(1.0);
    let decoder = Decoder::pre_norm(
        c,
        p,
        // Scaling what a layer's values become is scaling them.
        |p, layer| Ok(Scaled { body: Box::new(attention(c, p, windows[layer])?) as Box<dyn Block>, scale }),
        |p, layer| deepseek_ffn(c, p, layer),
    )?;
    Ok(Box::new(decoder))
}
