//! Mamba 2: as Mamba, with one decay per head (arXiv 2405.21060).
use super::{
    Family, always,
    mamba::{eps, stack},
};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Mamba2, Mamba2Config},
};

pub(super) const FAMILY: Family = Family {
    model_type: "mamba2",
    title: "Mamba 2, Codestral Mamba",
    gguf: Some(("mamba2", always)),
    base: "backbone",
    defaults: r#"{"num_heads": 128, "head_dim": 64, "vocab_size": 32768, "hidden_size": 4096, "mamba_d_state": 128,
        "num_hidden_layers": 64, "layer_norm_eps": 1e-5, "mamba_expand": 2, "mamba_d_conv": 4, "mamba_n_groups": 8,
        "use_bias": false, "mamba_conv_bias": true, "hidden_act": "silu", "tie_word_embeddings": false,
        "max_position_embeddings": 1048576}"#,
    gguf_keys: Some(|keys| {
        let size = |k: &str| keys.get(k).and_then(serde_json::Value::as_u64);
        if let (Some(heads), Some(inner)) = (size("mamba_dt_rank").filter(|n| *n > 0), size("mamba_d_ssm")) {
            keys.insert("num_heads".into(), heads.into());
            keys.insert("head_dim".into(), (inner / heads).into());
        }
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let (heads, head_dim) = (c.size("num_heads")?, c.size("head_dim")?);
    let (bias, act) = (c.flag("use_bias")?, c.activation("hidden_act")?);
    let mamba = Mamba2Config { bias: [bias; 2], act, eps: eps(c)?, ..Mamba2Config::of_heads(c, heads, head_dim)? };
    stack(c, p, |p| Ok(Box::new(Mamba2::load(p, &mamba, hidden)?)))
}
