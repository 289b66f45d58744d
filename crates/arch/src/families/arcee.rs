//! Arcee: Llama's block with a plain feed-forward part of squared ReLU.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "arcee",
    title: "Arcee AFM",
    gguf: Some(("arcee", always)),
    defaults: r#"{"vocab_size": 32000, "hidden_size": 2560, "intermediate_size": 18432, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "relu2", "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
        "rope_theta": 10000.0}"#,
    // Its files do not say it.
    gguf_keys: Some(|keys| drop(keys.insert("hidden_act".into(), "relu2".into()))),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let sizes = (c.hidden_size()?, c.size("intermediate_size")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let (act, mlp_bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Gqa::boxed(p, &gqa, sizes.0, Some(rotary)),
        |p, _| plain_mlp(p, ("up_proj", "down_proj"), sizes, mlp_bias, act),
    )?;
    Ok(Box::new(decoder))
}
