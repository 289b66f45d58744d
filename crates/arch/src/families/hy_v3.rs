//! Hunyuan 3: Qwen 3's attention, DeepSeek-V3's experts without groups.
use super::{Family, qwen3};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, GqaConfig, Rotary, RotaryDims, deepseek_ffn},
};

pub(super) const FAMILY: Family = Family {
    model_type: "hy_v3",
    title: "Hunyuan 3",
    defaults: r#"{"vocab_size": 120832, "hidden_size": 4096, "intermediate_size": 13312, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
        "attention_bias": false, "mlp_bias": false, "num_experts": 192, "num_experts_per_tok": 8,
        "n_shared_experts": 1, "moe_intermediate_size": 1536, "routed_scaling_factor": 2.826, "norm_topk_prob": true,
        "first_k_dense_replace": 1, "rope_theta": 11158840.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let mixer = |p: &Params<'_>, _| qwen3::attention(p, &gqa, hidden, eps, rotary);
    Ok(Box::new(Decoder::pre_norm(c, p, mixer, |p, layer| deepseek_ffn(c, p, layer))?))
}
