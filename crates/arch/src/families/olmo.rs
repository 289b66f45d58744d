//! OLMo: layer norms without parameters, queries, keys and values that are clipped (arXiv 2402.00838).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "olmo",
    title: "OLMo",
    gguf: Some(("olmo", always)),
    defaults: r#"{"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "tie_word_embeddings": false, "attention_bias": false, "rope_theta": 10000.0}"#,
    gguf_reads: &["clip_qkv"],
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let (bias, clip) = (c.flag("attention_bias")?, c.positive_opt("clip_qkv")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let tree = Tree { kind: NormKind::Layer { eps: 1e-5, weight: false, bias: false }, ..Tree::pre_norm(c)? };
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(Gqa { clip, ..Gqa::load(p, &gqa, hidden, Some(rotary))? })),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    Ok(Box::new(decoder))
}
