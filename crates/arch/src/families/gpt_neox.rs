//! GPT-NeoX and Pythia: both parts of a layer side by side under norms of their own, heads of queries, keys and values
//! interleaved in one matrix (arXiv 2204.06745, 2304.01373).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Rotary, RotaryDims, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_neox",
    title: "GPT-NeoX, Pythia",
    gguf: Some(("gptneox", always)),
    defaults: r#"{"vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44, "num_attention_heads": 64,
        "intermediate_size": 24576, "hidden_act": "gelu", "max_position_embeddings": 2048, "layer_norm_eps": 1e-05,
        "tie_word_embeddings": false, "use_parallel_residual": true, "attention_bias": true, "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25}"#,
    base: "gpt_neox",
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let sizes = (c.hidden_size()?, c.size("intermediate_size")?);
    let bias = c.flag("attention_bias")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    let rotary = Rotary::load(p, c, RotaryDims::partial(c, gqa.head_dim, false)?, "full_attention")?;
    let act = c.activation("hidden_act")?;
    let tree = Tree {
        tokens: ("embed_in", "token_embd"),
        mixer: "attention",
        kind: NormKind::Layer { eps: c.eps("layer_norm_eps")?, weight: true, bias: true },
        parallel: c.flag("use_parallel_residual")?,
        norm: Some(("final_layer_norm", "output_norm")),
        ..Tree::pre_norm(c)?
    };
    let names = ("query_key_value", "dense");
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Ok(Box::new(Gqa::fused(p, &gqa, (sizes.0, gqa.heads), names, Some(rotary))?)),
        |p, _| plain_mlp(p, ("dense_h_to_4h", "dense_4h_to_h"), sizes, true, act),
    )?;
    Ok(Box::new(decoder))
}
