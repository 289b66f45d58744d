//! Nemotron: layer norms whose factor is `1 + w`, a part of each head rotates, squared ReLU (arXiv 2402.16819).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Rotary, RotaryDims, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "nemotron",
    title: "Nemotron",
    gguf: Some(("nemotron", always)),
    defaults: r#"{"vocab_size": 256000, "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 32,
        "num_attention_heads": 48, "head_dim": 128, "hidden_act": "relu2", "max_position_embeddings": 4096,
        "norm_eps": 1e-05, "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
        "rope_theta": 10000.0, "partial_rotary_factor": 0.5}"#,
    gguf_keys: Some(|keys| {
        if let Some(eps) = keys.get("layer_norm_eps").cloned() {
            keys.insert("norm_eps".into(), eps);
        }
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let sizes = (c.hidden_size()?, c.size("intermediate_size")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let (act, mlp_bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    let kind = NormKind::LayerOnePlus { eps: c.eps("norm_eps")? };
    let decoder = Decoder::build(
        c,
        p,
        &Tree { kind, ..Tree::pre_norm(c)? },
        |p, _| Gqa::boxed(p, &gqa, sizes.0, Some(rotary)),
        |p, _| plain_mlp(p, ("up_proj", "down_proj"), sizes, mlp_bias, act),
    )?;
    Ok(Box::new(decoder))
}
