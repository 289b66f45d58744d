//! What those who run the server ask: whether it lives, whether it can work, what it counts; and tokens, for those who build
//! prompts themselves.
use super::openai::{json, parse};
use super::rest::{Rest, refuse};
use crate::{
    chat::{encode_text, tokenizer},
    error::{ApiError, Result},
    metrics,
    route::Call,
};
use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::atomic::Ordering::SeqCst;

/// Whether the process answers at all.
pub async fn health(_: Call) -> Result<Response> {
    Ok(json(&json!({ "status": "ok" })))
}

/// Whether requests will be answered: every model's thread runs, and the server is not stopping.
pub async fn ready(call: Call) -> Result<Response> {
    if call.app.stopping.load(SeqCst) {
        return Err(ApiError::unavailable("the server is stopping"));
    }
    match call.app.models.residents().iter().find(|m| !m.alive) {
        Some(_) => Err(ApiError::unavailable("a model is not running")),
        None => Ok(json(&json!({ "status": "ready" }))),
    }
}

/// Prometheus text.
pub async fn metrics(call: Call) -> Result<Response> {
    // What an adapter's requests cost counts with its model.
    let cards = call.app.models.cards();
    let own = cards.iter().filter(|m| m.parent.is_none());
    let mut text = metrics::text(own.map(|m| (m.name.as_str(), &*m.metrics)));
    metrics::residents(&cards, &call.app.models.residents(), &mut text);
    call.app.statuses.write(&mut text);
    metrics::dropped(call.app.options.log_lines_dropped.load(SeqCst), &mut text);
    call.app.tracer.iter().for_each(|t| t.write(&mut text));
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    Ok(response)
}

/// Which program this is.
pub async fn version(_: Call) -> Result<Response> {
    Ok(json(&json!({ "version": env!("CARGO_PKG_VERSION") })))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "TokenizeRequest", deny_unknown_fields)]
pub struct Text {
    model: String,
    prompt: String,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// Tokens of a text.
pub async fn tokenize(call: Call) -> Result<Response> {
    let body: Text = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    let model = call.app.model(&body.model).await?;
    let tokens = encode_text(&model.words, body.prompt).await?;
    Ok(json(&json!({ "count": tokens.len(), "tokens": tokens, "max_model_len": model.ctx })))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "DetokenizeRequest", deny_unknown_fields)]
pub struct Tokens {
    model: String,
    tokens: Vec<u32>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// Text of tokens.
pub async fn detokenize(call: Call) -> Result<Response> {
    let body: Tokens = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    let model = call.app.model(&body.model).await?;
    let t = tokenizer(&model.words)?;
    if let Some(id) = body.tokens.iter().find(|id| **id as usize >= t.vocab_size()) {
        return Err(ApiError::invalid("tokens", format!("{id} is not within the vocabulary of {}", t.vocab_size())));
    }
    Ok(json(&json!({ "prompt": t.decode(&body.tokens, false) })))
}
