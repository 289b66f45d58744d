//! Qwen3-Next: gated delta nets in three layers of four, gated attention in the fourth, many small experts.
use super::{Family, always, layer_types_of_heads, qwen2_moe::is_sparse};
use crate::{
    Config, Graph, Params, Result,
    blocks::{
        Block, Branch, Decoder, DeltaNet, DeltaNetConfig, Embedding, ExpertNames, Gqa, GqaConfig, Joined, Mlp, Moe,
        Projection, Rotary, RotaryDims, SoftmaxMoe, gated, gated_shared, softmax_moe,
    },
};
use serde_json::{Map, Value};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_next",
    title: "Qwen3-Next",
    gguf: Some(("qwen3next", always)),
    defaults: r#"{"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 48,
        "num_attention_heads": 16, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "attention_bias": false, "head_dim": 256,
        "partial_rotary_factor": 0.25, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
        "decoder_sparse_step": 1, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
        "num_experts_per_tok": 10, "num_experts": 512, "norm_topk_prob": true, "mlp_only_layers": [],
        "full_attention_interval": 4}"#,
    gguf_keys: Some(gguf_keys),
    gguf_reads: &["layers"],
    load: |c, p| {
        let (hidden, act) = (c.hidden_size()?, c.activation("hidden_act")?);
        let renormalize = c.flag("norm_topk_prob")?;
        let ffn = |p: &Params<'_>, layer: usize| {
            if !is_sparse(c, layer)? {
                return Ok(Box::new(Mlp(gated(p, hidden, c.size("intermediate_size")?, false, act)?)) as Box<dyn Block>);
            }
            Ok(Box::new(moe(c, p, layer, renormalize)?))
        };
        decoder(c, p, &DeltaNetConfig::read(c)?, inputs, ffn)
    },
    ..Family::BASE
};

/// Experts beside one that all tokens share behind a gate.
pub(super) fn moe(c: &Config, p: &Params<'_>, layer: usize, renormalize: bool) -> Result<Moe> {
    let names = ExpertNames::USUAL;
    let experts = SoftmaxMoe { router: "gate", names, inner: "moe_intermediate_size", renormalize };
    Ok(Moe { shared: Some(gated_shared(c, p)?), ..softmax_moe(c, p, layer, experts)? })
}

/// GGUF files keep the numbers of delta nets under the names of Mamba's.
pub(super) fn gguf_keys(keys: &mut Map<String, Value>) {
    let size = |k: &str| keys.get(k).and_then(Value::as_u64);
    let (heads, inner) = (size("mamba_dt_rank").filter(|n| *n > 0), size("mamba_d_ssm"));
    let value_dim = heads.zip(inner).map(|(heads, inner)| inner / heads);
    for (key, n) in [
        ("linear_conv_kernel_dim", size("mamba_d_conv")),
        ("linear_key_head_dim", size("mamba_d_state")),
        ("linear_num_key_heads", size("mamba_n_groups")),
        ("linear_num_value_heads", heads),
        ("linear_value_head_dim", value_dim),
    ] {
        if let Some(n) = n {
            keys.insert(key.into(), n.into());
        }
    }
    if keys.contains_key("num_key_value_heads of layers") {
        layer_types_of_heads(keys, "full_attention", "linear_attention");
    }
}

/// Projections grouped by key head; newer GGUF files have the larger one in two.
fn inputs(p: &Params<'_>, d: &DeltaNetConfig, hidden: usize) -> Result<[Joined; 2]> {
    let (keys, values) = d.widths();
    let qkvz = if p.is_gguf() && p.has(("", "attn_qkv.weight")) {
        Joined::Apart([
            p.linear(("", "attn_qkv"), 2 * keys + values, hidden, false)?,
            p.linear(("", "attn_gate"), values, hidden, false)?,
        ])
    } else {
        Joined::Grouped(p.linear(("in_proj_qkvz", "ssm_in"), 2 * (keys + values), hidden, false)?)
    };
    let ba = Joined::Grouped(p.linear(("in_proj_ba", "ssm_ba"), 2 * d.heads, hidden, false)?);
    Ok([qkvz, ba])
}

/// The decoder: `inputs` reads the projections of a delta net, `ffn` a feed-forward part. All norms but that within a
/// delta net have one added.
pub(super) fn decoder(
    c: &Config,
    p: &Params<'_>,
    delta: &DeltaNetConfig,
    inputs: impl Fn(&Params<'_>, &DeltaNetConfig, usize) -> Result<[Joined; 2]>,
    ffn: impl Fn(&Params<'_>, usize) -> Result<Box<dyn Block>>,
) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("rms_norm_eps")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let interval = c.size("full_attention_interval")?;
    let words = [("full_attention", true), ("attention", true), ("linear_attention", false)];
    let attends = c.layer_kinds("layer_types", &words, |i| (i + 1).is_multiple_of(interval))?;

    let body = p.body();
    let tokens = body.weight(("embed_tokens", "token_embd"), c.vocab_size()?, hidden)?;
    let norm = body.rms(("norm", "output_norm"), hidden, eps, true)?;
    let decoder = Decoder::layered(c, p, (Embedding::new(tokens), Some(norm)), "layers", |l, i| {
        // GGUF files say it by the tensors they have.
        let has = |name| l.has(("", name));
        let mixer: Box<dyn Block> = if has("attn_q.weight") || attends[i] && !has("ssm_a") {
            Box::new(attention(&l.at(("self_attn", "")), &gqa, hidden, eps, rotary)?)
        } else {
            let at = l.at(("linear_attn", ""));
            let [qkvz, ba] = inputs(&at, delta, hidden)?;
            Box::new(DeltaNet::load(&at, delta, hidden, qkvz, ba)?)
        };
        let pre = l.rms(("input_layernorm", "attn_norm"), hidden, eps, true)?;
        let ffn_pre = l.rms(("post_attention_layernorm", "post_attention_norm|ffn_norm"), hidden, eps, true)?;
        Ok(vec![Branch::boxed(pre, mixer), Branch::boxed(ffn_pre, ffn(&l.at(("mlp", "")), i)?)])
    })?;
    Ok(Box::new(decoder))
}

/// Attention whose queries bring a gate with them.
fn attention(p: &Params<'_>, g: &GqaConfig, hidden: usize, eps: f32, rotary: Rotary) -> Result<Gqa> {
    let (q, kv) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
    let qkv = [
        p.linear(("q_proj", "attn_q"), 2 * q, hidden, g.qkv_bias)?,
        p.linear(("k_proj", "attn_k"), kv, hidden, g.qkv_bias)?,
        p.linear(("v_proj", "attn_v"), kv, hidden, g.qkv_bias)?,
    ];
    let o = p.linear(("o_proj", "attn_output"), hidden, q, g.o_bias)?;
    let norm = |name, gguf| p.rms((name, gguf), g.head_dim, eps, true);
    let (q, k) = (norm("q_norm", "attn_q_norm")?, norm("k_norm", "attn_k_norm")?);
    Ok(Gqa::new(p, g, Projection::Gated(qkv), o, Some(rotary)).with_qk_norm(q, k))
}
