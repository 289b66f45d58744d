//! Jamba: Mamba with norms inside, attention without positions in a few layers, experts in every other one
//! (arXiv 2403.19887).
use super::{Family, always, layer_types_of_heads};
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, Branch, Decoder, Embedding, ExpertNames, Gqa, GqaConfig, Mamba, MambaConfig, Mlp, SoftmaxMoe, gated,
        softmax_moe,
    },
};

pub(super) const FAMILY: Family = Family {
    model_type: "jamba",
    title: "Jamba",
    gguf: Some(("jamba", always)),
    defaults: r#"{"vocab_size": 65536, "tie_word_embeddings": false, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "max_position_embeddings": 262144, "num_experts_per_tok": 2, "num_experts": 16,
        "expert_layer_period": 2, "expert_layer_offset": 1, "attn_layer_period": 8, "attn_layer_offset": 4,
        "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": "auto", "mamba_conv_bias": true,
        "mamba_proj_bias": false}"#,
    // One expert is none.
    json_keys: Some(|keys| {
        if keys.get("num_experts") == Some(&1.into()) {
            keys.insert("num_experts".into(), 0.into());
        }
    }),
    gguf_keys: Some(|keys| layer_types_of_heads(keys, "attention", "mamba")),
    gguf_reads: &["layers"],
    load,
    ..Family::BASE
};

/// Words for layers that attend, and for those that do not.
pub(super) const MIXERS: [(&str, bool); 4] =
    [("attention", true), ("full_attention", true), ("mamba", false), ("linear_attention", false)];

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    let (gqa, mamba) = (GqaConfig::read(c)?, MambaConfig::read(c, "mamba_proj_bias")?);
    let (period, offset) = (c.size("attn_layer_period")?, c.count("attn_layer_offset")?);
    let attends = c.layer_kinds("layer_types", &MIXERS, |i| i % period == offset)?;
    let mixer = |l: &Params<'_>, i: usize| {
        if attends[i] {
            return Ok(Box::new(Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, None)?) as Box<dyn Block>);
        }
        let at = l.at(("mamba", ""));
        let norm = |name, gguf, n| at.rms((name, gguf), n, eps, false);
        let norms = [
            norm("dt_layernorm", "ssm_dt_norm", mamba.rank)?,
            norm("b_layernorm", "ssm_b_norm", mamba.state)?,
            norm("c_layernorm", "ssm_c_norm", mamba.state)?,
        ];
        Ok(Box::new(Mamba::load(&at, &mamba, hidden, Some(norms))?))
    };
    Ok(Box::new(decoder(c, p, mixer, |p, layer| ffn(c, p, layer))?))
}

/// A feed-forward part: experts or, in the layers between, one that is as wide as an expert.
fn ffn(c: &Config, p: &Params<'_>, layer: usize) -> Result<Box<dyn Block>> {
    let (hidden, inner, act) = (c.hidden_size()?, c.size("intermediate_size")?, c.activation("hidden_act")?);
    let (period, offset) = (c.size("expert_layer_period")?, c.count("expert_layer_offset")?);
    let sparse = match p.is_gguf() {
        true => p.has(("", "ffn_gate_inp.weight")),
        false => c.count("num_experts")? > 0 && layer % period == offset,
    };
    if !sparse {
        return Ok(Box::new(Mlp(gated(p, hidden, inner, false, act)?)));
    }
    let names = ExpertNames::USUAL;
    let experts = SoftmaxMoe { router: "router", names, inner: "intermediate_size", renormalize: false };
    Ok(Box::new(softmax_moe(c, p, layer, experts)?))
}

/// A decoder under the names that Jamba and its heirs have: `mixer` reads at the layer, `ffn` at its feed-forward part.
pub(super) fn decoder(
    c: &Config,
    p: &Params<'_>,
    mixer: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
    ffn: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
) -> Result<Decoder> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    let body = p.body();
    let tokens = body.weight(("embed_tokens", "token_embd"), c.vocab_size()?, hidden)?;
    let norm = body.rms(("final_layernorm", "output_norm"), hidden, eps, false)?;
    Decoder::layered(c, p, (Embedding::new(tokens), Some(norm)), "layers", |l, i| {
        let pre = l.rms(("input_layernorm", "attn_norm"), hidden, eps, false)?;
        let ffn_pre = l.rms(("pre_ff_layernorm", "ffn_norm"), hidden, eps, false)?;
        let ffn = ffn(&l.at(("feed_forward", "")), i)?;
        Ok(vec![Branch::boxed(pre, mixer(l, i)?), Branch::boxed(ffn_pre, ffn)])
    })
}
