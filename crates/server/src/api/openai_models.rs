//! `/v1/models`.
use super::openai::json;
use crate::{error::Result, host::Model, route::Call};
use axum::response::Response;
use serde_json::{Value, json};

/// All models.
pub async fn list(call: Call) -> Result<Response> {
    let data: Vec<Value> = call.app.models.iter().map(|m| model(m)).collect();
    Ok(json(&json!({ "object": "list", "data": data })))
}

/// One of them.
pub async fn show(call: Call) -> Result<Response> {
    Ok(json(&model(&*call.app.model(&call.rest)?)))
}

fn model(m: &Model) -> Value {
    json!({ "id": m.name, "object": "model", "created": m.created, "owned_by": "local", "max_model_len": m.ctx })
}
