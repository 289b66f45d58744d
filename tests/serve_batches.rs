//! Files and batches of `serve`: what comes of a batch is what the API answers, each line once, whatever happens to the process.
mod support;

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};
use support::server::{Server, answer};

/// A folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("pondera-batches-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn start(&self, more: &[&str]) -> Server {
        Server::start(&[&["--data", self.0.to_str().unwrap()], more].concat())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const KEYS: &str = "anna secret-of-anna-0001 admin\nbert secret-of-bert-0001\n";

fn form(parts: &[(&str, Option<&str>, &str)]) -> String {
    let part = |(name, file, content): &(&str, Option<&str>, &str)| {
        let file = file.map_or(String::new(), |f| format!("; filename=\"{f}\""));
        format!("--frontier\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n")
    };
    parts.iter().map(part).collect::<String>() + "--frontier--\r\n"
}

fn call(s: &Server, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let (status, _, text) = s.ask(method, path, headers, body);
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{method} {path} {status} {text:?}: {e}")))
}

const FORM: &str = "Content-Type: multipart/form-data; boundary=frontier\r\n";

fn upload(s: &Server, headers: &str, name: &str, content: &str) -> (u16, Value) {
    // The file first, as some clients send it.
    let body = form(&[("file", Some(name), content), ("purpose", None, "batch")]);
    call(s, "POST", "/v1/files", &format!("{FORM}{headers}"), &body)
}

fn line(id: &str, body: &Value) -> String {
    json!({ "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body }).to_string() + "\n"
}

fn chat(text: &str, tokens: u32) -> Value {
    json!({ "model": "pebble", "messages": [{ "role": "user", "content": text }], "max_tokens": tokens, "temperature": 0,
        "logit_bias": { "0": -100, "1": -100, "2": -100, "3": -100 } })
}

fn create(s: &Server, headers: &str, file: &Value, endpoint: &str) -> (u16, Value) {
    let body =
        json!({ "input_file_id": file, "endpoint": endpoint, "completion_window": "24h", "metadata": { "a": "b" } });
    call(s, "POST", "/v1/batches", headers, &body.to_string())
}

fn begun(s: &Server, content: &str) -> String {
    let (status, file) = upload(s, "", "in.jsonl", content);
    assert_eq!(status, 200, "{file}");
    let (status, batch) = create(s, "", &file["id"], "/v1/chat/completions");
    assert_eq!((status, batch["status"].as_str()), (200, Some("validating")), "{batch}");
    batch["id"].as_str().unwrap().to_string()
}

fn batch(s: &Server, id: &str) -> Value {
    let (status, batch) = call(s, "GET", &format!("/v1/batches/{id}"), "", "");
    assert_eq!(status, 200, "{batch}");
    batch
}

fn until(s: &Server, id: &str, what: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let batch = batch(s, id);
        if what(&batch) {
            return batch;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{batch}");
        sleep(Duration::from_millis(20));
    }
}

fn ended(s: &Server, id: &str) -> Value {
    until(s, id, |b| ["completed", "failed", "expired", "cancelled"].contains(&b["status"].as_str().unwrap()))
}

/// Lines of a file by their `custom_id`, each of which is there once.
fn lines(s: &Server, file: &Value) -> HashMap<String, Value> {
    let (status, _, text) = s.ask("GET", &format!("/v1/files/{}/content", file.as_str().unwrap()), "", "");
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with('\n'));
    let mut lines = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        assert!(lines.insert(line["custom_id"].as_str().unwrap().to_string(), line.clone()).is_none(), "twice: {line}");
    }
    lines
}

/// An answer without what is drawn anew for each.
fn plain(mut body: Value) -> Value {
    for name in ["id", "created", "system_fingerprint"] {
        body.as_object_mut().unwrap().remove(name);
    }
    body["usage"]["prompt_tokens_details"] = Value::Null;
    body
}

#[test]
fn a_batch_answers_as_the_api_does() {
    let folder = Folder::new("answers");
    let s = folder.start(&[]);
    let bodies: Vec<Value> = (0..9).map(|i| chat(&format!("Tell me story {i}"), 5 + i)).collect();
    let mut content: String = bodies.iter().enumerate().map(|(i, b)| line(&format!("r{i}"), b)).collect();
    content.push_str(&line("none", &json!({ "model": "none", "messages": [] })));
    content.push('\n');
    let id = begun(&s, &content);
    let done = ended(&s, &id);
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["request_counts"], json!({ "total": 10, "completed": 9, "failed": 1 }));
    assert_eq!((&done["metadata"], &done["errors"]), (&json!({ "a": "b" }), &Value::Null));
    for moment in ["created_at", "in_progress_at", "finalizing_at", "completed_at", "expires_at"] {
        assert!(done[moment].as_u64().unwrap() > 1_700_000_000, "{moment}");
    }
    let answers = lines(&s, &done["output_file_id"]);
    assert_eq!(answers.len(), 9);
    for (i, body) in bodies.iter().enumerate() {
        let got = &answers[&format!("r{i}")];
        assert_eq!((&got["response"]["status_code"], &got["error"]), (&json!(200), &Value::Null));
        assert_eq!(plain(got["response"]["body"].clone()), plain(s.good("/v1/chat/completions", body)));
    }
    let errors = lines(&s, &done["error_file_id"]);
    let (status, want) = s.post("/v1/chat/completions", &json!({ "model": "none", "messages": [] }));
    assert_eq!(errors["none"]["response"]["status_code"], status);
    assert_eq!(errors["none"]["response"]["body"], want);
    // Other endpoints.
    for (endpoint, body) in [
        ("/v1/completions", json!({ "model": "pebble", "prompt": "Once", "max_tokens": 4, "temperature": 0 })),
        ("/v1/embeddings", json!({ "model": "pebble", "input": ["a fox", "a bear"] })),
    ] {
        let text = json!({ "custom_id": "x", "method": "POST", "url": endpoint, "body": body }).to_string();
        let (_, file) = upload(&s, "", "other.jsonl", &text);
        let (_, made) = create(&s, "", &file["id"], endpoint);
        let done = ended(&s, made["id"].as_str().unwrap());
        let got = lines(&s, &done["output_file_id"])["x"]["response"]["body"].clone();
        assert_eq!(plain(got), plain(s.good(endpoint, &body)));
    }
}

#[test]
fn lists_pages_and_deletions() {
    let folder = Folder::new("lists");
    let s = folder.start(&[]);
    let ids: Vec<String> =
        (0..5).map(|i| upload(&s, "", &format!("{i}.jsonl"), "{}\n").1["id"].as_str().unwrap().to_string()).collect();
    let page = |query: &str| {
        let (status, list) = call(&s, "GET", &format!("/v1/files{query}"), "", "");
        assert_eq!(status, 200, "{list}");
        let names: Vec<String> =
            list["data"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap().into()).collect();
        (names, list["has_more"].as_bool().unwrap())
    };
    let reversed: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(page(""), (reversed.clone(), false));
    assert_eq!(page("?order=asc&limit=2"), (ids[..2].to_vec(), true));
    assert_eq!(page(&format!("?limit=2&after={}", reversed[1])), (reversed[2..4].to_vec(), true));
    assert_eq!(page(&format!("?limit=2&after={}", reversed[3])), (reversed[4..].to_vec(), false));
    assert_eq!(page("?purpose=batch_output"), (vec![], false));
    for bad in ["?limit=0", "?limit=x", "?limit=10001", "?order=up", "?after=file-none", "?before=1"] {
        assert_eq!(call(&s, "GET", &format!("/v1/files{bad}"), "", "").0, 400, "{bad}");
    }
    let path = format!("/v1/files/{}", ids[0]);
    let (_, one) = call(&s, "GET", &path, "", "");
    assert_eq!((&one["filename"], &one["bytes"], &one["object"]), (&json!("0.jsonl"), &json!(3), &json!("file")));
    assert_eq!(call(&s, "DELETE", &path, "", ""), (200, json!({ "id": ids[0], "object": "file", "deleted": true })));
    assert_eq!(call(&s, "DELETE", &path, "", "").0, 404);
    assert_eq!(call(&s, "GET", &path, "", "").0, 404);
    assert_eq!(call(&s, "GET", &format!("{path}/content"), "", "").0, 404);
    // Batches have pages too.
    let batches: Vec<String> = (0..3).map(|i| begun(&s, &line("a", &chat("Hi", i + 1)))).collect();
    let (_, list) = call(&s, "GET", "/v1/batches?limit=2", "", "");
    assert_eq!((&list["data"][0]["id"], &list["last_id"]), (&json!(batches[2]), &json!(batches[1])));
    assert_eq!(list["has_more"], true);
    assert_eq!(
        call(&s, "GET", &format!("/v1/batches?after={}", batches[1]), "", "").1["data"][0]["id"],
        json!(batches[0])
    );
    assert_eq!(call(&s, "GET", "/v1/batches?limit=101", "", "").0, 400);
    // What is there is there after a restart, with what it says.
    batches.iter().for_each(|b| assert_eq!(ended(&s, b)["status"], "completed"));
    let (before, files) = (call(&s, "GET", "/v1/batches", "", ""), call(&s, "GET", "/v1/files", "", ""));
    drop(s);
    let s = folder.start(&[]);
    assert_eq!((call(&s, "GET", "/v1/batches", "", ""), call(&s, "GET", "/v1/files", "", "")), (before, files));
}

#[test]
fn errors_name_their_lines() {
    let folder = Folder::new("errors");
    let s = folder.start(&[]);
    let good = line("a", &chat("Hi", 1));
    let content = [
        good.clone(),
        "no json\n".into(),
        good.clone(),
        line("b", &chat("Hi", 1)).replace("POST", "GET"),
        line("c", &chat("Hi", 1)).replace("/v1/chat/completions", "/v1/completions"),
        line("", &chat("Hi", 1)),
        line("d", &json!([1])),
        line("e", &json!({ "model": "pebble", "stream": true })),
        line("f", &chat("Hi", 1)).replace("\"custom_id\"", "\"id\""),
    ]
    .concat();
    let done = ended(&s, &begun(&s, &content));
    assert_eq!((&done["status"], &done["output_file_id"]), (&json!("failed"), &Value::Null), "{done}");
    let said: Vec<(u64, &str)> = done["errors"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["line"].as_u64().unwrap(), e["code"].as_str().unwrap()))
        .collect();
    let want = [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "invalid_method"),
        (5, "mismatched_url"),
        (6, "invalid_custom_id"),
        (7, "invalid_body"),
        (8, "stream_not_supported"),
        (9, "invalid_request"),
    ];
    assert_eq!(said, want);
    assert!(done["failed_at"].is_u64() && done["finalizing_at"].is_null());
    let many: String = (0..50_001).map(|i| line(&i.to_string(), &json!({}))).collect();
    assert_eq!(ended(&s, &begun(&s, &many))["errors"]["data"][0]["code"], "too_many_requests");
    assert_eq!(ended(&s, &begun(&s, "\n \n"))["errors"]["data"][0]["code"], "empty_file");
    // What cannot begin.
    let (_, file) = upload(&s, "", "in.jsonl", &good);
    for endpoint in ["/v1/messages", "/v1/files", "/v1/nothing", ""] {
        let (status, said) = create(&s, "", &file["id"], endpoint);
        assert_eq!((status, &said["error"]["param"]), (400, &json!("endpoint")), "{endpoint}");
    }
    assert_eq!(create(&s, "", &json!("file-none"), "/v1/completions").0, 404);
    let body = json!({ "input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "1h" });
    assert_eq!(call(&s, "POST", "/v1/batches", "", &body.to_string()).1["error"]["param"], "completion_window");
}

#[test]
fn a_batch_can_be_cancelled_and_holds_its_input() {
    let folder = Folder::new("cancel");
    let s = folder.start(&["--batch-lines", "1"]);
    let content: String = (0..400).map(|i| line(&i.to_string(), &chat("Tell me a story", 60))).collect();
    let id = begun(&s, &content);
    let running = until(&s, &id, |b| b["request_counts"]["completed"].as_u64().unwrap() > 2);
    assert_eq!(running["status"], "in_progress");
    assert_eq!(running["output_file_id"], Value::Null);
    let input = running["input_file_id"].as_str().unwrap();
    assert_eq!(call(&s, "DELETE", &format!("/v1/files/{input}"), "", "").0, 409);
    let (status, said) = call(&s, "POST", &format!("/v1/batches/{id}/cancel"), "", "");
    assert_eq!((status, &said["status"]), (200, &json!("cancelling")));
    let done = ended(&s, &id);
    assert_eq!(done["status"], "cancelled");
    let completed = done["request_counts"]["completed"].as_u64().unwrap();
    assert!(completed > 2 && completed < 400, "{done}");
    assert_eq!(lines(&s, &done["output_file_id"]).len() as u64, completed);
    assert!(done["cancelling_at"].is_u64() && done["cancelled_at"].is_u64());
    assert_eq!(call(&s, "POST", &format!("/v1/batches/{id}/cancel"), "", "").0, 409);
    assert_eq!(call(&s, "POST", &format!("/v1/batches/{id}"), "", "").0, 404);
    assert_eq!(call(&s, "DELETE", &format!("/v1/files/{input}"), "", "").0, 200);
}

#[test]
fn others_see_nothing() {
    let folder = Folder::new("others");
    fs::create_dir_all(&folder.0).unwrap();
    let keys = folder.0.join("keys.txt");
    fs::write(&keys, KEYS).unwrap();
    let with = ["--keys", keys.to_str().unwrap()];
    let mut s = folder.start(&with);
    let (anna, bert) =
        ("Authorization: Bearer secret-of-anna-0001\r\n", "Authorization: Bearer secret-of-bert-0001\r\n");
    let (status, file) = upload(&s, anna, "in.jsonl", &line("a", &chat("Hi", 3)));
    assert_eq!(status, 200, "{file}");
    assert_eq!(upload(&s, "", "in.jsonl", "{}").0, 401);
    let (_, made) = create(&s, anna, &file["id"], "/v1/chat/completions");
    let (file, made) = (file["id"].as_str().unwrap(), made["id"].as_str().unwrap());
    for again in [false, true] {
        if again {
            // Who has which files does not depend on the order of keys.
            drop(s);
            fs::write(&keys, KEYS.lines().rev().collect::<Vec<_>>().join("\n")).unwrap();
            s = folder.start(&with);
        }
        for (method, path) in [
            ("GET", format!("/v1/files/{file}")),
            ("GET", format!("/v1/files/{file}/content")),
            ("DELETE", format!("/v1/files/{file}")),
            ("GET", format!("/v1/batches/{made}")),
            ("POST", format!("/v1/batches/{made}/cancel")),
        ] {
            assert_eq!(call(&s, method, &path, bert, "").0, 404, "{method} {path}");
        }
        assert_eq!(create(&s, bert, &json!(file), "/v1/chat/completions").0, 404);
        for path in ["/v1/files", "/v1/batches"] {
            assert_eq!(call(&s, "GET", path, bert, "").1["data"], json!([]));
            assert!(!call(&s, "GET", path, anna, "").1["data"].as_array().unwrap().is_empty());
        }
        assert_eq!(call(&s, "GET", &format!("/v1/files/{file}"), anna, "").0, 200);
    }
}

#[test]
fn a_killed_server_goes_on_with_its_batches() {
    let folder = Folder::new("killed");
    let n = 150;
    let content: String = (0..n).map(|i| line(&format!("r{i}"), &chat(&format!("Story {i}"), 30))).collect();
    let mut s = folder.start(&[]);
    let id = begun(&s, &content);
    let first = until(&s, &id, |b| b["request_counts"]["completed"].as_u64().unwrap() >= 5);
    assert_eq!(first["status"], "in_progress", "{first}");
    let journal = folder.0.join("batches").join(format!("{id}.output"));
    for torn in
        ["", "{\"id\": \"batch_req_torn\", \"custom_id\": \"r149\", \"resp", "\0\0\0\0\n{\"custom_id\":\"r148\"}\n"]
    {
        // SIGKILL, wherever it is.
        s.child.kill().unwrap();
        s.child.wait().unwrap();
        let whole = fs::read_to_string(&journal).unwrap().lines().count() as u64;
        fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(torn.as_bytes()).unwrap();
        s = folder.start(&[]);
        let now = until(&s, &id, |b| b["request_counts"]["completed"].as_u64().unwrap() >= whole.saturating_sub(1) + 3);
        assert_eq!(now["request_counts"]["total"], n);
    }
    // And one that is told to stop.
    #[cfg(unix)]
    {
        std::process::Command::new("kill").arg(s.child.id().to_string()).status().unwrap();
        assert!(s.child.wait().unwrap().success());
        s = folder.start(&[]);
    }
    let done = ended(&s, &id);
    assert_eq!(done["status"], "completed");
    assert_eq!(done["request_counts"], json!({ "total": n, "completed": n, "failed": 0 }));
    assert_eq!(done["error_file_id"], Value::Null);
    let answers = lines(&s, &done["output_file_id"]);
    assert_eq!(answers.len(), n);
    for i in [0, 7, n - 1] {
        let want = s.good("/v1/chat/completions", &chat(&format!("Story {i}"), 30));
        assert_eq!(plain(answers[&format!("r{i}")]["response"]["body"].clone()), plain(want));
    }
    let left: Vec<_> = fs::read_dir(folder.0.join("batches")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn time_that_is_over_is_said_of_each_line() {
    let folder = Folder::new("expired");
    let s = folder.start(&["--batch-lines", "1"]);
    let content: String = (0..100).map(|i| line(&i.to_string(), &chat("Tell me a story", 60))).collect();
    let id = begun(&s, &content);
    until(&s, &id, |b| b["request_counts"]["completed"].as_u64().unwrap() >= 2);
    drop(s);
    let record = folder.0.join("batches").join(format!("{id}.json"));
    let mut said: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    said["expires_at"] = json!(1_700_000_000);
    fs::write(&record, said.to_string()).unwrap();
    let s = folder.start(&[]);
    let done = ended(&s, &id);
    assert_eq!(done["status"], "expired");
    let (answers, errors) = (lines(&s, &done["output_file_id"]), lines(&s, &done["error_file_id"]));
    assert_eq!(answers.len() + errors.len(), 100);
    assert!(errors.values().all(|e| e["error"]["code"] == "batch_expired" && e["response"].is_null()));
}

#[test]
fn hostile_names_and_sizes() {
    let folder = Folder::new("hostile");
    let s = folder.start(&["--data-mib", "1"]);
    let count = || {
        fs::read_dir(folder.0.join("files")).unwrap().count() + fs::read_dir(folder.0.join("drafts")).unwrap().count()
    };
    // A name is a text and no path.
    for name in ["../../etc/passwd", "/etc/passwd", "a%00b", "CON", "..", "a b.jsonl", "ü.jsonl"] {
        let (status, file) = upload(&s, "", name, "{}\n");
        assert_eq!((status, file["filename"].as_str()), (200, Some(name)), "{file}");
        call(&s, "DELETE", &format!("/v1/files/{}", file["id"].as_str().unwrap()), "", "");
    }
    assert_eq!(count(), 0);
    let long = "x".repeat(256);
    for (what, status, parts) in [
        ("a long name", 400, vec![("purpose", None, "batch"), ("file", Some(long.as_str()), "{}")]),
        ("a control character", 400, vec![("purpose", None, "batch"), ("file", Some("a\tb"), "{}")]),
        ("another purpose", 400, vec![("purpose", None, "fine-tune"), ("file", Some("a"), "{}")]),
        ("no purpose", 400, vec![("file", Some("a"), "{}")]),
        ("no file", 400, vec![("purpose", None, "batch")]),
        ("an empty file", 400, vec![("purpose", None, "batch"), ("file", Some("a"), "")]),
        ("two files", 400, vec![("purpose", None, "batch"), ("file", Some("a"), "{}"), ("file", Some("b"), "{}")]),
        ("an unknown field", 400, vec![("purpose", None, "batch"), ("file", Some("a"), "{}"), ("mode", None, "0777")]),
    ] {
        let (got, said) = call(&s, "POST", "/v1/files", FORM, &form(&parts));
        assert_eq!(got, status, "{what}: {said}");
    }
    let whole = form(&[("purpose", None, "batch"), ("file", Some("a"), "{}")]);
    assert_eq!(call(&s, "POST", "/v1/files", FORM, &whole[..whole.len() - 4]).0, 400);
    assert_eq!(call(&s, "POST", "/v1/files", "", &whole).0, 400);
    for path in ["..%2f..%2fetc", "../lock", "lock", "file-%00", "file-", "../../drafts/x"] {
        assert_eq!(call(&s, "GET", &format!("/v1/files/{path}"), "", "").0, 404, "{path}");
        assert_eq!(call(&s, "GET", &format!("/v1/files/{path}/content"), "", "").0, 404, "{path}");
        assert_eq!(call(&s, "DELETE", &format!("/v1/files/{path}"), "", "").0, 404, "{path}");
    }
    // Sizes: by what is said, and by what comes.
    let mut stream = s.connect();
    write!(
        stream,
        "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FORM}Content-Length: 300000000\r\n\r\n"
    )
    .unwrap();
    assert_eq!(answer(stream).0, 413);
    let big = "x".repeat(700 << 10);
    let (status, first) = upload(&s, "", "big.jsonl", &big);
    assert_eq!(status, 200);
    let (status, said) = upload(&s, "", "big.jsonl", &big);
    assert_eq!((status, said["error"]["code"].as_str()), (413, Some("storage_quota_exceeded")), "{said}");
    assert_eq!(count(), 2);
    call(&s, "DELETE", &format!("/v1/files/{}", first["id"].as_str().unwrap()), "", "");
    assert_eq!(upload(&s, "", "big.jsonl", &big).0, 200);
    // A client that goes away leaves nothing.
    let mut stream = s.connect();
    write!(
        stream,
        "POST /v1/files HTTP/1.1\r\nHost: localhost\r\n{FORM}Content-Length: 100000\r\n\r\n{}",
        &whole[..whole.len() - 20]
    )
    .unwrap();
    drop(stream);
    let begin = Instant::now();
    while count() != 2 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_batch_that_outgrows_the_quota_keeps_what_it_has() {
    let folder = Folder::new("quota");
    let s = folder.start(&["--data-mib", "1"]);
    // A vector takes more than its text.
    let body = json!({ "model": "pebble", "input": vec!["a"; 60] });
    let line = |i| {
        json!({ "custom_id": format!("{i}"), "method": "POST", "url": "/v1/embeddings", "body": body }).to_string()
            + "\n"
    };
    let (_, file) = upload(&s, "", "in.jsonl", &(0..300).map(line).collect::<String>());
    let (_, made) = create(&s, "", &file["id"], "/v1/embeddings");
    let done = ended(&s, made["id"].as_str().unwrap());
    assert_eq!(done["status"], "failed", "{done}");
    assert_eq!(done["errors"]["data"][0]["code"], "storage_quota_exceeded");
    assert_eq!(lines(&s, &done["output_file_id"]).len() as u64, done["request_counts"]["completed"].as_u64().unwrap());
}

#[test]
fn without_a_folder_there_are_none() {
    let s = Server::start(&[]);
    for (method, path) in [
        ("GET", "/v1/files"),
        ("GET", "/v1/batches"),
        ("GET", "/v1/files/file-x"),
        ("POST", "/v1/batches/batch_x/cancel"),
    ] {
        let (status, said) = call(&s, method, path, "", "");
        assert_eq!((status, said["error"]["code"].as_str()), (404, Some("no_data_folder")), "{path}");
        assert!(said["error"]["message"].as_str().unwrap().contains("--data"));
    }
    assert_eq!(upload(&s, "", "a", "{}").1["error"]["code"], "no_data_folder");
}

#[cfg(unix)]
#[test]
fn a_folder_is_private_and_has_one_server() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("private");
    let s = folder.start(&[]);
    upload(&s, "", "a", "{}");
    fn walk(path: &Path) {
        let meta = fs::symlink_metadata(path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o077, 0, "{}", path.display());
        if meta.is_dir() {
            fs::read_dir(path).unwrap().for_each(|e| walk(&e.unwrap().path()));
        }
    }
    walk(&folder.0);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_pondera"))
        .args(["serve", "--port", "0", "--data"])
        .arg(&folder.0)
        .output()
        .unwrap();
    assert!(!second.status.success() && String::from_utf8_lossy(&second.stderr).contains("another server"));
}
