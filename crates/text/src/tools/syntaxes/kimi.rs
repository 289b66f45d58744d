//! Calls of Kimi K2.
use crate::tools::{Form, Ids, Syntax};

/// Kimi K2: a name that counts calls, and JSON.
pub const SYNTAX: Syntax = Syntax {
    name: "kimi",
    known_by: &[&["<|tool_calls_section_begin|>"]],
    open: "<|tool_calls_section_begin|>",
    between: "",
    close: "<|tool_calls_section_end|>",
    call: Form::Json("<|tool_call_begin|>functions.{N}:{I}<|tool_call_argument_begin|>{A}<|tool_call_end|>"),
    ids: Ids::Counted,
};
