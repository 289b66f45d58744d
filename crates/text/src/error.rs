//! The error of this crate. It says where, what was expected, what was found; it neither prints nor exits.

use std::fmt;
use std::path::Path;

/// What kind of failure it is, so that a caller can choose an exit code or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file cannot be read.
    Io,
    /// The file or value breaks its own format.
    Invalid,
    /// The file is sound, but asks for a mechanism that is not here.
    Unsupported,
    /// No vocabulary or template was found at this place.
    Missing,
    /// A chat template raised; the message is the template's own.
    Raised,
    /// A chat template failed: syntax, type or undefined variable.
    Template,
    /// A limit was reached (steps, bytes, depth), so the work was stopped.
    Limit,
}

/// A failure with its place and, where there is one, a hint about what to do.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::Missing } else { ErrorKind::Io };
        Self::new(kind, format!("{}: {error}", path.display()))
    }

    /// The same failure with a second line that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with its place put in front.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What is wrong, without the hint. For [`ErrorKind::Raised`] the template's own words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next, if anything is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
