//! Mistral 4: DeepSeek-V3's latent attention with queries that grow with the position, experts by softmax from the best
//! groups.
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Decoder, Mla, MlaConfig, Rotary, RotaryDims, attention_mscale, deepseek_route, llama4_scaling, routed_ffn,
    },
};
use pondera_ops::{Route, Score};

pub(super) const FAMILY: Family = Family {
    model_type: "mistral4",
    title: "Mistral 4",
    defaults: r#"{"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 2048,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 32, "n_shared_experts": 1,
        "num_experts": 128, "routed_scaling_factor": 1.0, "kv_lora_rank": 256, "q_lora_rank": 1024,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 64, "n_group": 1, "topk_group": 1,
        "num_experts_per_tok": 4, "first_k_dense_replace": 0, "norm_topk_prob": true, "hidden_act": "silu",
        "max_position_embeddings": 1048576, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
        "rope_interleave": true, "attention_bias": false, "rope_parameters": {"rope_type": "yarn",
        "rope_theta": 10000.0, "factor": 128.0, "original_max_position_embeddings": 8192, "beta_fast": 32.0,
        "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1}}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    // The norms of the latents have an epsilon of their own, whatever rms_norm_eps says.
    let mut mla = MlaConfig::read(c, 1e-6)?;
    mla.scale = (f64::from(mla.scale) * attention_mscale(c)?) as f32;
    // partial_rotary_factor counts the rotated columns of a whole head.
    let dims = RotaryDims {
        head_dim: mla.qk_head_dim(),
        dims: mla.qk_rope_head_dim,
        offset: mla.qk_nope_head_dim,
        interleaved: c.flag("rope_interleave")?,
    };
    let rotary = Rotary::load(p, c, dims, "full_attention")?;
    let growth = llama4_scaling(c, p)?;
    c.only("scoring_func", &["softmax"])?;
    let route = Route { score: Score::Softmax, ..deepseek_route(c)? };
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| Ok(Mla::load(p, &mla, rotary)?.with_temperature(growth)),
        |p, layer| routed_ffn(c, p, layer, route.clone()),
    )?;
    Ok(Box::new(decoder))
}
