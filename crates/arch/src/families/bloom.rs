//! BLOOM: biases by distance in place of positions, a norm of the embedding (arXiv 2211.05100, 2108.12409).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Tree, plain_mlp, slopes},
};
use pondera_ops::Activation;

pub(super) const FAMILY: Family = Family {
    model_type: "bloom",
    title: "BLOOM",
    gguf: Some(("bloom", always)),
    defaults: r#"{"vocab_size": 250880, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8,
        "layer_norm_eps": 1e-05, "apply_residual_connection_post_layernorm": false, "tie_word_embeddings": true,
        "max_position_embeddings": 2048}"#,
    base: "transformer",
    // Converters write the width where the configuration names no length: there are no positions to run out of.
    gguf_keys: Some(|keys| {
        let n = keys.get("max_position_embeddings").and_then(serde_json::Value::as_u64).unwrap_or(0);
        keys.insert("max_position_embeddings".into(), n.max(2048).into());
    }),
    gguf_reads: &["max_alibi_bias"],
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("layer_norm_eps")?);
    c.never("apply_residual_connection_post_layernorm")?;
    let sizes = (hidden, hidden.saturating_mul(4));
    let gqa = GqaConfig { qkv_bias: true, o_bias: true, ..GqaConfig::read(c)? };
    let tree = Tree {
        tokens: ("word_embeddings", "token_embd"),
        layers: "h",
        mixer: "self_attention",
        kind: NormKind::Layer { eps, weight: true, bias: true },
        norm: Some(("ln_f", "output_norm")),
        ..Tree::pre_norm(c)?
    };
    let attention = |p: &Params<'_>| -> Result<Gqa> {
        let mut attention = Gqa::fused(p, &gqa, (hidden, gqa.heads), ("query_key_value", "dense"), None)?;
        attention.attention.slopes = Some(slopes(gqa.heads));
        Ok(attention)
    };
    let mut decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(attention(p)?)),
        |p, _| plain_mlp(p, ("dense_h_to_4h", "dense_4h_to_h"), sizes, true, Activation::GeluTanh),
    )?;
    let norm = p.body().layer_norm(("word_embeddings_layernorm", "token_embd_norm"), hidden, eps)?;
    decoder.embedding.norm = Some(norm);
    Ok(Box::new(decoder))
}
