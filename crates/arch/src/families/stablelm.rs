//! StableLM: layer norms, a part of each head rotates; in some models both parts of a layer side by side, or norms of
//! each head of queries and keys.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, QkNorm, Rotary, RotaryDims, Tree, gated_mlp},
};
use pondera_ops::{Norm, Weight};

pub(super) const FAMILY: Family = Family {
    model_type: "stablelm",
    title: "StableLM",
    gguf: Some(("stablelm", always)),
    defaults: r#"{"vocab_size": 50304, "intermediate_size": 6912, "hidden_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 4096,
        "layer_norm_eps": 1e-05, "tie_word_embeddings": false, "use_qkv_bias": false, "qk_layernorm": false,
        "use_parallel_residual": false, "rope_theta": 10000.0, "partial_rotary_factor": 0.25}"#,
    load,
    ..Family::BASE
};

/// Norms of queries and keys: in repositories a tensor for every head.
fn head_norm(p: &Params<'_>, name: (&str, &str), heads: usize, dim: usize, eps: f32) -> Result<Norm> {
    if p.is_gguf() {
        return p.layer_norm_of(name, heads * dim, eps, (true, false));
    }
    let mut all = Vec::new();
    for h in 0..heads {
        all.extend_from_slice(p.vector((&format!("{}.norms.{h}.weight", name.0), ""), dim)?.vector());
    }
    Ok(Norm::Layer { weight: Some(Weight::from_f32(name.0, 1, all.len(), &all)), bias: None, eps })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("layer_norm_eps")?);
    let gqa = GqaConfig { qkv_bias: c.flag("use_qkv_bias")?, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let act = c.activation("hidden_act")?;
    let mut tree = Tree { kind: NormKind::Layer { eps, weight: true, bias: true }, ..Tree::pre_norm(c)? };
    // GGUF files say so by the absence of the second norm.
    let one_norm = p.is_gguf() && !p.has(("", "blk.0.ffn_norm.weight"));
    if c.flag("use_parallel_residual")? || one_norm {
        (tree.parallel, tree.pre[1]) = (true, None);
    }
    let attention = |p: &Params<'_>| -> Result<Gqa> {
        let attention = Gqa::load(p, &gqa, hidden, Some(rotary))?;
        if !c.flag("qk_layernorm")? && !p.has(("", "attn_q_norm.weight")) {
            return Ok(attention);
        }
        let norms = [
            head_norm(p, ("q_layernorm", "attn_q_norm"), gqa.heads, gqa.head_dim, eps)?,
            head_norm(p, ("k_layernorm", "attn_k_norm"), gqa.kv_heads, gqa.head_dim, eps)?,
        ];
        Ok(Gqa { qk_norm: Some(QkNorm { norms, whole: false, after: false }), ..attention })
    };
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(attention(p)?)),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    Ok(Box::new(decoder))
}
