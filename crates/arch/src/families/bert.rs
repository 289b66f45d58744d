//! BERT: an encoder with norms after each branch, learnt positions and kinds of tokens (arXiv 1810.04805). BGE, E5 and GTE
//! are such models.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Branch, Embedding, Encoder, Gqa, GqaConfig, Projection, layers, plain_mlp},
};
use serde_json::{Map, Value};

pub(super) const FAMILY: Family = Family {
    model_type: "bert",
    title: "BERT",
    gguf: Some(("bert", always)),
    defaults: r#"{"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12}"#,
    base: "bert",
    gguf_keys: Some(gguf_keys),
    gguf_reads: &["bidirectional"],
    load,
    ..Family::BASE
};

/// What GGUF files of encoders do not say.
pub(super) fn gguf_keys(keys: &mut Map<String, Value>) {
    keys.entry("type_vocab_size").or_insert(2.into());
}

/// RoBERTa's positions begin at another row.
pub(super) fn load_from(c: &Config, p: &Params<'_>, first: u32) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("layer_norm_eps")?);
    let sizes = (hidden, c.size("intermediate_size")?);
    c.only("position_embedding_type", &["absolute"])?;
    c.never("is_decoder")?;
    c.never("add_cross_attention")?;
    let gqa = GqaConfig { qkv_bias: true, o_bias: true, ..GqaConfig::read(c)? };
    let act = c.activation("hidden_act")?;
    let body = p.body();
    let e = body.at(("embeddings", ""));
    let positions = e.weight(("position_embeddings", "position_embd"), c.max_positions()?, hidden)?;
    let embedding = Embedding {
        positions: Some((positions, first)),
        types: Some(e.weight(("token_type_embeddings", "token_types"), c.size("type_vocab_size")?, hidden)?),
        norm: Some(e.layer_norm(("LayerNorm", "token_embd_norm"), hidden, eps)?),
        ..Embedding::new(e.weight(("word_embeddings", "token_embd"), c.vocab_size()?, hidden)?)
    };
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("encoder.layer", i);
        let qkv = [("query", "attn_q"), ("key", "attn_k"), ("value", "attn_v")]
            .map(|name| l.at(("attention.self", "")).linear(name, hidden, hidden, true));
        let [q, k, v] = qkv;
        let o = l.linear(("attention.output.dense", "attn_output"), hidden, hidden, true)?;
        let attention = Gqa::new(&l, &gqa, Projection::Three([q?, k?, v?]), o, None).bidirectional(None);
        let ffn = plain_mlp(&l, ("intermediate.dense", "output.dense"), sizes, true, act)?;
        let norm = |name| l.layer_norm(name, hidden, eps).map(Some);
        Ok(vec![
            Branch { after: norm(("attention.output.LayerNorm", "attn_output_norm"))?, ..Branch::plain(attention) },
            Branch { after: norm(("output.LayerNorm", "layer_output_norm"))?, ..Branch::boxed(None, ffn) },
        ])
    })?;
    Ok(Box::new(Encoder { embedding, layers, norm: None }))
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    load_from(c, p, 0)
}
