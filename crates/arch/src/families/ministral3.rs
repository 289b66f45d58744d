//! Ministral 3: Mistral with YaRN and queries that grow with the position.
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp, llama4_scaling},
};

pub(super) const FAMILY: Family = Family {
    model_type: "ministral3",
    title: "Ministral 3",
    gguf: None,
    defaults: r#"{"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 34,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 262144, "rms_norm_eps": 1e-05, "tie_word_embeddings": false,
        "rope_parameters": {"type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 16384, "max_position_embeddings": 262144, "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1, "rope_type": "yarn"}}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let window = c.size_opt("sliding_window")?;
    let gqa = GqaConfig { window, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let temperature = Some(llama4_scaling(c, p)?);
    let act = c.activation("hidden_act")?;
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Ok(Box::new(Gqa { temperature, ..Gqa::load(p, &gqa, hidden, Some(rotary))? })),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    Ok(Box::new(decoder))
}
