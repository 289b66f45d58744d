//! The official clients of the served APIs against the built-in model: installs their newest releases in an environment of its
//! own, starts the server, runs `tests/clients/clients.py`.
use crate::families::environment;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A server that ends with the run.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs them all.
pub fn run() -> Result<(), String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let python = environment(&root.join("target/clients"), &["--upgrade", "openai", "anthropic", "ollama", "litellm"])?;
    let built =
        Command::new("cargo").args(["build", "--release", "--quiet", "--bin", "pondera"]).current_dir(&root).status();
    if !built.is_ok_and(|s| s.success()) {
        return Err("cargo build --release failed".into());
    }
    let mut child = Command::new(root.join("target/release/pondera"))
        .args(["serve", "--port", "0", "--json", "-q"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("serve: {e}"))?;
    let out = child.stdout.take().ok_or("serve: no output")?;
    let server = Server(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).map_err(|e| format!("serve: {e}"))?;
    let address = line.split('"').find(|part| part.starts_with("http://")).ok_or(format!("serve said {line:?}"))?;
    let script = Path::new("tests/clients/clients.py");
    let done = Command::new(python).arg(script).arg(address).current_dir(&root).status().map_err(|e| e.to_string())?;
    drop(server);
    if done.success() { Ok(()) } else { Err(format!("{}: {done}", script.display())) }
}
