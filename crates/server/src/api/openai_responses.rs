//! `/v1/responses`: items in, items out, and conversations that go on by the name of an answer.
use super::openai::{self, count, deadline, following, json, next, parse};
use super::rest::{Rest, refuse};
use crate::{
    chat::{self, Conversation},
    error::{ApiError, Result},
    host::{Model, Out, Part, Ticket},
    id,
    job::{Choice, Job, short},
    responses::Known,
    route::{App, Call},
    sse::{self, Events, Gone},
    tools::{Answer, Called, Tools},
};
use axum::{http::StatusCode, response::Response};
use pondera_engine::{FinishReason, Usage};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::time::{Instant, timeout};

/// Documented fields that are refused by name where they are given.
const REFUSED: &[&str] = &["conversation", "prompt", "max_tool_calls", "context_management", "moderation"];
/// What can be included; thoughts come as they are, whoever asks for them sealed.
const INCLUDED: [&str; 2] = ["message.output_text.logprobs", "reasoning.encrypted_content"];

/// The body. `null` is as good as absent.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ResponseRequest", deny_unknown_fields)]
pub struct Body {
    model: String,
    input: Option<Value>,
    instructions: Option<Value>,
    #[schemars(range(min = 1))]
    max_output_tokens: Option<i64>,
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f32>,
    #[schemars(range(min = 0, max = 20))]
    top_logprobs: Option<i64>,
    stream: Option<bool>,
    #[serde(rename = "stream_options")]
    _stream_options: Option<openai::StreamOptions>,
    store: Option<bool>,
    previous_response_id: Option<String>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<Text>,
    reasoning: Option<Value>,
    truncation: Option<String>,
    background: Option<bool>,
    include: Option<Vec<String>>,
    metadata: Option<Map<String, Value>>,
    // What changes nothing here.
    user: Option<String>,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
    #[serde(rename = "prompt_cache_retention")]
    _prompt_cache_retention: Option<String>,
    #[serde(rename = "service_tier")]
    _service_tier: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ResponseText")]
pub struct Text {
    format: Option<Value>,
    verbosity: Option<String>,
}

/// What is known of an answer before it begins.
struct Frame {
    app: Arc<App>,
    model: Arc<Model>,
    tenant: u64,
    id: String,
    /// The response without what comes.
    head: Value,
    store: bool,
    input: Vec<Value>,
    messages: Vec<Value>,
    logprobs: bool,
    deadline: Option<Instant>,
}

/// Answers.
pub async fn answer(mut call: Call) -> Result<Response> {
    let body: Body = parse(&call.body)?;
    refuse(&body.rest, REFUSED)?;
    let model = call.app.model(&body.model).await?;
    let limits = call.app.options.limits;
    openai::metadata(body.metadata.as_ref())?;
    let logprobs = wants_logprobs(&body)?;
    let choice = Choice { temperature: body.temperature, top_p: body.top_p, ..Choice::default() };
    let mut job = Job {
        max_tokens: count("max_output_tokens", body.max_output_tokens, 1)?,
        logprobs,
        ..Job::new(choice.sampling(&model.sampling)?)
    };
    let earlier = match &body.previous_response_id {
        None => Vec::new(),
        Some(id) => call.app.responses.get(id, call.tenant).ok_or_else(|| unknown(id))?.messages,
    };
    let input = items(body.input.as_ref())?;
    let mut messages = earlier;
    messages.extend(to_messages(&input)?);
    let head = head(&body, &model.name);
    let conversation = conversation(&body, messages.clone())?;
    job.take(chat::encode(&model, conversation).await?);
    call.place.grow(0, job.prompt.len(), &limits)?;
    let id = id::random("resp_");
    let mut ticket = job.submit(&model, call.tenant).swap_remove(0);
    let (app, tenant, deadline) = (call.app.clone(), call.tenant, deadline(&limits));
    let (store, logprobs) = (body.store.unwrap_or(true), logprobs.is_some());
    let frame = Frame { app, model, tenant, id, head, store, input, messages, logprobs, deadline };
    if !body.stream.unwrap_or(false) {
        return whole(ticket, &frame).await.map(|v| json(&v));
    }
    // A request that cannot be answered gets a status of its own and not a broken stream.
    let first = timeout(sse::PATIENCE, next(&mut ticket, frame.deadline)).await.unwrap_or(None);
    if let Some(Out::Failed(e)) = first {
        return Err(e);
    }
    let place = call.place;
    Ok(sse::respond(|events| async move {
        // A client that is gone needs no end.
        let _ = write(ticket, first, &frame, &events).await;
        drop(place);
    }))
}

/// `/v1/responses/{id}` and `/v1/responses/{id}/input_items`.
pub async fn show(call: Call) -> Result<Response> {
    if let Some(id) = call.rest.strip_suffix("/input_items") {
        let kept = call.app.responses.get(id, call.tenant).ok_or_else(|| unknown(id))?;
        // Newest first, as the API has them.
        let data: Vec<Value> = kept.input.iter().enumerate().rev().map(|(i, item)| listed(id, i, item)).collect();
        let end = |v: Option<&Value>| v.map_or(Value::Null, |v| v["id"].clone());
        let (first, last) = (end(data.first()), end(data.last()));
        return Ok(json(
            &json!({ "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": false }),
        ));
    }
    let kept = call.app.responses.get(&call.rest, call.tenant).ok_or_else(|| unknown(&call.rest))?;
    Ok(json(&kept.response))
}

/// `DELETE /v1/responses/{id}`.
pub async fn delete(call: Call) -> Result<Response> {
    match call.app.responses.delete(&call.rest, call.tenant) {
        true => Ok(json(&json!({ "id": call.rest, "object": "response", "deleted": true }))),
        false => Err(unknown(&call.rest)),
    }
}

/// `POST /v1/responses/{id}/cancel`: for answers in the background, which there are none of.
pub async fn cancel(call: Call) -> Result<Response> {
    let id = call.rest.strip_suffix("/cancel").unwrap_or(&call.rest);
    call.app.responses.get(id, call.tenant).ok_or_else(|| unknown(id))?;
    Err(ApiError::new(StatusCode::BAD_REQUEST, "only a response in the background can be cancelled"))
}

fn unknown(id: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no response {:?}", short(id))).code("response_not_found")
}

fn wants_logprobs(b: &Body) -> Result<Option<usize>> {
    let include = b.include.as_deref().unwrap_or_default();
    if let Some(other) = include.iter().find(|i| !INCLUDED.contains(&i.as_str())) {
        return Err(ApiError::unsupported("include", &format!("{:?} is not supported", short(other))));
    }
    let top = count("top_logprobs", b.top_logprobs, 0)?;
    if top.is_some_and(|n| n > 20) {
        return Err(ApiError::invalid("top_logprobs", "expected 0 to 20"));
    }
    let asked = include.iter().any(|i| i == INCLUDED[0]) || top.is_some_and(|n| n > 0);
    Ok(asked.then(|| top.unwrap_or(0)))
}

/// The input as items.
fn items(input: Option<&Value>) -> Result<Vec<Value>> {
    match input {
        None | Some(Value::Null) => Err(ApiError::invalid("input", "expected a string or a list of items")),
        Some(Value::String(text)) => Ok(vec![json!({ "type": "message", "role": "user", "content": text })]),
        Some(Value::Array(items)) if items.is_empty() => Err(ApiError::invalid("input", "expected at least one item")),
        Some(Value::Array(items)) => Ok(items.clone()),
        Some(_) => Err(ApiError::invalid("input", "expected a string or a list of items")),
    }
}

/// The `i`th item of what was asked for a response as lists show it: with parts, and a name that stays.
fn listed(response: &str, i: usize, item: &Value) -> Value {
    let mut item = item.clone();
    if item["id"].is_null() {
        let own = response.strip_prefix("resp_").unwrap_or(response);
        item["id"] = format!("msg_{own}_{i}").into();
    }
    if item["type"].is_null() {
        item["type"] = "message".into();
    }
    if let Some(text) = item["content"].as_str() {
        let kind = if item["role"] == "assistant" { "output_text" } else { "input_text" };
        item["content"] = json!([{ "type": kind, "text": text }]);
    }
    item
}

/// Items in the shape of chats: thoughts, words and calls of one turn are one message.
fn to_messages(items: &[Value]) -> Result<Vec<Value>> {
    let mut out: Vec<Value> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let at = |field: &str| format!("input[{i}]{field}");
        let text = |field: &str| {
            let missing = || ApiError::invalid(&at(&format!(".{field}")), "expected a string");
            item[field].as_str().map(str::to_string).ok_or_else(missing)
        };
        let kind = item["type"].as_str().unwrap_or(if item["role"].is_string() { "message" } else { "" });
        match kind {
            "message" => {
                let message = json!({ "role": text("role")?, "content": item["content"] });
                let mut message = chat::messages(vec![message]).map_err(|e| e.within(&at("")))?.swap_remove(0);
                if message["role"] == "assistant"
                    && let Some(open) = open_turn(&mut out).filter(|m| m["content"] == "" && m["tool_calls"].is_null())
                {
                    message["reasoning_content"] = open["reasoning_content"].take();
                    out.pop();
                }
                out.push(message);
            }
            "function_call" => {
                let (name, id, arguments) = (text("name")?, text("call_id")?, text("arguments")?);
                let function = json!({ "name": name, "arguments": arguments });
                let call = json!({ "id": id, "type": "function", "function": function });
                if open_turn(&mut out).is_none() {
                    out.push(json!({ "role": "assistant", "content": "" }));
                }
                if let Some(turn) = out.last_mut() {
                    match turn["tool_calls"].as_array_mut() {
                        Some(calls) => calls.push(call),
                        None => turn["tool_calls"] = json!([call]),
                    }
                }
            }
            "function_call_output" => {
                let content = match &item["output"] {
                    Value::String(s) => s.clone(),
                    parts @ Value::Array(_) => {
                        let m = json!({ "role": "tool", "content": parts });
                        let m = chat::messages(vec![m]).map_err(|e| e.within(&at(".output")))?;
                        m[0]["content"].as_str().unwrap_or("").to_string()
                    }
                    _ => return Err(ApiError::invalid(&at(".output"), "expected a string or a list of parts")),
                };
                out.push(json!({ "role": "tool", "tool_call_id": text("call_id")?, "content": content }));
            }
            "reasoning" => {
                let parts = item["content"].as_array().into_iter().flatten().filter_map(|p| p["text"].as_str());
                let thought: String = parts.collect();
                out.push(json!({ "role": "assistant", "content": "", "reasoning_content": thought }));
            }
            "" => return Err(ApiError::invalid(&at(".type"), "expected a string")),
            other => {
                let what = format!("{:?} is not supported", short(other));
                return Err(ApiError::unsupported(&at(".type"), &what));
            }
        }
    }
    // Arguments become objects, as templates want them.
    chat::messages(out).map_err(|e| ApiError { message: e.message.replacen("messages", "input", 1), ..e })
}

/// The assistant's message at the end, if nothing has followed it.
fn open_turn(out: &mut [Value]) -> Option<&mut Value> {
    out.last_mut().filter(|m| m["role"] == "assistant")
}

/// What the template gets, after everything that asks for what is not there was refused.
fn conversation(b: &Body, mut messages: Vec<Value>) -> Result<Conversation> {
    if b.background == Some(true) {
        return Err(ApiError::unsupported("background", "this server answers while the client waits"));
    }
    if b.truncation.as_ref().is_some_and(|t| t != "disabled") {
        return Err(ApiError::unsupported("truncation", "nothing is cut"));
    }
    let text = b.text.as_ref();
    if text.and_then(|t| t.verbosity.as_ref()).is_some_and(|v| v != "medium") {
        return Err(ApiError::unsupported("text.verbosity", "the model has no such setting"));
    }
    match &b.instructions {
        None | Some(Value::Null) => {}
        Some(Value::String(s)) => messages.insert(0, json!({ "role": "system", "content": s })),
        Some(_) => return Err(ApiError::invalid("instructions", "expected a string")),
    }
    let mut kwargs = Map::new();
    let reasoning = b.reasoning.as_ref().filter(|r| !r.is_null());
    if reasoning.is_some_and(|r| !r.is_object()) {
        return Err(ApiError::invalid("reasoning", "expected an object"));
    }
    openai::effort(reasoning.map_or(&Value::Null, |r| &r["effort"]), "reasoning.effort", &mut kwargs)?;
    let tools = b.tools.as_deref().unwrap_or_default();
    let mut tools = Tools::openai(tools, b.tool_choice.as_ref(), b.parallel_tool_calls)?;
    tools.wanted.text = format(text.and_then(|t| t.format.as_ref()))?;
    Ok(Conversation { messages, kwargs, continues: false, tools })
}

/// The schema that `text.format` asks for: its fields stand one level higher than in chats.
fn format(format: Option<&Value>) -> Result<Option<Value>> {
    let Some(format) = format.filter(|f| !f.is_null()) else { return Ok(None) };
    match (format["type"].as_str(), &format["schema"]) {
        (Some("text"), _) => Ok(None),
        (Some("json_object"), _) => Ok(Some(crate::grammars::object())),
        (Some("json_schema"), schema @ Value::Object(_)) => Ok(Some(schema.clone())),
        (Some("json_schema"), _) => Err(ApiError::invalid("text.format.schema", "expected an object")),
        _ => Err(ApiError::invalid("text.format.type", "expected text, json_object or json_schema")),
    }
}

/// The response as far as the request says it.
fn head(b: &Body, model: &str) -> Value {
    let or = |v: Option<Value>, otherwise: Value| v.filter(|v| !v.is_null()).unwrap_or(otherwise);
    let format = b.text.as_ref().and_then(|t| t.format.clone());
    let effort = b.reasoning.as_ref().map_or(Value::Null, |r| r["effort"].clone());
    json!({
        "object": "response", "created_at": id::now_s(), "error": null, "incomplete_details": null, "model": model,
        "instructions": b.instructions, "max_output_tokens": b.max_output_tokens, "output": [],
        "parallel_tool_calls": b.parallel_tool_calls.unwrap_or(true), "previous_response_id": b.previous_response_id,
        "reasoning": { "effort": effort, "summary": null }, "store": b.store.unwrap_or(true), "background": false,
        "temperature": or(b.temperature.map(Value::from), 1.0.into()), "top_p": or(b.top_p.map(Value::from), 1.0.into()),
        "text": { "format": or(format, json!({ "type": "text" })), "verbosity": "medium" },
        "tool_choice": or(b.tool_choice.clone(), "auto".into()), "tools": b.tools.clone().unwrap_or_default(),
        "top_logprobs": b.top_logprobs.unwrap_or(0), "truncation": "disabled", "service_tier": "default",
        "user": b.user, "safety_identifier": b.safety_identifier, "prompt_cache_key": b.prompt_cache_key,
        "metadata": b.metadata.clone().unwrap_or_default(), "usage": null,
    })
}

impl Frame {
    /// The response with this status and output.
    fn response(&self, status: &str, output: &[Value], usage: Option<Value>) -> Value {
        let mut out = self.head.clone();
        out["id"] = self.id.clone().into();
        out["status"] = status.into();
        out["output"] = output.to_vec().into();
        out["usage"] = usage.into();
        if status == "incomplete" {
            out["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        if status == "completed" {
            out["completed_at"] = id::now_s().into();
        }
        out
    }

    /// The response at its end, which is kept if it shall be.
    fn end(&self, reason: FinishReason, output: &[Value], u: &Usage, thought_tokens: usize) -> Value {
        let status = if reason == FinishReason::Length { "incomplete" } else { "completed" };
        let usage = json!({
            "input_tokens": u.prompt_tokens, "input_tokens_details": { "cached_tokens": u.cached_tokens },
            "output_tokens": u.completion_tokens, "output_tokens_details": { "reasoning_tokens": thought_tokens },
            "total_tokens": u.prompt_tokens + u.completion_tokens,
        });
        let response = self.response(status, output, Some(usage));
        if self.store {
            let mut messages = self.messages.clone();
            // What was just made is well formed.
            messages.extend(to_messages(output).unwrap_or_default());
            let known = Known { response: response.clone(), input: self.input.clone(), messages };
            self.app.responses.keep(&self.id, self.tenant, &known);
        }
        response
    }

    fn logprob(&self, out: &Out) -> Option<Value> {
        match out {
            Out::Token { id, logprob: Some(value), top, .. } if self.logprobs => {
                Some(openai::logprob(self.model.words.tokenizer.as_deref(), *id, *value, top))
            }
            _ => None,
        }
    }
}

fn reasoning_item(id: &str, text: &str, status: &str) -> Value {
    let content = if status == "in_progress" { json!([]) } else { json!([{ "type": "reasoning_text", "text": text }]) };
    json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status })
}

fn text_part(text: &str, logprobs: &[Value]) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs })
}

fn message_item(id: &str, content: Value, status: &str) -> Value {
    json!({ "id": id, "type": "message", "role": "assistant", "status": status, "content": content })
}

fn call_item(id: &str, call: &crate::tools::Call, status: &str) -> Value {
    json!({ "id": id, "type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments, "status": status })
}

async fn whole(mut ticket: Ticket, frame: &Frame) -> Result<Value> {
    let (mut answer, mut logprobs, mut thoughts) = (Answer::default(), Vec::new(), 0);
    while let Some(out) = next(&mut ticket, frame.deadline).await {
        let logprob = frame.logprob(&out);
        match out {
            Out::Token { part, .. } => {
                thoughts += usize::from(!part.thought.is_empty());
                if !part.text.is_empty() {
                    logprobs.extend(logprob);
                }
                answer.add(part);
            }
            Out::End { reason, part, usage, .. } => {
                answer.add(part);
                let status = if reason == FinishReason::Length { "incomplete" } else { "completed" };
                let mut output = Vec::new();
                if !answer.thought.is_empty() {
                    output.push(reasoning_item(&id::random("rs_"), &answer.thought, "completed"));
                }
                if !answer.text.is_empty() || answer.calls.is_empty() {
                    let content = json!([text_part(&answer.text, &logprobs)]);
                    output.push(message_item(&id::random("msg_"), content, status));
                }
                output.extend(answer.calls.iter().map(|c| call_item(&id::random("fc_"), c, status)));
                return Ok(frame.end(reason, &output, &usage, thoughts));
            }
            Out::Failed(e) => return Err(e),
        }
    }
    Err(ApiError::unavailable("the answer ended early"))
}

/// An item under way.
enum Item {
    Thought(String),
    Text(String, Vec<Value>),
    Call(crate::tools::Call),
}

/// Writes the events of one response in their order; one item at a time is under way.
struct Stream<'f> {
    events: &'f Events,
    sequence: u64,
    output: Vec<Value>,
    open: Option<(String, Item)>,
}

async fn write(
    mut ticket: Ticket,
    mut first: Option<Out>,
    frame: &Frame,
    events: &Events,
) -> std::result::Result<(), Gone> {
    let mut s = Stream { events, sequence: 0, output: Vec::new(), open: None };
    for name in ["response.created", "response.in_progress"] {
        s.send(name, json!({ "response": frame.response("in_progress", &[], None) })).await?;
    }
    let mut thoughts = 0;
    loop {
        let out = following(&mut ticket, &mut first, frame.deadline, events).await?;
        let logprob = out.as_ref().and_then(|out| frame.logprob(out));
        match out {
            Some(Out::Token { part, .. }) => {
                thoughts += usize::from(!part.thought.is_empty());
                s.add(part, logprob).await?;
            }
            Some(Out::End { reason, part, usage, .. }) => {
                s.add(part, None).await?;
                if s.output.is_empty() && s.open.is_none() {
                    s.begin(Item::Text(String::new(), Vec::new())).await?;
                }
                let cut = reason == FinishReason::Length;
                s.end(if cut { "incomplete" } else { "completed" }).await?;
                let response = frame.end(reason, &s.output, &usage, thoughts);
                let name = if cut { "response.incomplete" } else { "response.completed" };
                return s.send(name, json!({ "response": response })).await;
            }
            Some(Out::Failed(e)) => {
                let mut response = frame.response("failed", &s.output, None);
                response["error"] = json!({ "code": e.code.unwrap_or("server_error"), "message": e.message });
                return s.send("response.failed", json!({ "response": response })).await;
            }
            None => return Ok(()),
        }
    }
}

impl Stream<'_> {
    async fn send(&mut self, name: &str, mut event: Value) -> std::result::Result<(), Gone> {
        event["type"] = name.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        self.events.named(name, &event).await
    }

    async fn add(&mut self, part: Part, logprob: Option<Value>) -> std::result::Result<(), Gone> {
        if !part.thought.is_empty() {
            if !matches!(self.open, Some((_, Item::Thought(_)))) {
                self.begin(Item::Thought(String::new())).await?;
            }
            if let Some((id, Item::Thought(all))) = &mut self.open {
                all.push_str(&part.thought);
                let event = json!({ "item_id": id, "output_index": self.output.len(), "content_index": 0, "delta": part.thought });
                self.send("response.reasoning_text.delta", event).await?;
            }
        }
        if !part.text.is_empty() {
            if !matches!(self.open, Some((_, Item::Text(..)))) {
                self.begin(Item::Text(String::new(), Vec::new())).await?;
            }
            if let Some((id, Item::Text(all, logprobs))) = &mut self.open {
                all.push_str(&part.text);
                let now: Vec<Value> = logprob.into_iter().collect();
                let event = json!({ "item_id": id, "output_index": self.output.len(), "content_index": 0,
                    "delta": part.text, "logprobs": now });
                logprobs.extend(now);
                self.send("response.output_text.delta", event).await?;
            }
        }
        for call in part.calls {
            match call {
                Called::Begin { index, id, name } => {
                    self.begin(Item::Call(crate::tools::Call { index, id, name, arguments: String::new() })).await?;
                }
                Called::Arguments { text, .. } => {
                    if let Some((id, Item::Call(call))) = &mut self.open {
                        call.arguments.push_str(&text);
                        let event = json!({ "item_id": id, "output_index": self.output.len(), "delta": text });
                        self.send("response.function_call_arguments.delta", event).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// An item begins; the one before has ended.
    async fn begin(&mut self, item: Item) -> std::result::Result<(), Gone> {
        self.end("completed").await?;
        let index = self.output.len();
        let (id, shown, part) = match &item {
            Item::Thought(_) => {
                let id = id::random("rs_");
                let shown = reasoning_item(&id, "", "in_progress");
                (id, shown, Some(json!({ "type": "reasoning_text", "text": "" })))
            }
            Item::Text(..) => {
                let id = id::random("msg_");
                let shown = message_item(&id, json!([]), "in_progress");
                (id, shown, Some(text_part("", &[])))
            }
            Item::Call(call) => {
                let id = id::random("fc_");
                let shown = call_item(&id, call, "in_progress");
                (id, shown, None)
            }
        };
        self.send("response.output_item.added", json!({ "output_index": index, "item": shown })).await?;
        if let Some(part) = part {
            let event = json!({ "item_id": id, "output_index": index, "content_index": 0, "part": part });
            self.send("response.content_part.added", event).await?;
        }
        self.open = Some((id, item));
        Ok(())
    }

    /// The item under way ends.
    async fn end(&mut self, status: &str) -> std::result::Result<(), Gone> {
        let Some((id, item)) = self.open.take() else { return Ok(()) };
        let index = self.output.len();
        let place = json!({ "item_id": id, "output_index": index, "content_index": 0 });
        let with = |mut event: Value, name: &str, value: Value| {
            event[name] = value;
            event
        };
        let done = match item {
            Item::Thought(text) => {
                self.send("response.reasoning_text.done", with(place.clone(), "text", text.clone().into())).await?;
                let part = json!({ "type": "reasoning_text", "text": text });
                self.send("response.content_part.done", with(place, "part", part)).await?;
                reasoning_item(&id, &text, "completed")
            }
            Item::Text(text, logprobs) => {
                let event = with(place.clone(), "text", text.clone().into());
                self.send("response.output_text.done", with(event, "logprobs", logprobs.clone().into())).await?;
                let part = text_part(&text, &logprobs);
                self.send("response.content_part.done", with(place, "part", part.clone())).await?;
                message_item(&id, json!([part]), status)
            }
            Item::Call(call) => {
                let event =
                    json!({ "item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments });
                self.send("response.function_call_arguments.done", event).await?;
                call_item(&id, &call, status)
            }
        };
        self.output.push(done.clone());
        self.send("response.output_item.done", json!({ "output_index": index, "item": done })).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_messages_of_chats() {
        let items = [
            json!({ "role": "user", "content": [{ "type": "input_text", "text": "a" }] }),
            json!({ "type": "reasoning", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }] }),
            json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "b" }] }),
            json!({ "type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"x\": 1}" }),
            json!({ "type": "function_call", "call_id": "2", "name": "g", "arguments": "{}" }),
            json!({ "type": "function_call_output", "call_id": "1", "output": "one" }),
            json!({ "type": "function_call_output", "call_id": "2", "output": [{ "type": "input_text", "text": "two" }] }),
        ];
        let m = to_messages(&items).unwrap();
        assert_eq!(m.len(), 4, "{m:?}");
        assert_eq!((&m[1]["content"], &m[1]["reasoning_content"]), (&json!("b"), &json!("hm")));
        assert_eq!(m[1]["tool_calls"][0]["function"]["arguments"], "{\"x\": 1}");
        assert_eq!(m[1]["tool_calls"][1]["id"], "2");
        assert_eq!((&m[3]["role"], &m[3]["content"]), (&json!("tool"), &json!("two")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (item, place) in [
            (json!({}), "input[0].type"),
            (json!({ "type": "item_reference", "id": "x" }), "input[0].type"),
            (json!({ "role": "user", "content": [{ "type": "input_image" }] }), "input[0].content[0].type"),
            (json!({ "role": "king", "content": "x" }), "input[0].role"),
            (json!({ "type": "function_call", "call_id": "1" }), "input[0].name"),
            (json!({ "type": "function_call_output", "call_id": "1" }), "input[0].output"),
        ] {
            let e = to_messages(std::slice::from_ref(&item)).unwrap_err();
            assert_eq!(e.param.as_deref(), Some(place), "{item}");
        }
        assert!(items(None).is_err() && items(Some(&json!([]))).is_err() && items(Some(&json!(3))).is_err());
    }
}
