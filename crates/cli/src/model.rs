//! What MODEL means: a path, a name in the store, a repository in the hub cache, or the model in the box.
use crate::{
    args::Global,
    error::{Error, Result},
};
use pondera_quant::Bytes;
use pondera_weights::Weights;
use std::{
    env, fs,
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
    match Reference::parse(name) {
        Some(r) => r.in_cache().map(Source::Path),
        None => Err(Error::file(format!("{name}: no such file or folder"))
            .hint("give a folder, a .gguf or .safetensors file, or org/name of the hub cache")),
    }
}

/// Whether a single argument of `run` names a model rather than being the prompt.
pub fn looks_like_model(text: &str, global: &Global) -> bool {
    let lower = text.to_lowercase();
    let word = !text.contains(char::is_whitespace);
    let is_path = || ["/", "./", "../", "~/"].iter().any(|p| text.starts_with(p)) && text.len() > 2;
    Path::new(text).exists()
        || text == PEBBLE_NAME
        || in_store(text, global).is_some()
        || MODEL_ENDINGS.iter().any(|e| lower.ends_with(e))
        || word && (FILE_ENDINGS.iter().any(|e| lower.ends_with(e)) || is_path() || Reference::parse(text).is_some())
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
fn in_store(name: &str, global: &Global) -> Option<PathBuf> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
    let store = global.store.clone().or_else(default_store).filter(|_| plain)?;
    [store.join(name), store.join(format!("{name}.gguf"))].into_iter().find(|p| p.exists())
}

fn default_store() -> Option<PathBuf> {
    folder_of("XDG_DATA_HOME").or_else(|| folder_of("HOME").map(|h| h.join(".local/share"))).map(|d| d.join("pondera"))
}

fn folder_of(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// `org/name[@revision][:quant]`.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'a> {
    org: &'a str,
    name: &'a str,
    revision: Option<&'a str>,
    quant: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Option<Reference<'a>> {
        let (org, rest) = text.split_once('/')?;
        let (rest, quant) = rest.split_once(':').map_or((rest, None), |(r, q)| (r, Some(q)));
        let (name, revision) = rest.split_once('@').map_or((rest, None), |(n, r)| (n, Some(r)));
        // The hub's own rule for names; it also keeps `..` and absolute paths out of the cache's folders.
        let plain = |s: &str| {
            !s.is_empty()
                && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !s.starts_with(['.', '-'])
                && !s.contains("..")
        };
        let revised = |s: &str| s.split('/').all(plain);
        let ok = plain(org) && plain(name) && revision.is_none_or(revised) && quant.is_none_or(plain);
        ok.then_some(Reference { org, name, revision, quant })
    }

    /// The snapshot's folder, or the GGUF file in it that `quant` names.
    fn in_cache(&self) -> Result<PathBuf> {
        let full = format!("{}/{}", self.org, self.name);
        let cache = hub_cache().ok_or_else(|| {
            Error::file(format!("{full}: there is no hub cache"))
                .hint("set HF_HOME, or give the path of the model's files")
        })?;
        let repository = cache.join(format!("models--{}--{}", self.org, self.name));
        if !repository.is_dir() {
            return Err(Error::file(format!("{full}: no such path, and not in the hub cache {}", cache.display()))
                .hint(format!("fetch it first with the hub's own tool (`hf download {full}`), or give a path")));
        }
        let snapshot = self.snapshot(&repository).ok_or_else(|| {
            Error::file(format!(
                "{full}: revision {} is not in {}",
                self.revision.unwrap_or("main"),
                repository.display()
            ))
            .hint("fetch that revision, or name one that is there")
        })?;
        self.choose(&full, &snapshot)
    }

    fn snapshot(&self, repository: &Path) -> Option<PathBuf> {
        let snapshots = repository.join("snapshots");
        let revision = self.revision.unwrap_or("main");
        if let Ok(commit) = fs::read_to_string(repository.join("refs").join(revision)) {
            let folder = snapshots.join(commit.trim());
            return Reference::parse(&format!("x/{}", commit.trim()))
                .is_some()
                .then_some(folder)
                .filter(|f| f.is_dir());
        }
        let mut all: Vec<PathBuf> = fs::read_dir(&snapshots).ok()?.flatten().map(|e| e.path()).collect();
        if self.revision.is_some() {
            all.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(revision)));
        }
        // Without a named revision, a cache with a single snapshot leaves no doubt.
        if all.len() == 1 { all.pop() } else { None }
    }

    fn choose(&self, full: &str, snapshot: &Path) -> Result<PathBuf> {
        let mut files = Vec::new();
        collect_gguf(snapshot, 2, &mut files);
        files.sort();
        let Some(quant) = self.quant else {
            if snapshot.join("config.json").exists() || files.is_empty() {
                return Ok(snapshot.to_path_buf());
            }
            return match files.as_slice() {
                [one] => Ok(one.clone()),
                several => Err(Error::usage(format!("{full}: holds several GGUF files")).hint(format!(
                    "choose one as {full}:QUANT of {}",
                    several
                        .iter()
                        .filter_map(|p| p.file_name())
                        .map(|n| n.to_string_lossy())
                        .collect::<Vec<_>>()
                        .join(", ")
                ))),
            };
        };
        let wanted = quant.to_lowercase();
        files.retain(|p| names_quant(&p.file_name().unwrap_or_default().to_string_lossy().to_lowercase(), &wanted));
        files.into_iter().next().ok_or_else(|| {
            Error::file(format!("{full}:{quant}: no GGUF file of that type in {}", snapshot.display()))
                .hint("fetch it first, or choose one that is there")
        })
    }
}

/// Whether a file name (lower case) holds `quant` as a word of its own: `q4_k` is not `q4_k_m`.
fn names_quant(file: &str, quant: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
    file.match_indices(quant)
        .any(|(at, m)| edge(file[..at].chars().next_back()) && edge(file[at + m.len()..].chars().next()))
}

fn collect_gguf(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && depth > 0 {
            collect_gguf(&path, depth - 1, files);
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
            files.push(path);
        }
    }
}

/// Where the hub's own tools keep what they fetched.
fn hub_cache() -> Option<PathBuf> {
    folder_of("HF_HUB_CACHE")
        .or_else(|| folder_of("HF_HOME").map(|h| h.join("hub")))
        .or_else(|| folder_of("XDG_CACHE_HOME").map(|h| h.join("huggingface/hub")))
        .or_else(|| folder_of("HOME").map(|h| h.join(".cache/huggingface/hub")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_paths_kept_out() {
        let full = Reference::parse("org/name-1.5@refs/pr/1:Q4_K_M").unwrap();
        assert_eq!(
            full,
            Reference { org: "org", name: "name-1.5", revision: Some("refs/pr/1"), quant: Some("Q4_K_M") }
        );
        for bad in ["name", "a/b/c", "../x", "a/..", "/etc", "a/b@../c", "a b/c", "a/", "org/name:"] {
            assert_eq!(Reference::parse(bad), None, "{bad}");
        }
    }

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
            ("pebble", true),
        ] {
            // Of the root folder it is enough that it exists.
            assert_eq!(looks_like_model(text, &global), want || text == "/", "{text:?}");
        }
    }

    #[test]
    fn a_quant_is_a_whole_word() {
        for (file, quant, want) in [
            ("model-q4_k_m.gguf", "q4_k_m", true),
            ("model.q4_k_m-00001-of-00002.gguf", "q4_k_m", true),
            ("model-q4_k_m.gguf", "q4_k", false),
            ("model-iq4_nl.gguf", "q4_nl", false),
        ] {
            assert_eq!(names_quant(file, quant), want, "{file} {quant}");
        }
    }

    #[test]
    fn the_cache_is_found_as_the_hub_lays_it_out() {
        let root = env::temp_dir().join(format!("pondera-cache-{}", std::process::id()));
        let repository = root.join("models--org--m");
        let snapshot = repository.join("snapshots/abc123");
        fs::create_dir_all(repository.join("refs")).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(repository.join("refs/main"), "abc123\n").unwrap();
        fs::write(snapshot.join("m-Q4_K_M.gguf"), "").unwrap();
        fs::write(snapshot.join("m-Q8_0.gguf"), "").unwrap();
        let at = |quant, revision| Reference { org: "org", name: "m", revision, quant };
        let found = at(None, None).snapshot(&repository).unwrap();
        assert_eq!(found, snapshot);
        assert_eq!(at(None, Some("abc")).snapshot(&repository).unwrap(), snapshot);
        assert!(at(None, Some("dev")).snapshot(&repository).is_none());
        assert_eq!(at(Some("q8_0"), None).choose("org/m", &found).unwrap(), snapshot.join("m-Q8_0.gguf"));
        let several = at(None, None).choose("org/m", &found).unwrap_err();
        assert_eq!(several.exit(), crate::Exit::Usage);
        fs::remove_dir_all(&root).unwrap();
    }
}
