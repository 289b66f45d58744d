//! `/v1/batches`.
use super::rest::{Rest, refuse};
use super::{
    openai::{json, parse},
    openai_files::{Query, page, store},
};
use crate::{
    batch,
    chat::apart,
    error::{ApiError, Result},
    job::short,
    route::Call,
    store::{BATCH, Batch},
};
use axum::{http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Documented fields that are refused by name where they are given.
const REFUSED: &[&str] = &["output_expires_after"];
/// What the API documents of `metadata`: entries, bytes of a name, bytes of a value.
const METADATA: (usize, usize, usize) = (16, 64, 512);

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "BatchRequest", deny_unknown_fields)]
pub struct Body {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    metadata: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// Begins one.
pub async fn create(call: Call) -> Result<Response> {
    let store = store(&call.app)?.clone();
    let body: Body = parse(&call.body)?;
    refuse(&body.rest, REFUSED)?;
    batch::endpoint(&body.endpoint)?;
    if body.completion_window != "24h" {
        let message = format!("expected \"24h\", got {:?}", short(&body.completion_window));
        return Err(ApiError::invalid("completion_window", message));
    }
    let metadata = body.metadata.as_ref();
    let long = |(k, v): (&String, &String)| k.chars().count() > METADATA.1 || v.chars().count() > METADATA.2;
    if metadata.is_some_and(|m| m.len() > METADATA.0 || m.iter().any(long)) {
        let (n, names, values) = METADATA;
        let message =
            format!("expected at most {n} entries, names of up to {names} and values of up to {values} characters");
        return Err(ApiError::invalid("metadata", message));
    }
    let owner = call.app.owner(call.tenant).to_string();
    if store.file(&owner, &body.input_file_id)?.purpose != BATCH {
        return Err(ApiError::invalid("input_file_id", "expected a file of purpose \"batch\""));
    }
    let batch = Batch::new(&owner, body.endpoint, body.input_file_id, body.metadata);
    let batch = apart(move || store.begin(batch)).await?;
    batch::start(&call.app, batch.id.clone());
    Ok(json(&batch.show()))
}

/// Those of whoever asks.
pub async fn list(call: Call) -> Result<Response> {
    let query = Query::parse(&call.query, &["after", "limit"])?;
    let batches = store(&call.app)?.batches(call.app.owner(call.tenant));
    page(&query, batches.iter().map(Batch::show).collect(), 20, 100)
}

/// One of them.
pub async fn show(call: Call) -> Result<Response> {
    Ok(json(&store(&call.app)?.batch(call.app.owner(call.tenant), &call.rest)?.show()))
}

/// Asks one to end.
pub async fn cancel(call: Call) -> Result<Response> {
    let store = store(&call.app)?.clone();
    let Some(id) = call.rest.strip_suffix("/cancel").map(String::from) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "there is no such path").code("not_found"));
    };
    let owner = call.app.owner(call.tenant).to_string();
    Ok(json(&apart(move || store.cancel(&owner, &id)).await?.show()))
}
