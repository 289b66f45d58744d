//! MiniCPM3: latent attention in a dense model, with factors on embeddings, branches and logits (arXiv 2404.06395).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Mla, MlaConfig, Rotary, RotaryDims, Tree, attention_mscale, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "minicpm3",
    title: "MiniCPM3",
    gguf: None,
    defaults: r#"{"vocab_size": 73448, "hidden_size": 2560, "intermediate_size": 6400, "num_hidden_layers": 62,
        "num_attention_heads": 40, "num_key_value_heads": 40, "hidden_act": "silu", "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
        "kv_lora_rank": 256, "q_lora_rank": 768, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
        "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, "rope_theta": 10000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let mut mla = MlaConfig::read(c, 1e-6)?;
    mla.scale = (f64::from(mla.scale) * attention_mscale(c)?) as f32;
    let rotary = Rotary::load(p, c, RotaryDims::whole(mla.qk_rope_head_dim, false), "full_attention")?;
    let (act, bias) = (c.activation("hidden_act")?, c.flag("mlp_bias")?);
    let decoder = Decoder::build(
        c,
        p,
        &Tree::pre_norm(c)?,
        |p, _| Ok(Box::new(Mla::load(p, &mla, rotary)?)),
        |p, _| gated_mlp(p, hidden, inner, bias, act),
    )?;
    let layers = c.num_hidden_layers()? as f64;
    let mut decoder = decoder.scaled((f64::from(c.positive("scale_depth")?) / layers.sqrt()) as f32);
    decoder.embedding.scale = c.positive("scale_emb")?;
    decoder.head.scale = (c.size("dim_model_base")? as f64 / hidden as f64) as f32;
    Ok(Box::new(decoder))
}
