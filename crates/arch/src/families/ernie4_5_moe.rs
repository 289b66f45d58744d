//! ERNIE 4.5 with experts: neighbours rotate in pairs, experts by softmax with a bias on the choice, experts that all
//! tokens share, from some layer to another (the ERNIE 4.5 technical report).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Block, Decoder, Gqa, GqaConfig, Mlp, Moe, MoeConfig, Rotary, RotaryDims, SharedExpert, gated},
};
use pondera_ops::Route;

pub(super) const FAMILY: Family = Family {
    model_type: "ernie4_5_moe",
    title: "ERNIE 4.5 MoE",
    gguf: Some(("ernie4_5-moe", always)),
    defaults: r#"{"vocab_size": 103424, "hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 28,
        "num_attention_heads": 20, "num_key_value_heads": 4, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "rope_theta": 500000.0, "use_bias": false,
        "moe_intermediate_size": 1536, "num_experts_per_tok": 6, "num_experts": 64, "n_shared_experts": 2,
        "moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 1, "moe_norm_min": 1e-12}"#,
    gguf_keys: Some(|keys| {
        for (ours, theirs, absent) in
            [("moe_layer_interval", "decoder_sparse_step", 1), ("moe_layer_start_index", "first_k_dense_replace", 0)]
        {
            let value = keys.get(theirs).cloned().unwrap_or(absent.into());
            keys.insert(ours.into(), value);
        }
        keys.entry("n_shared_experts").or_insert(0.into());
    }),
    load,
    ..Family::BASE
};

/// Whether a layer has experts.
fn is_sparse(c: &Config, layer: usize) -> Result<bool> {
    let end = c.number("moe_layer_end_index")?;
    let within = layer >= c.count("moe_layer_start_index")? && (end == -1.0 || layer as f64 <= end);
    Ok(within && (layer + 1).is_multiple_of(c.size("moe_layer_interval")?))
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, bias, act) = (c.hidden_size()?, c.flag("use_bias")?, c.activation("hidden_act")?);
    // The sum of the weights is bounded from below before it divides: nothing, where the bound is so small.
    if c.number("moe_norm_min")? > 1e-6 {
        return Err(c.unknown("moe_norm_min", &c.number("moe_norm_min")?.to_string(), &["1e-12"]));
    }
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, true), "full_attention")?;
    let moe = MoeConfig::read(c, "moe_intermediate_size")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| Gqa::load(p, &gqa, hidden, Some(rotary)),
        |p, layer| {
            if !is_sparse(c, layer)? {
                return Ok(Box::new(Mlp(gated(p, hidden, c.size("intermediate_size")?, bias, act)?)) as Box<dyn Block>);
            }
            let names =
                ("moe_statics.e_score_correction_bias|gate.moe_statics.e_score_correction_bias", "exp_probs_b.bias");
            let correction = Some(p.vector(names, moe.count)?);
            let shared = SharedExpert::counted(c, p, bias)?;
            let moe = Moe::load(p, &moe, layer, hidden)?;
            let route = Route { bias: correction, renormalize: Some(0.0), ..moe.route };
            Ok(Box::new(Moe { route, shared, ..moe }))
        },
    )?;
    let head = decoder.head.with_bias(p, bias)?;
    Ok(Box::new(Decoder { head, ..decoder }))
}
