//! Streams of JSON values: server-sent events, with a comment now and then while nothing comes, so that nothing between the
//! client and here takes the connection for dead; or lines alone.
use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_core::Stream;
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval},
};

/// How long a stream waits for its first token before it begins: a request that cannot be answered gets a status of its own.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Between two comments.
const PING: Duration = Duration::from_secs(10);
/// How long a client may read nothing while events wait for it.
const READING: Duration = Duration::from_secs(30);
/// Events that may wait for a client; then its writer waits.
const WAITING: usize = 64;

/// Where a writer puts events.
pub struct Events(mpsc::Sender<Bytes>);

/// The client is gone.
pub struct Gone;

impl Events {
    /// `data: {value}`.
    pub async fn data(&self, value: &serde_json::Value) -> Result<(), Gone> {
        self.line(format!("data: {value}\n\n")).await
    }

    /// `event: {name}`, `data: {value}`.
    pub async fn named(&self, name: &str, value: &serde_json::Value) -> Result<(), Gone> {
        self.line(format!("event: {name}\ndata: {value}\n\n")).await
    }

    /// `{value}`, alone on its line.
    pub async fn json_line(&self, value: &serde_json::Value) -> Result<(), Gone> {
        self.line(format!("{value}\n")).await
    }

    /// `data: [DONE]`.
    pub async fn done(&self) -> Result<(), Gone> {
        self.line("data: [DONE]\n\n".into()).await
    }

    async fn line(&self, text: String) -> Result<(), Gone> {
        // A client that reads nothing holds what others wait for.
        tokio::time::timeout(READING, self.0.send(Bytes::from(text))).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Waits until the client is gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

/// A response whose events `write` makes; what it holds is dropped when the client goes.
pub fn respond<F: Future<Output = ()> + Send + 'static>(write: impl FnOnce(Events) -> F) -> Response {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    stream("text/event-stream; charset=utf-8", Some(ping), write)
}

/// The same as lines of JSON.
pub fn lines<F: Future<Output = ()> + Send + 'static>(write: impl FnOnce(Events) -> F) -> Response {
    stream("application/x-ndjson", None, write)
}

fn stream<F: Future<Output = ()> + Send + 'static>(
    kind: &'static str,
    ping: Option<Interval>,
    write: impl FnOnce(Events) -> F,
) -> Response {
    let (sender, events) = mpsc::channel(WAITING);
    tokio::spawn(write(Events(sender)));
    let mut response = (StatusCode::OK, Body::from_stream(Lines { events, ping })).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Lines {
    events: mpsc::Receiver<Bytes>,
    ping: Option<Interval>,
}

impl Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(event) = self.events.poll_recv(context) {
            self.ping.iter_mut().for_each(Interval::reset);
            return Poll::Ready(event.map(Ok));
        }
        let Some(ping) = &mut self.ping else { return Poll::Pending };
        ready!(ping.poll_tick(context));
        Poll::Ready(Some(Ok(Bytes::from_static(b": ping\n\n"))))
    }
}
