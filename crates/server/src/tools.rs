//! Tools as requests describe them, and calls as answers make them. How a model writes calls is `pondera_text::tools`' business.
use crate::{
    error::{ApiError, Result},
    host::Part,
    id,
    job::short,
};
use pondera_text::{
    answer::Wanted,
    tools::{CallPart, Ids, Tool, in_name},
};
use serde_json::{Value, json};

/// Most tools of a request.
const TOOLS_MAX: usize = 512;
/// Longest name of one.
const NAME_MAX: usize = 64;

/// What an answer may call.
#[derive(Debug, Default)]
pub struct Tools {
    /// As templates take them: OpenAI's shape.
    pub listed: Vec<Value>,
    /// What the answer is bound to.
    pub wanted: Wanted,
}

/// Which of the tools, if any.
#[derive(Debug, PartialEq)]
pub enum Choice {
    Auto,
    None,
    /// At least one.
    Any,
    /// This one.
    One(String),
    /// One of these, at least once if so said.
    Of(Vec<String>, bool),
}

/// A function's description, in any API's shape.
#[derive(Debug)]
pub struct Function<'v> {
    pub at: String,
    pub name: &'v Value,
    pub description: &'v Value,
    pub parameters: &'v Value,
    pub strict: bool,
}

impl Tools {
    /// Functions and which of them may be called.
    ///
    /// # Errors
    /// 400 with the place of what is wrong.
    pub fn of(functions: Vec<Function<'_>>, choice: Choice, parallel: bool, at: &str) -> Result<Tools> {
        if functions.is_empty() {
            return match choice {
                Choice::Auto | Choice::None => Ok(Tools::default()),
                _ => Err(ApiError::invalid(at, "only with tools")),
            };
        }
        if functions.len() > TOOLS_MAX {
            return Err(ApiError::invalid("tools", format!("expected at most {TOOLS_MAX}, got {}", functions.len())));
        }
        let mut all: Vec<(Value, Tool)> = Vec::new();
        for f in functions {
            let (listed, tool) = f.read()?;
            if all.iter().any(|(_, t)| t.name == tool.name) {
                return Err(ApiError::invalid(&format!("{}.name", f.at), format!("{:?} is there twice", tool.name)));
            }
            all.push((listed, tool));
        }
        let known = |name: &String| match all.iter().any(|(_, t)| t.name == *name) {
            true => Ok(()),
            false => Err(ApiError::invalid(at, format!("{:?} is none of the tools", short(name)))),
        };
        let (allowed, must_call, one): (Option<Vec<String>>, bool, bool) = match choice {
            // What cannot be called is not described.
            Choice::None => return Ok(Tools::default()),
            Choice::Auto => (None, false, false),
            Choice::Any => (None, true, false),
            Choice::One(name) => (Some(vec![name]), true, true),
            Choice::Of(names, must) => (Some(names), must, false),
        };
        allowed.iter().flatten().try_for_each(known)?;
        let (listed, tools): (Vec<Value>, Vec<Tool>) = all.into_iter().unzip();
        let may = |t: &Tool| allowed.as_ref().is_none_or(|names| names.contains(&t.name));
        let wanted = Wanted {
            text: None,
            tools: tools.into_iter().filter(may).collect(),
            must_call,
            one_call: one || !parallel,
        };
        Ok(Tools { listed, wanted })
    }

    /// OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`; also Ollama's `tools`.
    ///
    /// # Errors
    /// As [`Tools::of`].
    pub fn openai(tools: &[Value], choice: Option<&Value>, parallel: Option<bool>) -> Result<Tools> {
        fn function((i, tool): (usize, &Value)) -> Result<(String, &Value)> {
            let at = format!("tools[{i}]");
            match tool["type"].as_str() {
                Some("function") => {}
                Some(other) => {
                    let what = format!("{:?} is not supported: functions are", short(other));
                    return Err(ApiError::unsupported(&format!("{at}.type"), &what));
                }
                None => return Err(ApiError::invalid(&format!("{at}.type"), "expected a string")),
            }
            // The API of responses has its fields one level up.
            let nested = tool["function"].is_object();
            if !nested && tool["name"].is_null() {
                return Err(ApiError::invalid(&format!("{at}.function"), "expected an object"));
            }
            Ok(if nested { (format!("{at}.function"), &tool["function"]) } else { (at, tool) })
        }
        let found: Vec<(String, &Value)> = tools.iter().enumerate().map(function).collect::<Result<_>>()?;
        let functions = found.into_iter().map(|(at, f)| Function {
            at,
            name: &f["name"],
            description: &f["description"],
            parameters: &f["parameters"],
            strict: f["strict"] == true,
        });
        Tools::of(functions.collect(), chosen(choice)?, parallel.unwrap_or(true), "tool_choice")
    }
}

/// OpenAI's `tool_choice`.
fn chosen(choice: Option<&Value>) -> Result<Choice> {
    let wrong = |at: &str, what: String| Err(ApiError::invalid(&format!("tool_choice{at}"), what));
    let choice = match choice {
        None | Some(Value::Null) => return Ok(Choice::Auto),
        Some(choice) => choice,
    };
    let word = |word: &str| match word {
        "auto" => Some(Choice::Auto),
        "none" => Some(Choice::None),
        "required" => Some(Choice::Any),
        _ => None,
    };
    if let Some(text) = choice.as_str() {
        return word(text).map_or_else(|| wrong("", format!("{:?} is not known", short(text))), Ok);
    }
    match choice["type"].as_str() {
        Some("function") => match choice["function"]["name"].as_str().or(choice["name"].as_str()) {
            Some(name) => Ok(Choice::One(name.to_string())),
            None => wrong(".function.name", "expected a string".into()),
        },
        Some("allowed_tools") => {
            let inner = if choice["allowed_tools"].is_object() { &choice["allowed_tools"] } else { choice };
            let named = |t: &Value| t["function"]["name"].as_str().or(t["name"].as_str()).map(str::to_string);
            let names = inner["tools"].as_array().and_then(|all| all.iter().map(named).collect::<Option<Vec<_>>>());
            match (names, inner["mode"].as_str()) {
                (Some(names), Some(mode @ ("auto" | "required"))) if !names.is_empty() => {
                    Ok(Choice::Of(names, mode == "required"))
                }
                _ => wrong(".allowed_tools", "expected a mode, auto or required, and tools with names".into()),
            }
        }
        Some(other) => wrong(".type", format!("{:?} is not known", short(other))),
        None => wrong("", "expected a string or an object".into()),
    }
}

impl Function<'_> {
    fn read(&self) -> Result<(Value, Tool)> {
        let at = |field: &str| format!("{}.{field}", self.at);
        let name = self.name.as_str().ok_or_else(|| ApiError::invalid(&at("name"), "expected a string"))?;
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(in_name) {
            let what = format!("expected 1 to {NAME_MAX} letters, digits, '_', '-' and '.', got {:?}", short(name));
            return Err(ApiError::invalid(&at("name"), what));
        }
        if !(self.parameters.is_null() || self.parameters.is_object()) {
            return Err(ApiError::invalid(&at("parameters"), "expected a schema"));
        }
        if !(self.description.is_null() || self.description.is_string()) {
            return Err(ApiError::invalid(&at("description"), "expected a string"));
        }
        // Templates walk through the parameters of every function.
        let nothing = json!({ "type": "object", "properties": {} });
        let parameters = if self.parameters.is_null() { nothing } else { self.parameters.clone() };
        let description = self.description.as_str().unwrap_or("");
        let function = json!({ "name": name, "description": description, "parameters": parameters });
        let tool = Tool { name: name.to_string(), parameters, strict: self.strict };
        Ok((json!({ "type": "function", "function": function }), tool))
    }
}

/// A piece of a call in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    Begin { index: usize, id: String, name: String },
    Arguments { index: usize, text: String },
}

/// Names the calls of one answer.
#[derive(Clone, Debug)]
pub struct Namer {
    ids: Ids,
    /// Calls of the conversation before.
    before: usize,
    count: usize,
}

impl Namer {
    /// After `before` calls in the conversation.
    pub fn new(ids: Ids, before: usize) -> Namer {
        Namer { ids, before, count: 0 }
    }

    /// The part with its place, and an id where a call begins.
    pub fn name(&mut self, part: CallPart) -> Called {
        match part {
            CallPart::Begin { name } => {
                let index = self.count;
                self.count += 1;
                let id = match self.ids {
                    Ids::Any => id::random("call_"),
                    Ids::Nine => nine(&id::random("")),
                    Ids::Counted => format!("functions.{name}:{}", self.before + index),
                };
                Called::Begin { index, id, name }
            }
            CallPart::Arguments(text) => Called::Arguments { index: self.count.saturating_sub(1), text },
        }
    }
}

/// The nine letters and digits that stand for this id, themselves if it is such.
pub fn nine(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_string();
    }
    // FNV-1a: the same wherever the id stands.
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let letters = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut next = || {
        let letter = letters[(hash % 62) as usize];
        hash /= 62;
        char::from(letter)
    };
    (0..9).map(|_| next()).collect()
}

/// A whole call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its place in the answer.
    pub index: usize,
    pub id: String,
    pub name: String,
    /// JSON as the model wrote it.
    pub arguments: String,
}

impl Call {
    /// The arguments as a value; a call that was cut off has none.
    pub fn input(&self) -> Value {
        serde_json::from_str(&self.arguments).unwrap_or_else(|_| json!({}))
    }

    /// In OpenAI's shape.
    pub fn openai(&self) -> Value {
        json!({ "id": self.id, "type": "function", "function": { "name": self.name, "arguments": self.arguments } })
    }
}

/// An answer put together.
#[derive(Debug, Default)]
pub struct Answer {
    pub thought: String,
    pub text: String,
    pub calls: Vec<Call>,
}

impl Answer {
    /// Takes what was said next.
    pub fn add(&mut self, part: Part) {
        self.thought.push_str(&part.thought);
        self.text.push_str(&part.text);
        collect(&mut self.calls, part.calls);
    }
}

/// Puts pieces of calls together.
pub fn collect(calls: &mut Vec<Call>, parts: Vec<Called>) {
    for part in parts {
        match part {
            Called::Begin { index, id, name } => calls.push(Call { index, id, name, arguments: String::new() }),
            Called::Arguments { index, text } => {
                if let Some(call) = calls.iter_mut().find(|c| c.index == index) {
                    call.arguments.push_str(&text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(choice: Value, parallel: Option<bool>) -> Result<Tools> {
        let f = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object" } } });
        Tools::openai(&[f("a"), f("b")], Some(&choice), parallel)
    }

    #[test]
    fn a_choice_binds_the_answer() {
        let names = |t: &Tools| t.wanted.tools.iter().map(|t| t.name.clone()).collect::<Vec<_>>().concat();
        for (choice, parallel, allowed, must, one, listed) in [
            (json!("auto"), None, "ab", false, false, 2),
            (json!("auto"), Some(false), "ab", false, true, 2),
            (json!("required"), None, "ab", true, false, 2),
            (json!("none"), None, "", false, false, 0),
            (json!({ "type": "function", "function": { "name": "b" } }), None, "b", true, true, 2),
            (json!({ "type": "function", "name": "b" }), None, "b", true, true, 2),
            (
                json!({ "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "a" }] }),
                None,
                "a",
                true,
                false,
                2,
            ),
        ] {
            let t = tools(choice.clone(), parallel).unwrap();
            let got = (names(&t), t.wanted.must_call, t.wanted.one_call, t.listed.len());
            assert_eq!(got, (allowed.to_string(), must, one, listed), "{choice}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (choice, place) in [
            (json!("maybe"), "tool_choice"),
            (json!({ "type": "function", "function": { "name": "c" } }), "tool_choice"),
            (json!({ "type": "function" }), "tool_choice.function.name"),
            (json!({ "type": "x" }), "tool_choice.type"),
        ] {
            assert_eq!(tools(choice.clone(), None).unwrap_err().param.as_deref(), Some(place), "{choice}");
        }
        for (tool, place) in [
            (json!({}), "tools[0].type"),
            (json!({ "type": "web_search" }), "tools[0].type"),
            (json!({ "type": "function" }), "tools[0].function"),
            (json!({ "type": "function", "function": {} }), "tools[0].function.name"),
            (json!({ "type": "function", "function": { "name": "a b" } }), "tools[0].function.name"),
            (
                json!({ "type": "function", "function": { "name": "a", "parameters": 3 } }),
                "tools[0].function.parameters",
            ),
        ] {
            let e = Tools::openai(std::slice::from_ref(&tool), None, None).unwrap_err();
            assert_eq!(e.param.as_deref(), Some(place), "{tool}");
        }
        assert_eq!(
            Tools::openai(&[], Some(&json!("required")), None).unwrap_err().param.as_deref(),
            Some("tool_choice")
        );
    }

    #[test]
    fn ids_are_as_templates_want_them() {
        assert_eq!(nine("abcdefghi"), "abcdefghi");
        let id = nine("call_0123456789");
        assert!(id.len() == 9 && id == nine("call_0123456789") && id != nine("call_0123456788"));
        let mut namer = Namer::new(Ids::Counted, 2);
        let begin = |name: &str| CallPart::Begin { name: name.into() };
        assert_eq!(namer.name(begin("f")), Called::Begin { index: 0, id: "functions.f:2".into(), name: "f".into() });
        assert_eq!(namer.name(begin("g")), Called::Begin { index: 1, id: "functions.g:3".into(), name: "g".into() });
        let parts = vec![
            Called::Begin { index: 0, id: "1".into(), name: "f".into() },
            Called::Arguments { index: 0, text: "{\"a\"".into() },
            Called::Arguments { index: 0, text: ": 1}".into() },
        ];
        let mut calls = Vec::new();
        collect(&mut calls, parts);
        assert_eq!(calls[0].input(), json!({ "a": 1 }));
    }
}
