//! Falcon: both parts of a layer side by side, few key/value heads; three layouts of norms and matrices, the oldest with
//! biases by distance (arXiv 2311.16867).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Rotary, RotaryDims, Tree, plain_mlp, slopes},
};
use pondera_ops::Weight;

pub(super) const FAMILY: Family = Family {
    model_type: "falcon",
    title: "Falcon",
    gguf: Some(("falcon", always)),
    defaults: r#"{"vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
        "layer_norm_eps": 1e-05, "alibi": false, "new_decoder_architecture": false, "multi_query": true,
        "parallel_attn": true, "bias": false, "max_position_embeddings": 2048, "hidden_act": "gelu",
        "tie_word_embeddings": true, "rope_theta": 10000.0}"#,
    base: "transformer",
    gguf_keys: Some(|keys| {
        let heads = keys.get("num_key_value_heads").and_then(serde_json::Value::as_u64).unwrap_or(1);
        keys.insert("new_decoder_architecture".into(), (heads > 1).into());
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let sizes = (hidden, c.size_opt("intermediate_size")?.unwrap_or(hidden.saturating_mul(4)));
    let (bias, alibi) = (c.flag("bias")?, c.flag("alibi")?);
    let (grouped, multi_query) = (c.flag("new_decoder_architecture")?, c.flag("multi_query")?);
    let read = GqaConfig::read(c)?;
    // What the configuration says of key/value heads counts in the newest layout alone.
    let groups = match (grouped, multi_query) {
        (true, _) => read.kv_heads,
        (false, true) => 1,
        (false, false) => read.heads,
    };
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, kv_heads: groups, ..read };
    let dims = RotaryDims::whole(gqa.head_dim, false);
    let rotary = if alibi { None } else { Some(Rotary::load(p, c, dims, "full_attention")?) };
    let norms = c.size_opt("num_ln_in_parallel_attn")?.unwrap_or(if grouped { 2 } else { 1 });
    let two = if p.is_gguf() { p.has(("", "blk.0.attn_norm_2.weight")) } else { grouped && norms == 2 };
    let parallel = c.flag("parallel_attn")? || grouped;
    let pre = match (parallel, two) {
        (true, true) => [Some(("ln_attn", "attn_norm_2")), Some(("ln_mlp", "attn_norm"))],
        (true, false) => [Some(("input_layernorm", "attn_norm")), None],
        (false, _) => [Some(("input_layernorm", "attn_norm")), Some(("post_attention_layernorm", "ffn_norm"))],
    };
    let tree = Tree {
        tokens: ("word_embeddings", "token_embd"),
        layers: "h",
        mixer: "self_attention",
        kind: NormKind::Layer { eps: c.eps("layer_norm_eps")?, weight: true, bias: true },
        pre,
        parallel,
        norm: Some(("ln_f", "output_norm")),
        ..Tree::pre_norm(c)?
    };
    let attention = |p: &Params<'_>| -> Result<Gqa> {
        let mut attention = Gqa::fused(p, &gqa, (hidden, groups), ("query_key_value", "dense"), rotary)?;
        if alibi {
            // Scores are scaled after the bias has joined them.
            let scaled: Vec<f32> = slopes(gqa.heads).vector().iter().map(|s| s * gqa.scale).collect();
            attention.attention.slopes = Some(Weight::from_f32("alibi slopes", 1, scaled.len(), &scaled));
        }
        Ok(attention)
    };
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(attention(p)?)),
        |p, _| plain_mlp(p, ("dense_h_to_4h", "dense_4h_to_h"), sizes, bias, act),
    )?;
    Ok(Box::new(decoder))
}
