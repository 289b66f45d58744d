//! DeepSeek-V3.2: DeepSeek-V3 whose queries look at the positions that an indexer chooses (arXiv 2512.02556).
use super::{Family, deepseek_v2::q_lora_rank, deepseek_v3};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Mla, MlaConfig, Rotary, RotaryDims, attention_mscale, deepseek_ffn},
};

pub(super) const FAMILY: Family = Family {
    model_type: "deepseek_v32",
    title: "DeepSeek-V3.2",
    defaults: deepseek_v3::FAMILY.defaults,
    json_keys: Some(|keys| {
        for (key, value) in [("index_n_heads", 64), ("index_head_dim", 128), ("index_topk", 2048)] {
            keys.entry(key).or_insert(value.into());
        }
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    c.words_of_layers("layer_types", &["indexed_attention"])?;
    let mut mla = MlaConfig { q_lora_rank: q_lora_rank(c, Some(1536))?, ..MlaConfig::read(c, 1e-6)? };
    mla.scale = (f64::from(mla.scale) * attention_mscale(c)?) as f32;
    let rope = mla.qk_rope_head_dim;
    let rotary = Rotary::load(p, c, RotaryDims::whole(rope, c.flag("rope_interleave")?), "full_attention")?;
    // The indexer rotates halves, whatever attention does.
    let halves = Rotary::load(p, c, RotaryDims::whole(rope, false), "full_attention")?;
    let mut decoder = Decoder::pre_norm(
        c,
        p,
        |p, _| Mla::load(p, &mla, rotary)?.with_indexer(c, p, &mla, halves),
        |p, i| deepseek_ffn(c, p, i),
    )?;
    // The indexer names positions by f32.
    decoder.embedding.positions_max = Some(1 << 24);
    Ok(Box::new(decoder))
}
