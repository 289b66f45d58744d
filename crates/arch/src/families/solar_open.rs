//! Solar Open: GLM 4.5's block with experts in all layers.
use super::{Family, glm4_moe::load};

pub(super) const FAMILY: Family = Family {
    model_type: "solar_open",
    title: "Solar Open",
    defaults: r#"{"vocab_size": 196608, "hidden_size": 4096, "num_hidden_layers": 48, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "attention_bias": false, "moe_intermediate_size": 1280,
        "num_experts_per_tok": 8, "n_shared_experts": 1, "num_experts": 128, "routed_scaling_factor": 1.0,
        "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "use_qk_norm": false, "rope_theta": 1000000.0}"#,
    load,
    ..Family::BASE
};
