//! The official clients of the served APIs against the built-in model: installs their newest releases in an environment of its
//! own, starts the server, runs `tests/clients/clients.py`, and `tests/clients/node` where there is a Node. Then what reads and
//! writes bills of materials and signatures elsewhere, beside ours: `tests/clients/bom.py` and `signing.py`.
use crate::families::environment;
use std::{
    fs,
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
    let program = root.join("target/release/pondera");
    let mut child = Command::new(&program)
        .args(["serve", "--port", "0", "--json", "-q", "--ctx", "2048", "--chat-template", "tests/support/tools.jinja"])
        .current_dir(&root)
        .stdout(Stdio::piped())
        .arg("--data")
        .arg(root.join("target/clients/data"))
        .spawn()
        .map_err(|e| format!("serve: {e}"))?;
    let out = child.stdout.take().ok_or("serve: no output")?;
    let server = Server(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).map_err(|e| format!("serve: {e}"))?;
    let address = line.split('"').find(|part| part.starts_with("http://")).ok_or(format!("serve said {line:?}"))?;
    let script = Path::new("tests/clients/clients.py");
    call(Command::new(python).arg(script).arg(address).current_dir(&root))?;
    node(&root, address, &program)?;
    drop(server);
    supply(&root, &program)
}

/// Validators of bills of materials, and the standard's own tool for signatures.
fn supply(root: &Path, program: &Path) -> Result<(), String> {
    let wanted = [
        "--upgrade",
        "cyclonedx-python-lib[json-validation]",
        "spdx-python-model",
        "jsonschema",
        "model-signing",
        "pyopenssl",
    ];
    let python = environment(&root.join("target/clients/supply"), &wanted)?;
    for script in ["tests/clients/bom.py", "tests/clients/signing.py"] {
        call(Command::new(&python).arg(script).arg(program).current_dir(root))?;
    }
    Ok(())
}

/// The clients for Node, beside a copy of their tests, so that nothing is installed into the tree.
fn node(root: &Path, address: &str, program: &Path) -> Result<(), String> {
    if Command::new("node").arg("--version").output().is_err() {
        println!("there is no node here: its clients were not run");
        return Ok(());
    }
    let (from, home) = (root.join("tests/clients/node"), root.join("target/clients/node"));
    fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
    for name in ["package.json", "package-lock.json", "clients.test.mjs"] {
        fs::copy(from.join(name), home.join(name)).map_err(|e| format!("{name}: {e}"))?;
    }
    call(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&home))?;
    call(Command::new("node").arg("--test").env("PONDERA_URL", address).env("PONDERA", program).current_dir(&home))
}

/// Runs it to a good end.
pub fn call(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(done) if done.success() => Ok(()),
        Ok(done) => Err(format!("{command:?}: {done}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    }
}
