//! SmolLM3: Llama's block where every fourth layer has no positions.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "smollm3",
    title: "SmolLM3",
    gguf: Some(("smollm3", always)),
    defaults: r#"{"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 4, "hidden_act": "silu", "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-06, "use_sliding_window": false, "no_rope_layer_interval": 4, "attention_bias": false,
        "mlp_bias": false, "tie_word_embeddings": true, "rope_theta": 2000000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let positions = c.rotated_layers()?;
    let window = if c.flag("use_sliding_window")? { c.size_opt("sliding_window")? } else { None };
    // Layers without positions see everything where the configuration does not list the kinds.
    let windows = if window.is_some() { c.windows(window, |i| positions[i])? } else { vec![None; positions.len()] };
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let (act, mlp_bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, i| Gqa::boxed(p, &GqaConfig { window: windows[i], ..gqa }, hidden, positions[i].then_some(rotary)),
        |p, _| gated_mlp(p, hidden, inner, mlp_bias, act),
    )?;
    Ok(Box::new(decoder))
}
