//! Apertus: norms of queries and keys, a plain feed-forward part whose nonlinearity xIELU has learnt parameters
//! (arXiv 2509.14233, 2411.13010).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, plain_mlp},
};
use pondera_ops::{Activation, math};

pub(super) const FAMILY: Family = Family {
    model_type: "apertus",
    title: "Apertus",
    gguf: None,
    defaults: r#"{"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "xielu", "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": false,
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0, "original_max_position_embeddings": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "attention_bias": false}"#,
    load,
    ..Family::BASE
};

/// The nonlinearity of one layer: its parameters lie in the files before a softplus.
fn xielu(p: &Params<'_>) -> Result<Activation> {
    let one = |name: &str| -> Result<f32> { Ok(p.vector((name, ""), 1)?.vector()[0]) };
    let (beta, eps) = (one("act_fn.beta")?, one("act_fn.eps")?);
    let (positive, negative) = (math::softplus(one("act_fn.alpha_p")?), math::softplus(one("act_fn.alpha_n")?));
    Ok(Activation::Xielu { positive, negative: beta + negative, beta, eps })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (sizes, eps) = ((c.hidden_size()?, c.size("intermediate_size")?), c.eps("rms_norm_eps")?);
    c.only("hidden_act", &["xielu"])?;
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let tree = Tree {
        pre: [Some(("attention_layernorm", "attn_norm")), Some(("feedforward_layernorm", "ffn_norm"))],
        ..Tree::pre_norm(c)?
    };
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| {
            let q = p.rms(("q_norm", "attn_q_norm"), gqa.head_dim, eps, false)?;
            let k = p.rms(("k_norm", "attn_k_norm"), gqa.head_dim, eps, false)?;
            Ok(Box::new(Gqa::load(p, &gqa, sizes.0, Some(rotary))?.with_qk_norm(q, k)))
        },
        |p, _| plain_mlp(p, ("up_proj", "down_proj"), sizes, false, xielu(p)?),
    )?;
    Ok(Box::new(decoder))
}
