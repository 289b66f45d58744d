//! Bamba: Mamba 2, with attention in a few layers whose heads rotate by half.
use super::{Family, jamba::decoder};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Block, Gqa, GqaConfig, Mamba2, Mamba2Config, Mlp, Rotary, RotaryDims, gated},
};

pub(super) const FAMILY: Family = Family {
    model_type: "bamba",
    title: "Bamba",
    defaults: r#"{"vocab_size": 128000, "tie_word_embeddings": false, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "max_position_embeddings": 262144, "attn_layer_indices": [], "mamba_n_heads": 128,
        "mamba_d_head": "auto", "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2,
        "mamba_conv_bias": true, "mamba_proj_bias": false, "attention_bias": false, "mlp_bias": false,
        "partial_rotary_factor": 0.5}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let (bias, mlp_bias, act) = (c.flag("attention_bias")?, c.flag("mlp_bias")?, c.activation("hidden_act")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let mamba = Mamba2Config::read(c, c.eps("rms_norm_eps")?)?;
    let attends = c.sizes("attn_layer_indices")?;
    let mixer = |l: &Params<'_>, i: usize| {
        if attends.contains(&i) {
            return Ok(Box::new(Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, Some(rotary))?) as Box<dyn Block>);
        }
        Ok(Box::new(Mamba2::load(&l.at(("mamba", "")), &mamba, hidden)?))
    };
    let ffn = |p: &Params<'_>, _| Ok(Box::new(Mlp(gated(p, hidden, inner, mlp_bias, act)?)) as Box<dyn Block>);
    Ok(Box::new(decoder(c, p, mixer, ffn)?))
}
