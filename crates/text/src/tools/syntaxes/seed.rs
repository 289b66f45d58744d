//! Calls of Seed-OSS.
use crate::tools::{Form, Ids, Syntax};

/// Seed-OSS: as Qwen3-Coder, between other tags, values without line breaks around them.
pub const SYNTAX: Syntax = Syntax {
    name: "seed",
    known_by: &[&["<seed:tool_call>"]],
    open: "",
    between: "\n",
    close: "",
    call: Form::Elements {
        head: "<seed:tool_call>\n<function={N}>\n",
        parameter: "<parameter={K}>{V}</parameter>\n",
        tail: "</function>\n</seed:tool_call>",
    },
    ids: Ids::Any,
};
