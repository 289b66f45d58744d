//! What MODEL means: a path, a name in the store, a repository in the hub cache or a short name for one, a model of Ollama's, or the
//! model in the box.
use crate::{
    args::Global,
    error::{Error, Result},
    hub,
    out::Out,
};
use pondera_audit::catalogue;
use pondera_quant::Bytes;
use pondera_store::Reference;
use pondera_weights::Weights;
use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A model's files.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder or file.
    Path(PathBuf),
    /// The default model, inside the program: a GGUF file.
    Embedded(&'static [u8]),
}

impl Source {
    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Source::Path(p) => p.display().to_string(),
            Source::Embedded(_) => "pebble (built in)".into(),
        }
    }

    /// Its tensors and metadata, nothing of them read but the headers.
    pub fn weights(&self) -> pondera_weights::Result<Weights> {
        match self {
            Source::Path(p) => Weights::open(p),
            Source::Embedded(bytes) => Weights::from_bytes(PEBBLE_NAME, embedded_bytes(bytes)),
        }
    }

    /// The folder with what lies beside the tensors: config, vocabulary, template.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Source::Path(p) if p.is_dir() => Some(p),
            Source::Path(p) => p.parent().map(|d| if d.as_os_str().is_empty() { Path::new(".") } else { d }),
            Source::Embedded(_) => None,
        }
    }
}

/// Bytes that begin where a mapped file would: kernels may count on a tensor's alignment in its file.
#[cfg(pebble)]
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

#[cfg(pebble)]
static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("PEBBLE")));
#[cfg(pebble)]
const PEBBLE: Option<&[u8]> = Some(&FILE.0);
#[cfg(not(pebble))]
const PEBBLE: Option<&[u8]> = None;

/// Name of the model in the box, also accepted as MODEL.
pub const PEBBLE_NAME: &str = "pebble";

/// Endings that no prompt has.
const MODEL_ENDINGS: [&str; 2] = [".gguf", ".safetensors"];
/// Endings that only a single word makes a file name.
const FILE_ENDINGS: [&str; 7] = [".json", ".bin", ".pt", ".pth", ".model", ".txt", ".tiktoken"];

/// The files that `name` stands for; without one the model in the box.
pub fn resolve(name: Option<&str>, global: &Global) -> Result<Source> {
    let Some(name) = name else { return embedded() };
    let path = Path::new(name);
    if path.exists() {
        return Ok(Source::Path(path.to_path_buf()));
    }
    if name == PEBBLE_NAME {
        return embedded();
    }
    if let Some(found) = in_store(name, global) {
        return Ok(Source::Path(found));
    }
    if let Some(theirs) = name.strip_prefix(hub::OLLAMA) {
        return Ok(Source::Path(hub::store(global)?.ollama_model(theirs)?.path));
    }
    let known = alias(name);
    if let Some(known) = &known {
        Out::new(global.json, global.quiet).note(&format!("{name} is {known}"));
    }
    match known.as_deref().unwrap_or(name).parse::<Reference>() {
        Ok(reference) => Ok(Source::Path(hub::store(global)?.resolve(&reference)?)),
        Err(_) => Err(Error::file(format!("{name}: no such file or folder"))
            .hint("give a folder, a .gguf or .safetensors file, org/name of the hub cache, or a name that `pondera models` lists")),
    }
}

/// What a short name of the catalogue stands for: `llama3.2:1b`, with a revision or without.
pub fn alias(name: &str) -> Option<String> {
    let (short, revision) = name.split_once('@').map_or((name, None), |(short, revision)| (short, Some(revision)));
    let model = catalogue::alias(short)?;
    Some(revision.map_or_else(|| model.name.clone(), |revision| format!("{}@{revision}", model.name)))
}

/// Whether a single argument of `run` names a model rather than being the prompt.
pub fn looks_like_model(text: &str, global: &Global) -> bool {
    let lower = text.to_lowercase();
    let word = !text.contains(char::is_whitespace);
    let is_path = || ["/", "./", "../", "~/"].iter().any(|p| text.starts_with(p)) && text.len() > 2;
    Path::new(text).exists()
        || text == PEBBLE_NAME
        || alias(text).is_some()
        || in_store(text, global).is_some()
        || MODEL_ENDINGS.iter().any(|e| lower.ends_with(e))
        || word && (FILE_ENDINGS.iter().any(|e| lower.ends_with(e)) || is_path() || is_reference(text))
}

/// The program's own bytes as a tensor's owner.
pub fn embedded_bytes(bytes: &'static [u8]) -> Bytes {
    Bytes::new(Arc::new(bytes))
}

fn embedded() -> Result<Source> {
    PEBBLE.map(Source::Embedded).ok_or_else(|| {
        Error::file("this program was built without its default model (models/pebble/pebble.gguf)")
            .hint("name a MODEL: a folder, a .gguf file, or org/name of the hub cache")
    })
}

/// A folder or file of that name in the local store.
pub fn in_store(name: &str, global: &Global) -> Option<PathBuf> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
    let store = global.store.clone().or_else(default_store).filter(|_| plain)?;
    [store.join(name), store.join(format!("{name}.gguf"))].into_iter().find(|p| p.exists())
}

/// Where models with names of their own lie unless `--store` says otherwise.
pub fn default_store() -> Option<PathBuf> {
    folder_of("XDG_DATA_HOME").or_else(|| folder_of("HOME").map(|h| h.join(".local/share"))).map(|d| d.join("pondera"))
}

fn folder_of(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// Whether `text` could name a model that is fetched.
fn is_reference(text: &str) -> bool {
    text.strip_prefix(hub::OLLAMA).is_some_and(|name| !name.is_empty()) || text.parse::<Reference>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_and_models_are_told_apart() {
        let global = Global::default();
        for (text, want) in [
            ("Tell me a story about a fox", false),
            ("What is in notes.txt", false),
            ("hello", false),
            ("/", false),
            ("nosuch.gguf", true),
            ("my models/nosuch.gguf", true),
            ("tokenizer.json", true),
            ("./nosuch", true),
            ("org/name:Q4_K_M", true),
            ("ollama:llama3.2:3b", true),
            ("pebble", true),
            ("llama3.2:1b", true),
            ("llama", false),
        ] {
            // Of the root folder it is enough that it exists.
            assert_eq!(looks_like_model(text, &global), want || text == "/", "{text:?}");
        }
    }
}
