//! Calls of Mistral up to Large 2411.
use crate::tools::{Form, Ids, Syntax};

/// Mistral up to Large 2411: a list of JSON objects. Its templates want ids of nine letters and digits.
pub const SYNTAX: Syntax = Syntax {
    name: "mistral",
    known_by: &[&["[TOOL_CALLS]", "\"arguments\""], &["[TOOL_CALLS]", "arguments"], &["[TOOL_CALLS]"]],
    open: "[TOOL_CALLS][",
    between: ", ",
    close: "]",
    call: Form::Json("{\"name\": \"{N}\", \"arguments\": {A}}"),
    ids: Ids::Nine,
};

/// Mistral 7B v0.3 and others of its vocabulary: the same with a space behind the mark.
pub const SPACED: Syntax = Syntax { name: "mistral-spaced", open: "[TOOL_CALLS] [", ..SYNTAX };

/// Mistral from Small 3.2 and Ministral 3 on: a mark, a name and JSON.
pub const ARGS: Syntax = Syntax {
    name: "mistral-args",
    known_by: &[&["[TOOL_CALLS]", "[ARGS]"]],
    open: "",
    between: "",
    close: "",
    call: Form::Json("[TOOL_CALLS]{N}[ARGS]{A}"),
    ids: Ids::Nine,
};

/// Mistral Small 3.1: with an id between name and arguments.
pub const CALL_ID: Syntax = Syntax {
    name: "mistral-call-id",
    known_by: &[&["[TOOL_CALLS]", "[CALL_ID]"]],
    open: "",
    between: "",
    close: "",
    call: Form::Json("[TOOL_CALLS]{N}[CALL_ID]{R}[ARGS]{A}"),
    ids: Ids::Nine,
};
