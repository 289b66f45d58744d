//! Calls of Solar Open.
use crate::tools::{Form, Ids, Syntax};

/// Solar Open: an id, a name and JSON between marks.
pub const SYNTAX: Syntax = Syntax {
    name: "solar",
    known_by: &[&["<|tool_call:begin|>"]],
    open: "<|tool_calls|>",
    between: "",
    close: "",
    call: Form::Json("<|tool_call:begin|>{R}<|tool_call:name|>{N}<|tool_call:args|>{A}<|tool_call:end|>"),
    ids: Ids::Any,
};
