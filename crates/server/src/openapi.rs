//! The OpenAPI document: made from the types that bodies are read into; a test holds it against the table of routes.
use crate::{api, error::Result, route::Call};
use axum::response::Response;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The schema of a body.
type Schema = fn(&mut SchemaGenerator) -> Value;

/// What the document says of a route beyond the table's own words.
struct Entry {
    method: &'static str,
    /// As the table has it.
    route: &'static str,
    /// As clients write it.
    path: &'static str,
    summary: &'static str,
    body: Option<Schema>,
    /// What an answer looks like.
    answer: Answer,
}

/// How an answer is sent.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Json,
    /// JSON, or server-sent events where a stream is asked for.
    Events,
    /// JSON, or lines of JSON.
    Lines,
    Text,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

macro_rules! entries {
    ($($method:literal $route:literal $(as $path:literal)? $summary:literal $answer:ident $($body:path)?;)*) => {
        const ENTRIES: &[Entry] = &[$(Entry {
            method: $method,
            route: $route,
            path: entries!(@path $route $($path)?),
            summary: $summary,
            body: entries!(@body $($body)?),
            answer: Answer::$answer,
        }),*];
    };
    (@path $route:literal) => { $route };
    (@path $route:literal $path:literal) => { $path };
    (@body) => { None };
    (@body $body:path) => { Some(of::<$body>) };
}

entries! {
    "GET" "/" "The page, or a line that says that somebody is here" Text;
    "GET" "/health" "The process answers" Json;
    "GET" "/ready" "Requests will be answered" Json;
    "GET" "/metrics" "What is counted, as Prometheus text" Text;
    "GET" "/version" "The program" Json;
    "GET" "/openapi.json" "This document" Json;
    "GET" "/pondera/model" "What a model is" Json;
    "GET" "/pondera/load" "How busy the server is" Json;
    "POST" "/tokenize" "Tokens of a text" Json api::operations::Text;
    "POST" "/detokenize" "Text of tokens" Json api::operations::Tokens;
    "POST" "/apply-template" "The text that a conversation becomes" Json api::openai_chat::Body;
    "GET" "/v1/models" "The models that are served" Json;
    "GET" "/v1/models/*" as "/v1/models/{model}" "One of them" Json;
    "POST" "/v1/chat/completions" "The next message of a conversation" Events api::openai_chat::Body;
    "POST" "/v1/completions" "A text that goes on" Events api::openai_completions::Body;
    "POST" "/v1/responses" "Items in, items out" Events api::openai_responses::Body;
    "GET" "/v1/responses/*" as "/v1/responses/{response}" "A stored response" Json;
    "GET" "/v1/responses/*" as "/v1/responses/{response}/input_items" "What was asked" Json;
    "DELETE" "/v1/responses/*" as "/v1/responses/{response}" "Forgets a response" Json;
    "POST" "/v1/responses/*" as "/v1/responses/{response}/cancel" "Refused: no response is made in the background" Json;
    "POST" "/v1/embeddings" "Vectors of texts" Json api::openai_embeddings::Body;
    "POST" "/v1/files" "A file for batches: a form with `purpose` and `file`" Json;
    "GET" "/v1/files" "Files" Json;
    "GET" "/v1/files/*" as "/v1/files/{file}" "A file" Json;
    "GET" "/v1/files/*" as "/v1/files/{file}/content" "What is in it" Text;
    "DELETE" "/v1/files/*" as "/v1/files/{file}" "Deletes a file" Json;
    "POST" "/v1/batches" "Answers every line of a file" Json api::openai_batches::Body;
    "GET" "/v1/batches" "Batches" Json;
    "GET" "/v1/batches/*" as "/v1/batches/{batch}" "How far a batch is" Json;
    "POST" "/v1/batches/*" as "/v1/batches/{batch}/cancel" "Ends a batch" Json;
    "POST" "/v1/messages" "The next message of a conversation, for clients of Anthropic" Events api::anthropic::Body;
    "POST" "/v1/messages/count_tokens" "How many tokens a conversation has" Json api::anthropic::Body;
    "POST" "/api/chat" "The next message of a conversation, for clients of Ollama" Lines api::ollama::ChatBody;
    "POST" "/api/generate" "An answer to a text" Lines api::ollama::GenerateBody;
    "POST" "/api/embed" "Vectors of texts" Json api::ollama::EmbedBody;
    "POST" "/api/embeddings" "The vector of a text, as earlier clients ask for it" Json api::ollama::EmbeddingsBody;
    "POST" "/api/show" "What a model is" Json api::ollama::ShowBody;
    "GET" "/api/tags" "The models that are served" Json;
    "GET" "/api/ps" "The models that are loaded" Json;
    "GET" "/api/version" "The program" Json;
    "POST" "/api/pull" "Fetches a model, where the server was started with --library" Lines api::ollama_store::PullBody;
    "POST" "/api/push" "Refused" Json;
    "POST" "/api/create" "Refused" Json;
    "POST" "/api/copy" "Gives a model a further name" Json api::ollama_store::CopyBody;
    "DELETE" "/api/delete" "Removes a model" Json api::ollama_store::DeleteBody;
}

/// `GET /openapi.json`.
pub async fn show(call: Call) -> Result<Response> {
    let mut document = document();
    let cards = call.app.models.cards();
    let names: Vec<&str> = cards.iter().map(|m| m.name.as_str()).collect();
    name_models(&mut document, &names);
    Ok(api::openai::json(&document))
}

/// Says which models there are, wherever one is asked for.
fn name_models(document: &mut Value, names: &[&str]) {
    let one = json!({ "type": "string", "enum": names });
    for schema in document["components"]["schemas"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(model) = schema["properties"].get_mut("model") {
            *model = one.clone();
        }
    }
    for path in ["/v1/models/{model}", "/pondera/model"] {
        document["paths"][path]["get"]["parameters"][0]["schema"] = one.clone();
    }
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for entry in ENTRIES {
        let operation = operation(entry, &mut generator);
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        path[entry.method.to_lowercase()] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pondera", "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0 OR MIT" },
            "description": "A model behind the APIs of OpenAI, Anthropic and Ollama. A field that is given and not honoured is an error by name.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "key": [] }, {}],
    })
}

fn operation(entry: &Entry, generator: &mut SchemaGenerator) -> Value {
    let any = json!({ "schema": {} });
    let mut content = Map::new();
    if entry.answer != Answer::Text {
        content.insert("application/json".into(), any.clone());
    }
    match entry.answer {
        Answer::Json => {}
        Answer::Events => drop(content.insert("text/event-stream".into(), any.clone())),
        Answer::Lines => drop(content.insert("application/x-ndjson".into(), any.clone())),
        Answer::Text => {
            content.insert("text/plain".into(), any.clone());
            content.insert("text/html".into(), any.clone());
        }
    }
    let refused =
        json!({ "description": "Why not, in the shape of the path's API", "content": { "application/json": any } });
    let mut out = json!({
        "summary": entry.summary,
        "operationId": entry.path.trim_matches('/').replace(['/', '{', '}', '.'], "_") + "_" + &entry.method.to_lowercase(),
        "responses": {
            "200": { "description": "The answer", "content": content },
            "4XX": refused, "503": refused,
        },
    });
    let names = entry.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
        .collect();
    if entry.route == "/pondera/model" {
        parameters.push(json!({ "name": "name", "in": "query", "required": true, "schema": { "type": "string" } }));
    }
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if let Some(body) = entry.body {
        out["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body(generator) } } });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::ROUTES;

    /// No part of the API: what the page is made of.
    const PAGE: [(&str, &str); 3] = [("HEAD", "/"), ("GET", "/assets/*"), ("HEAD", "/assets/*")];

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        for route in ROUTES {
            let (method, path) = (route.0.as_str(), route.1);
            let told = ENTRIES.iter().any(|e| e.method == method && e.route == path);
            assert!(told != PAGE.contains(&(method, path)), "{method} {path}");
        }
        for e in ENTRIES {
            assert!(ROUTES.iter().any(|r| r.0.as_str() == e.method && r.1 == e.route), "{} {}", e.method, e.route);
        }
    }

    #[test]
    fn bodies_have_their_fields() {
        let d = document();
        let chat = &d["components"]["schemas"]["ChatRequest"];
        for field in ["model", "messages", "tools", "response_format", "stream_options", "user", "seed"] {
            assert!(chat["properties"][field].is_object() || chat["properties"][field] == true, "{field} in {chat}");
        }
        assert_eq!(chat["additionalProperties"], false);
        assert_eq!(chat["required"], json!(["model", "messages"]));
        let ids: std::collections::HashSet<String> = d["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|p| p.as_object().unwrap().values())
            .map(|o| o["operationId"].to_string())
            .collect();
        assert_eq!(ids.len(), ENTRIES.len());
    }
}
