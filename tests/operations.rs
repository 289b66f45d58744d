//! `serve` as those who run it see it: its file of settings, its log, its traces. Each test starts the program.
mod support;

use pondera::quant::Format;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use support::{Folder, server::Server};

/// What must stand in no log and no trace: of the prompt, of the path, of a key.
const SECRETS: [&str; 3] = ["elephant-in-the-prompt", "resp_private-id", "a-secret-of-this-test"];

fn chat(more: Value) -> Value {
    let mut body = json!({ "model": "pebble", "messages": [{ "role": "user", "content": "Tell me of the elephant-in-the-prompt" }],
        "max_tokens": 12, "temperature": 0, "seed": 7 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Tells the server to stop and waits; how it ended, and after what time.
fn stop(mut s: Server) -> (bool, Duration) {
    let (start, id) = (Instant::now(), s.child.id().to_string());
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    (s.child.wait().unwrap().success(), start.elapsed())
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l:?}: {e}"))).collect()
}

#[test]
fn a_file_says_what_to_serve_and_the_command_line_wins() {
    let folder = Folder::new();
    fs::create_dir(folder.join("models")).unwrap();
    support::write_gguf(&folder, "models/tiny.gguf", Format::F32);
    folder.write("secret", "a-secret-of-this-test\n");
    folder.write("first.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    let file = folder.write(
        "c.toml",
        "threads = 1\n[serve]\nhost = \"127.0.0.2\"\nmax_requests = 3\nkv-tokens = 4096\napi_key = { file = \"secret\" }\n\
        [[model]]\nname = \"tiny\"\npath = \"models/tiny.gguf\"\naliases = [\"other\"]\nchat_template = \"first.jinja\"\n\
        [[model]]\nname = \"box\"\n[run]\nmax-tokens = 3\n",
    );
    let file = file.to_str().unwrap();
    let names = |s: &Server| -> Vec<String> {
        let (status, _, text) = s.ask("GET", "/v1/models", "x-api-key: a-secret-of-this-test\r\n", "");
        assert_eq!(status, 200, "{text}");
        let list: Value = serde_json::from_str(&text).unwrap();
        list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_string()).collect()
    };
    let s = Server::start(&["--config", file]);
    assert!(s.address.starts_with("127.0.0.2:"), "{}", s.address);
    assert_eq!(names(&s), ["tiny", "box"]);
    assert_eq!(s.ask("GET", "/v1/models", "", "").0, 401);
    let body =
        json!({ "model": "other", "messages": [{ "role": "user", "content": "ab" }], "max_tokens": 1 }).to_string();
    let (status, _, text) = s.ask("POST", "/v1/chat/completions", "x-api-key: a-secret-of-this-test\r\n", &body);
    let answer: Value = serde_json::from_str(&text).unwrap();
    // Two letters are two tokens of that model, and the file's template adds none.
    assert_eq!(
        (status, &answer["model"], &answer["usage"]["prompt_tokens"]),
        (200, &"tiny".into(), &2.into()),
        "{text}"
    );
    drop(s);
    let s = Server::start(&["--config", file, "--host", "127.0.0.1", "mine=pebble"]);
    assert!(s.address.starts_with("127.0.0.1:") && names(&s) == ["mine"], "{}", s.address);
    drop(s);
    let s = Server::spawn(Server::command(&["-q"]).env("PONDERA_CONFIG", file).env("PONDERA_HOST", "127.0.0.3"));
    assert!(s.address.starts_with("127.0.0.3:"), "{}", s.address);
}

#[test]
fn what_a_file_says_wrong_is_said_with_its_line() {
    let folder = Folder::new();
    for (text, what) in [
        ("[serve]\n\nmax_runing = 3\n", "c.toml:3: serve.max_runing: no such flag"),
        ("[[model]]\nname = \"x\"\nquant = \"q4\"\n", "c.toml:3: model.quant: no such key"),
        ("[serve]\nport = 70000\n", "c.toml:2: invalid value '70000' for '--port <N>'"),
        ("[serve]\nmax_running = \"many\"\n", "c.toml:2: invalid value 'many' for '--max-running <N>'"),
        ("[serve]\nkeys = nosuch\n", "c.toml:2: "),
    ] {
        folder.write("c.toml", text);
        let ran = support::run(folder.path(), &["serve", "--config", "c.toml"]);
        assert!(ran.code == 2 && ran.err.contains(what) && ran.err.contains("hint: "), "{text:?}: {ran:?}");
    }
    // A value that the command line gives is not the file's.
    folder.write("c.toml", "[serve]\nport = 80\n");
    let ran = support::run(folder.path(), &["serve", "--config", "c.toml", "--port", "x"]);
    assert!(ran.code == 2 && !ran.err.contains("c.toml"), "{ran:?}");
    // A secret is nobody's default to read.
    folder.write("c.toml", "[serve]\napi_key = \"a-secret-of-this-test\"\n");
    let ran = support::run(folder.path(), &["serve", "--config", "c.toml", "--help"]);
    assert!(ran.code == 0 && !ran.out.contains("a-secret-of-this-test"), "{ran:?}");
}

#[test]
fn the_example_of_deploy_serves() {
    let folder = Folder::new();
    support::write_gguf(&folder, "tiny.gguf", Format::F32);
    let text = include_str!("../deploy/pondera.toml");
    let place = "path = \"/srv/models/default\"";
    assert!(text.contains(place));
    let file = folder.write("pondera.toml", text.replace(place, "path = \"./tiny.gguf\""));
    let log = folder.join("log");
    let mut command = Server::command(&["--config", file.to_str().unwrap()]);
    let s = Server::spawn(command.stderr(File::create(&log).unwrap()));
    let answer = s.good("/v1/completions", &json!({ "model": "gpt-4o-mini", "prompt": "ab", "max_tokens": 2 }));
    assert_eq!(answer["model"], "default");
    assert!(stop(s).0);
    let said = lines(&log);
    let line = said.iter().find(|l| l["target"] == "pondera_server::access").unwrap();
    assert_eq!((&line["fields"]["route"], &line["fields"]["model"]), (&"/v1/completions".into(), &"default".into()));
}

#[test]
fn every_request_has_its_line_and_no_line_has_its_words() {
    let folder = Folder::new();
    let log = folder.join("log");
    folder.write("keys", "ci a-secret-of-this-test admin\n");
    let keys = folder.join("keys");
    let mut command = Server::command(&["--log-format", "json", "--keys", keys.to_str().unwrap()]);
    let s = Server::spawn(command.stderr(File::create(&log).unwrap()));
    let key = "x-api-key: a-secret-of-this-test\r\n";
    let id = |headers: &str| {
        let line = headers.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap();
        line.to_string()
    };
    let (status, headers, text) = s.ask("POST", "/v1/chat/completions", key, &chat(json!({ "n": 2 })).to_string());
    let whole: Value = serde_json::from_str(&text).unwrap();
    let (whole_id, whole_bytes) = (id(&headers), text.len());
    assert_eq!(status, 200, "{text}");
    let named = format!("{key}x-request-id: my name\t\"1\"\r\n");
    let (status, headers, _) =
        s.ask("POST", "/v1/chat/completions", &named, &chat(json!({ "stream": true })).to_string());
    assert_eq!((status, id(&headers).as_str()), (200, "my name\t\"1\""));
    let (status, _, _) =
        s.ask("POST", "/v1/chat/completions", key, &chat(json!({ "elephant-in-the-prompt": 1 })).to_string());
    assert_eq!(status, 400);
    assert_eq!(s.ask("GET", "/v1/responses/resp_private-id", key, "").0, 404);
    assert_eq!(s.ask("GET", "/elephant-in-the-prompt?resp_private-id", "", "").0, 404);
    assert_eq!(s.ask("POST", "/v1/chat/completions", "x-api-key: a-secret-of-this-test2\r\n", "{}").0, 401);
    let embed = json!({ "model": "pebble", "input": "elephant-in-the-prompt" }).to_string();
    assert_eq!(s.ask("POST", "/v1/embeddings", key, &embed).0, 200);
    assert_eq!((s.ask("GET", "/health", "", "").0, s.ask("GET", "/metrics", key, "").0), (200, 200));
    // Who goes away, before an answer and within one.
    let taken = || {
        let (_, _, text) = s.ask("GET", "/metrics", key, "");
        let line = text.lines().find(|l| l.starts_with("pondera:requests_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    for stream in [false, true] {
        let before = taken();
        let mut connection = s.connect();
        let body = chat(json!({ "max_tokens": 4000, "n": 16, "ignore_eos": true, "stream": stream })).to_string();
        let length = body.len();
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: {length}\r\n\r\n");
        connection.write_all((head + &body).as_bytes()).unwrap();
        match stream {
            true => drop(connection.read(&mut [0; 64]).unwrap()),
            false => while taken() < before + 16 {},
        }
    }
    // What is cut has ended once nothing runs.
    let start = Instant::now();
    loop {
        let (_, _, text) = s.ask("GET", "/metrics", key, "");
        if text.lines().any(|l| l == "pondera:requests_under_way{model_name=\"pebble\"} 0") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{text}");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(stop(s).0);
    let text = fs::read_to_string(&log).unwrap();
    for secret in SECRETS.iter().chain(&["Tell me", "private"]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let said = lines(&log);
    for line in &said {
        let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 5, "{line}");
        let at = line["timestamp"].as_str().unwrap();
        assert!(at.len() == 24 && &at[10..11] == "T" && at.ends_with('Z'), "{at}");
        assert!(["ERROR", "WARN", "INFO"].contains(&line["level"].as_str().unwrap()), "{line}");
    }
    let access: Vec<&Value> =
        said.iter().filter(|l| l["target"] == "pondera_server::access").map(|l| &l["fields"]).collect();
    // Probes are quiet while all is well.
    assert_eq!(access.len(), 9, "{access:#?}");
    let [one, two, three, four, five, six, seven] = access[..7] else { unreachable!() };
    assert_eq!(one["request_id"], whole_id.as_str());
    assert_eq!(
        (&one["method"], &one["route"], &one["status"]),
        (&"POST".into(), &"/v1/chat/completions".into(), &200.into())
    );
    assert_eq!((&one["key"], &one["model"]), (&"ci".into(), &"pebble".into()));
    assert_eq!(
        (&one["prompt_tokens"], &one["completion_tokens"]),
        (&whole["usage"]["prompt_tokens"], &whole["usage"]["completion_tokens"])
    );
    assert_eq!((&one["finish_reason"], &one["bytes"]), (&whole["choices"][0]["finish_reason"], &whole_bytes.into()));
    for line in [one, two] {
        let [queue, ttft, total] = ["queue_ms", "ttft_ms", "total_ms"].map(|k| line[k].as_f64().unwrap());
        assert!(0.0 <= queue && queue <= ttft && 0.0 < ttft && ttft <= total, "{line}");
        assert!(line["error"].is_null());
    }
    assert_eq!(two["request_id"], "my name\t\"1\"");
    assert_eq!((&three["status"], &three["error"]), (&400.into(), &"unknown_parameter".into()));
    assert_eq!((&four["route"], &four["status"]), (&"/v1/responses/*".into(), &404.into()));
    assert!(five["route"].is_null() && five["status"] == 404 && five["key"].is_null(), "{five}");
    assert_eq!((&six["status"], &six["error"], &six["key"]), (&401.into(), &"invalid_api_key".into(), &Value::Null));
    assert_eq!((&seven["route"], &seven["status"]), (&"/v1/embeddings".into(), &200.into()));
    assert!(seven["prompt_tokens"].as_u64().unwrap() > 3 && seven["ttft_ms"].is_null(), "{seven}");
    let mut gone: Vec<u64> = access[7..].iter().map(|l| l["status"].as_u64().unwrap()).collect();
    gone.sort_unstable();
    assert_eq!(gone, [200, 499]);
    assert!(
        access[7..].iter().all(|l| l["finish_reason"] == "cancelled" && l["error"] == "client_gone"),
        "{access:#?}"
    );
}

#[test]
fn people_can_read_it_too() {
    let folder = Folder::new();
    let log = folder.join("log");
    let s = Server::spawn(Server::command(&[]).stderr(File::create(&log).unwrap()));
    let (_, headers, _) = s.ask("POST", "/v1/chat/completions", "", &chat(json!({})).to_string());
    let id = headers.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().to_string();
    assert!(stop(s).0);
    let text = fs::read_to_string(&log).unwrap();
    let line = text.lines().find(|l| l.contains("POST /v1/chat/completions 200")).unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains(" INFO ") && line.contains(&format!("request_id={id} ")) && line.contains(" model=pebble "),
        "{line}"
    );
    assert!(text.contains("stopping") && !text.contains('\u{1b}') && !text.contains("elephant"), "{text}");
    // A failure to start is a line like the others.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = support::run(folder.path(), &["serve", "--port", &port, "--log-format", "json"]);
    let line: Value = serde_json::from_str(ran.err.lines().last().unwrap()).unwrap();
    assert!(ran.code == 1 && line["level"] == "ERROR" && line["fields"]["exit"] == 1, "{ran:?}");
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut command = Server::command(&["--log-format", "json", "-v"]);
    let mut s = Server::spawn(command.stderr(Stdio::piped()));
    let (mut asked, start) = (0, Instant::now());
    while s.metric("pondera:log_lines_dropped_total") == 0.0 {
        let mut connection = s.connect();
        for _ in 0..500 {
            connection.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
            while !answer.ends_with(b"}") {
                let n = connection.read(&mut buffer).unwrap();
                assert!(n > 0);
                answer.extend(&buffer[..n]);
            }
            asked += 1;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{asked} lines were kept");
    }
    // Requests are answered while the log stands still.
    s.good("/v1/chat/completions", &chat(json!({})));
    let log = BufReader::new(s.child.stderr.take().unwrap());
    let reader =
        thread::spawn(move || log.lines().map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect::<Vec<Value>>());
    thread::sleep(Duration::from_millis(300));
    s.good("/v1/chat/completions", &chat(json!({})));
    assert!(stop(s).0);
    let said = reader.join().unwrap();
    let dropped: u64 = said.iter().filter_map(|l| l["fields"]["lines"].as_u64()).sum();
    let probes = said.iter().filter(|l| l["fields"]["route"] == "/health").count() as u64;
    assert!(dropped > 0 && probes < asked && probes + dropped >= asked, "{probes} of {asked}, {dropped} dropped");
}

/// A collector that answers `status` to everything; the bodies and heads that it was sent.
fn collector(status: &'static str) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, (tell, told)) = (format!("http://{}", listener.local_addr().unwrap()), channel());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut line) = (String::new(), String::new());
            while stream.read_line(&mut line).unwrap() > 2 {
                head.push_str(&line.to_lowercase());
                line.clear();
            }
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            write!(stream.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
            if tell.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, told)
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn a_collector_gets_the_spans_of_the_clients_trace() {
    let (url, told) = collector("200 OK");
    let mut command = Server::command(&["-q", "--otlp", &url]);
    command
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20for-the-collector")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_SERVICE_NAME", "box")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test");
    let s = Server::spawn(&mut command);
    let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\nx-request-id: mine\r\n");
    let (status, _, text) =
        s.ask("POST", "/v1/chat/completions", &parent, &chat(json!({ "n": 2, "top_p": 0.5 })).to_string());
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_str(&text).unwrap();
    let (head, body) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1") && head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("authorization: bearer for-the-collector"), "{head}");
    let text = String::from_utf8(body).unwrap();
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)) && !text.contains("Tell me"), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    let resource = &body["resourceSpans"][0];
    let attribute = |of: &Value, name: &str| {
        let list = of["attributes"].as_array().unwrap();
        let found = list.iter().find(|a| a["key"] == name).unwrap_or_else(|| panic!("{name} in {of:#}"));
        found["value"].as_object().unwrap().values().next().unwrap().clone()
    };
    assert_eq!(attribute(&resource["resource"], "service.name"), "box");
    assert_eq!(attribute(&resource["resource"], "deployment.environment"), "test");
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    assert!(spans.len() == 7 && spans.iter().all(|s| s["traceId"] == TRACE && s["traceState"] == "a=1"), "{text}");
    let request = spans.iter().find(|s| s["kind"] == 2).unwrap();
    assert_eq!(
        (&request["name"], &request["parentSpanId"]),
        (&"POST /v1/chat/completions".into(), &"00f067aa0ba902b7".into())
    );
    for (name, want) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/v1/chat/completions")),
        ("http.response.status_code", json!("200")),
        ("pondera.request_id", json!("mine")),
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("pondera")),
        ("gen_ai.request.model", json!("pebble")),
        ("gen_ai.response.model", json!("pebble")),
        ("gen_ai.request.choice.count", json!("2")),
        ("gen_ai.request.max_tokens", json!("12")),
        ("gen_ai.request.temperature", json!(0.0)),
        ("gen_ai.request.top_p", json!(0.5)),
        ("gen_ai.usage.input_tokens", json!(answer["usage"]["prompt_tokens"].to_string())),
        ("gen_ai.usage.output_tokens", json!(answer["usage"]["completion_tokens"].to_string())),
    ] {
        assert_eq!(attribute(request, name), want, "{name}");
    }
    let reasons = attribute(request, "gen_ai.response.finish_reasons");
    assert_eq!(reasons["values"][1]["stringValue"], answer["choices"][1]["finish_reason"]);
    assert!(attribute(request, "gen_ai.response.time_to_first_chunk").as_f64().unwrap() > 0.0);
    let moment = |s: &Value, k: &str| s[k].as_str().unwrap().parse::<u64>().unwrap();
    let [begin, end] = ["startTimeUnixNano", "endTimeUnixNano"].map(|k| moment(request, k));
    for choice in ["0", "1"] {
        let mut at = begin;
        for name in ["queue", "prefill", "decode"] {
            let own = |s: &&Value| s["name"] == name && attribute(s, "pondera.choice") == choice;
            let part = spans.iter().filter(|s| s["kind"] == 1).find(own).unwrap_or_else(|| panic!("{name} in {text}"));
            assert_eq!(part["parentSpanId"], request["spanId"]);
            let [from, to] = ["startTimeUnixNano", "endTimeUnixNano"].map(|k| moment(part, k));
            assert!(at <= from && from <= to && to <= end, "{name} of {choice}: {text}");
            at = to;
        }
    }
    // Probes and what is not sampled leave no trace; a refusal does, without the words that it was refused for.
    s.ask("GET", "/ready", &parent, "");
    s.ask("POST", "/v1/chat/completions", &parent.replace("-01\r\n", "-00\r\n"), &chat(json!({})).to_string());
    s.ask("GET", "/v1/responses/resp_private-id", &parent.replace(TRACE, &TRACE.replace('4', "5")), "");
    let (_, body) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains(&TRACE.replace('4', "5")) && !text.contains(TRACE) && !text.contains("private-id"), "{text}");
    assert_eq!(text.matches("spanId").count(), 1, "{text}");
    let start = Instant::now();
    while s.metric("pondera:spans_exported_total") < 8.0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((s.metric("pondera:spans_exported_total"), s.metric("pondera:spans_dropped_total")), (8.0, 0.0));
    // What is left goes before the end.
    let mut late = s.connect();
    let body = chat(json!({})).to_string();
    write!(late, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    assert_eq!(support::server::answer(late).0, 200);
    assert!(stop(s).0);
    let (_, body) = told.recv_timeout(Duration::from_secs(1)).unwrap();
    assert!(String::from_utf8(body).unwrap().contains("\"prefill\""));
}

#[test]
fn without_more_the_body_is_protobuf_and_without_a_flag_nothing_is_sent() {
    let (url, told) = collector("200 OK");
    let mut command = Server::command(&["-q"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &url).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let s = Server::spawn(&mut command);
    s.good("/v1/chat/completions", &chat(json!({})));
    let (head, body) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    let holds = |what: &[u8]| body.windows(what.len()).any(|w| w == what);
    assert!(holds(b"gen_ai.usage.input_tokens") && holds(b"prefill") && !holds(b"elephant"));
    drop(s);
    let s = Server::spawn(command.env("OTEL_TRACES_EXPORTER", "none"));
    s.good("/v1/chat/completions", &chat(json!({})));
    assert!(told.recv_timeout(Duration::from_millis(500)).is_err());
    let (_, _, text) = s.ask("GET", "/metrics", "", "");
    assert!(!text.contains("spans_"), "{text}");
}

#[test]
fn a_collector_that_is_away_changes_nothing() {
    let plain = Server::start(&[]);
    let want = plain.good("/v1/chat/completions", &chat(json!({})))["choices"].clone();
    drop(plain);
    // One that nobody listens at, one that never answers, one that refuses.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (refusing, _told) = collector("400 Bad Request");
    let folder = Folder::new();
    for (i, url) in
        [format!("http://{nobody}"), format!("http://{}", silent.local_addr().unwrap()), refusing].iter().enumerate()
    {
        let log = folder.join(&i.to_string());
        let mut command = Server::command(&["--otlp", url, "--log-format", "json"]);
        command
            .env("OTEL_BSP_SCHEDULE_DELAY", "0")
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "6")
            .stderr(File::create(&log).unwrap());
        let s = Server::spawn(&mut command);
        for _ in 0..4 {
            assert_eq!(s.good("/v1/chat/completions", &chat(json!({})))["choices"], want);
        }
        let start = Instant::now();
        while s.metric("pondera:spans_dropped_total") < 12.0 {
            assert!(start.elapsed() < Duration::from_secs(20), "{url}: {}", s.metric("pondera:spans_dropped_total"));
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(s.metric("pondera:spans_exported_total"), 0.0);
        let (good, time) = stop(s);
        assert!(good && time < Duration::from_secs(8), "{url}: {time:?}");
        let said = lines(&log);
        let told = said.iter().filter(|l| l["target"] == "pondera_server::trace::export").count();
        assert!((1..=2).contains(&told), "{url}: {said:#?}");
    }
}
