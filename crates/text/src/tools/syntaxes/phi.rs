//! Calls of Phi-4-mini.
use crate::tools::{Form, Ids, Syntax};

/// Phi-4-mini: as Granite 3, with a mark behind it.
pub const SYNTAX: Syntax = Syntax {
    name: "phi",
    known_by: &[&["<|/tool_call|>"], &["<|/tool|>"]],
    open: "<|tool_call|>[",
    between: ", ",
    close: "]<|/tool_call|>",
    call: Form::Json("{\"name\": \"{N}\", \"arguments\": {A}}"),
    ids: Ids::Any,
};
