//! A server under test, and a client that shows what came over the wire.
#![allow(dead_code)] // each test program uses a part of it
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A server of the built-in model that ends with the test.
pub struct Server {
    pub child: Child,
    pub address: String,
}

impl Server {
    pub fn start(args: &[&str]) -> Server {
        // What a test asks for many times is no news.
        Server::spawn(Server::command(args).arg("-q"))
    }

    /// With variables of its environment.
    pub fn start_with(args: &[&str], vars: &[(&str, String)]) -> Server {
        Server::spawn(Server::command(args).arg("-q").envs(vars.iter().map(|(k, v)| (k, v))))
    }

    /// The process of a server, for tests that have more to say of it.
    pub fn command(args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pondera"));
        command.args(["serve", "--port", "0", "--json", "--threads", "1"]).args(args).stderr(Stdio::inherit());
        command
    }

    pub fn spawn(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        let address = said["listening"].as_str().unwrap().trim_start_matches("http://").to_string();
        Server { child, address }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a request whole; status, headers, body.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .unwrap();
        answer(stream)
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, _, text) = self.ask("POST", path, "", &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text:?}: {e}")))
    }

    pub fn good(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 200, "{body} {answer}");
        answer
    }

    /// A `logit_bias` under which no answer of the built-in model ends.
    pub fn ends_forbidden(&self) -> Value {
        // Its last special tokens; what is no end is no part of an answer either.
        serde_json::json!({ "0": -100, "1": -100, "2": -100, "3": -100 })
    }

    /// Events of a stream, without the last `[DONE]`, which must be there.
    pub fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let (status, headers, text) = self.ask("POST", path, "", &body.to_string());
        assert!(status == 200 && headers.contains("text/event-stream"), "{status} {text}");
        let data: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        let (last, data) = data.split_last().unwrap();
        assert_eq!(*last, "[DONE]");
        data.iter().map(|d| serde_json::from_str(d).unwrap()).collect()
    }

    pub fn metric(&self, name: &str) -> f64 {
        let (_, _, text) = self.ask("GET", "/metrics", "", "");
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes until the server closes; chunks are put together.
pub fn answer(mut stream: TcpStream) -> (u16, String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).map_or(0, |s| s.parse().unwrap());
    let headers = head.to_lowercase();
    let mut body = String::new();
    if headers.contains("transfer-encoding: chunked") {
        while let Some((size, tail)) = rest.split_once("\r\n") {
            let n = usize::from_str_radix(size, 16).unwrap();
            body.push_str(&tail[..n]);
            rest = tail[n..].trim_start_matches("\r\n");
        }
    } else {
        body.push_str(rest);
    }
    (status, headers, body)
}
