//! ModernBERT: an encoder with norms before each branch and none in front of the first, rotary positions, windows to both
//! sides in two of three layers (arXiv 2412.13663).
use super::Family;
use crate::{
    Config, Error, Graph, Layout, Params, Result,
    blocks::{Branch, Embedding, Encoder, Gqa, GqaConfig, Mlp, NormKind, Rotary, RotaryDims, layers},
};

pub(super) const FAMILY: Family = Family {
    model_type: "modernbert",
    title: "ModernBERT",
    gguf: None,
    defaults: r#"{"vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22,
        "num_attention_heads": 12, "hidden_activation": "gelu", "max_position_embeddings": 8192, "norm_eps": 1e-05,
        "norm_bias": false, "attention_bias": false, "local_attention": 128, "mlp_bias": false,
        "global_attn_every_n_layers": 3}"#,
    json_keys: Some(|keys| {
        // Bases of both kinds of layers, in the style of transformers 4.
        let bases =
            [("full_attention", "global_rope_theta", 160_000.0), ("sliding_attention", "local_rope_theta", 10_000.0)];
        if keys.get("rope_parameters").is_none() {
            let rope = |(kind, key, theta): (&str, &str, f64)| {
                let theta = keys.get(key).filter(|v| !v.is_null()).cloned().unwrap_or_else(|| theta.into());
                (kind.to_string(), serde_json::json!({ "rope_theta": theta, "rope_type": "default" }))
            };
            let ropes: serde_json::Map<_, _> = bases.into_iter().map(rope).collect();
            keys.insert("rope_parameters".into(), ropes.into());
        }
    }),
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let (bias, mlp_bias) = (c.flag("attention_bias")?, c.flag("mlp_bias")?);
    let kind = NormKind::Layer { eps: c.eps("norm_eps")?, weight: true, bias: c.flag("norm_bias")? };
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, ..GqaConfig::read(c)? };
    // A window of so many in all reaches half as far to either side.
    let around = c.size("local_attention")? / 2;
    let every = c.size("global_attn_every_n_layers")?;
    let windows = c.windows(Some(around.max(1)), |i| i % every != 0)?;
    let dims = RotaryDims::whole(gqa.head_dim, false);
    let ropes = [Rotary::load(p, c, dims, "full_attention")?, Rotary::load(p, c, dims, "sliding_attention")?];
    let act = c.activation("hidden_activation")?;
    let body = p.body();
    let embedding = Embedding {
        norm: Some(kind.load(&body, ("embeddings.norm", "token_embd_norm"), hidden)?),
        ..Embedding::new(body.weight(("embeddings.tok_embeddings", "token_embd"), c.vocab_size()?, hidden)?)
    };
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer("layers", i);
        let rotary = ropes[usize::from(windows[i].is_some())];
        let attention = Gqa::fused(&l.at(("attn", "")), &gqa, (hidden, 1), ("Wqkv", "Wo"), Some(rotary))?;
        let attention = attention.bidirectional(windows[i].map(|_| around));
        let m = l.at(("mlp", ""));
        // The half that the nonlinearity is applied to comes first.
        let both = m.fused(("Wi", "ffn_up"), &[inner; 2], hidden, Layout::Rows, mlp_bias)?;
        let [gate, up] = <[_; 2]>::try_from(both).map_err(|_| Error::tensor("Wi", "expected two parts"))?;
        let down = m.linear(("Wo", "ffn_down"), hidden, inner, mlp_bias)?;
        let ffn = Mlp(pondera_ops::Mlp { gate: Some(gate), up, down, act });
        let pre = if i == 0 { None } else { Some(kind.load(&l, ("attn_norm", "attn_norm"), hidden)?) };
        Ok(vec![
            Branch { pre, ..Branch::plain(attention) },
            Branch::pre_norm(kind.load(&l, ("mlp_norm", "ffn_norm"), hidden)?, ffn),
        ])
    })?;
    let norm = Some(kind.load(&body, ("final_norm", "output_norm"), hidden)?);
    Ok(Box::new(Encoder { embedding, layers, norm }))
}
