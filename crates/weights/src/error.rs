//! The one error of this crate: where, what was expected and found, what to do about it.
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// What kind of trouble it is; callers choose exit codes and HTTP statuses by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operating system failed to read or write.
    Io,
    /// A file, tensor or key that is not there.
    NotFound,
    /// Bytes that break the rules of their format.
    Invalid,
    /// Data that carries code, or a path that leaves its folder.
    Unsafe,
    /// Well-formed, but nothing here reads it.
    Unsupported,
    /// The file changed while it was mapped.
    Damaged,
}

/// Why files did not become tensors. `{}` is one line; `{:#}` adds a `hint:` line where there is one.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    item: Option<String>,
    path: Option<PathBuf>,
    hint: Option<String>,
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with nothing but its kind and its sentence.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), item: None, path: None, hint: None }
    }

    /// An error of the operating system about `path`.
    pub fn io(path: &Path, e: &io::Error) -> Error {
        let kind = if e.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        let what = if kind == ErrorKind::NotFound { "no such file".to_string() } else { e.to_string() };
        Error::new(kind, what).at(path)
    }

    /// Names the file, unless a nearer place has been named before.
    pub fn at(mut self, path: &Path) -> Error {
        self.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Names the tensor or key, unless a nearer place has been named before.
    pub fn of(mut self, item: &str) -> Error {
        self.item.get_or_insert_with(|| quoted(item));
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file it is about.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The tensor or metadata key it is about, shortened and escaped for display.
    pub fn item(&self) -> Option<&str> {
        self.item.as_deref()
    }

    /// What to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what)
}

pub(crate) fn unsupported(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

/// A name from a file as a message may show it: escaped, and cut where it is long.
pub(crate) fn quoted(name: &str) -> String {
    const SHOWN_MAX: usize = 120;
    let mut s: String = name.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN_MAX).is_some() {
        s.push('…');
    }
    s
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(item) = &self.item {
            write!(f, "{item}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(path) = &self.path {
            write!(f, " ({})", path.display())?;
        }
        match &self.hint {
            Some(hint) if f.alternate() => write!(f, "\nhint: {hint}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
