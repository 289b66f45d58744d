//! Hunyuan dense: Llama's block with norms of queries and keys after they are rotated.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, QkNorm, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "hunyuan_v1_dense",
    title: "Hunyuan dense",
    gguf: Some(("hunyuan-dense", always)),
    defaults: r#"{"vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "attention_bias": false, "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

/// Attention whose queries and keys are normalised after the rotation.
pub(super) fn attention(p: &Params<'_>, g: &GqaConfig, hidden: usize, eps: f32, rotary: Rotary) -> Result<Gqa> {
    let norms = [
        p.rms(("query_layernorm", "attn_q_norm"), g.head_dim, eps, false)?,
        p.rms(("key_layernorm", "attn_k_norm"), g.head_dim, eps, false)?,
    ];
    let qk_norm = Some(QkNorm { norms, whole: false, after: true });
    Ok(Gqa { qk_norm, ..Gqa::load(p, g, hidden, Some(rotary))? })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("rms_norm_eps")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Ok(Box::new(attention(p, &gqa, hidden, eps, rotary)?)),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    Ok(Box::new(decoder))
}
