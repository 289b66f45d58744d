//! Qwen 3.5 with experts, whose weights are renormalised always.
use super::{
    Family, always,
    qwen3_5::{delta, inputs},
    qwen3_next::{decoder, gguf_keys, moe},
};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_5_moe",
    title: "Qwen3.5-MoE",
    gguf: Some(("qwen35moe", always)),
    defaults: r#"{"vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16,
        "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "attention_bias": false, "head_dim": 256, "partial_rotary_factor": 0.25,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512, "num_experts_per_tok": 8, "num_experts": 256,
        "full_attention_interval": 4}"#,
    gguf_keys: Some(gguf_keys),
    gguf_reads: &["layers"],
    load: |c, p| decoder(c, p, &delta(c)?, inputs, |p, layer| Ok(Box::new(moe(c, p, layer, true)?))),
    ..Family::BASE
};
