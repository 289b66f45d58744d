//! Phi-3.5-MoE: layer norms, biases everywhere where the configuration says so, two experts of which each is weighted
//! against those near it (arXiv 2404.14219, 2409.12136).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Branch, Decoder, Embedding, ExpertNames, Gqa, GqaConfig, Head, Moe, MoeConfig, Rotary, RotaryDims, layers,
    },
};
use pondera_ops::{Route, Score};

pub(super) const FAMILY: Family = Family {
    model_type: "phimoe",
    title: "Phi-3.5-MoE",
    defaults: r#"{"vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 6400, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "sliding_window": null, "num_experts_per_tok": 2,
        "num_experts": 16, "router_jitter_noise": 0.01, "attention_bias": false, "lm_head_bias": false,
        "rope_theta": 1000000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    // Other kinds have factors of their own on cosines and sines here.
    Rotary::only_default(c)?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, window: c.size_opt("sliding_window")?, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let moe = MoeConfig { router: "gate|router", ..MoeConfig::read(c, "intermediate_size")? };
    if moe.route.top_k != 2 {
        return Err(c.unknown("num_experts_per_tok", &moe.route.top_k.to_string(), &["2"]));
    }
    let near = 2.0 * c.number("router_jitter_noise")? as f32;
    let route = Route { score: Score::Near(near), renormalize: None, ..moe.route };
    let moe = MoeConfig { names: ExpertNames::NUMBERED, route, ..moe };
    let body = p.body();
    let tokens = body.weight(("embed_tokens", ""), c.vocab_size()?, hidden)?;
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("layers", i);
        let mixer = Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, Some(rotary))?;
        let ffn = Moe::load(&l.at(("block_sparse_moe|mlp", "")), &moe, i, hidden)?;
        Ok(vec![
            Branch::pre_norm(l.layer_norm(("input_layernorm", ""), hidden, eps)?, mixer),
            Branch::pre_norm(l.layer_norm(("post_attention_layernorm", ""), hidden, eps)?, ffn),
        ])
    })?;
    let norm = body.layer_norm(("norm", ""), hidden, eps)?;
    let head = Head::load(p, norm, &tokens, c.flag("tie_word_embeddings")?)?.with_bias(p, c.flag("lm_head_bias")?)?;
    Ok(Box::new(Decoder { embedding: Embedding::new(tokens), layers, head }))
}
