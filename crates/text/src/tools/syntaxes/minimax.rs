//! Calls of MiniMax M1 and M2.
use crate::tools::{Form, Ids, Syntax};

/// MiniMax M1 and M2: elements.
pub const SYNTAX: Syntax = Syntax {
    name: "minimax",
    known_by: &[&["<minimax:tool_call>"]],
    open: "<minimax:tool_call>\n",
    between: "",
    close: "</minimax:tool_call>",
    call: Form::Elements {
        head: "<invoke name=\"{N}\">\n",
        parameter: "<parameter name=\"{K}\">{V}</parameter>\n",
        tail: "</invoke>\n",
    },
    ids: Ids::Any,
};

/// MiniMax M3: each parameter is an element of its own name. What is no text stands as JSON.
pub const M3: Syntax = Syntax {
    name: "minimax-m3",
    known_by: &[&["]<]minimax[>["]],
    open: "]<]minimax[>[<tool_call>\n",
    between: "\n",
    close: "]<]minimax[>[</tool_call>",
    call: Form::Elements {
        head: "]<]minimax[>[<invoke name=\"{N}\">",
        parameter: "]<]minimax[>[<{K}>{V}]<]minimax[>[</{K}>",
        tail: "]<]minimax[>[</invoke>\n",
    },
    ids: Ids::Any,
};
