//! `/api/…`, as Ollama's clients expect them: answers by lines of JSON unless `stream` is false, times in nanoseconds.
use super::openai::{Strings, count, deadline, following, json, next, parse, refuse};
use crate::{
    chat::{self, Conversation},
    error::{ApiError, Result},
    grammars::{Form, grammar, object},
    host::{Model, Out, Ticket},
    id,
    job::{Choice, Job},
    route::Call,
    sse::{self, Events},
};
use axum::{http::StatusCode, response::Response};
use pondera_engine::{FinishReason, STOPS_MAX, Timings, Usage};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Instant};

/// Options about sampling and lengths. Those about hardware are accepted and change nothing: the server decided when it began.
#[derive(Debug, Default, Deserialize)]
struct Options {
    seed: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    num_predict: Option<i64>,
    num_ctx: Option<i64>,
    stop: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
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

#[derive(Debug, Deserialize)]
struct ChatBody {
    model: String,
    messages: Option<Vec<Value>>,
    tools: Option<Vec<Value>>,
    format: Option<Value>,
    options: Option<Options>,
    stream: Option<bool>,
    think: Option<Value>,
    #[serde(rename = "keep_alive")]
    _keep_alive: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct GenerateBody {
    model: String,
    prompt: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    format: Option<Value>,
    options: Option<Options>,
    stream: Option<bool>,
    think: Option<Value>,
    #[serde(rename = "keep_alive")]
    _keep_alive: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct EmbedBody {
    model: String,
    input: Option<Strings>,
    // A text that does not fit is an error either way.
    #[serde(rename = "truncate")]
    _truncate: Option<bool>,
    #[serde(rename = "options")]
    _options: Option<Value>,
    #[serde(rename = "keep_alive")]
    _keep_alive: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct ShowBody {
    model: Option<String>,
    name: Option<String>,
    #[serde(rename = "verbose")]
    _verbose: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// How a thought and a text stand in the answers of an endpoint.
type Shape = fn(&str, &str) -> Value;

fn said(thought: &str, text: &str) -> Value {
    let mut message = json!({ "role": "assistant", "content": text });
    if !thought.is_empty() {
        message["thinking"] = thought.into();
    }
    json!({ "message": message })
}

fn generated(thought: &str, text: &str) -> Value {
    let mut out = json!({ "response": text });
    if !thought.is_empty() {
        out["thinking"] = thought.into();
    }
    out
}

async fn converse(job: &mut Job, model: &Model, messages: Vec<Value>, kwargs: Map<String, Value>) -> Result<()> {
    let prompt = chat::encode(&model.words, Conversation { messages, kwargs, continues: false }).await?;
    (job.prompt, job.reasoning) = (prompt.tokens, prompt.reasoning.filter(|_| job.grammar.is_none()));
    Ok(())
}

/// `/api/chat`.
pub async fn chat(mut call: Call) -> Result<Response> {
    let body: ChatBody = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    if body.tools.as_ref().is_some_and(|t| !t.is_empty()) {
        return Err(ApiError::unsupported("tools", "not supported by this server yet"));
    }
    let model = call.app.model(&body.model)?;
    let mut job = job(body.options, body.format, &model).await?;
    let list = body.messages.unwrap_or_default();
    if list.is_empty() {
        return Ok(loaded(&model, said));
    }
    let messages = chat::messages(list)?;
    let kwargs = thinking(body.think)?;
    converse(&mut job, &model, messages, kwargs).await?;
    answer(&mut call, job, model, body.stream, said).await
}

/// `/api/generate`.
pub async fn generate(mut call: Call) -> Result<Response> {
    let body: GenerateBody = parse(&call.body)?;
    refuse(&body.rest, &["suffix", "images", "template", "context"])?;
    let model = call.app.model(&body.model)?;
    let mut job = job(body.options, body.format, &model).await?;
    let prompt = body.prompt.unwrap_or_default();
    if prompt.is_empty() {
        return Ok(loaded(&model, generated));
    }
    let system = body.system.filter(|s| !s.is_empty());
    if body.raw.unwrap_or(false) || model.words.template.is_none() {
        if system.is_some() {
            return Err(ApiError::invalid("system", "not with raw, nor with a model that has no template"));
        }
        job.prompt = chat::encode_text(&model.words, prompt).await?;
    } else {
        let system = system.map(|s| json!({ "role": "system", "content": s }));
        let messages = system.into_iter().chain([json!({ "role": "user", "content": prompt })]).collect();
        let kwargs = thinking(body.think)?;
        converse(&mut job, &model, messages, kwargs).await?;
    }
    answer(&mut call, job, model, body.stream, generated).await
}

/// `/api/embed`.
pub async fn embed(mut call: Call) -> Result<Response> {
    let start = Instant::now();
    let body: EmbedBody = parse(&call.body)?;
    refuse(&body.rest, &["dimensions"])?;
    let model = call.app.model(&body.model)?;
    let texts = body.input.map(Strings::list).unwrap_or_default();
    let (mut all, mut tokens) = (Vec::new(), 0);
    for text in texts {
        let ids = chat::encode_text(&model.words, (model.embedding.prepare)(&text)).await?;
        call.place.grow(0, ids.len(), &call.app.options.limits)?;
        tokens += ids.len();
        all.push(model.embed(ids).await?);
    }
    let time = start.elapsed().as_nanos() as u64;
    Ok(json(&json!({
        "model": model.name, "embeddings": all, "total_duration": time, "load_duration": 0, "prompt_eval_count": tokens,
    })))
}

/// `/api/tags`.
pub async fn tags(call: Call) -> Result<Response> {
    let models: Vec<Value> = call.app.models.iter().map(listed).collect();
    Ok(json(&json!({ "models": models })))
}

/// `/api/ps`.
pub async fn ps(call: Call) -> Result<Response> {
    let running = |m: &Arc<Model>| {
        let mut entry = listed(m);
        entry["size_vram"] = 0.into();
        entry["context_length"] = m.ctx.into();
        // They stay as long as the server does.
        entry["expires_at"] = "9999-12-31T23:59:59Z".into();
        entry
    };
    let models: Vec<Value> = call.app.models.iter().filter(|m| m.alive()).map(running).collect();
    Ok(json(&json!({ "models": models })))
}

/// `/api/show`.
pub async fn show(call: Call) -> Result<Response> {
    let body: ShowBody = parse(&call.body)?;
    refuse(&body.rest, &["system", "template", "options"])?;
    let name = body.model.filter(|n| !n.is_empty()).or(body.name).unwrap_or_default();
    let m = call.app.model(&name)?;
    let template = m.words.template.as_ref().map_or("", |t| t.source(false));
    let capabilities = if m.words.encoder { json!(["embedding"]) } else { json!(["completion"]) };
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

/// What changes the store.
pub async fn store(_: Call) -> Result<Response> {
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "this server serves the models that it was started with")
        .code("not_supported"))
}

fn details(m: &Model) -> Value {
    let f = &m.facts;
    json!({
        "parent_model": m.parent.as_deref().unwrap_or(""), "format": f.kind, "family": f.family, "families": [f.family],
        "parameter_size": size(f.parameters), "quantization_level": f.format,
    })
}

fn listed(m: &Arc<Model>) -> Value {
    let modified = id::rfc3339(m.created);
    json!({ "name": m.name, "model": m.name, "modified_at": modified, "size": m.facts.bytes, "details": details(m) })
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

async fn job(options: Option<Options>, format: Option<Value>, model: &Model) -> Result<Job> {
    let form = match format {
        None | Some(Value::Null) => None,
        Some(Value::String(s)) if s.is_empty() => None,
        Some(Value::String(s)) if s == "json" => Some(object()),
        Some(schema @ Value::Object(_)) => Some(Form::Schema(schema)),
        Some(_) => return Err(ApiError::invalid("format", "expected \"json\" or a schema")),
    };
    let mut o = options.unwrap_or_default();
    o.rest.retain(|k, _| !HARDWARE.contains(&k.as_str()));
    refuse(&o.rest, &["mirostat", "mirostat_tau", "mirostat_eta", "tfs_z", "repeat_last_n"])?;
    if let Some(n) = count("num_ctx", o.num_ctx, 1)?.filter(|n| *n > model.ctx) {
        return Err(ApiError::invalid(
            "num_ctx",
            format!("{n} is more than the {} that the server was started with", model.ctx),
        ));
    }
    let stop = o.stop.unwrap_or_default();
    if stop.len() > STOPS_MAX {
        return Err(ApiError::invalid("stop", format!("expected at most {STOPS_MAX} strings, got {}", stop.len())));
    }
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
        prompt: Vec::new(),
        sampling: choice.sampling(&model.sampling)?,
        n: 1,
        // Below zero: until the context is full.
        max_tokens: count("num_predict", o.num_predict.filter(|n| *n >= 0), 1)?,
        stop,
        logprobs: None,
        ignore_eos: false,
        show_special: false,
        reasoning: None,
        grammar: match form {
            Some(form) => Some(grammar(&model.words, form, "format").await?),
            None => None,
        },
    })
}

/// A request for nothing says that the model is there.
fn loaded(model: &Model, shape: Shape) -> Response {
    let mut line = line(model, shape("", ""));
    line["done"] = true.into();
    line["done_reason"] = "load".into();
    json(&line)
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
    call.place.grow(0, job.prompt.len(), &limits)?;
    let deadline = deadline(&limits);
    let mut ticket = job.submit(&model, call.tenant).swap_remove(0);
    if stream == Some(false) {
        let (mut said, mut thoughts) = (String::new(), String::new());
        while let Some(out) = next(&mut ticket, deadline).await {
            match out {
                Out::Token { text, thought, .. } => {
                    said.push_str(&text);
                    thoughts.push_str(&thought);
                }
                Out::End { reason, text, thought, usage, timings } => {
                    said.push_str(&text);
                    thoughts.push_str(&thought);
                    return Ok(json(&last(&model, shape(&thoughts, &said), reason, &usage, &timings)));
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

async fn write(
    mut ticket: Ticket,
    mut head: Option<Out>,
    deadline: Option<tokio::time::Instant>,
    model: &Model,
    shape: Shape,
    events: &Events,
) -> std::result::Result<(), sse::Gone> {
    loop {
        let out = following(&mut ticket, &mut head, deadline, events).await?;
        match out {
            Some(Out::Token { text, thought, .. }) if text.is_empty() && thought.is_empty() => {}
            Some(Out::Token { text, thought, .. }) => events.json_line(&line(model, shape(&thought, &text))).await?,
            Some(Out::End { reason, text, thought, usage, timings }) => {
                return events.json_line(&last(model, shape(&thought, &text), reason, &usage, &timings)).await;
            }
            Some(Out::Failed(e)) => return events.json_line(&e.ollama()).await,
            None => return Ok(()),
        }
    }
}
