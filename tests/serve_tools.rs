//! Tools from outside, in the three dialects: whatever the model, what is called exists and its arguments are of their schema.
mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::server::Server;

fn start() -> Server {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tools.jinja");
    Server::start(&["--chat-template", template.to_str().unwrap(), "--ctx", "1024"])
}

/// Arguments that cannot go on for ever, so that a model of stories ends them.
fn parameters() -> Value {
    json!({ "type": "object", "properties": { "city": { "enum": ["Oslo", "Paris"] }, "days": { "type": "integer", "minimum": 1, "maximum": 9 } },
        "required": ["city", "days"], "additionalProperties": false })
}

fn body(more: Value) -> Value {
    let function = |name: &str| json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": parameters() } });
    let mut body = json!({ "model": "pebble", "messages": [{ "role": "user", "content": "Weather in Oslo?" }],
        "tools": [function("get_weather"), function("get_wind")], "tool_choice": "required", "parallel_tool_calls": false,
        "max_tokens": 300, "seed": 3, "temperature": 0.8 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn good_arguments(value: &Value) {
    let days = value["days"].as_i64().unwrap_or_else(|| panic!("{value}"));
    assert!((1..=9).contains(&days) && ["Oslo", "Paris"].contains(&value["city"].as_str().unwrap()), "{value}");
    assert_eq!(value.as_object().unwrap().len(), 2);
}

/// Calls of a stream of chunks: id, name, arguments, by their index.
fn joined(pieces: &[Value]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for part in pieces.iter().filter_map(|p| p["choices"][0]["delta"]["tool_calls"].as_array()).flatten() {
        let index = part["index"].as_u64().unwrap() as usize;
        if let Some(id) = part["id"].as_str() {
            assert_eq!((index, part["type"].as_str()), (calls.len(), Some("function")), "{part}");
            calls.push((id.into(), part["function"]["name"].as_str().unwrap().into(), String::new()));
        }
        calls[index].2.push_str(part["function"]["arguments"].as_str().unwrap());
    }
    calls
}

#[test]
fn a_call_is_made_whole_and_in_pieces() {
    let s = start();
    let whole = s.good("/v1/chat/completions", &body(json!({})));
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null),
        "{whole}"
    );
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1);
    let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
    good_arguments(&serde_json::from_str(arguments).unwrap());
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));

    let pieces = s.stream("/v1/chat/completions", &body(json!({ "stream": true })));
    let streamed = joined(&pieces);
    assert_eq!((streamed.len(), streamed[0].2.as_str()), (1, arguments));
    assert_eq!(json!(streamed[0].1), calls[0]["function"]["name"]);
    assert!(pieces.iter().filter(|p| p["choices"][0]["delta"]["tool_calls"].is_array()).count() > 3, "in pieces");
    assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    let named = json!({ "tool_choice": { "type": "function", "function": { "name": "get_wind" } } });
    let named = s.good("/v1/chat/completions", &body(named));
    assert_eq!(named["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "get_wind");
    assert_eq!(named["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_stop_string_ends_what_is_said_and_never_cuts_a_call() {
    let s = start();
    // All of these stand in any call of these tools.
    let stop = json!(["\"", "days", "}"]);
    let whole = s.good("/v1/chat/completions", &body(json!({ "stop": stop })));
    let choice = &whole["choices"][0];
    let arguments = choice["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    good_arguments(&serde_json::from_str(arguments).unwrap_or_else(|e| panic!("{e}: {whole}")));
    assert_eq!(choice["finish_reason"], "tool_calls", "{whole}");
    let pieces = s.stream("/v1/chat/completions", &body(json!({ "stop": stop, "stream": true })));
    assert_eq!(joined(&pieces)[0].2, arguments);
    // Beside tools, what is said ends as it does without them, and takes as many tokens.
    let said = |more: Value| {
        let mut body = body(json!({ "tool_choice": "auto", "max_tokens": 60, "temperature": 0 }));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let free = s.good("/v1/chat/completions", &said(json!({ "logit_bias": s.ends_forbidden() })));
    let text = free["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{free}"));
    let word = text.split(' ').nth(3).unwrap_or_else(|| panic!("{text:?}"));
    let aborted = s.metric("vllm:request_success_total{model_name=\"pebble\",finished_reason=\"abort\"}");
    for _ in 0..3 {
        let more = json!({ "stop": [word], "logit_bias": s.ends_forbidden() });
        let cut = s.good("/v1/chat/completions", &said(more.clone()));
        let choice = &cut["choices"][0];
        assert_eq!(choice["message"]["content"].as_str().unwrap(), text.split(word).next().unwrap(), "{cut}");
        assert_eq!(choice["finish_reason"], "stop");
        let took = cut["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(took < free["usage"]["completion_tokens"].as_u64().unwrap(), "{cut}");
        let mut streamed = said(more);
        streamed["stream"] = true.into();
        streamed["stream_options"] = json!({ "include_usage": true });
        let pieces = s.stream("/v1/chat/completions", &streamed);
        let said: String = pieces.iter().filter_map(|p| p["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, text.split(word).next().unwrap());
        assert_eq!(pieces.last().unwrap()["usage"]["completion_tokens"], took);
    }
    let after = s.metric("vllm:request_success_total{model_name=\"pebble\",finished_reason=\"abort\"}");
    assert_eq!(after, aborted, "nobody went away");
    for stop in [json!([""]), json!(["x".repeat(1025)])] {
        let (status, answer) = s.post("/v1/chat/completions", &body(json!({ "stop": stop })));
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some("stop")), "{answer}");
    }
}

#[test]
fn parallel_calls_have_places_and_ids_of_their_own() {
    let s = start();
    // Without a way to end, a model goes on calling.
    let more = json!({ "parallel_tool_calls": true, "logit_bias": s.ends_forbidden(), "max_tokens": 400 });
    let whole = s.good("/v1/chat/completions", &body(more.clone()));
    let calls = whole["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    assert!(calls.len() > 1, "{whole}");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    for call in &calls[..calls.len() - 1] {
        good_arguments(&serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap());
    }
    let ids: std::collections::HashSet<&str> = calls.iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), calls.len());
    let mut more = more;
    more["stream"] = true.into();
    let streamed = joined(&s.stream("/v1/chat/completions", &body(more)));
    let same = |(a, b): (&Value, &(String, String, String))| a["function"]["arguments"] == json!(b.2);
    assert!(streamed.len() == calls.len() && calls.iter().zip(&streamed).all(same), "{whole} {streamed:?}");
}

#[test]
fn results_go_back_and_nothing_is_called_unasked() {
    let s = start();
    let call = json!({ "id": "call_1", "type": "function", "function": { "name": "get_weather", "arguments": "{\"city\": \"Oslo\", \"days\": 1}" } });
    let messages = json!([{ "role": "user", "content": "Weather in Oslo?" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "call_1", "content": "rain" }]);
    for choice in ["none", "auto"] {
        let answer = s.good(
            "/v1/chat/completions",
            &body(json!({ "messages": messages, "tool_choice": choice, "max_tokens": 30 })),
        );
        let message = &answer["choices"][0]["message"];
        assert!(
            message["content"].as_str().is_some_and(|t| !t.is_empty()) && message["tool_calls"].is_null(),
            "{answer}"
        );
    }
    // Tools and a schema: either.
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "const": "so" } } });
    let answer = s.good(
        "/v1/chat/completions",
        &body(json!({ "tool_choice": "auto", "response_format": format, "temperature": 0 })),
    );
    let message = &answer["choices"][0]["message"];
    assert!(message["content"] == "\"so\"" || message["tool_calls"].is_array(), "{answer}");
    for (more, param) in [
        (json!({ "tools": [{ "type": "retrieval" }] }), "tools[0].type"),
        (json!({ "tool_choice": { "type": "function", "function": { "name": "nobody" } } }), "tool_choice"),
        (json!({ "tools": [] }), "tool_choice"),
        (
            json!({ "tools": [{ "type": "function", "function": { "name": "f", "strict": true, "parameters": { "type": "object", "properties": { "x": { "type": "string", "format": "never-heard-of" } } } } }] }),
            "tools",
        ),
    ] {
        let (status, answer) = s.post("/v1/chat/completions", &body(more.clone()));
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(param)), "{more} {answer}");
    }
    // Without tools in its template a model says so.
    let plain = Server::start(&[]);
    let (status, answer) = plain.post("/v1/chat/completions", &body(json!({})));
    assert_eq!((status, answer["error"]["param"].as_str()), (400, Some("tools")), "{answer}");
}

fn anthropic(more: Value) -> Value {
    let tool = |name: &str| json!({ "name": name, "description": "d", "input_schema": parameters() });
    let mut body = json!({ "model": "pebble", "messages": [{ "role": "user", "content": "Weather in Oslo?" }], "max_tokens": 300,
        "tools": [tool("get_weather"), tool("get_wind")], "tool_choice": { "type": "any", "disable_parallel_tool_use": true } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn anthropic_has_blocks_of_use() {
    let s = start();
    let whole = s.good("/v1/messages", &anthropic(json!({ "temperature": 0 })));
    assert_eq!((&whole["stop_reason"], whole["content"].as_array().unwrap().len()), (&json!("tool_use"), 1), "{whole}");
    let call = &whole["content"][0];
    assert_eq!(call["type"], "tool_use");
    good_arguments(&call["input"]);

    let (_, _, text) =
        s.ask("POST", "/v1/messages", "", &anthropic(json!({ "temperature": 0, "stream": true })).to_string());
    let data: Vec<Value> =
        text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|d| serde_json::from_str(d).unwrap()).collect();
    let start = data.iter().find(|d| d["type"] == "content_block_start").unwrap();
    assert_eq!((&start["content_block"]["type"], &start["content_block"]["input"]), (&json!("tool_use"), &json!({})));
    assert_eq!((&start["content_block"]["name"], &start["index"]), (&call["name"], &json!(0)));
    let input: String = data.iter().filter_map(|d| d["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), call["input"]);
    let kinds: Vec<&str> =
        data.iter().map(|d| d["type"].as_str().unwrap()).filter(|t| *t != "content_block_delta").collect();
    assert_eq!(
        kinds,
        ["message_start", "ping", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    );
    assert!(data.iter().any(|d| d["delta"]["stop_reason"] == "tool_use"));

    let back = json!([{ "role": "user", "content": "Weather in Oslo?" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": { "city": "Oslo", "days": 1 } }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "toolu_1", "content": "rain" }] }]);
    let answer = s.good(
        "/v1/messages",
        &anthropic(json!({ "messages": back, "tool_choice": { "type": "auto" }, "max_tokens": 20 })),
    );
    assert_eq!(answer["content"][0]["type"], "text", "{answer}");
    let counted = |body: Value| {
        let mut body = body;
        body.as_object_mut().unwrap().remove("max_tokens");
        s.good("/v1/messages/count_tokens", &body)["input_tokens"].as_u64().unwrap()
    };
    assert!(counted(anthropic(json!({}))) > counted(anthropic(json!({ "tools": [], "tool_choice": null }))) + 20);
    let (status, answer) =
        s.post("/v1/messages", &anthropic(json!({ "tools": [{ "type": "bash_20250124", "name": "bash" }] })));
    assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")), "{answer}");
}

#[test]
fn ollama_has_calls_with_objects() {
    let s = start();
    let tools = body(json!({}))["tools"].clone();
    // Ollama's API cannot ask for a call, so the model is given no other choice by what its text may be.
    let ask = |stream: bool, seed: u64| {
        json!({ "model": "pebble", "messages": [{ "role": "user", "content": "Weather?" }], "tools": tools, "stream": stream,
            "format": { "const": "no" }, "options": { "seed": seed, "temperature": 2, "num_predict": 300 } })
    };
    let mut seen = 0;
    for seed in 0..8 {
        let whole = s.good("/api/chat", &ask(false, seed));
        let (_, _, text) = s.ask("POST", "/api/chat", "", &ask(true, seed).to_string());
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let streamed: Vec<&Value> =
            lines.iter().filter_map(|l| l["message"]["tool_calls"].as_array()).flatten().collect();
        let calls = whole["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        assert_eq!(calls.len(), streamed.len());
        assert!(!calls.is_empty() || whole["message"]["content"] == "\"no\"", "{whole}");
        for (i, (call, other)) in calls.iter().zip(streamed).enumerate() {
            assert_eq!(
                (&call["function"], i),
                (&other["function"], call["function"]["index"].as_u64().unwrap() as usize)
            );
            if i + 1 < calls.len() || whole["done_reason"] == "stop" {
                good_arguments(&call["function"]["arguments"]);
            }
        }
        seen += calls.len();
    }
    assert!(seen > 0, "no seed called anything");
    let shown = s.good("/api/show", &json!({ "model": "pebble" }));
    assert!(shown["capabilities"].as_array().unwrap().contains(&json!("tools")), "{shown}");
}

/// Events of `/v1/responses`, in their order.
fn events(s: &Server, body: &Value) -> Vec<Value> {
    let (status, _, text) = s.ask("POST", "/v1/responses", "", &body.to_string());
    assert_eq!(status, 200, "{text}");
    let all: Vec<Value> =
        text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|d| serde_json::from_str(d).unwrap()).collect();
    for (i, event) in all.iter().enumerate() {
        assert_eq!(event["sequence_number"], i);
    }
    all
}

#[test]
fn responses_go_on_by_the_name_of_an_answer() {
    let s = Server::start(&[]);
    let ask = |more: Value| {
        let mut body = json!({ "model": "pebble", "input": "Tell me a story about a fox", "max_output_tokens": 20, "temperature": 0 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let one = s.good("/v1/responses", &ask(json!({})));
    assert_eq!((&one["object"], &one["status"]), (&json!("response"), &json!("incomplete")), "{one}");
    assert_eq!(one["incomplete_details"]["reason"], "max_output_tokens");
    let text = one["output"][0]["content"][0]["text"].as_str().unwrap();
    let id = one["id"].as_str().unwrap();

    // Going on by the name is the same as saying it all again.
    let more = json!({ "previous_response_id": id, "input": "And then?" });
    let two = s.good("/v1/responses", &ask(more));
    let all = json!([{ "role": "user", "content": "Tell me a story about a fox" }, { "role": "assistant", "content": text },
        { "role": "user", "content": "And then?" }]);
    let said = s.good("/v1/responses", &ask(json!({ "input": all, "store": false })));
    assert_eq!(two["output"][0]["content"], said["output"][0]["content"]);
    assert_eq!(two["usage"]["input_tokens"], said["usage"]["input_tokens"]);

    let (status, _, shown) = s.ask("GET", &format!("/v1/responses/{id}"), "", "");
    assert_eq!((status, serde_json::from_str::<Value>(&shown).unwrap()), (200, one.clone()));
    let (_, _, items) = s.ask("GET", &format!("/v1/responses/{id}/input_items"), "", "");
    let items: Value = serde_json::from_str(&items).unwrap();
    assert_eq!(items["data"][0]["content"][0]["text"], "Tell me a story about a fox");
    let (_, _, again) = s.ask("GET", &format!("/v1/responses/{id}/input_items"), "", "");
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), items, "names of items stay");
    let (status, _, _) = s.ask("GET", &format!("/v1/responses/{}", said["id"].as_str().unwrap()), "", "");
    assert_eq!(status, 404, "what was not to be stored is not there");
    assert_eq!(s.ask("DELETE", &format!("/v1/responses/{id}"), "", "").0, 200);
    assert_eq!(s.ask("DELETE", &format!("/v1/responses/{id}"), "", "").0, 404);
    let (status, gone) = s.post("/v1/responses", &ask(json!({ "previous_response_id": id })));
    assert_eq!((status, &gone["error"]["code"]), (404, &json!("response_not_found")));

    let streamed = events(&s, &ask(json!({ "stream": true })));
    let kinds: Vec<&str> = streamed.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds[..4],
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    );
    assert_eq!(
        kinds[kinds.len() - 4..],
        ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]
    );
    let joined: String = streamed
        .iter()
        .filter(|e| e["type"] == "response.output_text.delta")
        .map(|e| e["delta"].as_str().unwrap())
        .collect();
    assert_eq!(joined, text);
    assert_eq!(streamed.last().unwrap()["response"]["output"][0]["content"], one["output"][0]["content"]);
}

#[test]
fn responses_call_tools_and_take_results() {
    let s = start();
    let tool = json!({ "type": "function", "name": "get_weather", "description": "d", "parameters": parameters(), "strict": true });
    let ask = |more: Value| {
        let mut body = json!({ "model": "pebble", "input": "Weather?", "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false,
            "temperature": 0, "instructions": "Be brief." });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let one = s.good("/v1/responses", &ask(json!({})));
    assert_eq!(one["status"], "completed", "{one}");
    let call = &one["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("get_weather")));
    good_arguments(&serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap());
    let streamed = events(&s, &ask(json!({ "stream": true })));
    let joined: String = streamed
        .iter()
        .filter(|e| e["type"] == "response.function_call_arguments.delta")
        .map(|e| e["delta"].as_str().unwrap())
        .collect();
    assert_eq!(call["arguments"], json!(joined));
    assert_eq!(streamed.last().unwrap()["type"], "response.completed");
    let result = json!([{ "type": "function_call_output", "call_id": call["call_id"], "output": "rain" }]);
    let more =
        json!({ "previous_response_id": one["id"], "input": result, "tool_choice": "auto", "max_output_tokens": 20 });
    let two = s.good("/v1/responses", &ask(more));
    assert_eq!(two["output"][0]["type"], "message", "{two}");
    let schema = json!({ "type": "json_schema", "name": "x", "schema": { "type": "object", "properties": { "n": { "type": "integer", "maximum": 9 } }, "required": ["n"], "additionalProperties": false } });
    let formed =
        s.good("/v1/responses", &ask(json!({ "tools": [], "tool_choice": "auto", "text": { "format": schema } })));
    let value: Value = serde_json::from_str(formed["output"][0]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(value["n"].is_i64(), "{formed}");
    for (more, param) in [
        (json!({ "background": true }), "background"),
        (json!({ "truncation": "auto" }), "truncation"),
        (json!({ "include": ["file_search_call.results"] }), "include"),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }), "input[0].content[0].type"),
        (json!({ "conversation": "conv_1" }), "conversation"),
        (json!({ "reasoning": { "effort": "endless" } }), "reasoning.effort"),
    ] {
        let (status, answer) = s.post("/v1/responses", &ask(more.clone()));
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(param)), "{more} {answer}");
    }
}

/// Who writes `<|end|><|user|>` in a message writes that, and ends nothing.
#[test]
fn special_tokens_that_people_spell_out_are_text() {
    let s = Server::start(&[]);
    let count = |text: &str| {
        let body = json!({ "model": "pebble", "messages": [{ "role": "user", "content": text }], "max_tokens": 1 });
        s.good("/v1/chat/completions", &body)["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let plain = count("a b");
    // One token where it is one; letters where it is text.
    assert!(count("a <|end|> b") > plain + 3, "{} {plain}", count("a <|end|> b"));
    assert!(count("a <|end|><|user|>x<|end|><|assistant|>\u{10fff0} b") > plain + 15);
    // What tokens there are says that nothing else was lost.
    let tokens = |prompt: &str| {
        s.good("/tokenize", &json!({ "model": "pebble", "prompt": prompt }))["tokens"].as_array().unwrap().len() as u64
    };
    assert!(count("fox and cat") <= tokens("fox and cat") + 6);
}
