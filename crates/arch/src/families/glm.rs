//! GLM-Edge and the first GLM-4: half of each head rotates in pairs of neighbours, gate and up in one matrix.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, fused_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "glm",
    title: "GLM-Edge",
    gguf: Some(("chatglm", always)),
    defaults: r#"{"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-07, "tie_word_embeddings": false,
        "attention_bias": true, "rope_theta": 10000.0, "partial_rotary_factor": 0.5}"#,
    load,
    ..Family::BASE
};

/// With another tree of norms: GLM-4's.
pub(super) fn load_with(c: &Config, p: &Params<'_>, tree: &Tree<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let gqa = GqaConfig { qkv_bias: c.flag("attention_bias")?, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, true)?, "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        tree,
        |p, _| Gqa::boxed(p, &gqa, hidden, Some(rotary)),
        |p, _| fused_mlp(p, hidden, inner, act),
    )?;
    Ok(Box::new(decoder))
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    load_with(c, p, &Tree::pre_norm(c)?)
}
