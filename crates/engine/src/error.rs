//! The one error of this crate: what was wanted, what stood in the way, what to do about it.
use std::{fmt, path::PathBuf};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of trouble it is; callers choose exit codes and HTTP statuses by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A file, tensor or config that is broken, unsafe or not supported.
    File,
    /// A request or option with values outside of what is documented.
    Invalid,
    /// Not enough memory.
    DoesNotFit {
        /// Bytes that the model and its caches need.
        needed: u64,
        /// Bytes that this machine or its limits leave.
        available: u64,
    },
    /// More tokens than the context holds.
    Context {
        /// Tokens of the request, with the one that it must at least generate.
        tokens: usize,
        /// Tokens that the context holds.
        limit: usize,
    },
    /// A file changed while it was in use: what was computed since cannot be trusted.
    Damaged {
        /// The file, where it is known.
        file: Option<PathBuf>,
    },
    /// The model produced a NaN or an infinity.
    NonFinite {
        /// The first layer whose output is not finite; `None` where the embedding or the head made it.
        layer: Option<usize>,
    },
    /// An instruction set that this machine lacks.
    Isa,
    /// Too many requests wait.
    Busy,
    /// The request's time is over.
    Late,
}

/// Why a model did not open or a request did not finish. `{}` is one line; `{:#}` adds a `hint:` line where
/// there is one.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
}

impl Error {
    /// An error of this kind and sentence.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), hint: None }
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, what)
    }

    pub(crate) fn context(tokens: usize, limit: usize) -> Error {
        let over = tokens.saturating_sub(limit);
        let what = format!("{over} tokens do not fit: {tokens} wanted, the context holds {limit}");
        Error::new(ErrorKind::Context { tokens, limit }, what).hint("shorten the prompt, or give a larger context")
    }

    pub(crate) fn does_not_fit(what: &str, needed: u64, available: u64) -> Error {
        let what = format!("does not fit: {what} needs {needed} bytes, {available} are available");
        Error::new(ErrorKind::DoesNotFit { needed, available }, what)
    }

    pub(crate) fn late(tokens: usize) -> Error {
        Error::new(ErrorKind::Late, format!("the time is over after {tokens} tokens"))
            .hint("ask for less, or wait longer")
    }

    pub(crate) fn non_finite(place: &str, layer: Option<usize>) -> Error {
        Error::new(ErrorKind::NonFinite { layer }, format!("{place} made values that are not finite"))
            .hint("the weights may be damaged: audit the model")
    }
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

impl From<pondera_weights::Error> for Error {
    fn from(e: pondera_weights::Error) -> Error {
        let kind = match e.kind() {
            pondera_weights::ErrorKind::Damaged => ErrorKind::Damaged { file: e.path().map(Into::into) },
            _ => ErrorKind::File,
        };
        let hint = e.hint_text().map(str::to_string);
        Error { kind, what: e.to_string(), hint }
    }
}

impl From<pondera_text::Error> for Error {
    fn from(e: pondera_text::Error) -> Error {
        Error { kind: ErrorKind::File, what: e.message().to_string(), hint: e.hint().map(str::to_string) }
    }
}
