//! The interactive chat, through a pseudo-terminal as a user would meet it.
#![cfg(unix)]
mod support;

use pondera::quant::Format;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};
use support::{Folder, command, run, write_gguf};

/// A program at a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn open(mut command: Command) -> Terminal {
        let size = nix::pty::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(pty.slave);
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                if send.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keys, shown, text: String::new() }
    }

    /// Waits until `part` is shown; forgets everything up to its end and returns it.
    fn wait_for(&mut self, part: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(at) = self.text.find(part) {
                let rest = self.text.split_off(at + part.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.shown.recv_timeout(left).unwrap_or_else(|_| panic!("no {part:?} in {:?}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Waits for the prompt: the editor switches bracketed paste on once, when it begins to read.
    fn ready(&mut self) {
        self.wait_for("\u{1b}[?2004h");
    }

    /// Types a line and waits for what answers it and for the next prompt.
    fn say(&mut self, line: &str, answer: &str) {
        self.keys.write_all(format!("{line}\r").as_bytes()).unwrap();
        self.wait_for("\u{1b}[?2004l");
        self.wait_for(answer);
        self.ready();
    }
}

#[test]
fn a_chat_obeys_answers_saves_stops_and_leaves() {
    let folder = Folder::new();
    write_gguf(&folder, "model.gguf", Format::F32);
    let mut t =
        Terminal::open(command(folder.path(), &["run", "model.gguf", "-n", "12", "--ignore-eos", "--seed", "1"]));
    t.ready();
    t.say("/help", "Ctrl-C stops an answer");
    t.say("/system Be brief.", "the system text is set");
    t.say("/set temperature 0", "temperature = 0");
    t.say("/nope", "no such command");
    t.say("Hello", "\n");
    // Several lines as one message.
    t.keys.write_all(b"\"\"\"\rtwo\r").unwrap();
    t.say("lines\"\"\"", "\n");
    t.say("/save chat.json", "5 messages in chat.json");
    t.say("/undo", "forgotten");
    t.say("/stats", "tok/s");
    // An answer without an end, stopped; the chat goes on.
    t.say("/set max-tokens 60000", "max-tokens = 60000");
    t.keys.write_all(b"on and on\r").unwrap();
    t.wait_for("\u{1b}[?2004l");
    std::thread::sleep(Duration::from_millis(300));
    let stop = Command::new("kill").args(["-INT", &t.child.id().to_string()]).status().unwrap();
    assert!(stop.success());
    t.wait_for("(stopped)");
    t.ready();
    t.say("/show", "temperature 0");
    t.keys.write_all(b"\x04").unwrap();
    assert_eq!(t.child.wait().unwrap().code(), Some(0));

    let saved: Value = serde_json::from_slice(&fs::read(folder.join("chat.json")).unwrap()).unwrap();
    let roles: Vec<&str> = saved["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!(saved["messages"][3]["content"], "two\nlines");
    // What was saved is what `template` reads, and the history is there for the next chat.
    assert_eq!(run(folder.path(), &["template", "model.gguf", "--messages", "chat.json"]).code, 0);
    let history = fs::read_to_string(folder.join(".local/state/pondera/history")).unwrap();
    assert!(history.contains("/system Be brief."), "{history}");
}
