//! GLM-4.5 to 4.7: grouped queries, rotary on a part of each head, DeepSeek-V3's experts (arXiv 2508.06471).
use super::{Family, always, deepseek_routing_keys, qwen3};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, deepseek_ffn},
};

pub(super) const FAMILY: Family = Family {
    model_type: "glm4_moe",
    title: "GLM-4.5, 4.6, 4.7",
    gguf: Some(("glm4moe", always)),
    defaults: r#"{"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944, "num_hidden_layers": 46,
        "num_attention_heads": 96, "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "attention_bias": false, "moe_intermediate_size": 1408,
        "num_experts_per_tok": 8, "n_shared_experts": 1, "num_experts": 128, "routed_scaling_factor": 1.0,
        "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "norm_topk_prob": true, "use_qk_norm": false,
        "partial_rotary_factor": 0.5}"#,
    gguf_keys: Some(deepseek_routing_keys),
    load,
    ..Family::BASE
};

pub(super) fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    let gqa = GqaConfig { qkv_bias: c.flag("attention_bias")?, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let normed = c.flag("use_qk_norm")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        // GGUF files say so by having the norms.
        |p, _| match if p.is_gguf() { p.has(("", "attn_q_norm.weight")) } else { normed } {
            true => qwen3::attention(p, &gqa, hidden, eps, rotary),
            false => Gqa::load(p, &gqa, hidden, Some(rotary)),
        },
        |p, layer| deepseek_ffn(c, p, layer),
    )?;
    Ok(Box::new(decoder))
}
