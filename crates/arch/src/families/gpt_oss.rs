//! gpt-oss: sinks in the softmax, windows in every other layer, experts with clamped gates and biases, stored in
//! MXFP4 and kept so (the model card of gpt-oss-120b and gpt-oss-20b).
use super::{Family, always};
use crate::{
    Config, Error, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Moe, Rotary, RotaryDims},
    params::Layout::Transposed,
};
use pondera_ops::{Activation, Experts, Route, Score, W};
use pondera_quant::Matrix;

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_oss",
    title: "gpt-oss",
    gguf: Some(("gpt-oss", always)),
    defaults: r#"{"num_hidden_layers": 36, "num_experts": 128, "vocab_size": 201088, "hidden_size": 2880,
        "intermediate_size": 2880, "head_dim": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
        "sliding_window": 128, "tie_word_embeddings": false, "hidden_act": "silu", "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "num_experts_per_tok": 4, "swiglu_alpha": 1.702, "swiglu_limit": 7.0,
        "attention_bias": true, "rope_theta": 150000.0, "rope_parameters": {"rope_type": "yarn", "factor": 32.0,
        "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 4096}}"#,
    gguf_keys: Some(|keys| {
        if let Some(serde_json::Value::Object(rope)) = keys.get_mut("rope_parameters") {
            // The published configuration says so; llama.cpp has no key for it.
            rope.entry("truncate").or_insert(false.into());
        }
        if let Some(inner) = keys.get("moe_intermediate_size").cloned() {
            keys.insert("intermediate_size".into(), inner);
        }
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    c.only("hidden_act", &["silu"])?;
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let windows = c.windows(c.size_opt("sliding_window")?, |layer| layer % 2 == 0)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = Activation::ClampedSwiglu { alpha: c.positive("swiglu_alpha")?, limit: c.positive("swiglu_limit")? };
    let (count, top_k) = c.experts_needed()?;
    let route = Route { top_k, score: Score::SoftmaxOfChosen, bias: None, groups: None, renormalize: None, scale: 1.0 };
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, layer| {
            let gqa = GqaConfig { window: windows[layer], ..gqa };
            let sinks = p.vector(("sinks", "attn_sinks.weight"), gqa.heads)?;
            Ok(Gqa::load(p, &gqa, hidden, Some(rotary))?.with_sinks(sinks))
        },
        |p, layer| {
            Ok(Box::new(Moe {
                layer,
                router: p.linear(("router", "ffn_gate_inp"), count, hidden, true)?,
                route: route.clone(),
                experts: experts(p, (count, top_k), inner, hidden, act)?,
                shared: None,
            }))
        },
    )?;
    Ok(Box::new(decoder))
}

/// Experts with gate and up in alternating rows; GGUF's converter takes them apart.
fn experts(
    p: &Params<'_>,
    (count, top_k): (usize, usize),
    inner: usize,
    hidden: usize,
    act: Activation,
) -> Result<Experts> {
    let share = top_k as f64 / count as f64;
    let p = p.at(("experts", ""));
    if p.is_gguf() {
        let part = |name: &str, out, inp| {
            let (stored, groups) = p.stack(("", &format!("{name}_exps")), ".weight", count, out, inp)?;
            p.list(stored, groups, share)
        };
        let bias = |name: &str, n| p.expert_bias(("", &format!("{name}_exps.bias")), count, n, share).map(Some);
        return Ok(Experts {
            gate: Some(part("ffn_gate", inner, hidden)?),
            up: part("ffn_up", inner, hidden)?,
            down: part("ffn_down", hidden, inner)?,
            gate_bias: bias("ffn_gate", inner)?,
            up_bias: bias("ffn_up", inner)?,
            down_bias: bias("ffn_down", hidden)?,
            act,
        });
    }
    let twice = inner.checked_mul(2).ok_or_else(|| Error::config("intermediate_size", "too large"))?;
    // MXFP4 in `gate_up_proj_blocks` and `…_scales`, or each matrix transposed.
    let (name, both) = p.stack_in(("gate_up_proj", ""), count, twice, hidden, Transposed)?;
    let (gate, up) = (alternate(&p, &name, &both, 0, inner, share)?, alternate(&p, &name, &both, 1, inner, share)?);
    let (name, down) = p.stack_in(("down_proj", ""), count, hidden, inner, Transposed)?;
    let down = p.list(name, down, share)?;
    let (gate_bias, up_bias) = alternate_bias(&p, count, inner, share)?;
    let down_bias = Some(p.expert_bias(("down_proj_bias", ""), count, hidden, share)?);
    Ok(Experts { gate: Some(gate), up, down, gate_bias: Some(gate_bias), up_bias: Some(up_bias), down_bias, act })
}

/// Every other row of each group.
fn alternate(p: &Params<'_>, name: &str, both: &[Matrix], first: usize, inner: usize, share: f64) -> Result<W> {
    let rows: Option<Vec<Matrix>> = both.iter().map(|m| m.rows(first, 2, inner)).collect();
    p.list(name.to_string(), rows.ok_or_else(|| Error::tensor(name, "its rows do not cover gate and up"))?, share)
}

/// `[count, 2 · inner]` with gate and up alternating, as a bias each.
fn alternate_bias(p: &Params<'_>, count: usize, inner: usize, share: f64) -> Result<(W, W)> {
    let (name, view) = p.stack_view(("gate_up_proj_bias", ""), "", &[count, 2 * inner])?;
    let part = |first: usize| -> Result<W> {
        let m = match &view {
            None => p.zeros(count, inner),
            Some(v) => {
                let size = v.format.info().bytes;
                let bytes = v.bytes.slice(first * size..v.bytes.len()).filter(|_| v.format.info().block == 1);
                let bytes = bytes.ok_or_else(|| Error::tensor(&name, "its bytes do not fit its shape"))?;
                Matrix::Strided {
                    format: v.format,
                    out: count,
                    inp: inner,
                    bytes,
                    out_stride: 2 * inner,
                    inp_stride: 2,
                }
            }
        };
        p.list(name.clone(), vec![m], share)
    };
    Ok((part(0)?, part(1)?))
}
