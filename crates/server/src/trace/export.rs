//! Spans on their way to a collector: a queue with a bound, and a thread with a runtime of its own that sends what is in it, so
//! that no token waits for a collector. What cannot be sent is dropped and counted. Does not own: bodies (`otlp.rs`).
use super::{Span, Traces};
use axum::{
    body::Bytes,
    http::{Request, StatusCode, header},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc as plain,
    },
    thread,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

/// Tries to send a batch; between them 1, 2, 4 and 8 seconds.
const TRIES: u32 = 5;
/// Longest time between two of them, whatever the collector asks for.
const PAUSE: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read.
const ANSWER_BYTES: usize = 64 << 10;
/// How long a stop waits for what is yet to be sent.
const LAST: Duration = Duration::from_secs(3);

/// Takes spans and sends them.
pub struct Tracer {
    /// What is known of the collector and of this process.
    pub traces: Traces,
    counts: Arc<Counts>,
    queue: Mutex<Option<mpsc::UnboundedSender<Vec<Span>>>>,
    stop: watch::Sender<bool>,
    ended: Mutex<plain::Receiver<()>>,
}

#[derive(Default)]
struct Counts {
    /// Spans that wait or are being sent.
    waiting: AtomicUsize,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Tracer {
    /// Starts the thread. The collector is asked for nothing before there is a span.
    ///
    /// # Errors
    /// What the system says of another thread.
    pub fn start(traces: Traces) -> std::io::Result<Tracer> {
        let (queue, inbox) = mpsc::unbounded_channel();
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = plain::channel();
        let counts = Arc::new(Counts::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut exporter = Exporter { traces: traces.clone(), counts: counts.clone(), inbox, stopping, reached: true };
        let body = move || {
            runtime.block_on(exporter.run());
            let _ = end.send(());
        };
        thread::Builder::new().name("traces".into()).spawn(body)?;
        Ok(Tracer { traces, counts, queue: Mutex::new(Some(queue)), stop, ended: Mutex::new(ended) })
    }

    /// Takes the spans of a request, if there is room for them.
    pub fn take(&self, spans: Vec<Span>) {
        let (n, most) = (spans.len(), self.traces.waiting);
        let fits = |now: usize| now.checked_add(n).filter(|sum| *sum <= most);
        let room = self.counts.waiting.fetch_update(SeqCst, SeqCst, fits).is_ok();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !room || queue.as_ref().is_none_or(|queue| queue.send(spans).is_err()) {
            self.counts.dropped.fetch_add(n as u64, SeqCst);
        }
    }

    /// Sends what is left, for as long as [`LAST`].
    pub fn stop(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.stop.send_replace(true);
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST);
        let lost = self.counts.dropped.load(SeqCst) + self.counts.waiting.load(SeqCst) as u64;
        if lost > 0 {
            tracing::warn!(spans = lost, "spans did not reach the collector");
        }
    }

    /// As families of metrics.
    pub fn write(&self, out: &mut String) {
        for (name, help, n) in [
            ("pondera:spans_exported_total", "Spans that the collector took.", &self.counts.sent),
            ("pondera:spans_dropped_total", "Spans that nobody took.", &self.counts.dropped),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}", n.load(SeqCst));
        }
    }
}

struct Exporter {
    traces: Traces,
    counts: Arc<Counts>,
    inbox: mpsc::UnboundedReceiver<Vec<Span>>,
    stopping: watch::Receiver<bool>,
    /// Whether the last batch was taken: a collector that is away is told of once.
    reached: bool,
}

/// Why a batch was not taken.
struct Refused {
    why: String,
    /// Whether another try makes sense, and when the collector wants it.
    again: Option<Option<Duration>>,
}

impl Exporter {
    async fn run(&mut self) {
        while let Some(first) = self.inbox.recv().await {
            let (mut spans, due) = (first, Instant::now() + self.traces.delay);
            while spans.len() < self.traces.batch {
                tokio::select! {
                    more = self.inbox.recv() => match more {
                        Some(more) => spans.extend(more),
                        None => break,
                    },
                    () = sleep_until(due) => break,
                }
            }
            self.send(&spans).await;
            self.counts.waiting.fetch_sub(spans.len(), SeqCst);
        }
    }

    async fn send(&mut self, spans: &[Span]) {
        let body = Bytes::from(self.traces.encoding.request(&self.traces.resource, spans));
        let (mut tries, n) = (0, spans.len() as u64);
        let refused = loop {
            tries += 1;
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(n);
                    self.counts.sent.fetch_add(n - rejected, SeqCst);
                    self.counts.dropped.fetch_add(rejected, SeqCst);
                    if !std::mem::replace(&mut self.reached, true) {
                        tracing::info!("the collector takes spans again");
                    }
                    return;
                }
                Err(refused) => match refused.again {
                    Some(asked) if tries < TRIES && !*self.stopping.borrow() => {
                        // Not all at the same moment: up to a quarter more.
                        let pause = Duration::from_secs(1 << (tries - 1)).max(asked.unwrap_or_default()).min(PAUSE);
                        let more = pause.mul_f64(f64::from(super::random::<8>()[0]) / 1024.0);
                        tokio::select! {
                            () = sleep(pause + more) => {}
                            _ = self.stopping.wait_for(|stop| *stop) => {}
                        }
                    }
                    _ => break refused,
                },
            }
        };
        self.counts.dropped.fetch_add(n, SeqCst);
        if std::mem::replace(&mut self.reached, false) {
            let to = format!("{}:{}", self.traces.host, self.traces.port);
            tracing::warn!(
                collector = to,
                spans = n,
                "the collector took no spans, which are dropped: {}",
                refused.why
            );
        }
    }

    /// One try; how many spans the collector rejected.
    async fn post(&self, body: Bytes) -> Result<u64, Refused> {
        let again = |why: String| Refused { why, again: Some(None) };
        match timeout(self.traces.timeout, self.exchange(body)).await {
            Err(_) => Err(again("no answer in time".into())),
            Ok(Err(e)) => Err(again(e)),
            Ok(Ok((status, _, answer))) if status.is_success() => Ok(self.traces.encoding.rejected(&answer)),
            Ok(Ok((status, asked, _))) => {
                let again = matches!(status.as_u16(), 429 | 502 | 503 | 504).then_some(asked);
                Err(Refused { why: format!("it answered {status}"), again })
            }
        }
    }

    /// Status, when to come again, body.
    async fn exchange(&self, body: Bytes) -> Result<(StatusCode, Option<Duration>, Bytes), String> {
        let t = &self.traces;
        let stream = TcpStream::connect((t.host.as_str(), t.port)).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let connection = tokio::spawn(connection);
        let mut request = Request::post(t.path.as_str())
            .header(header::HOST, &t.authority)
            .header(header::CONTENT_TYPE, t.encoding.content_type())
            .header(header::USER_AGENT, concat!("pondera/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        for (name, value) in &t.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let asked = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let (parts, body) = response.into_parts();
        let answer = Limited::new(body, ANSWER_BYTES).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        connection.abort();
        Ok((parts.status, asked.map(Duration::from_secs), answer))
    }
}
