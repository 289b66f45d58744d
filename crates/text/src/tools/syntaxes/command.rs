//! Calls of Command R7B and A.
use crate::tools::{Form, Ids, Syntax};

/// Command R7B and A: actions between marks, each with a number.
pub const SYNTAX: Syntax = Syntax {
    name: "command",
    known_by: &[&["<|START_ACTION|>"]],
    open: "<|START_ACTION|>[\n    ",
    between: ",\n    ",
    close: "\n]<|END_ACTION|>",
    call: Form::Json("{\"tool_call_id\": \"{I}\", \"tool_name\": \"{N}\", \"parameters\": {A}}"),
    ids: Ids::Any,
};

/// Command R and R+: a list of JSON objects in a block of code.
pub const R: Syntax = Syntax {
    name: "command-r",
    known_by: &[&["Action:", "\"tool_name\""], &["Action:", "tool_name"]],
    open: "Action:```json\n[\n",
    between: ",\n",
    close: "\n]```",
    call: Form::Json("    {\n        \"tool_name\": \"{N}\",\n        \"parameters\": {A}\n    }"),
    ids: Ids::Any,
};
