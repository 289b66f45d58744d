//! Several models in less memory than all of them take: they take turns, and nobody's answer shows it.
mod support;

use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};
use support::server::Server;

const PEBBLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/pebble/pebble.gguf");

/// A server of three models of one file.
fn three(args: &[&str]) -> Server {
    let named = ["a", "b", "c"].map(|name| format!("{name}={PEBBLE}"));
    let all: Vec<&str> = named.iter().map(String::as_str).chain(args.iter().copied()).collect();
    Server::start(&all)
}

fn ask(s: &Server, model: &str, seed: usize) -> Value {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Tell me a story about a fox" }],
        "max_tokens": 24, "seed": seed, "temperature": 0.9 });
    s.good("/v1/chat/completions", &body)["choices"].clone()
}

fn open(s: &Server) -> Vec<Value> {
    let (status, _, text) = s.ask("GET", "/api/ps", "", "");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["models"].as_array().unwrap().clone()
}

fn names(s: &Server) -> Vec<String> {
    open(s).iter().map(|m| m["name"].as_str().unwrap().to_string()).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not in time");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn models_that_do_not_fit_together_take_turns() {
    let roomy = three(&["--ctx", "512"]);
    assert_eq!(names(&roomy), ["a", "b", "c"]);
    let one = open(&roomy)[0]["size"].as_u64().unwrap();
    let want: Vec<Value> = (0..24).map(|i| ask(&roomy, ["a", "b", "c"][i % 3], i)).collect();
    drop(roomy);

    let memory = (one * 3 / 2).to_string();
    let s = three(&["--ctx", "512", "--memory", &memory]);
    assert_eq!(names(&s), ["a"]);
    // All of them are there for clients, and can be looked at without being opened.
    let (_, _, list) = s.ask("GET", "/v1/models", "", "");
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap()["data"].as_array().unwrap().len(), 3);
    assert_eq!(s.post("/api/show", &json!({ "model": "b" })).0, 200);
    assert_eq!(names(&s), ["a"]);
    thread::scope(|scope| {
        let answers: Vec<_> = (0..24)
            .map(|i| {
                (
                    i,
                    scope.spawn({
                        let s = &s;
                        move || ask(s, ["a", "b", "c"][i % 3], i)
                    }),
                )
            })
            .collect();
        let watch = scope.spawn(|| {
            for _ in 0..50 {
                let taken: u64 = open(&s).iter().map(|m| m["size"].as_u64().unwrap()).sum();
                assert!(taken <= one * 3 / 2, "{taken}");
                thread::sleep(Duration::from_millis(5));
            }
        });
        for (i, answer) in answers {
            assert_eq!(answer.join().unwrap(), want[i], "{i}");
        }
        watch.join().unwrap();
    });
    assert!(s.metric("pondera:model_opened_total{model_name=\"b\"}") >= 2.0);
    assert_eq!(s.metric("pondera:requests_total{model_name=\"b\"}"), 8.0);
    assert_eq!(s.ask("GET", "/ready", "", "").0, 200);
}

/// Who is being answered is not cut short for another's sake.
#[test]
fn an_answer_ends_before_its_model_closes() {
    let one = open(&three(&["--ctx", "2048"]))[0]["size"].as_u64().unwrap();
    let s = three(&["--ctx", "2048", "--memory", &(one * 3 / 2).to_string()]);
    let forbidden = s.ends_forbidden();
    let body = json!({ "model": "a", "prompt": "Once", "max_tokens": 1500, "stream": true,
        "stream_options": { "include_usage": true }, "logit_bias": forbidden });
    thread::scope(|scope| {
        let long = scope.spawn(|| s.stream("/v1/completions", &body));
        until("it runs", || s.metric("vllm:num_requests_running{model_name=\"a\"}") > 0.0);
        ask(&s, "b", 1);
        assert_eq!(names(&s), ["b"]);
        let end = long.join().unwrap();
        let [.., last, usage] = &end[..] else { panic!("{end:?}") };
        assert_eq!(last["choices"][0]["finish_reason"], "length");
        // A token of half a character has no event of its own: only the count tells.
        assert_eq!(usage["usage"]["completion_tokens"], 1500);
    });
}

#[test]
fn models_that_nobody_asks_for_close() {
    let s = three(&["--ctx", "512", "--keep-alive", "1"]);
    let before = ask(&s, "a", 1);
    until("all are closed", || names(&s).is_empty());
    assert_eq!(s.ask("GET", "/ready", "", "").0, 200);
    assert_eq!(ask(&s, "a", 1), before);
    assert_eq!(s.metric("pondera:model_opened_total{model_name=\"a\"}"), 2.0);
    // A client may ask for longer, and for less.
    let kept = s.good("/api/generate", &json!({ "model": "b", "keep_alive": "10m" }));
    assert_eq!(kept["done_reason"], "load");
    until("a is closed", || names(&s) == ["b"]);
    let expires = open(&s)[0]["expires_at"].as_str().unwrap().to_string();
    assert!(expires.starts_with("20") && expires.ends_with('Z'), "{expires}");
    let gone = s.good("/api/generate", &json!({ "model": "b", "keep_alive": 0 }));
    assert_eq!(gone["done_reason"], "unload");
    until("b is closed", || names(&s).is_empty());
    let (status, wrong) = s.post("/api/chat", &json!({ "model": "b", "messages": [], "keep_alive": "soon" }));
    assert!(status == 400 && wrong["error"].as_str().unwrap().contains("keep_alive"), "{wrong}");
}

/// What is wrong with a model is said at the start, also where it would have been opened later.
#[test]
fn a_model_that_fits_nowhere_ends_the_start() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_pondera"))
        .args(["serve", "--port", "0", "--memory", "10MB", PEBBLE])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && text.contains("does not fit"), "{text}");
}
