//! Qwen 2 and 2.5: Llama's block with biases on queries, keys and values; windows in some layers (arXiv 2407.10671).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Mlp, Rotary, RotaryDims, gated},
};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen2",
    title: "Qwen2, Qwen2.5",
    gguf: Some(("qwen2", always)),
    defaults: r#"{"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "tie_word_embeddings": false, "use_sliding_window": false, "sliding_window": 4096,
        "max_window_layers": 28}"#,
    load,
    ..Family::BASE
};

/// The window of each layer: from `max_window_layers` on, unless `layer_types` says otherwise.
pub(super) fn windows(c: &Config) -> Result<Vec<Option<usize>>> {
    let window = if c.flag("use_sliding_window")? { c.size_opt("sliding_window")? } else { None };
    let first = c.count("max_window_layers")?;
    c.windows(window, |layer| window.is_some() && layer >= first)
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let gqa = GqaConfig { qkv_bias: true, ..GqaConfig::read(c)? };
    let windows = windows(c)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, layer| Gqa::load(p, &GqaConfig { window: windows[layer], ..gqa }, hidden, Some(rotary)),
        |p, _| Ok(Box::new(Mlp(gated(p, hidden, inner, false, act)?))),
    )?;
    Ok(Box::new(decoder))
}
