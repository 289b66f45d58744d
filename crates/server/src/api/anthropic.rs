//! `/v1/messages` and `/v1/messages/count_tokens`, as Anthropic's clients expect them.
use super::openai::{count, deadline, following, json, next, parse};
use super::rest::{Rest, refuse};
use crate::{
    chat::{self, Conversation},
    error::{ApiError, Result},
    host::{Model, Out, Ticket},
    id,
    job::{Choice, Job, short, stops},
    route::Call,
    sse::{self, Events},
    tools::{self, Answer, Called, Function, Tools},
};
use axum::response::Response;
use pondera_engine::{FinishReason, Usage};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// Documented fields that are refused by name where they are given.
const REFUSED: &[&str] = &["container", "mcp_servers", "context_management", "inference_geo"];

/// The body. `null` is as good as absent.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "MessagesRequest", deny_unknown_fields)]
pub struct Body {
    model: String,
    messages: Vec<Value>,
    #[schemars(range(min = 1))]
    max_tokens: Option<i64>,
    system: Option<Value>,
    #[schemars(range(min = 0.0, max = 1.0))]
    temperature: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f32>,
    #[schemars(range(min = -1))]
    top_k: Option<i64>,
    stop_sequences: Option<Vec<String>>,
    stream: Option<bool>,
    thinking: Option<Thinking>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    output_config: Option<Value>,
    output_format: Option<Value>,
    // What changes nothing here.
    #[serde(rename = "metadata")]
    _metadata: Option<Map<String, Value>>,
    #[serde(rename = "service_tier")]
    _service_tier: Option<String>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<Value>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "MessagesThinking")]
pub struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "budget_tokens")]
    _budget_tokens: Option<i64>,
}

/// What an answer and its events have in common.
struct Frame {
    id: String,
    model: Arc<Model>,
    stops: Vec<String>,
    deadline: Option<Instant>,
}

/// Answers.
pub async fn answer(mut call: Call) -> Result<Response> {
    let mut body: Body = parse(&call.body)?;
    let model = call.app.model(&body.model).await?;
    let limits = call.app.options.limits;
    let stops = stops("stop_sequences", body.stop_sequences.take().unwrap_or_default())?;
    let max_tokens = count("max_tokens", body.max_tokens, 1)?;
    let max_tokens = max_tokens.ok_or_else(|| ApiError::invalid("max_tokens", "expected a number"))?;
    if let Some(t) = body.temperature.filter(|t| !(0.0..=1.0).contains(t)) {
        return Err(ApiError::invalid("temperature", format!("expected a number from 0 to 1, got {t}")));
    }
    let choice = Choice { temperature: body.temperature, top_p: body.top_p, top_k: body.top_k, ..Choice::default() };
    let sampling = choice.sampling(&model.sampling)?;
    let mut job = Job { max_tokens: Some(max_tokens), stop: stops.clone(), ..Job::new(sampling) };
    let stream = body.stream.unwrap_or(false);
    job.take(chat::encode(&model, conversation(body)?).await?);
    call.place.grow(0, job.prompt.len(), &limits)?;
    let frame = Frame { id: id::random("msg_"), model: model.clone(), stops, deadline: deadline(&limits) };
    let mut ticket = job.submit(&model, call.tenant).swap_remove(0);
    if !stream {
        return whole(ticket, &frame).await.map(|v| json(&v));
    }
    // A request that cannot be answered gets a status of its own and not a broken stream.
    let head = tokio::time::timeout(sse::PATIENCE, next(&mut ticket, frame.deadline)).await.unwrap_or(None);
    if let Some(Out::Failed(e)) = head {
        return Err(e);
    }
    let (place, prompt) = (call.place, job.prompt.len());
    Ok(sse::respond(|events| async move {
        // A client that is gone needs no end.
        let _ = write(ticket, head, &frame, prompt, &events).await;
        drop(place);
    }))
}

/// What the answer must be: `output_config.format`, or `output_format` of earlier versions.
fn form(config: Option<&Value>, format: Option<&Value>) -> Result<Option<Value>> {
    if let Some(key) =
        config.and_then(Value::as_object).and_then(|c| c.keys().find(|k| *k != "format" && *k != "effort"))
    {
        return Err(ApiError::unsupported(&format!("output_config.{}", short(key)), "not supported by this server"));
    }
    let format = config.map(|c| &c["format"]).filter(|f| !f.is_null()).or(format.filter(|f| !f.is_null()));
    let Some(format) = format else { return Ok(None) };
    match (format["type"].as_str(), &format["schema"]) {
        (Some("json_schema"), schema @ Value::Object(_)) => Ok(Some(schema.clone())),
        _ => Err(ApiError::invalid("output_config.format", "expected {\"type\": \"json_schema\", \"schema\": {…}}")),
    }
}

/// Tokens of a conversation.
pub async fn count_tokens(call: Call) -> Result<Response> {
    let body: Body = parse(&call.body)?;
    let model = call.app.model(&body.model).await?;
    let count = chat::count(&model.words, conversation(body)?).await?;
    Ok(json(&json!({ "input_tokens": count })))
}

/// What the template gets, after everything that asks for what is not there was refused.
fn conversation(b: Body) -> Result<Conversation> {
    refuse(&b.rest, REFUSED)?;
    let mut tools = functions(b.tools.as_deref().unwrap_or_default(), b.tool_choice.as_ref())?;
    tools.wanted.text = form(b.output_config.as_ref(), b.output_format.as_ref())?;
    let mut kwargs = Map::new();
    if let Some(t) = &b.thinking {
        let on = match t.kind.as_str() {
            "enabled" | "adaptive" => true,
            "disabled" => false,
            other => return Err(ApiError::invalid("thinking.type", format!("{:?} is not known", short(other)))),
        };
        kwargs.insert("enable_thinking".into(), on.into());
    }
    let mut messages = Vec::new();
    match b.system {
        None | Some(Value::Null) => {}
        Some(system) => messages.push(json!({ "role": "system", "content": texts("system", system)? })),
    }
    if b.messages.is_empty() {
        return Err(ApiError::invalid("messages", "expected at least one"));
    }
    for (i, m) in b.messages.into_iter().enumerate() {
        message(&format!("messages[{i}]"), m, &mut messages)?;
    }
    let continues = messages.last().is_some_and(|m| m["role"] == "assistant");
    Ok(Conversation { messages, kwargs, continues, tools })
}

/// `tools` and `tool_choice`.
fn functions(list: &[Value], choice: Option<&Value>) -> Result<Tools> {
    let function = |(i, tool): (usize, &Value)| match tool["type"].as_str() {
        None | Some("custom") => Ok(()),
        Some(other) => Err(ApiError::unsupported(
            &format!("tools[{i}].type"),
            &format!("{:?} is not supported: the server runs no tools of its own", short(other)),
        )),
    };
    list.iter().enumerate().try_for_each(function)?;
    let functions = list.iter().enumerate().map(|(i, f)| Function {
        at: format!("tools[{i}]"),
        name: &f["name"],
        description: &f["description"],
        parameters: &f["input_schema"],
        strict: f["strict"] == true,
    });
    let choice = choice.filter(|c| !c.is_null());
    let which = match choice.map(|c| (c["type"].as_str(), c["name"].as_str())) {
        None | Some((Some("auto"), _)) => tools::Choice::Auto,
        Some((Some("any"), _)) => tools::Choice::Any,
        Some((Some("none"), _)) => tools::Choice::None,
        Some((Some("tool"), Some(name))) => tools::Choice::One(name.to_string()),
        Some((Some("tool"), None)) => return Err(ApiError::invalid("tool_choice.name", "expected a string")),
        Some(_) => return Err(ApiError::invalid("tool_choice.type", "expected auto, any, tool or none")),
    };
    let parallel = choice.is_none_or(|c| c["disable_parallel_tool_use"] != true);
    Tools::of(functions.collect(), which, parallel, "tool_choice")
}

/// A string, or blocks of text put together.
fn texts(at: &str, value: Value) -> Result<String> {
    match value {
        Value::String(s) => Ok(s),
        Value::Array(blocks) => {
            let one = |(i, b): (usize, &Value)| match (b["type"].as_str(), b["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_string()),
                (kind, _) => Err(block(&format!("{at}[{i}]"), kind)),
            };
            Ok(blocks.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?.join("\n"))
        }
        _ => Err(ApiError::invalid(at, "expected a string or a list of blocks")),
    }
}

fn block(at: &str, kind: Option<&str>) -> ApiError {
    match kind {
        Some(kind @ ("image" | "document" | "search_result")) => ApiError::unsupported(
            &format!("{at}.type"),
            &format!("{kind:?} is not supported: the model takes text alone"),
        ),
        Some(kind) => ApiError::invalid(&format!("{at}.type"), format!("{:?} does not stand here", short(kind))),
        None => ApiError::invalid(&format!("{at}.type"), "expected a string"),
    }
}

/// A message of the API as messages of templates: results of tools become messages of their own.
fn message(at: &str, m: Value, out: &mut Vec<Value>) -> Result<()> {
    let role = match m["role"].as_str() {
        Some(role @ ("user" | "assistant")) => role.to_string(),
        Some("system") => return Err(ApiError::invalid(&format!("{at}.role"), "the system's text stands in `system`")),
        _ => return Err(ApiError::invalid(&format!("{at}.role"), "expected user or assistant")),
    };
    let blocks = match m["content"].clone() {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks,
        _ => return Err(ApiError::invalid(&format!("{at}.content"), "expected a string or a list of blocks")),
    };
    let (mut said, mut thought, mut calls) = (Vec::new(), String::new(), Vec::new());
    for (k, b) in blocks.into_iter().enumerate() {
        let here = format!("{at}.content[{k}]");
        let text = |field: &str| {
            let missing = || ApiError::invalid(&format!("{here}.{field}"), "expected a string");
            b[field].as_str().map(str::to_string).ok_or_else(missing)
        };
        match (b["type"].as_str(), role.as_str()) {
            (Some("text"), _) => said.push(text("text")?),
            (Some("thinking"), "assistant") => thought.push_str(&text("thinking")?),
            (Some("redacted_thinking"), "assistant") => {}
            (Some("tool_use"), "assistant") => calls.push(json!({
                "id": text("id")?, "type": "function", "function": { "name": text("name")?, "arguments": b["input"] },
            })),
            (Some("tool_result"), "user") => {
                let content = if b["content"].is_null() {
                    String::new()
                } else {
                    texts(&format!("{here}.content"), b["content"].clone())?
                };
                out.push(json!({ "role": "tool", "tool_call_id": text("tool_use_id")?, "content": content }));
            }
            (kind, _) => return Err(block(&here, kind)),
        }
    }
    if role == "user" && said.is_empty() && out.last().is_some_and(|m| m["role"] == "tool") {
        return Ok(());
    }
    let mut message = json!({ "role": role, "content": said.join("\n") });
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    if !thought.is_empty() {
        message["reasoning_content"] = thought.into();
    }
    out.push(message);
    Ok(())
}

impl Frame {
    fn message(&self, content: Value, end: Option<(FinishReason, bool)>, usage: Value) -> Value {
        let (reason, stop) = self.end(end);
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model.name, "content": content,
            "stop_reason": reason, "stop_sequence": stop, "usage": usage,
        })
    }

    /// `stop_reason` and `stop_sequence` of an answer that ended so, with calls or without.
    fn end(&self, end: Option<(FinishReason, bool)>) -> (Option<&'static str>, Option<&str>) {
        let Some((reason, called)) = end else { return (None, None) };
        match reason {
            FinishReason::Length => (Some("max_tokens"), None),
            FinishReason::StopString(i) => (Some("stop_sequence"), self.stops.get(i).map(String::as_str)),
            FinishReason::Stop if called => (Some("tool_use"), None),
            FinishReason::Stop | FinishReason::Cancelled => (Some("end_turn"), None),
        }
    }
}

/// What is in the cache is not counted as input, as the API has it.
fn usage(u: &Usage) -> Value {
    json!({
        "input_tokens": u.prompt_tokens - u.cached_tokens, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": u.cached_tokens, "output_tokens": u.completion_tokens,
    })
}

async fn whole(mut ticket: Ticket, frame: &Frame) -> Result<Value> {
    let mut answer = Answer::default();
    while let Some(out) = next(&mut ticket, frame.deadline).await {
        match out {
            Out::Token { part, .. } => answer.add(part),
            Out::End { reason, part, usage: u, .. } => {
                answer.add(part);
                let end = Some((reason, !answer.calls.is_empty()));
                return Ok(frame.message(content(answer), end, usage(&u)));
            }
            Out::Failed(e) => return Err(e),
        }
    }
    Err(ApiError::unavailable("the answer ended early"))
}

/// A whole answer's blocks.
fn content(answer: Answer) -> Value {
    let mut content = Vec::new();
    if !answer.thought.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": answer.thought, "signature": "" }));
    }
    if !answer.text.is_empty() || content.is_empty() && answer.calls.is_empty() {
        content.push(json!({ "type": "text", "text": answer.text }));
    }
    let call = |c: &tools::Call| json!({ "type": "tool_use", "id": c.id, "name": c.name, "input": c.input() });
    content.extend(answer.calls.iter().map(call));
    content.into()
}

/// The events in their order: the message begins, its one block begins, grows and stops, the message ends.
async fn write(
    mut ticket: Ticket,
    mut head: Option<Out>,
    frame: &Frame,
    prompt: usize,
    events: &Events,
) -> std::result::Result<(), sse::Gone> {
    let none = Usage { prompt_tokens: prompt, ..Usage::default() };
    events
        .named(
            "message_start",
            &json!({ "type": "message_start", "message": frame.message(json!([]), None, usage(&none)) }),
        )
        .await?;
    events.named("ping", &json!({ "type": "ping" })).await?;
    let mut blocks = Blocks::default();
    loop {
        let out = following(&mut ticket, &mut head, frame.deadline, events).await?;
        let (part, end) = match out {
            Some(Out::Token { part, .. }) => (part, None),
            Some(Out::End { reason, part, usage, .. }) => (part, Some((reason, usage))),
            Some(Out::Failed(e)) => return events.named("error", &e.anthropic("")).await,
            None => return Ok(()),
        };
        blocks.add(&THINKING, &part.thought, events).await?;
        blocks.add(&TEXT, &part.text, events).await?;
        for call in part.calls {
            blocks.call(call, events).await?;
        }
        if let Some((reason, u)) = end {
            if blocks.count == 0 {
                // An answer of nothing has a block of nothing.
                blocks.open(&TEXT, events).await?;
            }
            blocks.close(events).await?;
            let (reason, stop) = frame.end(Some((reason, blocks.called)));
            let delta = json!({ "stop_reason": reason, "stop_sequence": stop });
            events
                .named("message_delta", &json!({ "type": "message_delta", "delta": delta, "usage": usage(&u) }))
                .await?;
            return events.named("message_stop", &json!({ "type": "message_stop" })).await;
        }
    }
}

/// A kind of block: its name, its delta's, the field of both, and what stands in the block when it begins.
struct Kind {
    name: &'static str,
    delta: &'static str,
    signed: bool,
}

const TEXT: Kind = Kind { name: "text", delta: "text_delta", signed: false };
const TOOL: &str = "tool_use";
const THINKING: Kind = Kind { name: "thinking", delta: "thinking_delta", signed: true };

/// The blocks of a streamed message: one at a time is open.
#[derive(Default)]
struct Blocks {
    count: usize,
    open: Option<&'static str>,
    /// A tool was called.
    called: bool,
}

impl Blocks {
    async fn add(&mut self, kind: &Kind, piece: &str, events: &Events) -> std::result::Result<(), sse::Gone> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.open != Some(kind.name) {
            self.close(events).await?;
            self.open(kind, events).await?;
        }
        let delta = json!({ "type": kind.delta, kind.name: piece });
        let index = self.count - 1;
        events
            .named("content_block_delta", &json!({ "type": "content_block_delta", "index": index, "delta": delta }))
            .await
    }

    /// A part of a call: each call is a block.
    async fn call(&mut self, part: Called, events: &Events) -> std::result::Result<(), sse::Gone> {
        match part {
            Called::Begin { id, name, .. } => {
                self.close(events).await?;
                self.called = true;
                self.start(TOOL, json!({ "type": TOOL, "id": id, "name": name, "input": {} }), events).await
            }
            Called::Arguments { text, .. } => {
                let delta = json!({ "type": "input_json_delta", "partial_json": text });
                let index = self.count - 1;
                let event = json!({ "type": "content_block_delta", "index": index, "delta": delta });
                events.named("content_block_delta", &event).await
            }
        }
    }

    async fn open(&mut self, kind: &Kind, events: &Events) -> std::result::Result<(), sse::Gone> {
        let mut block = json!({ "type": kind.name, kind.name: "" });
        if kind.signed {
            block["signature"] = "".into();
        }
        self.start(kind.name, block, events).await
    }

    async fn start(&mut self, name: &'static str, block: Value, events: &Events) -> std::result::Result<(), sse::Gone> {
        let start = json!({ "type": "content_block_start", "index": self.count, "content_block": block });
        (self.count, self.open) = (self.count + 1, Some(name));
        events.named("content_block_start", &start).await
    }

    async fn close(&mut self, events: &Events) -> std::result::Result<(), sse::Gone> {
        if self.open.take().is_none() {
            return Ok(());
        }
        events.named("content_block_stop", &json!({ "type": "content_block_stop", "index": self.count - 1 })).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_messages_of_templates() {
        let mut out = Vec::new();
        for m in [
            json!({ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }),
            json!({ "role": "assistant", "content": [{ "type": "thinking", "thinking": "hm", "signature": "" }, { "type": "text", "text": "c" },
                { "type": "tool_use", "id": "1", "name": "f", "input": { "x": 1 } }] }),
            json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "1", "content": [{ "type": "text", "text": "2" }] }] }),
        ] {
            message("m", m, &mut out).unwrap();
        }
        assert_eq!(out[0], json!({ "role": "user", "content": "a\nb" }));
        assert_eq!(out[1]["tool_calls"][0]["function"], json!({ "name": "f", "arguments": { "x": 1 } }));
        assert_eq!((out[1]["content"].as_str(), out[1]["reasoning_content"].as_str()), (Some("c"), Some("hm")));
        assert_eq!(out[2], json!({ "role": "tool", "tool_call_id": "1", "content": "2" }));
        assert_eq!(out.len(), 3);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (m, place) in [
            (json!({ "role": "king", "content": "x" }), "m.role"),
            (json!({ "role": "user", "content": 3 }), "m.content"),
            (json!({ "role": "user", "content": [{ "type": "image" }] }), "m.content[0].type"),
            (json!({ "role": "user", "content": [{ "type": "tool_use" }] }), "m.content[0].type"),
            (json!({ "role": "user", "content": [{}] }), "m.content[0].type"),
            (json!({ "role": "user", "content": [{ "type": "text" }] }), "m.content[0].text"),
            (json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "1" }] }), "m.content[0].name"),
        ] {
            let e = message("m", m.clone(), &mut Vec::new()).unwrap_err();
            assert_eq!(e.param.as_deref(), Some(place), "{m}");
        }
    }
}
