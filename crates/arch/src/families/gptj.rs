//! GPT-J: both parts of a layer side by side under one norm, the first columns of each head rotate in pairs of neighbours.
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, NormKind, Rotary, RotaryDims, Tree, plain_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "gptj",
    title: "GPT-J",
    gguf: Some(("gptj", always)),
    defaults: r#"{"vocab_size": 50400, "max_position_embeddings": 2048, "hidden_size": 4096,
        "num_hidden_layers": 28, "num_attention_heads": 16, "rotary_dim": 64, "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-05, "tie_word_embeddings": false}"#,
    base: "transformer",
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let hidden = c.hidden_size()?;
    let sizes = (hidden, c.size_opt("intermediate_size")?.unwrap_or(hidden.saturating_mul(4)));
    let gqa = GqaConfig::read(c)?;
    let dims = RotaryDims { dims: c.size_max("rotary_dim", gqa.head_dim)?, ..RotaryDims::whole(gqa.head_dim, true) };
    let rotary = Rotary::load(p, c, dims, "full_attention")?;
    let act = c.activation("hidden_act")?;
    let tree = Tree {
        tokens: ("wte", "token_embd"),
        layers: "h",
        mixer: "attn",
        kind: NormKind::Layer { eps: c.eps("layer_norm_eps")?, weight: true, bias: true },
        pre: [Some(("ln_1", "attn_norm")), None],
        parallel: true,
        norm: Some(("ln_f", "output_norm")),
        head_bias: true,
        ..Tree::pre_norm(c)?
    };
    let decoder = Decoder::build(
        c,
        p,
        &tree,
        |p, _| Gqa::boxed(p, &gqa, hidden, Some(rotary)),
        |p, _| plain_mlp(p, ("fc_in", "fc_out"), sizes, true, act),
    )?;
    Ok(Box::new(decoder))
}
