//! DeepSeek-V3 and R1: latent attention, experts by sigmoid with a bias that balances them, chosen from the best
//! groups (arXiv 2412.19437).
use super::{
    Family,
    deepseek_v2::{gguf_keys, is_v3, q_lora_rank},
};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Mla, MlaConfig, Rotary, RotaryDims, attention_mscale, deepseek_ffn},
};

pub(super) const FAMILY: Family = Family {
    model_type: "deepseek_v3",
    title: "DeepSeek-V3, R1",
    gguf: Some(("deepseek2", is_v3)),
    defaults: r#"{"vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
        "num_hidden_layers": 61, "num_attention_heads": 128, "n_shared_experts": 1, "num_experts": 256,
        "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "qk_nope_head_dim": 128, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
        "norm_topk_prob": true, "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "rope_interleave": true, "attention_bias": false, "moe_layer_freq": 1,
        "scoring_func": "sigmoid", "topk_method": "noaux_tc"}"#,
    gguf_keys: Some(|keys| {
        gguf_keys(keys);
        keys.insert("topk_method".into(), "noaux_tc".into());
        // One group of all experts where the file names none.
        keys.entry("n_group").or_insert(1.into());
        keys.entry("topk_group").or_insert(1.into());
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    // The norms of the latents have an epsilon of their own, whatever rms_norm_eps says.
    let mut mla = MlaConfig { q_lora_rank: q_lora_rank(c, Some(1536))?, ..MlaConfig::read(c, 1e-6)? };
    mla.scale = (f64::from(mla.scale) * attention_mscale(c)?) as f32;
    // GGUF's converter leaves rows as they are.
    let dims = RotaryDims::whole(mla.qk_rope_head_dim, c.flag("rope_interleave")?);
    let rotary = Rotary::load(p, c, dims, "full_attention")?;
    let decoder = Decoder::pre_norm(c, p, |p, _| Mla::load(p, &mla, rotary), |p, i| deepseek_ffn(c, p, i))?;
    Ok(Box::new(decoder))
}
