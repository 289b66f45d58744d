//! Mamba: no attention at all, a mixer with a state per channel in every layer (arXiv 2312.00752).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Block, Branch, Decoder, Embedding, Mamba, MambaConfig},
};
use pondera_ops::Norm;
use serde_json::{Map, Value};

pub(super) const FAMILY: Family = Family {
    model_type: "mamba",
    title: "Mamba",
    gguf: Some(("mamba", |keys| !normalises(keys))),
    base: "backbone",
    defaults: DEFAULTS,
    load: |c, p| load(c, p, None),
    ..Family::BASE
};

/// Of Mamba and Falcon Mamba. Nothing ends at a position.
pub(super) const DEFAULTS: &str = r#"{"vocab_size": 50280, "hidden_size": 768, "mamba_d_state": 16,
    "num_hidden_layers": 32, "layer_norm_eps": 1e-5, "mamba_expand": 2, "mamba_d_conv": 4, "use_bias": false,
    "mamba_conv_bias": true, "hidden_act": "silu", "mamba_dt_rank": "auto", "tie_word_embeddings": true,
    "max_position_embeddings": 1048576, "mixer_rms_eps": 1e-6}"#;

/// Whether a GGUF file normalises step sizes, B and C.
pub(super) fn normalises(keys: &Map<String, Value>) -> bool {
    keys.get("gguf_dt_b_c_rms") == Some(&Value::Bool(true))
}

pub(super) fn load(c: &Config, p: &Params<'_>, norms: Option<[Norm; 3]>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let mamba = MambaConfig::read(c, "use_bias")?;
    stack(c, p, |p| Ok(Box::new(Mamba::load(p, &mamba, hidden, norms.clone())?)))
}

/// A mixer in every layer, under the names of Mamba's tree.
pub(super) fn stack(
    c: &Config,
    p: &Params<'_>,
    mixer: impl Fn(&Params<'_>) -> Result<Box<dyn Block>>,
) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, eps(c)?);
    let body = p.body();
    let tokens = body.weight(("embeddings|embedding", "token_embd"), c.vocab_size()?, hidden)?;
    let norm = body.rms(("norm_f", "output_norm"), hidden, eps, false)?;
    let decoder = Decoder::layered(c, p, (Embedding::new(tokens), Some(norm)), "layers", |l, _| {
        let pre = l.rms(("norm", "attn_norm"), hidden, eps, false)?;
        Ok(vec![Branch::boxed(pre, mixer(&l.at(("mixer", "")))?)])
    })?;
    Ok(Box::new(decoder))
}

/// The epsilon of the norms, which GGUF files call as RMS norms' are called.
pub(super) fn eps(c: &Config) -> Result<f32> {
    c.eps(if c.is_gguf() { "rms_norm_eps" } else { "layer_norm_eps" })
}
