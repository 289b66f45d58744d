//! The machine's store as a server's library: what clients may name, fetch, copy and delete. A client's name is a name or a
//! reference of the store and never a path.
use crate::{
    error::{self, Exit},
    model::{self, Source},
    policy::Guard,
    served::spec,
};
use pondera_engine::EngineOptions;
use pondera_server::{Held, Library, LibraryError, LibraryErrorKind, ModelSpec, Placed, Progress, Pulling};
use pondera_store::{Early, Error, ErrorKind, PullOptions, Reference, Store};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, TryLockError},
    time::UNIX_EPOCH,
};

/// Hosts that clients of Ollama write in front of a reference.
const HOSTS: [&str; 2] = ["hf.co/", "huggingface.co/"];

/// The store, and how its models are opened.
pub struct Shelf {
    store: Store,
    options: EngineOptions,
    /// What may be fetched and used.
    guard: Option<Guard>,
    /// One pull at a time: the store has connections of its own.
    pulling: Mutex<()>,
}

impl Shelf {
    /// Over this store.
    pub fn new(store: Store, options: EngineOptions, guard: Option<Guard>) -> Shelf {
        Shelf { store, options, guard, pulling: Mutex::new(()) }
    }

    /// Where a client's name leads; none where it leads nowhere.
    fn lead(&self, name: &str) -> Result<Option<(String, PathBuf)>, LibraryError> {
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        if let Some(found) = self.named(plain)? {
            return Ok(Some(found));
        }
        let Ok(reference) = reference(name) else { return Ok(None) };
        match self.store.resolve(&reference) {
            Ok(path) => Ok(Some((reference.to_string(), path))),
            Err(e) if e.kind() == ErrorKind::Missing => Ok(None),
            Err(e) => Err(told(&e)),
        }
    }

    /// One of the names that were given here.
    fn named(&self, name: &str) -> Result<Option<(String, PathBuf)>, LibraryError> {
        let mut all = self.store.named().map_err(|e| told(&e))?;
        Ok(all.iter().position(|(n, _)| n == name).map(|i| all.swap_remove(i)))
    }
}

impl Library for Shelf {
    fn list(&self) -> Result<Vec<Held>, LibraryError> {
        let mut held = Vec::new();
        for (name, path) in self.store.named().map_err(|e| told(&e))? {
            held.push(Held { name, bytes: bytes(&path), modified: modified(&path), digest: None });
        }
        let all = self.store.list().map_err(|e| told(&e))?;
        for model in all.into_iter().filter(|m| !m.revisions.is_empty()) {
            let path = model.name.parse::<Reference>().ok().and_then(|r| self.store.resolve(&r).ok());
            // What leaves doubt which file is meant is asked for with its type.
            let modified = path.as_deref().map_or(0, modified);
            let bytes = model.revisions.iter().map(|r| r.bytes()).max().unwrap_or(0);
            held.push(Held { name: model.name, bytes, modified, digest: None });
        }
        Ok(held)
    }

    fn find(&self, name: &str) -> Result<Option<ModelSpec>, LibraryError> {
        let Some((name, path)) = self.lead(name)? else { return Ok(None) };
        let source = Source::Path(path.clone());
        if let Some(guard) = &self.guard {
            guard.source(&source).map_err(|e| refused(&e, &name, &path))?;
        }
        spec(name, source, &self.options).map(Some).map_err(|e| failed(&e))
    }

    fn pull(&self, name: &str, progress: &mut Progress<'_>) -> Result<(), LibraryError> {
        let reference = reference(name).map_err(|e| told(&e))?;
        if reference.registry().is_some() {
            // Clients would choose whom this machine connects to.
            let message = "models of OCI registries are fetched with `pondera pull`, not by clients".into();
            return Err(LibraryError { kind: LibraryErrorKind::Invalid, message });
        }
        let _one = match self.pulling.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(one)) => one.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let message = "another model is being fetched".into();
                return Err(LibraryError { kind: LibraryErrorKind::Failed, message });
            }
        };
        let _ = progress(&Pulling::Listing);
        let progress = Mutex::new(progress);
        let watch = |p: &pondera_store::Progress<'_>| {
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress(&Pulling::File { name: p.file.to_string(), done: p.bytes_done, total: p.bytes })
        };
        let approve = |early: &Early| self.guard.as_ref().map_or(Ok(()), |g| g.early(&reference, early));
        let pulled = self.store.pull_approved(&reference, &PullOptions::default(), &watch, &approve);
        pulled.map(drop).map_err(|e| told(&e))
    }

    fn copy(&self, from: &str, to: &str) -> Result<(), LibraryError> {
        let to = to.strip_suffix(":latest").unwrap_or(to);
        let (_, path) = self.lead(from)?.ok_or_else(|| missing(from))?;
        let taken = || LibraryError {
            kind: LibraryErrorKind::Invalid,
            message: "destination: another model has this name".into(),
        };
        let same = |other: &Path| fs::canonicalize(other).ok() == fs::canonicalize(&path).ok();
        if self.named(to)?.is_some_and(|(_, other)| !same(&other)) {
            return Err(taken());
        }
        self.store.name(to, &path).map(drop).map_err(|e| match e.kind() {
            ErrorKind::Choice => taken(),
            _ => told(&e),
        })
    }

    fn place(&self, name: &str) -> Result<Option<Placed>, LibraryError> {
        let Some((plain, path)) = self.lead(name)? else { return Ok(None) };
        let link = self.named(&plain)?.is_some();
        // Of a repository all goes that is in its folder.
        let inside = |p: &&Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("models--"));
        let whole = fs::canonicalize(&path).unwrap_or(path);
        let root = whole.ancestors().find(inside).unwrap_or(&whole).to_path_buf();
        Ok(Some(Placed { root, link }))
    }

    fn delete(&self, name: &str) -> Result<(), LibraryError> {
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        if self.named(plain)?.is_some() {
            return self.store.unname(plain).map_err(|e| told(&e));
        }
        let reference = reference(name).map_err(|_| missing(name))?;
        self.store.remove(&reference).map(drop).map_err(|e| told(&e))
    }
}

fn reference(name: &str) -> pondera_store::Result<Reference> {
    if let Some(known) = model::alias(name) {
        return known.parse();
    }
    let name = HOSTS.iter().find_map(|host| name.strip_prefix(host)).unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name).parse()
}

fn missing(name: &str) -> LibraryError {
    let name: String = name.chars().take(120).collect();
    LibraryError { kind: LibraryErrorKind::NotFound, message: format!("the model {name:?} does not exist") }
}

/// What clients are told of the store's trouble; the whole of it is in the log, for it may name paths.
fn told(e: &Error) -> LibraryError {
    tracing::warn!("the store: {e:#}");
    use LibraryErrorKind as Kind;
    let kind = match e.kind() {
        ErrorKind::Invalid | ErrorKind::Choice => Kind::Invalid,
        ErrorKind::Missing | ErrorKind::Remote => Kind::NotFound,
        ErrorKind::Denied | ErrorKind::Refused => Kind::Refused,
        ErrorKind::Network | ErrorKind::Offline | ErrorKind::Corrupt | ErrorKind::Unsafe => Kind::Upstream,
        ErrorKind::Full | ErrorKind::Io | ErrorKind::Busy | ErrorKind::Stopped => Kind::Failed,
    };
    let message = match e.kind() {
        ErrorKind::Invalid
        | ErrorKind::Choice
        | ErrorKind::Remote
        | ErrorKind::Denied
        | ErrorKind::Refused
        | ErrorKind::Offline => e.to_string(),
        ErrorKind::Missing => "the model does not exist here".into(),
        ErrorKind::Network => "the hub did not answer as it should".into(),
        ErrorKind::Corrupt | ErrorKind::Unsafe => "what the hub sent is not what it promised".into(),
        ErrorKind::Full => "the disk is full".into(),
        ErrorKind::Io | ErrorKind::Busy => "the store cannot be used now; the server's log says why".into(),
        ErrorKind::Stopped => "stopped; what has come is kept".into(),
    };
    LibraryError { kind, message }
}

/// What a client is told of a refusal: model, as `name`, licence and clause. Where the policy and the model lie is the
/// log's.
fn refused(e: &error::Error, name: &str, path: &Path) -> LibraryError {
    tracing::warn!("the policy: {} ({})", e.what(), e.hint_text().unwrap_or_default());
    let (kind, message) = match e.exit() {
        Exit::Refused => {
            let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
            let places = [whole.display().to_string(), path.display().to_string()];
            let what = places.iter().fold(e.what().to_string(), |what, place| what.replace(place.as_str(), name));
            (LibraryErrorKind::Refused, what)
        }
        _ => (LibraryErrorKind::Failed, "the model cannot be served; the server's log says why".into()),
    };
    LibraryError { kind, message }
}

fn failed(e: &error::Error) -> LibraryError {
    tracing::warn!("a model of the store: {}", e);
    LibraryError {
        kind: LibraryErrorKind::Failed,
        message: "the model cannot be served; the server's log says why".into(),
    }
}

/// Bytes of a file, or of a folder's files.
fn bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return fs::metadata(path).map_or(0, |m| m.len()) };
    entries.flatten().filter_map(|e| fs::metadata(e.path()).ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

/// Seconds since 1970.
fn modified(path: &Path) -> u64 {
    let time = fs::metadata(path).and_then(|m| m.modified()).ok();
    time.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs())
}
