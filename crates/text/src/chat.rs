//! Chat templates: which one a model has, what it sees of a conversation, and its text. Follows what transformers'
//! `apply_chat_template` gives to a template. Knows nothing of tokens.

use crate::error::{Error, ErrorKind, Result};
use crate::jinja::{self, Clock, watch::Watch};
use serde_json::{Map, Value};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names under which a message carries its reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// Marks the end of the message that is to be continued.
const CONTINUE: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The chat templates of a model: one, or several with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    templates: Vec<(String, String)>,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

/// What a template is rendered with.
#[derive(Clone, Debug, Default)]
pub struct ChatInput {
    /// The messages: objects with `role`, `content` and whatever else the template reads.
    pub messages: Vec<Value>,
    /// Tools as JSON schemas.
    pub tools: Option<Vec<Value>>,
    /// Documents for retrieval.
    pub documents: Option<Vec<Value>>,
    /// Further variables of the template.
    pub kwargs: Map<String, Value>,
    /// Ends the text where the model is to answer.
    pub add_generation_prompt: bool,
    /// Cuts the text behind the last message, so that the model continues it.
    pub continue_final_message: bool,
    /// In place of the model's own.
    pub bos_token: Option<String>,
    /// In place of the model's own.
    pub eos_token: Option<String>,
    /// The moment that `strftime_now` gives, as seconds since 1970; the present one without it.
    pub now: Option<i64>,
}

impl ChatInput {
    /// Reads what a file holds: a list of messages, or an object with `messages`, `tools`, `documents`, `kwargs`,
    /// `continue_final_message` and `add_generation_prompt`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the field that has another shape.
    pub fn from_json(value: Value) -> Result<Self> {
        let list = |value: Option<Value>, name: &str| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(Error::invalid(format!("{name}: expected a list"))),
        };
        let mut object = match value {
            Value::Array(messages) => return Ok(ChatInput { messages, ..ChatInput::default() }),
            Value::Object(object) => object,
            _ => return Err(Error::invalid("messages: expected a list of messages or an object with `messages`")),
        };
        let flag = |value: Option<Value>, name: &str| match value {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(Error::invalid(format!("{name}: expected true or false"))),
        };
        Ok(ChatInput {
            messages: list(object.remove("messages"), "messages")?
                .ok_or_else(|| Error::invalid("messages: missing"))?,
            tools: list(object.remove("tools"), "tools")?,
            documents: list(object.remove("documents"), "documents")?,
            kwargs: match object.remove("kwargs") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(map)) => map,
                Some(_) => return Err(Error::invalid("kwargs: expected an object")),
            },
            add_generation_prompt: flag(object.remove("add_generation_prompt"), "add_generation_prompt")?,
            continue_final_message: flag(object.remove("continue_final_message"), "continue_final_message")?,
            ..ChatInput::default()
        })
    }
}

impl ChatTemplate {
    /// A template from its source.
    pub fn new(source: impl Into<String>) -> Self {
        ChatTemplate { templates: vec![("default".into(), source.into())], bos_token: None, eos_token: None }
    }

    /// With these in place of those that it has none of.
    #[must_use]
    pub fn with_tokens(mut self, bos_token: Option<String>, eos_token: Option<String>) -> Self {
        self.bos_token = self.bos_token.or(bos_token);
        self.eos_token = self.eos_token.or(eos_token);
        self
    }

    /// The template of a model folder: `chat_template.jinja`, `chat_template.json`, or `chat_template` in
    /// `tokenizer_config.json` (a text, or a list of named ones). `None` where the model has none.
    ///
    /// # Errors
    /// Files that cannot be read or have another shape.
    pub fn open(folder: impl AsRef<Path>) -> Result<Option<Self>> {
        let folder = folder.as_ref();
        let config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let mut templates = match read(&folder.join("chat_template.jinja"))? {
            Some(source) => vec![("default".to_string(), source)],
            None => {
                named(read_json(&folder.join("chat_template.json"))?.as_ref().and_then(|v| v.get("chat_template")))?
            }
        };
        if templates.is_empty() {
            templates = named(config.get("chat_template"))?;
        }
        if let Ok(entries) = std::fs::read_dir(folder.join("additional_chat_templates")) {
            let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
            paths.sort();
            for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "jinja")) {
                let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or("").to_string();
                templates.extend(read(path)?.map(|source| (name, source)));
            }
        }
        let token = |field: &str| {
            let value = config.get(field)?;
            value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string)
        };
        let (bos_token, eos_token) = (token("bos_token"), token("eos_token"));
        Ok((!templates.is_empty()).then_some(ChatTemplate { templates, bos_token, eos_token }))
    }

    /// The template of tensors that are open: in a GGUF file, or beside the others. None where there is none.
    ///
    /// # Errors
    /// A template that is not UTF-8 or whose file cannot be read.
    pub fn of(weights: &pondera_weights::Weights) -> Result<Option<Self>> {
        match weights.gguf() {
            Some(gguf) => ChatTemplate::from_gguf(gguf),
            None => ChatTemplate::open(weights.folder()),
        }
    }

    /// The template of a GGUF file, with its named ones. `None` where the file has none.
    ///
    /// # Errors
    /// Metadata of a wrong type.
    pub fn from_gguf(gguf: &pondera_weights::Gguf) -> Result<Option<Self>> {
        let text = |key: &str| gguf.str(key).map_err(|e| Error::invalid(e.to_string()));
        let mut templates = Vec::new();
        for key in gguf.keys().filter(|k| k.starts_with("tokenizer.chat_template")) {
            let name = key.strip_prefix("tokenizer.chat_template.").unwrap_or("default");
            if key == "tokenizer.chat_templates" {
                continue; // the list of names
            }
            templates.extend(text(key)?.map(|source| (name.to_string(), source.to_string())));
        }
        let tokens = gguf.byte_strings("tokenizer.ggml.tokens").map_err(|e| Error::invalid(e.to_string()))?;
        let token = |key: &str| {
            let id = usize::try_from(gguf.u64(key).ok().flatten()?).ok()?;
            let text = tokens.as_ref()?.get(id)?;
            std::str::from_utf8(text).ok().map(str::to_string)
        };
        let (bos_token, eos_token) = (token("tokenizer.ggml.bos_token_id"), token("tokenizer.ggml.eos_token_id"));
        Ok((!templates.is_empty()).then_some(ChatTemplate { templates, bos_token, eos_token }))
    }

    /// The source that a conversation with or without tools is rendered by.
    pub fn source(&self, tools: bool) -> &str {
        let named = |name: &str| self.templates.iter().find(|(n, _)| n == name);
        let chosen = if tools { named("tool_use").or_else(|| named("default")) } else { named("default") };
        chosen.or(self.templates.first()).map_or("", |(_, source)| source)
    }

    /// The names of the templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().map(|(name, _)| name.as_str())
    }

    /// Checks that the template can be read.
    ///
    /// # Errors
    /// [`ErrorKind::Template`] with the place.
    pub fn check(&self) -> Result<()> {
        self.templates.iter().try_for_each(|(_, source)| jinja::check(source))
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// [`ErrorKind::Raised`] with the template's own message; [`ErrorKind::Template`] for what Python would raise;
    /// [`ErrorKind::Limit`] where the work grows out of bounds.
    pub fn render(&self, input: &ChatInput) -> Result<String> {
        let (variables, clock, last) = self.prepare(input)?;
        let text = jinja::render(self.source(input.tools.is_some()), variables, clock)?;
        match last {
            None => Ok(text),
            Some(last) => cut_behind(text, &last),
        }
    }

    /// The text of a conversation as [`ChatTemplate::render`] gives it, but for `continue_final_message`, and what the
    /// template compared and looked for on the way.
    pub fn render_watched(&self, input: &ChatInput) -> (Result<String>, Watch) {
        match self.prepare(input) {
            Ok((variables, clock, _)) => jinja::render_watched(self.source(input.tools.is_some()), variables, clock),
            Err(error) => (Err(error), Watch::default()),
        }
    }

    /// The variables of a template, its clock, and the last message's text where that is to be continued.
    fn prepare(&self, input: &ChatInput) -> Result<(Map<String, Value>, Clock, Option<String>)> {
        let source = self.source(input.tools.is_some());
        let mut messages: Vec<Value> = Vec::with_capacity(input.messages.len());
        for message in &input.messages {
            let Value::Object(message) = message else {
                return Err(Error::invalid("messages: expected objects"));
            };
            messages.push(Value::Object(with_reasoning(message)));
        }
        let last = if input.continue_final_message { Some(mark_last(&mut messages, source)?) } else { None };
        let mut variables = Map::new();
        let own = |given: &Option<String>, model: &Option<String>| given.clone().or_else(|| model.clone());
        for (name, token) in [
            ("bos_token", own(&input.bos_token, &self.bos_token)),
            ("eos_token", own(&input.eos_token, &self.eos_token)),
        ] {
            if let Some(token) = token {
                variables.insert(name.into(), Value::String(token));
            }
        }
        variables.insert("messages".into(), Value::Array(messages));
        variables.insert("tools".into(), input.tools.clone().map_or(Value::Null, Value::Array));
        variables.insert("documents".into(), input.documents.clone().map_or(Value::Null, Value::Array));
        variables.insert("add_generation_prompt".into(), Value::Bool(input.add_generation_prompt));
        variables.extend(input.kwargs.clone());
        let present = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        Ok((variables, Clock::from_unix(input.now.unwrap_or_else(present)), last))
    }
}

/// Seconds since 1970 of `YYYY-MM-DD`, maybe with `THH:MM[:SS]`; the time zone is not looked at.
pub fn parse_time(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let clock = |range: std::ops::Range<usize>, most: i64| match text.get(range.clone()) {
        None => Some(0),
        Some(_) => number(range).filter(|n| (0..=most).contains(n)),
    };
    let (hour, minute, second) = (clock(11..13, 23)?, clock(14..16, 59)?, clock(17..19, 60)?);
    let shifted = year - i64::from(month <= 2);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let of_era = shifted.rem_euclid(400);
    let days = shifted.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Reasoning goes by three names; a template may read any of them.
fn with_reasoning(message: &Map<String, Value>) -> Map<String, Value> {
    let Some(reasoning) = REASONING.iter().find_map(|name| message.get(*name).filter(|v| !v.is_null())) else {
        return message.clone();
    };
    let mut out = Map::new();
    out.insert("thinking".into(), reasoning.clone());
    out.extend(message.clone());
    out.insert("reasoning_content".into(), reasoning.clone());
    out
}

/// Puts the mark behind the last message's text; gives that text.
fn mark_last(messages: &mut [Value], source: &str) -> Result<String> {
    let fail = |what: &str| Error::new(ErrorKind::Template, format!("continue_final_message: {what}"));
    let last = messages.last_mut().ok_or_else(|| fail("the conversation is empty"))?;
    if !source.contains("content") {
        return Err(fail("the template does not read `content`"));
    }
    let text = match last.get_mut("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let part = parts.iter_mut().rev().find_map(|part| part.get_mut("text"));
            match part {
                Some(Value::String(text)) => text,
                _ => return Err(fail("the final message has no text to continue")),
            }
        }
        _ => return Err(fail("the final message has no `content` to continue")),
    };
    let before = text.clone();
    text.push_str(CONTINUE);
    Ok(before)
}

fn cut_behind(mut text: String, last: &str) -> Result<String> {
    let mark = CONTINUE.trim_end();
    let found = text.rfind(mark).filter(|_| text.contains(last.trim()));
    let Some(at) = found else {
        let what = "continue_final_message: the final message does not appear in the text as it is";
        return Err(Error::new(ErrorKind::Template, what));
    };
    let kept = text[at..].starts_with(CONTINUE);
    text.truncate(at);
    if !kept {
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}

fn named(value: Option<&Value>) -> Result<Vec<(String, String)>> {
    let wrong = || Error::invalid("chat_template: expected a text or a list of objects with `name` and `template`");
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(source)) => Ok(vec![("default".into(), source.clone())]),
        Some(Value::Array(list)) => {
            let text = |entry: &Value, field| entry.get(field).and_then(Value::as_str).map(str::to_string);
            let pair = |entry| Some((text(entry, "name")?, text(entry, "template")?));
            list.iter().map(pair).collect::<Option<_>>().ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            String::from_utf8(bytes).map(Some).map_err(|_| Error::invalid(format!("{}: not UTF-8", path.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, &error)),
    }
}

fn read_json(path: &Path) -> Result<Option<Value>> {
    match read(path)? {
        None => Ok(None),
        Some(text) => {
            serde_json::from_str(&text).map(Some).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))
        }
    }
}
