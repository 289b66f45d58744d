//! OPT: learnt positions that begin at the third row, ReLU; in the 350M model norms after each branch and narrower
//! embeddings (arXiv 2205.01068).
use super::Family;
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "opt",
    title: "OPT",
    gguf: None,
    defaults: r#"{"vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072,
        "max_position_embeddings": 2048, "do_layer_norm_before": true, "_remove_final_layer_norm": false,
        "word_embed_proj_dim": 768, "num_attention_heads": 12, "hidden_act": "relu", "enable_bias": true,
        "layer_norm_elementwise_affine": true, "tie_word_embeddings": true}"#,
    base: "model.decoder|decoder",
    load,
    ..Family::BASE
};

/// Rows of the table of positions before the first position's.
const FIRST_POSITION: u32 = 2;

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let sizes = (c.hidden_size()?, c.size("intermediate_size")?);
    let (bias, affine) = (c.flag("enable_bias")?, c.flag("layer_norm_elementwise_affine")?);
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let before = c.flag("do_layer_norm_before")?;
    let norms = [Some(("self_attn_layer_norm", "")), Some(("final_layer_norm", ""))];
    let (pre, after) = if before { (norms, [None; 2]) } else { ([None; 2], norms) };
    let last = (before && !c.flag("_remove_final_layer_norm")?).then_some(("final_layer_norm", ""));
    let kind = NormKind::Layer { eps: 1e-5, weight: affine, bias: affine };
    let tree = Tree { ffn: "", kind, pre, after, norm: last, ..Tree::pre_norm(c)? };
    let act = c.activation("hidden_act")?;
    let narrow = c.size("word_embed_proj_dim")?;
    let mut decoder = Decoder::build_over(
        c,
        p,
        (&tree, narrow),
        |p, _| Gqa::boxed(p, &gqa, sizes.0, None),
        |p, _| plain_mlp(p, ("fc1", "fc2"), sizes, bias, act),
    )?;
    let body = p.body();
    let positions = body.weight(("embed_positions", ""), c.max_positions()? + FIRST_POSITION as usize, sizes.0)?;
    decoder.embedding.positions = Some((positions, FIRST_POSITION));
    if narrow != sizes.0 {
        decoder.embedding.project = Some(body.linear(("project_in", ""), sizes.0, narrow, false)?);
        decoder.head.project = Some(body.linear(("project_out", ""), narrow, sizes.0, false)?);
    }
    Ok(Box::new(decoder))
}
