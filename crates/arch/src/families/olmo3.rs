//! OLMo 3: OLMo 2 with windows in three of four layers.
use super::{Family, olmo2};

pub(super) const FAMILY: Family = Family {
    model_type: "olmo3",
    title: "OLMo 3",
    gguf: Some(("olmo2", |keys| keys.get("sliding_window").is_some())),
    defaults: r#"{"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "tie_word_embeddings": false, "attention_bias": false, "rms_norm_eps": 1e-05, "sliding_window": 4096,
        "rope_theta": 500000.0}"#,
    load: olmo2::load,
    ..Family::BASE
};
