//! ERNIE 4.5: Llama's block with pairs of neighbours rotated and one switch for all biases.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "ernie4_5",
    title: "ERNIE 4.5",
    gguf: Some(("ernie4_5", always)),
    defaults: r#"{"vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18,
        "num_attention_heads": 16, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": true, "use_bias": false, "head_dim": 128,
        "rope_theta": 500000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, bias) = (c.hidden_size()?, c.size("intermediate_size")?, c.flag("use_bias")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, true), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Gqa::boxed(p, &gqa, hidden, Some(rotary)),
        |p, _| gated_mlp(p, hidden, inner, bias, act),
    )?;
    Ok(Box::new(decoder))
}
