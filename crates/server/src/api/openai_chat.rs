//! `/v1/chat/completions`.
use super::openai::{
    self, StreamOptions, Strings, choices, count, deadline, finish_reason, following, json, next, parse, stops,
};
use super::rest::{Rest, refuse};
use crate::{
    chat::{self, Conversation},
    error::{ApiError, Result},
    grammars::response_format,
    host::{Model, Out, Part, Ticket},
    id,
    job::{Choice, Job, short},
    route::Call,
    sse::{self, Events},
    tools::{self, Answer, Called, Tools},
};
use axum::response::Response;
use pondera_engine::{TOP_LOGPROBS_MAX, Usage};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// Most alternatives that the API documents.
const TOP_LOGPROBS: i64 = 20;
/// Documented fields that are refused by name where they are given.
const REFUSED: &[&str] = &["audio", "prediction", "web_search_options", "functions", "function_call", "moderation"];
/// Variables of templates that requests set by their own fields alone.
const RESERVED: [&str; 7] =
    ["messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token"];

/// The body. `null` is as good as absent.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ChatRequest", deny_unknown_fields)]
pub struct Body {
    model: String,
    messages: Vec<Value>,
    #[schemars(range(min = 1))]
    max_tokens: Option<i64>,
    #[schemars(range(min = 1))]
    max_completion_tokens: Option<i64>,
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f32>,
    #[schemars(range(min = 1, max = 16))]
    n: Option<i64>,
    seed: Option<i64>,
    stop: Option<Strings>,
    #[schemars(range(min = -2.0, max = 2.0))]
    frequency_penalty: Option<f32>,
    #[schemars(range(min = -2.0, max = 2.0))]
    presence_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    logprobs: Option<bool>,
    #[schemars(range(min = 0, max = 20))]
    top_logprobs: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    response_format: Option<Value>,
    reasoning_effort: Option<String>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    modalities: Option<Vec<String>>,
    verbosity: Option<String>,
    store: Option<bool>,
    // What changes nothing here: there is one tier, one cache, and nobody is told who asks.
    #[serde(rename = "user")]
    _user: Option<String>,
    #[serde(rename = "safety_identifier")]
    _safety_identifier: Option<String>,
    #[serde(rename = "metadata")]
    _metadata: Option<Map<String, Value>>,
    #[serde(rename = "service_tier")]
    _service_tier: Option<String>,
    #[serde(rename = "prompt_cache_key")]
    _prompt_cache_key: Option<String>,
    #[serde(rename = "prompt_cache_retention")]
    _prompt_cache_retention: Option<String>,
    // What other servers have beside.
    #[schemars(range(min = -1))]
    top_k: Option<i64>,
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    typical_p: Option<f32>,
    #[schemars(range(min = 0.01, max = 100.0))]
    repetition_penalty: Option<f32>,
    ignore_eos: Option<bool>,
    continue_final_message: Option<bool>,
    chat_template_kwargs: Option<Map<String, Value>>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// What a response and its chunks have in common.
struct Frame {
    id: String,
    created: u64,
    model: Arc<Model>,
    logprobs: bool,
    include_usage: bool,
    deadline: Option<Instant>,
}

/// Answers.
pub async fn answer(mut call: Call) -> Result<Response> {
    let mut body: Body = parse(&call.body)?;
    refuse(&body.rest, REFUSED)?;
    let model = call.app.model(&body.model).await?;
    let limits = call.app.options.limits;
    let mut job = Job {
        n: choices(body.n, &limits)?,
        max_tokens: most(&body)?,
        stop: stops(body.stop.take())?,
        logprobs: logprobs(&body)?,
        ignore_eos: body.ignore_eos.unwrap_or(false),
        ..Job::new(choice(&mut body).sampling(&model.sampling)?)
    };
    let conversation = conversation(&mut body)?;
    let stream = body.stream.unwrap_or(false);
    if body.stream_options.is_some() && !stream {
        return Err(ApiError::invalid("stream_options", "only with stream"));
    }
    job.take(chat::encode(&model, conversation).await?);
    call.place.grow(job.n - 1, job.n * job.prompt.len(), &limits)?;
    let frame = Frame {
        id: id::random("chatcmpl-"),
        created: id::now_s(),
        logprobs: job.logprobs.is_some(),
        include_usage: body.stream_options.is_some_and(|o| o.include_usage),
        deadline: deadline(&limits),
        model: model.clone(),
    };
    let tickets = job.submit(&model, call.tenant);
    if stream {
        let place = call.place;
        return first(tickets, frame, |tickets, frame| {
            sse::respond(|events| async move {
                write(tickets, frame, events).await;
                drop(place);
            })
        })
        .await;
    }
    let answers = tickets.into_iter().enumerate().map(|(i, t)| whole(i, t, &frame));
    let (mut list, mut parts) = (Vec::new(), Vec::new());
    for answer in answers {
        let (choice, usage) = answer.await?;
        list.push(choice);
        parts.push(usage);
    }
    let mut out = frame.object("chat.completion");
    out["choices"] = list.into();
    out["usage"] = openai::usage(&parts);
    Ok(json(&out))
}

/// `/apply-template`: the text that a conversation becomes, as the model would read it. Takes what `/v1/chat/completions` takes.
pub async fn apply_template(call: Call) -> Result<Response> {
    let mut body: Body = parse(&call.body)?;
    refuse(&body.rest, REFUSED)?;
    let model = call.app.model(&body.model).await?;
    let (words, conversation) = (model.words.clone(), conversation(&mut body)?);
    let (text, tokens) = chat::apart(move || chat::render(&words, conversation)).await?;
    Ok(json(&json!({ "prompt": text, "count": tokens.len(), "tokens": tokens })))
}

fn choice(b: &mut Body) -> Choice {
    Choice {
        temperature: b.temperature,
        top_p: b.top_p,
        top_k: b.top_k,
        min_p: b.min_p,
        typical_p: b.typical_p,
        repetition_penalty: b.repetition_penalty,
        frequency_penalty: b.frequency_penalty,
        presence_penalty: b.presence_penalty,
        logit_bias: b.logit_bias.take(),
        seed: b.seed,
    }
}

fn most(b: &Body) -> Result<Option<usize>> {
    let (old, new) =
        (count("max_tokens", b.max_tokens, 1)?, count("max_completion_tokens", b.max_completion_tokens, 1)?);
    Ok(new.or(old))
}

fn logprobs(b: &Body) -> Result<Option<usize>> {
    let top = count("top_logprobs", b.top_logprobs, 0)?;
    match (b.logprobs.unwrap_or(false), top) {
        (false, Some(n)) if n > 0 => Err(ApiError::invalid("top_logprobs", "only with logprobs")),
        (false, _) => Ok(None),
        (true, Some(n)) if n as i64 > TOP_LOGPROBS || n > TOP_LOGPROBS_MAX => {
            Err(ApiError::invalid("top_logprobs", format!("expected 0 to {TOP_LOGPROBS}, got {n}")))
        }
        (true, n) => Ok(Some(n.unwrap_or(0))),
    }
}

/// What the template gets, after everything that asks for what is not there was refused.
fn conversation(b: &mut Body) -> Result<Conversation> {
    let listed = b.tools.take().unwrap_or_default();
    let mut tools = Tools::openai(&listed, b.tool_choice.as_ref(), b.parallel_tool_calls)?;
    tools.wanted.text = response_format(b.response_format.as_ref())?;
    if b.modalities.as_ref().is_some_and(|m| m.iter().any(|m| m != "text")) {
        return Err(ApiError::unsupported("modalities", "the model writes text alone"));
    }
    if b.store == Some(true) {
        return Err(ApiError::unsupported("store", "this server stores no answers"));
    }
    if b.verbosity.as_ref().is_some_and(|v| v != "medium") {
        return Err(ApiError::unsupported("verbosity", "the model has no such setting"));
    }
    let mut kwargs = b.chat_template_kwargs.take().unwrap_or_default();
    if let Some(name) = kwargs.keys().find(|k| RESERVED.contains(&k.as_str())) {
        return Err(ApiError::invalid("chat_template_kwargs", format!("{:?} has a field of its own", short(name))));
    }
    let effort = b.reasoning_effort.take().map_or(Value::Null, Value::String);
    openai::effort(&effort, "reasoning_effort", &mut kwargs)?;
    let messages = chat::messages(std::mem::take(&mut b.messages))?;
    Ok(Conversation { messages, kwargs, continues: b.continue_final_message.unwrap_or(false), tools })
}

impl Frame {
    fn object(&self, kind: &str) -> Value {
        json!({ "id": self.id, "object": kind, "created": self.created, "model": self.model.name })
    }

    fn chunk(&self, index: usize, delta: Value, logprobs: Value, finish: Value) -> Value {
        let mut out = self.object("chat.completion.chunk");
        out["choices"] = json!([{ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish }]);
        if self.include_usage {
            out["usage"] = Value::Null;
        }
        out
    }

    fn content(&self, out: &Out) -> Option<Value> {
        match out {
            Out::Token { id, logprob: Some(value), top, .. } if self.logprobs => {
                Some(openai::logprob(self.model.words.tokenizer.as_deref(), *id, *value, top))
            }
            _ => None,
        }
    }
}

/// One choice, whole.
async fn whole(index: usize, mut ticket: Ticket, frame: &Frame) -> Result<(Value, Usage)> {
    let (mut answer, mut content) = (Answer::default(), Vec::new());
    while let Some(out) = next(&mut ticket, frame.deadline).await {
        content.extend(frame.content(&out));
        match out {
            Out::Token { part, .. } => answer.add(part),
            Out::End { reason, part, usage, .. } => {
                answer.add(part);
                let logprobs =
                    if frame.logprobs { json!({ "content": content, "refusal": null }) } else { Value::Null };
                let finish = finish_reason(reason, !answer.calls.is_empty());
                let message = message(answer);
                return Ok((
                    json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": finish }),
                    usage,
                ));
            }
            Out::Failed(e) => return Err(e),
        }
    }
    Err(ApiError::unavailable("the answer ended early"))
}

/// Waits a little for the first of what comes, so that a request that cannot be answered gets a status of its own and not a
/// broken stream; then the stream begins, for its comments keep the connection alive.
async fn first(
    mut tickets: Vec<Ticket>,
    frame: Frame,
    respond: impl FnOnce(Vec<(Ticket, Option<Out>)>, Frame) -> Response,
) -> Result<Response> {
    let mut started = Vec::new();
    for (i, mut ticket) in tickets.drain(..).enumerate() {
        let out =
            if i == 0 { timeout(sse::PATIENCE, next(&mut ticket, frame.deadline)).await.unwrap_or(None) } else { None };
        match out {
            Some(Out::Failed(e)) => return Err(e),
            out => started.push((ticket, out)),
        }
    }
    Ok(respond(started, frame))
}

/// All choices as they come, each by a task of its own; then what they took.
async fn write(tickets: Vec<(Ticket, Option<Out>)>, frame: Frame, events: Events) {
    let (frame, events) = (Arc::new(frame), Arc::new(events));
    let mut tasks = JoinSet::new();
    for (i, (ticket, head)) in tickets.into_iter().enumerate() {
        tasks.spawn(one(i, ticket, head, frame.clone(), events.clone()));
    }
    let mut parts = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(Some(usage)) => parts.push(usage),
            // The client is gone or was told of a failure: the other choices end with this one.
            _ => return,
        }
    }
    if frame.include_usage {
        let mut last = frame.object("chat.completion.chunk");
        last["choices"] = json!([]);
        last["usage"] = openai::usage(&parts);
        if events.data(&last).await.is_err() {
            return;
        }
    }
    let _ = events.done().await;
}

/// One choice as it comes; what it took, if all of it was written.
async fn one(
    index: usize,
    mut ticket: Ticket,
    mut head: Option<Out>,
    frame: Arc<Frame>,
    events: Arc<Events>,
) -> Option<Usage> {
    events
        .data(&frame.chunk(index, json!({ "role": "assistant", "content": "" }), Value::Null, Value::Null))
        .await
        .ok()?;
    let mut called = false;
    loop {
        let out = following(&mut ticket, &mut head, frame.deadline, &events).await.ok()??;
        let content = frame.content(&out);
        let logprobs = content.map_or(Value::Null, |c| json!({ "content": [c], "refusal": null }));
        match out {
            Out::Token { part, .. } if part.is_empty() && logprobs.is_null() => {}
            Out::Token { part, .. } => {
                called |= !part.calls.is_empty();
                events.data(&frame.chunk(index, delta(part), logprobs, Value::Null)).await.ok()?;
            }
            Out::End { reason, part, usage, .. } => {
                called |= !part.calls.is_empty();
                if !part.is_empty() {
                    events.data(&frame.chunk(index, delta(part), Value::Null, Value::Null)).await.ok()?;
                }
                let finish = finish_reason(reason, called);
                events.data(&frame.chunk(index, json!({}), Value::Null, finish.into())).await.ok()?;
                return Some(usage);
            }
            Out::Failed(e) => {
                let _ = events.data(&e.openai()).await;
                return None;
            }
        }
    }
}

/// A whole answer.
fn message(answer: Answer) -> Value {
    let mut message = json!({ "role": "assistant", "content": answer.text, "refusal": null });
    if !answer.calls.is_empty() {
        if answer.text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = answer.calls.iter().map(tools::Call::openai).collect();
    }
    if !answer.thought.is_empty() {
        message["reasoning_content"] = answer.thought.into();
    }
    message
}

/// What a chunk adds.
fn delta(part: Part) -> Value {
    let mut out = json!({});
    if !part.text.is_empty() || part.thought.is_empty() && part.calls.is_empty() {
        out["content"] = part.text.into();
    }
    if !part.thought.is_empty() {
        out["reasoning_content"] = part.thought.into();
    }
    if !part.calls.is_empty() {
        out["tool_calls"] = part.calls.into_iter().map(called).collect();
    }
    out
}

fn called(part: Called) -> Value {
    match part {
        Called::Begin { index, id, name } => {
            json!({ "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" } })
        }
        Called::Arguments { index, text } => json!({ "index": index, "function": { "arguments": text } }),
    }
}
