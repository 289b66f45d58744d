//! Invariants that the compiler does not check, written as absences: who may not import whom, where `unsafe` may
//! not stand, what a file may not lack.
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A room and the rooms it may import. Every arrow points down (docs/architecture: ARCHITECTURE.md).
const ROOMS: &[(&str, &[&str])] = &[
    ("quant", &[]),
    ("weights", &["quant"]),
    ("ops", &["quant"]),
    ("cpu", &["quant", "ops"]),
    ("arch", &["quant", "weights", "ops"]),
    ("text", &["quant", "weights"]),
    ("engine", &["quant", "weights", "ops", "cpu", "arch", "text"]),
    ("store", &[]),
    ("audit", &["quant", "weights", "ops", "arch", "text"]),
    ("server", &["text", "engine"]),
    ("cli", &["quant", "weights", "ops", "cpu", "arch", "text", "engine", "store", "server", "audit"]),
    ("xtask", &["quant", "weights", "text", "arch"]),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["crates/weights/src/mmap", "crates/cpu/", "crates/engine/tests/"];

/// Where outbound connections are opened: the store, and telemetry, behind its flag.
const OUTBOUND: &[&str] = &["crates/store/", "crates/server/src/trace/export.rs"];

/// A file longer than this holds more than one thing.
const LINES: usize = 900;

/// Checks the whole tree; the error lists every finding.
pub fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut findings = Vec::new();
    for (room, allowed) in ROOMS {
        imports(&root, room, allowed, &mut findings);
    }
    let listed = fs::read_to_string(root.join("docs/deps.md")).unwrap_or_default();
    let mut files = Vec::new();
    for folder in ["crates", "src", "tests"] {
        walk(&root.join(folder), &mut files);
    }
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        let text = fs::read_to_string(file).unwrap_or_default();
        match file.extension().and_then(|e| e.to_str()) {
            Some("rs") => source(&name, &text, &mut findings),
            Some("toml") if name.ends_with("Cargo.toml") => dependencies(&name, &text, &listed, &mut findings),
            _ => {}
        }
    }
    crate::families::check(&mut findings);
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|e| Some(e.ok()?.path())) {
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
    files.sort();
}

/// Names under `[dependencies]` (not those of tests or builds) of a manifest.
fn dependency_names(manifest: &str, section: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == section || line.trim().ends_with(&format!(".{}", section.trim_start_matches('[')));
        } else if inside && let Some((name, _)) = line.split_once(['=', '.']) {
            names.push(name.trim().trim_matches('"').to_string());
        }
    }
    names.retain(|n| !n.is_empty() && !n.starts_with('#'));
    names
}

fn imports(root: &Path, room: &str, allowed: &[&str], findings: &mut Vec<String>) {
    let path = root.join("crates").join(room).join("Cargo.toml");
    let Ok(text) = fs::read_to_string(&path) else {
        findings.push(format!("crates/{room}: no Cargo.toml"));
        return;
    };
    for name in dependency_names(&text, "[dependencies]") {
        if let Some(other) = name.strip_prefix("pondera-")
            && !allowed.contains(&other)
        {
            findings.push(format!("crates/{room} must not import {name}: see the table of rooms in ARCHITECTURE.md"));
        }
    }
}

fn dependencies(name: &str, text: &str, listed: &str, findings: &mut Vec<String>) {
    for section in ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"] {
        for d in dependency_names(text, section) {
            if !d.starts_with("pondera") && !listed.contains(&format!("`{d}`")) {
                findings.push(format!("{name}: `{d}` has no line in docs/deps.md"));
            }
        }
    }
}

fn source(name: &str, text: &str, findings: &mut Vec<String>) {
    if !text.starts_with("//!") {
        findings.push(format!("{name}: does not open by saying what it owns (//!)"));
    }
    let lines = text.lines().count();
    if lines > LINES {
        findings.push(format!("{name}: {lines} lines; more than {LINES} hold more than one thing"));
    }
    let code = || text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"));
    if !UNSAFE.iter().any(|p| name.starts_with(p)) && !name.starts_with("crates/xtask") {
        for (i, _) in
            code().filter(|(_, l)| l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"))
        {
            findings.push(format!("{name}:{}: unsafe outside of the rooms for it", i + 1));
        }
    }
    let test = name.contains("/tests/") || name.starts_with("tests/") || name.contains("/examples/");
    if !test && !name.starts_with("crates/cli") && !name.starts_with("crates/xtask") {
        for (i, l) in code() {
            if l.contains("env::var(") || l.contains("env::var_os(") {
                findings.push(format!("{name}:{}: the environment is read in crates/cli only", i + 1));
            }
        }
    }
    if !test && !name.starts_with("crates/xtask") && !OUTBOUND.iter().any(|p| name.starts_with(p)) {
        for (i, _) in code().filter(|(_, l)| l.contains("TcpStream::connect")) {
            findings.push(format!("{name}:{}: outbound connections are opened in {} only", i + 1, OUTBOUND.join(", ")));
        }
    }
    for word in ["todo!(", "unimplemented!(", "dbg!("] {
        if !name.starts_with("crates/xtask")
            && let Some((i, _)) = code().find(|(_, l)| l.contains(word))
        {
            findings.push(format!("{name}:{}: {word}…) must not land", i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_dependencies_are_found_in_every_spelling() {
        let text = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\nc = { version = \"2\" }\n\n[dev-dependencies]\nd = \"1\"\n";
        assert_eq!(super::dependency_names(text, "[dependencies]"), ["a", "b", "c"]);
        assert_eq!(super::dependency_names(text, "[dev-dependencies]"), ["d"]);
    }

    #[test]
    fn findings_are_found() {
        let mut f = vec![];
        super::source(
            "crates/ops/src/x.rs",
            "fn f() { unsafe { g() } }\nlet x = std::env::var(\"A\");\ntodo!();\nTcpStream::connect(x)",
            &mut f,
        );
        assert_eq!(f.len(), 5, "{f:?}");
    }
}
