//! Calls of Granite 3, Ling-lite.
use crate::tools::{Form, Ids, Syntax};

/// Granite 3, Ling-lite: a mark before a list of JSON objects.
pub const SYNTAX: Syntax = Syntax {
    name: "granite",
    known_by: &[&["<|tool_call|>"]],
    open: "<|tool_call|>[",
    between: ", ",
    close: "]",
    call: Form::Json("{\"name\": \"{N}\", \"arguments\": {A}}"),
    ids: Ids::Any,
};
