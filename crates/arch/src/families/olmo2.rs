//! OLMo 2: norms after each branch, and of whole queries and keys (arXiv 2501.00656).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, QkNorm, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "olmo2",
    title: "OLMo 2",
    gguf: Some(("olmo2", |keys| keys.get("sliding_window").is_none())),
    defaults: r#"{"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "tie_word_embeddings": false, "attention_bias": false, "rms_norm_eps": 1e-05, "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

/// OLMo 3's layers also have windows, and ropes by their kind.
pub(super) fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("rms_norm_eps")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let windows =
        c.windows(c.size_opt("sliding_window")?, |i| c.get("sliding_window").is_some() && (i + 1) % 4 != 0)?;
    let dims = RotaryDims::whole(gqa.head_dim, false);
    let full = Rotary::load(p, c, dims, "full_attention")?;
    let sliding = if windows.iter().any(Option::is_some) { Rotary::sliding(p, c, dims)? } else { full };
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        &Tree::post_norm(c)?,
        |p, i| {
            let gqa = GqaConfig { window: windows[i], ..gqa };
            let rotary = if windows[i].is_some() { sliding } else { full };
            let norms = [
                p.rms(("q_norm", "attn_q_norm"), gqa.heads * gqa.head_dim, eps, false)?,
                p.rms(("k_norm", "attn_k_norm"), gqa.kv_heads * gqa.head_dim, eps, false)?,
            ];
            let qk_norm = Some(QkNorm { norms, whole: true, after: false });
            Ok(Box::new(Gqa { qk_norm, ..Gqa::load(p, &gqa, hidden, Some(rotary))? }))
        },
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    Ok(Box::new(decoder))
}
