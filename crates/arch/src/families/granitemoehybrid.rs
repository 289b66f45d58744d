//! Granite 4: Mamba 2 in most layers, attention (mostly without positions) in the others, experts beside a feed-forward
//! part that all tokens share, constant factors on the stream.
use super::{Family, always, jamba::MIXERS, layer_types_of_heads};
use crate::{
    Config, Error, Graph, Layout, Params, Result,
    blocks::{
        Block, Branch, Decoder, Embedding, ExpertNames, Gqa, GqaConfig, Mamba2, Mamba2Config, Mlp, Moe, Rotary,
        RotaryDims, SharedExpert, experts,
    },
};
use pondera_ops::{Linear, Route, Score};
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_type: "granitemoehybrid",
    title: "Granite 4",
    gguf: Some(("granitehybrid", always)),
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "attention_bias": false, "embedding_multiplier": 1.0, "logits_scaling": 1.0,
        "residual_multiplier": 1.0, "attention_multiplier": 1.0, "num_experts": 8, "num_experts_per_tok": 2,
        "shared_intermediate_size": 1024, "mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256,
        "mamba_d_head": "auto", "mamba_d_conv": 4, "mamba_expand": 2, "mamba_conv_bias": true,
        "mamba_proj_bias": false}"#,
    gguf_keys: Some(|keys| {
        layer_types_of_heads(keys, "attention", "mamba");
        if keys.get("gguf_rope_finetuned") == Some(&true.into()) {
            keys.insert("position_embedding_type".into(), "rope".into());
        }
        for (ours, theirs) in
            [("logits_scaling", "logit_scale"), ("shared_intermediate_size", "shared_expert_intermediate_size")]
        {
            if let Some(v) = keys.get(theirs).cloned() {
                keys.insert(ours.into(), v);
            }
        }
        // Where the file names none, scores are divided by the root of a head's width.
        keys.insert("attention_multiplier".into(), Value::Null);
        if !super::has_experts(keys) {
            keys.insert("num_experts".into(), 0.into());
            // The one part there is.
            if let Some(n) = keys.get("intermediate_size").cloned() {
                keys.insert("shared_intermediate_size".into(), n);
            }
        }
    }),
    gguf_reads: &["layers", "embedding_multiplier", "residual_multiplier", "logit_scale"],
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    let bias = c.flag("attention_bias")?;
    let mut gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    gqa.scale = c.positive_opt("attention_multiplier")?.unwrap_or(gqa.scale);
    c.only("position_embedding_type", &["rope", "nope"])?;
    let rotary = match c.text("position_embedding_type")? {
        // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
        Some("rope") => {
            let dims = RotaryDims::partial(c, gqa.head_dim, p.is_gguf())?;
            Some(Rotary::load(p, c, dims, "full_attention")?)
        }
        _ => None,
    };
    let attends = c.layer_kinds("layer_types", &MIXERS, |_| false)?;
    let mamba = if attends.contains(&false) { Some(Mamba2Config::read(c, eps)?) } else { None };
    let residual = c.number("residual_multiplier")? as f32;

    let body = p.body();
    let tokens = body.weight(("embed_tokens", "token_embd"), c.vocab_size()?, hidden)?;
    let norm = body.rms(("norm", "output_norm"), hidden, eps, false)?;
    let embedding = Embedding { scale: c.number("embedding_multiplier")? as f32, ..Embedding::new(tokens) };
    let mut decoder = Decoder::layered(c, p, (embedding, Some(norm)), "layers", |l, i| {
        let mixer: Box<dyn Block> = match &mamba {
            Some(mamba) if !attends[i] => Box::new(Mamba2::load(&l.at(("mamba", "")), mamba, hidden)?),
            _ => Box::new(Gqa::load(&l.at(("self_attn", "")), &gqa, hidden, rotary)?),
        };
        let pre = l.rms(("input_layernorm", "attn_norm"), hidden, eps, false)?;
        let ffn_pre = l.rms(("post_attention_layernorm", "ffn_norm"), hidden, eps, false)?;
        let ffn = Branch::boxed(ffn_pre, ffn(c, l, i)?);
        Ok(vec![Branch::boxed(pre, mixer).scaled(residual), ffn.scaled(residual)])
    })?;
    decoder.head.scale = 1.0 / c.positive("logits_scaling")?;
    Ok(Box::new(decoder))
}

/// The part that all tokens share, beside experts where there are any.
fn ffn(c: &Config, p: &Params<'_>, layer: usize) -> Result<Box<dyn Block>> {
    let (hidden, act) = (c.hidden_size()?, c.activation("hidden_act")?);
    let mlp = shared(p, hidden, c.size("shared_intermediate_size")?)?;
    let mlp = pondera_ops::Mlp { act, ..mlp };
    let Some((count, top_k)) = c.experts()? else { return Ok(Box::new(Mlp(mlp))) };
    let at = p.at(("block_sparse_moe", ""));
    let inner = c.size("intermediate_size")?;
    let score = Score::SoftmaxOfChosen;
    Ok(Box::new(Moe {
        layer,
        router: at.linear(("router|router.layer", "ffn_gate_inp"), count, hidden, false)?,
        route: Route { top_k, score, bias: None, groups: None, renormalize: None, scale: 1.0 },
        experts: experts(&at, ExpertNames::USUAL, (count, top_k), inner, hidden, act)?,
        shared: Some(SharedExpert { mlp, gate: None }),
    }))
}

/// Gate and up stacked over each other; GGUF files have them one by one.
fn shared(p: &Params<'_>, hidden: usize, inner: usize) -> Result<pondera_ops::Mlp> {
    let [gate, up] = if p.is_gguf() {
        let linear = |name| p.linear(("", name), inner, hidden, false);
        [linear("ffn_gate_shexp|ffn_gate")?, linear("ffn_up_shexp|ffn_up")?]
    } else {
        let both = p.fused(("shared_mlp.input_linear", ""), &[inner, inner], hidden, Layout::Rows, false)?;
        <[Linear; 2]>::try_from(both).map_err(|_| Error::config("input_linear", "expected 2 parts"))?
    };
    let down = p.linear(("shared_mlp.output_linear", "ffn_down_shexp|ffn_down"), hidden, inner, false)?;
    Ok(pondera_ops::Mlp { gate: Some(gate), up, down, act: pondera_ops::Activation::Silu })
}
