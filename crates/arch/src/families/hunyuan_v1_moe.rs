//! Hunyuan-A13B: norms of queries and keys after they are rotated, experts by softmax beside one that all tokens share.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Moe, MoeConfig, QkNorm, Rotary, RotaryDims, SharedExpert},
};
use pondera_ops::Route;

pub(super) const FAMILY: Family = Family {
    model_type: "hunyuan_v1_moe",
    title: "Hunyuan-A13B",
    gguf: Some(("hunyuan-moe", always)),
    defaults: r#"{"vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": false, "attention_bias": false, "num_experts": 1, "num_experts_per_tok": 1}"#,
    load,
    ..Family::BASE
};

/// Attention whose queries and keys are normalised after the rotation.
fn attention(p: &Params<'_>, gqa: &GqaConfig, hidden: usize, eps: f32, rotary: Rotary) -> Result<Gqa> {
    let norm = |name| p.rms(name, gqa.head_dim, eps, false);
    let norms = [norm(("query_layernorm", "attn_q_norm"))?, norm(("key_layernorm", "attn_k_norm"))?];
    let qk_norm = Some(QkNorm { norms, whole: false, after: true });
    Ok(Gqa { qk_norm, ..Gqa::load(p, gqa, hidden, Some(rotary))? })
}

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    // Hunyuan-Large, whose keys these are too, shares keys and values between layers.
    c.never("use_cla")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| attention(p, &gqa, hidden, eps, rotary),
        |p, layer| {
            let moe = MoeConfig { router: "gate.wg", ..MoeConfig::read(c, "intermediate_size")? };
            let top_k = c.size_of_layer("num_experts_per_tok", layer)?;
            let moe = MoeConfig { route: Route { top_k, renormalize: Some(0.0), ..moe.route }, ..moe };
            let shared = SharedExpert::load(p, "shared_mlp", (hidden, moe.inner), false, moe.act)?;
            Ok(Box::new(Moe { shared: Some(shared), ..Moe::load(p, &moe, layer, hidden)? }))
        },
    )?;
    Ok(Box::new(decoder))
}
