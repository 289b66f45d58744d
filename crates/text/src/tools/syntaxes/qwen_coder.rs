//! Calls of Qwen3-Coder, Qwen 3.5, Nemotron 3.
use crate::tools::{Form, Ids, Syntax};

/// Qwen3-Coder, Qwen 3.5, Nemotron 3: elements named by what they hold.
pub const SYNTAX: Syntax = Syntax {
    name: "qwen_coder",
    known_by: &[&["<tool_call>", "<function="]],
    open: "",
    between: "\n",
    close: "",
    call: Form::Elements {
        head: "<tool_call>\n<function={N}>\n",
        parameter: "<parameter={K}>\n{V}\n</parameter>\n",
        tail: "</function>\n</tool_call>",
    },
    ids: Ids::Any,
};
