//! Gemma 2: norms before and after each branch, windows in every other layer, bounds on scores and logits
//! (arXiv 2408.00118).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "gemma2",
    title: "Gemma 2",
    gguf: Some(("gemma2", always)),
    defaults: r#"{"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true, "attention_bias": false,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0}"#,
    // Not in GGUF files: the width of a head, but for the 27B model, whose scores are divided by hidden / heads.
    gguf_keys: Some(|keys| {
        let size = |k: &str| keys.get(k).and_then(serde_json::Value::as_u64);
        let scalar = match (size("num_hidden_layers"), size("hidden_size"), size("num_attention_heads")) {
            (Some(46), Some(hidden), Some(heads)) if heads > 0 => Some(hidden / heads),
            _ => size("head_dim"),
        };
        if let Some(s) = scalar {
            keys.insert("query_pre_attn_scalar".into(), s.into());
        }
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    c.never("use_bidirectional_attention")?;
    let bias = c.flag("attention_bias")?;
    let scale = f64::from(c.positive("query_pre_attn_scalar")?).powf(-0.5) as f32;
    let softcap = c.positive_opt("attn_logit_softcapping")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, scale, softcap, ..GqaConfig::read(c)? };
    let windows = c.windows(c.size_opt("sliding_window")?, |layer| layer % 2 == 0)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_activation")?;
    let mut decoder = Decoder::build(
        c,
        p,
        &Tree::sandwich(c)?.one_plus(),
        |p, i| Gqa::boxed(p, &GqaConfig { window: windows[i], ..gqa }, hidden, Some(rotary)),
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    decoder.embedding.scale = (hidden as f32).sqrt();
    decoder.head.softcap = c.positive_opt("final_logit_softcapping")?;
    Ok(Box::new(decoder))
}
