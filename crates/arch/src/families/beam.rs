//! Beam: norms before and after each branch, a stream whose sums keep their size, gates on what attention gives; layers
//! with windows rotate, the others have queries that grow with the position; DeepSeek-V3's routing.
use super::Family;
use crate::{
    Config, Graph, Params, PositionFactor, Result,
    blocks::{Block, Branch, Decoder, Embedding, Gqa, GqaConfig, Head, Rotary, RotaryDims, deepseek_ffn, layers},
    params::Name,
};
use pondera_ops::Linear;

pub(super) const FAMILY: Family = Family {
    model_type: "beam",
    title: "Beam",
    defaults: r#"{"vocab_size": 151936, "hidden_size": 5120, "intermediate_size": 20480, "num_hidden_layers": 52,
        "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "attention_bias": false,
        "sliding_window": 512, "moe_intermediate_size": 2560, "num_experts_per_tok": 8, "num_experts": 256,
        "norm_topk_prob": true, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 3, "final_logit_softcapping": 30.0, "rope_parameters": {"full_attention": null,
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}"#,
    load,
    ..Family::BASE
};

/// The growth of queries in layers that do not rotate: numbers of the model, not of its configuration.
const GROWTH: PositionFactor = PositionFactor::Power { scale: 2048.0, power: 0.1 };

/// Attention behind a gate per column, whose bias is one per head.
fn attention(c: &Config, p: &Params<'_>, gqa: &GqaConfig) -> Result<Gqa> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    let layer_type = if gqa.window.is_some() { "sliding_attention" } else { "full_attention" };
    let rotary = match Rotary::rotates(c, layer_type) {
        true => Some(Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), layer_type)?),
        false => None,
    };
    let q = p.rms(("q_norm", ""), gqa.head_dim, eps, false)?;
    let k = p.rms(("k_norm", ""), gqa.head_dim, eps, false)?;
    let gate = p.linear(("gate_proj", ""), gqa.heads * gqa.head_dim, hidden, false)?;
    let spread = |heads: &[f32]| heads.iter().flat_map(|b| vec![*b; gqa.head_dim]).collect();
    let bias = p.computed(&p.vector(("gate_bias", ""), gqa.heads)?, spread);
    let temperature = rotary.is_none().then(|| p.position_factor(GROWTH));
    let attention = Gqa::load(p, gqa, hidden, rotary)?.with_qk_norm(q, k);
    Ok(Gqa { gate: Some(Linear { bias: Some(bias), ..gate }), temperature, ..attention })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    let (body, last) = (p.body(), c.num_hidden_layers()? - 1);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let windows = c.windows(c.size_opt("sliding_window")?, |layer| (layer + 1) % 6 != 0 && layer != last)?;
    let tokens = body.weight(("embed_tokens", ""), c.vocab_size()?, hidden)?;
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("layers", i);
        let branch = |pre: Name<'_>, body: Box<dyn Block>, post: Name<'_>, sums: usize| -> Result<Branch> {
            let (pre, post) = (Some(l.rms(pre, hidden, eps, false)?), Some(l.rms(post, hidden, eps, false)?));
            // The stream is the sum of what came so far, over the root of how many they are.
            let n = sums as f64;
            let (keep, scale) = (((n - 1.0) / n).sqrt() as f32, n.sqrt().recip() as f32);
            Ok(Branch { pre, body, post, keep, scale, after: None })
        };
        let mixer = attention(c, &l.at(("self_attn", "")), &GqaConfig { window: windows[i], ..gqa })?;
        let ffn = deepseek_ffn(c, &l.at(("mlp", "")), i)?;
        Ok(vec![
            branch(("input_layernorm", ""), Box::new(mixer), ("post_attention_layernorm", ""), 2 * i + 2)?,
            branch(("pre_feedforward_layernorm", ""), ffn, ("post_feedforward_layernorm", ""), 2 * i + 3)?,
        ])
    })?;
    let head = Head::load(p, body.rms(("norm", ""), hidden, eps, false)?, &tokens, c.flag("tie_word_embeddings")?)?;
    let head = Head { softcap: c.positive_opt("final_logit_softcapping")?, ..head };
    Ok(Box::new(Decoder { embedding: Embedding::new(tokens), layers, head }))
}
