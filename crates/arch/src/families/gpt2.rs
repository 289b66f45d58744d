//! GPT-2: layer norms, learnt positions, one projection for queries, keys and values, matrices stored transposed.
use super::{Family, always};
use crate::{
    Config, Error, Graph, Params, Result,
    blocks::{Branch, Decoder, Embedding, Gqa, GqaConfig, Head, Mlp, Projection, layers, plain},
    params::Layout::Transposed,
};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt2",
    title: "GPT-2",
    gguf: Some(("gpt2", always)),
    base: "transformer",
    defaults: r#"{"vocab_size": 50257, "max_position_embeddings": 1024, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "scale_attn_weights": true,
        "scale_attn_by_inverse_layer_idx": false, "tie_word_embeddings": true}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, eps) = (c.hidden_size()?, c.eps("layer_norm_eps")?);
    c.never("add_cross_attention")?;
    let inner = match c.size_opt("intermediate_size")? {
        Some(n) => n,
        None => hidden.checked_mul(4).ok_or_else(|| c.bad("hidden_size", "too large"))?,
    };
    let (act, by_layer) = (c.activation("hidden_act")?, c.flag("scale_attn_by_inverse_layer_idx")?);
    let mut gqa = GqaConfig { qkv_bias: true, o_bias: true, ..GqaConfig::read(c)? };
    if gqa.kv_heads != gqa.heads || gqa.heads * gqa.head_dim != hidden {
        return Err(c.bad("num_attention_heads", "expected as many key/value heads, together as wide as hidden_size"));
    }
    if !c.flag("scale_attn_weights")? {
        gqa.scale = 1.0;
    }
    let body = p.body();
    let tokens = body.weight(("wte", "token_embd"), c.vocab_size()?, hidden)?;
    let positions = body.weight(("wpe", "position_embd"), c.max_positions()?, hidden)?;
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("h", i);
        let scale = if by_layer { gqa.scale / (i + 1) as f32 } else { gqa.scale };
        let fused = l.fused(("attn.c_attn", "attn_qkv"), &[hidden; 3], hidden, Transposed, true)?;
        let qkv = <[_; 3]>::try_from(fused).map_err(|_| Error::tensor("c_attn", "expected three parts"))?;
        let o = l.linear_in(("attn.c_proj", "attn_output"), hidden, hidden, Transposed, true)?;
        let attention = Gqa::new(&l, &GqaConfig { scale, ..gqa }, Projection::Three(qkv), o, None);
        let up = l.linear_in(("mlp.c_fc", "ffn_up"), inner, hidden, Transposed, true)?;
        let down = l.linear_in(("mlp.c_proj", "ffn_down"), hidden, inner, Transposed, true)?;
        Ok(vec![
            Branch::pre_norm(l.layer_norm(("ln_1", "attn_norm"), hidden, eps)?, attention),
            Branch::pre_norm(l.layer_norm(("ln_2", "ffn_norm"), hidden, eps)?, Mlp(plain(up, down, act))),
        ])
    })?;
    let norm = body.layer_norm(("ln_f", "output_norm"), hidden, eps)?;
    let head = Head::load(p, norm, &tokens, c.flag("tie_word_embeddings")?)?;
    Ok(Box::new(Decoder {
        embedding: Embedding { positions: Some((positions, 0)), ..Embedding::new(tokens) },
        layers,
        head,
    }))
}
