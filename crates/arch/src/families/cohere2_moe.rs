//! Command A with experts: attention and experts side by side under one norm, windows in three of four layers and
//! positions only there, experts that all tokens share summed or averaged with the others.
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, Branch, Decoder, Embedding, Gqa, GqaConfig, Head, Mlp, Moe, MoeConfig, Parallel, Rotary, RotaryDims,
        Scaled, SharedExpert, gated, is_sparse, layers,
    },
    params::Name,
};
use pondera_ops::{Norm, Route, Score};

pub(super) const FAMILY: Family = Family {
    model_type: "cohere2_moe",
    title: "Command A MoE",
    defaults: r#"{"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528, "logit_scale": 0.0625,
        "num_hidden_layers": 40, "num_attention_heads": 64, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "tie_word_embeddings": true, "attention_bias": false,
        "sliding_window": 4096, "num_experts_per_tok": 2, "num_experts": 8, "n_shared_experts": 0,
        "shared_expert_combination_strategy": "average", "expert_selection_fn": "softmax",
        "prefix_dense_sliding_window_pattern": 1, "norm_topk_prob": true, "sliding_window_pattern": 4,
        "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

/// RMS norms where the configuration has an epsilon for them, layer norms without biases otherwise.
fn norm(c: &Config, p: &Params<'_>, name: Name<'_>) -> Result<Norm> {
    match c.get("rms_norm_eps") {
        Some(_) => p.rms(name, c.hidden_size()?, c.eps("rms_norm_eps")?, false),
        None => p.layer_norm_of(name, c.hidden_size()?, c.eps("layer_norm_eps")?, (true, false)),
    }
}

/// Each layer's window; the dense layers at the start have a pattern of their own.
fn windows(c: &Config) -> Result<Vec<Option<usize>>> {
    let dense = c.count("first_k_dense_replace")?;
    let (first, rest) = (c.size("prefix_dense_sliding_window_pattern")?, c.size("sliding_window_pattern")?);
    c.windows(c.size_opt("sliding_window")?, |layer| match layer.checked_sub(dense) {
        None => (layer + 1) % first != 0,
        Some(layer) => (layer + 1) % rest != 0,
    })
}

/// Dense, or experts beside those that all tokens share.
fn ffn(c: &Config, p: &Params<'_>, layer: usize) -> Result<Box<dyn Block>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let moe = MoeConfig::read(c, "intermediate_size")?;
    if !is_sparse(c, layer)? {
        let inner = c.size_opt("prefix_dense_intermediate_size")?.unwrap_or(inner);
        return Ok(Box::new(Mlp(gated(p, hidden, inner, false, moe.act)?)));
    }
    // Those of the greatest logits, whichever way they are scored.
    let route = match c.text("expert_selection_fn")? {
        Some("softmax") => Route { score: Score::SoftmaxOfChosen, renormalize: None, ..moe.route },
        Some("sigmoid") => Route { score: Score::Sigmoid, ..moe.route },
        other => return Err(c.unknown("expert_selection_fn", other.unwrap_or("null"), &["softmax", "sigmoid"])),
    };
    c.only("shared_expert_combination_strategy", &["average", "sum"])?;
    let average = c.text("shared_expert_combination_strategy")? == Some("average");
    let moe = Moe::load(p, &MoeConfig { route, ..moe }, layer, hidden)?;
    let n = c.count("n_shared_experts")?;
    if n == 0 {
        return Ok(Box::new(moe));
    }
    let wide = inner.checked_mul(n).ok_or_else(|| c.bad("num_shared_experts", "too large"))?;
    let shared = SharedExpert::load(p, "shared_experts", (hidden, wide), false, c.activation("hidden_act")?)?;
    let body = Box::new(Moe { shared: Some(shared), ..moe });
    Ok(if average { Box::new(Scaled { body, scale: 0.5 }) } else { body })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, bias, body) = (c.hidden_size()?, c.flag("attention_bias")?, p.body());
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let windows = windows(c)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, true), "full_attention")?;
    let forced = c.size("prefix_dense_sliding_window_pattern")? == 1;
    let tokens = body.weight(("embed_tokens", ""), c.vocab_size()?, hidden)?;
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("layers", i);
        let rotates = windows[i].is_some() || (forced && !is_sparse(c, i)?);
        let gqa = GqaConfig { window: windows[i], ..gqa };
        let mixer = Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, Some(rotary).filter(|_| rotates))?;
        let norms = [Some(norm(c, &l, ("input_layernorm", ""))?), None];
        let bodies = [Box::new(mixer) as Box<dyn Block>, ffn(c, &l.at(("mlp", "")), i)?];
        Ok(vec![Branch::plain(Parallel { norms, bodies })])
    })?;
    let head = Head::load(p, norm(c, &body, ("norm", ""))?, &tokens, c.flag("tie_word_embeddings")?)?;
    let head = Head { scale: c.positive("logit_scale")?, ..head };
    Ok(Box::new(Decoder { embedding: Embedding::new(tokens), layers, head }))
}
