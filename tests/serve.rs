//! `serve` from outside: the built-in model behind the OpenAI API, with clients that behave and clients that do not.
mod support;

use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};
use support::server::{Server, answer};

fn chat(more: Value) -> Value {
    let mut body = json!({ "model": "pebble", "messages": [{ "role": "user", "content": "Tell me a story about a fox" }],
        "max_tokens": 40, "seed": 7 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn an_answer_is_the_same_whole_and_in_pieces() {
    let s = Server::start(&[]);
    for temperature in [0.0, 0.9] {
        let whole = s.good("/v1/chat/completions", &chat(json!({ "temperature": temperature })));
        assert_eq!(whole["object"], "chat.completion");
        let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.len() > 20, "{whole}");
        let usage = &whole["usage"];
        assert_eq!(
            usage["total_tokens"].as_u64().unwrap(),
            usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
        );

        let more = json!({ "temperature": temperature, "stream": true, "stream_options": { "include_usage": true }, "logprobs": true, "top_logprobs": 2 });
        let pieces = s.stream("/v1/chat/completions", &chat(more));
        let joined: String = pieces.iter().filter_map(|p| p["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(joined, text);
        assert!(pieces.iter().all(|p| p["id"] == pieces[0]["id"] && p["object"] == "chat.completion.chunk"));
        assert_eq!(pieces[0]["choices"][0]["delta"]["role"], "assistant");
        let (last, before) = pieces.split_last().unwrap();
        assert_eq!(last["usage"]["completion_tokens"], usage["completion_tokens"]);
        assert_eq!(last["choices"], json!([]));
        assert!(before.iter().all(|p| p["usage"].is_null()));
        assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
        let tokens = before.iter().filter(|p| p["choices"][0]["logprobs"].is_object()).count() as u64;
        assert_eq!(tokens, usage["completion_tokens"].as_u64().unwrap());
    }
}

#[test]
fn parameters_do_what_they_are_documented_to_do() {
    let s = Server::start(&[]);
    let text = |v: &Value, i: usize| v["choices"][i]["message"]["content"].as_str().unwrap().to_string();
    // n: each choice by a seed of its own, the first as if it were alone.
    let three = s.good("/v1/chat/completions", &chat(json!({ "n": 3, "temperature": 1.0 })));
    let one = s.good("/v1/chat/completions", &chat(json!({ "temperature": 1.0 })));
    assert_eq!(three["choices"].as_array().unwrap().len(), 3);
    assert_eq!(text(&three, 0), text(&one, 0));
    assert_ne!(text(&three, 0), text(&three, 1));
    // stop
    let greedy = text(&s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 }))), 0);
    let word = greedy.split(' ').nth(5).unwrap();
    let cut = s.good("/v1/chat/completions", &chat(json!({ "temperature": 0, "stop": word })));
    assert!(!text(&cut, 0).contains(word) && greedy.starts_with(&text(&cut, 0)));
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    // max_completion_tokens
    let short = s.good(
        "/v1/chat/completions",
        &chat(json!({ "temperature": 0, "max_tokens": null, "max_completion_tokens": 3 })),
    );
    assert_eq!(short["usage"]["completion_tokens"], 3);
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    // logit_bias: what is forbidden does not come.
    let probabilities =
        s.good("/v1/chat/completions", &chat(json!({ "temperature": 0, "logprobs": true, "top_logprobs": 3 })));
    let first = &probabilities["choices"][0]["logprobs"]["content"][0];
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(first["token"], first["top_logprobs"][0]["token"]);
    let id = s.good("/tokenize", &json!({ "model": "pebble", "prompt": first["token"] }))["tokens"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    let other = s.good(
        "/v1/chat/completions",
        &chat(json!({ "temperature": 0, "logprobs": true, "logit_bias": { id.to_string(): -100 } })),
    );
    assert_ne!(other["choices"][0]["logprobs"]["content"][0]["token"], first["token"]);
    // Content in parts is content.
    let parts = json!({ "temperature": 0, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Tell me a story " }, { "type": "text", "text": "about a fox" }] }] });
    assert_eq!(text(&s.good("/v1/chat/completions", &chat(parts)), 0), greedy);
}

#[test]
fn completions_echo_and_score() {
    let s = Server::start(&[]);
    let ids =
        s.good("/tokenize", &json!({ "model": "pebble", "prompt": "Once upon a time there was a fox" }))["tokens"]
            .clone();
    let n = ids.as_array().unwrap().len();
    let body =
        json!({ "model": "pebble", "prompt": ids, "max_tokens": 1, "logprobs": 1, "echo": true, "temperature": 0 });
    let scored = s.good("/v1/completions", &body);
    let logprobs = &scored["choices"][0]["logprobs"];
    let list = |name: &str| logprobs[name].as_array().unwrap().clone();
    assert_eq!(
        [list("tokens").len(), list("token_logprobs").len(), list("top_logprobs").len(), list("text_offset").len()],
        [n + 1; 4]
    );
    assert!(
        list("token_logprobs")[0].is_null() && list("token_logprobs")[1..].iter().all(|p| p.as_f64().unwrap() <= 0.0)
    );
    // Greedy: the token that follows is the likeliest, and its probability is that of a later echo.
    let next = list("top_logprobs")[n].as_object().unwrap().iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap();
    assert_eq!((json!(next.0), &next.1), (list("tokens")[n].clone(), &list("token_logprobs")[n]));
    let silent =
        s.good("/v1/completions", &json!({ "model": "pebble", "prompt": "Once upon", "max_tokens": 0, "echo": true }));
    assert_eq!(
        (silent["choices"][0]["text"].as_str(), silent["usage"]["completion_tokens"].as_u64()),
        (Some("Once upon"), Some(0))
    );
    // Several prompts, as text and in a stream.
    let two = s.good(
        "/v1/completions",
        &json!({ "model": "pebble", "prompt": ["The fox", "The bear"], "max_tokens": 5, "temperature": 0 }),
    );
    let streamed = s.stream("/v1/completions", &json!({ "model": "pebble", "prompt": ["The fox", "The bear"], "max_tokens": 5, "temperature": 0, "stream": true }));
    for i in 0..2 {
        let text: String = streamed
            .iter()
            .filter(|c| c["choices"][0]["index"] == i)
            .filter_map(|c| c["choices"][0]["text"].as_str())
            .collect();
        assert_eq!(two["choices"][i]["text"].as_str(), Some(text.as_str()));
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let s = Server::start(&[]);
    for (more, status, param) in [
        (json!({ "model": "gpt-9" }), 404, json!("model")),
        (json!({ "messages": [] }), 400, json!("messages")),
        (json!({ "stream_options": 1 }), 400, json!("stream_options")),
        (json!({ "messages": [{ "role": "user" }] }), 400, json!("messages[0].content")),
        (json!({ "messages": "hello" }), 400, json!("messages")),
        (json!({ "temperature": 3 }), 400, json!("temperature")),
        (json!({ "temperature": "warm" }), 400, json!("temperature")),
        (json!({ "top_p": -0.1 }), 400, json!("top_p")),
        (json!({ "n": 1000000 }), 400, json!("n")),
        (json!({ "n": 0 }), 400, json!("n")),
        (json!({ "max_tokens": 0 }), 400, json!("max_tokens")),
        (json!({ "top_logprobs": 3 }), 400, json!("top_logprobs")),
        (json!({ "logprobs": true, "top_logprobs": 21 }), 400, json!("top_logprobs")),
        (json!({ "logit_bias": { "x": 1 } }), 400, json!("logit_bias")),
        (json!({ "logit_bias": { "99999999": 1 } }), 400, json!("logit_bias")),
        (json!({ "stop": vec!["x"; 100_000] }), 400, json!("stop")),
        (json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }), 400, json!("tools")),
        (json!({ "response_format": { "type": "xml" } }), 400, json!("response_format.type")),
        (json!({ "colour": "red" }), 400, json!("colour")),
        (json!({ "functions": [{ "name": "f" }] }), 400, json!("functions")),
        (json!({ "messages": [{ "role": "user", "content": "fox ".repeat(100_000) }] }), 400, json!("messages")),
    ] {
        let shown: String = more.to_string().chars().take(100).collect();
        let (got, answer) = s.post("/v1/chat/completions", &chat(more));
        assert_eq!((got, &answer["error"]["param"]), (status, &param), "{shown}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().len() < 300, "{answer}");
    }
    let (_, answer) = s.post("/v1/chat/completions", &json!({ "model": "pebble" }));
    assert_eq!(
        (&answer["error"]["param"], &answer["error"]["message"]),
        (&json!("messages"), &json!("messages: missing"))
    );
    for body in [
        "",
        "{",
        "[]",
        "{\"model\": 1}",
        "\u{0}",
        &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        "{\"model\":\"pebble\",\"messages\":NaN}",
    ] {
        let (status, _, text) = s.ask("POST", "/v1/chat/completions", "", body);
        assert!(status == 400 && text.contains("invalid_request_error"), "{status} {text}");
    }
    assert_eq!(s.ask("GET", "/v1/chat/completions", "", "").0, 405);
    assert_eq!(s.ask("GET", "/nowhere", "", "").0, 404);
    assert_eq!(s.ask("GET", "/v1/models", "Origin: http://evil.example\r\n", "").0, 403);
    // After all that it still answers.
    assert_eq!(s.ask("GET", "/ready", "", "").0, 200);
    s.good("/v1/chat/completions", &chat(json!({})));
}

#[test]
fn keys_are_asked_for() {
    let s = Server::start(&["--api-key", "a-long-enough-secret"]);
    assert_eq!(s.ask("GET", "/health", "", "").0, 200);
    let (status, headers, _) = s.ask("GET", "/v1/models", "", "");
    assert!(status == 401 && headers.contains("www-authenticate: bearer"));
    assert_eq!(s.ask("GET", "/v1/models", "Authorization: Bearer a-long-enough-secreT\r\n", "").0, 401);
    let (status, _, text) = s.ask("GET", "/v1/models", "Authorization: Bearer a-long-enough-secret\r\n", "");
    assert!(status == 200 && text.contains("\"pebble\""), "{text}");
    let folder = support::Folder::new();
    let out = support::run(folder.path(), &["serve", "--host", "0.0.0.0"]);
    assert!(out.err.contains("no key is asked for"), "{}", out.err);
}

/// Who goes away frees what it took, wherever it was; others do not notice.
#[test]
fn a_client_that_goes_away_is_forgotten() {
    let s = Server::start(&["--max-running", "2"]);
    let want = s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 })))["choices"].clone();
    for i in 0..60 {
        let mut stream = s.connect();
        let body = chat(json!({ "max_tokens": 400, "ignore_eos": true, "stream": i % 2 == 0 })).to_string();
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        if i % 3 == 0 {
            let mut some = [0u8; 100];
            let _ = stream.read(&mut some).unwrap();
        }
    }
    assert_eq!(s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 })))["choices"], want);
    let start = Instant::now();
    while s.metric("vllm:num_requests_running") > 0.0 {
        assert!(start.elapsed() < Duration::from_secs(10), "requests are stuck");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Many at once, each as if it were alone.
#[test]
fn company_changes_nobodys_answer() {
    let s = Server::start(&["--max-running", "5"]);
    let body = |i: usize| {
        chat(
            json!({ "temperature": 0.8, "seed": i, "max_tokens": 10 + i, "messages": [{ "role": "user", "content": format!("Tell me about {i} animals") }] }),
        )
    };
    let alone: Vec<Value> = (0..24).map(|i| s.good("/v1/chat/completions", &body(i))["choices"].clone()).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..24)
            .rev()
            .map(|i| {
                (
                    i,
                    scope.spawn({
                        let (s, body) = (&s, &body);
                        move || s.good("/v1/chat/completions", &body(i))["choices"].clone()
                    }),
                )
            })
            .collect();
        for (i, answer) in all {
            assert_eq!(answer.join().unwrap(), alone[i], "{i}");
        }
    });
}

/// More than may be under way is refused at once, and says when to come again.
#[test]
fn too_many_are_told_so() {
    let s = Server::start(&["--max-running", "1", "--max-requests", "3"]);
    let body = chat(json!({ "max_tokens": 300, "ignore_eos": true })).to_string();
    let open = || {
        let mut stream = s.connect();
        write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    };
    let all: Vec<TcpStream> = (0..12).map(|_| open()).collect();
    let answers: Vec<(u16, String, String)> = all.into_iter().map(answer).collect();
    let count = |status: u16| answers.iter().filter(|a| a.0 == status).count();
    assert_eq!(count(200) + count(429), 12, "{answers:?}");
    assert!(count(200) >= 3 && count(429) >= 1, "{} answered", count(200));
    assert!(
        answers
            .iter()
            .filter(|a| a.0 == 429)
            .all(|a| a.1.contains("retry-after: 1") && a.2.contains("rate_limit_error"))
    );
}

/// Headers a byte at a time, half a body, too much of either: each ends by its clock or its bound.
#[test]
fn slow_and_large_requests_end() {
    let s = Server::start(&[]);
    let mut slow = s.connect();
    write!(slow, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    let mut half = s.connect();
    write!(half, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{").unwrap();
    let mut large = s.connect();
    let _ = write!(large, "GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let (status, ..) = answer_or_reset(large);
    assert!(status == 431 || status == 0, "{status}");
    let declared = s.ask("POST", "/v1/chat/completions", "", "").0;
    assert_eq!(declared, 400);
    let mut huge = s.connect();
    write!(huge, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n").unwrap();
    assert_eq!(answer_or_reset(huge).0, 413);
    s.good("/v1/chat/completions", &chat(json!({})));
    // The clocks: ten seconds for headers; a client that closes its half of a body is told so.
    let start = Instant::now();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = answer_or_reset(half);
    assert!(start.elapsed() < Duration::from_secs(5));
    let _ = answer_or_reset(slow);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

/// A connection may also be cut; that is status 0.
fn answer_or_reset(mut stream: TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0), text)
}

/// SIGTERM: what runs ends, nothing new begins, and the exit is clean.
#[cfg(unix)]
#[test]
fn a_stop_lets_answers_end() {
    let mut s = Server::start(&[]);
    let mut stream = s.connect();
    let body = chat(json!({ "max_tokens": 200, "ignore_eos": true, "stream": true })).to_string();
    write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut first = [0u8; 1];
    stream.read_exact(&mut first).unwrap();
    let id = s.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let (_, text) = answer_or_reset(stream);
    assert!(text.contains("data: [DONE]"), "{text}");
    assert!(s.child.wait().unwrap().success());
}

/// Lines of an Ollama stream.
fn lines(s: &Server, path: &str, body: &Value) -> Vec<Value> {
    let (status, headers, text) = s.ask("POST", path, "", &body.to_string());
    assert!(status == 200 && headers.contains("application/x-ndjson"), "{status} {text}");
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn message(more: Value) -> Value {
    let mut body = json!({ "model": "pebble", "max_tokens": 40, "temperature": 0,
        "messages": [{ "role": "user", "content": "Tell me a story about a fox" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The same answer whatever the dialect.
#[test]
fn dialects_agree() {
    let s = Server::start(&[]);
    let openai = s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 })));
    let want = openai["choices"][0]["message"]["content"].as_str().unwrap();
    let whole = s.good("/v1/messages", &message(json!({})));
    assert_eq!((whole["content"][0]["text"].as_str().unwrap(), whole["type"].as_str()), (want, Some("message")));
    assert_eq!(whole["stop_reason"], "max_tokens");
    assert_eq!(whole["usage"]["output_tokens"], openai["usage"]["completion_tokens"]);

    let (_, headers, text) = s.ask("POST", "/v1/messages", "", &message(json!({ "stream": true })).to_string());
    assert!(headers.contains("text/event-stream"));
    let names: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("event: ")).collect();
    let data: Vec<Value> =
        text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|d| serde_json::from_str(d).unwrap()).collect();
    assert!(names.iter().zip(&data).all(|(n, d)| d["type"] == *n));
    assert_eq!(names[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(names[3..names.len() - 3].iter().all(|n| *n == "content_block_delta"));
    let joined: String = data.iter().filter_map(|d| d["delta"]["text"].as_str()).collect();
    assert_eq!(joined, want);
    assert_eq!(data[data.len() - 2]["delta"]["stop_reason"], "max_tokens");

    let body = json!({ "model": "pebble:latest", "messages": [{ "role": "user", "content": "Tell me a story about a fox" }],
        "options": { "temperature": 0, "num_predict": 40 } });
    let pieces = lines(&s, "/api/chat", &body);
    let joined: String = pieces.iter().filter_map(|p| p["message"]["content"].as_str()).collect();
    assert_eq!(joined, want);
    let (last, before) = pieces.split_last().unwrap();
    assert!(before.iter().all(|p| p["done"] == false) && last["done"] == true && last["done_reason"] == "length");
    assert_eq!(last["eval_count"], openai["usage"]["completion_tokens"]);
    let mut body = json!({ "model": "pebble", "prompt": "Tell me a story about a fox", "stream": false, "options": { "temperature": 0, "num_predict": 40 } });
    assert_eq!(s.good("/api/generate", &body)["response"].as_str(), Some(want));
    body["raw"] = true.into();
    assert_ne!(s.good("/api/generate", &body)["response"].as_str(), Some(want));
}

/// What a conversation becomes is what the model reads: as a plain prompt it has the same answer.
#[test]
fn templates_can_be_applied_alone() {
    let s = Server::start(&[]);
    let applied = s.good("/apply-template", &chat(json!({})));
    let (text, tokens) = (applied["prompt"].as_str().unwrap(), applied["tokens"].as_array().unwrap());
    assert!(text.contains("Tell me a story about a fox") && tokens.len() == applied["count"], "{applied}");
    let whole = s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 })));
    assert_eq!(whole["usage"]["prompt_tokens"], applied["count"]);
    let body = json!({ "model": "pebble", "prompt": tokens, "max_tokens": 40, "temperature": 0 });
    let plain = s.good("/v1/completions", &body);
    assert_eq!(plain["choices"][0]["text"], whole["choices"][0]["message"]["content"]);
}

#[test]
fn anthropic_says_why_it_stopped_and_what_was_wrong() {
    let s = Server::start(&[]);
    let whole = s.good("/v1/messages", &message(json!({})));
    let word = whole["content"][0]["text"].as_str().unwrap().split(' ').nth(4).unwrap().to_string();
    let cut = s.good("/v1/messages", &message(json!({ "stop_sequences": ["never comes", word] })));
    assert_eq!((&cut["stop_reason"], &cut["stop_sequence"]), (&json!("stop_sequence"), &json!(word)));
    let counted = s.good(
        "/v1/messages/count_tokens",
        &json!({ "model": "pebble", "messages": [{ "role": "user", "content": "Tell me a story about a fox" }] }),
    );
    let usage = &whole["usage"];
    assert_eq!(
        counted["input_tokens"].as_u64().unwrap(),
        usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap()
    );
    for (more, status, kind) in [
        (json!({ "model": "claude-9" }), 404, "not_found_error"),
        (json!({ "max_tokens": null }), 400, "invalid_request_error"),
        (json!({ "temperature": 1.5 }), 400, "invalid_request_error"),
        (json!({ "tools": [{ "name": "f", "input_schema": {} }] }), 400, "invalid_request_error"),
        (json!({ "colour": "red" }), 400, "invalid_request_error"),
        (json!({ "messages": [{ "role": "user", "content": [{ "type": "image" }] }] }), 400, "invalid_request_error"),
    ] {
        let (got, answer) = s.post("/v1/messages", &message(more.clone()));
        assert_eq!((got, answer["error"]["type"].as_str()), (status, Some(kind)), "{more} {answer}");
        assert!(answer["type"] == "error" && answer["request_id"].as_str().unwrap().starts_with("req_"));
    }
    // Its clients see the list in their own shape.
    let (_, _, list) = s.ask("GET", "/v1/models", "anthropic-version: 2023-06-01\r\n", "");
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list["data"][0]["type"], &list["has_more"]), (&json!("model"), &json!(false)));
}

#[test]
fn ollama_lists_shows_and_embeds() {
    let s = Server::start(&[]);
    let get = |path: &str| -> Value { serde_json::from_str(&s.ask("GET", path, "", "").2).unwrap() };
    assert_eq!(get("/api/tags")["models"][0]["name"], "pebble");
    assert_eq!(get("/api/ps")["models"][0]["context_length"], 512);
    assert!(get("/api/version")["version"].is_string());
    let show = s.good("/api/show", &json!({ "model": "pebble" }));
    assert_eq!((&show["details"]["family"], &show["details"]["format"]), (&json!("qwen3_moe"), &json!("gguf")));
    assert!(show["template"].as_str().unwrap().contains("messages"));
    let two = s.good("/api/embed", &json!({ "model": "pebble", "input": ["a fox", "a bear"] }));
    let one = s.good("/v1/embeddings", &json!({ "model": "pebble", "input": "a bear" }));
    assert_eq!(two["embeddings"][1], one["data"][0]["embedding"]);
    let old = s.good("/api/embeddings", &json!({ "model": "pebble", "prompt": "a bear" }));
    assert_eq!(old["embedding"], two["embeddings"][1]);
    assert_eq!(s.good("/api/embeddings", &json!({ "model": "pebble", "prompt": "" }))["embedding"], json!([]));
    assert_eq!(s.good("/api/chat", &json!({ "model": "pebble", "messages": [] }))["done_reason"], "load");
    for (path, body, status) in [
        ("/api/chat", json!({ "model": "nope", "messages": [] }), 404),
        ("/api/generate", json!({ "model": "pebble", "prompt": "x", "images": ["aGk="] }), 400),
        ("/api/generate", json!({ "model": "pebble", "prompt": "x", "options": { "num_ctx": 1_000_000 } }), 400),
        ("/api/generate", json!({ "model": "pebble", "prompt": "x", "options": { "mirostat": 1 } }), 400),
        ("/api/pull", json!({ "model": "x" }), 400),
    ] {
        let (got, answer) = s.post(path, &body);
        assert!(got == status && answer["error"].is_string(), "{path} {body}: {got} {answer}");
    }
}

/// JSON of the schema that was asked for, in every dialect, whole and in pieces.
#[test]
fn answers_are_of_their_schema() {
    let s = Server::start(&[]);
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["animal", "age"],
        "properties": { "animal": { "enum": ["fox", "bear"] }, "age": { "type": "integer", "minimum": 1, "maximum": 9 } } });
    let check = |text: &str| {
        let v: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(
            ["fox", "bear"].contains(&v["animal"].as_str().unwrap()) && (1..=9).contains(&v["age"].as_i64().unwrap()),
            "{v}"
        );
    };
    let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "strict": true, "schema": schema } });
    let more = json!({ "response_format": format, "max_tokens": 200, "temperature": 1.0 });
    let whole = s.good("/v1/chat/completions", &chat(more.clone()));
    check(whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let mut more = more;
    more["stream"] = true.into();
    let pieces = s.stream("/v1/chat/completions", &chat(more));
    let joined: String = pieces.iter().filter_map(|p| p["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(joined, whole["choices"][0]["message"]["content"].as_str().unwrap());
    let whole = s.good(
        "/v1/messages",
        &message(
            json!({ "max_tokens": 200, "output_config": { "format": { "type": "json_schema", "schema": schema } } }),
        ),
    );
    check(whole["content"][0]["text"].as_str().unwrap());
    let body = json!({ "model": "pebble", "prompt": "An animal", "stream": false, "format": schema, "options": { "num_predict": 200 } });
    check(s.good("/api/generate", &body)["response"].as_str().unwrap());
    for (schema, param) in [
        (json!({ "type": "nothing" }), "response_format"),
        (json!({ "$ref": "#" }), "response_format"),
        (json!(3), "response_format.json_schema.schema"),
    ] {
        let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
        let (status, answer) = s.post("/v1/chat/completions", &chat(json!({ "response_format": format })));
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(param)), "{answer}");
    }
    s.good("/v1/chat/completions", &chat(json!({})));
}

/// A template that opens thoughts: what comes before their end is none of the answer, in every dialect.
#[test]
fn thoughts_stand_apart() {
    let folder = support::Folder::new();
    support::write_repository(&folder, "llama");
    folder.write("llama/chat_template.jinja", format!("{}<think>\n", support::TEMPLATE));
    let path = folder.join("llama");
    let s = Server::start(&[&format!("pebble={}", path.display()), "--ctx", "256"]);
    let whole = s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 })));
    let message = &whole["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().unwrap_or_else(|| panic!("{whole}"));
    assert_eq!(message["content"], "");
    let pieces = s.stream("/v1/chat/completions", &chat(json!({ "temperature": 0, "stream": true })));
    let joined: String = pieces.iter().filter_map(|p| p["choices"][0]["delta"]["reasoning_content"].as_str()).collect();
    assert_eq!(joined, thought);
    let anthropic = s.good("/v1/messages", &self::message(json!({})));
    assert_eq!(
        (&anthropic["content"][0]["type"], anthropic["content"][0]["thinking"].as_str()),
        (&json!("thinking"), Some(thought))
    );
    let (_, _, text) = s.ask("POST", "/v1/messages", "", &self::message(json!({ "stream": true })).to_string());
    let data: Vec<Value> =
        text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|d| serde_json::from_str(d).unwrap()).collect();
    let joined: String = data.iter().filter_map(|d| d["delta"]["thinking"].as_str()).collect();
    assert_eq!(joined, thought);
    assert!(data.iter().any(|d| d["content_block"]["type"] == "thinking"));
    let body = json!({ "model": "pebble", "messages": [{ "role": "user", "content": "Tell me a story about a fox" }], "stream": false,
        "options": { "temperature": 0, "num_predict": 40 } });
    let ollama = s.good("/api/chat", &body);
    assert_eq!((ollama["message"]["thinking"].as_str(), &ollama["message"]["content"]), (Some(thought), &json!("")));
}

/// What a hostile reader of the code would try.
#[test]
fn bounds_hold_on_every_path() {
    let s = Server::start(&[]);
    let long = vec![5; 600];
    for (path, body, param) in [
        (
            "/v1/completions",
            json!({ "model": "pebble", "prompt": long, "echo": true, "logprobs": 0, "max_tokens": 0 }),
            "prompt",
        ),
        ("/v1/completions", json!({ "model": "pebble", "prompt": long, "stream": true }), "prompt"),
        ("/v1/completions", json!({ "model": "pebble", "prompt": vec!["x"; 9], "n": 4 }), "n"),
        ("/v1/completions", json!({ "model": "pebble", "prompt": "x", "stream_options": {} }), "stream_options"),
        (
            "/v1/completions",
            json!({ "model": "pebble", "prompt": "x", "stream": true, "logit_bias": { "9999": 1 } }),
            "logit_bias",
        ),
        ("/v1/completions", json!({ "model": "pebble", "prompt": "x", "logit_bias": { "01": 1 } }), "logit_bias"),
        ("/v1/embeddings", json!({ "model": "pebble", "input": long }), "input"),
        ("/v1/chat/completions", chat(json!({ "chat_template_kwargs": { "messages": [] } })), "chat_template_kwargs"),
    ] {
        let (status, answer) = s.post(path, &body);
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(param)), "{path}: {answer}");
    }
    let many: serde_json::Map<String, Value> = (0..1100).map(|i| (i.to_string(), json!(1))).collect();
    assert_eq!(s.post("/v1/chat/completions", &chat(json!({ "logit_bias": many }))).0, 400);
    // Ollama's own client sends what it does not set as empty strings, and looks for somebody first.
    assert_eq!(s.ask("HEAD", "/", "", "").0, 200);
    let body = json!({ "model": "pebble", "prompt": "x", "suffix": "", "system": "", "template": "", "raw": true, "stream": false, "options": { "num_predict": 2 } });
    assert_eq!(s.good("/api/generate", &body)["eval_count"], 2);
    s.good("/api/show", &json!({ "model": "pebble", "name": "", "system": "", "template": "" }));
    // Whoever asks whether the server lives needs neither its name nor a place.
    let mut stream = s.connect();
    write!(stream, "GET /health HTTP/1.1\r\nHost: 10.1.2.3\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(answer(stream).0, 200);
    // A body that does not say its length is read all the same.
    let text = chat(json!({})).to_string();
    let mut stream = s.connect();
    write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).unwrap();
    assert_eq!(answer(stream).0, 200);
}

/// The page for browsers, a line for others; what the page asks beside the dialects.
#[test]
fn browsers_get_a_page() {
    let s = Server::start(&[]);
    let (status, headers, text) = s.ask("GET", "/", "", "");
    assert_eq!((status, text.as_str()), (200, "pondera is running\n"), "{headers}");
    let html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let (status, headers, text) = s.ask("GET", "/", html, "");
    assert!(status == 200 && text.starts_with("<!doctype html>"), "{status} {text}");
    let lower = headers.to_lowercase();
    for want in [
        "content-type: text/html",
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "x-frame-options: deny",
        "cache-control: no-cache",
    ] {
        assert!(lower.contains(want), "{want} in {headers}");
    }
    let tag = lower.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap();
    let (status, _, body) = s.ask("GET", "/", &format!("{html}If-None-Match: {tag}\r\n"), "");
    assert_eq!((status, body.as_str()), (304, ""));
    let script = text.split("src=\"./").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let (status, headers, body) = s.ask("GET", &format!("/{script}"), "", "");
    assert!(status == 200 && headers.contains("immutable") && !headers.contains("gzip") && body.len() > 50_000);
    let (status, headers, _) = s.ask("HEAD", &format!("/{script}"), "Accept-Encoding: gzip\r\n", "");
    assert!(status == 200 && headers.contains("content-encoding: gzip"), "{headers}");
    assert_eq!(s.ask("GET", "/assets/none.js", "", "").0, 404);

    let json = |path: &str| serde_json::from_str::<Value>(&s.ask("GET", path, "", "").2).unwrap();
    let about = json("/pondera/model?name=pebble");
    assert_eq!((&about["family"], &about["context"]["served"]), (&json!("qwen3_moe"), &json!(512)));
    assert!(about["kv"]["bytes_per_token"].as_u64().unwrap() > 0 && about["layers"].as_u64().unwrap() > 0);
    let types = about["weights"]["types"].as_array().unwrap().iter().map(|t| t["bytes"].as_u64().unwrap());
    assert_eq!(types.sum::<u64>(), about["weights"]["bytes"].as_u64().unwrap());
    assert_eq!(s.ask("GET", "/pondera/model", "", "").0, 400);
    assert_eq!(json("/pondera/model?name=none")["error"]["code"], "model_not_found");

    assert!(json("/pondera/load")["models"][0]["kv"]["total_pages"].as_u64().unwrap() > 0);
    s.good("/v1/chat/completions", &chat(json!({})));
    let start = Instant::now();
    let busy = loop {
        let busy = json("/pondera/load")["models"][0].take();
        if busy["generation_tokens_per_second"].as_f64().unwrap() > 0.0 {
            break busy;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{busy}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(busy["prompt_tokens_per_second"].as_f64().unwrap() > 0.0, "{busy}");
    assert_eq!((&busy["running"], &busy["waiting"], &busy["requests_total"]), (&json!(0), &json!(0), &json!(1)));
    assert!(busy["kv"]["used_pages"].as_u64().unwrap() <= busy["kv"]["total_pages"].as_u64().unwrap());
}

/// Embeddings of many and answers of others go on side by side.
#[test]
fn passes_and_steps_take_turns() {
    let s = Server::start(&[]);
    let want = s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 })))["choices"].clone();
    let texts: Vec<String> = (0..200).map(|i| format!("fox number {i} sat by the river")).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| s.good("/v1/embeddings", &json!({ "model": "pebble", "input": texts }))))
            .collect();
        assert_eq!(s.good("/v1/chat/completions", &chat(json!({ "temperature": 0 })))["choices"], want);
        let all: Vec<Value> = all.into_iter().map(|t| t.join().unwrap()["data"].clone()).collect();
        assert!(all[0].as_array().unwrap().len() == 200 && all[0] == all[1] && all[1] == all[2]);
    });
}
