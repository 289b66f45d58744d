//! Calls of Gemma 4.
use crate::tools::{Form, GEMMA, Ids, Syntax};

/// Gemma 4: a name and literals of its own, texts between marks.
pub const SYNTAX: Syntax = Syntax {
    name: "gemma",
    known_by: &[&["<|tool_call>", "<tool_call|>"]],
    open: "",
    between: "",
    close: "",
    call: Form::Literals { head: "<|tool_call>call:{N}{", tail: "}<tool_call|>", notation: &GEMMA },
    ids: Ids::Any,
};
