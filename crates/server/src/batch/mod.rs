//! Batches: lines of a file answered one by one, behind whoever waits for an answer, until all are done, the time is over or the
//! client cancels; across restarts. A line is answered by the handler of its path, so its answer is that of the API. Does not own:
//! names and records on the disk (`store`).
mod input;
mod journal;

pub use input::endpoint;

use crate::{
    access::{self, Record},
    admission::Place,
    error::ApiError,
    id,
    route::{App, Call, batched},
    store::{Batch, Ending, Status, Store},
};
use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use http_body_util::BodyExt;
use input::{Input, Line, Span};
use journal::{Journal, Lost};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

/// How often a line looks for a place where there was none.
const POLL: Duration = Duration::from_millis(50);
/// Longest pause before a line that was told to come later is tried again.
const PAUSE: Duration = Duration::from_secs(10);
/// Before a batch whose disk failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Goes on with all batches that have not ended.
pub fn resume(app: &Arc<App>) {
    for id in app.store.iter().flat_map(|store| store.unfinished()) {
        start(app, id);
    }
}

/// Runs a batch beside whatever else the server does.
pub fn start(app: &Arc<App>, id: String) {
    let Some(store) = app.store.clone() else { return };
    let (app, mut stopping) = (app.clone(), store.stopping());
    store.clone().spawn(async move {
        while let Err(e) = attempt(&app, &store, &id).await {
            tracing::error!("{id} cannot go on, another try comes: {e}");
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = stopped(&mut stopping) => return,
            }
        }
    });
}

/// From wherever the batch is to its end, or to the stop of the server.
async fn attempt(app: &Arc<App>, store: &Arc<Store>, id: &str) -> io::Result<()> {
    let (batch, _) = store.watched(id).ok_or(io::ErrorKind::NotFound)?;
    if batch.ending.is_none() && !work(app, store, batch).await? {
        return Ok(());
    }
    let (store, id) = (store.clone(), id.to_string());
    blocking(move || store.publish(&id)).await
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Without a sender there is nobody who could go on either.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Answers lines until there is a reason to end, which is recorded; false where the server stops or nobody may ask.
async fn work(app: &Arc<App>, store: &Arc<Store>, batch: Batch) -> io::Result<bool> {
    let Some(tenant) = app.tenant(&batch.owner) else {
        tracing::warn!("{} rests: its key {:?} is none of this server's", batch.id, batch.owner);
        return Ok(false);
    };
    let mut run = match Run::open(app, store, batch, tenant).await? {
        Ok(run) => run,
        Err(done) => return Ok(done),
    };
    let ending = run.lines().await?;
    let (journal, store, id) = (run.journal.clone(), store.clone(), run.batch.id.clone());
    blocking(move || {
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.sync()?;
        let Some(ending) = ending else { return Ok(false) };
        let written = journal.lines().map(|n| n > 0);
        store.change(&id, |b| {
            if ending == Ending::Failed {
                let message = "the server keeps as many bytes of files as it may: what was done until then is kept";
                b.errors.push(crate::store::LineError {
                    code: "storage_quota_exceeded".into(),
                    line: None,
                    message: message.into(),
                    param: None,
                });
            }
            b.end(ending, written);
        })?;
        Ok(true)
    })
    .await
}

/// A batch under way.
struct Run {
    app: Arc<App>,
    store: Arc<Store>,
    batch: Batch,
    tenant: u64,
    path: PathBuf,
    spans: Vec<Span>,
    done: Vec<bool>,
    journal: Arc<Mutex<Journal>>,
}

/// What came of a line.
struct Answered {
    good: bool,
    text: String,
}

impl Run {
    /// Reads the input and what is done of it; where there is nothing to run, whether that was recorded as the end.
    async fn open(app: &Arc<App>, store: &Arc<Store>, batch: Batch, tenant: u64) -> io::Result<Result<Run, bool>> {
        let mut stopping = store.stopping();
        let one = tokio::select! {
            one = store.scans.acquire() => one.map_err(io::Error::other)?,
            () = stopped(&mut stopping) => return Ok(Err(false)),
        };
        let (kept, limits, asked) = (store.clone(), app.options.limits, batch.clone());
        let path = store.content(&batch.input_file_id);
        let from = path.clone();
        let opened = blocking(move || {
            let Input { lines, ids, errors } = input::scan(&from, &asked.endpoint, &limits)?;
            if !errors.is_empty() {
                kept.change(&asked.id, |b| {
                    b.errors = errors;
                    b.end(Ending::Failed, [false; 2]);
                })?;
                return Ok(None);
            }
            let (journal, done) = Journal::open(&kept.journals(&asked.id), &ids, kept.room())?;
            let [completed, failed] = journal.lines();
            asked.counts.completed.store(completed, SeqCst);
            asked.counts.failed.store(failed, SeqCst);
            let begun = kept.change(&asked.id, |b| {
                b.total = lines.len() as u64;
                b.in_progress_at = b.in_progress_at.or(Some(id::now_s()));
                if b.status == Status::Validating {
                    b.status = Status::InProgress;
                }
            })?;
            Ok(Some((begun, lines, journal, done)))
        })
        .await?;
        drop(one);
        let Some((batch, spans, journal, done)) = opened else { return Ok(Err(true)) };
        let (app, store, journal) = (app.clone(), store.clone(), Arc::new(Mutex::new(journal)));
        Ok(Ok(Run { app, store, batch, tenant, path, spans, done, journal }))
    }

    /// Answers what is left; why that ended, none where the server stops.
    async fn lines(&mut self) -> io::Result<Option<Ending>> {
        let mut stopping = self.store.stopping();
        let Some((_, changed)) = self.store.watched(&self.batch.id) else { return Ok(None) };
        let mut flight: JoinSet<io::Result<Answered>> = JoinSet::new();
        let mut places = HashMap::new();
        let mut next = 0;
        // What is in flight is dropped with this, and its tickets cancel themselves.
        loop {
            let notified = changed.notified();
            if self.store.watched(&self.batch.id).is_some_and(|(b, _)| b.status == Status::Cancelling) {
                return Ok(Some(Ending::Cancelled));
            }
            let left = Duration::from_secs(self.batch.expires_at.saturating_sub(id::now_s()));
            if left.is_zero() {
                drop(flight);
                return self.expire().await.map(Some);
            }
            while self.done.get(next) == Some(&true) {
                next += 1;
            }
            if next == self.spans.len() && flight.is_empty() {
                return Ok(Some(Ending::Completed));
            }
            tokio::select! {
                biased;
                () = stopped(&mut stopping) => return Ok(None),
                () = notified => {}
                () = sleep(left) => {}
                Some(ended) = flight.join_next_with_id() => {
                    let (task, answered) = match ended {
                        Ok((task, answered)) => (task, answered?),
                        Err(e) => {
                            let i = places.get(&e.id()).copied().unwrap_or_default();
                            tracing::error!("a request of {} ended by a bug: {e}", self.batch.id);
                            let bug = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed");
                            (e.id(), self.refused(i, &bug).await?)
                        }
                    };
                    let Some(i) = places.remove(&task) else { continue };
                    if let Some(ending) = self.write(i, answered).await? {
                        return Ok(Some(ending));
                    }
                }
                // First come, first served: batches share the places out line by line.
                permit = self.store.lines.clone().acquire_owned(), if next < self.spans.len() => {
                    let permit = permit.map_err(io::Error::other)?;
                    let line = line(self.app.clone(), self.path.clone(), self.spans[next], self.batch.endpoint.clone(), self.tenant);
                    let task = flight.spawn(async move {
                        let answered = line.await;
                        drop(permit);
                        answered
                    });
                    places.insert(task.id(), next);
                    next += 1;
                }
            }
        }
    }

    /// Puts down what came of line `i`.
    async fn write(&mut self, i: usize, answered: Answered) -> io::Result<Option<Ending>> {
        let (journal, counts) = (self.journal.clone(), self.batch.counts.clone());
        let full = blocking(move || {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            match journal.append(answered.good, &answered.text) {
                Ok(()) => {
                    let count: &AtomicU64 = if answered.good { &counts.completed } else { &counts.failed };
                    count.fetch_add(1, SeqCst);
                    Ok(false)
                }
                Err(Lost::Full) => Ok(true),
                Err(Lost::Disk(e)) => Err(e),
            }
        })
        .await?;
        self.done[i] = true;
        Ok(full.then_some(Ending::Failed))
    }

    async fn refused(&self, i: usize, e: &ApiError) -> io::Result<Answered> {
        let (path, span) = (self.path.clone(), self.spans[i]);
        let line = blocking(move || input::read(&path, span)).await?;
        Ok(said(&line.custom_id, id::random("req_"), e.status, &e.openai().to_string()))
    }

    /// Says of every line that is not done that its time is over.
    async fn expire(&mut self) -> io::Result<Ending> {
        for i in 0..self.spans.len() {
            if !self.done[i] {
                let (path, span) = (self.path.clone(), self.spans[i]);
                let line = blocking(move || input::read(&path, span)).await?;
                let message = "this request could not be executed before the completion window expired";
                let error = serde_json::json!({ "code": "batch_expired", "message": message });
                let out = Out {
                    id: id::random("batch_req_"),
                    custom_id: &line.custom_id,
                    response: None,
                    error: Some(error),
                };
                if let Some(ending) = self.write(i, Answered { good: false, text: text(&out) }).await? {
                    return Ok(ending);
                }
            }
        }
        Ok(Ending::Expired)
    }
}

/// A line of what comes out.
#[derive(Serialize)]
struct Out<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: String,
    body: &'a RawValue,
}

fn text(out: &Out<'_>) -> String {
    // Strings and JSON that was read before: there is nothing that could not be written.
    serde_json::to_string(out).unwrap_or_default()
}

fn said(custom_id: &str, request_id: String, status: StatusCode, body: &str) -> Answered {
    let body: &RawValue = serde_json::from_str(body).unwrap_or(RawValue::NULL);
    let response = Some(Response { status_code: status.as_u16(), request_id, body });
    let out = Out { id: id::random("batch_req_"), custom_id, response, error: None };
    Answered { good: status.is_success(), text: text(&out) }
}

/// Asks what a line asks, as soon as nobody else is kept from it.
async fn line(app: Arc<App>, path: PathBuf, span: Span, endpoint: String, tenant: u64) -> io::Result<Answered> {
    let Line { custom_id, body, .. } = blocking(move || input::read(&path, span)).await?;
    let body = Bytes::from(String::from(Box::<str>::from(body)));
    let mut pause = POLL;
    loop {
        let place = place(&app, body.len()).await;
        let name = id::random("req_");
        let (status, text) = ask(&app, &endpoint, &name, body.clone(), place, tenant).await;
        // Who is told to come later does so.
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return Ok(said(&custom_id, name, status, &text));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE);
    }
}

/// A place that others can spare.
async fn place(app: &App, bytes: usize) -> Place {
    loop {
        let queue = app.models.cards().iter().any(|m| m.metrics.now().load.waiting > 0);
        if let Some(place) = (!queue).then(|| app.admission.enter_behind(bytes, &app.options.limits)).flatten() {
            return place;
        }
        sleep(POLL).await;
    }
}

async fn ask(
    app: &Arc<App>,
    endpoint: &str,
    name: &str,
    body: Bytes,
    place: Place,
    tenant: u64,
) -> (StatusCode, String) {
    let call = Call {
        app: app.clone(),
        headers: HeaderMap::new(),
        body,
        rest: String::new(),
        query: String::new(),
        place,
        tenant,
    };
    let (path, answer) = match batched(endpoint) {
        Ok(found) => found,
        Err(e) => return (e.status, e.openai().to_string()),
    };
    let record = Record::line(app, name, path, app.owner(tenant));
    let answered = access::scope(record.clone(), answer(call)).await.inspect_err(|e| record.failed(e));
    let broken = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer was lost");
    let whole = match answered {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let text = body.collect().await.ok().and_then(|b| String::from_utf8(b.to_bytes().to_vec()).ok());
            text.filter(|t| serde_json::from_str::<&RawValue>(t).is_ok()).map(|t| (parts.status, t)).ok_or_else(broken)
        }
        Err(e) => Err(e),
    };
    let (status, text) = whole.unwrap_or_else(|e| (e.status, e.openai().to_string()));
    record.answered(status.as_u16());
    (status, text)
}
