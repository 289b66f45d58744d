//! Published shapes as configurations, so that a model can be measured before it is downloaded.
use crate::{Config, Error, Result};
use serde_json::Value;

/// One row of [`SHAPES`].
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What users type.
    pub name: &'static str,
    /// Its published configuration.
    pub config: &'static str,
}

/// All shapes, by name.
pub static SHAPES: &[Shape] = &[
    Shape {
        name: "deepseek-v2-lite",
        config: r#"{"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 10944,
            "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
            "n_shared_experts": 2, "n_routed_experts": 64, "num_experts_per_tok": 6, "routed_scaling_factor": 1.0,
            "kv_lora_rank": 512, "q_lora_rank": null, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
            "topk_method": "greedy", "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "norm_topk_prob": false,
            "max_position_embeddings": 163840, "rope_theta": 10000,
            "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707,
                "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096}}"#,
    },
    Shape {
        name: "llama-3.1-8b",
        config: r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131072, "rope_theta": 500000,
            "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                "original_max_position_embeddings": 8192}}"#,
    },
    Shape {
        name: "llama-3.2-1b",
        config: r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
            "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "max_position_embeddings": 131072, "rope_theta": 500000,
            "rope_scaling": {"rope_type": "llama3", "factor": 32, "low_freq_factor": 1, "high_freq_factor": 4,
                "original_max_position_embeddings": 8192}}"#,
    },
    Shape {
        name: "mistral-7b",
        config: r#"{"model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 32768, "sliding_window": 4096, "rope_theta": 10000}"#,
    },
    Shape {
        name: "mixtral-8x7b",
        config: r#"{"model_type": "mixtral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
            "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 32768, "rope_theta": 1000000}"#,
    },
    Shape {
        name: "qwen3-0.6b",
        config: r#"{"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
            "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "max_position_embeddings": 40960, "rope_theta": 1000000}"#,
    },
    Shape {
        name: "qwen3-30b-a3b",
        config: r#"{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
            "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
            "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 40960, "rope_theta": 1000000}"#,
    },
];

/// Whether the medium mixes of llama.cpp's quantizer give a layer's values and down projections more bits: in its first
/// and last eighth of the layers, and in every third between.
pub fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

impl Shape {
    /// The shape of this name; an unknown one is an error that lists all.
    pub fn find(name: &str) -> Result<&'static Shape> {
        SHAPES.iter().find(|s| s.name == name).ok_or_else(|| {
            let names: Vec<_> = SHAPES.iter().map(|s| s.name).collect();
            Error::unsupported("shape", format!("{} is not a known shape", crate::error::shortened(name)))
                .hint(format!("known: {}", names.join(", ")))
        })
    }

    /// The configuration of the shape of this name, or of the family of this model type.
    pub fn config_of(name: &str, layers: Option<usize>) -> Result<Config> {
        let Some(family) = crate::families::find(name).filter(|_| !SHAPES.iter().any(|s| s.name == name)) else {
            return Shape::find(name)?.config(layers);
        };
        let config = family.example()?;
        layers.map_or(Ok(config.clone()), |n| config.with_layers(n))
    }

    /// Its configuration, with another number of layers if asked.
    pub fn config(&self, layers: Option<usize>) -> Result<Config> {
        let value: Value = serde_json::from_str(self.config)
            .map_err(|e| Error::config(self.name, format!("its table is broken: {e}")))?;
        let config = Config::from_value(&value)?;
        match layers {
            Some(n) => config.with_layers(n),
            None => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, Source};

    #[test]
    fn published_parameter_counts() {
        // Billions, total and active, as the model cards round them.
        let cards = [
            ("deepseek-v2-lite", 15.7, 2.66),
            ("llama-3.1-8b", 8.03, 8.03),
            ("llama-3.2-1b", 1.24, 1.24),
            ("mistral-7b", 7.24, 7.24),
            ("mixtral-8x7b", 46.7, 12.9),
            ("qwen3-0.6b", 0.6, 0.6),
            ("qwen3-30b-a3b", 30.5, 3.35),
        ];
        assert_eq!(SHAPES.iter().map(|s| s.name).collect::<Vec<_>>(), cards.map(|c| c.0));
        for (name, total, active) in cards {
            let config = Shape::find(name).and_then(|s| s.config(None)).unwrap();
            let model = Model::load(&config, &Source::Describe).unwrap();
            let d = model.description();
            let near = |got: u64, want: f64| (got as f64 / 1e9 - want).abs() / want < 0.01;
            assert!(near(d.parameters_total, total), "{name}: {} total", d.parameters_total);
            assert!(near(d.parameters_active, active), "{name}: {} active", d.parameters_active);
        }
    }

    #[test]
    fn layers_can_be_cut() {
        let config = Shape::find("qwen3-30b-a3b").and_then(|s| s.config(Some(2))).unwrap();
        assert_eq!(Model::load(&config, &Source::Describe).unwrap().caches().len(), 2);
    }
}
