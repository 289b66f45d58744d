//! K-EXAONE: layers with windows rotate, the others do not; DeepSeek-V3's experts.
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, deepseek_ffn},
};

pub(super) const FAMILY: Family = Family {
    model_type: "exaone_moe",
    title: "K-EXAONE",
    defaults: r#"{"vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "sliding_window": 4096, "sliding_window_pattern": 4,
        "first_k_dense_replace": 1, "moe_intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8,
        "n_shared_experts": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.5, "n_group": 1, "topk_group": 1}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, gqa) = (c.hidden_size()?, c.eps("rms_norm_eps")?, GqaConfig::read(c)?);
    let window = c.size_opt("sliding_window")?;
    let listed = c.get("layer_types").is_some() || window.is_none();
    let every = if listed { 1 } else { c.size("sliding_window_pattern")? };
    let windows = c.windows(window, |layer| (layer + 1) % every != 0)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, layer| {
            let q = p.rms(("q_norm", ""), gqa.head_dim, eps, false)?;
            let k = p.rms(("k_norm", ""), gqa.head_dim, eps, false)?;
            // Without windows all layers rotate.
            let rotary = Some(rotary).filter(|_| window.is_none() || windows[layer].is_some());
            Ok(Gqa::load(p, &GqaConfig { window: windows[layer], ..gqa }, hidden, rotary)?.with_qk_norm(q, k))
        },
        |p, layer| deepseek_ffn(c, p, layer),
    )?;
    Ok(Box::new(decoder))
}
