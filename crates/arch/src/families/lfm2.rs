//! LFM2: short gated convolutions in most layers, attention in the others (arXiv 2511.23404).
use super::{Family, always, layer_types_of_heads};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Block, Branch, Decoder, Embedding, Gqa, GqaConfig, Mlp, Rotary, RotaryDims, ShortConv},
};
use pondera_ops::Activation;
use serde_json::{Map, Value};

pub(super) const FAMILY: Family = Family {
    model_type: "lfm2",
    title: "LFM2",
    gguf: Some(("lfm2", always)),
    defaults: r#"{"vocab_size": 65536, "hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 128000, "norm_eps": 1e-5,
        "rope_theta": 1e6, "conv_bias": false, "conv_L_cache": 3, "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": true, "tie_word_embeddings": true}"#,
    gguf_keys: Some(gguf_keys),
    gguf_reads: &["layers"],
    load: |c, p| {
        let (hidden, inner) = (c.hidden_size()?, inner(c)?);
        load(c, p, |p, _| Ok(Box::new(Mlp(mlp(p, hidden, inner)?))))
    },
    ..Family::BASE
};

pub(super) fn gguf_keys(keys: &mut Map<String, Value>) {
    layer_types_of_heads(keys, "full_attention", "conv");
    if let Some(eps) = keys.get("rms_norm_eps").cloned() {
        keys.insert("norm_eps".into(), eps);
    }
    // The file has the width itself.
    keys.insert("block_auto_adjust_ff_dim".into(), false.into());
}

/// The width of a feed-forward part: two thirds of what the configuration says, times a factor, rounded up.
fn inner(c: &Config) -> Result<usize> {
    let given = match c.size_opt("block_ff_dim")? {
        Some(n) => n,
        None => c.size("intermediate_size")?,
    };
    if !c.flag("block_auto_adjust_ff_dim")? {
        return Ok(given);
    }
    let two_thirds = 2 * given / 3;
    let Some(factor) = c.number_opt("block_ffn_dim_multiplier")? else { return Ok(two_thirds) };
    let multiple = c.size("block_multiple_of")?;
    let inner = ((factor * two_thirds as f64) as usize).div_ceil(multiple).checked_mul(multiple);
    inner.filter(|n| (1..=1 << 28).contains(n)).ok_or_else(|| c.bad("block_ffn_dim_multiplier", "gives no width"))
}

/// A feed-forward part under LFM2's names.
pub(super) fn mlp(p: &Params<'_>, hidden: usize, inner: usize) -> Result<pondera_ops::Mlp> {
    Ok(pondera_ops::Mlp {
        gate: Some(p.linear(("w1", "ffn_gate"), inner, hidden, false)?),
        up: p.linear(("w3", "ffn_up"), inner, hidden, false)?,
        down: p.linear(("w2", "ffn_down"), hidden, inner, false)?,
        act: Activation::Silu,
    })
}

/// The decoder, whose feed-forward parts `ffn` reads.
pub(super) fn load(
    c: &Config,
    p: &Params<'_>,
    ffn: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("norm_eps")?);
    let (kernel, conv_bias) = (c.size_max("conv_L_cache", 256)?, c.flag("conv_bias")?);
    let gqa = GqaConfig::read(c)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let chosen = match c.get("full_attn_idxs") {
        Some(_) => Some(c.sizes("full_attn_idxs")?),
        None => None,
    };
    let words = [("full_attention", true), ("conv", false)];
    let attends = c.layer_kinds("layer_types", &words, |i| chosen.as_ref().is_none_or(|all| all.contains(&i)))?;

    let body = p.body();
    let tokens = body.weight(("embed_tokens", "token_embd"), c.vocab_size()?, hidden)?;
    let norm = body.rms(("embedding_norm", "token_embd_norm|output_norm"), hidden, eps, false)?;
    let decoder = Decoder::layered(c, p, (Embedding::new(tokens), Some(norm)), "layers", |l, i| {
        let mixer: Box<dyn Block> = if attends[i] {
            let at = l.at(("self_attn", ""));
            let norm = |name, gguf| at.rms((name, gguf), gqa.head_dim, eps, false);
            let (q, k) = (norm("q_layernorm", "attn_q_norm")?, norm("k_layernorm", "attn_k_norm")?);
            Box::new(Gqa::load(&at, &gqa, hidden, Some(rotary))?.with_qk_norm(q, k))
        } else {
            Box::new(ShortConv::load(&l.at(("conv", "")), hidden, kernel, conv_bias)?)
        };
        let pre = l.rms(("operator_norm", "attn_norm"), hidden, eps, false)?;
        let ffn_pre = l.rms(("ffn_norm", "ffn_norm"), hidden, eps, false)?;
        Ok(vec![Branch::boxed(pre, mixer), Branch::boxed(ffn_pre, ffn(&l.at(("feed_forward", "")), i)?)])
    })?;
    Ok(Box::new(decoder))
}
