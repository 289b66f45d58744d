//! dots.llm1: Qwen 3's attention with windows from some layer on, DeepSeek-V3's experts (arXiv 2506.05767).
use super::{Family, always, deepseek_routing_keys, qwen3};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, GqaConfig, Rotary, RotaryDims, deepseek_ffn},
};

pub(super) const FAMILY: Family = Family {
    model_type: "dots1",
    title: "dots.llm1",
    gguf: Some(("dots1", always)),
    defaults: r#"{"vocab_size": 152064, "hidden_size": 4608, "intermediate_size": 10944, "moe_intermediate_size": 1408,
        "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 32, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 0, "norm_topk_prob": false, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "attention_bias": false, "routed_scaling_factor": 1.0,
        "sliding_window": 4096, "max_window_layers": 62}"#,
    gguf_keys: Some(deepseek_routing_keys),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let (window, first) = (c.size_opt("sliding_window")?, c.count("max_window_layers")?);
    let windows = c.windows(window, |layer| window.is_some() && layer >= first)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, layer| qwen3::attention(p, &GqaConfig { window: windows[layer], ..gqa }, hidden, eps, rotary),
        |p, layer| deepseek_ffn(c, p, layer),
    )?;
    Ok(Box::new(decoder))
}
