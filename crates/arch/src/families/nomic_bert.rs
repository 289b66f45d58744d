//! Nomic Embed: BERT with rotary positions and gated feed-forward parts, without biases (arXiv 2402.01613).
use super::{Family, always, bert};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Branch, Embedding, Encoder, Gqa, GqaConfig, Mlp, Rotary, RotaryDims, layers},
};

pub(super) const FAMILY: Family = Family {
    model_type: "nomic_bert",
    title: "Nomic Embed",
    gguf: Some(("nomic-bert", always)),
    defaults: r#"{"vocab_size": 30528, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "silu", "max_position_embeddings": 2048, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "head_dim": 64, "rope_theta": 1000.0}"#,
    base: "nomic_bert",
    json_keys: Some(|keys| {
        // The published configuration's words.
        if keys.get("hidden_act").and_then(serde_json::Value::as_str) == Some("swiglu") {
            keys.insert("hidden_act".into(), "silu".into());
        }
    }),
    gguf_keys: Some(bert::gguf_keys),
    gguf_reads: &["bidirectional"],
    load,
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner) = (c.hidden_size()?, c.size("intermediate_size")?);
    let eps = c.eps("layer_norm_eps")?;
    for key in ["qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "prenorm", "rotary_emb_interleaved"] {
        c.never(key)?;
    }
    let gqa = GqaConfig::read(c)?;
    let rotary = Rotary::load(p, c, RotaryDims::whole(gqa.head_dim, false), "full_attention")?;
    let act = c.activation("hidden_act")?;
    let body = p.body();
    let embedding = Embedding {
        types: Some(body.weight(
            ("embeddings.token_type_embeddings", "token_types"),
            c.size("type_vocab_size")?,
            hidden,
        )?),
        norm: Some(body.layer_norm(("embeddings.LayerNorm|emb_ln", "token_embd_norm"), hidden, eps)?),
        ..Embedding::new(body.weight(("embeddings.word_embeddings", "token_embd"), c.vocab_size()?, hidden)?)
    };
    // The published files have names of their own.
    let published = p.has(("nomic_bert.encoder.layers.0.norm1.weight", ""));
    let layers = layers(c.num_hidden_layers()?, |i| {
        let l = body.layer(if published { "encoder.layers" } else { "layers" }, i);
        let a = l.at((if published { "attn" } else { "self_attn" }, ""));
        let attention = match published || p.is_gguf() {
            true => Gqa::fused(&a, &gqa, (hidden, 1), ("Wqkv", "out_proj"), Some(rotary))?,
            false => Gqa::load(&a, &gqa, hidden, Some(rotary))?,
        };
        let m = l.at(("mlp", ""));
        let ffn = Mlp(pondera_ops::Mlp {
            gate: Some(m.linear(("gate_proj|fc12", "ffn_gate"), inner, hidden, false)?),
            up: m.linear(("up_proj|fc11", "ffn_up"), inner, hidden, false)?,
            down: m.linear(("down_proj|fc2", "ffn_down"), hidden, inner, false)?,
            act,
        });
        let norm = |name| l.layer_norm(name, hidden, eps).map(Some);
        Ok(vec![
            Branch {
                after: norm(("post_attention_layernorm|norm1", "attn_output_norm"))?,
                ..Branch::plain(attention.bidirectional(None))
            },
            Branch { after: norm(("post_mlp_layernorm|norm2", "layer_output_norm"))?, ..Branch::plain(ffn) },
        ])
    })?;
    Ok(Box::new(Encoder { embedding, layers, norm: None }))
}
