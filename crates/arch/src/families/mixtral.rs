//! Mixtral: Mistral's attention over experts, the two best by softmax, renormalised (arXiv 2401.04088).
use super::{Family, has_experts};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, ExpertNames, Gqa, GqaConfig, Moe, MoeConfig, Rotary, RotaryDims},
};
use pondera_ops::Route;

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
    let hidden = c.hidden_size()?;
    let gqa = GqaConfig { window: c.size_opt("sliding_window")?, ..GqaConfig::read(c)? };
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let moe = MoeConfig::read(c, "intermediate_size")?;
    let route = Route { renormalize: Some(0.0), ..moe.route };
    let moe = MoeConfig { names: ExpertNames::NUMBERED, route, ..moe };
    let decoder = Decoder::pre_norm_at(
        c,
        p,
        ("self_attn", "block_sparse_moe|mlp"),
        |p, _| Gqa::load(p, &gqa, hidden, Some(rotary)),
        |p, layer| Ok(Box::new(Moe::load(p, &moe, layer, hidden)?)),
    )?;
    Ok(Box::new(decoder))
}
