//! Granite 3 with experts: factors on embeddings, scores, branches and logits; the best experts by logit, softmax over
//! those.
use super::{Family, granitemoeshared};
use crate::{
    Config, Error, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Moe, MoeConfig, Rotary, RotaryDims, SharedExpert},
    params::Layout::Rows,
};
use pondera_ops::{Activation, Route, Score};
use serde_json::{Map, Value};

pub(super) const FAMILY: Family = Family {
    model_type: "granitemoe",
    title: "Granite 3 MoE",
    gguf: Some(("granitemoe", |keys| !granitemoeshared::has_shared(keys))),
    defaults: r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "attention_bias": false, "embedding_multiplier": 1.0, "logits_scaling": 1.0,
        "residual_multiplier": 1.0, "attention_multiplier": 1.0, "num_experts": 8, "num_experts_per_tok": 2}"#,
    gguf_keys: Some(gguf_keys),
    gguf_reads: &["embedding_multiplier", "residual_multiplier", "logit_scale"],
    load,
    ..Family::BASE
};

/// The converter's names of the factors.
pub(super) fn gguf_keys(keys: &mut Map<String, Value>) {
    for (ours, theirs) in [
        ("logits_scaling", "logit_scale"),
        ("attention_multiplier", "gguf_attention_scale"),
        ("shared_intermediate_size", "shared_expert_intermediate_size"),
    ] {
        if let Some(v) = keys.get(theirs).cloned() {
            keys.insert(ours.into(), v);
        }
    }
}

/// The expert that all tokens share, gate and up in one matrix.
fn shared(p: &Params<'_>, hidden: usize, wide: usize, act: Activation) -> Result<Option<SharedExpert>> {
    if wide == 0 || p.is_gguf() {
        let one = |()| SharedExpert::load(p, "", (hidden, wide), false, act);
        return (wide > 0).then_some(()).map(one).transpose();
    }
    let both = p.fused(("shared_mlp.input_linear", ""), &[wide; 2], hidden, Rows, false)?;
    let [gate, up] = <[_; 2]>::try_from(both).map_err(|_| Error::tensor("input_linear", "expected two parts"))?;
    let down = p.linear(("shared_mlp.output_linear", ""), hidden, wide, false)?;
    Ok(Some(SharedExpert { mlp: pondera_ops::Mlp { gate: Some(gate), up, down, act }, gate: None }))
}

/// A decoder with this attention.
pub(super) fn decoder(
    c: &Config,
    p: &Params<'_>,
    attention: impl Fn(&Params<'_>, usize, &GqaConfig) -> Result<Gqa>,
) -> Result<Box<dyn Graph>> {
    let (hidden, bias, wide) = (c.hidden_size()?, c.flag("attention_bias")?, c.count("shared_intermediate_size")?);
    let scale = c.positive("attention_multiplier")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, scale, ..GqaConfig::read(c)? };
    let moe = MoeConfig { router: "router.layer|router", ..MoeConfig::read(c, "intermediate_size")? };
    let route = Route { score: Score::SoftmaxOfChosen, renormalize: None, ..moe.route };
    let moe = MoeConfig { route, ..moe };
    let mut decoder = Decoder::pre_norm_at(
        c,
        p,
        ("self_attn", ""),
        |p, layer| attention(p, layer, &gqa),
        |p, layer| {
            let shared = shared(p, hidden, wide, moe.act)?;
            Ok(Box::new(Moe { shared, ..Moe::load(&p.at(("block_sparse_moe", "")), &moe, layer, hidden)? }))
        },
    )?;
    let residual = c.positive("residual_multiplier")?;
    decoder.layers.iter_mut().flatten().for_each(|b| b.scale = residual);
    decoder.embedding.scale = c.positive("embedding_multiplier")?;
    decoder.head.scale = 1.0 / c.positive("logits_scaling")?;
    Ok(Box::new(decoder))
}

pub(super) fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, head_dim) = (c.hidden_size()?, c.heads()?.2);
    // GGUF's converter permutes the rows of queries and keys so that halves become neighbours.
    let rotary = Rotary::load(p, c, RotaryDims::whole(head_dim, p.is_gguf()), "full_attention")?;
    decoder(c, p, |p, _, gqa| Gqa::load(p, gqa, hidden, Some(rotary)))
}
