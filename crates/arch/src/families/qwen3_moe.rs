//! Qwen 3 with experts: Qwen 3's attention, experts by softmax, none that all share (arXiv 2505.09388).
use super::{Family, always, qwen2_moe::is_sparse, qwen3::attention};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Block, Decoder, GqaConfig, Mlp, Moe, MoeConfig, Rotary, RotaryDims, gated},
};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_moe",
    title: "Qwen3-MoE",
    gguf: Some(("qwen3moe", always)),
    defaults: r#"{"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "tie_word_embeddings": false, "attention_bias": false, "use_sliding_window": false,
        "sliding_window": 4096, "decoder_sparse_step": 1, "moe_intermediate_size": 768, "num_experts_per_tok": 8,
        "num_experts": 128, "norm_topk_prob": false, "mlp_only_layers": []}"#,
    // llama.cpp renormalises always and stores nothing about it.
    gguf_keys: Some(|keys| {
        keys.entry("norm_topk_prob").or_insert(true.into());
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    let bias = c.flag("attention_bias")?;
    let window = if c.flag("use_sliding_window")? { c.size_opt("sliding_window")? } else { None };
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, window, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| attention(p, &gqa, hidden, eps, rotary),
        |p, layer| {
            if !is_sparse(c, layer)? {
                return Ok(Box::new(Mlp(gated(p, hidden, c.size("intermediate_size")?, false, act)?)) as Box<dyn Block>);
            }
            let moe = MoeConfig::read(c, "moe_intermediate_size")?;
            Ok(Box::new(Moe::load(p, &moe, layer, hidden)?))
        },
    )?;
    Ok(Box::new(decoder))
}
