//! `/v1/files`: what batches read and write. A file goes to the disk as it comes, and from there as it is read.
use super::openai::json;
use crate::{
    chat::apart,
    error::{ApiError, Result},
    job::short,
    multipart::{Event, Form},
    route::{App, Call, Upload},
    store::{BATCH, Store},
};
use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use futures_core::Stream;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    fs::OpenOptions,
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

/// Most bytes of a file's name.
const NAME_BYTES: usize = 255;
/// Bytes that are sent at once.
const PIECE: usize = 128 << 10;
/// How long a client may read nothing.
const READING: Duration = Duration::from_secs(30);

/// The folder of files, if there is one.
///
/// # Errors
/// 404 that says how to have it.
pub fn store(app: &App) -> Result<&Arc<Store>> {
    app.store.as_ref().ok_or_else(|| {
        let message = "this server keeps no files: start it with --data DIR";
        ApiError::new(StatusCode::NOT_FOUND, message).code("no_data_folder")
    })
}

/// Takes a file.
pub async fn upload(call: Call, mut upload: Upload) -> Result<Response> {
    let store = store(&call.app)?.clone();
    let most = call.app.options.limits.file_bytes;
    let mut form = Form::new(&call.headers)?;
    let (draft, mut room) = (store.draft(), store.room());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    let lost = |e: std::io::Error| {
        tracing::error!("an upload could not be written: {e}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be kept; the server's log says why")
    };
    let mut file = options.open(draft.path()).await.map_err(lost)?;
    let (mut field, mut purpose, mut filename, mut bytes) = (String::new(), None::<Vec<u8>>, None, 0);
    while let Some(piece) = upload.next().await? {
        for event in form.push(&piece)? {
            match event {
                Event::Part { name, filename: called } => {
                    let twice = match name.as_str() {
                        "purpose" => purpose.replace(Vec::new()).is_some(),
                        "file" => filename.replace(called.unwrap_or_else(|| "upload".into())).is_some(),
                        "expires_after[anchor]" | "expires_after[seconds]" => {
                            return Err(ApiError::unsupported("expires_after", "files stay until they are deleted"));
                        }
                        other => return Err(ApiError::invalid(&short(other), "no such field")),
                    };
                    if twice {
                        return Err(ApiError::invalid(&name, "given twice"));
                    }
                    field = name;
                }
                Event::Data(data) if field == "file" => {
                    bytes += data.len();
                    if bytes > most {
                        let message = format!("the file is larger than {most} bytes");
                        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
                    }
                    room.grow(data.len() as u64)?;
                    file.write_all(&data).await.map_err(lost)?;
                }
                Event::Data(data) => {
                    let value = purpose.get_or_insert_default();
                    value.extend(data);
                    if value.len() > NAME_BYTES {
                        return Err(ApiError::invalid("purpose", "too long"));
                    }
                }
            }
        }
    }
    if !form.is_whole() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "the form ended early"));
    }
    match purpose.as_deref().map(String::from_utf8_lossy).as_deref() {
        Some(BATCH) => {}
        Some(other) => {
            return Err(ApiError::unsupported(
                "purpose",
                &format!("{:?} is not supported: files are for batches", short(other)),
            ));
        }
        None => return Err(ApiError::invalid("purpose", "missing")),
    }
    let filename = filename.ok_or_else(|| ApiError::invalid("file", "missing"))?;
    if filename.len() > NAME_BYTES || filename.chars().any(char::is_control) {
        return Err(ApiError::invalid(
            "file",
            format!("expected a name of at most {NAME_BYTES} bytes, without control characters"),
        ));
    }
    if bytes == 0 {
        return Err(ApiError::invalid("file", "it is empty"));
    }
    file.flush().await.map_err(lost)?;
    drop(file);
    let owner = call.app.owner(call.tenant).to_string();
    let kept = apart(move || store.keep(draft, room, &owner, filename, BATCH)).await?;
    Ok(json(&kept.show()))
}

/// A page of a list, whose oldest comes first.
///
/// # Errors
/// 400 for a page that cannot be.
pub fn page(query: &Query, mut list: Vec<Value>, limit: usize, most: usize) -> Result<Response> {
    let limit = match &query.limit {
        None => limit,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| ApiError::invalid("limit", format!("expected 1 to {most}, got {:?}", short(text))))?,
    };
    match query.order.as_deref() {
        None | Some("desc") => list.reverse(),
        Some("asc") => {}
        Some(other) => return Err(ApiError::invalid("order", format!("{:?} is neither asc nor desc", short(other)))),
    }
    let from = match &query.after {
        None => 0,
        Some(after) => {
            let place = list.iter().position(|v| v["id"] == *after);
            place.ok_or_else(|| ApiError::invalid("after", "there is no such entry"))? + 1
        }
    };
    let has_more = list.len() > from + limit;
    let data: Vec<Value> = list.into_iter().skip(from).take(limit).collect();
    let id = |v: Option<&Value>| v.map_or(Value::Null, |v| v["id"].clone());
    Ok(json(&json!({
        "object": "list", "first_id": id(data.first()), "last_id": id(data.last()), "has_more": has_more, "data": data,
    })))
}

/// What lists are asked for.
#[derive(Debug, Default)]
pub struct Query {
    after: Option<String>,
    limit: Option<String>,
    order: Option<String>,
    purpose: Option<String>,
}

impl Query {
    /// Values here are ids, numbers and words: one that needs an escape is none of them, and stays as it is.
    ///
    /// # Errors
    /// 400 for a parameter that is not `known`.
    pub fn parse(text: &str, known: &[&str]) -> Result<Query> {
        let mut query = Query::default();
        for (name, value) in text.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))) {
            let place = match name {
                name if !known.contains(&name) => {
                    return Err(ApiError::invalid(&short(name), "no such parameter").code("unknown_parameter"));
                }
                "after" => &mut query.after,
                "limit" => &mut query.limit,
                "order" => &mut query.order,
                _ => &mut query.purpose,
            };
            *place = Some(value.to_string()).filter(|v| !v.is_empty());
        }
        Ok(query)
    }
}

/// Files of whoever asks.
pub async fn list(call: Call) -> Result<Response> {
    let query = Query::parse(&call.query, &["after", "limit", "order", "purpose"])?;
    let files = store(&call.app)?.files(call.app.owner(call.tenant));
    let wanted = |purpose: &str| query.purpose.as_deref().is_none_or(|p| p == purpose);
    let list = files.iter().filter(|f| wanted(&f.purpose)).map(|f| f.show()).collect();
    page(&query, list, 10_000, 10_000)
}

/// A file, or its content.
pub async fn show(call: Call) -> Result<Response> {
    let (store, owner) = (store(&call.app)?.clone(), call.app.owner(call.tenant));
    match call.rest.strip_suffix("/content") {
        None => Ok(json(&store.file(owner, &call.rest)?.show())),
        Some(id) => {
            let kept = store.file(owner, id)?;
            let gone = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read");
            let file = tokio::fs::File::open(store.content(&kept.id)).await.map_err(gone)?;
            Ok(content(file, kept.bytes, call.place))
        }
    }
}

/// A file's content, read as the client reads.
fn content<P: Send + 'static>(file: tokio::fs::File, bytes: u64, place: P) -> Response {
    let (sender, pieces) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut file = file.take(bytes);
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            match (&mut file).take(PIECE as u64).read_to_end(&mut piece).await {
                // Fewer bytes than were announced: the connection ends, and the client sees it.
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if !matches!(timeout(READING, sender.send(Bytes::from(piece))).await, Ok(Ok(()))) {
                break;
            }
        }
        drop(place);
    });
    let mut response = Response::new(Body::from_stream(Pieces(pieces)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // What a client brought is no page of this server.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    response
}

struct Pieces(mpsc::Receiver<Bytes>);

impl Stream for Pieces {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}

/// Forgets a file.
pub async fn delete(call: Call) -> Result<Response> {
    let (store, owner, id) = (store(&call.app)?.clone(), call.app.owner(call.tenant).to_string(), call.rest);
    let gone = json!({ "id": id, "object": "file", "deleted": true });
    apart(move || store.delete(&owner, &id)).await?;
    Ok(json(&gone))
}
