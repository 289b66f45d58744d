//! Qwen 3.5: as Qwen3-Next, with dense feed-forward parts and the projections of its delta nets one by one.
use super::{
    Family, always,
    qwen3_next::{decoder, gguf_keys},
};
use crate::{
    Config, Params, Result,
    blocks::{DeltaNetConfig, Joined, Mlp, gated},
};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_5",
    title: "Qwen 3.5",
    gguf: Some(("qwen35", always)),
    defaults: r#"{"vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32,
        "num_attention_heads": 16, "num_key_value_heads": 4, "hidden_act": "silu", "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "attention_bias": false, "head_dim": 256,
        "partial_rotary_factor": 0.25, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
        "full_attention_interval": 4}"#,
    gguf_keys: Some(gguf_keys),
    gguf_reads: &["layers"],
    load: |c, p| {
        let (hidden, inner, act) = (c.hidden_size()?, c.size("intermediate_size")?, c.activation("hidden_act")?);
        decoder(c, p, &delta(c)?, inputs, |p, _| Ok(Box::new(Mlp(gated(p, hidden, inner, false, act)?))))
    },
    ..Family::BASE
};

/// GGUF's converter puts value heads in another order.
pub(super) fn delta(c: &Config) -> Result<DeltaNetConfig> {
    Ok(DeltaNetConfig { turns: c.is_gguf(), ..DeltaNetConfig::read(c)? })
}

/// Projections one by one.
pub(super) fn inputs(p: &Params<'_>, d: &DeltaNetConfig, hidden: usize) -> Result<[Joined; 2]> {
    let (keys, values) = d.widths();
    let linear = |name, gguf, out| p.linear((name, gguf), out, hidden, false);
    let qkvz = [linear("in_proj_qkv", "attn_qkv", 2 * keys + values)?, linear("in_proj_z", "attn_gate", values)?];
    let ba = [linear("in_proj_b", "ssm_beta", d.heads)?, linear("in_proj_a", "ssm_alpha", d.heads)?];
    Ok([Joined::Apart(qkvz), Joined::Apart(ba)])
}
