//! Mistral 7B: Llama's block with a window over the last tokens in every layer, or in those of `layer_types`
//! (arXiv 2310.06825).
//! GGUF files call it `llama` and have no window.
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Mlp, Rotary, RotaryDims, gated},
};

pub(super) const FAMILY: Family = Family {
    model_type: "mistral",
    title: "Mistral",
    gguf: None,
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "tie_word_embeddings": false, "sliding_window": 4096}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let gqa = GqaConfig::read(c)?;
    let window = c.size_opt("sliding_window")?;
    // Ministral 8B calls itself `mistral` and names its windows by `layer_types`.
    let windows = c.windows(window, |_| window.is_some())?;
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
