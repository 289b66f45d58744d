//! EXAONE 4: norms after each branch, windows in three of four layers, positions only there (arXiv 2507.11407).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "exaone4",
    title: "EXAONE 4",
    gguf: Some(("exaone4", always)),
    defaults: r#"{"vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "sliding_window": 4096, "sliding_window_pattern": 4,
        "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("rms_norm_eps")?);
    let gqa = GqaConfig::read(c)?;
    let window = c.size_opt("sliding_window")?;
    let every = c.count("sliding_window_pattern")?;
    let windows = c.windows(window, |i| window.is_some() && every > 0 && (i + 1) % every != 0)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        &Tree::post_norm(c)?,
        |p, i| {
            let gqa = GqaConfig { window: windows[i], ..gqa };
            let q = p.rms(("q_norm", "attn_q_norm"), gqa.head_dim, eps, false)?;
            let k = p.rms(("k_norm", "attn_k_norm"), gqa.head_dim, eps, false)?;
            // A model without windows has positions everywhere.
            let rotary = (window.is_none() || windows[i].is_some()).then_some(rotary);
            Ok(Box::new(Gqa::load(p, &gqa, hidden, rotary)?.with_qk_norm(q, k)))
        },
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    Ok(Box::new(decoder))
}
