//! RoBERTa and XLM-RoBERTa: BERT whose positions begin after the row of the padding token (arXiv 1907.11692, 1911.02116).
use super::{Family, bert};
use crate::{Config, Graph, Params, Result};

pub(super) const FAMILY: Family = Family {
    model_type: "roberta",
    title: "RoBERTa",
    defaults: r#"{"vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "pad_token_id": 1}"#,
    base: "roberta",
    load,
    ..Family::BASE
};

pub(super) const XLM: Family = Family { model_type: "xlm-roberta", title: "XLM-RoBERTa", ..FAMILY };

fn load(c: &Config, p: &Params<'_>) -> Result<Box<dyn Graph>> {
    // Ids are below 2^28.
    bert::load_from(c, p, c.count("pad_token_id")? as u32 + 1)
}
