//! A repository on the hub as files whose weights are holes: headers, configuration and vocabulary are read, and nothing else.
//!
//! Owns: which bytes of which file it takes to say what is in a model. A tensor file lies in the mirror with its true
//! length and its header; where its tensors would be the file has a hole, which takes no room and reads as zeros, so that
//! everything that reads a local model reads this one. Does not own: connections (`pondera-store`), headers
//! (`pondera-weights`).
use crate::{
    Context,
    error::{Error, Result},
    hub::{self, Watching},
};
use pondera_store::{Config, Peek, Reference, RemoteFile, Store};
use pondera_weights::{gguf, safetensors};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// What is asked of a safetensors file at first: the whole header of a usual shard.
const FIRST_SAFETENSORS: u64 = 16 << 10;
/// What is asked of a GGUF file at first: of later shards, whose headers hold no vocabulary; of the first one.
const FIRST_GGUF: [u64; 2] = [64 << 10, 512 << 10];
/// Most bytes that a GGUF header is read further by at a time: what is read in vain stays below it.
const STEP_MAX: u64 = 6 << 20;
/// Longest header of a GGUF file that is read from afar. Vocabularies of 256k tokens take 10 MiB.
const GGUF_HEADER_MAX: u64 = 64 << 20;
/// Longest configuration, vocabulary or card.
const SMALL_MAX: u64 = 100_000_000;
/// Most bytes that are kept of a repository: the headers of a thousand shards take less.
const TOTAL_MAX: u64 = 1 << 30;
/// Longest tensor file that is laid out. Where files are read and not mapped, holes would become memory.
const FILE_MAX: u64 = if cfg!(unix) { 1 << 43 } else { 1 << 30 };

/// How the facts came over the network.
#[derive(Debug, Default, Serialize)]
pub struct RemoteFacts {
    /// What was asked for.
    pub reference: String,
    /// The commit that it is at the moment.
    pub commit: String,
    /// Bytes of files that were read.
    pub bytes_read: u64,
    /// Of these, headers of tensors and the index of shards.
    pub header_bytes: u64,
    /// Of these, vocabulary and chat template. GGUF has them in its header.
    pub tokenizer_bytes: u64,
    /// Requests, redirects not counted.
    pub requests: u64,
    /// Seconds that reading took.
    pub seconds: f64,
}

/// The files of a repository, with holes. Removed when dropped.
pub struct Mirror {
    folder: PathBuf,
    /// Bytes that are kept.
    kept: AtomicU64,
    /// What to open: the folder, or a GGUF file.
    pub model: PathBuf,
    /// Path in the repository and true length of everything that a pull would fetch.
    pub files: Vec<(String, u64)>,
    /// Whether the tensors are in files whose headers are not read from afar (PyTorch's).
    pub blind: bool,
    /// How it came.
    pub facts: RemoteFacts,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Mirror {
    /// Reads what it takes to describe `reference`.
    pub fn read(reference: &Reference, context: &Context) -> Result<Mirror> {
        let begun = Instant::now();
        let told = hub::store(&context.global)?;
        // Somebody waits at the terminal: a hub that does not answer is told soon.
        let store = Store::new(Config { attempts: told.config().attempts.min(3), ..told.config().clone() });
        let watching = Watching::new(context, "read");
        let watch = |p: &pondera_store::Progress<'_>| watching.see(p);
        let mut peek = store.peek(reference, &watch)?;
        let files = peek.chosen()?;
        let folder = folder()?;
        let mut mirror = Mirror {
            model: folder.clone(),
            folder,
            kept: AtomicU64::new(0),
            files: files.iter().map(|f| (f.path.clone(), f.size.unwrap_or(0))).collect(),
            blind: files.iter().any(|f| Content::of(&f.path) == Content::Pickle),
            facts: RemoteFacts {
                reference: reference.to_string(),
                commit: peek.commit().into(),
                ..RemoteFacts::default()
            },
        };
        let ggufs: Vec<&RemoteFile> = files.iter().filter(|f| Content::of(&f.path) == Content::Gguf).collect();
        let first = ggufs.first().map(|f| f.path.clone());
        // The longest header begins first.
        let mut order: Vec<&RemoteFile> = files.iter().collect();
        order.sort_by_key(|f| (Some(&f.path) != first.as_ref(), Content::of(&f.path) == Content::Text));
        let sizes = peek.each(&order, |f| mirror.fetch(&peek, f, Some(&f.path) == first.as_ref()))?;
        for (file, n) in order.iter().zip(sizes) {
            match Content::of(&file.path) {
                Content::Safetensors | Content::Gguf | Content::Index => mirror.facts.header_bytes += n,
                Content::Vocabulary => mirror.facts.tokenizer_bytes += n,
                _ => {}
            }
        }
        if let Some(first) = first {
            mirror.model = mirror.folder.join(first);
        }
        (mirror.facts.bytes_read, mirror.facts.requests) = (peek.fetched(), peek.requests());
        mirror.facts.seconds = begun.elapsed().as_secs_f64();
        Ok(mirror)
    }

    /// A path of the mirror as the repository has it.
    pub fn own(&self, text: &str) -> String {
        let folder = self.folder.display().to_string();
        text.replace(&format!("{folder}/"), "").replace(&folder, &self.facts.reference)
    }

    /// How it came; the mirror goes.
    pub fn into_facts(mut self) -> RemoteFacts {
        std::mem::take(&mut self.facts)
    }

    /// Puts one file into the mirror; the bytes that were kept of it.
    fn fetch(&self, peek: &Peek<'_>, file: &RemoteFile, first: bool) -> Result<u64> {
        let size = file.size.unwrap_or(0);
        let content = Content::of(&file.path);
        if size > FILE_MAX && !matches!(content, Content::Pickle | Content::Other) {
            return Err(Error::file(format!("{}: {size} bytes are too long to be described from afar", file.path))
                .hint("if it is sound, `pondera pull` fetches it and inspects it here"));
        }
        let bytes = match content {
            Content::Pickle | Content::Other => return Ok(0),
            Content::Safetensors => safetensors_head(peek, file)?,
            Content::Gguf => gguf_head(peek, file, FIRST_GGUF[usize::from(first)])?,
            Content::Index | Content::Vocabulary | Content::Text => peek.whole(file, SMALL_MAX)?,
        };
        let kept = self.kept.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        if kept > TOTAL_MAX {
            return Err(Error::file(format!(
                "{}: headers and vocabularies of more than {} MiB",
                self.facts.reference,
                TOTAL_MAX >> 20
            ))
            .hint("if it is sound, `pondera pull` fetches it and inspects it here"));
        }
        let path = self.folder.join(&file.path);
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut out = File::options().write(true).create_new(true).open(&path)?;
            out.write_all(&bytes)?;
            out.set_len(size)
        };
        write().map_err(|e| Error::output(path.display(), &e))?;
        Ok(bytes.len() as u64)
    }
}

/// What a file's name says of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Safetensors,
    Gguf,
    /// PyTorch's: a pickle in an archive whose directory stands at its end.
    Pickle,
    Index,
    Vocabulary,
    /// Configurations, cards, templates.
    Text,
    /// What says nothing of the model's make.
    Other,
}

impl Content {
    fn of(path: &str) -> Content {
        let lower = path.to_ascii_lowercase();
        let ends = |all: &[&str]| all.iter().any(|e| lower.ends_with(e));
        let name = lower.rsplit('/').next().unwrap_or("");
        match () {
            () if ends(&[".index.json"]) => Content::Index,
            () if ends(&[".safetensors"]) => Content::Safetensors,
            () if ends(&[".gguf"]) => Content::Gguf,
            () if ends(&[".bin", ".pt", ".pth", ".ckpt"]) => Content::Pickle,
            () if ["tokenizer", "vocab", "merges", "sentencepiece", "spiece", "tekken", "tiktoken", "added_tokens"]
                .iter()
                .any(|n| name.starts_with(n))
                || name.starts_with("special_tokens")
                || name.starts_with("chat_template")
                || ends(&[".model", ".tiktoken", ".jinja"]) =>
            {
                Content::Vocabulary
            }
            () if ends(&[".json"]) || name == "readme.md" => Content::Text,
            () => Content::Other,
        }
    }
}

fn safetensors_head(peek: &Peek<'_>, file: &RemoteFile) -> Result<Vec<u8>> {
    let size = file.size.unwrap_or(0);
    let mut bytes = peek.part(file, 0..FIRST_SAFETENSORS)?;
    let end = safetensors::header_end(&bytes, size).map_err(|e| e.at(Path::new(&file.path)))?;
    let end = end.unwrap_or(0).min(size);
    let have = bytes.len() as u64;
    if end > have {
        bytes.extend(peek.part(file, have..end)?);
    }
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    Ok(bytes)
}

fn gguf_head(peek: &Peek<'_>, file: &RemoteFile, first: u64) -> Result<Vec<u8>> {
    let size = file.size.unwrap_or(0);
    let mut bytes = peek.part(file, 0..first)?;
    loop {
        let end = gguf::header_end(&bytes, size).map_err(|e| e.at(Path::new(&file.path)))?;
        let have = bytes.len() as u64;
        if let Some(end) = end {
            bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
            return Ok(bytes);
        }
        if have >= GGUF_HEADER_MAX {
            return Err(Error::file(format!("{}: a header of more than {} MiB", file.path, GGUF_HEADER_MAX >> 20))
                .hint("if it is sound, `pondera pull` fetches it and inspects it here"));
        }
        bytes.extend(peek.part(file, have..have + (have * 3).min(STEP_MAX))?);
    }
}

/// A folder that nobody else has.
fn folder() -> Result<PathBuf> {
    let place = std::env::temp_dir();
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos());
    let mut trouble = None;
    for n in 0..16 {
        let path = place.join(format!("pondera-inspect-{}-{:x}", std::process::id(), clock + n));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&path) {
            Ok(()) => return Ok(path),
            Err(e) => trouble = Some(e),
        }
    }
    Err(trouble.map_or_else(
        || Error::failed("no folder for the headers"),
        |e| Error::output(place.display(), &e).hint("TMPDIR names a folder that can be written"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_read() {
        for (path, want) in [
            ("model-00001-of-00030.safetensors", Content::Safetensors),
            ("model.safetensors.index.json", Content::Index),
            ("Q4/m-Q4_K_M-00001-of-00002.GGUF", Content::Gguf),
            ("pytorch_model.bin", Content::Pickle),
            ("pytorch_model.bin.index.json", Content::Index),
            ("tokenizer.json", Content::Vocabulary),
            ("tokenizer.model", Content::Vocabulary),
            ("config.json", Content::Text),
            ("README.md", Content::Text),
            ("LICENSE", Content::Other),
            ("model.sig", Content::Other),
        ] {
            assert_eq!(Content::of(path), want, "{path}");
        }
    }
}
