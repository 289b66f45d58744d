//! Calls of Hermes, Qwen 2.5, QwQ, Qwen 3, MiMo, Reka, Granite 4, SmolLM3.
use crate::tools::{Form, Ids, Syntax};

/// Hermes, Qwen 2.5, QwQ, Qwen 3, MiMo, Reka, Granite 4, SmolLM3: JSON between tags.
pub const SYNTAX: Syntax = Syntax {
    name: "hermes",
    known_by: &[&["<tool_call>", "\"arguments\""], &["<tool_call>", "arguments"]],
    open: "",
    between: "\n",
    close: "",
    call: Form::Json("<tool_call>\n{\"name\": \"{N}\", \"arguments\": {A}}\n</tool_call>"),
    ids: Ids::Any,
};
