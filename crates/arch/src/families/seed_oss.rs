//! Seed-OSS: Llama's block with biases of queries, keys and values.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "seed_oss",
    title: "Seed-OSS",
    gguf: Some(("seed_oss", always)),
    defaults: r#"{"vocab_size": 155136, "hidden_size": 4096, "intermediate_size": 27648, "num_hidden_layers": 64,
        "num_attention_heads": 80, "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 524288,
        "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "attention_bias": true, "attention_out_bias": false,
        "mlp_bias": false, "head_dim": 128, "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let (qkv_bias, o_bias) = (c.flag("attention_bias")?, c.flag("attention_out_bias")?);
    let gqa = GqaConfig { qkv_bias, o_bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let (act, mlp_bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Gqa::boxed(p, &gqa, hidden, Some(rotary)),
        |p, _| gated_mlp(p, hidden, inner, mlp_bias, act),
    )?;
    Ok(Box::new(decoder))
}
