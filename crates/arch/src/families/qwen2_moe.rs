//! Qwen1.5-MoE and Qwen2-MoE: experts beside one that all tokens share behind a gate.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Block, Decoder, ExpertNames, Gqa, GqaConfig, Mlp, Moe, Rotary, RotaryDims, SharedExpert, experts, gated},
};
use pondera_ops::{Route, Score};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen2_moe",
    title: "Qwen2-MoE",
    gguf: Some(("qwen2moe", always)),
    defaults: r#"{"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
        "num_attention_heads": 16, "num_key_value_heads": 16, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "tie_word_embeddings": false, "use_sliding_window": false, "sliding_window": 4096,
        "max_window_layers": 28, "decoder_sparse_step": 1, "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4, "num_experts": 60, "norm_topk_prob": false,
        "mlp_only_layers": [], "qkv_bias": true}"#,
    load,
    ..Family::BASE
};

/// Whether a layer has experts: every `decoder_sparse_step`-th but those in `mlp_only_layers`.
pub(super) fn is_sparse(c: &Config, layer: usize) -> Result<bool> {
    let dense = c.sizes("mlp_only_layers")?.contains(&layer);
    Ok(!dense && c.count("num_experts")? > 0 && (layer + 1).is_multiple_of(c.size("decoder_sparse_step")?))
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let gqa = GqaConfig { qkv_bias: c.flag("qkv_bias")?, ..GqaConfig::read(c)? };
    let window = if c.flag("use_sliding_window")? { c.size_opt("sliding_window")? } else { None };
    // Unlike Qwen2: every other layer below max_window_layers.
    let below = c.count("max_window_layers")?;
    let windows = c.windows(window, |layer| window.is_some() && layer % 2 == 0 && layer < below)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let renormalize = c.flag("norm_topk_prob")?.then_some(0.0);
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, layer| Gqa::load(p, &GqaConfig { window: windows[layer], ..gqa }, hidden, Some(rotary)),
        |p, layer| {
            if !is_sparse(c, layer)? {
                return Ok(Box::new(Mlp(gated(p, hidden, c.size("intermediate_size")?, false, act)?)) as Box<dyn Block>);
            }
            let (count, top_k) = c.experts_needed()?;
            let inner = c.size("moe_intermediate_size")?;
            let wide = c.size("shared_expert_intermediate_size")?;
            let at = p.at(("shared_expert", ""));
            let shared = pondera_ops::Mlp {
                gate: Some(at.linear(("gate_proj", "ffn_gate_shexp"), wide, hidden, false)?),
                up: at.linear(("up_proj", "ffn_up_shexp"), wide, hidden, false)?,
                down: at.linear(("down_proj", "ffn_down_shexp"), hidden, wide, false)?,
                act,
            };
            let gate = p.linear(("shared_expert_gate", "ffn_gate_inp_shexp"), 1, hidden, false)?;
            Ok(Box::new(Moe {
                layer,
                router: p.linear(("gate", "ffn_gate_inp"), count, hidden, false)?,
                route: Route { top_k, score: Score::Softmax, bias: None, groups: None, renormalize, scale: 1.0 },
                experts: experts(p, ExpertNames::USUAL, (count, top_k), inner, hidden, act)?,
                shared: Some(SharedExpert { mlp: shared, gate: Some(gate) }),
            }))
        },
    )?;
    Ok(Box::new(decoder))
}
