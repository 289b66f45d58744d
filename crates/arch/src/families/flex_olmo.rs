//! FlexOlmo: OLMo 2's norms after both branches and of whole rows of queries and keys, experts by softmax
//! (arXiv 2507.07024).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Branch, Decoder, Embedding, Gqa, GqaConfig, Head, Moe, MoeConfig, Rotary, RotaryDims, layers},
};

pub(super) const FAMILY: Family = Family {
    model_type: "flex_olmo",
    title: "FlexOlmo",
    defaults: r#"{"vocab_size": 100352, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "attention_bias": false, "num_experts_per_tok": 5, "num_experts": 7,
        "norm_topk_prob": false, "rope_theta": 500000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let (moe, body) = (MoeConfig::read(c, "intermediate_size")?, p.body());
    let tokens = body.weight(("embed_tokens", ""), c.vocab_size()?, hidden)?;
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("layers", i);
        let at = l.at(("self_attn", ""));
        let mixer = Gqa::load(&at, &gqa, hidden, Some(rotary))?.with_row_norms(&at, eps)?;
        let ffn = Moe::load(&l.at(("mlp", "")), &moe, i, hidden)?;
        Ok(vec![
            Branch::post_norm(mixer, l.rms(("post_attention_layernorm", ""), hidden, eps, false)?),
            Branch::post_norm(ffn, l.rms(("post_feedforward_layernorm", ""), hidden, eps, false)?),
        ])
    })?;
    let head = Head::load(p, body.rms(("norm", ""), hidden, eps, false)?, &tokens, c.flag("tie_word_embeddings")?)?;
    Ok(Box::new(Decoder { embedding: Embedding::new(tokens), layers, head }))
}
