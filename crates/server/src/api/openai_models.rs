//! `/v1/models`, for OpenAI's clients and, by their header, for Anthropic's.
use super::openai::json;
use crate::{error::Result, host::Card, id, library::Held, route::Call};
use axum::response::Response;
use serde_json::{Value, json};

/// All models.
pub async fn list(call: Call) -> Result<Response> {
    let shape = shape(&call);
    let mut data: Vec<Value> = call.app.models.cards().iter().map(|m| shape(m)).collect();
    let anthropic = call.headers.contains_key("anthropic-version");
    data.extend(call.app.models.held().await.iter().map(|h| held(h, anthropic)));
    let ends = |m: Option<&Value>| m.map_or(Value::Null, |m| m["id"].clone());
    let (first, last) = (ends(data.first()), ends(data.last()));
    Ok(json(&json!({ "object": "list", "data": data, "has_more": false, "first_id": first, "last_id": last })))
}

/// One of them.
pub async fn show(call: Call) -> Result<Response> {
    Ok(json(&shape(&call)(&*call.app.card(&call.rest).await?)))
}

fn shape(call: &Call) -> fn(&Card) -> Value {
    if call.headers.contains_key("anthropic-version") { anthropic } else { openai }
}

/// One of the library that was not opened yet.
fn held(h: &Held, anthropic: bool) -> Value {
    match anthropic {
        true => {
            let created = id::rfc3339(h.modified);
            json!({ "type": "model", "id": h.name, "display_name": h.name, "created_at": created })
        }
        false => json!({ "id": h.name, "object": "model", "created": h.modified, "owned_by": "local" }),
    }
}

fn anthropic(m: &Card) -> Value {
    let created = id::rfc3339(m.created);
    json!({ "type": "model", "id": m.name, "display_name": m.name, "created_at": created, "max_input_tokens": m.ctx })
}

fn openai(m: &Card) -> Value {
    let mut shape =
        json!({ "id": m.name, "object": "model", "created": m.created, "owned_by": "local", "max_model_len": m.ctx });
    if let Some(parent) = &m.parent {
        shape["parent"] = parent.as_str().into();
    }
    shape
}
