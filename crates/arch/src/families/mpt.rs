//! MPT: biases by distance, layer norms without biases, queries, keys and values clipped.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Tree, plain_mlp, slopes_above},
};
use pondera_ops::Activation;
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_type: "mpt",
    title: "MPT",
    gguf: Some(("mpt", always)),
    defaults: r#"{"hidden_size": 2048, "num_attention_heads": 16, "num_hidden_layers": 24,
        "max_position_embeddings": 2048, "vocab_size": 50368, "layer_norm_eps": 1e-05, "tie_word_embeddings": true}"#,
    base: "transformer",
    gguf_reads: &["clip_qkv", "max_alibi_bias"],
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let attn = Attn::read(c)?;
    let sizes = (hidden, hidden.saturating_mul(4));
    let mut gqa = GqaConfig::read(c)?;
    if let Some(scale) = attn.softmax_scale {
        gqa.scale = scale;
    }
    let tree = Tree {
        tokens: ("wte", "token_embd"),
        layers: "blocks",
        mixer: "attn",
        ffn: "ffn",
        kind: NormKind::Layer { eps: c.eps("layer_norm_eps")?, weight: true, bias: false },
        pre: [Some(("norm_1", "attn_norm")), Some(("norm_2", "ffn_norm"))],
        norm: Some(("norm_f", "output_norm")),
        ..Tree::pre_norm(c)?
    };
    let attention = |p: &Params<'_>| -> Result<Gqa> {
        let mut attention = Gqa::fused(p, &gqa, (hidden, 1), ("Wqkv", "out_proj"), None)?;
        attention.attention.slopes = Some(slopes_above(gqa.heads));
        Ok(Gqa { clip: attn.clip_qkv, ..attention })
    };
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(attention(p)?)),
        |p, _| plain_mlp(p, ("up_proj", "down_proj"), sizes, false, Activation::GeluErf),
    )?;
    Ok(Box::new(decoder))
}

/// `attn_config`, of which the reference implements biases by distance alone.
struct Attn {
    clip_qkv: Option<f32>,
    softmax_scale: Option<f32>,
}

impl Attn {
    fn read(c: &Config) -> Result<Attn> {
        let keys = c.get("attn_config").and_then(Value::as_object).cloned().unwrap_or_default();
        let number = |key: &str| keys.get(key).and_then(Value::as_f64).map(|v| v as f32).filter(|v| *v > 0.0);
        for (key, value) in [("alibi", true), ("qk_ln", false), ("prefix_lm", false)] {
            if keys.get(key).and_then(Value::as_bool).is_some_and(|v| v != value) {
                return Err(c.unknown(&format!("attn_config.{key}"), &(!value).to_string(), &[&value.to_string()]));
            }
        }
        if let Some(bias) = number("alibi_bias_max").filter(|b| *b != 8.0) {
            return Err(c.unknown("attn_config.alibi_bias_max", &bias.to_string(), &["8"]));
        }
        // GGUF files have the bound beside the other keys.
        let clip_qkv = number("clip_qkv").or(c.positive_opt("clip_qkv")?);
        Ok(Attn { clip_qkv, softmax_scale: number("softmax_scale") })
    }
}
