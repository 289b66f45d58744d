//! `/v1/models`, for OpenAI's clients and, by their header, for Anthropic's.
use super::openai::json;
use crate::{error::Result, host::Model, id, route::Call};
use axum::response::Response;
use serde_json::{Value, json};

/// All models.
pub async fn list(call: Call) -> Result<Response> {
    let shape = shape(&call);
    let data: Vec<Value> = call.app.models.iter().map(|m| shape(m)).collect();
    let ends = |m: Option<&Value>| m.map_or(Value::Null, |m| m["id"].clone());
    let (first, last) = (ends(data.first()), ends(data.last()));
    Ok(json(&json!({ "object": "list", "data": data, "has_more": false, "first_id": first, "last_id": last })))
}

/// One of them.
pub async fn show(call: Call) -> Result<Response> {
    Ok(json(&shape(&call)(&*call.app.model(&call.rest)?)))
}

fn shape(call: &Call) -> fn(&Model) -> Value {
    if call.headers.contains_key("anthropic-version") { anthropic } else { openai }
}

fn anthropic(m: &Model) -> Value {
    let created = id::rfc3339(m.created);
    json!({ "type": "model", "id": m.name, "display_name": m.name, "created_at": created, "max_input_tokens": m.ctx })
}

fn openai(m: &Model) -> Value {
    let mut shape =
        json!({ "id": m.name, "object": "model", "created": m.created, "owned_by": "local", "max_model_len": m.ctx });
    if let Some(parent) = &m.parent {
        shape["parent"] = parent.as_str().into();
    }
    shape
}
