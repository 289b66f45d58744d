//! Calls of Apriel.
use crate::tools::{Form, Ids, Syntax};

/// Apriel: a list of JSON objects between tags.
pub const SYNTAX: Syntax = Syntax {
    name: "apriel",
    known_by: &[&["<tool_calls>"]],
    open: "<tool_calls>[",
    between: ", ",
    close: "]</tool_calls>",
    call: Form::Json("{\"name\": \"{N}\", \"arguments\": {A}}"),
    ids: Ids::Any,
};
