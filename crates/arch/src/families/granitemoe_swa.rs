//! Granite MoE with windows in three of four layers, sinks in the softmax, and a base of the rope, or none, per layer.
use super::{Family, granitemoe::decoder};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Gqa, GqaConfig, Rotary, RotaryDims},
};

pub(super) const FAMILY: Family = Family {
    model_type: "granitemoe_swa",
    title: "Granite MoE with windows",
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "attention_bias": false, "embedding_multiplier": 1.0, "logits_scaling": 1.0,
        "residual_multiplier": 1.0, "attention_multiplier": 1.0, "num_experts": 8, "num_experts_per_tok": 2,
        "shared_intermediate_size": 0, "sliding_window": 128}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, dims) = (c.hidden_size()?, RotaryDims::whole(c.heads()?.2, false));
    let windows = c.windows(c.size_opt("sliding_window")?, |layer| layer % 4 != 0)?;
    let bases = c.numbers_of_layers("layer_rope_theta")?;
    decoder(c, p, |p, layer, gqa| {
        let rotary = match &bases {
            Some(bases) => Rotary::based(p, c, dims, bases[layer])?,
            None => Some(Rotary::load(p, c, dims, "full_attention")?),
        };
        let sinks = p.vector(("sinks", ""), gqa.heads)?;
        let gqa = GqaConfig { window: windows[layer], ..*gqa };
        Ok(Gqa::load(p, &gqa, hidden, rotary)?.with_sinks(sinks))
    })
}
