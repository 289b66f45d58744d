//! StarCoder 2: layer norms, grouped queries in windows, a plain feed-forward part (arXiv 2402.19173).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Rotary, RotaryDims, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "starcoder2",
    title: "StarCoder 2",
    gguf: Some(("starcoder2", always)),
    defaults: r#"{"vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30,
        "num_attention_heads": 24, "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 4096, "layer_norm_eps": 1e-05, "use_bias": true, "tie_word_embeddings": true,
        "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let sizes = (c.hidden_size()?, c.size("intermediate_size")?);
    let (bias, window) = (c.flag("use_bias")?, c.size_opt("sliding_window")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, window, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let kind = NormKind::Layer { eps: c.eps("layer_norm_eps")?, weight: true, bias: true };
    let decoder = Decoder::build(
        c,
        p,
        &Tree { kind, ..Tree::pre_norm(c)? },
        |p, _| Gqa::boxed(p, &gqa, sizes.0, Some(rotary)),
        |p, _| plain_mlp(p, ("c_fc", "c_proj"), sizes, bias, act),
    )?;
    Ok(Box::new(decoder))
}
