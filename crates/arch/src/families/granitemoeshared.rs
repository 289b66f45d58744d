//! Granite 3 with experts and one that all tokens share.
use super::{
    Family,
    granitemoe::{self, gguf_keys, load},
};
use serde_json::{Map, Value};

pub(super) const FAMILY: Family = Family {
    model_type: "granitemoeshared",
    title: "Granite 3 MoE, shared expert",
    gguf: Some(("granitemoe", has_shared)),
    // The width of the shared expert is 0 where a configuration does not name it: there is none.
    defaults: granitemoe::FAMILY.defaults,
    gguf_keys: Some(gguf_keys),
    gguf_reads: granitemoe::FAMILY.gguf_reads,
    load,
    ..Family::BASE
};

/// Whether GGUF keys speak of an expert that all tokens share.
pub(super) fn has_shared(keys: &Map<String, Value>) -> bool {
    keys.get("shared_expert_intermediate_size").and_then(Value::as_u64).is_some_and(|n| n > 0)
}
