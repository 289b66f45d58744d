//! Command R: attention and feed-forward part side by side under one layer norm without biases, pairs of neighbours rotate.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, QkNorm, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "cohere",
    title: "Command R",
    gguf: Some(("command-r", always)),
    defaults: r#"{"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528, "logit_scale": 0.0625,
        "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": 64, "hidden_act": "silu",
        "max_position_embeddings": 8192, "layer_norm_eps": 1e-05, "tie_word_embeddings": true,
        "attention_bias": false, "use_qk_norm": false, "rope_theta": 500000.0}"#,
    gguf_reads: &["logit_scale"],
    load,
    ..Family::BASE
};

/// Both parts read what one norm gives.
pub(super) fn tree(c: &Config) -> Result<Tree<'static>> {
    let kind = NormKind::Layer { eps: c.eps("layer_norm_eps")?, weight: true, bias: false };
    Ok(Tree { kind, pre: [Some(("input_layernorm", "attn_norm")), None], parallel: true, ..Tree::pre_norm(c)? })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("layer_norm_eps")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, true), "full_attention")?;
    let (act, normed) = (c.activation("hidden_act")?, c.flag("use_qk_norm")?);
    let attention = |p: &Params<'_>| -> Result<Gqa> {
        let attention = Gqa::load(p, &gqa, hidden, Some(rotary))?;
        if !normed && !p.has(("", "attn_q_norm.weight")) {
            return Ok(attention);
        }
        // Each head has factors of its own.
        let norm = |name, heads: usize| p.layer_norm_of(name, heads * gqa.head_dim, eps, (true, false));
        let norms = [norm(("q_norm", "attn_q_norm"), gqa.heads)?, norm(("k_norm", "attn_k_norm"), gqa.kv_heads)?];
        Ok(Gqa { qk_norm: Some(QkNorm { norms, whole: false, after: false }), ..attention })
    };
    let mut decoder = Decoder::build(
        c,
        p,
        &tree(c)?,
        |p, _| Ok(Box::new(attention(p)?)),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    decoder.head.scale = c.positive("logit_scale")?;
    Ok(Box::new(decoder))
}
