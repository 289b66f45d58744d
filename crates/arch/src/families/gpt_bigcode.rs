//! GPT-BigCode: GPT-2 with one key/value head for all queries (arXiv 2301.03988).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_bigcode",
    title: "StarCoder, SantaCoder",
    gguf: Some(("starcoder", always)),
    defaults: r#"{"vocab_size": 50257, "max_position_embeddings": 1024, "hidden_size": 768,
        "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-05, "scale_attn_weights": true, "multi_query": true, "add_cross_attention": false,
        "tie_word_embeddings": true}"#,
    base: "transformer",
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let sizes = (hidden, c.size_opt("intermediate_size")?.unwrap_or(hidden.saturating_mul(4)));
    c.never("add_cross_attention")?;
    let mut gqa = GqaConfig { qkv_bias: true, o_bias: true, ..GqaConfig::read(c)? };
    let multi_query = c.flag("multi_query")?;
    gqa.kv_heads = if multi_query { 1 } else { gqa.heads };
    if !c.flag("scale_attn_weights")? {
        gqa.scale = 1.0;
    }
    let act = c.activation("hidden_act")?;
    let tree = Tree {
        tokens: ("wte", "token_embd"),
        layers: "h",
        mixer: "attn",
        kind: NormKind::Layer { eps: c.eps("layer_norm_eps")?, weight: true, bias: true },
        pre: [Some(("ln_1", "attn_norm")), Some(("ln_2", "ffn_norm"))],
        norm: Some(("ln_f", "output_norm")),
        ..Tree::pre_norm(c)?
    };
    // With a key/value head for each query head, all three of a head lie together.
    let groups = if multi_query { 1 } else { gqa.heads };
    let mut decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(Gqa::fused(p, &gqa, (hidden, groups), ("c_attn", "c_proj"), None)?)),
        |p, _| plain_mlp(p, ("c_fc", "c_proj"), sizes, true, act),
    )?;
    decoder.embedding.positions = Some((p.body().weight(("wpe", "position_embd"), c.max_positions()?, hidden)?, 0));
    Ok(Box::new(decoder))
}
