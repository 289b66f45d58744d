//! Calls of Llama 3.1 to 4.
use crate::tools::{Form, Ids, Syntax};

/// Llama 3.1 to 4: an answer that is a JSON object. What begins with anything else is text.
pub const SYNTAX: Syntax = Syntax {
    name: "llama",
    known_by: &[
        &["<|python_tag|>", "\"parameters\""],
        &["<|start_header_id|>", "\"parameters\""],
        &["<|header_start|>", "\"parameters\""],
    ],
    open: "",
    between: "; ",
    close: "",
    call: Form::Json("{\"name\": \"{N}\", \"parameters\": {A}}"),
    ids: Ids::Any,
};
