//! Calls of Apertus.
use crate::tools::{Form, Ids, Syntax};

/// Apertus: a list of objects whose one name is the function's.
pub const SYNTAX: Syntax = Syntax {
    name: "apertus",
    known_by: &[&["<|tools_prefix|>"]],
    open: "<|tools_prefix|>[",
    between: ", ",
    close: "]<|tools_suffix|>",
    call: Form::Json("{\"{N}\": {A}}"),
    ids: Ids::Any,
};
