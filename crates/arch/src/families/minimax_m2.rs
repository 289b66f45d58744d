//! MiniMax M2: norms of whole rows of queries and keys, rotary on a part of each head, experts by sigmoid with a bias
//! that balances them.
use super::{Family, always, deepseek_routing_keys};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, ExpertNames, Gqa, GqaConfig, Moe, MoeConfig, Rotary, RotaryDims},
};
use pondera_ops::{Route, Score};

pub(super) const FAMILY: Family = Family {
    model_type: "minimax_m2",
    title: "MiniMax-M2",
    gguf: Some(("minimax-m2", always)),
    defaults: r#"{"vocab_size": 200064, "hidden_size": 3072, "intermediate_size": 1536, "num_hidden_layers": 62,
        "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 196608, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
        "num_experts_per_tok": 8, "num_experts": 256, "rope_theta": 5000000.0}"#,
    gguf_keys: Some(deepseek_routing_keys),
    load,
    ..Family::BASE
};

/// Rotated columns: `rotary_dim` in published configurations, a share of the head in newer ones.
fn dims(c: &Config, head_dim: usize) -> Result<RotaryDims> {
    match c.size_opt("rotary_dim")? {
        Some(dims) if dims > head_dim => {
            Err(c.bad("rotary_dim", format!("expected at most head_dim = {head_dim}, got {dims}")))
        }
        Some(dims) => Ok(RotaryDims { dims, ..RotaryDims::whole(head_dim, false) }),
        None => RotaryDims::partial(c, head_dim, false),
    }
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    c.only("scoring_func", &["sigmoid"])?;
    c.only("qk_norm_type", &["per_layer"])?;
    // MiniMax-01, whose keys these are too, has attention without a softmax where the list has 0.
    if c.sizes("attn_type_list")?.contains(&0) {
        return Err(c.unknown("attn_type_list", "0", &["1"]));
    }
    let gqa = GqaConfig::read(c)?;
    let rotary = Rotary::load(p, c, dims(c, gqa.head_dim)?, "full_attention")?;
    let moe = MoeConfig { names: ExpertNames::NUMBERED, ..MoeConfig::read(c, "intermediate_size")? };
    let decoder = Decoder::pre_norm_at(
        c,
        p,
        ("self_attn", "block_sparse_moe|mlp"),
        |p, _| Gqa::load(p, &gqa, hidden, Some(rotary))?.with_row_norms(p, eps),
        |p, layer| {
            let bias = Some(p.vector(("e_score_correction_bias", "exp_probs_b.bias"), moe.count)?);
            let moe = Moe::load(p, &moe, layer, hidden)?;
            let route = Route { score: Score::Sigmoid, bias, renormalize: Some(0.0), ..moe.route };
            Ok(Box::new(Moe { route, ..moe }))
        },
    )?;
    Ok(Box::new(decoder))
}
