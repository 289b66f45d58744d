//! Granite: Llama's block with factors on embeddings, scores, branches and logits.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "granite",
    title: "Granite 3",
    gguf: Some(("granite", always)),
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
        "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0,
        "rope_theta": 10000.0}"#,
    gguf_keys: Some(|keys| {
        for (ours, theirs) in [("logits_scaling", "logit_scale"), ("attention_multiplier", "gguf_attention_scale")] {
            if let Some(v) = keys.get(theirs).cloned() {
                keys.insert(ours.into(), v);
            }
        }
    }),
    gguf_reads: &["embedding_multiplier", "residual_multiplier", "logit_scale"],
    load,
    ..Family::BASE
};

/// The factors around a decoder.
pub(super) fn multiplied(c: &Config, decoder: Decoder) -> Result<Decoder> {
    let mut decoder = decoder.scaled(c.positive("residual_multiplier")?);
    decoder.embedding.scale = c.positive("embedding_multiplier")?;
    decoder.head.scale = 1.0 / c.positive("logits_scaling")?;
    Ok(decoder)
}

/// Attention whose scores have a factor of their own.
pub(super) fn attention(c: &Config) -> Result<GqaConfig> {
    let bias = c.flag("attention_bias")?;
    let scale = c.positive("attention_multiplier")?;
    Ok(GqaConfig { qkv_bias: bias, o_bias: bias, scale, ..GqaConfig::read(c)? })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let gqa = attention(c)?;
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let (act, mlp_bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Gqa::boxed(p, &gqa, hidden, Some(rotary)),
        |p, _| gated_mlp(p, hidden, inner, mlp_bias, act),
    )?;
    Ok(Box::new(multiplied(c, decoder)?))
}
