//! Falcon-H1: Mamba 2 and attention side by side in every layer, constant factors everywhere (arXiv 2507.22448).
use super::{Family, always, jamba::decoder};
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, GateOrder, Gqa, GqaConfig, Mamba2, Mamba2Config, Multiplied, Parallel, Rotary, RotaryDims, ScaledMlp,
        gated,
    },
};

pub(super) const FAMILY: Family = Family {
    model_type: "falcon_h1",
    title: "Falcon-H1",
    // GGUF's converter multiplies the factors into the weights.
    gguf: Some(("falcon-h1", always)),
    defaults: r#"{"vocab_size": 128000, "tie_word_embeddings": false, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "max_position_embeddings": 8192, "mamba_d_ssm": 1024, "mamba_n_heads": 128,
        "mamba_d_head": "auto", "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2,
        "mamba_conv_bias": true, "mamba_proj_bias": false, "mamba_norm_before_gate": true, "mamba_rms_norm": false,
        "projectors_bias": false, "lm_head_multiplier": 1.0, "embedding_multiplier": 1.0, "key_multiplier": 1.0,
        "attention_out_multiplier": 1.0, "attention_in_multiplier": 1.0, "ssm_in_multiplier": 1.0,
        "ssm_out_multiplier": 1.0, "attention_bias": false, "mlp_bias": false}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let (bias, mlp_bias, act) = (c.flag("attention_bias")?, c.flag("mlp_bias")?, c.activation("hidden_act")?);
    let factor = |key| c.number(key).map(|f| f as f32);
    let mut gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    // A factor on keys is one on scores.
    gqa.scale *= factor("key_multiplier")?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let ones = [1.0; 5];
    let factors = c.numbers::<5>("ssm_multipliers")?.unwrap_or(ones).map(|f| f as f32);
    let bias = [c.flag("mamba_proj_bias")?, c.flag("projectors_bias")?];
    let mamba = Mamba2Config { factors, bias, ..Mamba2Config::read(c, c.eps("rms_norm_eps")?)? };
    let [gate, output] = c.numbers::<2>("mlp_multipliers")?.unwrap_or([1.0; 2]).map(|f| f as f32);
    let (ssm_in, ssm_out) = (factor("ssm_in_multiplier")?, factor("ssm_out_multiplier")?);
    let (attention_in, attention_out) = (factor("attention_in_multiplier")?, factor("attention_out_multiplier")?);
    let (normed, norm_first) = (c.flag("mamba_rms_norm")?, c.flag("mamba_norm_before_gate")?);

    let mixer = |l: &Params<'_>, _| {
        let at = l.at(("mamba", ""));
        let order = match (if p.is_gguf() { at.has(("", "ssm_norm.weight")) } else { normed }, norm_first) {
            (false, _) => GateOrder::NoNorm,
            (true, true) if !p.is_gguf() => GateOrder::AfterNorm,
            (true, _) => GateOrder::BeforeNorm,
        };
        let mamba = Mamba2::load(&at, &Mamba2Config { gate: order, ..mamba }, hidden)?;
        let attention = Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, Some(rotary))?;
        let mamba = Multiplied { input: ssm_in, body: mamba, output: ssm_out };
        let attention = Multiplied { input: attention_in, body: attention, output: attention_out };
        Ok(Box::new(Parallel { norms: [None, None], bodies: [Box::new(mamba), Box::new(attention)] }) as Box<dyn Block>)
    };
    let ffn = |p: &Params<'_>, _| {
        Ok(Box::new(ScaledMlp { mlp: gated(p, hidden, inner, mlp_bias, act)?, gate, output }) as Box<dyn Block>)
    };
    let mut decoder = decoder(c, p, mixer, ffn)?;
    decoder.embedding.scale = factor("embedding_multiplier")?;
    decoder.head.scale = factor("lm_head_multiplier")?;
    Ok(Box::new(decoder))
}
