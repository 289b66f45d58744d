//! Calls of LFM2.
use crate::tools::{Form, Ids, PYTHON, Syntax};

/// LFM2: a list of Python calls.
pub const SYNTAX: Syntax = Syntax {
    name: "lfm2",
    known_by: &[&["<|tool_call_start|>"], &["<|tool_list_start|>"]],
    open: "<|tool_call_start|>[",
    between: ", ",
    close: "]<|tool_call_end|>",
    call: Form::Literals { head: "{N}(", tail: ")", notation: &PYTHON },
    ids: Ids::Any,
};
