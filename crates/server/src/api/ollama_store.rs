//! `/api/pull`, `/api/copy`, `/api/delete`: what changes the store, where the server was started with `--library`.
use super::openai::{json, parse};
use super::rest::{Rest, refuse};
use crate::{
    chat::apart,
    error::{ApiError, Result},
    library::{Library, Pulling},
    route::Call,
    sse,
};
use axum::{body::Body, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Between two lines about one file.
const PACE: Duration = Duration::from_millis(250);

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaPullRequest", deny_unknown_fields)]
pub struct PullBody {
    model: Option<String>,
    name: Option<String>,
    stream: Option<bool>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaCopyRequest", deny_unknown_fields)]
pub struct CopyBody {
    source: String,
    destination: String,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaDeleteRequest", deny_unknown_fields)]
pub struct DeleteBody {
    model: Option<String>,
    name: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// `/api/pull`. A client that goes away ends it; what has come so far is kept.
pub async fn pull(call: Call) -> Result<Response> {
    let body: PullBody = parse(&call.body)?;
    refuse(&body.rest, &["insecure", "username", "password"])?;
    let (library, name) = (library(&call)?, named(body.model, body.name)?);
    let (lines, mut coming) = mpsc::channel::<Value>(64);
    let left = Arc::new(AtomicBool::new(false));
    let gone = left.clone();
    let work = apart(move || {
        let mut last: Option<(String, Instant)> = None;
        let mut progress = |p: &Pulling| {
            let told = last.as_ref().is_some_and(|(file, at)| match p {
                Pulling::File { name, done, total } => file == name && done < total && at.elapsed() < PACE,
                _ => false,
            });
            if let Pulling::File { name, .. } = p
                && !told
            {
                last = Some((name.clone(), Instant::now()));
            }
            // A slow client misses lines, and the pull does not wait for it.
            let closed = !told && matches!(lines.try_send(line(p)), Err(mpsc::error::TrySendError::Closed(_)));
            if closed || gone.load(SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        library.pull(&name, &mut progress).map_err(ApiError::from)
    });
    if body.stream == Some(false) {
        let _leave = Leave(left);
        // Nobody reads the lines, but the pull takes a closed channel for a client that is gone.
        let drain = async { while coming.recv().await.is_some() {} };
        let (done, ()) = tokio::join!(work, drain);
        done?;
        return Ok(json(&json!({ "status": "success" })));
    }
    let place = call.place;
    Ok(sse::lines(|events| async move {
        let _leave = Leave(left);
        let mut work = std::pin::pin!(work);
        let mut done = None;
        loop {
            tokio::select! {
                biased;
                said = coming.recv() => match said {
                    Some(value) if events.json_line(&value).await.is_ok() => {}
                    Some(_) => break,
                    // The pull has ended, and all of its lines were read.
                    None => {
                        let done = match done.take() {
                            Some(done) => done,
                            None => work.await,
                        };
                        let last = done.map_or_else(|e: ApiError| e.ollama(), |()| json!({ "status": "success" }));
                        let _ = events.json_line(&last).await;
                        break;
                    }
                },
                ended = &mut work, if done.is_none() => done = Some(ended),
                () = events.gone() => break,
            }
        }
        drop(place);
    }))
}

/// Tells a pull that its client is gone.
struct Leave(Arc<AtomicBool>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn line(p: &Pulling) -> Value {
    match p {
        Pulling::Listing => json!({ "status": "pulling manifest" }),
        Pulling::File { name, done, total } => {
            json!({ "status": format!("pulling {name}"), "digest": name, "total": total, "completed": done })
        }
        Pulling::Verifying => json!({ "status": "verifying sha256 digest" }),
    }
}

/// `/api/copy`.
pub async fn copy(call: Call) -> Result<Response> {
    let body: CopyBody = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    let library = library(&call)?;
    let plain = body.destination.strip_suffix(":latest").unwrap_or(&body.destination);
    if call.app.models.serves(plain) {
        return Err(ApiError::invalid("destination", "a model of this name is served"));
    }
    apart(move || Ok(library.copy(&body.source, &body.destination)?)).await?;
    Ok(Response::new(Body::empty()))
}

/// `/api/delete`.
pub async fn delete(call: Call) -> Result<Response> {
    let body: DeleteBody = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    let (library, name) = (library(&call)?, named(body.model, body.name)?);
    let plain = name.strip_suffix(":latest").unwrap_or(&name).to_string();
    let started = || ApiError::invalid("model", "the server was started with this model");
    if call.app.models.serves(&plain) {
        return Err(started());
    }
    let (asked, shelf) = (name.clone(), library.clone());
    let placed = apart(move || Ok(shelf.place(&asked)?)).await?;
    let link = match placed {
        Some(placed) if !placed.link && call.app.models.uses(&placed.root) => return Err(started()),
        placed => placed.is_some_and(|p| p.link),
    };
    apart(move || Ok(library.delete(&name)?)).await?;
    // What runs ends first; its files stay with it until then.
    let gone = |file: &std::path::PathBuf| !file.exists();
    call.app.models.forget(|spec| spec.name == plain || !link && spec.file.as_ref().is_some_and(gone));
    Ok(Response::new(Body::empty()))
}

/// What would write a model, which this server does not do.
pub async fn refused(_: Call) -> Result<Response> {
    Err(ApiError::new(StatusCode::BAD_REQUEST, "this server neither makes nor sends models").code("not_supported"))
}

fn library(call: &Call) -> Result<Arc<dyn Library>> {
    let none = || {
        let what = "this server serves the models that it was started with; --library opens the machine's store";
        ApiError::new(StatusCode::BAD_REQUEST, what).code("not_supported")
    };
    call.app.options.library.clone().ok_or_else(none)
}

/// The name, wherever a client writes it.
fn named(model: Option<String>, name: Option<String>) -> Result<String> {
    let name = model.filter(|n| !n.is_empty()).or(name).unwrap_or_default();
    if name.is_empty() { Err(ApiError::invalid("model", "missing")) } else { Ok(name) }
}
