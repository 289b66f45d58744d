//! The one error of this crate: what is wrong with which reference, file or answer, and what to do about it.
use std::{fmt, io, path::Path};

/// What kind of trouble it is; callers choose exit codes and HTTP statuses by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Text that is no reference, a setting that is no setting.
    Invalid,
    /// The repository holds no such file, or several where one was asked for.
    Choice,
    /// Not on this machine.
    Missing,
    /// The hub does not have it.
    Remote,
    /// The hub refuses it: a gated or private repository, a token that does not count.
    Denied,
    /// The network or the hub failed, and went on failing.
    Network,
    /// It would need the network, which is switched off.
    Offline,
    /// Bytes that are not those that the hub or the file's name promises.
    Corrupt,
    /// A name that would leave the store, or an answer that breaks the rules on purpose.
    Unsafe,
    /// The disk is full, or would be.
    Full,
    /// The operating system failed to read or write.
    Io,
    /// Another process works on it.
    Busy,
    /// The caller's callback said stop.
    Stopped,
    /// The caller does not want it, having seen what it is.
    Refused,
}

/// Why the store did not do what was asked. `{}` is one line; `{:#}` adds a `hint:` line where there is one.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its kind and its sentence.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), hint: None }
    }

    /// An error of the operating system about `path`.
    pub fn io(path: &Path, e: &io::Error) -> Error {
        let (kind, hint) = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorKind::Full, Some("free space, or name another place with HF_HUB_CACHE; what has come stays"))
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::Io, Some("name a place that you may write to with HF_HUB_CACHE"))
            }
            _ => (ErrorKind::Io, None),
        };
        let error = Error::new(kind, format!("{}: {e}", path.display()));
        hint.map_or(error.clone(), |h| error.hint(h))
    }

    /// Says what to do, unless a nearer place has said it before.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Names what it is about in front of the sentence.
    pub(crate) fn about(mut self, name: &str) -> Error {
        self.what = format!("{}: {}", quoted(name), self.what);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Adds the path to an error of the operating system.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|e| Error::io(path, &e))
    }
}

/// Foreign text as a message may show it: escaped, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 120;
    let mut s: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        s.push('…');
    }
    s
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) if f.alternate() => write!(f, "\nhint: {hint}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
