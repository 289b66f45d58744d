//! The one error of this crate: which key or tensor, what was expected and found, what to do about it.
use std::fmt;

/// What kind of trouble it is; callers choose exit codes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A configuration that contradicts itself or exceeds what any model has.
    Config,
    /// Well-formed, but a family or mechanism that is not implemented.
    Unsupported,
    /// A tensor that is missing or has another shape or type than the family's table says.
    Tensor,
}

/// Why a configuration and its tensors did not become a model. `{}` is one line; `{:#}` adds a `hint:` line.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    item: String,
    what: String,
    hint: Option<String>,
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error about `item`: a configuration key or a tensor's name.
    pub fn new(kind: ErrorKind, item: impl Into<String>, what: impl Into<String>) -> Error {
        Error { kind, item: shortened(&item.into()), what: what.into(), hint: None }
    }

    pub(crate) fn config(key: &str, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, key, what)
    }

    pub(crate) fn unsupported(key: &str, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, key, what)
    }

    pub(crate) fn tensor(name: &str, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Tensor, name, what)
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Names the file.
    pub(crate) fn at(mut self, path: &str) -> Error {
        self.what = format!("{} ({path})", self.what);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The configuration key or tensor it is about.
    pub fn item(&self) -> &str {
        &self.item
    }

    /// What to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Text from a file as a message may show it: escaped, and cut where it is long.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 120;
    let mut s: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        s.push('…');
    }
    s
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.item, self.what)?;
        match &self.hint {
            Some(hint) if f.alternate() => write!(f, "\nhint: {hint}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
