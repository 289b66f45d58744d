//! Phi 3 to 4: Llama's block with fused matrices; long contexts by LongRoPE (arXiv 2404.14219, 2402.13753).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, fused_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "phi3",
    title: "Phi 3, 3.5, 4",
    gguf: Some(("phi3", always)),
    defaults: r#"{"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let window = c.size_opt("sliding_window")?;
    let gqa = GqaConfig { window, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Ok(Box::new(Gqa::fused(p, &gqa, (hidden, 1), ("qkv_proj", "o_proj"), Some(rotary))?)),
        |p, _| fused_mlp(p, hidden, inner, act),
    )?;
    Ok(Box::new(decoder))
}
