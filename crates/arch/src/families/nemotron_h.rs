//! Nemotron-H and Nemotron 3: one part a layer, which is Mamba 2, attention without positions, a feed-forward part or
//! experts, both of these without gates (arXiv 2504.03624).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, Branch, Decoder, Embedding, Gqa, GqaConfig, LatentMoe, Mamba2, Mamba2Config, Mlp, plain, plain_experts,
    },
};
use pondera_ops::{Activation, GroupScore, Route, Score};
use serde_json::{Map, Value};

// Rows stay as they are where the table gains a column.
#[allow(clippy::needless_update)]
pub(super) const FAMILY: Family = Family {
    model_type: "nemotron_h",
    title: "Nemotron-H, Nemotron 3",
    gguf: Some(("nemotron_h|nemotron_h_moe", always)),
    base: "backbone|model",
    defaults: r#"{"vocab_size": 131072, "hidden_size": 4096, "tie_word_embeddings": false, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 4096, "attention_bias": false,
        "intermediate_size": 21504, "mlp_hidden_act": "relu2", "mlp_bias": false, "mamba_d_state": 128,
        "mamba_num_heads": 128, "mamba_head_dim": 64, "mamba_hidden_act": "silu", "mamba_n_groups": 8,
        "mamba_d_conv": 4, "time_step_min": 0.001, "mamba_conv_bias": true, "use_bias": false, "num_experts": 8,
        "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688, "num_experts_per_tok": 2,
        "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "layer_norm_eps": 1e-5}"#,
    json_keys: Some(json_keys),
    gguf_keys: Some(gguf_keys),
    gguf_reads: &["layers"],
    load,
    ..Family::BASE
};

/// What a layer is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Mamba,
    Attention,
    Mlp,
    Experts,
}

/// Older ways to say what layers are, which also says how many there are.
fn json_keys(keys: &mut Map<String, Value>) {
    if let Some(n) = keys.remove("mamba_dt_min") {
        keys.insert("time_step_min".into(), n);
    }
    let pattern = keys.remove("hybrid_override_pattern");
    let listed = keys.get("layer_types").is_some_and(|v| !v.is_null());
    if let Some(pattern) = pattern.as_ref().and_then(Value::as_str).filter(|_| !listed) {
        let kinds = pattern.chars().take(1 << 13).map(|letter| Value::from(letter.to_string()));
        keys.insert("layer_types".into(), kinds.collect());
    } else if !listed {
        keys.insert("layer_types".into(), ["mamba", "moe", "attention", "mlp"].map(Value::from).to_vec().into());
    }
    if let Some(n) = keys.get("layer_types").and_then(Value::as_array).map(Vec::len) {
        keys.insert("num_hidden_layers".into(), n.into());
    }
}

fn gguf_keys(keys: &mut Map<String, Value>) {
    let size = |k: &str| keys.get(k).and_then(Value::as_u64);
    let (heads, inner) = (size("mamba_dt_rank").filter(|n| *n > 0), size("mamba_d_ssm"));
    for (ours, value) in [
        ("mamba_num_heads", heads),
        ("mamba_head_dim", heads.zip(inner).map(|(heads, inner)| inner / heads)),
        ("moe_shared_expert_intermediate_size", size("shared_expert_intermediate_size")),
    ] {
        if let Some(n) = value {
            keys.insert(ours.into(), n.into());
        }
    }
    // Step sizes are not bounded there.
    keys.insert("time_step_min".into(), 0.into());
    if let Some(eps) = keys.get("rms_norm_eps").cloned() {
        keys.insert("layer_norm_eps".into(), eps);
    }
}

/// What layer `i` is; GGUF files say it by the tensors they have.
fn part(l: &Params<'_>, listed: &[Part], i: usize) -> Part {
    let has = |name: &str| l.has(("", name));
    match l.is_gguf() {
        false => listed[i],
        true if has("ssm_in.weight") => Part::Mamba,
        true if has("attn_q.weight") => Part::Attention,
        true if has("ffn_gate_inp.weight") => Part::Experts,
        true => Part::Mlp,
    }
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("layer_norm_eps")?);
    let words = [
        ("linear_attention", Part::Mamba),
        ("mamba", Part::Mamba),
        ("M", Part::Mamba),
        ("full_attention", Part::Attention),
        ("attention", Part::Attention),
        ("*", Part::Attention),
        ("mlp", Part::Mlp),
        ("-", Part::Mlp),
        ("moe", Part::Experts),
        ("E", Part::Experts),
    ];
    let listed = c.layer_kinds("layer_types", &words, |_| Part::Mlp)?;
    let gqa = GqaConfig::read(c)?;
    let mamba = Mamba2Config {
        bias: [c.flag("use_bias")?; 2],
        act: c.activation("mamba_hidden_act")?,
        limit: (c.number("time_step_min")? as f32, f32::INFINITY),
        eps,
        ..Mamba2Config::of_heads(c, c.size("mamba_num_heads")?, c.size("mamba_head_dim")?)?
    };
    let act = c.activation("mlp_hidden_act")?;

    let body = p.body();
    let tokens = body.weight(("embeddings", "token_embd"), c.vocab_size()?, hidden)?;
    let norm = body.rms(("norm_f", "output_norm"), hidden, eps, false)?;
    let decoder = Decoder::layered(c, p, (Embedding::new(tokens), Some(norm)), "layers", |l, i| {
        let pre = l.rms(("norm", "attn_norm"), hidden, eps, false)?;
        let at = l.at(("mixer", ""));
        let body: Box<dyn Block> = match part(l, &listed, i) {
            Part::Mamba => Box::new(Mamba2::load(&at, &mamba, hidden)?),
            Part::Attention => {
                // The reference knows the flag and has no biases; files of the model's own code may.
                let bias = c.flag("attention_bias")? && at.has(("q_proj.bias", ""));
                Box::new(Gqa::load(&at, &GqaConfig { qkv_bias: bias, o_bias: bias, ..gqa }, hidden, None)?)
            }
            Part::Mlp => Box::new(Mlp(mlp(c, &at, ["ffn_up", "ffn_down"], c.size("intermediate_size")?, act)?)),
            Part::Experts => Box::new(moe(c, &at, i, act)?),
        };
        Ok(vec![Branch::boxed(pre, body)])
    })?;
    Ok(Box::new(decoder))
}

fn mlp(c: &Config, p: &Params<'_>, gguf: [&str; 2], inner: usize, act: Activation) -> Result<pondera_ops::Mlp> {
    let (hidden, bias) = (c.hidden_size()?, c.flag("mlp_bias")?);
    let up = p.linear(("up_proj", gguf[0]), inner, hidden, bias)?;
    Ok(plain(up, p.linear(("down_proj", gguf[1]), hidden, inner, bias)?, act))
}

fn moe(c: &Config, p: &Params<'_>, layer: usize, act: Activation) -> Result<LatentMoe> {
    let (hidden, inner, bias) = (c.hidden_size()?, c.size("moe_intermediate_size")?, c.flag("mlp_bias")?);
    let (count, top_k) = c.experts_needed()?;
    let groups = Some((c.size("n_group")?, c.size("topk_group")?, GroupScore::TopTwo)).filter(|g| g.0 > 1);
    c.check_groups(count, top_k, groups)?;
    let width = c.size_opt("moe_latent_size")?;
    let latent = |n: usize| -> Result<_> {
        let down = p.linear(("fc1_latent_proj", "ffn_latent_down"), n, hidden, bias)?;
        Ok([down, p.linear(("fc2_latent_proj", "ffn_latent_up"), hidden, n, bias)?])
    };
    let wide = c.size("moe_shared_expert_intermediate_size")?;
    Ok(LatentMoe {
        layer,
        router: p.linear(("gate", "ffn_gate_inp"), count, hidden, false)?,
        route: Route {
            top_k,
            score: Score::Sigmoid,
            bias: Some(p.vector(("gate.e_score_correction_bias", "exp_probs_b.bias"), count)?),
            groups,
            renormalize: c.flag("norm_topk_prob")?.then_some(1e-20),
            scale: c.positive("routed_scaling_factor")?,
        },
        experts: plain_experts(p, (count, top_k), inner, width.unwrap_or(hidden), act)?,
        latent: width.map(latent).transpose()?,
        shared: mlp(c, &p.at(("shared_experts", "")), ["ffn_up_shexp", "ffn_down_shexp"], wide, act)?,
    })
}
