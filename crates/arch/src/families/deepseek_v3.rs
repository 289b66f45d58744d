//! DeepSeek-V3 and R1: latent attention, experts by sigmoid with a bias that balances them, chosen from the best
//! groups (arXiv 2412.19437).
use super::{
    Family,
    deepseek_v2::{gguf_keys, is_sparse, is_v3, q_lora_rank, shared},
};
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, Decoder, ExpertNames, Mla, MlaConfig, Mlp, Moe, Rotary, RotaryDims, attention_mscale, experts, gated,
    },
};
use pondera_ops::{GroupScore, Route, Score};

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
    let (hidden, inner) = (c.hidden_size()?, c.size("moe_intermediate_size")?);
    let act = c.activation("hidden_act")?;
    c.only("scoring_func", &["sigmoid"])?;
    c.only("topk_method", &["noaux_tc"])?;
    // The norms of the latents have an epsilon of their own, whatever rms_norm_eps says.
    let mut mla = MlaConfig { q_lora_rank: q_lora_rank(c, Some(1536))?, ..MlaConfig::read(c, 1e-6)? };
    mla.scale = (f64::from(mla.scale) * attention_mscale(c)?) as f32;
    // GGUF's converter leaves rows as they are.
    let dims = RotaryDims::whole(mla.qk_rope_head_dim, c.flag("rope_interleave")?);
    let rotary = Rotary::load(p, c, dims, "full_attention")?;

    let (count, top_k) = c.experts_needed()?;
    let groups = Some((c.size("n_group")?, c.size("topk_group")?, GroupScore::TopTwo)).filter(|g| g.0 > 1);
    c.check_groups(count, top_k, groups)?;
    let renormalize = c.flag("norm_topk_prob")?.then_some(1e-20);
    let scale = c.positive("routed_scaling_factor")?;

    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| Mla::load(p, &mla, rotary),
        |p, layer| {
            if !is_sparse(c, layer)? {
                return Ok(Box::new(Mlp(gated(p, hidden, c.size("intermediate_size")?, false, act)?)) as Box<dyn Block>);
            }
            let bias = p.vector(("gate.e_score_correction_bias", "exp_probs_b.bias"), count)?;
            Ok(Box::new(Moe {
                layer,
                router: p.linear(("gate", "ffn_gate_inp"), count, hidden, false)?,
                route: Route { top_k, score: Score::Sigmoid, bias: Some(bias), groups, renormalize, scale },
                experts: experts(p, ExpertNames::USUAL, (count, top_k), inner, hidden, act)?,
                shared: shared(c, p, hidden, inner, false)?,
            }))
        },
    )?;
    Ok(Box::new(decoder))
}
