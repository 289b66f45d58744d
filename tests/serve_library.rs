//! `serve --library`: clients name, fetch, copy and delete models of the machine's store, from a hub that stands in for the real one.
#[path = "../crates/store/tests/hub/mod.rs"]
mod hub;
mod support;

use hub::{Fault, Folder, Hub, repo};
use serde_json::{Value, json};
use support::server::Server;

const PEBBLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/pebble/pebble.gguf");
const NAME: &str = "den/fox";

/// A hub with one model, an empty store, and a server of both.
fn served() -> (Hub, Folder, Server) {
    let (hub, folder) = (Hub::new(), Folder::new());
    let model = std::fs::read(PEBBLE).unwrap();
    hub.put(NAME, repo(&[("fox-Q8_0.gguf", model), ("README.md", b"---\nlicense: mit\n---\n".to_vec())]));
    hub.put("den/locked", repo(&[("a.gguf", vec![1; 64])]));
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let vars = [("HF_ENDPOINT", hub.address.clone()), ("HF_HUB_CACHE", at("cache")), ("PONDERA_STORE", at("named"))];
    let s = Server::start_with(&["--library"], &vars);
    (hub, folder, s)
}

fn lines(s: &Server, path: &str, body: &Value) -> (u16, Vec<Value>) {
    let (status, _, text) = s.ask("POST", path, "", &body.to_string());
    (status, text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {text:?}"))).collect())
}

fn names(s: &Server, path: &str, list: &str, key: &str) -> Vec<String> {
    let (_, _, text) = s.ask("GET", path, "", "");
    let all: Value = serde_json::from_str(&text).unwrap();
    all[list].as_array().unwrap().iter().map(|m| m[key].as_str().unwrap().to_string()).collect()
}

fn story(s: &Server, model: &str) -> (u16, Value) {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Tell me a story about a fox" }],
        "max_tokens": 12, "temperature": 0 });
    s.post("/v1/chat/completions", &body)
}

#[test]
fn models_are_fetched_answered_copied_and_deleted() {
    let (_hub, _folder, s) = served();
    assert_eq!(story(&s, NAME).0, 404);
    let (status, told) = lines(&s, "/api/pull", &json!({ "model": "hf.co/den/fox:Q8_0" }));
    assert_eq!((status, told.last().unwrap()), (200, &json!({ "status": "success" })), "{told:?}");
    assert_eq!(told[0]["status"], "pulling manifest");
    let file = told.iter().rfind(|l| l["total"].is_u64()).unwrap();
    assert_eq!(file["completed"], file["total"], "{told:?}");
    // By all of its names, and as the built-in model answers, whose file it is.
    let own = story(&s, "pebble").1["choices"].clone();
    for name in [NAME, "hf.co/den/fox", "den/fox:Q8_0", "den/fox:latest"] {
        let (status, answer) = story(&s, name);
        assert_eq!((status, &answer["choices"]), (200, &own), "{name}: {answer}");
    }
    assert!(names(&s, "/api/tags", "models", "name").contains(&NAME.to_string()));
    assert!(names(&s, "/v1/models", "data", "id").contains(&NAME.to_string()));
    // A copy is another name for it, a folder elsewhere is none.
    assert_eq!(s.ask("POST", "/api/copy", "", &json!({ "source": NAME, "destination": "vixen" }).to_string()).0, 200);
    assert_eq!(story(&s, "vixen").1["choices"], own);
    // All of these names are one model, which is open once.
    let open = names(&s, "/api/ps", "models", "name");
    assert_eq!(open.iter().filter(|n| *n != "pebble").count(), 1, "{open:?}");
    for (source, destination, status) in [
        ("den/none", "x", 404),
        (NAME, "../x", 400),
        (NAME, "a/b", 400),
        (NAME, "pebble", 400),
        (PEBBLE, "x", 404),
        ("../../etc", "x", 404),
    ] {
        let body = json!({ "source": source, "destination": destination });
        assert_eq!(s.post("/api/copy", &body).0, status, "{body}");
    }
    assert_eq!(story(&s, PEBBLE).0, 404, "a path is no name");
    let delete = |name: &str| s.ask("DELETE", "/api/delete", "", &json!({ "model": name }).to_string()).0;
    assert_eq!(
        [delete("vixen"), delete("vixen"), delete("pebble"), delete(NAME), delete(NAME)],
        [200, 404, 400, 200, 404]
    );
    assert_eq!((story(&s, "vixen").0, story(&s, NAME).0), (404, 404));
    assert!(!names(&s, "/api/tags", "models", "name").contains(&NAME.to_string()));
}

#[test]
fn what_goes_wrong_with_a_pull_is_said_and_can_be_done_again() {
    let (hub, _folder, s) = served();
    for (name, status) in [("den/none", 404), ("none", 400), ("../x/y", 400), ("", 400)] {
        let (got, answer) = s.post("/api/pull", &json!({ "model": name, "stream": false }));
        assert_eq!(got, status, "{name}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    // Clients do not choose whom this machine connects to.
    hub.forget();
    let registry = format!("oci://{}/org/m", hub.address.trim_start_matches("http://"));
    let (got, answer) = s.post("/api/pull", &json!({ "model": registry, "stream": false }));
    assert!(got == 400 && answer["error"].as_str().unwrap().contains("pondera pull"), "{got} {answer}");
    assert!(hub.log().is_empty());
    // Within a stream an error is its last line.
    let (status, told) = lines(&s, "/api/pull", &json!({ "model": "den/none" }));
    assert!(status == 200 && told.last().unwrap()["error"].is_string(), "{told:?}");
    // Bytes that are not what they should be are never served.
    hub.hook(|r| (r.is_body() && r.path.contains("fox")).then_some(Fault::Flip(12345)));
    let (status, answer) = s.post("/api/pull", &json!({ "model": NAME, "stream": false }));
    assert_eq!(status, 502, "{answer}");
    assert_eq!(story(&s, NAME).0, 404);
    hub.hook(|_| None);
    assert_eq!(s.post("/api/pull", &json!({ "model": NAME, "stream": false })), (200, json!({ "status": "success" })));
    assert_eq!(story(&s, NAME).0, 200);
}

#[test]
fn without_the_flag_the_store_is_closed() {
    let s = Server::start(&[]);
    for path in ["/api/pull", "/api/copy"] {
        let copy = json!({ "source": NAME, "destination": "x" });
        let (status, answer) = s.post(path, &if path == "/api/pull" { json!({ "model": NAME }) } else { copy });
        assert_eq!(status, 400, "{path} {answer}");
        assert!(answer["error"].as_str().unwrap().contains("--library"), "{answer}");
    }
    assert_eq!(story(&s, NAME).0, 404);
}
