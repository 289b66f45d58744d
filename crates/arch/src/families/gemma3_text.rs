//! Gemma 3: norms before and after each branch and of queries and keys, windows in five of six layers with a rope of their own
//! (arXiv 2503.19786).
use super::{Family, always};
use crate::{
    Config, Graph, Params, Result,
    blocks::{Decoder, Gqa, GqaConfig, Rotary, RotaryDims, Tree, gated_mlp},
};

pub(super) const FAMILY: Family = Family {
    model_type: "gemma3_text",
    title: "Gemma 3",
    gguf: Some(("gemma3", always)),
    defaults: r#"{"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-06, "tie_word_embeddings": true,
        "attention_bias": false, "query_pre_attn_scalar": 256, "sliding_window": 4096,
        "use_bidirectional_attention": false, "sliding_window_pattern": 6, "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0}"#,
    load,
    ..Family::BASE
};

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    let (hidden, inner, eps) = (c.hidden_size()?, c.size("intermediate_size")?, c.eps("rms_norm_eps")?);
    c.never("use_bidirectional_attention")?;
    let bias = c.flag("attention_bias")?;
    let scale = f64::from(c.positive("query_pre_attn_scalar")?).powf(-0.5) as f32;
    let softcap = c.positive_opt("attn_logit_softcapping")?;
    let gqa = GqaConfig { qkv_bias: bias, o_bias: bias, scale, softcap, ..GqaConfig::read(c)? };
    let every = c.size("sliding_window_pattern")?;
    let windows = c.windows(c.size_opt("sliding_window")?, |i| (i + 1) % every != 0)?;
    let dims = RotaryDims::whole(gqa.head_dim, false);
    let ropes = [Rotary::load(p, c, dims, "full_attention")?, Rotary::sliding(p, c, dims)?];
    let act = c.activation("hidden_activation")?;
    let mut decoder = Decoder::build(
        c,
        p,
        &Tree::sandwich(c)?.one_plus(),
        |p, i| {
            let gqa = GqaConfig { window: windows[i], ..gqa };
            let q = p.rms(("q_norm", "attn_q_norm"), gqa.head_dim, eps, true)?;
            let k = p.rms(("k_norm", "attn_k_norm"), gqa.head_dim, eps, true)?;
            let rotary = ropes[usize::from(windows[i].is_some())];
            Ok(Box::new(Gqa::load(p, &gqa, hidden, Some(rotary))?.with_qk_norm(q, k)))
        },
        |p, _| gated_mlp(p, hidden, inner, false, act),
    )?;
    decoder.embedding.scale = (hidden as f32).sqrt();
    decoder.head.softcap = c.positive_opt("final_logit_softcapping")?;
    Ok(Box::new(decoder))
}
