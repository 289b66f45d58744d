//! What is known of one request when it is over: a line of the log and, where it is traced, its spans.
//!
//! A request's record goes with its task ([`scope`]), its tickets and its body, and speaks when the last of them is gone: so
//! every request has exactly one line, however it ended. Nothing of prompts or answers is in a record, nor a path as it came: it
//! may name what belongs to a client. Does not own: how lines are written (whoever has the `tracing` subscriber), how spans travel
//! (`trace`).
use crate::{
    error::ApiError,
    host::Out,
    job::Job,
    route::{App, Class},
    trace::{Attribute, Context, Kind, Span, Tracer, random},
};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, Method},
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use pondera_engine::Timings;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as Poller, Poll, ready},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

tokio::task_local! {
    static RECORD: Arc<Record>;
}

/// One request.
pub struct Record {
    id: String,
    method: &'static str,
    arrived: Instant,
    at: SystemTime,
    /// A line of a batch: there is no connection.
    batched: bool,
    traced: Option<(Context, Arc<Tracer>)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As the table of routes has it.
    route: Option<&'static str>,
    /// Probes come often and say nothing while all is well.
    probe: bool,
    /// Asked for without a key: not a part of anybody's trace.
    open: bool,
    /// The key's name.
    key: Option<String>,
    status: Option<u16>,
    error: Option<&'static str>,
    /// As the client calls it, and its name.
    model: Option<(String, String)>,
    asked: Option<Asked>,
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    choices: Vec<Choice>,
    bytes: u64,
    /// The client went away before the end.
    cut: bool,
}

/// What was asked for, in numbers.
struct Asked {
    n: usize,
    max_tokens: Option<usize>,
    temperature: f64,
    top_p: f64,
    top_k: usize,
}

/// An answer that ended.
struct Choice {
    index: usize,
    submitted: Instant,
    first: Option<Instant>,
    timings: Option<Timings>,
    finish: &'static str,
}

/// Runs what answers `record`'s request.
pub async fn scope<F: Future>(record: Arc<Record>, answer: F) -> F::Output {
    RECORD.scope(record, answer).await
}

/// Changes the record of the request that this task answers, if it answers one.
fn note(change: impl FnOnce(&mut State)) {
    let _ = RECORD.try_with(|record| change(&mut record.state()));
}

/// The route that was found.
pub fn routed(path: &'static str, class: Class) {
    note(|s| {
        s.route = Some(path);
        s.open = class == Class::Open;
        s.probe = matches!(path, "/health" | "/ready" | "/metrics");
    });
}

/// Whose key was shown, by its name.
pub fn permitted(owner: &str) {
    note(|s| s.key = Some(owner.to_string()).filter(|name| !name.is_empty()));
}

/// The model that was asked for, as the client calls it, and its name.
pub fn model(asked: &str, name: &str) {
    note(|s| s.model = Some((asked.to_string(), name.to_string())));
}

/// Tokens that were read and not answered: of a text whose embedding was asked for.
pub fn read(tokens: usize) {
    note(|s| s.prompt_tokens += tokens);
}

/// A job that goes to the engine.
pub fn submitted(job: &Job) {
    note(|s| {
        s.prompt_tokens += job.prompt.len();
        let before = s.asked.as_ref().map_or(0, |a| a.n);
        s.asked = Some(Asked {
            n: before + job.n,
            max_tokens: job.max_tokens,
            temperature: job.sampling.temperature.into(),
            top_p: job.sampling.top_p.into(),
            top_k: job.sampling.top_k,
        });
    });
}

impl Record {
    /// Of a request that has just come.
    pub fn new(app: &App, id: &str, method: &Method, headers: &HeaderMap) -> Arc<Record> {
        let traced = app.tracer.as_ref().and_then(|t| Some((Context::of(headers, t.traces.sampling)?, t.clone())));
        Arc::new(Record {
            id: id.to_string(),
            method: known(method),
            arrived: Instant::now(),
            at: SystemTime::now(),
            batched: false,
            traced,
            state: Mutex::default(),
        })
    }

    /// Of a line of a batch, which is answered as if it had come for this path.
    pub fn line(app: &App, id: &str, path: &'static str, owner: &str) -> Arc<Record> {
        let mut record = Record::new(app, id, &Method::POST, &HeaderMap::new());
        if let Some(record) = Arc::get_mut(&mut record) {
            record.batched = true;
            let state = record.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.route = Some(path);
            state.key = Some(owner.to_string()).filter(|name| !name.is_empty());
        }
        record
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There was no answer.
    pub fn failed(&self, e: &ApiError) {
        self.state().error = Some(word(e));
    }

    /// What the client was told.
    pub fn answered(&self, status: u16) {
        self.state().status = Some(status);
    }

    /// The response on its way; its bytes are counted.
    pub fn follow(self: Arc<Record>, response: Response) -> Response {
        self.answered(response.status().as_u16());
        let ended = self.method == "HEAD";
        response.map(|inner| Body::new(Counted { inner, record: self, bytes: 0, ended }))
    }
}

/// A word for programs.
fn word(e: &ApiError) -> &'static str {
    e.code.unwrap_or_else(|| e.openai_type())
}

/// Methods that others know; a client may write any.
fn known(method: &Method) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"];
    METHODS.into_iter().find(|m| *m == method.as_str()).unwrap_or("_OTHER")
}

/// What a ticket says to its request's record; where there is none, nothing.
#[derive(Default)]
pub struct Seen(Option<Box<Watch>>);

struct Watch {
    record: Arc<Record>,
    index: usize,
    submitted: Instant,
    first: Option<Instant>,
    tokens: usize,
    called: bool,
    ended: bool,
}

impl Seen {
    /// Of choice `index` of the job that this task is about to submit.
    pub fn new(index: usize) -> Seen {
        let watch = |record: &Arc<Record>| {
            let (record, submitted) = (record.clone(), Instant::now());
            Box::new(Watch { record, index, submitted, first: None, tokens: 0, called: false, ended: false })
        };
        Seen(RECORD.try_with(watch).ok())
    }

    /// This came.
    pub fn note(&mut self, out: &Out) {
        let Some(watch) = &mut self.0 else { return };
        match out {
            Out::Token { part, .. } => {
                watch.first.get_or_insert_with(Instant::now);
                watch.tokens += 1;
                watch.called |= !part.calls.is_empty();
            }
            Out::End { reason, part, usage, timings } => {
                watch.called |= !part.calls.is_empty();
                watch.tokens = usage.completion_tokens;
                let finish = if watch.called && reason.name() == "stop" { "tool_calls" } else { reason.name() };
                watch.record.state().cached_tokens += usage.cached_tokens;
                watch.end(finish, Some(*timings));
            }
            Out::Failed(e) => {
                watch.record.failed(e);
                watch.end("error", None);
            }
        }
    }
}

impl Watch {
    fn end(&mut self, finish: &'static str, timings: Option<Timings>) {
        self.ended = true;
        let mut state = self.record.state();
        state.completion_tokens += self.tokens;
        let choice = Choice { index: self.index, submitted: self.submitted, first: self.first, timings, finish };
        state.choices.push(choice);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.ended {
            self.end("cancelled", None);
        }
    }
}

/// A body whose bytes are counted.
struct Counted {
    inner: Body,
    record: Arc<Record>,
    bytes: u64,
    ended: bool,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => {}
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let ended = self.ended || self.inner.is_end_stream();
        let mut state = self.record.state();
        state.bytes = self.bytes;
        state.cut = !ended;
    }
}

/// What is said of a client that went away before it had a status.
const GONE: u16 = 499;

impl Drop for Record {
    fn drop(&mut self) {
        let mut state = std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        let lost = if std::thread::panicking() { 500 } else { GONE };
        let status = *state.status.get_or_insert(lost);
        if state.error.is_none() && (state.cut || status == GONE) {
            state.error = Some("client_gone");
        }
        state.choices.sort_by_key(|c| c.index);
        self.line_of(&state, status);
        if let Some((context, tracer)) = &self.traced
            && !state.open
            && !state.probe
        {
            tracer.take(self.spans(&state, status, context));
        }
    }
}

impl Record {
    fn line_of(&self, s: &State, status: u16) {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let answers = !s.choices.is_empty() || s.prompt_tokens > 0;
        let queued = s.choices.iter().filter_map(|c| Some(c.timings?.queue_s)).reduce(f64::min);
        let queue_ms = queued.and_then(|s| Duration::try_from_secs_f64(s).ok()).map(ms);
        let ttft_ms = s.first().map(|first| ms(first.saturating_duration_since(self.arrived)));
        let total_ms = ms(self.arrived.elapsed());
        let trace = self.traced.as_ref().map(|(context, _)| crate::trace::hex(&context.trace));
        let mut finish: Vec<&str> = s.choices.iter().map(|c| c.finish).collect();
        finish.dedup();
        let finish = (!finish.is_empty()).then(|| finish.join(","));
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    target: "pondera_server::access",
                    request_id = self.id.as_str(),
                    method = self.method,
                    route = s.route,
                    status,
                    key = s.key.as_deref(),
                    model = s.model.as_ref().map(|m| m.1.as_str()),
                    prompt_tokens = answers.then_some(s.prompt_tokens),
                    cached_tokens = answers.then_some(s.cached_tokens),
                    completion_tokens = answers.then_some(s.completion_tokens),
                    queue_ms,
                    ttft_ms,
                    total_ms,
                    finish_reason = finish.as_deref(),
                    bytes = s.bytes,
                    error = s.error,
                    batched = self.batched.then_some(true),
                    trace_id = trace.as_deref(),
                    "{} {} {status}",
                    self.method,
                    s.route.unwrap_or("(no route)"),
                )
            };
        }
        match s.probe && status < 400 {
            true => say!(debug),
            false => say!(info),
        }
    }

    /// The request, and below it of every choice: in the queue, in its prompt, decoding.
    fn spans(&self, s: &State, status: u16, context: &Context) -> Vec<Span> {
        let route = s.route.map_or(String::new(), |route| format!(" {route}"));
        let request = Span {
            trace: context.trace,
            id: context.id,
            parent: context.parent,
            remote: context.parent.is_some(),
            state: context.state.clone(),
            name: format!("{}{route}", self.method),
            kind: Kind::Server,
            start_ns: self.moment(self.arrived),
            end_ns: self.moment(Instant::now()),
            attributes: self.attributes(s, status),
            failed: status >= 500 || s.error.is_some() && status < 400 && !s.cut,
        };
        let mut spans = vec![request];
        for choice in &s.choices {
            for (name, start, end) in choice.parts() {
                spans.push(Span {
                    id: random(),
                    parent: Some(context.id),
                    remote: false,
                    name: name.into(),
                    kind: Kind::Internal,
                    start_ns: self.moment(start),
                    end_ns: self.moment(end),
                    attributes: vec![("pondera.choice", choice.index.into())],
                    failed: false,
                    ..spans[0].clone()
                });
            }
        }
        spans
    }

    /// The semantic conventions' words for HTTP servers and for generative models.
    fn attributes(&self, s: &State, status: u16) -> Vec<(&'static str, Attribute)> {
        let mut out: Vec<(&'static str, Attribute)> = vec![
            ("http.request.method", self.method.into()),
            ("http.response.status_code", usize::from(status).into()),
            ("url.scheme", "http".into()),
            ("pondera.request_id", self.id.as_str().into()),
        ];
        let mut put = |name, value: Option<Attribute>| out.extend(value.map(|value| (name, value)));
        put("http.route", s.route.map(Attribute::from));
        put("pondera.key", s.key.as_deref().map(Attribute::from));
        put("error.type", s.error.map(Attribute::from));
        put("pondera.batched", self.batched.then(|| "true".into()));
        let Some(operation) = s.route.and_then(operation) else { return out };
        put("gen_ai.operation.name", Some(operation.into()));
        put("gen_ai.provider.name", Some("pondera".into()));
        if let Some((asked, name)) = &s.model {
            put("gen_ai.request.model", Some(asked.as_str().into()));
            put("gen_ai.response.model", Some(name.as_str().into()));
        }
        if s.prompt_tokens > 0 {
            put("gen_ai.usage.input_tokens", Some(s.prompt_tokens.into()));
        }
        if let Some(asked) = &s.asked {
            put("gen_ai.usage.output_tokens", Some(s.completion_tokens.into()));
            put("gen_ai.usage.cache_read.input_tokens", Some(s.cached_tokens.into()));
            put("gen_ai.request.choice.count", (asked.n > 1).then(|| asked.n.into()));
            put("gen_ai.request.max_tokens", asked.max_tokens.map(Attribute::from));
            put("gen_ai.request.temperature", Some(asked.temperature.into()));
            put("gen_ai.request.top_p", Some(asked.top_p.into()));
            put("gen_ai.request.top_k", (asked.top_k > 0).then(|| asked.top_k.into()));
        }
        if !s.choices.is_empty() {
            let reasons = s.choices.iter().map(|c| c.finish.to_string()).collect();
            put("gen_ai.response.finish_reasons", Some(Attribute::Texts(reasons)));
        }
        let first = s.first().map(|first| first.saturating_duration_since(self.arrived).as_secs_f64());
        put("gen_ai.response.time_to_first_chunk", first.map(Attribute::from));
        out
    }

    /// Nanoseconds since 1970 of a moment of this request, on one clock: children stay within their parents.
    fn moment(&self, at: Instant) -> u64 {
        let time = self.at + at.saturating_duration_since(self.arrived);
        time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
    }
}

impl State {
    /// When the first token of any choice came.
    fn first(&self) -> Option<Instant> {
        self.choices.iter().filter_map(|c| c.first).min()
    }
}

impl Choice {
    /// What it did, from when to when.
    fn parts(&self) -> Vec<(&'static str, Instant, Instant)> {
        let Some(t) = &self.timings else { return Vec::new() };
        let mut at = self.submitted;
        let mut part = |name, seconds: f64| {
            let start = at;
            at += Duration::try_from_secs_f64(seconds).unwrap_or_default();
            (name, start, at)
        };
        vec![part("queue", t.queue_s), part("prefill", t.prefill_s), part("decode", t.decode_s)]
    }
}

/// The convention's word for what a route does; none for routes without a model's work.
fn operation(route: &str) -> Option<&'static str> {
    Some(match route {
        "/v1/chat/completions" | "/v1/responses" | "/v1/messages" | "/api/chat" => "chat",
        "/v1/completions" | "/api/generate" => "text_completion",
        "/v1/embeddings" | "/api/embed" => "embeddings",
        _ => return None,
    })
}
