//! Calls of DeepSeek V3 and R1.
use crate::tools::{Form, Ids, Syntax};

/// DeepSeek V3 and R1: a kind, a name, JSON in a block of code.
pub const SYNTAX: Syntax = Syntax {
    name: "deepseek",
    known_by: &[&["<｜tool▁calls▁begin｜>", "```json"]],
    open: "<｜tool▁calls▁begin｜>",
    between: "\n",
    close: "<｜tool▁calls▁end｜>",
    call: Form::Json("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{N}\n```json\n{A}\n```<｜tool▁call▁end｜>"),
    ids: Ids::Any,
};

/// DeepSeek V3.1: a name and JSON.
pub const V3_1: Syntax = Syntax {
    name: "deepseek-v3.1",
    known_by: &[&["<｜tool▁calls▁begin｜>"]],
    open: "<｜tool▁calls▁begin｜>",
    between: "",
    close: "<｜tool▁calls▁end｜>",
    call: Form::Json("<｜tool▁call▁begin｜>{N}<｜tool▁sep｜>{A}<｜tool▁call▁end｜>"),
    ids: Ids::Any,
};

/// DeepSeek V3.2: elements, which say of each value whether it is text.
pub const V3_2: Syntax = Syntax {
    name: "deepseek-v3.2",
    known_by: &[&["｜DSML｜", "function_calls>"], &["｜DSML｜", "function_calls"]],
    open: "<｜DSML｜function_calls>\n",
    between: "",
    close: "</｜DSML｜function_calls>",
    call: Form::Elements {
        head: "<｜DSML｜invoke name=\"{N}\">\n",
        parameter: "<｜DSML｜parameter name=\"{K}\" string=\"{S}\">{V}</｜DSML｜parameter>\n",
        tail: "</｜DSML｜invoke>\n",
    },
    ids: Ids::Any,
};

/// DeepSeek V4: as V3.2, between other tags.
pub const V4: Syntax = Syntax {
    name: "deepseek-v4",
    known_by: &[&["｜DSML｜", "tool_calls>"], &["｜DSML｜", "tool_calls"]],
    open: "<｜DSML｜tool_calls>\n",
    between: "",
    close: "</｜DSML｜tool_calls>",
    call: Form::Elements {
        head: "<｜DSML｜invoke name=\"{N}\">\n",
        parameter: "<｜DSML｜parameter name=\"{K}\" string=\"{S}\">{V}</｜DSML｜parameter>\n",
        tail: "</｜DSML｜invoke>\n",
    },
    ids: Ids::Any,
};
