//! `/api/…`, as Ollama's clients expect them: answers by lines of JSON unless `stream` is false, times in nanoseconds.
use super::openai::{Strings, count, deadline, following, json, next, parse};
use super::rest::{Rest, refuse};
use crate::{
    chat::{self, Conversation},
    error::{ApiError, Result},
    grammars::{Form, grammar, object},
    host::{Card, Model, Out, Part, Ticket},
    id,
    job::{Choice, Job, stops},
    library::Held,
    models::{Keep, Resident},
    route::Call,
    sse::{self, Events},
    tools::{Answer, Call as ToolCall, Called, Tools, collect},
};
use axum::response::Response;
use pondera_engine::{FinishReason, Timings, Usage};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Options about sampling and lengths. Those about hardware are accepted and change nothing: the server decided when it began.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaOptions")]
pub struct Options {
    seed: Option<i64>,
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f32>,
    #[schemars(range(min = -1))]
    top_k: Option<i64>,
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    typical_p: Option<f32>,
    #[schemars(range(min = 0.01, max = 100.0))]
    repeat_penalty: Option<f32>,
    #[schemars(range(min = -2.0, max = 2.0))]
    presence_penalty: Option<f32>,
    #[schemars(range(min = -2.0, max = 2.0))]
    frequency_penalty: Option<f32>,
    num_predict: Option<i64>,
    num_ctx: Option<i64>,
    stop: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// Options that change nothing here.
const HARDWARE: &[&str] = &[
    "num_gpu",
    "main_gpu",
    "low_vram",
    "num_thread",
    "num_batch",
    "use_mmap",
    "use_mlock",
    "vocab_only",
    "numa",
    "num_keep",
    "f16_kv",
    "logits_all",
    "embedding_only",
    "penalize_newline",
];

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaChatRequest", deny_unknown_fields)]
pub struct ChatBody {
    model: String,
    messages: Option<Vec<Value>>,
    tools: Option<Vec<Value>>,
    format: Option<Value>,
    options: Option<Options>,
    stream: Option<bool>,
    think: Option<Value>,
    keep_alive: Option<Value>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaGenerateRequest", deny_unknown_fields)]
pub struct GenerateBody {
    model: String,
    prompt: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    format: Option<Value>,
    options: Option<Options>,
    stream: Option<bool>,
    think: Option<Value>,
    keep_alive: Option<Value>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaEmbedRequest", deny_unknown_fields)]
pub struct EmbedBody {
    model: String,
    input: Option<Strings>,
    // A text that does not fit is an error either way.
    #[serde(rename = "truncate")]
    _truncate: Option<bool>,
    #[serde(rename = "options")]
    _options: Option<Value>,
    keep_alive: Option<Value>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaEmbeddingsRequest", deny_unknown_fields)]
pub struct EmbeddingsBody {
    model: String,
    prompt: Option<String>,
    #[serde(rename = "options")]
    _options: Option<Value>,
    keep_alive: Option<Value>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaShowRequest", deny_unknown_fields)]
pub struct ShowBody {
    model: Option<String>,
    name: Option<String>,
    #[serde(rename = "verbose")]
    _verbose: Option<bool>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// How an answer, or a part of one, stands in the answers of an endpoint.
type Shape = fn(&Answer) -> Value;

fn said(answer: &Answer) -> Value {
    let mut message = json!({ "role": "assistant", "content": answer.text });
    if !answer.thought.is_empty() {
        message["thinking"] = answer.thought.clone().into();
    }
    if !answer.calls.is_empty() {
        let call = |c: &ToolCall| json!({ "id": c.id, "function": { "index": c.index, "name": c.name, "arguments": c.input() } });
        message["tool_calls"] = answer.calls.iter().map(call).collect();
    }
    json!({ "message": message })
}

fn generated(answer: &Answer) -> Value {
    let mut out = json!({ "response": answer.text });
    if !answer.thought.is_empty() {
        out["thinking"] = answer.thought.clone().into();
    }
    out
}

/// `/api/chat`.
pub async fn chat(mut call: Call) -> Result<Response> {
    let body: ChatBody = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    let keep = keep(body.keep_alive.as_ref())?;
    let model = call.app.model_kept(&body.model, keep).await?;
    let (mut job, schema) = (job(body.options, &model)?, schema(body.format)?);
    let mut tools = Tools::openai(&body.tools.unwrap_or_default(), None, None)?;
    tools.wanted.text = schema;
    let list = body.messages.unwrap_or_default();
    if list.is_empty() {
        return Ok(loaded(&model, keep, said));
    }
    let messages = chat::messages(from_ollama(list)?)?;
    let kwargs = thinking(body.think)?;
    let conversation = Conversation { messages, kwargs, continues: false, tools };
    job.take(chat::encode(&model, conversation).await?);
    answer(&mut call, job, model, body.stream, said).await
}

/// Messages in OpenAI's shape: calls get ids, and results are of the calls in their order.
fn from_ollama(mut list: Vec<Value>) -> Result<Vec<Value>> {
    let (mut made, mut open) = (0, VecDeque::new());
    for (i, m) in list.iter_mut().enumerate() {
        let Some(m) = m.as_object_mut() else { continue };
        if m.get("images").is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty()) && !v.is_null()) {
            return Err(ApiError::unsupported(&format!("messages[{i}].images"), "the model takes text alone"));
        }
        for (theirs, ours) in [("tool_name", "name"), ("thinking", "reasoning_content")] {
            if let Some(value) = m.remove(theirs).filter(Value::is_string) {
                m.entry(ours).or_insert(value);
            }
        }
        for call in m.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            if call["id"].is_null() && call.is_object() {
                call["id"] = format!("call_{made}").into();
                made += 1;
            }
            if call["type"].is_null() && call.is_object() {
                call["type"] = "function".into();
            }
            open.push_back(call["id"].clone());
        }
        if m.get("role").is_some_and(|r| r == "tool") {
            match m.get("tool_call_id").filter(|id| !id.is_null()) {
                Some(id) => open.retain(|other| other != id),
                None => drop(open.pop_front().and_then(|id| m.insert("tool_call_id".into(), id))),
            }
        }
    }
    Ok(list)
}

/// `/api/generate`.
pub async fn generate(mut call: Call) -> Result<Response> {
    let body: GenerateBody = parse(&call.body)?;
    refuse(&body.rest, &["suffix", "images", "template", "context"])?;
    let keep = keep(body.keep_alive.as_ref())?;
    let model = call.app.model_kept(&body.model, keep).await?;
    let (mut job, schema) = (job(body.options, &model)?, schema(body.format)?);
    let prompt = body.prompt.unwrap_or_default();
    if prompt.is_empty() {
        return Ok(loaded(&model, keep, generated));
    }
    let system = body.system.filter(|s| !s.is_empty());
    if body.raw.unwrap_or(false) || model.words.template.is_none() {
        if system.is_some() {
            return Err(ApiError::invalid("system", "not with raw, nor with a model that has no template"));
        }
        job.prompt = chat::encode_text(&model.words, prompt).await?;
        if let Some(schema) = schema {
            job.grammar = Some(grammar(&model.words, Form::Schema(schema), "format").await?);
        }
    } else {
        let system = system.map(|s| json!({ "role": "system", "content": s }));
        let messages = system.into_iter().chain([json!({ "role": "user", "content": prompt })]).collect();
        let kwargs = thinking(body.think)?;
        let mut tools = Tools::default();
        tools.wanted.text = schema;
        let conversation = Conversation { messages, kwargs, continues: false, tools };
        job.take(chat::encode(&model, conversation).await?);
    }
    answer(&mut call, job, model, body.stream, generated).await
}

/// `/api/embed`.
pub async fn embed(mut call: Call) -> Result<Response> {
    let start = Instant::now();
    let body: EmbedBody = parse(&call.body)?;
    refuse(&body.rest, &["dimensions"])?;
    let keep = keep(body.keep_alive.as_ref())?;
    let model = call.app.model_kept(&body.model, keep).await?;
    let texts = body.input.map(Strings::list).unwrap_or_default();
    let (mut all, mut tokens) = (Vec::new(), 0);
    for text in texts {
        let (vector, n) = vector(&mut call, &model, &text).await?;
        tokens += n;
        all.push(vector);
    }
    let time = start.elapsed().as_nanos() as u64;
    Ok(json(&json!({
        "model": model.name, "embeddings": all, "total_duration": time, "load_duration": 0, "prompt_eval_count": tokens,
    })))
}

/// `/api/embeddings`, which came before it: one text, and no vector of none.
pub async fn embeddings(mut call: Call) -> Result<Response> {
    let body: EmbeddingsBody = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    let keep = keep(body.keep_alive.as_ref())?;
    let model = call.app.model_kept(&body.model, keep).await?;
    let vector = match body.prompt.filter(|p| !p.is_empty()) {
        Some(prompt) => vector(&mut call, &model, &prompt).await?.0,
        None => Vec::new(),
    };
    Ok(json(&json!({ "embedding": vector })))
}

/// The vector of a text, and its tokens.
async fn vector(call: &mut Call, model: &Model, text: &str) -> Result<(Vec<f32>, usize)> {
    let ids = chat::encode_text(&model.words, (model.embedding.prepare)(text)).await?;
    call.place.grow(0, ids.len(), &call.app.options.limits)?;
    let n = ids.len();
    Ok((model.embed(ids).await?, n))
}

/// `/api/tags`.
pub async fn tags(call: Call) -> Result<Response> {
    let mut models: Vec<Value> = call.app.models.cards().iter().map(|m| listed(m)).collect();
    models.extend(call.app.models.held().await.iter().map(held));
    Ok(json(&json!({ "models": models })))
}

/// Seconds of ten years: what stays longer stays.
const YEARS: u64 = 10 * 365 * 86_400;

/// `/api/ps`.
pub async fn ps(call: Call) -> Result<Response> {
    let running = |r: &Resident| {
        let mut entry = listed(&r.card);
        entry["size"] = r.bytes.into();
        entry["size_vram"] = 0.into();
        entry["context_length"] = r.card.ctx.into();
        // Some clients want a time even where it never comes.
        let end = r.expires.map(|left| id::rfc3339(id::now_s() + left.as_secs().min(YEARS)));
        entry["expires_at"] = end.unwrap_or_else(|| "9999-12-31T23:59:59Z".into()).into();
        entry
    };
    let models: Vec<Value> = call.app.models.residents().iter().filter(|r| r.alive).map(running).collect();
    Ok(json(&json!({ "models": models })))
}

/// `/api/show`.
pub async fn show(call: Call) -> Result<Response> {
    let body: ShowBody = parse(&call.body)?;
    refuse(&body.rest, &["system", "template", "options"])?;
    let name = body.model.filter(|n| !n.is_empty()).or(body.name).unwrap_or_default();
    let m = call.app.card(&name).await?;
    let template = m.template.as_ref().map_or("", |t| t.source(false));
    let capabilities = if m.encoder {
        json!(["embedding"])
    } else {
        if m.calls { json!(["completion", "tools"]) } else { json!(["completion"]) }
    };
    Ok(json(&json!({
        "modelfile": "", "parameters": "", "template": template, "details": details(&m), "capabilities": capabilities,
        "modified_at": id::rfc3339(m.created),
        "model_info": {
            "general.architecture": m.facts.family, "general.parameter_count": m.facts.parameters,
            format!("{}.context_length", m.facts.family): m.ctx,
        },
    })))
}

/// `/api/version`.
pub async fn version(_: Call) -> Result<Response> {
    Ok(json(&json!({ "version": env!("CARGO_PKG_VERSION") })))
}

fn details(m: &Card) -> Value {
    let f = &m.facts;
    json!({
        "parent_model": m.parent.as_deref().unwrap_or(""), "format": f.kind, "family": f.family, "families": [f.family],
        "parameter_size": size(f.parameters), "quantization_level": f.format,
    })
}

fn listed(m: &Card) -> Value {
    let modified = id::rfc3339(m.created);
    json!({ "name": m.name, "model": m.name, "modified_at": modified, "size": m.facts.bytes, "details": details(m) })
}

/// One of the library that was not opened yet: of its architecture nothing is known.
fn held(h: &Held) -> Value {
    let details = json!({ "format": "", "family": "", "families": [], "parameter_size": "", "quantization_level": "" });
    json!({
        "name": h.name, "model": h.name, "modified_at": id::rfc3339(h.modified), "size": h.bytes,
        "digest": h.digest.as_deref().unwrap_or(""), "details": details,
    })
}

/// `1.2B`.
fn size(parameters: u64) -> String {
    match parameters {
        n if n >= 1_000_000_000 => format!("{:.1}B", n as f64 / 1e9),
        n if n >= 1_000_000 => format!("{:.1}M", n as f64 / 1e6),
        n => format!("{:.1}K", n as f64 / 1e3),
    }
}

fn thinking(think: Option<Value>) -> Result<Map<String, Value>> {
    let mut kwargs = Map::new();
    match think {
        None | Some(Value::Null) => {}
        Some(Value::Bool(on)) => drop(kwargs.insert("enable_thinking".into(), on.into())),
        Some(Value::String(level)) if ["low", "medium", "high"].contains(&level.as_str()) => {
            kwargs.insert("reasoning_effort".into(), level.into());
        }
        Some(_) => return Err(ApiError::invalid("think", "expected true, false, low, medium or high")),
    }
    Ok(kwargs)
}

fn schema(format: Option<Value>) -> Result<Option<Value>> {
    match format {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) if s.is_empty() => Ok(None),
        Some(Value::String(s)) if s == "json" => Ok(Some(object())),
        Some(schema @ Value::Object(_)) => Ok(Some(schema)),
        Some(_) => Err(ApiError::invalid("format", "expected \"json\" or a schema")),
    }
}

fn job(options: Option<Options>, model: &Model) -> Result<Job> {
    let mut o = options.unwrap_or_default();
    o.rest.without(HARDWARE);
    refuse(&o.rest, &["mirostat", "mirostat_tau", "mirostat_eta", "tfs_z", "repeat_last_n"])?;
    if let Some(n) = count("num_ctx", o.num_ctx, 1)?.filter(|n| *n > model.ctx) {
        return Err(ApiError::invalid(
            "num_ctx",
            format!("{n} is more than the {} that the server was started with", model.ctx),
        ));
    }
    let stop = stops("stop", o.stop.unwrap_or_default())?;
    let choice = Choice {
        seed: o.seed,
        temperature: o.temperature,
        top_k: o.top_k,
        top_p: o.top_p,
        min_p: o.min_p,
        typical_p: o.typical_p,
        repetition_penalty: o.repeat_penalty,
        presence_penalty: o.presence_penalty,
        frequency_penalty: o.frequency_penalty,
        logit_bias: None,
    };
    Ok(Job {
        // Below zero: until the context is full.
        max_tokens: count("num_predict", o.num_predict.filter(|n| *n >= 0), 1)?,
        stop,
        ..Job::new(choice.sampling(&model.sampling)?)
    })
}

/// A request for nothing opens the model, or closes it where it is to be kept for no time.
fn loaded(model: &Model, keep: Option<Keep>, shape: Shape) -> Response {
    let unload = keep == Some(Keep::For(Duration::ZERO));
    let mut line = line(model, shape(&Answer::default()));
    line["done"] = true.into();
    line["done_reason"] = if unload { "unload" } else { "load" }.into();
    json(&line)
}

/// How long a model is to stay: a number of seconds, or text such as `5m`.
fn keep(value: Option<&Value>) -> Result<Option<Keep>> {
    let keep = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(n)) => n.to_string().parse(),
        Some(Value::String(text)) => text.parse(),
        Some(other) => other.to_string().parse(),
    };
    keep.map(Some).map_err(|e: String| ApiError::invalid("keep_alive", e))
}

fn line(model: &Model, part: Value) -> Value {
    let mut out = json!({ "model": model.name, "created_at": id::rfc3339(id::now_s()), "done": false });
    merge(&mut out, part);
    out
}

fn merge(out: &mut Value, more: Value) {
    if let (Some(out), Value::Object(more)) = (out.as_object_mut(), more) {
        out.extend(more);
    }
}

/// The last line: why and how long.
fn last(model: &Model, part: Value, reason: FinishReason, u: &Usage, t: &Timings) -> Value {
    let ns = |s: f64| (s * 1e9) as u64;
    let mut out = line(model, part);
    let more = json!({
        "done": true, "done_reason": if reason == FinishReason::Length { "length" } else { "stop" },
        "total_duration": ns(t.queue_s + t.prefill_s + t.decode_s), "load_duration": 0,
        "prompt_eval_count": u.prompt_tokens, "prompt_eval_duration": ns(t.prefill_s),
        "eval_count": u.completion_tokens, "eval_duration": ns(t.decode_s),
    });
    merge(&mut out, more);
    out
}

async fn answer(call: &mut Call, job: Job, model: Arc<Model>, stream: Option<bool>, shape: Shape) -> Result<Response> {
    let limits = call.app.options.limits;
    model.fits("prompt", job.prompt.len())?;
    call.place.grow(0, job.prompt.len(), &limits)?;
    let deadline = deadline(&limits);
    let mut ticket = job.submit(&model, call.tenant).swap_remove(0);
    if stream == Some(false) {
        let mut all = Answer::default();
        while let Some(out) = next(&mut ticket, deadline).await {
            match out {
                Out::Token { part, .. } => all.add(part),
                Out::End { reason, part, usage, timings } => {
                    all.add(part);
                    return Ok(json(&last(&model, shape(&all), reason, &usage, &timings)));
                }
                Out::Failed(e) => return Err(e),
            }
        }
        return Err(ApiError::unavailable("the answer ended early"));
    }
    let head = tokio::time::timeout(sse::PATIENCE, next(&mut ticket, deadline)).await.unwrap_or(None);
    if let Some(Out::Failed(e)) = head {
        return Err(e);
    }
    let place = std::mem::take(&mut call.place);
    Ok(sse::lines(|events| async move {
        // A client that is gone needs no end.
        let _ = write(ticket, head, deadline, &model, shape, &events).await;
        drop(place);
    }))
}

/// What of a part can be told: a call once the next has begun, or all has ended.
fn piece(part: Part, calls: &mut Vec<ToolCall>, end: bool) -> Answer {
    let mut out = Answer { thought: part.thought, text: part.text, calls: Vec::new() };
    for call in part.calls {
        if matches!(call, Called::Begin { .. }) {
            out.calls.append(calls);
        }
        collect(calls, vec![call]);
    }
    if end {
        out.calls.append(calls);
    }
    out
}

async fn write(
    mut ticket: Ticket,
    mut head: Option<Out>,
    deadline: Option<tokio::time::Instant>,
    model: &Model,
    shape: Shape,
    events: &Events,
) -> std::result::Result<(), sse::Gone> {
    // Calls come whole: clients read arguments as objects.
    let mut calls = Vec::new();
    loop {
        let out = following(&mut ticket, &mut head, deadline, events).await?;
        match out {
            Some(Out::Token { part, .. }) => {
                let now = piece(part, &mut calls, false);
                if !(now.text.is_empty() && now.thought.is_empty() && now.calls.is_empty()) {
                    events.json_line(&line(model, shape(&now))).await?;
                }
            }
            Some(Out::End { reason, part, usage, timings }) => {
                let now = piece(part, &mut calls, true);
                return events.json_line(&last(model, shape(&now), reason, &usage, &timings)).await;
            }
            Some(Out::Failed(e)) => return events.json_line(&e.ollama()).await,
            None => return Ok(()),
        }
    }
}
