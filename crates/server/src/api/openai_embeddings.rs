//! `/v1/embeddings`.
use super::openai::{TextsOrTokens, json, parse};
use super::rest::{Rest, refuse};
use crate::{
    chat::encode_text,
    error::{ApiError, Result},
    host::Model,
    job::short,
    route::Call,
};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// Most inputs that the API documents.
const INPUTS: usize = 2048;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "EmbeddingRequest", deny_unknown_fields)]
pub struct Body {
    model: String,
    input: TextsOrTokens,
    encoding_format: Option<String>,
    dimensions: Option<i64>,
    #[serde(rename = "user")]
    _user: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: Rest,
}

/// Answers.
pub async fn answer(mut call: Call) -> Result<Response> {
    let body: Body = parse(&call.body)?;
    refuse(&body.rest, &[])?;
    let model = call.app.model(&body.model).await?;
    let base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            return Err(ApiError::invalid(
                "encoding_format",
                format!("{:?} is neither float nor base64", short(other)),
            ));
        }
    };
    if body.dimensions.is_some() {
        return Err(ApiError::unsupported("dimensions", "the model's vectors have the length that they have"));
    }
    let inputs = tokens(body.input, &model).await?;
    let total: usize = inputs.iter().map(Vec::len).sum();
    inputs.iter().try_for_each(|ids| model.fits("input", ids.len()))?;
    call.place.grow(0, total, &call.app.options.limits)?;
    let mut data = Vec::new();
    for (i, ids) in inputs.into_iter().enumerate() {
        let vector = model.embed(ids).await?;
        let vector = if base64 { Value::String(encode_base64(&vector)) } else { json!(vector) };
        data.push(json!({ "object": "embedding", "index": i, "embedding": vector }));
    }
    let usage = json!({ "prompt_tokens": total, "total_tokens": total });
    Ok(json(&json!({ "object": "list", "data": data, "model": model.name, "usage": usage })))
}

async fn tokens(input: TextsOrTokens, model: &Model) -> Result<Vec<Vec<u32>>> {
    let texts = match input {
        TextsOrTokens::Text(text) => vec![text],
        TextsOrTokens::Texts(list) => list,
        TextsOrTokens::Tokens(ids) => return bounded(vec![ids]),
        TextsOrTokens::ManyTokens(list) => return bounded(list),
    };
    let mut all = Vec::new();
    for text in bounded(texts)? {
        all.push(encode_text(&model.words, (model.embedding.prepare)(&text)).await?);
    }
    Ok(all)
}

fn bounded<T>(list: Vec<T>) -> Result<Vec<T>> {
    match list.len() {
        0 => Err(ApiError::invalid("input", "expected at least one")),
        n if n > INPUTS => Err(ApiError::invalid("input", format!("expected at most {INPUTS}, got {n}"))),
        _ => Ok(list),
    }
}

/// Little-endian f32, as the API's clients read them.
fn encode_base64(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= three.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_become_base64() {
        assert_eq!(encode_base64(&[1.0]), "AACAPw==");
        assert_eq!(encode_base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(encode_base64(&[1.0, -2.5, 0.0]), "AACAPwAAIMAAAAAA");
    }
}
