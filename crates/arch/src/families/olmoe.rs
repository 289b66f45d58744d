//! OLMoE: experts by softmax, norms of whole rows of queries and keys, bounds on them after that (arXiv 2409.02060).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Moe, MoeConfig, Rotary, RotaryDims},
};

pub(super) const FAMILY: Family = Family {
    model_type: "olmoe",
    title: "OLMoE",
    gguf: Some(("olmoe", always)),
    defaults: r#"{"vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 2048, "num_hidden_layers": 16,
        "num_attention_heads": 16, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "tie_word_embeddings": false, "attention_bias": false, "clip_qkv": null, "num_experts_per_tok": 8,
        "num_experts": 64, "norm_topk_prob": false}"#,
    gguf_reads: &["clip_qkv"],
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps, bias) = (c.hidden_size()?, c.eps("rms_norm_eps")?, c.flag("attention_bias")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let clip = c.positive_opt("clip_qkv")?;
    let moe = MoeConfig::read(c, "intermediate_size")?;
    let decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| {
            let attention = Gqa::load(p, &gqa, hidden, Some(rotary))?.with_row_norms(p, eps)?;
            Ok(Gqa { clip, clip_last: true, ..attention })
        },
        |p, layer| Ok(Box::new(Moe::load(p, &moe, layer, hidden)?)),
    )?;
    Ok(Box::new(decoder))
}
