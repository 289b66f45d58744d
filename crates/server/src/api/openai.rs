//! What OpenAI's endpoints share: reading bodies, words for what comes out.
use crate::{
    error::{ApiError, Result},
    host::{Out, Ticket},
    job::short,
    options::Limits,
    sse::{Events, Gone},
};
use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use pondera_engine::{FinishReason, Logprob, Usage};
use pondera_text::Tokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A JSON body.
pub fn json(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body as `T`.
///
/// # Errors
/// 400 with the path of the field that is wrong.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let (path, inner) = (e.path().to_string(), e.into_inner());
        let said = inner.to_string();
        // What is missing has no path yet; its name stands in the message.
        if let Some(name) = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            let place = if path == "." { name.to_string() } else { format!("{path}.{name}") };
            return ApiError::invalid(&short(&place), "missing");
        }
        match path.as_str() {
            "." | "?" => ApiError::new(
                axum::http::StatusCode::BAD_REQUEST,
                format!("the body is not the JSON that was expected: {inner}"),
            ),
            path => ApiError::invalid(&short(path), inner.to_string()),
        }
    })?;
    let rest =
        |e: serde_json::Error| ApiError::new(axum::http::StatusCode::BAD_REQUEST, format!("the body is not JSON: {e}"));
    reader.end().map_err(rest)?;
    Ok(parsed)
}

/// One string or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Strings {
    One(String),
    Many(Vec<String>),
}

impl Strings {
    /// All of them.
    pub fn list(self) -> Vec<String> {
        match self {
            Strings::One(s) => vec![s],
            Strings::Many(list) => list,
        }
    }
}

/// Text or tokens, one or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TextsOrTokens {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// Words that a client keeps beside an answer: 16 at most, short ones.
pub fn metadata(given: Option<&Map<String, Value>>) -> Result<()> {
    let fits = |(key, value): (&String, &Value)| key.len() <= 64 && value.as_str().is_some_and(|v| v.len() <= 512);
    match given {
        Some(all) if all.len() > 16 || !all.iter().all(fits) => {
            Err(ApiError::invalid("metadata", "expected at most 16 strings of up to 512 bytes, with names of up to 64"))
        }
        _ => Ok(()),
    }
}

/// Efforts that the API documents.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// How hard the model shall think, as variables of its template.
pub fn effort(effort: &Value, param: &str, kwargs: &mut Map<String, Value>) -> Result<()> {
    if effort.is_null() {
        return Ok(());
    }
    let Some(effort) = effort.as_str().filter(|e| EFFORTS.contains(e)) else {
        return Err(ApiError::invalid(param, format!("expected one of {}", EFFORTS.join(", "))));
    };
    kwargs.entry("reasoning_effort").or_insert(effort.into());
    kwargs.entry("enable_thinking").or_insert((effort != "none").into());
    Ok(())
}

/// `stop`, checked.
pub fn stops(stop: Option<Strings>) -> Result<Vec<String>> {
    crate::job::stops("stop", stop.map(Strings::list).unwrap_or_default())
}

/// `n`, checked.
pub fn choices(n: Option<i64>, limits: &Limits) -> Result<usize> {
    let n = n.unwrap_or(1);
    let most = limits.choices;
    usize::try_from(n)
        .ok()
        .filter(|n| (1..=most).contains(n))
        .ok_or_else(|| ApiError::invalid("n", format!("expected 1 to {most}, got {n}")))
}

/// A count of tokens, checked.
pub fn count(name: &str, value: Option<i64>, least: i64) -> Result<Option<usize>> {
    let wrong = |v: i64| ApiError::invalid(name, format!("expected at least {least}, got {v}"));
    value.map(|v| usize::try_from(v).ok().filter(|_| v >= least).ok_or_else(|| wrong(v))).transpose()
}

/// `stream_options`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StreamOptions")]
pub struct StreamOptions {
    /// Ends the stream with a chunk about tokens.
    #[serde(default)]
    pub include_usage: bool,
    /// Pads chunks against onlookers of sizes; nothing is padded here.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

/// When a request must have ended.
pub fn deadline(limits: &Limits) -> Option<Instant> {
    (limits.request_time > Duration::ZERO).then(|| Instant::now() + limits.request_time)
}

/// The next of what comes, within the deadline.
pub async fn next(ticket: &mut Ticket, deadline: Option<Instant>) -> Option<Out> {
    let Some(deadline) = deadline else { return ticket.next().await };
    let late = || {
        Some(Out::Failed(ApiError::new(axum::http::StatusCode::REQUEST_TIMEOUT, "the answer was not ready in time")))
    };
    timeout_at(deadline, ticket.next()).await.unwrap_or_else(|_| late())
}

/// What a stream writes next: `head`, which came before the stream began, then what comes; none once the client is gone.
pub async fn following(
    ticket: &mut Ticket,
    head: &mut Option<Out>,
    deadline: Option<Instant>,
    events: &Events,
) -> std::result::Result<Option<Out>, Gone> {
    match head.take() {
        Some(out) => Ok(Some(out)),
        None => tokio::select! {
            out = next(ticket, deadline) => Ok(out),
            () = events.gone() => Err(Gone),
        },
    }
}

/// `finish_reason` of an answer with calls or without.
pub fn finish_reason(reason: FinishReason, called: bool) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::StopString(_) if called => "tool_calls",
        FinishReason::Stop | FinishReason::StopString(_) | FinishReason::Cancelled => "stop",
    }
}

/// `usage` of a prompt and all its choices.
pub fn usage(parts: &[Usage]) -> Value {
    let prompt: usize = parts.first().map_or(0, |u| u.prompt_tokens);
    let cached = parts.iter().map(|u| u.cached_tokens).max().unwrap_or(0);
    let completion: usize = parts.iter().map(|u| u.completion_tokens).sum();
    totals(prompt, cached, completion)
}

/// `usage` from sums.
pub fn totals(prompt: usize, cached: usize, completion: usize) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": cached },
    })
}

/// Text of a token, whatever it is, and its bytes.
pub fn token(tokenizer: Option<&Tokenizer>, id: u32) -> (String, Vec<u8>) {
    let Some(t) = tokenizer else { return (format!("token_id:{id}"), Vec::new()) };
    let bytes = t.token_bytes(id).filter(|b| !b.is_empty()).unwrap_or_else(|| t.decode(&[id], false).into_bytes());
    (String::from_utf8_lossy(&bytes).into_owned(), bytes)
}

/// A number that JSON can hold; the API's own for "as good as never".
pub fn finite(logprob: f64) -> f64 {
    logprob.max(-9999.0)
}

/// An entry of `logprobs.content`.
pub fn logprob(tokenizer: Option<&Tokenizer>, id: u32, value: f64, top: &[Logprob]) -> Value {
    let entry = |id: u32, value: f64| {
        let (text, bytes) = token(tokenizer, id);
        json!({ "token": text, "logprob": finite(value), "bytes": bytes })
    };
    let mut out = entry(id, value);
    out["top_logprobs"] = top.iter().map(|t| entry(t.id, t.logprob)).collect();
    out
}
