//! Calls of tools in the text of an answer: how each family writes them, read as the text comes.
//!
//! A [`Syntax`] is data: one file per family in `syntaxes`. What it means stands here once: [`Reader`] reads what models write,
//! [`crate::answer`] makes the grammar that they cannot leave.
mod json;
mod literal;
pub(crate) mod pattern;
mod reader;
mod syntaxes;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use literal::{GEMMA, Notation, PYTHON, in_key};
pub use reader::CallReader;
pub use syntaxes::SYNTAXES;

use crate::chat::{ChatInput, ChatTemplate};
use serde_json::{Value, json};

/// A function that an answer may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// The JSON schema of its arguments, an object's.
    pub parameters: Value,
    /// What the schema asks for and cannot be had is an error; otherwise it is left out.
    pub strict: bool,
}

/// A piece of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallPart {
    /// A call begins.
    Begin {
        /// The function's.
        name: String,
    },
    /// Text of the arguments' JSON: together, one object.
    Arguments(String),
}

/// How a family writes calls.
#[derive(Debug)]
pub struct Syntax {
    /// The family's.
    pub name: &'static str,
    /// Templates that hold all texts of one of these lists write it.
    pub known_by: &'static [&'static [&'static str]],
    /// Before the first call.
    pub open: &'static str,
    /// Between two.
    pub between: &'static str,
    /// After the last.
    pub close: &'static str,
    /// One call.
    pub call: Form,
    /// Ids as its templates want them.
    pub ids: Ids,
}

/// One call: texts with the holes of [`pattern::Hole`].
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Form {
    /// A name and a JSON object.
    Json(&'static str),
    /// A head with the name, a part for each parameter, an end.
    Elements { head: &'static str, parameter: &'static str, tail: &'static str },
    /// A name and literals of some language between brackets: `head`, fields, `tail`.
    Literals { head: &'static str, tail: &'static str, notation: &'static Notation },
}

/// What ids of calls look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Whatever the API likes.
    Any,
    /// Nine letters and digits.
    Nine,
    /// `functions.NAME:COUNT`.
    Counted,
}

impl Syntax {
    /// How a model with this template writes calls, and how the template takes those of earlier turns; none where the
    /// template knows no tools.
    ///
    /// A template that writes calls of earlier turns says so itself: the syntax that reads its own text back is taken. Those
    /// that write none are known by their words.
    pub fn of(template: &ChatTemplate) -> Option<(&'static Syntax, Turns)> {
        let source = template.source(true);
        let known = |s: &&Syntax| s.known_by.iter().any(|all| all.iter().all(|text| source.contains(text)));
        let candidates: Vec<&'static Syntax> = SYNTAXES.iter().copied().filter(known).collect();
        let mut wrote = false;
        for turns in Turns::ALL {
            let Some(text) = probe(template, turns).filter(|text| text.contains(PROBE.2)) else { continue };
            // A first try that writes nothing leaves the guess by words, whatever the others write.
            wrote |= turns == Turns::default();
            if let Some(syntax) = candidates.iter().find(|s| reads_probe(s, &text)) {
                return Some((syntax, turns));
            }
        }
        // A template that writes no calls leaves the model to its training.
        candidates.first().filter(|_| !wrote).map(|s| (*s, Turns::default()))
    }

    /// The text that begins a call, as far as white space cannot change it.
    pub(crate) fn trigger(&self) -> &'static str {
        pattern::trigger(if self.open.is_empty() { self.head() } else { self.open })
    }

    /// What a call begins with.
    pub(crate) fn head(&self) -> &'static str {
        let (Form::Json(head) | Form::Elements { head, .. } | Form::Literals { head, .. }) = self.call;
        match pattern::pieces(head).first() {
            Some(pattern::Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// A call can stand at the beginning of an answer alone: nothing but its first letter tells it from text.
    pub(crate) fn bare(&self) -> bool {
        self.trigger().starts_with('{')
    }
}

/// The name and the arguments of the call that templates are asked to write.
const PROBE: (&str, &str, &str) = ("probe_function", "probe_key", "probe value");

/// How a template takes a turn with calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// A turn that says nothing beside its calls has no content at all in place of an empty one.
    pub no_content: bool,
    /// Arguments are JSON text in place of an object.
    pub text_arguments: bool,
}

impl Turns {
    const ALL: [Turns; 4] = [
        Turns { no_content: false, text_arguments: false },
        Turns { no_content: true, text_arguments: false },
        Turns { no_content: false, text_arguments: true },
        Turns { no_content: true, text_arguments: true },
    ];
}

fn probe(template: &ChatTemplate, turns: Turns) -> Option<String> {
    let (name, key, value) = PROBE;
    let parameters = json!({ "type": "object", "properties": { key: { "type": "string" } }, "required": [key] });
    let tool = json!({ "type": "function", "function": { "name": name, "description": "", "parameters": parameters } });
    let arguments = json!({ key: value });
    let arguments = if turns.text_arguments { Value::String(arguments.to_string()) } else { arguments };
    let call = json!({ "id": "abcdefghi", "type": "function", "function": { "name": name, "arguments": arguments } });
    let content = if turns.no_content { Value::Null } else { "".into() };
    let input = ChatInput {
        messages: vec![
            json!({ "role": "user", "content": "q" }),
            json!({ "role": "assistant", "content": content, "tool_calls": [call] }),
        ],
        tools: Some(vec![tool]),
        ..ChatInput::default()
    };
    template.render(&input).ok()
}

/// Whether `text` holds the probe's call as `syntax` writes it.
fn reads_probe(syntax: &'static Syntax, text: &str) -> bool {
    let (name, key, value) = PROBE;
    let tool = Tool {
        name: name.into(),
        parameters: json!({ "type": "object", "properties": { key: { "type": "string" } } }),
        strict: false,
    };
    // Behind the description of the tools, which may show the syntax too.
    let from = text.rfind(value).map_or(0, |at| text[..at].rfind(syntax.trigger()).unwrap_or(0));
    let mut reader = CallReader::new(syntax, vec![tool]);
    let (mut said, mut calls) = (String::new(), Vec::new());
    reader.push(&text[from..], &mut said, &mut calls);
    reader.finish(&mut said, &mut calls);
    let begins = calls.first() == Some(&CallPart::Begin { name: name.into() });
    let arguments: String = calls
        .iter()
        .filter_map(|part| match part {
            CallPart::Arguments(text) => Some(text.as_str()),
            CallPart::Begin { .. } => None,
        })
        .collect();
    begins && serde_json::from_str::<Value>(&arguments).is_ok_and(|a| a == json!({ key: value }))
}

/// Whether a function's name may hold this.
pub fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}

/// The schema of a parameter; null where the function has no such.
pub(crate) fn parameter<'t>(tools: &'t [Tool], name: &str, key: &str) -> &'t Value {
    const NONE: &Value = &Value::Null;
    let Some(tool) = tools.iter().find(|t| t.name == name) else { return NONE };
    resolved(&tool.parameters, &tool.parameters["properties"][key])
}

/// What a schema refers to, where that is all that it says.
pub(crate) fn resolved<'v>(root: &'v Value, mut schema: &'v Value) -> &'v Value {
    for _ in 0..16 {
        let only = schema["allOf"].as_array().filter(|all| all.len() == 1);
        schema = match (schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')), only) {
            (Some(place), _) => match root.pointer(place) {
                Some(target) => target,
                None => return schema,
            },
            (None, Some(all)) => &all[0],
            (None, None) => return schema,
        };
    }
    schema
}

/// Whether values of this schema are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Texts {
    Always,
    Never,
    Maybe,
}

/// What a schema says of its values.
pub(crate) fn texts(schema: &Value) -> Texts {
    match types(schema) {
        None => Texts::Maybe,
        Some(all) if all.iter().all(|t| *t == "string") => Texts::Always,
        Some(all) if all.contains(&"string") => Texts::Maybe,
        Some(_) => Texts::Never,
    }
}

/// The types that a schema names; none where it may be anything.
fn types(schema: &Value) -> Option<Vec<&str>> {
    match (&schema["type"], &schema["enum"], &schema["const"]) {
        (Value::String(kind), _, _) => Some(vec![kind.as_str()]),
        (Value::Array(kinds), _, _) => kinds.iter().map(Value::as_str).collect(),
        (_, Value::Array(values), _) => Some(values.iter().map(type_of).collect()),
        (_, _, value) if !value.is_null() => Some(vec![type_of(value)]),
        _ => {
            let parts = schema["anyOf"].as_array().or(schema["oneOf"].as_array())?;
            Some(parts.iter().map(types).collect::<Option<Vec<_>>>()?.concat())
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a value that could be text is one of the other types that the schema names: a zip code stays text where numbers are
/// not asked for.
pub(crate) fn other_than_text(schema: &Value, value: &Value) -> bool {
    let kind = type_of(value);
    match types(schema) {
        None => kind != "string",
        Some(all) => kind != "string" && all.iter().any(|t| *t == kind || *t == "number" && kind == "integer"),
    }
}
