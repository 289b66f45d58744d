//! `/v1/completions`.
use super::openai::{
    self, StreamOptions, Strings, TextsOrTokens, choices, count, deadline, finish_reason, finite, following, json,
    next, parse, stops,
};
use super::rest::{Rest, refuse};
use crate::{
    chat::{encode_text, tokenizer},
    error::{ApiError, Result},
    grammars::{Form, grammar, response_format},
    host::{Model, Out, Part, Ticket},
    id,
    job::{Choice, Job},
    route::Call,
    sse::{self, Events},
};
use axum::response::Response;
use pondera_engine::{Logprob, Usage};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tokio::time::Instant;

/// Most alternatives that the API documents.
const LOGPROBS: i64 = 5;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "CompletionRequest", deny_unknown_fields)]
pub struct Body {
    model: String,
    prompt: TextsOrTokens,
    #[schemars(range(min = 0))]
    max_tokens: Option<i64>,
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f32>,
    #[schemars(range(min = 1, max = 16))]
    n: Option<i64>,
    best_of: Option<i64>,
    seed: Option<i64>,
    stop: Option<Strings>,
    #[schemars(range(min = -2.0, max = 2.0))]
    frequency_penalty: Option<f32>,
    #[schemars(range(min = -2.0, max = 2.0))]
    presence_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    logprobs: Option<i64>,
    echo: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(rename = "user")]
    _user: Option<String>,
    #[schemars(range(min = -1))]
    top_k: Option<i64>,
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    typical_p: Option<f32>,
    #[schemars(range(min = 0.01, max = 100.0))]
    repetition_penalty: Option<f32>,
    ignore_eos: Option<bool>,
    skip_special_tokens: Option<bool>,
    response_format: Option<Value>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// One prompt as it was asked and as it runs.
struct Asked {
    /// For echo.
    text: String,
    job: Job,
}

/// What responses have in common.
struct Frame {
    id: String,
    created: u64,
    model: Arc<Model>,
    echo: bool,
    logprobs: Option<usize>,
    include_usage: bool,
    deadline: Option<Instant>,
    tenant: u64,
}

/// Tokens with their probabilities, in the shape of this endpoint.
#[derive(Default)]
struct Probabilities {
    tokens: Vec<String>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<usize>,
    at: usize,
}

/// Answers.
pub async fn answer(mut call: Call) -> Result<Response> {
    let mut body: Body = parse(&call.body)?;
    refuse(&body.rest, &["suffix"])?;
    let model = call.app.model(&body.model).await?;
    let limits = call.app.options.limits;
    let n = choices(body.n, &limits)?;
    if body.best_of.is_some_and(|b| b != n as i64) {
        return Err(ApiError::unsupported("best_of", "only the value of n is supported"));
    }
    let echo = body.echo.unwrap_or(false);
    let max_tokens = count("max_tokens", body.max_tokens, if echo { 0 } else { 1 })?.unwrap_or(16);
    let logprobs = match body.logprobs {
        Some(k) if !(0..=LOGPROBS).contains(&k) => {
            return Err(ApiError::invalid("logprobs", format!("expected 0 to {LOGPROBS}, got {k}")));
        }
        k => k.map(|k| k as usize),
    };
    let stream = body.stream.unwrap_or(false);
    if stream && echo {
        return Err(ApiError::unsupported("echo", "not with stream"));
    }
    let choice = Choice {
        temperature: body.temperature,
        top_p: body.top_p,
        top_k: body.top_k,
        min_p: body.min_p,
        typical_p: body.typical_p,
        repetition_penalty: body.repetition_penalty,
        frequency_penalty: body.frequency_penalty,
        presence_penalty: body.presence_penalty,
        logit_bias: body.logit_bias.take(),
        seed: body.seed,
    };
    let base = Job {
        prompt: Vec::new(),
        sampling: choice.sampling(&model.sampling)?,
        n,
        max_tokens: Some(max_tokens),
        stop: stops(body.stop.take())?,
        logprobs,
        ignore_eos: body.ignore_eos.unwrap_or(false),
        show_special: !body.skip_special_tokens.unwrap_or(true),
        shown: [].into(),
        reader: None,
        grammar: match response_format(body.response_format.as_ref())? {
            Some(schema) => Some(grammar(&model.words, Form::Schema(schema), "response_format").await?),
            None => None,
        },
    };
    let asked = prompts(body.prompt, &base, &model, limits.choices).await?;
    if asked.len() * n > limits.choices {
        return Err(ApiError::invalid("n", format!("expected at most {} answers to all prompts", limits.choices)));
    }
    let tokens: usize = asked.iter().map(|a| a.job.prompt.len() * n).sum();
    asked.iter().try_for_each(|a| model.fits("prompt", a.job.prompt.len()))?;
    call.place.grow(asked.len() * n - 1, tokens, &limits)?;
    let frame = Frame {
        id: id::random("cmpl-"),
        created: id::now_s(),
        echo,
        logprobs,
        include_usage: body.stream_options.is_some_and(|o| o.include_usage),
        deadline: deadline(&limits),
        tenant: call.tenant,
        model,
    };
    if body.stream_options.is_some() && !stream {
        return Err(ApiError::invalid("stream_options", "only with stream"));
    }
    if stream {
        let mut tickets: Vec<Ticket> = asked.iter().flat_map(|a| a.job.submit(&frame.model, frame.tenant)).collect();
        // A request that cannot be answered gets a status of its own and not a broken stream.
        let first = next(&mut tickets[0], frame.deadline);
        let head = tokio::time::timeout(sse::PATIENCE, first).await.unwrap_or(None);
        if let Some(Out::Failed(e)) = head {
            return Err(e);
        }
        let place = call.place;
        return Ok(sse::respond(|events| async move {
            write(asked, (tickets, head), frame, events).await;
            drop(place);
        }));
    }
    let mut started = Vec::new();
    for a in &asked {
        let generates = a.job.max_tokens != Some(0);
        let tickets =
            if generates { a.job.submit(&frame.model, frame.tenant).into_iter().map(Some).collect() } else { none(n) };
        started.push(tickets);
    }
    let (mut list, mut totals) = (Vec::new(), (0, 0, 0));
    for (a, tickets) in asked.iter().zip(started) {
        let head = a.head(&frame).await?;
        let mut parts = Vec::new();
        for ticket in tickets {
            let (choice, usage) = whole(list.len(), a, &head, ticket, &frame).await?;
            list.push(choice);
            parts.push(usage);
        }
        totals.0 += a.job.prompt.len();
        totals.1 += parts.iter().map(|u| u.cached_tokens).max().unwrap_or(0);
        totals.2 += parts.iter().map(|u| u.completion_tokens).sum::<usize>();
    }
    let mut out = frame.object(list);
    out["usage"] = openai::totals(totals.0, totals.1, totals.2);
    Ok(json(&out))
}

fn none(n: usize) -> Vec<Option<Ticket>> {
    (0..n).map(|_| None).collect()
}

/// Jobs of all prompts.
async fn prompts(prompt: TextsOrTokens, base: &Job, model: &Model, most: usize) -> Result<Vec<Asked>> {
    let words = &model.words;
    let texts = match prompt {
        TextsOrTokens::Text(text) => vec![text],
        TextsOrTokens::Texts(list) => list,
        TextsOrTokens::Tokens(ids) => return tokens(vec![ids], base, model, most),
        TextsOrTokens::ManyTokens(list) => return tokens(list, base, model, most),
    };
    bounded(texts.len(), most)?;
    let mut asked = Vec::new();
    for text in texts {
        tokenizer(words)?;
        let prompt = encode_text(words, text.clone()).await?;
        asked.push(Asked { text, job: Job { prompt, ..base.clone() } });
    }
    Ok(asked)
}

fn tokens(list: Vec<Vec<u32>>, base: &Job, model: &Model, most: usize) -> Result<Vec<Asked>> {
    bounded(list.len(), most)?;
    if let Some(long) = list.iter().find(|ids| ids.len() > model.ctx) {
        return Err(ApiError::context("prompt", long.len(), model.ctx));
    }
    let decode = |ids: &[u32]| model.words.tokenizer.as_ref().map_or(String::new(), |t| t.decode(ids, false));
    Ok(list.into_iter().map(|prompt| Asked { text: decode(&prompt), job: Job { prompt, ..base.clone() } }).collect())
}

fn bounded(prompts: usize, most: usize) -> Result<()> {
    match prompts {
        0 => Err(ApiError::invalid("prompt", "expected at least one")),
        n if n > most => Err(ApiError::invalid("prompt", format!("expected at most {most} prompts, got {n}"))),
        _ => Ok(()),
    }
}

impl Asked {
    /// What echo shows of the prompt's tokens: the first has no probability.
    async fn head(&self, frame: &Frame) -> Result<Probabilities> {
        let mut p = Probabilities::default();
        let (Some(top), true) = (frame.logprobs, frame.echo) else { return Ok(p) };
        let scores = frame.model.prompt_logprobs(self.job.prompt.clone(), top).await?;
        let scores = std::iter::once(None).chain(scores.into_iter().map(Some));
        for (id, score) in self.job.prompt.iter().zip(scores) {
            match score {
                None => p.push(frame, *id, None, &[]),
                Some((value, top)) => p.push(frame, *id, Some(value), &top),
            }
        }
        Ok(p)
    }
}

impl Probabilities {
    fn push(&mut self, frame: &Frame, id: u32, value: Option<f64>, top: &[Logprob]) {
        let words = frame.model.words.tokenizer.as_deref();
        let text = openai::token(words, id).0;
        self.text_offset.push(self.at);
        self.at += text.chars().count();
        self.tokens.push(text);
        self.token_logprobs.push(value.map_or(Value::Null, |v| finite(v).into()));
        let named = |t: &Logprob| (openai::token(words, t.id).0, Value::from(finite(t.logprob)));
        self.top_logprobs.push(value.map_or(Value::Null, |_| Value::Object(top.iter().map(named).collect())));
    }

    fn json(&self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.token_logprobs, "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }

    fn copy(&self) -> Probabilities {
        Probabilities {
            tokens: self.tokens.clone(),
            token_logprobs: self.token_logprobs.clone(),
            top_logprobs: self.top_logprobs.clone(),
            text_offset: self.text_offset.clone(),
            at: self.at,
        }
    }
}

impl Frame {
    fn object(&self, choices: Vec<Value>) -> Value {
        let model = &self.model.name;
        json!({ "id": self.id, "object": "text_completion", "created": self.created, "model": model, "choices": choices })
    }
}

fn choice(index: usize, text: &str, logprobs: Value, finish: Value) -> Value {
    json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish })
}

/// One choice, whole. Without a ticket nothing is generated.
async fn whole(
    index: usize,
    asked: &Asked,
    head: &Probabilities,
    ticket: Option<Ticket>,
    frame: &Frame,
) -> Result<(Value, Usage)> {
    let mut text = if frame.echo { asked.text.clone() } else { String::new() };
    let mut p = head.copy();
    let logprobs = |p: &Probabilities| if frame.logprobs.is_some() { p.json() } else { Value::Null };
    let Some(mut ticket) = ticket else {
        let usage = Usage { prompt_tokens: asked.job.prompt.len(), ..Usage::default() };
        return Ok((choice(index, &text, logprobs(&p), "length".into()), usage));
    };
    while let Some(out) = next(&mut ticket, frame.deadline).await {
        match out {
            Out::Token { id, part, logprob, top } => {
                text.push_str(&part.text);
                if frame.logprobs.is_some() {
                    p.push(frame, id, logprob, &top);
                }
            }
            Out::End { reason, part, usage, .. } => {
                text.push_str(&part.text);
                return Ok((choice(index, &text, logprobs(&p), finish_reason(reason, false).into()), usage));
            }
            Out::Failed(e) => return Err(e),
        }
    }
    Err(ApiError::unavailable("the answer ended early"))
}

/// All choices, one after the other as they come.
async fn write(asked: Vec<Asked>, (tickets, mut head): (Vec<Ticket>, Option<Out>), frame: Frame, events: Events) {
    let mut totals = (asked.iter().map(|a| a.job.prompt.len()).sum(), 0, 0);
    for (index, mut ticket) in tickets.into_iter().enumerate() {
        let mut p = Probabilities::default();
        loop {
            let Ok(out) = following(&mut ticket, &mut head, frame.deadline, &events).await else { return };
            let (text, logprobs, finish) = match out {
                Some(Out::Token { id, part: Part { text, .. }, logprob, top }) => {
                    if text.is_empty() && frame.logprobs.is_none() {
                        continue;
                    }
                    let mut one = Probabilities { at: p.at, ..Probabilities::default() };
                    one.push(&frame, id, logprob, &top);
                    p.at = one.at;
                    (text, if frame.logprobs.is_some() { one.json() } else { Value::Null }, Value::Null)
                }
                Some(Out::End { reason, part: Part { text, .. }, usage, .. }) => {
                    totals.1 += usage.cached_tokens;
                    totals.2 += usage.completion_tokens;
                    (text, Value::Null, finish_reason(reason, false).into())
                }
                Some(Out::Failed(e)) => return drop(events.data(&e.openai()).await),
                None => break,
            };
            if events.data(&frame.object(vec![choice(index, &text, logprobs, finish)])).await.is_err() {
                return;
            }
        }
    }
    if frame.include_usage {
        let mut last = frame.object(Vec::new());
        last["usage"] = openai::totals(totals.0, totals.1, totals.2);
        if events.data(&last).await.is_err() {
            return;
        }
    }
    let _ = events.done().await;
}
