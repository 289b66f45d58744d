//! Gemma: Llama's block with scaled embeddings, norms whose factor is `1 + w` and a gate of GELU (arXiv 2403.08295).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "gemma",
    title: "Gemma",
    gguf: Some(("gemma", always)),
    defaults: r#"{"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": true,
        "attention_bias": false}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    c.never("use_bidirectional_attention")?;
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    // The first configurations said "gelu" and meant its approximation.
    let act = match c.activation("hidden_act")? {
        pondera_ops::Activation::GeluErf => pondera_ops::Activation::GeluTanh,
        act => act,
    };
    let tree = Tree::pre_norm(c)?.one_plus();
    let mut decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Gqa::boxed(p, &gqa, hidden, Some(rotary)),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    decoder.embedding.scale = (hidden as f32).sqrt();
    Ok(Box::new(decoder))
}
