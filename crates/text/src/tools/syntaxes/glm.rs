//! Calls of GLM 4.5 to 5, Ling 3.
use crate::tools::{Form, Ids, Syntax};

/// GLM 4.5 to 5, Ling 3: keys and values apart.
pub const SYNTAX: Syntax = Syntax {
    name: "glm",
    known_by: &[&["<tool_call>", "<arg_key>"]],
    open: "",
    between: "\n",
    close: "",
    call: Form::Elements {
        head: "<tool_call>{N}\n",
        parameter: "<arg_key>{K}</arg_key>\n<arg_value>{V}</arg_value>\n",
        tail: "</tool_call>",
    },
    ids: Ids::Any,
};

/// As GLM, without line breaks: Laguna, GLM 4.7.
pub const DENSE: Syntax = Syntax {
    name: "glm-dense",
    known_by: &[&["<tool_call>", "<arg_key>"]],
    open: "",
    between: "",
    close: "",
    call: Form::Elements {
        head: "<tool_call>{N}",
        parameter: "<arg_key>{K}</arg_key><arg_value>{V}</arg_value>",
        tail: "</tool_call>",
    },
    ids: Ids::Any,
};
