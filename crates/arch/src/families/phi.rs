//! Phi 1 to 2: attention and a plain feed-forward part side by side, a part of each head rotates, biases everywhere
//! (arXiv 2309.05463).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Rotary, RotaryDims, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "phi",
    title: "Phi 1, 1.5, 2",
    gguf: Some(("phi2", always)),
    defaults: r#"{"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "gelu_new",
        "max_position_embeddings": 2048, "layer_norm_eps": 1e-05, "tie_word_embeddings": false, "qk_layernorm": false,
        "rope_theta": 10000.0, "partial_rotary_factor": 0.5}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (sizes, eps) = ((c.hidden_size()?, c.size("intermediate_size")?), c.eps("layer_norm_eps")?);
    let gqa = GqaConfig { qkv_bias: true, o_bias: true, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let (act, normed) = (c.activation("hidden_act")?, c.flag("qk_layernorm")?);
    let tree = Tree {
        kind: NormKind::Layer { eps, weight: true, bias: true },
        pre: [Some(("input_layernorm", "attn_norm")), None],
        parallel: true,
        norm: Some(("final_layernorm", "output_norm")),
        head_bias: true,
        ..Tree::pre_norm(c)?
    };
    let attention = |p: &Params<'_>| -> Result<Gqa> {
        // Some converters join the three matrices.
        let attention = match p.has(("", "attn_qkv.weight")) {
            true => Gqa::fused(p, &gqa, (sizes.0, 1), ("", ""), Some(rotary))?,
            false => Gqa::load(p, &gqa, sizes.0, Some(rotary))?,
        };
        let norm = |name| p.layer_norm((name, ""), gqa.head_dim, eps);
        Ok(if normed { attention.with_qk_norm(norm("q_layernorm")?, norm("k_layernorm")?) } else { attention })
    };
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(attention(p)?)),
        |p, _| plain_mlp(p, ("fc1", "fc2"), sizes, true, act),
    )?;
    Ok(Box::new(decoder))
}
