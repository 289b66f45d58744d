//! Which templates a model has: beside its vocabulary, in its configs, in its GGUF files; and what it says it is.
//!
//! Owns where templates are looked for. Everything that may be taken by some reader counts, not what one reader takes.
use crate::findings::{Findings, New, Severity, TEMPLATE_BROKEN};
use pondera_weights::Weights;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest file of JSON or Jinja that is read for a template.
const FILE_MAX: u64 = 64 << 20;
/// Most templates that are looked at.
const SOURCES_MAX: usize = 64;
/// Most GGUF files of a folder that are opened for theirs.
const GGUF_MAX: usize = 64;

/// A template and where it stands.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file.
    pub file: String,
    /// The template's name; `default` where it has none.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether it is in a GGUF file, which has one of its own.
    pub gguf: bool,
}

/// Every template of a folder or file, and the names that it claims to be.
pub(super) fn find(path: &Path, findings: &mut Findings) -> (Vec<Source>, Vec<String>) {
    let mut all = All { found: Vec::new(), claims: Vec::new(), findings };
    if path.is_dir() {
        all.folder(path);
    } else {
        all.file(path, &path.display().to_string());
    }
    all.found.truncate(SOURCES_MAX);
    (all.found, all.claims)
}

struct All<'f> {
    found: Vec<Source>,
    claims: Vec<String>,
    findings: &'f mut Findings,
}

impl All<'_> {
    fn folder(&mut self, folder: &Path) {
        for name in [
            "chat_template.jinja",
            "chat_template.json",
            "tokenizer_config.json",
            "processor_config.json",
            "preprocessor_config.json",
            "config.json",
        ] {
            let path = folder.join(name);
            if path.is_file() {
                self.file(&path, name);
            }
        }
        for (sub, ends) in [("additional_chat_templates", &["jinja"][..]), ("", &["jinja", "gguf"][..])] {
            let mut paths: Vec<PathBuf> =
                fs::read_dir(folder.join(sub)).into_iter().flatten().flatten().map(|e| e.path()).collect();
            paths.sort();
            let fits = |p: &&PathBuf| p.extension().and_then(|e| e.to_str()).is_some_and(|e| ends.contains(&e));
            for path in paths.iter().filter(fits).filter(|p| p.is_file()).take(GGUF_MAX) {
                let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
                if name != "chat_template.jinja" {
                    self.file(path, &name);
                }
            }
        }
        // `models--org--name/snapshots/commit` is how the hub's cache calls it.
        let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
        for part in whole.components().rev().take(3) {
            let name = part.as_os_str().to_string_lossy();
            self.claims.push(name.rsplit("--").next().unwrap_or(&name).to_string());
        }
    }

    fn file(&mut self, path: &Path, name: &str) {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match extension {
            "gguf" => self.gguf(path, name),
            "jinja" | "j2" => {
                let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                let name_of = if stem == "chat_template" || !name.contains('/') { "default".into() } else { stem };
                if let Some(text) = self.read(path, name) {
                    self.push(name, name_of, text, false);
                }
            }
            "json" => self.json(path, name),
            _ => {}
        }
    }

    fn read(&mut self, path: &Path, name: &str) -> Option<String> {
        let size = fs::metadata(path).ok()?.len();
        let what = if size > FILE_MAX {
            format!("{size} bytes are too many for a template")
        } else {
            match String::from_utf8(fs::read(path).ok()?) {
                Ok(text) => return Some(text),
                Err(_) => "the file is not UTF-8".into(),
            }
        };
        self.broken(name, what);
        None
    }

    fn broken(&mut self, file: &str, what: String) {
        self.findings.add(New {
            rule: TEMPLATE_BROKEN,
            severity: Severity::Medium,
            file,
            what,
            offset: None,
            name: None,
        });
    }

    fn push(&mut self, file: &str, name: String, text: String, gguf: bool) {
        if !text.trim().is_empty() && self.found.len() < SOURCES_MAX {
            self.found.push(Source { file: file.to_string(), name, text, gguf });
        }
    }

    fn json(&mut self, path: &Path, name: &str) {
        // Broken JSON has its finding where configs are read.
        let Some(text) = fs::metadata(path).ok().filter(|m| m.len() <= FILE_MAX).and_then(|_| fs::read(path).ok())
        else {
            return;
        };
        let Ok(json) = serde_json::from_slice::<Value>(&text) else { return };
        if let Some(model) = json.get("_name_or_path").and_then(Value::as_str) {
            self.claims.push(model.to_string());
        }
        match json.get("chat_template") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => self.push(name, "default".into(), text.clone(), false),
            Some(Value::Array(list)) => {
                for entry in list.iter().take(SOURCES_MAX) {
                    let field = |f: &str| entry.get(f).and_then(Value::as_str);
                    match (field("name"), field("template")) {
                        (Some(called), Some(text)) => self.push(name, called.to_string(), text.to_string(), false),
                        _ => self.broken(name, "chat_template: an entry has no name or no template".into()),
                    }
                }
            }
            Some(Value::Object(map)) => {
                for (called, text) in map.iter().take(SOURCES_MAX) {
                    if let Some(text) = text.as_str() {
                        self.push(name, called.clone(), text.to_string(), false);
                    }
                }
            }
            Some(_) => self.broken(name, "chat_template is neither a text nor a list of named texts".into()),
        }
    }

    fn gguf(&mut self, path: &Path, name: &str) {
        // A file that cannot be opened has its finding where files are read.
        let Ok(weights) = Weights::open(path) else { return };
        let Some(gguf) = weights.gguf() else { return };
        for key in ["general.name", "general.basename"] {
            if let Ok(Some(model)) = gguf.str(key) {
                self.claims.push(model.to_string());
            }
        }
        let keys: Vec<String> = gguf
            .keys()
            .filter(|k| k.starts_with("tokenizer.chat_template"))
            .take(SOURCES_MAX)
            .map(String::from)
            .collect();
        for key in keys {
            let called = key.strip_prefix("tokenizer.chat_template.").unwrap_or("default");
            match gguf.str(&key) {
                Ok(Some(text)) => self.push(name, called.to_string(), text.to_string(), true),
                Err(_) if key != "tokenizer.chat_templates" => self.broken(name, format!("{key} is no text")),
                Ok(None) | Err(_) => {}
            }
        }
    }
}
