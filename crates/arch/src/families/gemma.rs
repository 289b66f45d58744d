//! Gemma: Llama's block with scaled embeddings, norms whose factor is `1 + w` and a gate of GELU (arXiv 2403.08295).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Branch, Decoder, Embedding, Gqa, GqaConfig, Head, Mlp, Rotary, RotaryDims, gated, layers},
};

pub(super) const FAMILY: Family = Family {
    model_type: "gemma",
    title: "Gemma",
    gguf: Some(("gemma", always)),
    defaults: r#"{"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": true,
        "attention_bias": false}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("rms_norm_eps")?);
    c.never("use_bidirectional_attention")?;
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    // The first configurations said "gelu" and meant its approximation.
    let act = match c.activation("hidden_act")? {
        pondera_ops::Activation::GeluErf => pondera_ops::Activation::GeluTanh,
        act => act,
    };
    let body = p.body();
    let tokens = body.weight(("embed_tokens", "token_embd"), c.vocab_size()?, hidden)?;
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("layers", i);
        Ok(vec![
            Branch::pre_norm(
                l.rms(("input_layernorm", "attn_norm"), hidden, eps, true)?,
                Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, Some(rotary))?,
            ),
            Branch::pre_norm(
                l.rms(("post_attention_layernorm", "ffn_norm"), hidden, eps, true)?,
                Mlp(gated(&l.at(("mlp", "")), hidden, inner, false, act)?),
            ),
        ])
    })?;
    let norm = body.rms(("norm", "output_norm"), hidden, eps, true)?;
    let head = Head::load(p, norm, &tokens, c.flag("tie_word_embeddings")?)?;
    Ok(Box::new(Decoder {
        embedding: Embedding { scale: (hidden as f32).sqrt(), ..Embedding::new(tokens) },
        layers,
        head,
    }))
}
