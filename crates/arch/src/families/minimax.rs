//! MiniMax-Text-01: lightning attention in every other layer, experts in all; norms renew the stream itself, and both
//! the stream and what joins it have factors (arXiv 2501.08313).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, Branch, Decoder, Embedding, ExpertNames, Gqa, GqaConfig, Lightning, Rotary, RotaryDims, SoftmaxMoe,
        softmax_moe,
    },
};

pub(super) const FAMILY: Family = Family {
    model_type: "minimax",
    title: "MiniMax-Text-01",
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "num_experts_per_tok": 2, "num_experts": 8,
        "rope_theta": 1e6, "full_attn_alpha_factor": 1, "full_attn_beta_factor": 1, "linear_attn_alpha_factor": 1,
        "linear_attn_beta_factor": 1, "mlp_alpha_factor": 1, "mlp_beta_factor": 1}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, layers) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.num_hidden_layers()?);
    c.only("hidden_act", &["silu", "swish"])?;
    let gqa = GqaConfig { window: c.size_opt("sliding_window")?, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let words = [("full_attention", true), ("attention", true), ("linear_attention", false)];
    let attends = c.layer_kinds("layer_types", &words, |i| i % 2 == 0)?;
    let factors = |name: &str| -> Result<[f32; 2]> {
        let one = |which: &str| c.number(&format!("{name}_{which}_factor")).map(|f| f as f32);
        Ok([one("alpha")?, one("beta")?])
    };
    let (full, linear, mlp) = (factors("full_attn")?, factors("linear_attn")?, factors("mlp")?);

    let body = p.body();
    let tokens = body.weight(("embed_tokens", ""), c.vocab_size()?, hidden)?;
    let norm = body.rms(("norm", ""), hidden, eps, false)?;
    let decoder = Decoder::layered(c, p, (Embedding::new(tokens), Some(norm)), "layers", |l, i| {
        let at = l.at(("self_attn", ""));
        let (mixer, [keep, scale]): (Box<dyn Block>, _) = if attends[i] {
            (Box::new(Gqa::load(&at, &gqa, hidden, Some(rotary))?), full)
        } else {
            (Box::new(Lightning::load(&at, hidden, (gqa.heads, gqa.head_dim), (i, layers))?), linear)
        };
        let names = ExpertNames { each: ["w1|gate_proj", "w3|up_proj", "w2|down_proj"] };
        let experts = SoftmaxMoe { router: "gate", names, inner: "intermediate_size", renormalize: true };
        let ffn = softmax_moe(c, &l.at(("block_sparse_moe|mlp", "")), i, experts)?;
        Ok(vec![
            Branch::renewed(l.rms(("input_layernorm", ""), hidden, eps, false)?),
            Branch { pre: None, body: mixer, post: None, keep, scale, after: None },
            Branch::renewed(l.rms(("post_attention_layernorm", ""), hidden, eps, false)?),
            Branch { keep: mlp[0], scale: mlp[1], ..Branch::plain(ffn) },
        ])
    })?;
    Ok(Box::new(decoder))
}
