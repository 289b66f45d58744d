//! What the page asks beside the dialects: what a model is, and how busy the server is. `web/README.md` has the shapes.
use super::openai::json;
use crate::{
    error::{ApiError, Result},
    host::Card,
    route::Call,
};
use axum::response::Response;
use pondera_engine::PAGE;
use serde_json::{Value, json};

/// `?name=`: the model of that name.
pub async fn model(call: Call) -> Result<Response> {
    let name = parameter(&call.query, "name").ok_or_else(|| ApiError::invalid("name", "missing"))?;
    Ok(json(&about(&*call.app.card(&name).await?)))
}

fn about(m: &Card) -> Value {
    let f = &m.facts;
    let (heads, kv_heads, head_dim) = f.heads.map_or((None, None, None), |(a, b, c)| (Some(a), Some(b), Some(c)));
    let types: Vec<Value> = f.formats.iter().map(|(name, bytes)| json!({ "type": name, "bytes": bytes })).collect();
    json!({
        "name": m.name, "family": f.family, "format": f.kind, "layers": f.layers, "hidden_size": f.hidden_size,
        "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "vocab_size": f.vocab_size,
        "experts": f.experts.map(|(total, active)| json!({ "total": total, "active": active })),
        "parameters": { "total": f.parameters, "active": f.active },
        "weights": { "bytes": f.bytes, "types": types },
        // An encoder keeps nothing of a text.
        "kv": (!m.encoder).then(|| json!({ "bytes_per_token": f.kv.0, "type": f.kv.1 })),
        "context": { "served": m.ctx, "trained": f.trained },
        "license": f.licence, "template": m.template.is_some(), "encoder": m.encoder,
    })
}

/// How busy each model is.
pub async fn load(call: Call) -> Result<Response> {
    let open = call.app.models.residents();
    let bytes = |m: &Card| {
        open.iter().find(|r| r.card.name == m.name || m.parent.as_ref() == Some(&r.card.name)).map(|r| r.bytes)
    };
    let models: Vec<Value> = call.app.models.cards().iter().map(|m| busy(m, bytes(m))).collect();
    let memory = json!({ "budget_bytes": call.app.models.budget() });
    Ok(json(&json!({ "uptime_s": call.app.started.elapsed().as_secs(), "memory": memory, "models": models })))
}

fn busy(m: &Card, bytes: Option<u64>) -> Value {
    let now = m.metrics.now();
    let kv = json!({ "used_pages": now.load.pages_used, "total_pages": now.load.pages, "page_tokens": PAGE });
    json!({
        "name": m.name, "open": bytes.is_some(), "bytes": bytes, "running": now.load.running, "waiting": now.load.waiting,
        "kv": (!m.encoder).then_some(kv), "prompt_tokens_per_second": now.read,
        "generation_tokens_per_second": now.written, "requests_total": now.submitted,
    })
}

/// A parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            b'+' => b' ',
            b => b,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::parameter;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(parameter("a=1&name=org%2Fa+model%C3%A9", "name").as_deref(), Some("org/a model\u{e9}"));
        for bad in ["", "name", "names=x", "name=%2", "name=%zz", "name=%ff"] {
            assert_eq!(parameter(bad, "name"), None, "{bad}");
        }
    }
}
