//! Qwen 3: Llama's block with norms of each head's queries and keys (arXiv 2505.09388).
use super::{Family, always, qwen2::windows};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Mlp, Rotary, RotaryDims, gated},
};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    title: "Qwen3",
    gguf: Some(("qwen3", always)),
    defaults: r#"{"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": false, "attention_bias": false,
        "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28}"#,
    load,
    ..Family::BASE
};

/// Attention of Qwen 3, dense and sparse.
pub(super) fn attention(p: &Params<'_>, gqa: &GqaConfig, hidden: usize, eps: f32, rotary: Rotary) -> Result<Gqa> {
    let q = p.rms(("q_norm", "attn_q_norm"), gqa.head_dim, eps, false)?;
    let k = p.rms(("k_norm", "attn_k_norm"), gqa.head_dim, eps, false)?;
    Ok(Gqa::load(p, gqa, hidden, Some(rotary))?.with_qk_norm(q, k))
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("rms_norm_eps")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let windows = windows(c)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, layer| attention(p, &GqaConfig { window: windows[layer], ..gqa }, hidden, eps, rotary),
        |p, _| Ok(Box::new(Mlp(gated(p, hidden, inner, false, act)?))),
    )?;
    Ok(Box::new(decoder))
}
