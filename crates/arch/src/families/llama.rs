//! Llama 1 to 3.2 and everything that kept its block: pre-norm, grouped queries, rotary halves, gated silu
//! (arXiv 2302.13971, 2407.21783).
use super::{Family, has_experts};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Mlp, Rotary, RotaryDims, gated},
};

pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    title: "Llama",
    gguf: Some(("llama", |keys| !has_experts(keys))),
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let bias = c.flag("attention_bias")?;
    // Mistral's files are called so too; where they name a window it holds.
    let window = if p.is_gguf() { Some(c.count("sliding_window")?).filter(|w| *w > 0) } else { None };
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, window, ..GqaConfig::read(c)? };
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, p.is_gguf()), "full_attention")?;
    let (act, mlp_bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| Gqa::load(p, &gqa, hidden, Some(rotary)),
        |p, _| Ok(Box::new(Mlp(gated(p, hidden, inner, mlp_bias, act)?))),
    )?;
    Ok(Box::new(decoder))
}
