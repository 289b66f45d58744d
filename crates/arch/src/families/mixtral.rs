//! Mixtral: Mistral's attention over experts, the two best by softmax, renormalised (arXiv 2401.04088).
use super::{Family, has_experts};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, ExpertNames, Gqa, GqaConfig, Moe, Rotary, RotaryDims, experts},
};
use pondera_ops::{Route, Score};

pub(super) const FAMILY: Family = Family {
    model_type: "mixtral",
    title: "Mixtral",
    gguf: Some(("llama", has_experts)),
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": false, "sliding_window": null, "num_experts_per_tok": 2,
        "num_experts": 8, "rope_theta": 1000000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let gqa = GqaConfig { window: c.size_opt("sliding_window")?, ..GqaConfig::read(c)? };
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let (count, top_k) = c.experts_needed()?;
    let route = Route { top_k, score: Score::Softmax, bias: None, groups: None, renormalize: Some(0.0), scale: 1.0 };
    let decoder = Decoder::pre_norm_at(
        c,
        p,
        ("self_attn", "block_sparse_moe|mlp"),
        |p, _| Gqa::load(p, &gqa, hidden, Some(rotary)),
        |p, layer| {
            Ok(Box::new(Moe {
                layer,
                router: p.linear(("gate", "ffn_gate_inp"), count, hidden, false)?,
                route: route.clone(),
                experts: experts(
                    p,
                    ExpertNames { each: ["w1|gate_proj", "w3|up_proj", "w2|down_proj"] },
                    (count, top_k),
                    inner,
                    hidden,
                    act,
                )?,
                shared: None,
            }))
        },
    )?;
    Ok(Box::new(decoder))
}
