//! Command R7B and A: Command R with windows in three of four layers, positions only there (arXiv 2504.00698).
use super::{Family, always, cohere};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "cohere2",
    title: "Command R7B, A",
    gguf: Some(("cohere2", always)),
    defaults: r#"{"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528, "logit_scale": 0.0625,
        "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": 64, "hidden_act": "silu",
        "max_position_embeddings": 8192, "layer_norm_eps": 1e-05, "tie_word_embeddings": true,
        "attention_bias": false, "sliding_window": 4096, "head_dim": 128, "rope_theta": 10000.0,
        "sliding_window_pattern": 4}"#,
    gguf_reads: &["logit_scale"],
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let every = c.size("sliding_window_pattern")?;
    let windows = c.windows(c.size_opt("sliding_window")?, |i| (i + 1) % every != 0)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, true), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let mut decoder = Decoder::build(
        c,
        p,
        &cohere::tree(c)?,
        |p, i| Gqa::boxed(p, &GqaConfig { window: windows[i], ..gqa }, hidden, windows[i].map(|_| rotary)),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    decoder.head.scale = c.positive("logit_scale")?;
    Ok(Box::new(decoder))
}
